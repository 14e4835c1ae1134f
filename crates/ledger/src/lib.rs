//! Shared counts: take what a plan draws on, all or nothing.
//!
//! Floor 2. The arithmetic stands in `rules::limit`; here stand the counts themselves. One ledger
//! so far, embedded in the process and durable over a clean stop; the fleet's ledger in Redis
//! takes the same plans. What is absent: HTTP, policy, documents.

mod embedded;
mod limit;
mod storage;

pub use embedded::Embedded;
pub use limit::{Denial, Reservation};
pub use storage::Error;
