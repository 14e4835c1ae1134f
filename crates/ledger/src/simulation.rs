//! A fleet in one thread and virtual time: nodes with the real code of leases, a model of the
//! store, and a network that delays, loses, doubles and reorders. For tests and benchmarks.

mod baseline;
mod hot;
mod load;
pub(crate) mod store;
mod window;
#[expect(clippy::indexing_slicing, reason = "a setup numbers its own nodes and buckets")]
mod world;

pub use self::baseline::{Baseline, ideal, run as run_baseline};
pub use self::hot::Hot;
pub use self::load::{Load, arrivals};
pub use self::store::Flaw;
pub use self::window::{is_kept, worst};
pub use self::world::{Arrival, Chance, Mishaps, Ran, Setup, run};
