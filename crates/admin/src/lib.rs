//! The operators' door: the Admin API in APISIX's shapes and ours, and the probes.
//!
//! Floor 4. [`router`] is the Admin API, [`probes`] what load balancers ask, [`serve()`] listens for
//! either. What is absent: traffic, and any rule about what a document may hold: that is
//! `config`'s, and the document itself is `cluster`'s.

mod auth;
mod body;
mod budget;
mod cluster;
mod desk;
mod document;
mod envelope;
mod ledger;
mod list;
mod patch;
mod precondition;
mod probe;
mod query;
mod record;
mod resource;
mod serve;
mod status;
mod suspension;
mod target;
mod throttle;
mod tls;
mod validate;

pub use auth::{KeyError, KeyRing, Role};
pub use desk::{Options, router};
pub use probe::{Probes, probes};
pub use serve::serve;
pub use tls::DoorTls;
