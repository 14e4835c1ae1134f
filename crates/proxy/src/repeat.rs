//! Repeats: a mutating request that comes again has its effect once, and one answer.
//!
//! A request takes part when its route keeps it from being repeated, its agent is proven, and it
//! says that it may be one: by an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header)
//! or by its SDK's count of tries. Such a request is read whole before it is judged, is carried
//! to its end when its client hangs up, and its answer is kept. Every other request is none of
//! this file's business.

mod answer;
mod land;

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use hyper::body::{Body as _, Incoming};
use ledger::repeat::{Ask, Asked, Claim, Name};
use model::{Code, Refusal, Retry};
use rules::repeat::Rule;
use rules::upstream::Timeouts;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::answer::Whole;
use self::answer::is_stream;
pub(crate) use self::land::land;
use crate::body::Content;
use crate::core::{Counted, Shared};
use crate::describe::Described;
use crate::forward::{Answer, without_credentials};
use crate::head::Head;
use crate::held::{Bounds, Held, Read};
use crate::trip::Trip;

/// What is told of a request that may be repeated, until it has ended.
#[derive(Debug)]
pub(crate) struct Flight {
    flight: Box<ledger::repeat::Flight>,
    /// Says that this node lives, where others wait to know.
    pulse: Option<AbortOnDropHandle<()>>,
    _under_way: Counted,
}

/// What a request that was asked about may do.
#[expect(clippy::large_enum_variant, reason = "most go on, and this does not wait anywhere")]
pub(crate) enum Claimed {
    /// Go on, with what is to be sent.
    Go(Described, Content),
    /// It was answered before.
    Answered(Box<Whole>),
}

/// What a client gets.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is the large one")]
pub(crate) enum Reply {
    /// The upstream's answer, as it comes.
    Passing(Answer),
    /// One that is there whole, and what it came with; nothing where it was kept.
    Whole(Box<(Whole, Option<Answer<()>>)>),
}

/// A request that says it may be a repeat.
pub(crate) struct Asking<'a> {
    key: Option<&'a str>,
    asked: Asked,
    rule: Rule,
    timeouts: Timeouts,
}

/// Whether a request's head says that it may be a repeat; whether its route cares is seen later.
pub(crate) fn may_be<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    !is_safe(request.method()) && (headers.contains_key(KEY) || headers.contains_key(RETRY_COUNT))
}

/// What a request asks, if it takes part.
///
/// # Errors
/// When its key is none.
pub(crate) fn asking<'a>(
    trip: &Trip,
    head: &'a Head,
    described: &Described,
) -> Result<Option<Asking<'a>>, Refusal> {
    let tries = trip.outcome().client_retry;
    if is_safe(&head.method) || (tries.is_none() && !head.headers.contains_key(KEY)) {
        return Ok(None);
    }
    if !described.identified().is_proven() {
        return Ok(None);
    }
    let route = described.identified().route();
    let Some(upstream) = &route.upstream else { return Ok(None) };
    let Some(rule) = route.repeats.rule(upstream.api) else { return Ok(None) };
    let key = key(&head.headers)?;
    let asked = match (key, tries) {
        (_, Some(1..)) => Asked::Again,
        (Some(_), _) => Asked::ByKey,
        (None, Some(0)) => Asked::First,
        (None, None) => return Ok(None),
    };
    if key.is_none() && is_stream(&head.headers) {
        return Ok(None);
    }
    let timeouts = route.timeouts.unwrap_or(upstream.timeouts);
    Ok(Some(Asking { key, asked, rule: rule.clone(), timeouts }))
}

/// The request's key, with or without the quotes of a structured field.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut fields = headers.get_all(KEY).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let text = field.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_sound = (1..=KEY_BYTES_MAX).contains(&bare.len())
        && bare.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if fields.next().is_some() || !is_sound {
        let detail = "`Idempotency-Key` is not one field of 1 to 255 visible ASCII characters";
        return Err(Refusal::new(Code::KeyInvalid, detail));
    }
    Ok(Some(bare))
}

