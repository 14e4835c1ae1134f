//! Traces: charges of which the records may know nothing, for whoever checks the books.
//!
//! A charge leaves one when it is made, and takes it back when its record is written; so the
//! traces that a crash leaves are those of calls whose records it may have cost. A call that was
//! under way in a crash, and is charged what it held, leaves one for good.

use std::sync::Arc;

use model::{Amount, ReservationId, Timestamp};
use rules::budget::RowKey;
use serde::{Deserialize, Serialize};

use super::record::{key_of, key_text};

/// A charge, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) cause: Cause,
    /// The first start that found it; `None` before that.
    pub(crate) since: Option<Timestamp>,
    pub(crate) rows: Vec<(Name, Amount)>,
}

/// Why a charge may have no record, or another than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The node stopped before its record was written.
    Unrecorded,
    /// The node stopped while the call was under way: it was charged what it held.
    Assumed,
    /// The call may have left, and the node has not started since.
    Open,
}

/// A row as its ledger names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// In a node's own accounts.
    Own(RowKey),
    /// Its key in the fleet's store.
    Fleet(Arc<[u8]>),
}

impl Cause {
    /// The name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unrecorded => "unrecorded",
            Self::Assumed => "assumed",
            Self::Open => "open",
        }
    }

    /// What has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Unrecorded, Self::Assumed, Self::Open];
        all.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl Trace {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let cause = match self.cause {
            Cause::Unrecorded | Cause::Open => UNRECORDED,
            Cause::Assumed => ASSUMED,
        };
        let rows = self.rows.iter().map(|(name, amount)| match name {
            Name::Own(row) => (OWN, key_text(row), amount.parts()),
            Name::Fleet(key) => (FLEET, String::from_utf8_lossy(key).into_owned(), amount.parts()),
        });
        let parts = TraceParts(cause, self.since.map(Timestamp::as_micros), rows.collect());
        serde_json::to_vec(&parts).unwrap_or_default()
    }

    /// `None` when it cannot be read.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let TraceParts(cause, since, rows) = serde_json::from_slice(bytes).ok()?;
        let cause = match cause {
            UNRECORDED => Cause::Unrecorded,
            ASSUMED => Cause::Assumed,
            _ => return None,
        };
        let rows = rows.into_iter().map(|(kind, name, amount)| {
            let name = match kind {
                OWN => Name::Own(key_of(&name)?),
                FLEET => Name::Fleet(name.into_bytes().into()),
                _ => return None,
            };
            Some((name, Amount::from_parts(amount)?))
        });
        let rows = rows.collect::<Option<_>>()?;
        Some(Self { cause, since: since.map(Timestamp::from_micros), rows })
    }
}

/// Dates the traces that have no date, and says which are forgotten because there are too many.
pub(super) fn bounded(
    mut found: Vec<(ReservationId, Trace)>,
    now: Timestamp,
) -> Vec<(ReservationId, Option<Trace>)> {
    let is_new = |(_, trace): &(ReservationId, Trace)| trace.since.is_none();
    found.sort_by_key(|(_, trace)| std::cmp::Reverse(trace.since.unwrap_or(now)));
    let old = found.split_off(found.len().min(TRACES_MAX)).into_iter().map(|(id, _)| (id, None));
    let new = found.into_iter().filter(is_new);
    let dated = new.map(|(id, trace)| (id, Some(Trace { since: Some(now), ..trace })));
    dated.chain(old.collect::<Vec<_>>()).collect()
}

/// Cause, since, and the rows with their kind.
#[derive(Serialize, Deserialize)]
struct TraceParts(u8, Option<u64>, Vec<(u8, String, i64)>);

const UNRECORDED: u8 = 1;
const ASSUMED: u8 = 2;
const OWN: u8 = 1;
const FLEET: u8 = 2;

/// Traces of earlier lives that a node keeps. Beyond that the oldest are forgotten, and whoever
/// checks the books misses records that he is not told why.
const TRACES_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::{Cause, Name, ReservationId, TRACES_MAX, Timestamp, Trace, bounded};
    use crate::money::sample::{budget, hold, parts};

    fn trace(since: Option<u64>) -> Trace {
        let own = Name::Own(hold(&std::sync::Arc::new(budget("b", 1)), 0).row);
        let fleet = Name::Fleet(b"{default}:row"[..].into());
        let since = since.map(Timestamp::from_micros);
        Trace { cause: Cause::Assumed, since, rows: vec![(own, parts(3)), (fleet, parts(4))] }
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        for trace in [trace(None), trace(Some(7))] {
            assert_eq!(Trace::of(&trace.bytes()), Some(trace));
        }
        assert_eq!(Trace::of(b"[9,null,[]]"), None);
    }

    #[test]
    fn of_too_many_traces_the_oldest_go() {
        let old = |id: u128| (ReservationId(id), trace(Some(1 + u64::try_from(id).unwrap())));
        let mut found: Vec<_> = (0..TRACES_MAX as u128).map(old).collect();
        let now = Timestamp::from_micros(u64::MAX >> 1);
        assert_eq!(bounded(found.clone(), now), []);
        found.push((ReservationId(u128::MAX), trace(None)));
        let dated = Trace { since: Some(now), ..trace(None) };
        let expected = [(ReservationId(u128::MAX), Some(dated)), (ReservationId(0), None)];
        assert_eq!(bounded(found, now), expected);
    }
}
