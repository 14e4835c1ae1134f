//! Origin servers over TLS that speak HTTP/2 or HTTP/1.1, and certificates for them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use super::ANY;

/// A certificate that signs itself, with its key; both as PEM.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Certificate {
    /// For these names, which may be addresses.
    pub(crate) fn of(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// Writes both into a directory, over what is there.
    pub(crate) fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        std::fs::write(&cert, &self.cert).expect("the certificate is written");
        std::fs::write(&key, &self.key).expect("the key is written");
        (cert, key)
    }

    /// As others see it.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate")
    }

    /// What a server needs to show it and to speak one of these protocols (`h2`, `http/1.1`).
    pub(crate) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(vec![self.der()], key).expect("a pair");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// What [`Secure`] answers with.
pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// An answer with a whole body.
pub(crate) fn whole(text: impl Into<Bytes>) -> Answer {
    Response::new(BoxBody::new(Full::new(text.into())))
}

/// A body whose pieces come from elsewhere.
#[derive(Debug)]
pub(crate) struct Pieces(mpsc::Receiver<Frame<Bytes>>);

impl Pieces {
    /// The body and where its pieces are put in. At 4 pieces that nobody took the sender waits.
    pub(crate) fn new() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(4);
        (sender, Self(receiver))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

/// An origin over TLS. Stops when it is dropped.
pub(crate) struct Secure {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    leaving: Arc<Notify>,
    /// Runs it; `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Secure {
    /// Speaks the first of the protocols (`h2`, `http/1.1`) that the other end takes too.
    pub(crate) fn start<F, A>(certificate: &Certificate, protocols: &[&str], serve: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind(ANY)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let leaving = Arc::new(Notify::new());
        let (count, acceptor) =
            (Arc::clone(&accepted), TlsAcceptor::from(certificate.server(protocols)));
        let leave = Arc::clone(&leaving);
        runtime.spawn(async move {
            let tasks = TaskTracker::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).expect("an option");
                let (acceptor, serve, leave) = (acceptor.clone(), serve.clone(), leave.clone());
                tasks.spawn(async move {
                    // A client that does not trust the certificate goes away here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    converse(stream, serve, &leave).await;
                });
            }
        });
        Self { address, accepted, leaving, runtime: Some(runtime) }
    }

    /// Ends the connections that are open in order: they finish what they carry.
    pub(crate) fn leave(&self) {
        self.leaving.notify_waiters();
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// `host:port`.
    pub(crate) fn node(&self) -> String {
        self.address.to_string()
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn converse<F, A>(stream: TlsStream<TcpStream>, serve: F, leave: &Notify)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = serve(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = leave.notified() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime of one thread beside the caller's.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}
