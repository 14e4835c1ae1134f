//! Bodies on their way through: counted, bounded in memory, settled when they end or are dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use audit::Body as Kept;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use model::Ending;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use crate::forward::strip_trailers;
use crate::park::Underway;
use crate::pool::Lease;
use crate::settle::hear_out;
use crate::trip::{Trip, keep};

/// What the upstream has taken of a request's body; the trip reads it at the end.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    bytes: AtomicU64,
    stage: AtomicU8,
    kept: Mutex<Option<Kept>>,
    keep_max: usize,
}

/// Whose turn it is with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// The upstream's, to take more.
    Upstream,
    /// The client's, to send more.
    Client,
    /// Nobody's: all of it is taken.
    Done,
}

impl Upload {
    pub(crate) fn new(keep_max: usize) -> Arc<Self> {
        let kept = (keep_max > 0).then(Kept::default);
        Arc::new(Self { kept: Mutex::new(kept), keep_max, ..Self::default() })
    }

    /// Whether the upstream's connection has the whole body, so that another request may follow.
    pub(crate) fn is_done(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Done as u8
    }

    /// Whether it is the client that keeps the rest back.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Client as u8
    }

    fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn took(&self, data: &Bytes) {
        self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(kept) = &mut *self.kept.lock() {
            keep(kept, data, self.keep_max);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn kept(&self) -> Option<Kept> {
        self.kept.lock().take()
    }
}

/// A client's body, as far as it was read before it is sent.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// What was read already, where somebody had to see it first; boxed, since few have.
    pub(crate) ahead: Option<Box<Bytes>>,
    /// What the client still has to send; `None` when it has sent all.
    pub(crate) rest: Option<Incoming>,
}

impl Content {
    /// A body of which so much was read.
    pub(crate) fn begun(ahead: Bytes, rest: Option<Incoming>) -> Self {
        let ahead = (!ahead.is_empty()).then(|| Box::new(ahead));
        Self { ahead, rest }
    }

    /// All of it, where it was read to its end and there is any.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        self.ahead.as_deref().filter(|_| self.rest.is_none()).cloned()
    }
}

impl From<Incoming> for Content {
    fn from(body: Incoming) -> Self {
        let rest = Some(body).filter(|body| !body.is_end_stream());
        Self { ahead: None, rest }
    }
}

/// The client's body as the upstream's connection takes it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    content: Content,
    upload: Arc<Upload>,
}

impl RequestBody {
    pub(crate) fn new(content: Content, upload: Arc<Upload>) -> Self {
        let body = Self { content, upload };
        if body.is_empty() {
            body.upload.reach(Stage::Done);
        }
        body
    }

    /// No body, for another try of a request that had none.
    pub(crate) fn empty(upload: Arc<Upload>) -> Self {
        Self::new(Content::default(), upload)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.content.rest.is_none() && self.content.ahead.is_none()
    }

    /// What was read ahead, as the first piece.
    fn take_ahead(&mut self) -> Option<Bytes> {
        let Self { content: Content { ahead, rest }, upload } = self;
        let ahead = ahead.take()?;
        upload.reach(if rest.is_none() { Stage::Done } else { Stage::Upstream });
        upload.took(&ahead);
        Some(*ahead)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(ahead) = self.take_ahead() {
            return Poll::Ready(Some(Ok(Frame::data(ahead))));
        }
        let Self { content, upload } = &mut *self;
        let Some(inner) = &mut content.rest else { return Poll::Ready(None) };
        let Poll::Ready(mut frame) = Pin::new(&mut *inner).poll_frame(cx) else {
            upload.reach(Stage::Client);
            return Poll::Pending;
        };
        let is_last = frame.is_none() || inner.is_end_stream();
        upload.reach(if is_last { Stage::Done } else { Stage::Upstream });
        if let Some(Ok(frame)) = &mut frame {
            if let Some(data) = frame.data_ref() {
                upload.took(data);
            }
            if let Some(trailers) = frame.trailers_mut() {
                strip_trailers(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.ahead.is_none() && self.content.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let Content { ahead, rest } = &self.content;
        let ahead = ahead.as_ref().map_or(0, |ahead| ahead.len() as u64);
        let Some(rest) = rest else { return SizeHint::with_exact(ahead) };
        let mut hint = rest.size_hint();
        if ahead > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(ahead));
            }
            hint.set_lower(hint.lower().saturating_add(ahead));
        }
        hint
    }
}

/// An answer on its way to the client. Owns the trip: when the body has ended, or the client has
/// gone and it is dropped, the outcome is recorded.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    trip: Option<Trip>,
    /// Tells the connection that it is not idle.
    underway: Option<Underway>,
}

