//! The cluster's document: agreed on by Raft, durable, compiled and published.
//!
//! Floor 3. [`open`] gives a [`Handle`] (propose a change, read the state, watch snapshots) and a
//! [`Task`] that owns what runs behind it. One node without peers is the same code: one voter that
//! calls nobody. What is absent: traffic, HTTP serving, and any knowledge of what a document
//! means; that is `config`'s.
//!
//! ```text
//!     propose ─(whoever leads)─▶ proposer: judge → compile → one entry ─▶ openraft ─▶ log ─▶ peers
//!                                                                            │ agreed
//!     gate ◀──watch── publisher ◀── compile ◀── board ◀── machine (pure) ◀───┘
//!                                      ▲ values
//!     files, vaults, environment ──▶ secrets
//! ```

mod ask;
mod asking;
mod bench;
mod board;
pub mod ca;
mod directory;
mod entry;
mod error;
mod fact;
pub mod grpc;
mod handle;
mod home;
mod image;
mod lead;
mod log;
mod machine;
mod membership;
mod metrics;
mod network;
mod news;
mod outage;
mod proposer;
mod publisher;
mod recent;
mod record;
mod replica;
mod secret;
mod service;
#[cfg(test)]
mod sim;
mod start;
mod status;
mod store;
mod suspension;
mod task;
pub mod tls;
pub mod token;
mod transport;
mod types;
mod vault;

pub use error::{Error, FactError, Kept, ProposeError, ReadError};
pub use fact::{
    Approval, ApprovalState, AuditAnchor, Departure, Fact, FactChange, FactCommand, FactExpect,
    FactKey, FactKind, FactRejected, Facts, JoinToken, LedgerCheckpoint, Suspension,
};
pub use handle::Handle;
pub use home::{Home, HomeError, Sign};
pub use membership::{Invitation, MembershipError, Place};
pub use outage::Confirmed;
pub use secret::Environment;
pub use status::{ClusterId, Live, Member, MemberStatus, Role, Status};
pub use suspension::{Reach, SuspensionError};
pub use task::{Joined, LogBounds, Network, Options, Task, open, open_in_cluster};
pub use transport::{
    BoxFuture, MESSAGE_BYTES_MAX, Message, MessageKind, Peer, PeerName, Refused, Service,
    Transport, TransportError,
};
