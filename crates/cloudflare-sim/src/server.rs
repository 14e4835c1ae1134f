//! Listening, connections, and their orderly end.
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desk::Desk;
use crate::options::{Options, Tls};
use crate::wire::{Line, Wire};

/// Why a stand-in did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its control paths need no credential, so it listens to its own machine only.
    #[error("cannot listen on {0}: not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address is taken, or may not be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The certificate chain or the key is no PEM.
    #[error("cannot read the certificate chain or its key")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The chain and the key do not go together.
    #[error("cannot serve with this certificate")]
    Certificate(#[source] rustls::Error),
}

/// The listening side: owns the accept loop and every connection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Ends what did not end by itself.
    ended: CancellationToken,
}

impl Server {
    pub(crate) async fn start(options: &Options, desk: Arc<Desk>) -> Result<Self, Error> {
        let wanted = options.listen;
        if !wanted.ip().is_loopback() {
            return Err(Error::NotLoopback(wanted));
        }
        let acceptor = options.tls.as_ref().map(acceptor).transpose()?;
        let unusable = |cause| Error::Listen { address: wanted, cause };
        let listener = TcpListener::bind(wanted).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let tasks = TaskTracker::new();
        let server = Self {
            address,
            tasks,
            stopping: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let door = Door {
            desk,
            acceptor,
            tasks: server.tasks.clone(),
            stopping: server.stopping.clone(),
            ended: server.ended.clone(),
        };
        server.tasks.spawn(door.keep(listener));
        Ok(server)
    }

    /// Takes no more connections, lets requests under way end within [`GRACE`], and returns when
    /// every task has ended.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        if timeout(GRACE, self.tasks.wait()).await.is_err() {
            self.ended.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    desk: Arc<Desk>,
    acceptor: Option<TlsAcceptor>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
}

impl Door {
    async fn keep(self, listener: TcpListener) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut number = 0;
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => return,
                () = self.ended.cancelled() => return,
                accepted = accept(&listener, &seats) => accepted,
            };
            let Some((stream, peer, seat)) = accepted else { continue };
            number += 1;
            let line = Line::new(peer, number);
            let connection = self.clone().carry(stream, line);
            self.tasks.spawn(async move {
                connection.await;
                drop(seat);
            });
        }
    }

    async fn carry(self, stream: TcpStream, line: Line) {
        let ended = self.ended.clone();
        let closed = line.clone();
        tokio::select! {
            () = ended.cancelled() => {}
            () = closed.closed() => {}
            () = self.shake_hands(stream, line) => {}
        }
    }

    async fn shake_hands(self, stream: TcpStream, line: Line) {
        let Some(acceptor) = self.acceptor.clone() else {
            return self.converse(Wire::new(stream, line.clone()), line).await;
        };
        match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(Wire::new(stream, line.clone()), line).await,
            Ok(Err(error)) => tracing::debug!(peer = %line.peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(peer = %line.peer, "TLS handshake took too long"),
        }
    }

    async fn converse<S>(self, wire: Wire<S>, line: Line)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = line.peer;
        let desk = self.desk;
        let service = service_fn(move |request: Request<Incoming>| {
            let (desk, line) = (Arc::clone(&desk), line.clone());
            async move { desk.serve(request, line).await }
        });
        let builder = builder(self.tasks);
        let connection = builder.serve_connection(TokioIo::new(wire), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
}

/// Spawns what hyper needs for HTTP/2 where it is waited for.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

fn builder(tasks: TaskTracker) -> Builder<Owned> {
    let mut builder = Builder::new(Owned(tasks));
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    builder
}

async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, impl Drop + use<>)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "cannot switch Nagle's algorithm off");
            }
            Some((stream, peer, seat))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, Error> {
    let chain = CertificateDer::pem_slice_iter(tls.chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::Pem)?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(Error::Pem)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(Error::Certificate)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connections at once. When full, further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 4_096;

/// Streams at once on one HTTP/2 connection; the client is told.
const STREAMS_MAX: u32 = 1_024;

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long a request's head may take over HTTP/1.1, the wait for its first byte included.
const HEAD_MAX: Duration = Duration::from_secs(300);

/// How long requests under way may take to end when the stand-in stops.
const GRACE: Duration = Duration::from_secs(2);

/// The wait after a failed accept, so that a full file table is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
