//! Listening: connections, their bounds, and their orderly end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::tls::DoorTls;

/// Serves a router until told to stop; returns when every connection has ended.
///
/// Requests under way then have ten seconds to end. The peer's address is added to each request as
/// `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<DoorTls>>,
    shutdown: CancellationToken,
) {
    let door = Door {
        router,
        tls,
        tasks: TaskTracker::new(),
        stopping: shutdown,
        // Dropping this future ends the connections too.
        ended: CancellationToken::new(),
    };
    let _end_on_drop = door.ended.clone().drop_guard();
    door.clone().accept_all(listener).await;
    door.tasks.close();
    if timeout(GRACE, door.tasks.wait()).await.is_err() {
        tracing::warn!("requests to the operators' door did not end in time");
        door.ended.cancel();
        door.tasks.wait().await;
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    router: Router,
    tls: Option<Arc<DoorTls>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    ended: CancellationToken,
}

impl Door {
    async fn accept_all(self, listener: TcpListener) {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => return,
                accepted = accept(&listener, &seats) => accepted,
            };
            let Some((stream, peer, seat)) = accepted else { continue };
            let door = self.clone();
            self.tasks.spawn(async move {
                let ended = door.ended.clone();
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = door.shake_hands(stream, peer) => {}
                }
                drop(seat);
            });
        }
    }

    async fn shake_hands(self, stream: TcpStream, peer: SocketAddr) {
        let Some(tls) = &self.tls else {
            return self.converse(stream, peer).await;
        };
        let acceptor = TlsAcceptor::from(tls.current());
        match timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(self.converse(stream, peer)).await,
            Ok(Err(cause)) => tracing::debug!(%peer, %cause, "the TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
        }
    }

    async fn converse<S>(self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        });
        let builder = builder(self.tasks);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Ok(ended),
            () = self.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await
            }
            () = tokio::time::sleep(AGE_MAX) => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await
            }
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => tracing::debug!(%peer, cause, "a connection ended early"),
            Err(_) => tracing::debug!(%peer, "a connection was cut off"),
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
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    builder
}

async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            if let Err(cause) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %cause, "cannot switch Nagle's algorithm off");
            }
            Some((stream, peer, seat))
        }
        Err(cause) => {
            tracing::warn!(%cause, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Connections at once. When full, further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 512;

/// Streams at once on one HTTP/2 connection; the client is told.
const STREAMS_MAX: u32 = 64;

const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long a request's head may take over HTTP/1.1, the wait between requests included.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// How long a connection lasts; then it ends after the request under way, so that idle ones do not
/// hold seats for ever.
const AGE_MAX: Duration = Duration::from_secs(600);

/// How often a silent HTTP/2 connection is asked whether it is there, and how long it may wait.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How long requests under way may take to end once serving stops.
const GRACE: Duration = Duration::from_secs(10);

/// The wait after a failed accept, so that a full file table is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::routing::get;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio_rustls::TlsConnector;
    use tokio_util::sync::CancellationToken;

    use super::{DoorTls, serve};

    async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_door_with_a_certificate_speaks_tls_only() {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let tls = Arc::new(DoorTls::new(Arc::new(server)));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(async || "hello"));
        let serving = serve(listener, router, Some(tls), shutdown.clone());
        let asking = async {
            let plain = ask(TcpStream::connect(address).await.unwrap()).await;
            let name = "localhost".try_into().unwrap();
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
            let secure = ask(stream).await;
            shutdown.cancel();
            (plain, secure)
        };
        let ((), (plain, secure)) = tokio::join!(serving, asking);
        assert!(!plain.contains("hello"), "{plain}");
        assert!(secure.ends_with("hello"), "{secure}");
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_end() {
        let (began, begins) = oneshot::channel();
        let (go, gone) = oneshot::channel::<()>();
        let both = Arc::new(Mutex::new(Some((began, gone))));
        let router = Router::new().route(
            "/",
            get(move |ConnectInfo(peer): ConnectInfo<SocketAddr>| {
                let (began, gone) = both.lock().unwrap().take().unwrap();
                async move {
                    began.send(()).unwrap();
                    gone.await.unwrap();
                    peer.ip().to_string()
                }
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = serve(listener, router, None, shutdown.clone());
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            begins.await.unwrap();
            shutdown.cancel();
            go.send(()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let both = async { tokio::join!(serving, client) };
        let ((), answer) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
