//! The Admin API as operators and their tools see it: a real node behind a router.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod bench;
mod cluster;
mod conditions;
mod contract;
mod document;
mod secrecy;
