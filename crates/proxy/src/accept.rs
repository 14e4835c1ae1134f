//! A core's listeners: connections in, each with its deadlines, all of them bounded.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::connect::Tasks;
use crate::core::{Core, Counted};
use crate::park::{Line, PARK_AFTER, Prefixed};
use crate::pipeline;
use crate::tls::ServerTls;
use crate::trip::Peer;
use crate::tunnel::Tunnel;

/// How a listener's connections begin.
#[derive(Clone)]
pub(crate) enum Door {
    Plain,
    Tls(Arc<ServerTls>),
}

/// When connections must end.
#[derive(Clone)]
pub(crate) struct Closing {
    /// No further connection is taken.
    pub(crate) leaving: CancellationToken,
    /// Connections finish the request they carry and close.
    pub(crate) closing: CancellationToken,
}

/// Takes connections until the node leaves, and then those that had already arrived.
pub(crate) async fn listen(core: Arc<Core>, listener: TcpListener, door: Door, closing: Closing) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.leaving.cancelled() => break,
        };
        match accepted {
            Ok((stream, client)) => take(&core, stream, client, &door, &closing),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: the queue keeps the others meanwhile.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let arrived = async {
        while let Ok((stream, client)) = listener.accept().await {
            take(&core, stream, client, &door, &closing);
        }
    };
    // A connection whose handshake the system has finished must not be reset.
    let _emptied = tokio::time::timeout(LAST_CALL, arrived).await;
}

fn take(core: &Arc<Core>, stream: TcpStream, client: SocketAddr, door: &Door, closing: &Closing) {
    let metrics = &core.shared.metrics;
    if metrics.connections.get() >= CONNECTIONS_MAX {
        metrics.connections_refused.inc();
        return;
    }
    let open = Counted::new(&metrics.connections);
    let Ok(server) = stream.local_addr() else { return };
    // Best effort: without it small answers wait for a delayed acknowledgement.
    let _best_effort = stream.set_nodelay(true);
    let (core, closing, door) = (Arc::clone(core), closing.clone(), door.clone());
    let tasks = core.tasks.clone();
    match door {
        Door::Plain => {
            let peer = Peer { client, server, scheme: Scheme::Http };
            tasks.spawn(async move {
                let _open = open;
                serve_plain(core, stream, peer, closing).await;
            });
        }
        Door::Tls(tls) => {
            let peer = Peer { client, server, scheme: Scheme::Https };
            tasks.spawn(async move {
                let _open = open;
                serve_tls(core, (stream, tls), peer, closing).await;
            });
        }
    }
}

async fn serve_tls(
    core: Arc<Core>,
    (stream, tls): (TcpStream, Arc<ServerTls>),
    peer: Peer,
    closing: Closing,
) {
    let acceptor = TlsAcceptor::from(tls.current());
    let shaken = Box::pin(tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream))).await;
    match shaken {
        Ok(Ok(stream)) => {
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = Prefixed::new(Bytes::new(), Box::new(stream));
            if is_h2 {
                Box::pin(serve_h2(core, stream, peer, closing)).await;
            } else {
                serve_h1(core, stream, peer, closing).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(client = %peer.client, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(client = %peer.client, "TLS handshake took too long"),
    }
}

/// In clear text HTTP/2 is spoken with prior knowledge (RFC 9113 §3.3): its preface tells.
async fn serve_plain(core: Arc<Core>, stream: TcpStream, peer: Peer, closing: Closing) {
    let stream = Prefixed::new(Bytes::new(), stream);
    let begun = tokio::select! {
        begun = stream.begin(H2_PREFACE, HEAD_MAX) => begun,
        () = closing.closing.cancelled() => return,
    };
    let Some((is_h2, stream)) = begun else { return };
    if is_h2 {
        Box::pin(serve_h2(core, stream, peer, closing)).await;
    } else {
        serve_h1(core, stream, peer, closing).await;
    }
}

/// What follows when a connection has stopped speaking HTTP.
enum Next<S> {
    /// It has been idle, and waits without its buffers.
    Park(Prefixed<S>),
    Tunnel(Box<Tunnel>, Prefixed<S>),
    End,
}

/// Serves HTTP/1.1. What is large is boxed and dropped while the connection idles.
async fn serve_h1<S>(core: Arc<Core>, stream: Prefixed<S>, peer: Peer, closing: Closing)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = stream;
    loop {
        match Box::pin(converse(&core, stream, peer, &closing)).await {
            Next::Park(parked) => {
                let _parked = Counted::new(&core.shared.metrics.connections_parked);
                let woken = tokio::select! {
                    woken = parked.begin(&[], HEAD_MAX) => woken,
                    () = closing.closing.cancelled() => return,
                };
                let Some((_, woken)) = woken else { return };
                stream = woken;
            }
            Next::Tunnel(tunnel, client) => return Box::pin(tunnel.run(client)).await,
            Next::End => return,
        }
    }
}

/// Serves requests until the connection ends or has been idle for a while.
async fn converse<S>(
    core: &Arc<Core>,
    stream: Prefixed<S>,
    peer: Peer,
    closing: &Closing,
) -> Next<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let line = Arc::<Line>::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let underway = line.begin();
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(Arc::clone(&line));
        }
        pipeline::serve(core, peer, request, underway)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(BUFFER_BYTES);
    builder.half_close(false);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut is_parking = false;
    let mut is_closing = false;
    let mut rest = None;
    let ended = loop {
        let talk = poll_fn(|cx| connection.poll_without_shutdown(cx));
        tokio::select! {
            biased;
            ended = talk => break ended,
            () = closing.closing.cancelled(), if !is_closing => {
                is_closing = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = tokio::time::sleep(PARK_AFTER), if !is_parking && !is_closing => {
                let now = line.rest();
                is_parking = now.is_some() && now == rest;
                if is_parking {
                    Pin::new(&mut connection).graceful_shutdown();
                }
                rest = now;
            }
        }
    };
    if let Err(error) = ended {
        note_end(core, peer, &error);
        return Next::End;
    }
    let Parts { io, read_buf, .. } = connection.into_parts();
    let mut stream = io.into_inner().put_back(&read_buf);
    if let Some(tunnel) = line.tunnel() {
        return Next::Tunnel(Box::new(tunnel), stream);
    }
    // A request that began after all was told that the connection closes.
    if is_parking && !is_closing && line.rest() == rest {
        return Next::Park(stream);
    }
    // A client that does not read on cannot hold the connection open.
    let _said = tokio::time::timeout(HANDSHAKE_MAX, stream.shutdown()).await;
    Next::End
}

