//! Bodies that come slowly, or not to their end.
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use tokio::time::{Sleep, sleep};

use crate::envelope::{Body, Cut};
use crate::wire::Line;

/// The body's length, if it is known before it is sent.
pub(crate) fn exact(body: &Body) -> Option<u64> {
    body.size_hint().exact()
}

/// `body` in pieces of `bytes`, each after a `wait`.
pub(crate) fn drip(body: Body, bytes: usize, wait: Duration) -> Body {
    let next = Box::pin(sleep(wait));
    Drip { body, left: Bytes::new(), bytes: bytes.max(1), wait, next }.boxed_unsync()
}

/// The first `bytes` of `body`; then the connection closes.
pub(crate) fn cut(body: Body, bytes: usize, line: Line) -> Body {
    Torn { body, left: bytes, line, last: None }.boxed_unsync()
}

struct Drip {
    body: Body,
    /// What was taken from `body` and not sent.
    left: Bytes,
    bytes: usize,
    wait: Duration,
    next: Pin<Box<Sleep>>,
}

impl HttpBody for Drip {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        ready!(self.next.as_mut().poll(context));
        self.next = Box::pin(sleep(self.wait));
        let piece = self.bytes.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }
}

struct Torn {
    body: Body,
    left: usize,
    line: Line,
    /// Runs once all is sent that will be, so that it leaves before the connection closes.
    last: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Torn {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        while self.left > 0 {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    data.truncate(self.left);
                    self.left -= data.len();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(cut)) => return Poll::Ready(Some(Err(cut))),
                None => self.left = 0,
            }
        }
        let last = self.last.get_or_insert_with(|| Box::pin(sleep(LAST_WAIT)));
        ready!(last.as_mut().poll(context));
        self.line.close();
        Poll::Ready(Some(Err(Cut)))
    }
}

/// Time for the bytes before the cut to leave.
const LAST_WAIT: Duration = Duration::from_millis(20);
