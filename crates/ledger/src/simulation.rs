//! A fleet in one thread and virtual time: nodes with the real code of leases, a model of the
//! store, and a network that delays, loses, doubles and reorders. For tests and benchmarks.

pub(crate) mod store;
mod window;
mod world;

pub use self::store::Flaw;
pub use self::window::{is_kept, worst};
pub use self::world::{Arrival, Chance, Mishaps, Ran, Setup, run};
