//! Laws of leases.

mod adversary;
mod change;
mod holding;
mod live;
mod mutants;
mod script;
mod suspended;
