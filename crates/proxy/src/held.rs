//! Bodies held in memory: those of requests to compare and price them, those of answers to keep them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use model::{Code, Refusal, Retry};
use tokio::time::Instant;

use crate::core::Shared;

/// Bytes in memory, counted among those of the node while they live.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: BytesMut,
    shared: Arc<Shared>,
}

/// How far a body was read.
#[derive(Debug)]
pub(crate) enum Read {
    /// To its end.
    Whole,
    /// To the bound of its length, or of time: the rest is still to come.
    Part(Incoming),
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it broke off: {0}")]
    Broken(hyper::Error),
    #[error("nothing more of it came in time")]
    Paused,
    #[error("the node holds as much as it may")]
    Full,
}

impl Fault {
    /// What the client is told whose body could not be read.
    pub(crate) fn of_request(&self) -> Refusal {
        match self {
            Self::Broken(_) | Self::Paused => Refusal::new(Code::BodyBroken, self.to_string()),
            Self::Full => {
                let detail = "the node holds as many bytes of bodies as it may";
                Refusal::new(Code::Overloaded, detail).retry(Retry::Soon)
            }
        }
    }
}

/// How much is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    /// Between two pieces.
    pub(crate) pause: Duration,
    /// In all; what came until then is a part.
    pub(crate) until: Option<Instant>,
}

impl Held {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { bytes: BytesMut::new(), shared: Arc::clone(shared) }
    }

    /// Reads a body to its end or to the bounds. At most one piece goes beyond the bound of bytes.
    pub(crate) async fn read(&mut self, mut body: Incoming, bounds: Bounds) -> Result<Read, Fault> {
        loop {
            if self.bytes.len() > bounds.bytes {
                return Ok(Read::Part(body));
            }
            let pause = Instant::now() + bounds.pause;
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let deadline = bounds.until.map_or(pause, |until| until.min(pause));
            match tokio::time::timeout_at(deadline, frame).await {
                Err(_) if bounds.until == Some(deadline) => return Ok(Read::Part(body)),
                Err(_) => return Err(Fault::Paused),
                Ok(None) => return Ok(Read::Whole),
                Ok(Some(Err(cause))) => return Err(Fault::Broken(cause)),
                Ok(Some(Ok(frame))) => {
                    // Trailers of what is held are dropped: they may be (RFC 9110 §6.5.1).
                    if let Some(data) = frame.data_ref() {
                        self.keep(data)?;
                    }
                }
            }
        }
    }

    fn keep(&mut self, data: &Bytes) -> Result<(), Fault> {
        let gauge = &self.shared.metrics.guarded.bytes;
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        if gauge.get().saturating_add(length) > HELD_BYTES_MAX {
            return Err(Fault::Full);
        }
        gauge.inc_by(length);
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be sent on. They count as long as this lives.
    pub(crate) fn take(&mut self) -> Bytes {
        let bytes = self.bytes.split().freeze();
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        self.shared.metrics.guarded.bytes.dec_by(length);
        bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let length = i64::try_from(self.bytes.len()).unwrap_or(i64::MAX);
        self.shared.metrics.guarded.bytes.dec_by(length);
    }
}

/// Bytes of bodies that a node holds at once, because of repeats and prices. When there are as many, a further
/// request is refused with `gate.overloaded`, and an answer is not kept.
const HELD_BYTES_MAX: i64 = 256 << 20;
