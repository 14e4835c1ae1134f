//! The line to one peer: a connection that is opened when it is needed and replaced when it fails.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Code;
use wire::cluster::peer_client::PeerClient;
use wire::cluster::refusal::Reason;
use wire::cluster::{Answer, Envelope, Greeting, Refusal, answer, greeting_answer};

use super::connect::{Sender, Way, connect, origin, told};
use super::transport::Caller;
use super::{ENVELOPE_BYTES_MAX, Local, PROTOCOL, PROTOCOL_MIN, kind};
use crate::ca::server_name;
use crate::{Message, Peer, TransportError};

/// The line to one peer at one address.
#[derive(Debug)]
pub(super) struct Line {
    peer: Peer,
    caller: Arc<Caller>,
    stage: watch::Sender<Stage>,
    is_failing: AtomicBool,
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    /// A task is at it; see [`Opening`].
    Opening,
    Open(Arc<Connection>),
    Failed {
        at: Instant,
        why: TransportError,
    },
}

#[derive(Debug)]
struct Connection {
    /// As whom it was opened.
    local: Local,
    sender: Sender,
    client: PeerClient<Sender>,
    /// The version that both sides speak.
    protocol: u32,
    /// When the peer last answered.
    heard: Mutex<Instant>,
}

impl Line {
    pub(super) fn new(peer: Peer, caller: Arc<Caller>) -> Self {
        let (stage, is_failing) = (watch::Sender::new(Stage::Idle), AtomicBool::new(false));
        Self { peer, caller, stage, is_failing }
    }

    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(&*self.stage.borrow(), Stage::Open(_) | Stage::Opening)
    }

    /// Sends a message, over a connection that is opened first if there is none.
    pub(super) async fn call(
        self: &Arc<Self>,
        message: Message,
        deadline: Duration,
    ) -> Result<Message, TransportError> {
        let until = Instant::now() + deadline;
        let peer = self.peer.id;
        let opened = timeout_at(until, self.connection()).await;
        let connection = opened.unwrap_or_else(|_| {
            let why = format!("no connection within {} ms", deadline.as_millis());
            Err(TransportError::Unreachable { peer, why })
        })?;
        let envelope = self.envelope(&connection, message, until.duration_since(Instant::now()));
        let mut client = connection.client.clone();
        match timeout_at(until, client.call(envelope)).await {
            Ok(Ok(answer)) => {
                *connection.heard.lock() = Instant::now();
                let answered = self.read(answer.into_inner());
                if answered.is_ok() {
                    self.say(None);
                }
                answered
            }
            Ok(Err(status)) => {
                // A peer that answers at all keeps its connection.
                if status.source().is_some() || status.code() == Code::Unknown {
                    self.discard(&connection);
                }
                let failed = self.failed(&status);
                self.say(Some(&failed));
                Err(failed)
            }
            Err(_) => {
                // After a partition TCP may sleep for long before it tries again.
                if connection.heard.lock().elapsed() > QUIET_MAX {
                    self.discard(&connection);
                }
                Err(TransportError::Late { peer, after: deadline })
            }
        }
    }

    fn envelope(&self, connection: &Connection, message: Message, left: Duration) -> Envelope {
        let Connection { local, protocol, .. } = connection;
        Envelope {
            cluster: local.cluster.0.to_vec().into(),
            protocol: *protocol,
            from: local.name.to_string(),
            from_id: local.id,
            to: self.peer.id,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            kind: kind::to_wire(message.kind).into(),
            version: message.version,
            body: message.body,
        }
    }

    fn read(&self, answer: Answer) -> Result<Message, TransportError> {
        let peer = self.peer.id;
        match answer.answer {
            Some(answer::Answer::Reply(reply)) => {
                let why =
                    || format!("the answer is of kind {}, which this release lacks", reply.kind);
                kind::from_wire(reply.kind, reply.version, reply.body.clone())
                    .ok_or_else(|| TransportError::Broken { peer, why: why() })
            }
            Some(answer::Answer::Refusal(refusal)) => Err(self.refused(refusal)),
            None => Err(TransportError::Broken { peer, why: "the answer is empty".to_owned() }),
        }
    }

    fn refused(&self, refusal: Refusal) -> TransportError {
        let (peer, reason, why) = (self.peer.id, refusal.reason(), refusal.why);
        let refused = TransportError::Refused { peer, why: why.clone() };
        match reason {
            // The service's own matter, told to whoever asked.
            Reason::Unspecified => refused,
            Reason::Unanswered => TransportError::Broken { peer, why },
            Reason::Left => {
                let left = TransportError::Left { peer, why };
                self.say(Some(&left));
                left
            }
            Reason::Cluster
            | Reason::Name
            | Reason::Unknown
            | Reason::OtherNode
            | Reason::Newer
            | Reason::Token => {
                self.say(Some(&refused));
                refused
            }
        }
    }

    fn failed(&self, status: &tonic::Status) -> TransportError {
        let peer = self.peer.id;
        let why = status.source().map_or_else(|| status.message().to_owned(), told);
        match status.code() {
            // A release that lacks this service.
            Code::Unimplemented => TransportError::Refused { peer, why },
            // Among them: one side's bound on a message, where the side is not told.
            _ => TransportError::Broken { peer, why },
        }
    }

    /// The open connection, or the one that is being opened, or a new one.
    async fn connection(self: &Arc<Self>) -> Result<Arc<Connection>, TransportError> {
        let mut stages = self.stage.subscribe();
        loop {
            let must_open = self.stage.send_if_modified(|stage| {
                let must_open = stage.must_open();
                if must_open {
                    *stage = Stage::Opening;
                }
                must_open
            });
            if must_open {
                // A task of its own: it outlives a caller with a short deadline, for the next.
                let opening = Opening(Arc::clone(self));
                self.caller.tasks.0.spawn(async move { opening.0.open().await });
            }
            let settled = stages.wait_for(|stage| !matches!(stage, Stage::Opening)).await;
            match settled.map(|stage| stage.clone()) {
                Ok(Stage::Open(connection)) => return Ok(connection),
                Ok(Stage::Failed { why, .. }) => return Err(why),
                // Another caller has just given that connection up.
                Ok(Stage::Idle | Stage::Opening) => {}
                Err(_) => return Err(self.unreachable("this node is stopping")),
            }
        }
    }

    async fn open(&self) {
        let opened = tokio::select! {
            biased;
            () = self.caller.stop.cancelled() => Ok(Err(self.unreachable("this node is stopping"))),
            opened = timeout(OPEN_MAX, self.greeted()) => opened,
        };
        let late =
            |_| Err(self.unreachable(&format!("no connection within {} s", OPEN_MAX.as_secs())));
        let stage = match opened.unwrap_or_else(late) {
            Ok(connection) => {
                self.say(None);
                Stage::Open(Arc::new(connection))
            }
            Err(why) => {
                self.say(Some(&why));
                Stage::Failed { at: Instant::now(), why }
            }
        };
        self.stage.send_replace(stage);
    }

    /// Opens a connection and agrees with the peer on a version.
    async fn greeted(&self) -> Result<Connection, TransportError> {
        let Peer { id: peer, name, address } = &self.peer;
        let local = self.caller.local.get().cloned();
        let local = local.ok_or_else(|| self.unreachable("this node's store is not open yet"))?;
        let server = server_name(name).map_err(|cause| self.unreachable(&cause.to_string()))?;
        let way = Way { address, name: server, tls: self.caller.tls.client() };
        let sender =
            connect(way, &self.caller.tasks).await.map_err(|why| self.unreachable(&why))?;
        let most = self.caller.most + ENVELOPE_BYTES_MAX;
        let mut client = PeerClient::with_origin(sender.clone(), origin())
            .max_decoding_message_size(most)
            .max_encoding_message_size(most);
        let answer = client.hello(self.greeting(&local)).await.map_err(|status| {
            self.unreachable(&status.source().map_or_else(|| status.message().to_owned(), told))
        })?;
        let theirs = match answer.into_inner().answer {
            Some(greeting_answer::Answer::Greeting(theirs)) => theirs,
            Some(greeting_answer::Answer::Refusal(refusal)) => return Err(self.refused(refusal)),
            None => return Err(self.unreachable("it did not greet")),
        };
        if theirs.cluster[..] != local.cluster.0[..] {
            return Err(self.unreachable("it is of another cluster"));
        }
        if theirs.protocol_min > PROTOCOL {
            let (found, known) = (theirs.protocol_min, PROTOCOL);
            return Err(TransportError::Newer { peer: *peer, found, known });
        }
        let protocol = theirs.protocol_max.min(PROTOCOL);
        if protocol < PROTOCOL_MIN {
            let why = format!("it speaks versions up to {protocol}, we from {PROTOCOL_MIN} on");
            return Err(self.unreachable(&why));
        }
        tracing::debug!(peer = %name, release = %theirs.release, protocol, "peer connected");
        Ok(Connection { local, sender, client, protocol, heard: Mutex::new(Instant::now()) })
    }

    fn greeting(&self, local: &Local) -> Greeting {
        Greeting {
            cluster: local.cluster.0.to_vec().into(),
            from: local.name.to_string(),
            from_id: local.id,
            to: self.peer.id,
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Opens another connection for the next call; calls under way keep this one.
    fn discard(&self, connection: &Arc<Connection>) {
        self.stage.send_if_modified(|stage| {
            let is_it = matches!(stage, Stage::Open(open) if Arc::ptr_eq(open, connection));
            if is_it {
                *stage = Stage::Idle;
            }
            is_it
        });
    }

    fn unreachable(&self, why: &str) -> TransportError {
        TransportError::Unreachable { peer: self.peer.id, why: why.to_owned() }
    }

    /// Logs a failure, and the end of failures; each at most once a minute.
    fn say(&self, failure: Option<&TransportError>) {
        let (name, address) = (&self.peer.name, &self.peer.address);
        let was_failing = self.is_failing.swap(failure.is_some(), Ordering::Relaxed);
        let hush = &self.caller.hush;
        match failure.map(ToString::to_string) {
            Some(error) if hush.may_say(name, &error) => {
                tracing::warn!(peer = %name, %address, %error, "peer cannot be spoken to");
            }
            None if was_failing && hush.may_say(name, "") => {
                tracing::info!(peer = %name, %address, "peer can be spoken to again");
            }
            Some(_) | None => {}
        }
    }
}

/// Whoever opens a line. It leaves that stage behind it, also when it ends by a defect.
struct Opening(Arc<Line>);

impl Drop for Opening {
    fn drop(&mut self) {
        let why = self.0.unreachable("opening it was broken off");
        self.0.stage.send_if_modified(|stage| {
            let is_left = matches!(stage, Stage::Opening);
            if is_left {
                *stage = Stage::Failed { at: Instant::now(), why };
            }
            is_left
        });
    }
}

impl Stage {
    fn must_open(&self) -> bool {
        match self {
            Self::Idle => true,
            Self::Opening => false,
            Self::Open(connection) => connection.sender.is_closed(),
            Self::Failed { at, .. } => at.elapsed() >= PAUSE,
        }
    }
}

/// For TCP, TLS, HTTP/2 and the greeting. An attempt that a partition caught is in the way of the
/// next for so long.
const OPEN_MAX: Duration = Duration::from_secs(2);

/// After a failure: calls fail at once with the same words, so that heartbeats to a node that
/// refuses us do not cost it ten handshakes a second.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection on which a call was late, and that has been silent for so long, is given up.
const QUIET_MAX: Duration = Duration::from_secs(1);
