//! Laws of leases.

mod adversary;
mod live;
mod script;
