//! Paths under `/client/v4/__sim` that no Cloudflare has: big bodies, event streams, trailers and
//! what else a gateway must carry. They ask for no credential and draw no quota.
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use crate::envelope::{Answer, Cut, Refusal, Reply};
use crate::path::{Query, segments};
use crate::tap::Tap;

/// The part of a raw path behind the probes' prefix, if it is a probe's.
pub(crate) fn path(raw: &str) -> Option<&str> {
    raw.strip_prefix("/client/v4/__sim/")
}

/// Answers a probe.
pub(crate) async fn answer(head: &Parts, rest: &str, tap: Tap) -> Answer {
    let segments = segments(rest);
    let reply = match (&head.method, segments.as_slice()) {
        (&Method::GET, ["bytes", count]) => bytes(head, count),
        (&Method::GET, ["sse", count]) => events(head, count),
        (&Method::GET, ["trailers"]) => Ok(trailed()),
        (_, ["headers"]) => Ok(Answer::result(headers(&head.headers))),
        (_, ["status", status]) => told(head, status),
        (_, ["delay", millis]) => delayed(head, millis).await,
        (_, ["echo"]) => Ok(echo(head, tap)),
        // hyper says `100 Continue` when the body is first read: a sink does, a refusal does not.
        (_, ["sink" | "continue"]) => sunk(tap).await,
        (_, ["refuse"]) => Err(refused()),
        _ => Err(Refusal::no_route(head.uri.path())),
    };
    reply.unwrap_or_else(Answer::from)
}

/// `bytes/{n}`: n bytes, made as they are read; the byte at offset i is i modulo 251.
fn bytes(head: &Parts, count: &str) -> Reply {
    let left = number(head, count, BYTES_MAX)?;
    let body = Pattern { left, offset: 0 }.boxed_unsync();
    Ok(Answer::streamed("application/octet-stream", body))
}

/// `sse/{n}?interval_ms=`: n server-sent events, and `[DONE]` as the model endpoints end.
fn events(head: &Parts, count: &str) -> Reply {
    let count = number(head, count, EVENTS_MAX)?;
    let query = Query::new(head.uri.query());
    let millis =
        query.text("interval_ms").map_or(Ok(0), |text| number(head, text, INTERVAL_MS_MAX))?;
    let texts = (1..=count).map(|n| Bytes::from(format!("id: {n}\ndata: {{\"n\":{n}}}\n\n")));
    Ok(sse(texts, Duration::from_millis(millis)))
}

/// A body with trailers. Over HTTP/1.1 they are sent to clients that say `TE: trailers`.
fn trailed() -> Answer {
    let trailers = HeaderMap::from_iter([
        (http::HeaderName::from_static("x-sim-digest"), HeaderValue::from_static("fnv1a")),
        (http::HeaderName::from_static("x-sim-end"), HeaderValue::from_static("yes")),
    ]);
    let frames =
        [Frame::data(Bytes::from_static(b"before the trailers\n")), Frame::trailers(trailers)];
    let body = Framed { frames: frames.into_iter() }.boxed_unsync();
    Answer::streamed("text/plain", body).with_header("trailer", "x-sim-digest, x-sim-end")
}

fn told(head: &Parts, status: &str) -> Reply {
    let wanted = number(head, status, 599)?;
    let status = u16::try_from(wanted).ok().and_then(|code| StatusCode::from_u16(code).ok());
    // An informational status is no answer.
    match status.filter(|status| !status.is_informational()) {
        Some(status) if status.is_success() => Ok(Answer::result(json!({})).with_status(status)),
        Some(status) => Err(Refusal::new(status, u32::from(status.as_u16()), "As asked")),
        None => Err(Refusal::no_route(head.uri.path())),
    }
}

async fn delayed(head: &Parts, millis: &str) -> Reply {
    let millis = number(head, millis, INTERVAL_MS_MAX)?;
    sleep(Duration::from_millis(millis)).await;
    Ok(Answer::result(json!({ "delayed_ms": millis })))
}

fn echo(head: &Parts, tap: Tap) -> Answer {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Answer::streamed(kind.unwrap_or("application/octet-stream"), tap.boxed_unsync())
}

async fn sunk(tap: Tap) -> Reply {
    let (bytes, sha256) = tap.drained().await?;
    Ok(Answer::result(json!({ "bytes": bytes, "sha256": sha256 })))
}

fn refused() -> Refusal {
    Refusal::new(StatusCode::EXPECTATION_FAILED, 417, "This path reads no body")
}

/// The headers as they arrived: an array of pairs, since a name may come again.
fn headers(headers: &HeaderMap) -> Value {
    let pair = |(name, value): (&http::HeaderName, &HeaderValue)| {
        json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
    };
    Value::Array(headers.iter().map(pair).collect())
}

fn number(head: &Parts, text: &str, max: u64) -> Result<u64, Refusal> {
    let number = text.parse().ok().filter(|number| *number <= max);
    number.ok_or_else(|| Refusal::no_route(head.uri.path()))
}

/// Server-sent events: `texts`, each after an `interval`, and `[DONE]`.
pub(crate) fn sse(
    texts: impl Iterator<Item = Bytes> + Send + Unpin + 'static,
    interval: Duration,
) -> Answer {
    let done = std::iter::once(Bytes::from_static(b"data: [DONE]\n\n"));
    let body = Ticking { texts: texts.chain(done), interval, next: None }.boxed_unsync();
    Answer::streamed("text/event-stream", body).with_header("cache-control", "no-cache")
}

/// Frames that are there already, of a length that is not told: with one, HTTP/1.1 has no chunks
/// and so no trailers.
struct Framed {
    frames: std::array::IntoIter<Frame<Bytes>, 2>,
}

impl HttpBody for Framed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        Poll::Ready(self.frames.next().map(Ok))
    }
}

struct Pattern {
    left: u64,
    offset: usize,
}

impl HttpBody for Pattern {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let chunk = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        let data = Bytes::from_static(PATTERN).slice(self.offset..self.offset + chunk);
        self.left -= chunk as u64;
        self.offset = (self.offset + chunk) % PERIOD;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

struct Ticking<I> {
    texts: I,
    interval: Duration,
    next: Option<Pin<Box<Sleep>>>,
}

impl<I: Iterator<Item = Bytes> + Unpin> HttpBody for Ticking<I> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.interval.is_zero() {
            let interval = self.interval;
            let next = self.next.get_or_insert_with(|| Box::pin(sleep(interval)));
            ready!(next.as_mut().poll(context));
            self.next = None;
        }
        Poll::Ready(self.texts.next().map(|text| Ok(Frame::data(text))))
    }
}

const fn pattern() -> [u8; CHUNK + PERIOD] {
    let mut bytes = [0; CHUNK + PERIOD];
    let mut index = 0;
    while index < bytes.len() {
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of 251 fits a byte")]
        #[expect(clippy::indexing_slicing, reason = "the loop ends at the length")]
        {
            bytes[index] = (index % PERIOD) as u8;
        }
        index += 1;
    }
    bytes
}

static PATTERN: &[u8] = &pattern();

const PERIOD: usize = 251;
const CHUNK: usize = 64 * 1024;

/// The longest body that `bytes` makes: 64 GiB.
const BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
const EVENTS_MAX: u64 = 1_000_000;
const INTERVAL_MS_MAX: u64 = 600_000;
