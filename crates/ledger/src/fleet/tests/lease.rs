//! Laws of leases.

mod adversary;
mod script;
