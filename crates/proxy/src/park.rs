//! Idle connections give their buffers back: a connection that waits for its next request is a
//! socket and a small task, and no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::tunnel::Tunnel;

/// A stream with bytes that were read before their time. Whoever takes no bytes from it for
/// [`UNREAD_MAX`] loses it: what waits to be written holds memory, a seat and an upstream.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
    /// Runs while the other end takes nothing.
    unread: Option<Pin<Box<Sleep>>>,
}

impl<S> Prefixed<S> {
    pub(crate) const fn new(prefix: Bytes, stream: S) -> Self {
        Self { prefix, stream, unread: None }
    }

    /// The stream with bytes that were read from it put back. They are copied, because even no
    /// bytes may hold on to the large buffer they were read into.
    pub(crate) fn put_back(self, bytes: &[u8]) -> Self {
        Self { prefix: [bytes, &self.prefix].concat().into(), ..self }
    }
}

impl<S> Prefixed<S> {
    /// Passes on how a write went, and gives up after a while without progress.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.unread = None;
            return polled;
        }
        let unread = self.unread.get_or_insert_with(|| Box::pin(tokio::time::sleep(UNREAD_MAX)));
        ready!(unread.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> Prefixed<S> {
    /// Waits for the next bytes, and reads on while they could still become the preface. Answers
    /// whether they did; `None` when nothing came.
    pub(crate) async fn begin(
        mut self,
        preface: &[u8],
        patience: Duration,
    ) -> Option<(bool, Self)> {
        let mut start = [0; WAKE_BYTES];
        let mut length = self.prefix.len().min(start.len());
        start.get_mut(..length)?.copy_from_slice(self.prefix.get(..length)?);
        let read = async {
            while length < preface.len().max(1) && start.get(..length)? == preface.get(..length)? {
                match self.stream.read(start.get_mut(length..)?).await {
                    Ok(0) | Err(_) => return None,
                    Ok(more) => length += more,
                }
            }
            Some(())
        };
        tokio::time::timeout(patience, read).await.ok()??;
        let is_preface = !preface.is_empty() && start.starts_with(preface);
        let rest = self.prefix.split_off(self.prefix.len().min(start.len()));
        self.prefix = Bytes::copy_from_slice(start.get(..length)?);
        if !rest.is_empty() {
            self.prefix = [self.prefix, rest].concat().into();
        }
        Some((is_preface, self))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(self.prefix.get(..length).unwrap_or_default());
        self.prefix.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a connection and its requests tell each other.
#[derive(Debug, Default)]
pub(crate) struct Line {
    begun: AtomicU32,
    ended: AtomicU32,
    /// Where the connection leads when it stops speaking HTTP.
    tunnel: Mutex<Option<Tunnel>>,
    /// The answers under way on an HTTP/2 connection: at most its streams.
    turns: Mutex<Vec<Arc<Turn>>>,
}

/// Since when an answer waits for its client to take more; `None` while it is the upstream's turn.
type Turn = Mutex<Option<Instant>>;

/// A request under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Underway {
    line: Arc<Line>,
    turn: Option<Arc<Turn>>,
}

impl Line {
    pub(crate) fn begin(self: &Arc<Self>) -> Underway {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Underway { line: Arc::clone(self), turn: None }
    }

    /// The same on a connection of many streams, where one that is not read does not show in the
    /// connection's own writes.
    pub(crate) fn begin_stream(self: &Arc<Self>) -> Underway {
        let turn = Arc::<Turn>::default();
        self.turns.lock().push(Arc::clone(&turn));
        let mut underway = self.begin();
        underway.turn = Some(turn);
        underway
    }

    /// How many requests have begun, when none of them is under way.
    pub(crate) fn rest(&self) -> Option<u32> {
        let begun = self.begun.load(Ordering::Relaxed);
        (begun == self.ended.load(Ordering::Relaxed)).then_some(begun)
    }

    /// Whether an answer has waited too long for its client to take more.
    pub(crate) fn is_unread(&self) -> bool {
        let turns = self.turns.lock();
        turns.iter().any(|turn| turn.lock().is_some_and(|since| since.elapsed() > UNREAD_MAX))
    }

    pub(crate) fn lead_to(&self, tunnel: Tunnel) {
        *self.tunnel.lock() = Some(tunnel);
    }

    pub(crate) fn tunnel(&self) -> Option<Tunnel> {
        self.tunnel.lock().take()
    }
}

impl Underway {
    /// Notes that a piece was handed over, and that the client is to take it.
    pub(crate) fn handed(&self) {
        if let Some(turn) = &self.turn {
            *turn.lock() = Some(Instant::now());
        }
    }

    /// Notes that the client takes more.
    pub(crate) fn asked(&self) {
        if let Some(turn) = &self.turn {
            *turn.lock() = None;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.line.ended.fetch_add(1, Ordering::Relaxed);
        if let Some(turn) = &self.turn {
            self.line.turns.lock().retain(|other| !Arc::ptr_eq(other, turn));
        }
    }
}

/// How long a client may take nothing of what is there for it.
const UNREAD_MAX: Duration = Duration::from_secs(60);

/// A connection that carried nothing for so long is parked.
pub(crate) const PARK_AFTER: Duration = Duration::from_secs(2);

/// Bytes read to find out that a request comes.
const WAKE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{Bytes, Duration, Prefixed};

    /// Begins a stream of these pieces behind a prefix: whether the preface `abc` was there. All
    /// bytes must still be read from it.
    #[track_caller]
    fn check(prefix: &str, pieces: &[&str], expected: Option<bool>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // So small that a piece is written when the one before has been read.
            let (mut client, server) = tokio::io::duplex(1);
            let stream = Prefixed::new(Bytes::copy_from_slice(prefix.as_bytes()), server);
            let send = async {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                }
                drop(client);
            };
            let receive = async {
                let (is_preface, mut stream) =
                    stream.begin(b"abc", Duration::from_secs(60)).await?;
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, format!("{prefix}{}", pieces.concat()));
                Some(is_preface)
            };
            let ((), begun) = tokio::join!(send, receive);
            assert_eq!(begun, expected, "{prefix} {pieces:?}");
        });
    }

    #[test]
    fn a_preface_is_found_in_whatever_pieces_it_comes() {
        check("", &["abc", "rest"], Some(true));
        check("", &["a", "b", "c"], Some(true));
        check("ab", &["cde"], Some(true));
        check("abcd", &[], Some(true));
    }

    #[test]
    fn other_bytes_are_passed_on_at_once() {
        check("", &["abx"], Some(false));
        check("x", &[], Some(false));
        check(&"x".repeat(1_000), &["y"], Some(false));
    }

    /// Writes more than a client takes who reads so much in all, and says how it ended.
    fn write_to_a_client_who_reads(bytes: usize) -> std::io::Result<()> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(64);
            let mut stream = Prefixed::new(Bytes::new(), server);
            let read = async {
                let mut taken = vec![0; bytes];
                // Slowly, but never so slowly that it counts as not reading.
                for piece in taken.chunks_mut(16) {
                    tokio::time::sleep(Duration::from_secs(50)).await;
                    client.read_exact(piece).await.unwrap();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = read => unreachable!(),
                written = async {
                    stream.write_all(&[0; 256]).await?;
                    stream.flush().await
                } => written,
            }
        })
    }

    #[test]
    fn a_client_who_reads_slowly_is_served_and_one_who_does_not_is_given_up() {
        assert!(write_to_a_client_who_reads(256).is_ok());
        for bytes in [0, 64] {
            let error = write_to_a_client_who_reads(bytes).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn a_stream_that_ends_before_it_begins_is_none() {
        check("", &[], None);
        check("", &["ab"], None);
    }
}
