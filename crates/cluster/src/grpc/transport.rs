//! Calls peers, each over its own line.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::connect::Tasks;
use super::hush::Hush;
use super::line::Line;
use super::{Local, MESSAGE_BYTES_MAX};
use crate::tls::NodeTls;
use crate::{BoxFuture, Message, Peer, Transport, TransportError};

/// The [`Transport`] of real clusters: one connection a peer, opened when it is first needed.
#[derive(Debug)]
pub struct GrpcTransport {
    caller: Arc<Caller>,
    lines: Mutex<HashMap<Whom, Arc<Line>>>,
}

/// A peer by its number and its name: of a node that is being replaced there are two.
type Whom = (u64, String);

/// What all lines share.
#[derive(Debug)]
pub(super) struct Caller {
    /// Empty until the node's store is open.
    pub(super) local: OnceLock<Local>,
    pub(super) tls: Arc<NodeTls>,
    pub(super) tasks: Tasks,
    pub(super) stop: CancellationToken,
    /// The largest body.
    pub(super) most: usize,
    pub(super) hush: Hush,
}

impl GrpcTransport {
    /// Calls with this passport, once it is known as whom: a store tells a node's number and its
    /// cluster, and Raft needs the transport when it opens one. Nothing is connected yet.
    #[must_use]
    pub fn new(tls: Arc<NodeTls>) -> Self {
        Self::with_bound(tls, MESSAGE_BYTES_MAX)
    }

    pub(super) fn with_bound(tls: Arc<NodeTls>, most: usize) -> Self {
        let (local, hush) = (OnceLock::new(), Hush::default());
        let (tasks, stop) = (Tasks::default(), CancellationToken::new());
        let caller = Arc::new(Caller { local, tls, tasks, stop, most, hush });
        Self { caller, lines: Mutex::default() }
    }

    /// Says who this node is. Before that nobody can be reached; the first word counts.
    pub fn introduce(&self, local: Local) {
        let _first = self.caller.local.set(local);
    }

    /// Closes every connection and waits for what runs behind them. Calls then fail.
    pub async fn close(&self) {
        self.caller.stop.cancel();
        self.lines.lock().clear();
        self.caller.tasks.0.close();
        if tokio::time::timeout(CLOSE_MAX, self.caller.tasks.0.wait()).await.is_err() {
            tracing::warn!("connections to peers did not end in time");
        }
    }

    /// The peer's line; a fresh one when its address has changed.
    fn line(&self, peer: &Peer) -> Result<Arc<Line>, TransportError> {
        let mut lines = self.lines.lock();
        let whom = (peer.id, peer.name.clone());
        if let Some(line) = lines.get(&whom)
            && line.peer() == peer
        {
            return Ok(Arc::clone(line));
        }
        if lines.len() >= LINES_MAX {
            lines.retain(|_, line| line.is_open());
        }
        if lines.len() >= LINES_MAX {
            let why = format!("{LINES_MAX} peers are connected already");
            return Err(TransportError::Unreachable { peer: peer.id, why });
        }
        let line = Arc::new(Line::new(peer.clone(), Arc::clone(&self.caller)));
        lines.insert(whom, Arc::clone(&line));
        Ok(line)
    }
}

impl Drop for GrpcTransport {
    fn drop(&mut self) {
        self.caller.stop.cancel();
    }
}

impl Transport for GrpcTransport {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        message: Message,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Message, TransportError>> {
        Box::pin(async move {
            let (bytes, most) = (message.body.len(), self.caller.most);
            if bytes > most {
                return Err(TransportError::Oversized { bytes, most });
            }
            self.line(peer)?.call(message, deadline).await
        })
    }
}

/// Peers that are called at a time. At the bound those without a connection are forgotten, and if
/// that gives no room the call fails.
const LINES_MAX: usize = 1_024;

/// For connections to end when the transport is closed.
const CLOSE_MAX: Duration = Duration::from_secs(5);