#[derive(Debug)]
enum Source {
    /// The gate's own words.
    Own(Option<Bytes>),
    Upstream(Box<Stream>),
}

/// The upstream's answer as it comes.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What was read of it already.
    ahead: Bytes,
    inner: Incoming,
    lease: Option<Lease>,
    upload: Arc<Upload>,
    /// The longest pause between two pieces.
    pause_max: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Why an answer broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream broke off its answer")]
    Broken(#[source] hyper::Error),
    #[error("the upstream paused its answer for {} ms", .0.as_millis())]
    Paused(Duration),
    #[error("the agent was suspended")]
    Suspended,
}

impl ResponseBody {
    /// The gate's own answer.
    pub(crate) fn own(text: Bytes, trip: Option<Trip>) -> Self {
        let source = Source::Own((!text.is_empty()).then_some(text));
        let mut body = Self { source, trip, underway: None };
        if body.is_end_stream() {
            body.finish(Ending::Complete);
        }
        body
    }

    /// The upstream's answer; the connection goes back to the pool when it has ended.
    pub(crate) fn upstream(
        (ahead, inner): (Option<Box<Bytes>>, Incoming),
        lease: Lease,
        upload: Arc<Upload>,
        pause_max: Duration,
        trip: Trip,
    ) -> Self {
        let (ahead, lease) = (ahead.map_or_else(Bytes::new, |ahead| *ahead), Some(lease));
        let stream = Box::new(Stream { ahead, inner, lease, upload, pause_max, pause: None });
        let mut body = Self { source: Source::Upstream(stream), trip: Some(trip), underway: None };
        if body.is_end_stream() {
            body.finish(Ending::Complete);
        }
        body
    }

    /// Keeps the connection from being taken for idle while the answer lives.
    pub(crate) fn hold(&mut self, underway: Underway) {
        self.underway = Some(underway);
    }

    /// Whether the agent was suspended while the upstream's answer streams. If that comes later
    /// the stream is polled again.
    fn is_suspended(&self, cx: &mut Context<'_>) -> bool {
        match (&self.source, &self.trip) {
            (Source::Upstream(_), Some(trip)) => {
                trip.core.riders.poll_end(trip.berth, cx).is_ready()
            }
            _ => false,
        }
    }

    fn finish(&mut self, ending: Ending) {
        let Some(mut trip) = self.trip.take() else { return };
        trip.learnt().ending = ending;
        if let Source::Upstream(stream) = &mut self.source
            && ending == Ending::Complete
        {
            stream.give_back(&trip);
        }
    }
}

impl Drop for ResponseBody {
    /// The client has gone.
    fn drop(&mut self) {
        if let Some(trip) = self.trip.take_if(|trip| trip.wants_more())
            && let Source::Upstream(stream) = std::mem::replace(&mut self.source, Source::Own(None))
        {
            hear_out(trip, stream);
        }
    }
}

impl Stream {
    /// Whether all of it has come.
    pub(crate) fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.inner.is_end_stream()
    }

    /// Gives its connection back, where that may carry another request.
    pub(crate) fn give_back(&mut self, trip: &Trip) {
        if let Some(lease) = self.lease.take().filter(|_| self.upload.is_done()) {
            trip.core.pool.give_back(lease, trip.core.shared.clock.uptime());
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.ahead)))));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(mut frame) => {
                self.pause = None;
                if let Some(Ok(frame)) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    strip_trailers(trailers);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            Poll::Pending => {
                let pause = self.pause.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + self.pause_max))
                });
                ready!(pause.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyError::Paused(self.pause_max))))
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(underway) = &this.underway {
            underway.asked();
        }
        if this.is_suspended(cx) {
            this.finish(Ending::Cut);
            return Poll::Ready(Some(Err(BodyError::Suspended)));
        }
        let frame = match &mut this.source {
            Source::Own(text) => text.take().map(|text| Ok(Frame::data(text))),
            Source::Upstream(stream) => ready!(stream.poll(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(underway) = &this.underway {
                    underway.handed();
                }
                if let (Some(trip), Some(data)) = (&mut this.trip, frame.data_ref()) {
                    trip.sent(data);
                }
                if this.is_end_stream() {
                    this.finish(Ending::Complete);
                }
            }
            Some(Err(_)) => this.finish(Ending::UpstreamBroken),
            None => this.finish(Ending::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_none(),
            Source::Upstream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            // A part of it was read only where its length is not known.
            Source::Upstream(stream) if stream.ahead.is_empty() => stream.inner.size_hint(),
            Source::Upstream(_) => SizeHint::default(),
        }
    }
}