async fn serve_h2<S>(core: Arc<Core>, stream: S, peer: Peer, closing: Closing)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tasks = Tasks(core.tasks.clone());
    let line = Arc::<Line>::default();
    let service = service_fn(|request: Request<Incoming>| {
        let underway = line.begin_stream();
        pipeline::serve(&core, peer, request, underway)
    });
    let mut builder = http2::Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(H2_STREAM_BYTES)
        .initial_connection_window_size(H2_CONNECTION_BYTES)
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_send_buf_size(BUFFER_BYTES)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let (mut is_told, mut rest) = (false, None);
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = closing.leaving.cancelled(), if !is_told => {
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(H2_LOOK) => {
                let now = line.rest();
                let is_idle = now.is_some() && now == rest;
                rest = now;
                if !is_idle && !line.is_unread() {
                    continue;
                }
                if is_told {
                    // It was asked to leave, and neither reads nor goes.
                    break Ok(());
                }
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        note_end(&core, peer, &error);
    }
}

/// Notes how a connection broke off. What the HTTP library refuses never becomes a request, so it
/// is counted and logged here.
fn note_end(core: &Core, peer: Peer, error: &hyper::Error) {
    if error.is_parse() {
        core.shared.metrics.malformed.inc();
        tracing::info!(client = %peer.client, %error, "a request that is none was refused");
    } else {
        tracing::debug!(client = %peer.client, %error, "client connection ended");
    }
}

/// Client connections a node holds; one more is closed at once and counted.
const CONNECTIONS_MAX: i64 = 50_000;

/// For a request's head, and for the pause before the next on a connection.
const HEAD_MAX: Duration = Duration::from_secs(60);

/// For a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// After the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections that had arrived before the node left are still taken.
const LAST_CALL: Duration = Duration::from_millis(100);

/// Bytes buffered a connection or stream; the head must fit.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of an HTTP/2 request's head.
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Requests under way at once on one HTTP/2 connection.
const H2_STREAMS_MAX: u32 = 256;

/// Bytes of one request that wait for an upstream that does not read.
const H2_STREAM_BYTES: u32 = 256 * 1024;

/// The same for all the streams of a connection, so that a few that wait do not hold up the rest.
const H2_CONNECTION_BYTES: u32 = 16 * 1024 * 1024;

/// How often an HTTP/2 connection is looked at: one that carried nothing in between, or whose
/// client does not read an answer, is asked to leave, and dropped at the next look.
const H2_LOOK: Duration = Duration::from_secs(60);

/// How often a client is asked whether it is still there, and how long it may take to answer.
const H2_PING: Duration = Duration::from_secs(30);

/// RFC 9113 §3.4.
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
