//! A connection that has changed its protocol (RFC 9110 §7.8): bytes both ways, counted, until one
//! side ends or both are silent for too long.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use model::Ending;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use crate::trip::Trip;

/// The upstream's end, and the trip that ends with it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Ready as soon as the connection has been handed over.
    pub(crate) upstream: OnUpgrade,
    pub(crate) trip: Trip,
    /// How long both sides may be silent.
    pub(crate) silence_max: Duration,
}

impl Tunnel {
    /// Carries bytes between the client and the upstream.
    pub(crate) async fn run<S: AsyncRead + AsyncWrite + Unpin>(self, client: S) {
        let Self { upstream, mut trip, silence_max } = self;
        let Ok(Ok(upstream)) = tokio::time::timeout(silence_max, upstream).await else {
            trip.learnt().ending = Ending::UpstreamBroken;
            return;
        };
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut client = Counted { stream: client, read: Arc::clone(&received) };
        let mut upstream = Counted { stream: TokioIo::new(upstream), read: Arc::clone(&sent) };
        let both = || (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
        let (core, berth) = (Arc::clone(&trip.core), trip.berth);
        let ending = {
            let copy =
                copy_bidirectional_with_sizes(&mut client, &mut upstream, COPY_BYTES, COPY_BYTES);
            let mut copy = std::pin::pin!(copy);
            loop {
                let before = both();
                let copied = tokio::select! {
                    _suspended = poll_fn(|cx| core.riders.poll_end(berth, cx)) => break Ending::Cut,
                    copied = tokio::time::timeout(silence_max, copy.as_mut()) => copied,
                };
                match copied {
                    Ok(Ok(_)) => break Ending::Complete,
                    Ok(Err(_)) => break Ending::ClientGone,
                    Err(_) if both() == before => break Ending::Cut,
                    Err(_) => {}
                }
            }
        };
        // The opening had no body; what is read from now on counts as the request's.
        trip.upload = None;
        let outcome = trip.learnt();
        outcome.received = received.load(Ordering::Relaxed);
        (outcome.sent, outcome.ending) = (sent.load(Ordering::Relaxed), ending);
    }
}

/// A stream whose bytes are counted as they are read.
struct Counted<S> {
    stream: S,
    read: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let more = buffer.filled().len() - before;
        self.read.fetch_add(more as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes buffered a direction.
const COPY_BYTES: usize = 16 * 1024;
