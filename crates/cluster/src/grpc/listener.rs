//! Takes connections of peers and of new nodes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as Tower;
use wire::cluster::door_server::DoorServer;
use wire::cluster::peer_server::PeerServer;

use super::connect::{CONNECTION_WINDOW, HEADERS_BYTES_MAX, STREAM_WINDOW, Tasks, told};
use super::door::{Door, Visit};
use super::hush::Hush;
use super::session::{Office, Session};
use super::{ENVELOPE_BYTES_MAX, Local, MESSAGE_BYTES_MAX, Roster};
use crate::Service;
use crate::tls::{DOOR, NodeTls};

/// A node's cluster listener.
pub struct Listener {
    tls: Arc<NodeTls>,
    office: Arc<Office>,
    door: Option<Arc<Door>>,
    /// Each has its own seats, so that strangers cannot take the places of peers.
    handshakes: Arc<Semaphore>,
    visits: Arc<Semaphore>,
    peers: Arc<Semaphore>,
    tasks: Tasks,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("local", &self.office.local).finish_non_exhaustive()
    }
}

impl Listener {
    /// Answers as this node, with this passport; nobody is let in before [`Listener::with_door`].
    #[must_use]
    pub fn new(
        local: Local,
        tls: Arc<NodeTls>,
        service: Arc<dyn Service>,
        roster: Arc<dyn Roster>,
    ) -> Self {
        let (hush, most) = (Hush::default(), MESSAGE_BYTES_MAX);
        Self {
            tls,
            office: Arc::new(Office { local, service, roster, hush, most }),
            door: None,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            visits: Arc::new(Semaphore::new(VISITS_MAX)),
            peers: Arc::new(Semaphore::new(PEERS_MAX)),
            tasks: Tasks::default(),
        }
    }

    /// Lets nodes in that show a token.
    #[must_use]
    pub fn with_door(mut self, door: Arc<Door>) -> Self {
        self.door = Some(door);
        self
    }

    /// Serves until it is told to stop; calls under way are then finished, for a while.
    pub async fn serve(self, socket: TcpListener, stop: CancellationToken) {
        let listener = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, client)) => listener.take(stream, client, &stop),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of a peer");
                    // Out of file descriptors, most likely.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(socket);
        listener.tasks.0.close();
        if tokio::time::timeout(STOP_MAX, listener.tasks.0.wait()).await.is_err() {
            tracing::warn!("connections of peers did not end in time");
        }
    }

    fn take(self: &Arc<Self>, stream: TcpStream, client: SocketAddr, stop: &CancellationToken) {
        let Ok(seat) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            self.say(client, "too many handshakes at once");
            return;
        };
        // Best effort: without it small answers wait for a delayed acknowledgement.
        let _best_effort = stream.set_nodelay(true);
        let (listener, stop) = (Arc::clone(self), stop.clone());
        self.tasks.0.spawn(async move {
            let shaken = tokio::select! {
                shaken = tokio::time::timeout(HANDSHAKE_MAX, listener.shake(stream)) => shaken,
                () = stop.cancelled() => return,
            };
            drop(seat);
            match shaken.unwrap_or_else(|_| Err("TLS took too long".to_owned())) {
                Ok(stream) => Box::pin(listener.welcome(stream, client, stop)).await,
                Err(why) => listener.say(client, &why),
            }
        });
    }

    async fn shake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
        let hello = hello.await.map_err(|cause| format!("TLS: {}", told(&cause)))?;
        let is_new = hello.client_hello().alpn().is_some_and(|mut all| all.any(|one| one == DOOR));
        let config =
            if is_new && self.door.is_some() { self.tls.door() } else { self.tls.server() };
        hello.into_stream(config).await.map_err(|cause| format!("TLS: {}", told(&cause)))
    }

    /// A connection that TLS has let through: of a peer if it has shown a certificate.
    async fn welcome(
        &self,
        stream: TlsStream<TcpStream>,
        client: SocketAddr,
        stop: CancellationToken,
    ) {
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let Some(certificate) = shown.map(|certificate| certificate.clone().into_owned()) else {
            return self.show_door(stream, client, stop).await;
        };
        let Ok(_seat) = self.peers.try_acquire() else {
            return self.say(client, "too many connections of peers");
        };
        let (office, proved) = (Arc::clone(&self.office), OnceLock::new());
        let most = office.most + ENVELOPE_BYTES_MAX;
        let service = PeerServer::new(Session { office, certificate, client, proved })
            .max_decoding_message_size(most)
            .max_encoding_message_size(most);
        self.converse(stream, client, service, stop).await;
    }

    /// A connection of a node that has no certificate yet.
    async fn show_door(
        &self,
        stream: TlsStream<TcpStream>,
        client: SocketAddr,
        stop: CancellationToken,
    ) {
        let Some(door) = self.door.clone() else { return };
        let Ok(_seat) = self.visits.try_acquire() else {
            return self.say(client, "too many new nodes at once");
        };
        let service =
            DoorServer::new(Visit { door, client }).max_decoding_message_size(REQUEST_BYTES_MAX);
        let visit = self.converse(stream, client, service, stop);
        if tokio::time::timeout(VISIT_MAX, visit).await.is_err() {
            self.say(client, "a new node stayed too long");
        }
    }

    async fn converse<S>(
        &self,
        stream: TlsStream<TcpStream>,
        client: SocketAddr,
        service: S,
        stop: CancellationToken,
    ) where
        S: Tower<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + 'static,
        S::Future: Send,
    {
        let office = Arc::clone(&self.office);
        let service = service_fn(move |request: Request<Incoming>| {
            let answered = service.clone().call(request);
            let office = Arc::clone(&office);
            async move {
                let answer = answered.await?;
                if let Some(why) = failure(&answer) {
                    say(&office.hush, client, &why);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = http2::Builder::new(self.tasks.clone());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%client, error = told(&error), "connection of a peer ended");
        }
    }

    fn say(&self, client: SocketAddr, why: &str) {
        say(&self.office.hush, client, why);
    }
}

fn say(hush: &Hush, client: SocketAddr, why: &str) {
    if hush.may_say(&client.ip().to_string(), why) {
        tracing::warn!(%client, why, "connection of a peer refused");
    }
}

/// What gRPC itself refused before a service saw it: a message over the bound, most likely.
fn failure(answer: &Response<Body>) -> Option<String> {
    let status = tonic::Status::from_header_map(answer.headers())?;
    (status.code() != tonic::Code::Ok).then(|| status.message().to_owned())
}

/// Handshakes at a time; a further connection is closed at once, and a peer tries again.
const HANDSHAKES_MAX: usize = 64;

/// New nodes at a time; a further one is closed at once.
const VISITS_MAX: usize = 16;

/// Connections of peers at a time; a further one is closed at once.
const PEERS_MAX: usize = 1_024;

/// Calls of one peer at a time; further ones wait at the peer.
const STREAMS_MAX: u32 = 64;

const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// From a new node's handshake to the end of its connection.
const VISIT_MAX: Duration = Duration::from_secs(60);

/// What a new node says is a token, two names and a key; a longer request is refused.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How long an idle connection goes unasked, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// When connections cannot be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For the calls under way when the listener stops.
const STOP_MAX: Duration = Duration::from_secs(5);
