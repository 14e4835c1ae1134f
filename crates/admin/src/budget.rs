//! What the ledger says of a budget, and operators' adjustments.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use ledger::{AdjustError, Adjustment, Deed, Event, Listed, Page};
use model::{Amount, Timestamp};
use rules::budget::{Account, Budget, RowKey, moment_text};
use rules::limit::Per;
use rules::plan::Subject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body;
use crate::desk::{Call, Desk};
use crate::envelope::{Failure, answer};
use crate::query::Query;

/// What is asked of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    Accounts,
    History,
    Adjust,
}

impl About {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::History => "history",
            Self::Adjust => "adjust",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjust {
    /// Whose account, as accounts name it.
    subject: String,
    /// A decimal of the budget's unit; negative takes.
    by: String,
    why: String,
    /// Whoever repeats it changes nothing more; made up where none is given.
    id: Option<String>,
}

impl Desk {
    /// The accounts of a budget, or what happened to them.
    pub(crate) async fn budget(
        &self,
        call: &Call,
        id: &str,
        about: About,
    ) -> Result<Response, Failure> {
        let budget = self.compiled(id)?;
        let shown = match about {
            About::Accounts => {
                let Page { rows, total, next } =
                    self.page(&budget, Wanted::read(&call.query)?).await?;
                let rows = rows.iter().map(|row| shown(&budget, row));
                json!({
                    "budget": id,
                    "unit": budget.unit.as_str(),
                    "amount": budget.amount.text(&budget.unit),
                    "per": budget.per.as_str(),
                    "every": budget.calendar.every().as_str(),
                    "shadow": budget.shadow,
                    "total": total,
                    "accounts": rows.collect::<Vec<_>>(),
                    "next": next,
                })
            }
            About::History | About::Adjust => {
                let events = match self.ledger.fleet() {
                    Some(fleet) => fleet.history(&budget.id).await.ok_or_else(away)?,
                    None => self.ledger.own().accounts().history(&budget.id),
                };
                let events: Vec<Value> = events.iter().map(told).collect();
                json!({ "budget": id, "unit": budget.unit.as_str(), "history": events })
            }
        };
        Ok(answer(StatusCode::OK, &shown))
    }

