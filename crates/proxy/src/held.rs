//! Bodies held in memory: those of requests to compare and price them, those of answers to keep them.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use model::{Code, Refusal, Retry};
use tokio::time::Instant;

use crate::metrics::Guarded;

/// Bytes in memory, counted among those of the node until the last of them has left.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: BytesMut,
    weight: Weight,
}

/// So many bytes of those that a node may hold, while it lives.
#[derive(Debug)]
pub(crate) struct Weight {
    bytes: i64,
    counts: Guarded,
}

/// What is sent on, and counts until then.
struct Load {
    bytes: BytesMut,
    _weight: Weight,
}

impl AsRef<[u8]> for Load {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Weight {
    pub(crate) fn new(counts: &Guarded) -> Self {
        Self { bytes: 0, counts: counts.clone() }
    }

    /// Takes so many more.
    ///
    /// # Errors
    /// When the node holds as many as it may; it weighs no more then.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.counts.bytes.inc_by(bytes);
        if before.saturating_add(bytes) > HELD_BYTES_MAX {
            self.counts.bytes.dec_by(bytes);
            self.counts.full.inc();
            return Err(Fault::Full);
        }
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.counts.bytes.dec_by(self.bytes);
    }
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
    /// What cannot be held is a part too, and no fault: it has somewhere to go.
    pub(crate) passes: bool,
}

impl Held {
    pub(crate) fn new(counts: &Guarded) -> Self {
        Self { bytes: BytesMut::new(), weight: Weight::new(counts) }
    }

    /// Bytes that are there already.
    ///
    /// # Errors
    /// When the node holds as much as it may.
    pub(crate) fn of(bytes: Vec<u8>, counts: &Guarded) -> Result<Self, Fault> {
        let mut weight = Weight::new(counts);
        weight.add(bytes.len())?;
        Ok(Self { bytes: Bytes::from(bytes).into(), weight })
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
                    let Some(data) = frame.data_ref() else { continue };
                    match self.keep(data) {
                        Err(_) if bounds.passes => {
                            self.bytes.extend_from_slice(data);
                            return Ok(Read::Part(body));
                        }
                        kept => kept?,
                    }
                }
            }
        }
    }

    /// Holds a further piece.
    ///
    /// # Errors
    /// When the node holds as much as it may.
    pub(crate) fn keep(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.weight.add(data.len())?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be sent on. They count until the last copy of them is gone.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.bytes.is_empty() {
            return Bytes::new();
        }
        Bytes::from_owner(Load { bytes: self.bytes, _weight: self.weight })
    }

    /// The bytes, and what they count.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Weight) {
        (self.bytes.into(), self.weight)
    }
}

/// Bytes of bodies that a node holds at once: read to be compared, priced, kept or given again, and
/// not gone yet, wherever they wait. When there are as many, a further request is refused with
/// `gate.overloaded`, an answer is not kept, and what one costs is not read from it.
const HELD_BYTES_MAX: i64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::{Guarded, HELD_BYTES_MAX, Held, Weight};

    #[test]
    fn bytes_count_until_their_last_copy_has_left() {
        let counts = Guarded::default();
        let mut held = Held::new(&counts);
        held.keep(b"abcdef").unwrap();
        let mut sent = held.into_bytes();
        let first = sent.split_to(2);
        assert_eq!(counts.bytes.get(), 6);
        drop(sent);
        assert_eq!(counts.bytes.get(), 6, "a part waits still");
        drop(first);
        assert_eq!(counts.bytes.get(), 0);
    }

    #[test]
    fn a_node_holds_up_to_its_bound_and_no_more() {
        let counts = Guarded::default();
        let (mut one, mut other) = (Weight::new(&counts), Weight::new(&counts));
        one.add(usize::try_from(HELD_BYTES_MAX).unwrap() - 1).unwrap();
        assert!(other.add(2).is_err());
        assert!(other.add(1).is_ok());
        assert_eq!((counts.bytes.get(), counts.full.get()), (HELD_BYTES_MAX, 1));
        drop((one, other));
        assert_eq!(counts.bytes.get(), 0);
    }
}
