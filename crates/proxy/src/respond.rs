//! Answers: the upstream's passed on, or a refusal that every client understands.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use ledger::Reservation;
use model::{Code, Grade, Protocol, Refusal, RequestId, Retry};
use rules::plan::Plan;
use serde_json::json;

use crate::body::ResponseBody;
use crate::forward::{Answer, strip_hop_by_hop};
use crate::park::Line;
use crate::quota::{POLICY, Rest};
use crate::repeat::{REPLAYED, Whole};
use crate::trip::Trip;
use crate::tunnel::Tunnel;

mod code;

pub use code::status_of;
use code::title;

/// Passes the upstream's answer on.
pub(crate) fn pass(mut trip: Trip, answer: Answer) -> Response<ResponseBody> {
    let Answer { response, ahead, lease, upload, pause_max, limits, rest, request_id, line } =
        answer;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match line {
            Some(line) => switch(trip, response, &line, pause_max),
            None => refuse(trip, &unasked()),
        };
    }
    let (mut parts, body) = response.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    trip.learnt().status = parts.status.as_u16();
    common(&trip, &mut parts.headers);
    rate_limits(&mut parts.headers, &limits.0, &limits.1, rest.as_deref());
    if let Some((name, value)) = request_id {
        parts.headers.insert(name, value);
    }
    let mut answer =
        Response::new(ResponseBody::upstream((ahead, body), lease, upload, pause_max, trip));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    answer
}

