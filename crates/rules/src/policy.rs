//! Policies: what agents may do, in Cedar (Cutler et al., "Cedar", OOPSLA 2024).
//!
//! Who asks is an agent in a team in an organisation, what is asked for is a call in the groups
//! that its catalogue tells, and it is asked of a zone, an account or the whole API. Nothing is
//! permitted unless a policy permits it, and a forbid wins. Cedar decides; what stands here finds
//! the few policies whose scope holds a request, reads of the request what they read and nothing
//! else, and remembers what cannot come out otherwise.

mod body;
mod decide;
mod entity;
mod kind;
mod memory;
mod reads;
mod schema;
mod scope;
#[cfg(test)]
mod tests;
mod text;
mod vocabulary;

pub use body::Unreadable;
pub use decide::{Decision, Knowledge, Open, Verdict};
pub use entity::{Asked, Zone};
pub use kind::{Kind, Members, price_text};
pub use memory::{Judged, Memory, Outlook, Policies};
pub use reads::Reads;
pub use scope::{Lineage, Uid};
pub use text::{Flaw, Policy, PolicyText, is_zone_name};
pub use vocabulary::{Action, CallKind, ResourceKind, Vocabulary, is_unknown};
