//! Carries traffic: accept, judge, forward, settle, record.
//!
//! Floor 3. Each core has a runtime, listeners and upstream connections of its own; cores share
//! the snapshot, the ledger and the recorder. Only `pipeline` calls the stages. What is absent:
//! Raft, admin, documents.

mod accept;
mod admit;
mod balance;
mod bill;
mod body;
mod cache;
mod connect;
mod core;
mod describe;
mod forward;
mod gate;
mod head;
mod held;
mod identify;
mod metrics;
mod park;
mod permit;
mod pipeline;
mod pool;
mod price;
mod quota;
mod repeat;
mod resolve;
mod respond;
mod response;
mod settle;
mod suspension;
mod tls;
mod trip;
mod tunnel;

pub use gate::{Drained, Error, Gate, Listeners, Options};
pub use metrics::Metrics;
pub use resolve::Override;
pub use respond::status_of;
pub use tls::{Roots, ServerTls};