/// Answers with what is there whole: the upstream's answer to this request, or to the same one
/// before.
pub(crate) fn whole(
    mut trip: Trip,
    (whole, came): (Whole, Option<Answer<()>>),
) -> Response<ResponseBody> {
    let Whole { status, mut headers, body } = whole;
    trip.learnt().status = status.as_u16();
    common(&trip, &mut headers);
    match came {
        Some(Answer { lease, upload, limits, rest, request_id, .. }) => {
            rate_limits(&mut headers, &limits.0, &limits.1, rest.as_deref());
            headers.extend(request_id);
            if upload.is_done() {
                trip.core.pool.give_back(lease, trip.core.shared.clock.uptime());
            }
        }
        None => drop(headers.insert(REPLAYED.0, REPLAYED.1)),
    }
    let mut answer = Response::new(ResponseBody::own(body, Some(trip)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Answers a request whose way failed unseen. It left its record when it did.
pub(crate) fn failed() -> Response<ResponseBody> {
    let refusal = Refusal::new(Code::Internal, "the gate failed");
    bare(&refusal)
}

/// Leads the client's connection to the upstream's, which has stopped speaking HTTP too.
fn switch(
    mut trip: Trip,
    response: Response<Incoming>,
    line: &Arc<Line>,
    silence_max: Duration,
) -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::own(Bytes::new(), None));
    *answer.status_mut() = response.status();
    answer.headers_mut().clone_from(response.headers());
    strip_hop_by_hop(answer.headers_mut());
    answer.headers_mut().insert(REQUEST_ID, trip.request_id());
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    trip.learnt().status = response.status().as_u16();
    let upstream = hyper::upgrade::on(response);
    line.lead_to(Tunnel { upstream, trip, silence_max });
    answer
}

fn unasked() -> Refusal {
    let detail = "the upstream changed the protocol unasked";
    Refusal::new(Code::UpstreamBroken, detail).sealed()
}

/// Answers a request that was refused.
pub(crate) fn refuse(mut trip: Trip, refusal: &Refusal) -> Response<ResponseBody> {
    let status = status_for(refusal);
    let (content_type, mut text) = body_of(refusal, status, trip.outcome().request_id);
    let mut headers = HeaderMap::new();
    if trip.is_head() {
        // On HTTP/2 hyper sends whatever body it is given, and an answer to HEAD has none.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
        text = Bytes::new();
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    common(&trip, &mut headers);
    if refusal.code == Code::FramingInvalid && trip.outcome().protocol != Protocol::Http2 {
        // Nobody can tell where the next request begins (RFC 9112 §6.3).
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    advise(&mut headers, refusal);
    if status == StatusCode::UNAUTHORIZED
        && let Some(challenge) =
            refusal.custom.as_ref().and_then(|custom| custom.challenge.as_ref())
        && let Ok(value) = HeaderValue::from_str(challenge)
    {
        headers.insert(WWW_AUTHENTICATE, value);
    }
    trip.refused(status.as_u16(), refusal);
    let mut answer = Response::new(ResponseBody::own(text, Some(trip)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Answers a request for which the record has no place: it does not travel, and leaves no record.
pub(crate) fn without_a_seat() -> Response<ResponseBody> {
    let detail = "the node's record is full";
    bare(&Refusal::new(Code::Overloaded, detail).retry(Retry::After(Duration::from_secs(1))))
}

/// A refusal of a request that has no trip.
fn bare(refusal: &Refusal) -> Response<ResponseBody> {
    let status = status_for(refusal);
    let (content_type, text) = body_of(refusal, status, RequestId(0));
    let mut answer = Response::new(ResponseBody::own(text, None));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    advise(answer.headers_mut(), refusal);
    answer
}

fn status_for(refusal: &Refusal) -> StatusCode {
    let chosen = refusal.custom.as_ref().and_then(|custom| custom.status);
    let chosen = chosen.and_then(|status| StatusCode::from_u16(status).ok());
    chosen.unwrap_or_else(|| status_of(refusal.code))
}

/// One object for everyone: Cloudflare's envelope, the members of RFC 9457, and `error_msg`.
fn body_of(refusal: &Refusal, status: StatusCode, id: RequestId) -> (&'static str, Bytes) {
    let custom = refusal.custom.as_deref();
    if let Some(body) = custom.and_then(|custom| custom.body.as_ref()) {
        return (body.content_type, Bytes::copy_from_slice(body.text.as_bytes()));
    }
    let title = title(refusal.code);
    let detail = match refusal.grade {
        Grade::Open => &*refusal.detail,
        Grade::Sealed => title,
    };
    let message = custom.and_then(|custom| custom.message.as_deref()).unwrap_or(detail);
    let mut object = json!({
        "success": false,
        "errors": [{ "code": ENVELOPE_CODES + u32::from(status.as_u16()), "message": message }],
        "messages": [],
        "result": null,
        "type": format!("urn:tollgate:refusal:{}", refusal.code),
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
        "error_msg": message,
        "code": refusal.code.as_str(),
        "request_id": id.to_string(),
    });
    if let (Some(limit), Some(object)) = (&refusal.limit, object.as_object_mut()) {
        object.insert("limit".to_owned(), json!(limit.as_str()));
    }
    if let (Some(exhausted), Some(object)) = (&refusal.budget, object.as_object_mut()) {
        object.insert("budget".to_owned(), json!(exhausted.budget.as_str()));
        let until = exhausted.until.map(rules::budget::moment_text);
        object.insert("period_end".to_owned(), json!(until));
    }
    if let (Some(ruled), Some(object)) = (&refusal.policy, object.as_object_mut()) {
        let named = [("policy", &ruled.policy), ("reason", &ruled.reason), ("group", &ruled.group)];
        for (name, text) in named {
            if let Some(text) = text {
                object.insert(name.to_owned(), json!(&**text));
            }
        }
    }
    ("application/json", Bytes::from(format!("{object}\n")))
}

/// Tells clients whether and when to try again: `Retry-After` (RFC 9110 §10.2.3) in whole
/// seconds, `retry-after-ms` exactly, and `x-should-retry`, which the official SDKs obey.
fn advise(headers: &mut HeaderMap, refusal: &Refusal) {
    let wait = match refusal.retry {
        Retry::Never => {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            return;
        }
        Retry::Soon => Duration::from_secs(1),
        Retry::After(wait) => wait,
    };
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(RETRY_AFTER, HeaderValue::from(secs));
    let millis = wait.as_micros().div_ceil(1_000);
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)));
    if wait > RETRY_WORTHWHILE {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(limit) = &refusal.limit
        && let Ok(value) = HeaderValue::from_str(&format!("\"{limit}\";r=0;t={secs}"))
    {
        headers.insert(RATE_LIMIT, value);
    }
}

/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11): for each limit
/// its burst over the time an empty bucket takes to fill, and what is left.
fn rate_limits(
    headers: &mut HeaderMap,
    plan: &Plan,
    reservation: &Reservation,
    rest: Option<&Rest>,
) {
    if plan.draws.is_empty() && rest.is_none() {
        return;
    }
    // As much as two usual limits say.
    let (mut policy, mut left) = (String::with_capacity(64), String::with_capacity(64));
    for (draw, taken) in plan.draws.iter().zip(&reservation.taken) {
        let Some(taken) = taken else { continue };
        let name = draw.rule.name();
        push_item(
            &mut policy,
            name,
            ("q", draw.bucket.burst().0),
            ("w", draw.bucket.time_to_full()),
        );
        push_item(&mut left, name, ("r", taken.left.0), ("t", Some(taken.more)));
    }
    if let Some(Rest { rule, left: rest, more }) = rest {
        let window = Duration::from_millis(rule.window);
        push_item(&mut policy, POLICY, ("q", rule.quota), ("w", Some(window)));
        push_item(&mut left, POLICY, ("r", *rest), ("t", Some(*more)));
    }
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::try_from(text)) {
            headers.insert(name, value);
        }
    }
}

/// Adds an item of a list: a name, an amount, and a time in whole seconds unless that never comes. Each
/// answer pays for it, so nothing is formatted.
fn push_item(
    list: &mut String,
    name: &str,
    amount: (&str, u64),
    (unit, time): (&str, Option<Duration>),
) {
    list.push_str(if list.is_empty() { "\"" } else { ", \"" });
    list.push_str(name);
    list.push('"');
    push_parameter(list, amount);
    if let Some(time) = time.filter(|time| *time != Duration::MAX) {
        push_parameter(list, (unit, whole_seconds(time)));
    }
}

fn push_parameter(list: &mut String, (name, mut value): (&str, u64)) {
    let (mut digits, mut length) = ([0; 20], 0);
    for digit in digits.iter_mut().rev() {
        // A remainder of ten is one digit.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        (value, length) = (value / 10, length + 1);
        if value == 0 {
            break;
        }
    }
    let digits = digits.get(digits.len() - length..).unwrap_or_default();
    list.push(';');
    list.push_str(name);
    list.push('=');
    list.push_str(std::str::from_utf8(digits).unwrap_or_default());
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// What every answer carries.
fn common(trip: &Trip, headers: &mut HeaderMap) {
    headers.insert(REQUEST_ID, trip.request_id());
    let is_leaving = trip.core.shared.is_leaving.load(Ordering::Relaxed);
    if is_leaving && trip.outcome().protocol != Protocol::Http2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Refusals in Cloudflare's envelope count from here, so that they differ from Cloudflare's own.
const ENVELOPE_CODES: u32 = 9_000_000;

/// SDKs ignore waits longer than this and would come back too soon.
const RETRY_WORTHWHILE: Duration = Duration::from_secs(60);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-request-id");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

#[cfg(test)]
mod tests {
    use super::{Duration, push_item};

    #[test]
    fn items_stand_behind_each_other_with_what_is_known() {
        let mut list = String::new();
        for (amount, time) in [
            (0, Some(Duration::ZERO)),
            (120, Some(Duration::from_millis(59_001))),
            (u64::MAX, None),
            (10, Some(Duration::MAX)),
        ] {
            push_item(&mut list, "a", ("r", amount), ("t", time));
        }
        let expected = "\"a\";r=0;t=0, \"a\";r=120;t=60, \"a\";r=18446744073709551615, \"a\";r=10";
        assert_eq!(list, expected);
    }
}
