//! What nodes say to each other, over gRPC and mutual TLS.
//!
//! ```text
//!     GrpcTransport ─▶ Line (one a peer, opened when needed) ═TLS═▶ Listener ─▶ Session ─▶ Service
//!     join ───────────────────────────────────── no certificate ═▶ Listener ─▶ Door ─▶ Admission
//! ```
//!
//! A [`Listener`] refuses by itself who shows no certificate of the cluster's authority, speaks
//! for a name that its certificate does not hold, means another cluster or another node, has left,
//! or speaks a newer version; the [`Service`](crate::Service) sees only what is left. Each refusal
//! is told to the caller and logged on both sides.

mod connect;
mod door;
mod hush;
mod join;
mod kind;
mod line;
mod listener;
mod session;
mod station;
mod transport;

use crate::{ClusterId, PeerName};

pub use door::is_address;
pub use door::{Admission, Admitted, Certifier, Door, Newcomer};
pub use join::{Application, Grant, JoinError, join};
pub use listener::Listener;
pub use station::{Station, StationError, open_member};
pub use transport::GrpcTransport;

pub(crate) use kind::is_for_all;

pub use crate::transport::MESSAGE_BYTES_MAX;

/// Who this node is to its peers.
#[derive(Clone, Debug)]
pub struct Local {
    pub cluster: ClusterId,
    pub id: u64,
    pub name: PeerName,
}

/// What a node knows of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Member,
    /// Not heard of. It has a certificate, so the cluster has let it in: perhaps this node is
    /// behind. It may then say what Raft says, since that is how this node catches up, and ask how
    /// this node is, and must not ask for anything else.
    Unknown,
    /// It was a member and has left, or another has its place: it is heard no more.
    Left,
}

/// Knows the members. Asked for each message: it must answer from memory. A name may have passed
/// from one node to another, so the number counts too.
pub trait Roster: Send + Sync + 'static {
    /// What is known now of the node with this name and this number.
    fn standing(&self, name: &PeerName, id: u64) -> Standing;
}

/// The newest version of the protocol that this release speaks.
const PROTOCOL: u32 = 1;

/// The oldest one.
const PROTOCOL_MIN: u32 = 1;

/// What an envelope adds to its body at most: a name of 253 bytes and a few numbers.
const ENVELOPE_BYTES_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
