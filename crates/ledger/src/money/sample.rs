//! Budgets for tests.

use std::sync::Arc;

use model::{Amount, BudgetId, ReservationId, Timestamp, Unit};
use rules::budget::{Budget, Calendar, Durability, Hold, RowKey, WhenShort};
use rules::limit::{OnOutage, Per, Selector};
use rules::plan::{Plan, Subject};

/// A budget of requests for a lifetime.
pub(crate) fn budget(name: &str, amount: i64) -> Budget {
    Budget {
        id: BudgetId::new(name),
        per: Per::Organisation,
        unit: Unit::requests(),
        amount: parts(amount),
        calendar: Calendar::lifetime(),
        selector: Selector::default(),
        thresholds: vec![50, 100],
        webhook: None,
        when_short: WhenShort::Refuse,
        on_outage: OnOutage::Refuse,
        durability: Durability::Journal,
        shadow: false,
    }
}

pub(crate) fn parts(amount: i64) -> Amount {
    Amount::from_parts(amount).unwrap()
}

/// A hold of so much of a budget, for the one subject of the tests.
pub(crate) fn hold(budget: &Arc<Budget>, amount: i64) -> Hold {
    let row = RowKey::of(budget, Subject::Text(Arc::from("acme")), Timestamp::default());
    Hold { row, amount: parts(amount), budget: Arc::clone(budget), tariff: None }
}

pub(crate) fn plan(id: u128, holds: Vec<Hold>) -> Plan {
    Plan { id: ReservationId(id), holds, ..Plan::default() }
}
