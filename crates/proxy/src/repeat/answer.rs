//! Answers as they are kept for repeats.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Whole {
    /// As bytes: the status, each field, the body, each behind its length.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.status.as_u16().to_le_bytes());
        let count = u16::try_from(self.headers.len()).unwrap_or(u16::MAX);
        bytes.extend(count.to_le_bytes());
        for (name, value) in self.headers.iter().take(usize::from(count)) {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
                bytes.extend(part);
            }
        }
        bytes.extend(&self.body);
        bytes
    }

    /// Reads it again; `None` where it is not one.
    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let mut rest: &[u8] = bytes;
        let [VERSION] = *take::<1>(&mut rest)? else { return None };
        let status = StatusCode::from_u16(u16::from_le_bytes(*take(&mut rest)?)).ok()?;
        let count = u16::from_le_bytes(*take(&mut rest)?);
        let mut headers = HeaderMap::new();
        for _ in 0..count {
            let name = HeaderName::from_bytes(part(&mut rest)?).ok()?;
            headers.append(name, HeaderValue::from_bytes(part(&mut rest)?).ok()?);
        }
        let body = bytes.slice(bytes.len() - rest.len()..);
        Some(Self { status, headers, body })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(*take(rest)?)).ok()?;
    let (part, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(part)
}

/// Whether an answer proves that the request had no effect: it was not let in (401), there were
/// too many (429), or it is to come again later (503 with `Retry-After`).
pub(super) fn is_void(status: StatusCode, headers: &HeaderMap) -> bool {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::SERVICE_UNAVAILABLE => headers.contains_key(RETRY_AFTER),
        _ => false,
    }
}

/// Whether an answer may be kept: not a stream, which must not wait for its end, nor one that is
/// known to be too long.
pub(super) fn may_be_kept(status: StatusCode, headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    status != StatusCode::SWITCHING_PROTOCOLS
        && !is_stream(headers)
        && length.is_none_or(|length| length <= ANSWER_BYTES_MAX)
}

/// Whether a body comes piece by piece for as long as there is something to say.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let streams = [b"text/event-stream".as_slice(), b"application/x-ndjson", b"application/grpc"];
    streams.iter().any(|stream| kind.eq_ignore_ascii_case(stream))
        || kind.to_ascii_lowercase().starts_with(b"application/grpc")
}

/// The version of an answer's bytes.
const VERSION: u8 = 1;

/// Bytes of an answer that is kept. Of a longer one the status is.
pub(super) const ANSWER_BYTES_MAX: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::{Bytes, HeaderMap, HeaderName, StatusCode, Whole, is_void, may_be_kept};

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let mut headers = headers(&[("a", "1"), ("b", "")]);
        headers.append("a", "2".parse().unwrap());
        for body in ["", "body"] {
            let body = Bytes::from_static(body.as_bytes());
            let whole = Whole { status: StatusCode::CREATED, headers: headers.clone(), body };
            assert_eq!(Whole::read(&whole.written().into()).unwrap(), whole);
        }
        assert_eq!(Whole::read(&Bytes::new()), None);
        assert_eq!(Whole::read(&vec![1, 200, 0, 1, 0, 9, 0, 0, 0].into()), None);
        assert_eq!(Whole::read(&vec![2, 200, 0, 0, 0].into()), None);
    }

    #[test]
    fn only_what_proves_it_says_that_nothing_was_done() {
        let later = headers(&[("retry-after", "1")]);
        for (status, headers, expected) in [
            (429, HeaderMap::new(), true),
            (401, HeaderMap::new(), true),
            (503, later.clone(), true),
            (503, HeaderMap::new(), false),
            (500, later.clone(), false),
            (502, later, false),
            (400, HeaderMap::new(), false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_void(status, &headers), expected, "{status} {headers:?}");
        }
    }

    #[test]
    fn streams_and_long_answers_are_not_kept() {
        for (fields, expected) in [
            (("content-type", "application/json"), true),
            (("content-type", "text/event-stream; charset=utf-8"), false),
            (("content-type", "application/grpc+proto"), false),
            (("content-length", "524288"), true),
            (("content-length", "524289"), false),
        ] {
            assert_eq!(may_be_kept(StatusCode::OK, &headers(&[fields])), expected, "{fields:?}");
        }
    }
}
