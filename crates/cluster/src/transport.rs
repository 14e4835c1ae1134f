//! What nodes say to each other, and the two seams through which they say it.
//!
//! A [`Transport`] carries a [`Message`] to a [`Peer`] and brings the answer; a [`Service`] answers.
//! Neither knows what a body means: its form follows from the kind and the version.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use model::NodeName;
use serde::{Deserialize, Serialize};

/// A node of the cluster as others reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub id: u64,
    pub name: String,
    /// `host:port` of its cluster listener; empty for a node that nobody calls.
    pub address: String,
}

/// What nodes say to each other. The body's form is known by kind and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageKind,
    pub version: u32,
    pub body: Bytes,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Entries of the log, or a heartbeat.
    Append,
    Vote,
    /// A chunk of a snapshot.
    Snapshot,
    /// A change for the leader to judge.
    Propose,
    /// Up to which entry a reader must have applied.
    ReadIndex,
    Status,
    /// A change of who belongs to the cluster, for the leader to make.
    Members,
    /// How a node reaches the store of the fleet's counts.
    Ledger,
}

/// The name of a peer, as its certificate proves it.
pub type PeerName = NodeName;

/// Why a message brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The message did not leave this node.
    #[error("node {peer} cannot be reached: {why}")]
    Unreachable { peer: u64, why: String },
    /// Nobody knows whether the peer has seen it.
    #[error("node {peer} did not answer in {} ms", after.as_millis())]
    Late { peer: u64, after: Duration },
    /// Nobody knows whether the peer has acted on it.
    #[error("the connection to node {peer} broke before the answer: {why}")]
    Broken { peer: u64, why: String },
    /// The peer has seen it, and did nothing.
    #[error("node {peer} refused: {why}")]
    Refused { peer: u64, why: String },
    /// The peer says that this node is no member any more.
    #[error("node {peer} says that this node has left: {why}")]
    Left { peer: u64, why: String },
    /// The peer speaks a version that this release does not know.
    #[error("node {peer} speaks version {found}; this release knows up to {known}")]
    Newer { peer: u64, found: u32, known: u32 },
    /// Nothing was sent, or the answer was not read.
    #[error("a message of {bytes} bytes is over the bound of {most}")]
    Oversized { bytes: usize, most: usize },
}

/// Why a service did not act on a message; told to the peer as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    pub why: String,
}

/// A future that a trait object can give back.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries messages to peers. One lazy connection a peer; every call has a deadline.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message and waits for its answer, no longer than the deadline.
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Message, TransportError>>;
}

/// Answers messages of peers.
pub trait Service: Send + Sync + 'static {
    /// The answer to a message of the peer whose certificate names it `from`.
    fn answer<'a>(
        &'a self,
        from: &'a PeerName,
        message: Message,
    ) -> BoxFuture<'a, Result<Message, Refused>>;
}

/// The longest body a message may have. An entry of the log must fit into one, and the largest
/// command is a whole document (16 MiB as people write it, more once its secrets are sealed).
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
