//! Raft's own messages, over a [`Transport`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::transport::{Message, MessageKind, Peer, Transport, TransportError};
use crate::types::{
    AppendRequest, AppendResponse, ChunkError, ChunkRequest, ChunkResponse, LogId, RaftNetwork,
    RaftNetworkFactory, RpcError, Types, Vote, VoteRequest, VoteResponse,
};

/// The version of every message that this release sends, and the newest it reads.
pub(crate) const MESSAGE_VERSION: u32 = 1;

/// Makes connections to peers; a node alone has no transport and calls nobody.
#[derive(Clone)]
pub(crate) struct Network(pub(crate) Option<Arc<dyn Transport>>);

impl RaftNetworkFactory<Types> for Network {
    type Network = Wire;

    async fn new_client(&mut self, _target: u64, node: &Peer) -> Wire {
        Wire { transport: self.0.clone(), peer: Arc::new(node.clone()), late: Late::default() }
    }
}

/// The way to one peer.
pub(crate) struct Wire {
    transport: Option<Arc<dyn Transport>>,
    peer: Arc<Peer>,
    late: Late,
}

/// An append that takes longer than openraft waits. It is not sent again: when openraft asks for
/// the same entries, the answer to the first is waited for. Else a large entry would never arrive.
#[derive(Default)]
struct Late {
    entries: Option<Sent>,
    calls: JoinSet<Result<Message, TransportError>>,
}

/// Which entries were sent.
type Sent = (Vote, Option<LogId>, LogId);

impl Wire {
    fn call(
        &self,
        kind: MessageKind,
        body: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Message, TransportError>> + Send + use<> {
        let message = Message { kind, version: MESSAGE_VERSION, body };
        send(self.transport.clone(), Arc::clone(&self.peer), message, deadline)
    }

    /// Sends entries, or goes on waiting for the answer of the last time.
    async fn append(&mut self, request: &AppendRequest) -> Result<Message, TransportError> {
        let sent =
            request.entries.last().map(|last| (request.vote, request.prev_log_id, last.log_id));
        if self.late.entries != sent || self.late.calls.is_empty() {
            let body = json(request);
            let deadline =
                APPEND_WAIT + APPEND_WAIT_BYTE * u32::try_from(body.len()).unwrap_or(u32::MAX);
            let call = self.call(MessageKind::Append, body, deadline);
            self.late = Late { entries: sent, calls: JoinSet::new() };
            self.late.calls.spawn(call);
        }
        let joined = self.late.calls.join_next().await;
        let broken = || TransportError::Broken { peer: self.peer.id, why: "gave up".to_owned() };
        joined.and_then(Result::ok).unwrap_or_else(|| Err(broken()))
    }
}

async fn send(
    transport: Option<Arc<dyn Transport>>,
    peer: Arc<Peer>,
    message: Message,
    deadline: Duration,
) -> Result<Message, TransportError> {
    let Some(transport) = transport else {
        let why = "this node has no cluster listener".to_owned();
        return Err(TransportError::Unreachable { peer: peer.id, why });
    };
    transport.call(&peer, message, deadline).await
}

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendRequest,
        option: openraft::network::RPCOption,
    ) -> Result<AppendResponse, RpcError> {
        let answer = if request.entries.is_empty() {
            self.call(MessageKind::Append, json(&request), option.hard_ttl()).await
        } else {
            self.append(&request).await
        };
        read(&self.peer, answer).map_err(|cause| *cause)
    }

    async fn install_snapshot(
        &mut self,
        request: ChunkRequest,
        option: openraft::network::RPCOption,
    ) -> Result<ChunkResponse, RpcError<ChunkError>> {
        let body = pack_chunk(request);
        let answer = self.call(MessageKind::Snapshot, body, option.hard_ttl()).await;
        let answered: Result<ChunkResponse, ChunkError> =
            read(&self.peer, answer).map_err(|cause| *cause)?;
        answered.map_err(|cause| {
            let cause = openraft::error::RaftError::APIError(cause);
            openraft::error::RemoteError::new(self.peer.id, cause).into()
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest,
        option: openraft::network::RPCOption,
    ) -> Result<VoteResponse, RpcError> {
        let answer = self.call(MessageKind::Vote, json(&request), option.hard_ttl()).await;
        read(&self.peer, answer).map_err(|cause| *cause)
    }

    fn backoff(&self) -> openraft::network::Backoff {
        openraft::network::Backoff::new(std::iter::repeat(UNREACHABLE_REST))
    }
}

/// Reads a peer's answer, or tells openraft why there is none.
fn read<T: DeserializeOwned, E: std::error::Error>(
    peer: &Peer,
    answer: Result<Message, TransportError>,
) -> Result<T, Box<RpcError<E>>> {
    let answer = answer.map_err(|cause| match cause {
        TransportError::Unreachable { .. } | TransportError::Newer { .. } => {
            Box::new(RpcError::Unreachable(openraft::error::Unreachable::new(&cause)))
        }
        TransportError::Late { .. }
        | TransportError::Broken { .. }
        | TransportError::Refused { .. }
        | TransportError::Left { .. }
        | TransportError::Oversized { .. } => {
            Box::new(RpcError::Network(openraft::error::NetworkError::new(&cause)))
        }
    })?;
    serde_json::from_slice(&answer.body).map_err(|_| {
        let why = "its answer is none of ours".to_owned();
        let cause = TransportError::Refused { peer: peer.id, why };
        Box::new(RpcError::Network(openraft::error::NetworkError::new(&cause)))
    })
}

/// A body as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("our messages are JSON values, numbers and texts, which always serialise")
        .into()
}

/// A chunk of a snapshot: the length of its head (u32, big endian), the head as JSON, the bytes.
pub(crate) fn pack_chunk(mut request: ChunkRequest) -> Bytes {
    let data = std::mem::take(&mut request.data);
    let head = json(&request);
    let mut body = BytesMut::with_capacity(4 + head.len() + data.len());
    body.put_u32(u32::try_from(head.len()).unwrap_or(u32::MAX));
    body.put(head);
    body.put(&*data);
    body.freeze()
}

/// The chunk in a body; `None` when it is none of ours.
pub(crate) fn unpack_chunk(body: &Bytes) -> Option<ChunkRequest> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (head, data) = rest.split_at_checked(length)?;
    let mut request: ChunkRequest = serde_json::from_slice(head).ok()?;
    data.clone_into(&mut request.data);
    Some(request)
}

/// How long entries may take to a peer and its disk before they are taken for lost: this, and
/// some more for each byte (2 MB/s).
const APPEND_WAIT: Duration = Duration::from_millis(400);
const APPEND_WAIT_BYTE: Duration = Duration::from_nanos(500);

/// How long a peer that cannot be reached is left alone.
const UNREACHABLE_REST: Duration = Duration::from_millis(200);
