//! What becomes of an answer on its way back: what its agent must not see is taken out of it.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Body as _;
use model::{Code, Refusal};
use rules::fact::Facts;
use rules::operation::Named;
use rules::response::Review;

use crate::describe::Described;
use crate::forward::{Answer, strip_hop_by_hop};
use crate::head::Head;
use crate::held::{Bounds, Held, Read};
use crate::repeat::{Reply, Whole};
use crate::trip::Trip;

/// What is to be done to the answer, if anything. The upstream is asked for an answer that can be
/// read.
pub(crate) fn review(
    trip: &mut Trip,
    head: &mut Head,
    described: &Described,
) -> Option<Box<Review>> {
    let call = described.call(head);
    let template = call.as_ref().and_then(Named::template);
    let hides = template.is_some_and(|template| !template.secrets.is_empty());
    if !hides && trip.snapshot.responses.is_empty() {
        return None;
    }
    let facts = Facts { call, ..trip.facts(head) };
    let route = &described.identified().route().id;
    let review = Review::of(template, trip.snapshot.responses.binding(route, &facts))?;
    head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Some(Box::new(review))
}

/// Does to the answer what is to be done to it.
///
/// # Errors
/// When it may not get back, or cannot be looked through.
pub(crate) async fn edit(
    trip: &mut Trip,
    review: &Review,
    answer: Answer,
) -> Result<Reply, Refusal> {
    let status = answer.response.status();
    if let Some((rule, reason)) = review.refused() {
        let detail = format!("the answer is kept back by `{rule}`: {reason}");
        return Err(Refusal::new(Code::ResponseRefused, detail));
    }
    let headers = answer.response.headers();
    let may_pass = !review.is_strict() && !may_be_json(headers);
    if may_pass || trip.is_head() || !has_body(status) || answer.response.body().is_end_stream() {
        return Ok(Reply::Passing(answer));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(unreadable(status, "it is encoded"));
    }
    let (answer, body) = answer.without_body();
    let mut held = Held::new(&trip.core.shared.metrics.guarded);
    let bounds =
        Bounds { bytes: ANSWER_BYTES_MAX, pause: answer.pause_max, until: None, passes: false };
    match held.read(body, bounds).await {
        Ok(Read::Whole) => {}
        Ok(Read::Part(_)) => return Err(unreadable(status, "it is too long")),
        Err(fault) => return Err(unreadable(status, &fault.to_string())),
    }
    if let Some(bill) = &mut trip.bill {
        // What the call costs may stand where the agent does not see it.
        bill.hear(held.as_slice());
        bill.heard_all();
    }
    let mut headers = answer.response.headers().clone();
    strip_hop_by_hop(&mut headers);
    match review.edit(held.as_slice()) {
        Ok(None) => {}
        Ok(Some(edited)) => {
            held = Held::of(edited, &trip.core.shared.metrics.guarded)
                .map_err(|fault| unreadable(status, &fault.to_string()))?;
            headers.remove(CONTENT_LENGTH);
            forget_digests(&mut headers);
        }
        // A page of an intermediary's holds no field, and says what is wrong.
        Err(_) if !status.is_success() && !may_be_json(&headers) => {}
        Err(cause) => return Err(unreadable(status, &cause.to_string())),
    }
    let whole = Whole { status, headers, body: held.into_bytes() };
    Ok(Reply::Whole(Box::new((whole, Some(answer)))))
}

/// Whether a media type is JSON's, or says nothing (RFC 6838 §4.2.8).
fn may_be_json(headers: &HeaderMap) -> bool {
    let Some(media) = headers.get(CONTENT_TYPE) else { return true };
    let media = media.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let media = media.trim().to_ascii_lowercase();
    matches!(&*media, "" | "application/json" | "text/json" | "text/plain")
        || media.ends_with("+json")
}

fn has_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What was said of the bytes is not true of the edited ones (RFC 9530, RFC 9110 §8.8.3).
fn forget_digests(headers: &mut HeaderMap) {
    for name in ["etag", "content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
}

fn unreadable(status: StatusCode, why: &str) -> Refusal {
    let detail = format!(
        "the upstream answered with {status}, but its answer cannot be looked through for secrets: {why}"
    );
    Refusal::new(Code::ResponseUnreadable, detail)
}

/// Bytes of an answer that is looked through. A longer one does not get back.
const ANSWER_BYTES_MAX: usize = 8 << 20;