    /// Some of a budget's accounts: of the whole fleet, where nodes share them.
    async fn page(&self, budget: &Budget, wanted: Wanted) -> Result<Page, Failure> {
        let Wanted { from, limit } = wanted;
        if let Some(fleet) = self.ledger.fleet() {
            return fleet.page(budget, from, limit).await.ok_or_else(away);
        }
        let mut rows = self.ledger.own().accounts().list(&budget.id);
        // What the budget has counted before it was changed stands in the history alone.
        rows.retain(|row| row.row.is_of(budget));
        let total = rows.len();
        rows.sort_by_key(|row| std::cmp::Reverse((row.row.period, row.account.posted)));
        let skipped = usize::try_from(from).unwrap_or(usize::MAX);
        let rows: Vec<Listed> = rows.into_iter().skip(skipped).take(limit).collect();
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let next = from.saturating_add(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        let next = Some(next).filter(|next| !rows.is_empty() && *next < total);
        Ok(Page { rows, total, next })
    }

    /// Adds to what an account may spend in the current period.
    pub(crate) async fn adjust(
        &self,
        call: &Call,
        id: &str,
        body: Body,
    ) -> Result<Response, Failure> {
        if call.dry_run {
            return Err(Failure::bad("an account cannot be adjusted as a dry run"));
        }
        let value = body::required(body).await?;
        let asked = serde_json::from_value(value);
        let asked: Adjust =
            asked.map_err(|cause| Failure::bad(format!("invalid request body: {cause}")))?;
        let budget = self.compiled(id)?;
        let adjustment = self.adjustment(call, &budget, asked)?;
        let (row, by) = (adjustment.row.clone(), adjustment.by);
        let (holder, about) = (&call.holder, &call.about);
        let adjusted = match self.ledger.fleet() {
            Some(fleet) => fleet.adjust(&budget, adjustment).await,
            None => self.ledger.own().accounts().adjust(&budget, adjustment).await,
        };
        let (account, is_new) = adjusted.map_err(|error| {
            tracing::info!(holder, about, %error, "an account was not adjusted");
            failure(error)
        })?;
        let by = by.text(&budget.unit);
        tracing::info!(
            holder,
            about,
            subject = row.subject.to_string(),
            by,
            is_new,
            "an account was adjusted"
        );
        let end = budget.calendar.at(row.period).end;
        let account = shown(&budget, &Listed { row, account, end });
        Ok(answer(StatusCode::OK, &json!({ "adjusted": is_new, "account": account })))
    }

    fn adjustment(
        &self,
        call: &Call,
        budget: &Budget,
        Adjust { subject, by, why, id }: Adjust,
    ) -> Result<Adjustment, Failure> {
        let by = Amount::parse(&by, &budget.unit);
        let by = by.map_err(|error| Failure::bad(format!("invalid by: it {error}")))?;
        if by == Amount::ZERO {
            return Err(Failure::bad("invalid by: it changes nothing"));
        }
        let text = |name, text: String| {
            let is_fine = !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
            let bad = || Failure::bad(format!("invalid {name}: 1 to {TEXT_BYTES_MAX} bytes"));
            if is_fine { Ok(Arc::<str>::from(text)) } else { Err(bad()) }
        };
        let at = self.clock.now();
        let id = id.unwrap_or_else(|| format!("{}-{}", call.holder, at.as_micros()));
        let subject = whose(budget.per, &text("subject", subject)?)?;
        let period = budget.calendar.at(at).start;
        Ok(Adjustment {
            id: text("id", id)?,
            row: RowKey::of(budget, subject, period),
            by,
            who: Arc::from(call.holder.as_str()),
            why: text("why", why)?,
            at,
        })
    }

    /// The budget as this node serves it.
    fn compiled(&self, id: &str) -> Result<Arc<Budget>, Failure> {
        let snapshots = self.cluster.snapshots();
        let snapshot = snapshots.borrow();
        let found = snapshot.budgets.all().iter().find(|budget| budget.id.as_str() == id);
        found.cloned().ok_or(Failure::KeyNotFound)
    }
}

/// Which accounts are asked for.
struct Wanted {
    /// So many are left out: those of earlier pages.
    from: u64,
    limit: usize,
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, Failure> {
        let number = |name, most: usize, otherwise: usize| {
            let Some(text) = query.first(name) else { return Ok(otherwise) };
            let number = text.parse().ok().filter(|number| *number <= most);
            number.ok_or_else(|| Failure::bad(format!("invalid argument {name}: 0 to {most}")))
        };
        let from = number("from", FROM_MAX, 0)?;
        let limit = number("limit", ACCOUNTS_SHOWN_MAX, ACCOUNTS_SHOWN_MAX)?;
        Ok(Self { from: u64::try_from(from).unwrap_or(u64::MAX), limit })
    }
}

fn away() -> Failure {
    Failure::Unavailable("Redis cannot be asked for budgets now".to_owned())
}

fn shown(budget: &Budget, listed: &Listed) -> Value {
    let Listed { row, account, end } = listed;
    let Account { posted, pending, adjusted, fired } = *account;
    let text = |amount: Amount| amount.text(&budget.unit);
    let fired = fired.named(&budget.thresholds);
    json!({
        "subject": row.subject.to_string(),
        "period_start": start(row.period),
        "period_end": end.map(moment_text),
        "posted": text(posted),
        "pending": text(pending),
        "adjusted": text(adjusted),
        "left": account.left(budget.amount).map(text),
        "fired": fired.percents().collect::<Vec<_>>(),
    })
}

fn told(Event { at, row, deed }: &Event) -> Value {
    let text = |amount: &Amount| amount.text(&row.unit);
    let mut told = match deed {
        Deed::Adjusted { by, who, why, id } => json!({
            "what": "adjusted", "by": text(by), "who": **who, "why": **why, "id": **id,
        }),
        Deed::Assumed { amount, reservation } => json!({
            "what": "assumed", "by": text(amount), "request_id": reservation.to_string(),
        }),
        Deed::Returned { amount, reservation } => json!({
            "what": "returned", "by": text(amount), "request_id": reservation.to_string(),
        }),
        Deed::Crossed { percent } => json!({ "what": "threshold", "percent": percent }),
    };
    if let Some(told) = told.as_object_mut() {
        told.insert("at".to_owned(), json!(moment_text(*at)));
        told.insert("subject".to_owned(), json!(row.subject.to_string()));
        told.insert("unit".to_owned(), json!(row.unit.as_str()));
        told.insert("period_start".to_owned(), json!(start(row.period)));
    }
    told
}

/// A lifetime begins nowhere.
fn start(period: Timestamp) -> Option<String> {
    (period != Timestamp::default()).then(|| moment_text(period))
}

fn whose(per: Per, name: &Arc<str>) -> Result<Subject, Failure> {
    match per {
        Per::Run => {
            let parts = name.split_once('/');
            let parts = parts.ok_or_else(|| Failure::bad("invalid subject: expected AGENT/RUN"))?;
            Ok(Subject::Run(Arc::from(parts.0), Arc::from(parts.1)))
        }
        Per::Organisation
        | Per::Team
        | Per::Agent
        | Per::Route
        | Per::Address
        | Per::Operation
        | Per::Upstream => Ok(Subject::Text(Arc::clone(name))),
    }
}

fn failure(error: AdjustError) -> Failure {
    match error {
        AdjustError::Mismatch => Failure::Conflict(error.to_string()),
        AdjustError::TooLarge => Failure::bad(format!("invalid by: {error}")),
        AdjustError::Full | AdjustError::Late | AdjustError::Away => {
            Failure::Unavailable(error.to_string())
        }
    }
}

/// Accounts in one answer. `total` says how many there are, and `next` where the others are.
const ACCOUNTS_SHOWN_MAX: usize = 1_000;

/// No budget has as many accounts.
const FROM_MAX: usize = 1_000_000_000;

/// Bytes of a reason, an id and a subject.
const TEXT_BYTES_MAX: usize = 1_024;
