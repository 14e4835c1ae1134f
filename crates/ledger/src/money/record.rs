//! Rows, reservations and events as the journal holds them: JSON, each with all it needs.

use std::sync::Arc;

use model::{Amount, BudgetId, ReservationId, Timestamp, Unit};
use rules::budget::{Account, Every, Fired, Hold, RowKey};
use rules::limit::Per;
use serde::{Deserialize, Serialize};

use super::book::Row;
use crate::storage::{SubjectParts, subject_of, subject_parts};

/// Something that happened to an account besides calls, or that operators want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub row: RowKey,
    pub deed: Deed,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// An operator added to what the row may spend, or took from it.
    Adjusted { by: Amount, who: Arc<str>, why: Arc<str>, id: Arc<str> },
    /// A node stopped while a call was under way, and what it held was charged.
    Assumed { amount: Amount, reservation: ReservationId },
    /// What was so charged was given back: the call had no effect after all.
    Returned { amount: Amount, reservation: ReservationId },
    /// What was spent reached this percent of the amount.
    Crossed { percent: u8 },
}

/// The name of a row: the same text for the same row.
pub(crate) fn key_text(key: &RowKey) -> String {
    let parts = KeyParts(
        key.budget.as_str().to_owned(),
        key.unit.as_str().to_owned(),
        key.per.as_str().to_owned(),
        key.every.as_str().to_owned(),
        key.period.as_micros(),
        subject_parts(&key.subject),
    );
    serde_json::to_string(&parts).unwrap_or_default()
}

/// `None` when this is no name of a row.
pub(crate) fn key_of(text: &str) -> Option<RowKey> {
    let KeyParts(budget, unit, per, every, period, subject) = serde_json::from_str(text).ok()?;
    Some(RowKey {
        budget: BudgetId::new(&budget),
        unit: Unit::parse(&unit).ok()?,
        per: Per::from_name(&per)?,
        every: Every::from_name(&every)?,
        subject: subject_of(&subject)?,
        period: Timestamp::from_micros(period),
    })
}

/// A row without what calls under way hold, which their own records say.
pub(crate) fn row_bytes(row: &Row) -> Vec<u8> {
    let Row { account: Account { posted, pending: _, adjusted, fired }, end } = *row;
    let parts = RowParts {
        posted: posted.parts(),
        adjusted: adjusted.parts(),
        fired: fired.places(),
        percents: fired.percents().collect(),
        end: end.map(Timestamp::as_micros),
    };
    serde_json::to_vec(&parts).unwrap_or_default()
}

pub(crate) fn row_of(bytes: &[u8]) -> Option<Row> {
    let RowParts { posted, adjusted, fired, percents, end } = serde_json::from_slice(bytes).ok()?;
    let account = Account {
        posted: Amount::from_parts(posted)?,
        pending: Amount::ZERO,
        adjusted: Amount::from_parts(adjusted)?,
        fired: Fired::of_places(fired).and(percents.into_iter().collect()),
    };
    Some(Row { account, end: end.map(Timestamp::from_micros) })
}

pub(crate) fn holds_bytes(holds: &[Hold]) -> Vec<u8> {
    let parts = holds.iter().map(|hold| (key_text(&hold.row), hold.amount.parts()));
    serde_json::to_vec(&parts.collect::<Vec<_>>()).unwrap_or_default()
}

/// The rows and amounts of a reservation.
pub(crate) fn holds_of(bytes: &[u8]) -> Option<Vec<(RowKey, Amount)>> {
    let parts: Vec<(String, i64)> = serde_json::from_slice(bytes).ok()?;
    parts.iter().map(|(key, amount)| Some((key_of(key)?, Amount::from_parts(*amount)?))).collect()
}

pub(crate) fn event_bytes(event: &Event) -> Vec<u8> {
    let deed = match &event.deed {
        Deed::Adjusted { by, who, why, id } => DeedParts::Adjusted {
            by: by.parts(),
            who: who.to_string(),
            why: why.to_string(),
            id: id.to_string(),
        },
        Deed::Assumed { amount, reservation } => {
            DeedParts::Assumed { amount: amount.parts(), reservation: reservation.to_string() }
        }
        Deed::Returned { amount, reservation } => {
            DeedParts::Returned { amount: amount.parts(), reservation: reservation.to_string() }
        }
        Deed::Crossed { percent } => DeedParts::Crossed { percent: *percent },
    };
    let parts = EventParts { at: event.at.as_micros(), row: key_text(&event.row), deed };
    serde_json::to_vec(&parts).unwrap_or_default()
}

pub(crate) fn event_of(bytes: &[u8]) -> Option<Event> {
    let EventParts { at, row, deed } = serde_json::from_slice(bytes).ok()?;
    let deed = match deed {
        DeedParts::Adjusted { by, who, why, id } => Deed::Adjusted {
            by: Amount::from_parts(by)?,
            who: Arc::from(who),
            why: Arc::from(why),
            id: Arc::from(id),
        },
        DeedParts::Assumed { amount, reservation } => Deed::Assumed {
            amount: Amount::from_parts(amount)?,
            reservation: reservation_of(&reservation)?,
        },
        DeedParts::Returned { amount, reservation } => Deed::Returned {
            amount: Amount::from_parts(amount)?,
            reservation: reservation_of(&reservation)?,
        },
        DeedParts::Crossed { percent } => Deed::Crossed { percent },
    };
    Some(Event { at: Timestamp::from_micros(at), row: key_of(&row)?, deed })
}

fn reservation_of(text: &str) -> Option<ReservationId> {
    Some(ReservationId(u128::from_str_radix(text, 16).ok()?))
}

#[derive(Serialize, Deserialize)]
struct KeyParts(String, String, String, String, u64, SubjectParts);

#[derive(Serialize, Deserialize)]
struct RowParts {
    posted: i64,
    adjusted: i64,
    /// Places of thresholds, as earlier versions wrote them.
    fired: u8,
    #[serde(default)]
    percents: Vec<u8>,
    end: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct EventParts {
    at: u64,
    row: String,
    deed: DeedParts,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeedParts {
    Adjusted { by: i64, who: String, why: String, id: String },
    Assumed { amount: i64, reservation: String },
    Returned { amount: i64, reservation: String },
    Crossed { percent: u8 },
}

#[cfg(test)]
mod tests {
    use rules::budget::Fired;

    use super::{row_bytes, row_of};

    #[test]
    fn a_row_of_an_earlier_version_is_read_with_the_places_that_fired() {
        let row = row_of(br#"{"posted":7,"adjusted":-2,"fired":3,"end":5}"#).unwrap();
        assert_eq!(row.account.fired, Fired::of_places(3));
        assert_eq!(row_of(&row_bytes(&row)), Some(row));
        let named = Fired::from_iter([50, 100]);
        assert_eq!(row.account.fired.named(&[50, 100]), named);
    }
}
