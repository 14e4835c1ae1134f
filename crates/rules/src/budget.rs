//! Budgets: amounts over calendar periods, and the arithmetic of what is left of them.
//!
//! A budget is a ledger for each subject and period: what was spent (`posted`), and what is held
//! by calls under way (`pending`). A call holds its greatest cost before it leaves and settles what
//! it did cost afterwards. In integers throughout.

mod calendar;
mod fired;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use model::{Amount, BudgetId, Secret, Timestamp, Unit};

use crate::limit::{OnOutage, Per};
use crate::plan::Subject;
use crate::price::Tariff;
use crate::selector::{Selector, SelectorIndex, Selects};

pub use calendar::{Calendar, Every, Period, moment_text, zone};
pub use fired::Fired;

/// A budget of the document (kind `budgets`).
#[derive(Clone, Debug)]
pub struct Budget {
    pub id: BudgetId,
    /// Each of these has the whole amount for itself. Never a route or an address.
    pub per: Per,
    pub unit: Unit,
    pub amount: Amount,
    pub calendar: Calendar,
    pub selector: Selector,
    /// Percents of the amount, ascending, each between 1 and 100; at most [`THRESHOLDS_MAX`].
    pub thresholds: Vec<u8>,
    /// Where a threshold is told too.
    pub webhook: Option<Webhook>,
    pub when_short: WhenShort,
    pub on_outage: OnOutage,
    pub durability: Durability,
    /// Count and report, but let pass.
    pub shadow: bool,
}

/// Who is told of a budget's thresholds.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// An `http` or `https` URL.
    pub url: Secret<String>,
    /// What tellings are signed with (HMAC-SHA256), so that who is told knows who tells.
    pub secret: Option<Secret<String>>,
}

/// What happens to a call that a budget cannot pay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenShort {
    #[default]
    Refuse,
    /// Somebody is asked; until that is possible the call is refused.
    Ask,
}

/// What must be durable before a call leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// What the store has: a store that loses its last second loses that spend.
    Store,
    /// The node's journal too, on its disk: spend survives the loss of the store.
    #[default]
    Journal,
    /// A second node's journal too: spend survives the loss of the store and of the node.
    Peer,
}

/// Names one row of the ledger: a budget, what and whom it counts, and the period. A budget that
/// counts something else from now on has other rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowKey {
    pub budget: BudgetId,
    pub unit: Unit,
    pub per: Per,
    pub subject: Subject,
    /// How long the period is, and when it began.
    pub every: Every,
    pub period: Timestamp,
}

/// What a call holds of one row until it is settled.
#[derive(Clone, Debug)]
pub struct Hold {
    pub row: RowKey,
    /// The most that the call is expected to cost.
    pub amount: Amount,
    pub budget: Arc<Budget>,
    /// What the call is charged; `None` where every call costs what it holds.
    pub tariff: Option<Tariff>,
}

impl Hold {
    /// What a call that was sent is charged once its answer had this status, and its tariff heard
    /// the answer. A call that broke off is charged what it held.
    #[must_use]
    pub fn cost(&self, status: u16) -> Amount {
        self.tariff.as_ref().map_or(self.amount, |tariff| tariff.cost(status))
    }
}

impl Selects for Budget {
    fn selector(&self) -> &Selector {
        &self.selector
    }
}

/// The budgets of a document, findable.
pub type BudgetIndex = SelectorIndex<Budget>;

/// One row of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What was spent.
    pub posted: Amount,
    /// What calls under way hold.
    pub pending: Amount,
    /// What operators have added to the budget's amount for this row; negative where they took.
    pub adjusted: Amount,
    /// The thresholds that have fired.
    pub fired: Fired,
}

/// Why a row holds nothing for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdraft {
    /// So much is left, which is less. Negative after an overrun.
    Left(Amount),
    /// The sum leaves the range of amounts.
    Range,
}

impl RowKey {
    /// The row of a subject of a budget, in the period that begins then.
    #[must_use]
    pub fn of(budget: &Budget, subject: Subject, period: Timestamp) -> Self {
        let Budget { id, unit, per, calendar, .. } = budget;
        let every = calendar.every();
        Self { budget: id.clone(), unit: unit.clone(), per: *per, subject, every, period }
    }

    /// Whether a budget, as it is, counts in this row.
    #[must_use]
    pub fn is_of(&self, budget: &Budget) -> bool {
        let Budget { id, unit, per, calendar, .. } = budget;
        let is_same = self.budget == *id && self.unit == *unit && self.per == *per;
        is_same && self.every == calendar.every()
    }
}

impl Account {
    /// What is left of a budget's amount: neither spent nor held.
    #[must_use]
    pub const fn left(self, amount: Amount) -> Option<Amount> {
        let Some(granted) = amount.plus(self.adjusted) else { return None };
        let Some(unspent) = granted.minus(self.posted) else { return None };
        unspent.minus(self.pending)
    }

    /// Holds so much for a call: passes only if `posted + pending + held ≤ amount + adjusted`.
    /// Holding nothing always passes.
    ///
    /// # Errors
    /// What is left instead.
    pub fn reserve(self, budget: &Budget, held: Amount) -> Result<Self, Overdraft> {
        if held == Amount::ZERO {
            return Ok(self);
        }
        let left = self.left(budget.amount).ok_or(Overdraft::Range)?;
        if held > left || held < Amount::ZERO {
            return Err(Overdraft::Left(left));
        }
        let pending = self.pending.plus(held).ok_or(Overdraft::Range)?;
        Ok(Self { pending, ..self })
    }

    /// Ends a hold with what the call did cost, which may be more: an overrun is booked, never
    /// dropped. What leaves the range of amounts stays at its end.
    #[must_use]
    pub fn settle(self, held: Amount, cost: Amount) -> Self {
        let posted = self.posted.plus(cost).unwrap_or(Amount::LARGEST);
        Self { posted, ..self.void(held) }
    }

    /// Ends a hold of a call that had no effect.
    #[must_use]
    pub fn void(self, held: Amount) -> Self {
        let pending = self.pending.minus(held).unwrap_or(Amount::ZERO);
        Self { pending: pending.max(Amount::ZERO), ..self }
    }

    /// Fires the thresholds that `posted` has reached and that have not fired: answers the row
    /// with them fired, and their percents.
    #[must_use]
    pub fn fire(self, budget: &Budget) -> (Self, Vec<u8>) {
        let granted = budget.amount.plus(self.adjusted).unwrap_or(Amount::LARGEST);
        let (mut fired, mut percents) = (self.fired.named(&budget.thresholds), Vec::new());
        for percent in budget.thresholds.iter().take(THRESHOLDS_MAX) {
            let is_reached = i128::from(self.posted.parts()) * 100
                >= i128::from(granted.parts()) * i128::from(*percent);
            if is_reached && !fired.has(*percent) {
                fired = fired.with(*percent);
                percents.push(*percent);
            }
        }
        (Self { fired, ..self }, percents)
    }
}

/// Thresholds of a budget.
pub const THRESHOLDS_MAX: usize = 8;
