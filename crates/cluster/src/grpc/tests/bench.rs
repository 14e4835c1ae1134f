//! Nodes of one cluster on loopback, with a service that echoes, and what was logged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{Clock as _, NodeName, SystemClock};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::door::Door;
use super::super::{GrpcTransport, Listener, Local, Roster, Standing};
use crate::ca::{Authority, NodeKey};
use crate::tls::{NodeTls, Passport};
use crate::{
    BoxFuture, ClusterId, Message, MessageKind, Peer, PeerName, Refused, Service, Transport as _,
    TransportError,
};

pub(super) const CLUSTER: ClusterId = ClusterId([7; 16]);
pub(super) const SOON: Duration = Duration::from_secs(5);

/// One cluster's authority, and the nodes that listen.
pub(super) struct Bench {
    pub(super) authority: Authority,
    pub(super) log: Log,
    tasks: JoinSet<()>,
    _logging: tracing::subscriber::DefaultGuard,
}

/// A node that listens; it stops when this is dropped.
pub(super) struct Node {
    pub(super) peer: Peer,
    pub(super) echo: Arc<Echo>,
    pub(super) roster: Arc<Names>,
    pub(super) tls: Arc<NodeTls>,
    _stop: DropGuard,
}

impl Bench {
    pub(super) fn new() -> Self {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        let authority = Authority::make(SystemClock::start().now()).expect("made");
        let _logging = tracing::subscriber::set_default(subscriber);
        Self { authority, log, tasks: JoinSet::new(), _logging }
    }

    pub(super) fn passport(&self, name: &str) -> Passport {
        passport(&self.authority, name)
    }

    pub(super) fn tls(&self, name: &str) -> Arc<NodeTls> {
        Arc::new(NodeTls::new(&self.passport(name)).expect("a good passport"))
    }

    /// Calls as this node.
    pub(super) fn transport(&self, name: &str) -> GrpcTransport {
        caller(local(name, 1), self.tls(name))
    }

    pub(super) async fn node(&mut self, name: &str, id: u64) -> Node {
        self.node_at(name, id, "127.0.0.1:0", None).await
    }

    pub(super) async fn node_at(
        &mut self,
        name: &str,
        id: u64,
        address: &str,
        door: Option<Arc<Door>>,
    ) -> Node {
        let socket = TcpListener::bind(address).await.expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        let (tls, stop) = (self.tls(name), CancellationToken::new());
        let (echo, roster) = (Arc::<Echo>::default(), Arc::<Names>::default());
        let (service, names) = (Arc::clone(&echo), Arc::clone(&roster));
        let mut listener = Listener::new(local(name, id), Arc::clone(&tls), service, names);
        if let Some(door) = door {
            listener = listener.with_door(door);
        }
        self.tasks.spawn(listener.serve(socket, stop.clone()));
        let peer = Peer { id, name: name.to_owned(), address };
        Node { peer, echo, roster, tls, _stop: stop.drop_guard() }
    }

    /// Waits for all that listens to end.
    pub(super) async fn ended(&mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.expect("no panic");
        }
    }
}

pub(super) fn passport(authority: &Authority, name: &str) -> Passport {
    let (key, now) = (NodeKey::generate().expect("a key"), SystemClock::start().now());
    Passport::certified(authority, &key, &NodeName::new(name), now).expect("a passport")
}

pub(super) fn caller(local: Local, tls: Arc<NodeTls>) -> GrpcTransport {
    let transport = GrpcTransport::new(tls);
    transport.introduce(local);
    transport
}

pub(super) fn local(name: &str, id: u64) -> Local {
    Local { cluster: CLUSTER, id, name: PeerName::new(name) }
}

pub(super) fn message(kind: MessageKind, body: &str) -> Message {
    Message { kind, version: 3, body: body.to_owned().into() }
}

/// Sends a heartbeat's worth.
pub(super) async fn ping(transport: &GrpcTransport, peer: &Peer) -> Result<String, TransportError> {
    let answer = transport.call(peer, message(MessageKind::Append, "ping"), SOON).await?;
    assert_eq!((answer.kind, answer.version), (MessageKind::Append, 4));
    Ok(String::from_utf8(answer.body.to_vec()).expect("text"))
}

/// Says a few things back, and keeps what it was asked and by whom.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) heard: Mutex<Vec<(String, MessageKind)>>,
    /// Answers that nobody waits for any more.
    pub(super) given_up: Arc<Mutex<u32>>,
}

impl Service for Echo {
    fn answer<'a>(
        &'a self,
        from: &'a PeerName,
        message: Message,
    ) -> BoxFuture<'a, Result<Message, Refused>> {
        self.heard.lock().push((from.to_string(), message.kind));
        Box::pin(async move {
            let Message { kind, version, body } = message;
            let body = match &body[..] {
                b"never" => {
                    let _guard = GivenUp(Arc::clone(&self.given_up));
                    std::future::pending().await
                }
                b"refuse" => return Err(Refused { why: "not the leader".to_owned() }),
                b"large" => vec![0; super::super::MESSAGE_BYTES_MAX + 1].into(),
                b"ping" => format!("pong to {from}").into(),
                _ => body,
            };
            Ok(Message { kind, version: version + 1, body })
        })
    }
}

struct GivenUp(Arc<Mutex<u32>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        *self.0.lock() += 1;
    }
}

/// Everybody is a member who is not named here.
#[derive(Default)]
pub(super) struct Names(pub(super) Mutex<HashMap<PeerName, Standing>>);

impl Roster for Names {
    fn standing(&self, name: &PeerName, _id: u64) -> Standing {
        self.0.lock().get(name).copied().unwrap_or(Standing::Member)
    }
}

/// What this thread logged.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn lines(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock()).lines().map(str::to_owned).collect()
    }

    /// Waits until a line holds all of these.
    pub(super) async fn says(&self, words: &[&str]) {
        let found = || self.lines().iter().any(|line| words.iter().all(|word| line.contains(word)));
        wait_for(found, || format!("{words:?} in {:#?}", self.lines())).await;
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Waits until it is so, and says what was missing if it never is.
pub(super) async fn wait_for(so: impl Fn() -> bool, missing: impl Fn() -> String) {
    let poll = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, poll).await;
    assert!(waited.is_ok(), "not within {SOON:?}: {}", missing());
}

/// A TCP relay that can fall silent, as a partitioned network does.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    pub(super) is_silent: tokio::sync::watch::Sender<bool>,
    pub(super) connections: Arc<Mutex<u32>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(super) async fn to(target: String) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let is_silent = tokio::sync::watch::Sender::new(false);
        let connections = Arc::<Mutex<u32>>::default();
        let (silence, count) = (is_silent.clone(), Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((here, _)) = socket.accept().await {
                *count.lock() += 1;
                let there = tokio::net::TcpStream::connect(&target).await.expect("the target");
                let (mut a, mut b) = (here.into_split(), there.into_split());
                let mut silence = (silence.subscribe(), silence.subscribe());
                pairs.spawn(async move {
                    tokio::join!(
                        forward(&mut a.0, &mut b.1, &mut silence.0),
                        forward(&mut b.0, &mut a.1, &mut silence.1)
                    );
                });
            }
        });
        Self { address, is_silent, connections, _tasks: tasks }
    }
}

async fn forward(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    is_silent: &mut tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // A connection that met the partition once never speaks again.
        if *is_silent.borrow_and_update() {
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _closed = to.shutdown().await;
}
