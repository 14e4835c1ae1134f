//! What a record says of limits: when its request came, whether it passed, and whom it counts for.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use model::Bucket;
use rules::limit::Limit;
use rules::plan::network;
use serde_json::Value;

/// A limit to be judged.
#[derive(Debug)]
pub(super) struct Rule {
    /// The records name it by this; `None` for one that all draw on.
    pub(super) id: Option<Arc<str>>,
    pub(super) bucket: Bucket,
    pub(super) per: Per,
}

/// Whom one bucket counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Per {
    All,
    /// The client's address, as limits count it.
    Address,
    /// A member of the records, by its pointer; the address of those that have none.
    Member(String),
}

impl Per {
    /// Reads a name, or a JSON pointer.
    pub(super) fn of(field: &str) -> Self {
        match field {
            "address" => Self::Address,
            pointer if pointer.starts_with('/') => Self::Member(pointer.to_owned()),
            name => Self::Member(format!("/{name}")),
        }
    }
}

impl Rule {
    pub(super) fn of(limit: &Limit) -> Self {
        use rules::limit::Per as Kind;
        let per = match limit.per {
            Kind::Address => Per::Address,
            Kind::Upstream => Per::of("/upstream/id"),
            per => Per::of(per.as_str()),
        };
        Self { id: Some(limit.id.shared()), bucket: limit.bucket, per }
    }

    /// Whose bucket a record drew on; `None` where it drew on none.
    pub(super) fn subject(&self, record: &Value) -> Option<Arc<str>> {
        if let Some(id) = &self.id {
            let drawn = record.get("limits").and_then(Value::as_array)?;
            drawn.iter().find(|drawn| drawn.as_str() == Some(id))?;
        }
        let found = match &self.per {
            Per::All => return Some(Arc::from("")),
            Per::Address => None,
            // A run is a run of its agent, which has one without a name too.
            Per::Member(pointer) if pointer == "/run" => {
                let part = |name: &str| record.get(name).and_then(Value::as_str);
                part("agent").map(|agent| format!("{agent} {}", part("run").unwrap_or_default()))
            }
            Per::Member(pointer) => match record.pointer(pointer)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        };
        Some(Arc::from(found.or_else(|| address(record))?))
    }
}

/// The address that a record's client counts by.
fn address(record: &Value) -> Option<String> {
    let text = record.pointer("/client/ip").or_else(|| record.get("client_ip"))?.as_str()?;
    Some(text.parse().map_or_else(|_| text.to_owned(), |ip| network(ip).to_string()))
}

/// When a record's request came, in microseconds since 1970.
pub(super) fn time(record: &Value) -> Result<u64> {
    let text = record.get("time").and_then(Value::as_str).context("it has no `time`")?;
    let time: jiff::Timestamp = text.parse().context("its `time` is none of RFC 3339")?;
    u64::try_from(time.as_microsecond()).context("its `time` is before 1970")
}

/// Whether a record's request passed its limits: it went to an upstream, or it is of a log that
/// knows neither refusals nor upstreams and was not answered with 429. What was answered with an
/// earlier answer drew on nothing.
pub(super) fn passed(record: &Value) -> bool {
    let has = |name: &str| record.get(name).is_some_and(|value| !value.is_null());
    let is_429 = record.get("status").and_then(Value::as_u64) == Some(429);
    !has("replayed") && (has("upstream") || (!has("refusal") && !is_429))
}
