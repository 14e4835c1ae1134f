//! A new connection to an upstream's node: name, TCP, TLS, HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::body::RequestBody;
use crate::resolve::Resolver;
use crate::tls::ClientTls;

/// A node as a connection needs it. Connections to equal endpoints may stand for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    /// The name the server's certificate must be for; `None` without TLS.
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) verify: bool,
    pub(crate) protocols: Protocols,
}

/// Which versions of HTTP an upstream's node may be spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocols {
    /// HTTP/2 or HTTP/1.1 as ALPN agrees, HTTP/1.1 without TLS.
    Any,
    /// HTTP/2 is known beforehand.
    Http2,
    /// WebSocket begins in HTTP/1.1.
    Http1,
}

/// An open connection, ready for requests.
#[derive(Debug)]
pub(crate) enum Channel {
    H1(http1::SendRequest<RequestBody>),
    H2(http2::SendRequest<RequestBody>),
}

/// Why there is no connection. Nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve {host}: {why}")]
    Resolve { host: Arc<str>, why: String },
    #[error("cannot connect to {address}: {cause}")]
    Connect { address: SocketAddr, cause: std::io::Error },
    #[error("{host} is not a name that TLS can ask for")]
    Name { host: Arc<str> },
    #[error("cannot agree on TLS with {address}: {cause}")]
    Tls { address: SocketAddr, cause: std::io::Error },
    #[error("the certificate of {address} is not accepted: {cause}")]
    Untrusted { address: SocketAddr, cause: std::io::Error },
    #[error("cannot speak HTTP with {address}: {cause}")]
    Http { address: SocketAddr, cause: hyper::Error },
    #[error("no connection to {host} within {} ms", deadline.as_millis())]
    Late { host: Arc<str>, deadline: Duration },
}

/// Opens connections for a core.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) resolver: Resolver,
    pub(crate) tls: ClientTls,
    /// Owns the tasks that drive the connections.
    pub(crate) tasks: TaskTracker,
}

impl Connector {
    /// Opens a connection within the deadline: the node's addresses in turn, each with an equal
    /// share of the time that is left.
    pub(crate) async fn open(
        &self,
        endpoint: &Endpoint,
        deadline: Duration,
    ) -> Result<(Channel, SocketAddr), ConnectError> {
        let late = || ConnectError::Late { host: Arc::clone(&endpoint.host), deadline };
        match tokio::time::timeout(deadline, self.open_any(endpoint, deadline)).await {
            Ok(opened) => opened,
            Err(_) => Err(late()),
        }
    }

    async fn open_any(
        &self,
        endpoint: &Endpoint,
        deadline: Duration,
    ) -> Result<(Channel, SocketAddr), ConnectError> {
        let resolved = self.resolver.addresses(&endpoint.host, endpoint.port).await;
        let addresses = resolved
            .map_err(|why| ConnectError::Resolve { host: Arc::clone(&endpoint.host), why })?;
        let share = deadline / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = ConnectError::Late { host: Arc::clone(&endpoint.host), deadline };
        for address in addresses {
            match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small requests must not wait for more bytes; a socket that cannot be told
                    // so still works.
                    let _best_effort = stream.set_nodelay(true);
                    return Ok((self.speak(endpoint, stream, address).await?, address));
                }
                Ok(Err(cause)) => last = ConnectError::Connect { address, cause },
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn speak(
        &self,
        endpoint: &Endpoint,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Channel, ConnectError> {
        let Some(server_name) = &endpoint.server_name else {
            return self.shake_hands(stream, endpoint.protocols == Protocols::Http2, address).await;
        };
        let name = ServerName::try_from(server_name.to_string())
            .map_err(|_| ConnectError::Name { host: Arc::clone(server_name) })?;
        let config = self.tls.config(endpoint.verify, endpoint.protocols);
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|cause| {
            let rustls = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match rustls {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    ConnectError::Untrusted { address, cause }
                }
                _ => ConnectError::Tls { address, cause },
            }
        })?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.shake_hands(stream, is_h2 || endpoint.protocols == Protocols::Http2, address).await
    }

    async fn shake_hands<S>(
        &self,
        stream: S,
        is_h2: bool,
        address: SocketAddr,
    ) -> Result<Channel, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let failed = |cause| ConnectError::Http { address, cause };
        if is_h2 {
            let mut builder = http2::Builder::new(Tasks(self.tasks.clone()));
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(H2_STREAM_BYTES)
                .initial_connection_window_size(H2_CONNECTION_BYTES)
                .max_send_buf_size(H2_SEND_BYTES);
            builder.keep_alive_interval(H2_PING).keep_alive_timeout(H2_PONG);
            builder.keep_alive_while_idle(false);
            let (sender, connection) =
                builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
            self.tasks.spawn(async move {
                if let Err(cause) = connection.await {
                    tracing::debug!(%address, %cause, "upstream connection ended");
                }
            });
            return Ok(Channel::H2(sender));
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(H1_BUFFER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
        self.tasks.spawn(async move {
            if let Err(cause) = connection.with_upgrades().await {
                tracing::debug!(%address, %cause, "upstream connection ended");
            }
        });
        Ok(Channel::H1(sender))
    }
}

/// Runs hyper's tasks on a core, counted by its tracker.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

/// Bytes buffered for an HTTP/1.1 upstream; a sender that fills them waits.
const H1_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes buffered for one stream of an HTTP/2 upstream; a sender that fills them waits.
const H2_SEND_BYTES: usize = 256 * 1024;

/// Bytes of one answer that wait for a client that does not read.
const H2_STREAM_BYTES: u32 = 256 * 1024;

/// The same for all the streams of a connection: each may wait without holding up the others
/// (an adaptive window is one for both, so a single unread answer would stop the connection).
const H2_CONNECTION_BYTES: u32 = 100 * H2_STREAM_BYTES;

/// How often a busy HTTP/2 connection is asked whether its other end still lives.
const H2_PING: Duration = Duration::from_secs(20);

/// How long the other end may take to say so.
const H2_PONG: Duration = Duration::from_secs(5);
