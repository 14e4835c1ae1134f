//! The one place where openraft's generics are filled in; the rest of the crate uses these names.

use std::io;

use crate::image::Image;
use crate::transport::Peer;

openraft::declare_raft_types!(
    /// What our Raft agrees on, between whom, and how it travels.
    pub(crate) Types:
        D = crate::entry::Payload,
        R = crate::entry::Verdict,
        NodeId = u64,
        Node = Peer,
        Entry = openraft::Entry<Types>,
        SnapshotData = Image,
        AsyncRuntime = Runtime,
);

/// Where Raft's tasks run, and where it draws its election timeouts.
#[cfg(not(test))]
pub(crate) use openraft::TokioRuntime as Runtime;

/// A simulation draws them from its seed.
#[cfg(test)]
pub(crate) use crate::sim::runtime::Runtime;

pub(crate) use openraft::storage::{RaftLogStorage, RaftStateMachine};
pub(crate) use openraft::{
    EntryPayload, RaftLogReader, RaftNetwork, RaftNetworkFactory, RaftSnapshotBuilder, ServerState,
};

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type LogState = openraft::storage::LogState<Types>;
pub(crate) type LogFlushed = openraft::storage::LogFlushed<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type ChangeMembers = openraft::ChangeMembers<u64, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Peer>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Peer>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Peer>;
pub(crate) type State = openraft::RaftState<u64, Peer, openraft::TokioInstant>;
pub(crate) type Fatal = openraft::error::Fatal<u64>;
pub(crate) type WriteError =
    openraft::error::RaftError<u64, openraft::error::ClientWriteError<u64, Peer>>;

pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<Types>;
pub(crate) type AppendResponse = openraft::raft::AppendEntriesResponse<u64>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<u64>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<u64>;
pub(crate) type ChunkRequest = openraft::raft::InstallSnapshotRequest<Types>;
pub(crate) type ChunkResponse = openraft::raft::InstallSnapshotResponse<u64>;
pub(crate) type ChunkError = openraft::error::InstallSnapshotError;
pub(crate) type RpcError<E = openraft::error::Infallible> =
    openraft::error::RPCError<u64, Peer, openraft::error::RaftError<u64, E>>;

/// What openraft is told when the disk fails a write.
pub(crate) fn write_failed(cause: &(dyn std::error::Error + 'static)) -> StorageError {
    openraft::StorageIOError::write(&io::Error::other(chain(cause))).into()
}

/// What openraft is told when the disk fails a read, or holds what we cannot use.
pub(crate) fn read_failed(cause: &(dyn std::error::Error + 'static)) -> StorageError {
    openraft::StorageIOError::read(&io::Error::other(chain(cause))).into()
}

/// An error and its causes on one line: openraft keeps texts only.
fn chain(cause: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(cause), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
