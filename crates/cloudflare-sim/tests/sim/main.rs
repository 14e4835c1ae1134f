//! The stand-in over real sockets.
#![expect(clippy::unwrap_used, reason = "a helper that has nothing to go on with fails its test")]

mod client;
mod dns;
mod fault;
mod identity;
mod log;
mod probe;
mod quota;
mod registrar;
mod store;
mod wire;
mod worker;
mod zone;
