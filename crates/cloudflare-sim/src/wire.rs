//! One connection's bytes, and the switch that lets a fault ruin them.
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

/// What a request knows of its connection, and may do to it.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) peer: SocketAddr,
    pub(crate) number: u64,
    closed: CancellationToken,
    garbage: Arc<Mutex<Option<Bytes>>>,
}

impl Line {
    pub(crate) fn new(peer: SocketAddr, number: u64) -> Self {
        let garbage = Arc::new(Mutex::new(None));
        Self { peer, number, closed: CancellationToken::new(), garbage }
    }

    /// Ends the connection where it stands.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }

    /// Done when somebody closed the connection.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Writes `garbage` in place of what would be written next, and nothing after it.
    pub(crate) fn garble(&self, garbage: Bytes) {
        *self.garbage.lock() = Some(garbage);
    }
}

/// A stream that garbles on demand.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    line: Line,
}

impl<S> Wire<S> {
    pub(crate) fn new(stream: S, line: Line) -> Self {
        Self { stream, line }
    }
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Ready once there is no garbage left to write; an error once it is written.
    fn poll_garbage(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut garbage = self.line.garbage.lock();
        let Some(left) = garbage.as_mut() else { return Poll::Ready(Ok(())) };
        while !left.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, left))?;
            if written == 0 {
                break;
            }
            drop(left.split_to(written));
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_garbage(context))?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_garbage(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
