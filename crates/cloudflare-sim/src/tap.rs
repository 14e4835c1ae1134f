//! A request's body on its way in: counted, digested and written down, however it ends.
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::envelope::{Cut, Refusal};
use crate::log::{BODY_KEPT_MAX, BodySeen, Seat};

/// A body that tells the log what was read of it. Dropping it says so.
pub(crate) struct Tap {
    incoming: Incoming,
    seat: Seat,
    digest: digest::Context,
    length: u64,
    kept: BytesMut,
    complete: bool,
}

impl Tap {
    pub(crate) fn new(incoming: Incoming, seat: Seat) -> Self {
        let complete = incoming.is_end_stream();
        let digest = digest::Context::new(&digest::SHA256);
        Self { incoming, seat, digest, length: 0, kept: BytesMut::new(), complete }
    }

    /// All of the body, if it is no longer than [`BODY_MAX`] and arrives within [`BODY_WAIT`].
    pub(crate) async fn whole(self) -> Result<Bytes, Refusal> {
        timeout(BODY_WAIT, self.gathered()).await.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn gathered(mut self) -> Result<Bytes, Refusal> {
        let mut chunks = Vec::new();
        let mut length = 0;
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame.map_err(|_| torn())?.into_data() else { continue };
            length += data.len();
            if length > BODY_MAX {
                return Err(too_large());
            }
            chunks.push(data);
        }
        Ok(joined(chunks))
    }

    /// Reads to the end and keeps nothing: bytes read and their SHA-256 in hex.
    pub(crate) async fn drained(mut self) -> Result<(u64, String), Refusal> {
        while let Some(frame) = self.frame().await {
            frame.map_err(|_| torn())?;
        }
        Ok((self.length, self.sha256()))
    }

    fn note(&mut self, data: &Bytes) {
        self.digest.update(data);
        self.length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        let room = BODY_KEPT_MAX.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
    }

    fn sha256(&self) -> String {
        hex::encode(self.digest.clone().finish())
    }
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Some(Err(Cut))),
            None => {
                self.complete = true;
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            self.note(data);
        }
        self.complete = self.incoming.is_end_stream();
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let sha256 = Some(self.sha256());
        let kept = std::mem::take(&mut self.kept).freeze();
        self.seat.read(BodySeen { length: self.length, sha256, kept, complete: self.complete });
    }
}

fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() < 2 {
        return chunks.pop().unwrap_or_default();
    }
    chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect::<Vec<u8>>().into()
}

fn torn() -> Refusal {
    Refusal::bad(6008, "The request body ended early")
}

fn too_slow() -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, 408, "The request body took too long")
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, 413, "The request body is too large")
}

/// The largest body that a call of the API may have, in bytes; a longer one is answered 413.
const BODY_MAX: usize = 64 * 1024 * 1024;

/// How long a call's body may take to arrive. The probes wait for as long as the connection lives:
/// a slow body is what they are for.
const BODY_WAIT: Duration = Duration::from_secs(300);
