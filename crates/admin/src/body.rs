//! The body of a request: bounded in size and time, and never shown to anybody.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::Value;

use crate::envelope::Failure;

/// Reads a whole body of at most `max` bytes.
pub(crate) async fn collect(body: Body, max: usize) -> Result<Bytes, Failure> {
    let read = tokio::time::timeout(DEADLINE, Limited::new(body, max).collect()).await;
    match read.map_err(|_| Failure::Slow)? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(cause) if cause.is::<LengthLimitError>() => {
            Err(Failure::bad(format!("invalid request body: it is larger than {max} bytes")))
        }
        Err(_) => Err(Failure::bad("invalid request body: it broke off")),
    }
}

/// Reads a body as JSON; `None` when there is none.
pub(crate) async fn json(body: Body, max: usize) -> Result<Option<Value>, Failure> {
    let bytes = collect(body, max).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    parse(&bytes).map(Some)
}

/// Reads JSON whose objects name each member once. The failure tells the place and quotes nothing
/// of the body but the path of a member that stands twice.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    config::json::read(bytes).map_err(|fault| {
        let message = format!("invalid request body: {fault}");
        if fault.path.is_empty() {
            return Failure::bad(message);
        }
        Failure::faults(message, &[fault])
    })
}

/// Reads a body that has to be there.
pub(crate) async fn required(body: Body) -> Result<Value, Failure> {
    json(body, RESOURCE_BYTES_MAX).await?.ok_or_else(|| Failure::bad("missing configurations"))
}

/// A body of one resource, as in APISIX: 1.5 MiB. A larger one is refused.
pub(crate) const RESOURCE_BYTES_MAX: usize = 3 << 19;

/// A body of a whole document. A larger one is refused.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// From the first byte of the body to its last.
const DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::{json, parse};

    async fn check(body: &str, max: usize, expected: Result<bool, &str>) {
        let read = json(Body::from(body.to_owned()), max).await.map(|value| value.is_some());
        match (&read, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(*read, expected, "{body}"),
            (Err(failure), Err(expected)) => {
                assert!(failure.message().contains(expected), "{body}: {}", failure.message());
            }
            _ => panic!("{body}: {read:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_no_further() {
        check("[1]", 3, Ok(true)).await;
        check("[1]", 2, Err("larger than 2 bytes")).await;
        check(" \n", 3, Ok(false)).await;
        check("[1", 3, Err("line 1 column 2")).await;
    }

    #[test]
    fn a_fault_of_the_body_does_not_quote_it() {
        for text in
            ["{\"planted-secret\"", "\"planted-secret", "{\"a\":planted-secret}", "tplanted-secret"]
        {
            let failure = parse(text.as_bytes()).unwrap_err();
            assert!(!format!("{failure:?}").contains("planted"), "{failure:?}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }
}
