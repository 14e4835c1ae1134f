//! Shared counts: take what a plan draws on, all or nothing.
//!
//! Floor 2. The arithmetic stands in `rules::limit` and `rules::budget`; here stand the counts
//! themselves. There are two ledgers, which take the same plans: one embedded in the process and
//! durable over a clean stop, and the fleet's in Redis. What is absent: HTTP, policy, documents.

mod embedded;
mod fleet;
mod ledger;
mod limit;
mod metrics;
mod money;
mod quota;
pub mod repeat;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod storage;

pub use embedded::Embedded;
pub use fleet::{
    Address, AddressError, Fleet, Money, Options, Organisation, OrganisationError, PATIENCE, Page,
    Pending, Place, Telling,
};
pub use ledger::{Answer, Ledger};
pub use limit::{Denial, Reservation};
pub use metrics::Metrics;
pub use money::{
    Accounts, AdjustError, Adjustment, BudgetMetrics, Cause, Charge, Crossing, Deed, DispatchError,
    Event, Held, Listed, Standing, Stated, Statement, Unrecorded, row_name, row_named,
};
pub use quota::{NoTurn, QuotaKey, QuotaMetrics, Quotas, Turn};
pub use storage::Error;
