//! Judgement: given the compiled rules, the facts of a request and the time, decide.
//!
//! Floor 1, pure. What is absent: I/O, async, clocks, locks, documents. [`Snapshot`] is what
//! `config` compiles and what the gate reads; each noun's file holds its compiled shape and its
//! decisions.

pub mod budget;
pub mod expression;
pub mod fact;
pub mod field;
pub mod identity;
pub mod limit;
pub mod operation;
pub mod outage;
pub mod plan;
pub mod plugin;
pub mod policy;
pub mod price;
pub mod quota;
pub mod record;
pub mod regexp;
pub mod repeat;
pub mod response;
pub mod rewrite;
pub mod route;
pub mod selector;
pub mod shards;
mod snapshot;
pub mod suspension;
pub mod target;
pub mod upstream;
pub mod variable;
pub mod window;

pub use snapshot::{Snapshot, Unresolved};
