//! Opens one HTTP/2 connection over TLS, and lets generated clients speak on it.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;

/// Where a connection leads to, and what has to be shown there.
pub(super) struct Way<'a> {
    /// `host:port`.
    pub(super) address: &'a str,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
}

/// Connects; the error is for people. What drives the connection runs among the tasks and ends
/// with the last clone of the sender.
pub(super) async fn connect(way: Way<'_>, tasks: &Tasks) -> Result<Sender, String> {
    let stream = TcpStream::connect(way.address).await.map_err(|cause| told(&cause))?;
    // Best effort: without it small messages wait for a delayed acknowledgement.
    let _best_effort = stream.set_nodelay(true);
    let stream = TlsConnector::from(way.tls)
        .connect(way.name, stream)
        .await
        .map_err(|cause| format!("TLS: {}", told(&cause)))?;
    let (sender, driver) = http2::Builder::new(tasks.clone())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|cause| told(&cause))?;
    tasks.0.spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = told(&error), "connection to a peer ended");
        }
    });
    Ok(Sender(sender))
}

/// Says an error with its causes, each once.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// Runs what hyper spawns where its owner can wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(pub(super) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Sends requests on one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sender(SendRequest<Body>);

impl Sender {
    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Service<Request<Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What stands in `:authority`; which node is meant, TLS has settled.
pub(super) fn origin() -> Uri {
    Uri::from_static("https://node.tollgate")
}

/// How long a connection goes unasked, and how long the answer may take: on a slow network it
/// stands behind a window full of data. That a peer is silent, a line notices sooner by itself.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);

/// What may be under way without an acknowledgement: a few milliseconds of a fast network.
pub(super) const STREAM_WINDOW: u32 = 2 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 4 << 20;

/// Longer headers are refused; ours have a few hundred bytes.
pub(super) const HEADERS_BYTES_MAX: u32 = 16 << 10;