/// Reads the request, and finds out whether it may go. What may is noted on its trip.
pub(crate) async fn claim(
    trip: &mut Trip,
    head: &Head,
    described: Described,
    asking: Asking<'_>,
    body: Incoming,
) -> Result<Claimed, Refusal> {
    let shared = Arc::clone(&trip.core.shared);
    let gauge = &shared.metrics.guarded.under_way;
    if gauge.get() >= GUARDED_MAX {
        return Err(overloaded("too many requests that may be repeated are under way"));
    }
    let under_way = Counted::new(gauge);
    let mut held = Held::new(&shared.metrics.guarded);
    let rest = match read(&mut held, head, &asking, body).await? {
        Read::Whole => None,
        Read::Part(rest) if asking.key.is_none() => Some(rest),
        Read::Part(_) => return Err(too_large(asking.rule.body_max)),
    };
    trip.learnt().received = held.as_slice().len() as u64;
    if let Some(rest) = rest {
        // Too large to be compared: it goes as one that no try was counted of.
        return Ok(Claimed::Go(described, Content::begun(held.into_bytes(), Some(rest))));
    }
    let window = if asking.key.is_some() { asking.rule.window } else { asking.rule.retry_window };
    let name = name(trip, (head, &described), &asking, held.as_slice());
    let ask = Ask { name, asked: asking.asked, window };
    let content = |held: Held| Content::begun(held.into_bytes(), None);
    match settled(&shared, &ask).await {
        Some(Claim::Go(flight)) => {
            let pulse = flight
                .pulse()
                .map(|pulse| AbortOnDropHandle::new(trip.core.tasks.spawn(pulse.run())));
            trip.flight = Some(Box::new(Flight { flight, pulse, _under_way: under_way }));
            Ok(Claimed::Go(described, content(held)))
        }
        Some(Claim::Answered(bytes)) => {
            let kept = Held::of(bytes, &shared.metrics.guarded);
            let kept = kept.map_err(|fault| fault.of_request())?.into_bytes();
            let whole = Whole::read(&kept).ok_or_else(|| not_kept(None))?;
            trip.learnt().replayed = true;
            shared.metrics.guarded.replayed.inc();
            Ok(Claimed::Answered(Box::new(whole)))
        }
        None | Some(Claim::Full) if asking.rule.passes_without_ledger => {
            Ok(Claimed::Go(described, content(held)))
        }
        None | Some(Claim::Full) => Err(unavailable()),
        Some(Claim::Status(status)) => Err(not_kept(Some(status))),
        Some(Claim::Wait) => Err(under_way_still()),
        Some(Claim::Unknown) => Err(unknown()),
        Some(Claim::Other) => Err(reused()),
    }
}

/// Reads the body, as far as it is compared.
async fn read(
    held: &mut Held,
    head: &Head,
    asking: &Asking<'_>,
    body: Incoming,
) -> Result<Read, Refusal> {
    if body.is_end_stream() {
        return Ok(Read::Whole);
    }
    let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > asking.rule.body_max) {
        return Ok(Read::Part(body));
    }
    let pause = asking.timeouts.send;
    let bounds = Bounds { bytes: asking.rule.body_max, pause, until: None, passes: false };
    held.read(body, bounds).await.map_err(|fault| fault.of_request())
}

fn name(
    trip: &Trip,
    (head, described): (&Head, &Described),
    asking: &Asking<'_>,
    body: &[u8],
) -> Name {
    let plugins = described.identified().plugins();
    let target = head.target.path_and_query().clone();
    let target = without_credentials(target, plugins, false);
    let agent = trip.outcome().identity.as_ref().map_or("", |identity| identity.agent.as_str());
    Name::of(&ledger::repeat::Request {
        agent,
        key: asking.key,
        method: head.method.as_str(),
        host: &head.host,
        target: target.as_str(),
        body,
        boundary: boundary(&head.headers),
    })
}

/// The boundary of a `multipart` body (RFC 2046 §5.1.1).
fn boundary(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let mut parts = kind.split(';').map(str::trim);
    parts.next().filter(|kind| kind.to_ascii_lowercase().starts_with("multipart/"))?;
    let (_, boundary) = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    Some(boundary.trim().trim_matches('"')).filter(|boundary| !boundary.is_empty())
}

