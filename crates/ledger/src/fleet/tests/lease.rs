//! Laws of leases.

mod adversary;
mod holding;
mod live;
mod mutants;
mod script;
mod suspended;
