//! Money: what budgets hold for calls under way, and what calls did cost.
//!
//! A take makes a [`Held`]. Before the first byte of the call leaves, [`Held::dispatch`] makes
//! durable that it may: from then on the money counts as spent, whatever happens, until the call
//! is settled with what it did cost, or is shown to have had no effect.

mod accounts;
mod adjust;
mod book;
mod history;
mod journal;
mod metrics;
mod record;
#[cfg(test)]
pub(crate) mod sample;
mod statement;
#[cfg(test)]
pub(crate) mod tests;
mod trace;

use std::sync::Arc;

use model::{Amount, ReservationId};
use rules::budget::Hold;
use rules::plan::Plan;

use crate::fleet::{Kind, Purse};

pub use accounts::{Accounts, Crossing, Listed};
pub(crate) use accounts::{CROSSINGS_MAX, is_awaited};
pub use adjust::{AdjustError, Adjustment};
pub(crate) use history::History;
pub(crate) use journal::{Draft, Found, Journal};
pub use metrics::Metrics as BudgetMetrics;
pub(crate) use metrics::{Holding, How};
pub use record::{Deed, Event};
pub(crate) use record::{event_bytes, event_of};
pub use statement::{Charge, Stated, Statement, row_name, row_named};
pub use trace::Cause;
pub(crate) use trace::{Name, Trace};

/// What a call holds of its budgets, until it is settled or void.
///
/// An obligation: dropped before [`Held::dispatch`] it voids, since nothing has left; dropped after
/// it, it settles the whole of what it holds, since nobody knows what the call did. Nothing here
/// blocks or fails but the dispatch.
#[derive(Debug)]
#[must_use = "what is dropped is void, or settled in full once it was dispatched"]
pub struct Held {
    id: ReservationId,
    holds: Arc<[Hold]>,
    standing: Standing,
    store: Store,
}

/// How far a reservation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Held; nothing of the call has left.
    Reserved,
    /// It is being written that the call may leave; nothing of it has left.
    Leaving,
    /// The call may have left.
    Dispatched,
    /// What it did cost is posted.
    Settled,
    /// It had no effect and cost nothing.
    Voided,
}

/// Where the accounts are kept.
#[derive(Clone, Debug)]
enum Store {
    /// In this process.
    Own(Arc<Accounts>),
    /// In the fleet's store.
    Fleet(Arc<Purse>),
}

/// Why a call may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// Its reservation has ended: it was settled, or is void.
    #[error("its reservation has ended")]
    Ended,
    /// It could not be made durable in time that the call leaves.
    #[error("its reservation was not written in time")]
    Late,
}

impl Held {
    fn own(accounts: &Arc<Accounts>, id: ReservationId, holds: Arc<[Hold]>, at: Standing) -> Self {
        Self { id, holds, standing: at, store: Store::Own(Arc::clone(accounts)) }
    }

    pub(crate) fn shared(purse: &Arc<Purse>, plan: &Plan, at: Standing) -> Self {
        let holds = plan.holds.as_slice().into();
        Self { id: plan.id, holds, standing: at, store: Store::Fleet(Arc::clone(purse)) }
    }

    /// The id it was made under.
    #[must_use]
    pub const fn id(&self) -> ReservationId {
        self.id
    }

    /// What is held, in the order of the plan.
    #[must_use]
    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    /// How far it is.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Makes durable that the call leaves: as durable as the budgets want it. Once that is done,
    /// doing it again costs nothing.
    ///
    /// # Errors
    /// When the call may not leave. It still holds, and may be void.
    pub async fn dispatch(&mut self) -> Result<(), DispatchError> {
        let written = match (self.standing, &self.store) {
            (Standing::Reserved, Store::Own(accounts)) => {
                let change = accounts.dispatch(self.id, &self.holds)?;
                self.standing = Standing::Leaving;
                accounts.written(change, &self.holds).await
            }
            (Standing::Reserved, Store::Fleet(purse)) => {
                let change = purse.dispatch(self.id.0).ok_or(DispatchError::Ended)?;
                self.standing = Standing::Leaving;
                purse.written(change, &self.holds).await
            }
            (Standing::Dispatched, _) => return Ok(()),
            // It was asked for before, and whoever asked did not wait.
            (Standing::Leaving, _) => return Err(DispatchError::Late),
            (Standing::Settled | Standing::Voided, _) => return Err(DispatchError::Ended),
        };
        written?;
        self.standing = Standing::Dispatched;
        Ok(())
    }

    /// Ends it with what the call did cost: an amount for each hold, in their order; the held one
    /// where none is given. More than was held is booked all the same. Answers what waits for the
    /// record of the call.
    pub fn settle(mut self, costs: &[Amount]) -> Unrecorded {
        self.end(Standing::Settled, costs);
        Unrecorded { id: self.id, store: self.store.clone() }
    }

    /// Ends it: the call had no effect, which is certain.
    pub fn void(mut self) {
        self.end(Standing::Voided, &[]);
    }

    /// Ends it if it has not ended.
    fn end(&mut self, how: Standing, costs: &[Amount]) {
        let before = std::mem::replace(&mut self.standing, how);
        match (&self.store, before, how) {
            (_, Standing::Settled | Standing::Voided, _)
            | (_, _, Standing::Reserved | Standing::Leaving | Standing::Dispatched) => {
                self.standing = before;
            }
            (Store::Own(accounts), _, Standing::Settled) => accounts.settle(self.id, costs),
            (Store::Own(accounts), Standing::Dispatched, Standing::Voided) => {
                accounts.void(self.id);
            }
            (Store::Own(accounts), Standing::Leaving, Standing::Voided) => {
                accounts.withdraw(self.id);
            }
            (Store::Own(accounts), Standing::Reserved, Standing::Voided) => {
                accounts.release(self.id);
            }
            (Store::Fleet(purse), _, Standing::Settled) => {
                purse.end(self.id.0, Kind::Settle, costs);
            }
            (Store::Fleet(purse), Standing::Dispatched, Standing::Voided) => {
                purse.end(self.id.0, Kind::Void, &[]);
            }
            (Store::Fleet(purse), Standing::Leaving, Standing::Voided) => purse.withdraw(self.id.0),
            (Store::Fleet(purse), Standing::Reserved, Standing::Voided) => purse.release(self.id.0),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.standing {
            Standing::Reserved | Standing::Leaving => self.end(Standing::Voided, &[]),
            Standing::Dispatched => {
                self.end(Standing::Settled, &[]);
                // Nobody is left to say when it is recorded.
                drop(Unrecorded { id: self.id, store: self.store.clone() });
            }
            Standing::Settled | Standing::Voided => {}
        }
    }
}

/// A charge whose record is not written yet: dropped once it is. The journal keeps it until then,
/// so that after a crash it is known which charges may lack their records.
#[derive(Debug)]
pub struct Unrecorded {
    id: ReservationId,
    store: Store,
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        match &self.store {
            Store::Own(accounts) => accounts.recorded(self.id),
            Store::Fleet(purse) => purse.recorded(self.id),
        }
    }
}

impl PartialEq for Held {
    /// Whether both stand for one reservation.
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.standing) == (other.id, other.standing)
    }
}

impl Eq for Held {}
