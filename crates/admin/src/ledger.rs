//! What the fleet's money stands at, and what operators decide when a node is gone.

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use ledger::{Fleet, Statement, Telling};
use serde::Deserialize;
use serde_json::json;

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer};

/// What is asked of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    Status,
    Journal,
    Recover,
    Reconcile,
}

impl Errand {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "ledger",
            Self::Journal => "ledger/journal",
            Self::Recover => "ledger/recover",
            Self::Reconcile => "ledger/reconcile",
        }
    }
}

/// A node that does not come back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gone {
    node: String,
}

impl Desk {
    /// How the fleet's money stands, as this node sees it.
    pub(crate) fn ledger(&self) -> Result<Response, Failure> {
        let money = self.fleet()?.money();
        let nodes = money.nodes.iter().map(|(name, telling)| {
            let state = match telling {
                Telling::Awaited => "awaited",
                Telling::Told | Telling::Introduced => "told",
                Telling::Excused => "excused",
            };
            json!({ "node": name, "state": state })
        });
        let shown = json!({
            "node": &*money.node,
            "redis": if money.is_up { "up" } else { "away" },
            "money": if money.is_open { "open" } else { "closed" },
            "epoch": money.epoch,
            "open": money.open,
            "waiting": money.waiting,
            "nodes": nodes.collect::<Vec<_>>(),
        });
        Ok(answer(StatusCode::OK, &shown))
    }

    /// What this node has posted, and the charges that its records may lack; amounts in the
    /// smallest parts of their units, which a row's name may not say.
    pub(crate) fn journal(&self) -> Response {
        let Statement { rows, charges } = self.ledger.statement();
        let is_whole = rows.len() <= ROWS_SHOWN_MAX;
        let rows = rows.iter().take(ROWS_SHOWN_MAX).map(|(name, row)| {
            let (posted, adjusted) = (row.posted.parts(), row.adjusted.parts());
            json!({
                "name": name, "posted": posted, "adjusted": adjusted,
                "untold": row.untold.parts(),
            })
        });
        let charges = charges.iter().map(|charge| {
            let (name, amount) = (&charge.name, charge.amount.parts());
            json!({
                "cause": charge.cause.as_str(), "request_id": charge.id.to_string(),
                "name": name, "amount": amount,
            })
        });
        let shown = json!({
            "whole": is_whole,
            "rows": rows.collect::<Vec<_>>(), "charges": charges.collect::<Vec<_>>(),
        });
        answer(StatusCode::OK, &shown)
    }

    /// Goes on without a node, or charges what it held.
    pub(crate) async fn go_on(
        &self,
        call: &Call,
        errand: Errand,
        body: Body,
    ) -> Result<Response, Failure> {
        if call.dry_run {
            return Err(Failure::bad("money cannot be recovered as a dry run"));
        }
        let fleet = self.fleet()?;
        let asked = serde_json::from_value(body::required(body).await?);
        let Gone { node } =
            asked.map_err(|cause| Failure::bad(format!("invalid request body: {cause}")))?;
        let money = fleet.money();
        if !money.nodes.contains_key(&node) {
            return Err(Failure::bad(format!("no node `{node}` has ever held money")));
        }
        if *node == *money.node {
            return Err(Failure::bad(format!("`{node}` is this node, which is not gone")));
        }
        let charged = match errand {
            Errand::Reconcile => fleet.estimate(&node).await,
            Errand::Recover | Errand::Status | Errand::Journal => match fleet.excuse(&node).await {
                Some(false) => {
                    let why = "has told Redis what it has spent: `reconcile` charges what it holds";
                    return Err(Failure::Conflict(format!("`{node}` {why}")));
                }
                done => done.map(|_| 0),
            },
        };
        let late = || Failure::Unavailable("Redis did not take it in time".to_owned());
        let charged = charged.ok_or_else(late)?;
        let holder = &call.holder;
        tracing::warn!(
            holder,
            node,
            what = errand.as_str(),
            charged,
            "money goes on without a node"
        );
        Ok(answer(StatusCode::OK, &json!({ "node": node, "charged": charged })))
    }

    fn fleet(&self) -> Result<&Fleet, Failure> {
        let missing = "this node counts alone: no Redis is set";
        self.ledger.fleet().ok_or_else(|| Failure::NotFound(missing.to_owned()))
    }
}

/// Rows in one answer, some 20 MB. Beyond that it says that it is not whole.
const ROWS_SHOWN_MAX: usize = 100_000;