/// Asks until it is settled what the request may do, or it has waited too long. `None` where that
/// cannot be known.
async fn settled(shared: &Shared, ask: &Ask) -> Option<Claim> {
    let (began, mut pause) = (shared.clock.uptime(), WAIT_FIRST);
    loop {
        let claim = shared.repeats.claim(ask).await.ok()?;
        let waited = shared.clock.uptime().since(began);
        if !matches!(claim, Claim::Wait) || waited >= WAIT_MAX {
            return Some(claim);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(WAIT_EACH_MAX);
    }
}

/// Remembers, before the first byte leaves, that the request does.
pub(crate) async fn depart(flight: &mut Flight) -> Result<(), Refusal> {
    flight.flight.depart().await.map_err(|_| unavailable())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn overloaded(detail: &'static str) -> Refusal {
    Refusal::new(Code::Overloaded, detail).retry(Retry::Soon)
}

fn too_large(max: usize) -> Refusal {
    let detail = format!("a request with an `Idempotency-Key` may have a body of {max} bytes");
    Refusal::new(Code::KeyBodyTooLarge, detail)
}

fn reused() -> Refusal {
    let detail = "the `Idempotency-Key` was used for a request that differs from this one";
    Refusal::new(Code::KeyReused, detail)
}

fn unknown() -> Refusal {
    let detail = "the same request was sent before, and what came of it is not known: it is not \
                  sent again";
    Refusal::new(Code::RepeatUnknown, detail)
}

fn not_kept(status: Option<u16>) -> Refusal {
    let detail = status.map_or_else(
        || String::from("the same request was answered before, and the answer cannot be read"),
        |status| format!("the same request was answered before with {status}"),
    );
    Refusal::new(Code::RepeatNotKept, detail)
}

fn under_way_still() -> Refusal {
    let detail = "the same request is still under way";
    Refusal::new(Code::RepeatUnderWay, detail).retry(Retry::Soon)
}

fn unavailable() -> Refusal {
    let detail = "it cannot be known whether this request was sent before; nothing was sent";
    Refusal::new(Code::RepeatUnavailable, detail).retry(Retry::Soon)
}

/// A client's name for a request.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The official SDKs' count of tries.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// Says that an answer was given before.
pub(crate) const REPLAYED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true"));

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 255;

/// Requests of a node at once that may be repeated, those that wait included. When there are as
/// many, the next is refused with `gate.overloaded`.
const GUARDED_MAX: i64 = 4_096;

/// Longest wait for the answer to the same request.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks, doubled each time.
const WAIT_FIRST: Duration = Duration::from_millis(5);
const WAIT_EACH_MAX: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::{CONTENT_TYPE, HeaderMap, KEY, boundary, key};

    /// The key of requests with these fields; `None` for a refusal.
    #[track_caller]
    fn check(fields: &[&str], expected: Option<Option<&str>>) {
        let fields = fields.iter().map(|field| (KEY, field.parse().unwrap()));
        let headers: HeaderMap = fields.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        });
        assert_eq!(key(&headers).ok(), expected, "{headers:?}");
    }

    #[test]
    fn a_key_is_taken_with_and_without_quotes() {
        check(&[], Some(None));
        check(&["8e03978e-40d5"], Some(Some("8e03978e-40d5")));
        check(&["\"8e03978e-40d5\""], Some(Some("8e03978e-40d5")));
        check(&[&"x".repeat(255)], Some(Some(&"x".repeat(255))));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for field in ["", "\"\"", "a b", "\"", "a\"b", "\u{fc}", &"x".repeat(256)] {
            check(&[field], None);
        }
        check(&["a", "a"], None);
    }

    #[test]
    fn a_boundary_is_that_of_a_multipart_body() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Mixed; charset=x; Boundary=\"a b\"", Some("a b")),
            ("application/json; boundary=abc", None),
            ("multipart/form-data", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(boundary(&headers), expected, "{kind}");
        }
    }
}
