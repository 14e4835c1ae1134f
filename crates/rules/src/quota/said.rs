//! What an upstream's answer says of its quota: `RateLimit` (draft-ietf-httpapi-ratelimit-headers,
//! by its newest form and by that of its third draft), `X-RateLimit-*` and `Retry-After`.

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use model::Timestamp;

use super::news::{Blocked, Said};
use super::rule::{QUOTA_MAX, Rule, WINDOW_MAX};

/// Reads the fields of an answer. What is not understood says nothing.
#[must_use]
pub fn read(rule: &Rule, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Said {
    let blocked = (status == StatusCode::TOO_MANY_REQUESTS).then(|| retry_after(headers, now));
    let newest = items(headers, "ratelimit").into_iter().filter_map(|item| {
        let (left, until) = (item.number("r")?, item.number("t").map(|t| seconds(t, now)));
        Some((item.name, left, until))
    });
    let newest: Vec<(String, u64, Option<u64>)> = newest.collect();
    let used = items(headers, "ratelimit-policy").into_iter().find_map(|policy| {
        let is_ours = policy.number("w")?.saturating_mul(1_000) == rule.window;
        let (_, left, _) = newest.iter().find(|(name, ..)| *name == policy.name)?;
        is_ours.then_some(policy.number("q")?.saturating_sub(*left))
    });
    let older = ["x-ratelimit", "ratelimit"].into_iter().find_map(|family| {
        let left = number(headers, &format!("{family}-remaining"))?;
        let reset = number(headers, &format!("{family}-reset"))?;
        Some((left, seconds(reset, now)))
    });
    let left = newest.into_iter().filter_map(|(_, left, until)| Some((left, until?))).chain(older);
    let bounded = |(left, until): (u64, u64)| (left.min(QUOTA_MAX), until.min(WINDOW_MAX));
    Said { left: left.map(bounded).min(), used, blocked }
}

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a moment. A moment is taken against the answer's
/// own `Date`, since its clock and ours may differ.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Blocked {
    let Some(text) = text(headers, &RETRY_AFTER) else { return Blocked::Unsaid };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Blocked::For(seconds(text.parse().unwrap_or(u64::MAX), now));
    }
    let Some(until) = moment(text) else { return Blocked::Unsaid };
    let from = text_moment(headers, &DATE).unwrap_or_else(|| now.as_secs());
    Blocked::For(until.saturating_sub(from).saturating_mul(1_000).min(WINDOW_MAX))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn text_moment(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    moment(text(headers, name)?)
}

/// Seconds since 1970 of an HTTP-date, in each of its three forms (RFC 9110 §5.6.7).
fn moment(text: &str) -> Option<u64> {
    let read = |form| DateTime::strptime(form, text).ok();
    let found = DATE_FORMS.into_iter().find_map(read)?;
    let found = Offset::UTC.to_timestamp(found).ok()?;
    u64::try_from(found.as_second()).ok()
}

/// One item of a list: a name and its parameters.
struct Item {
    name: String,
    parameters: Vec<(String, u64)>,
}

impl Item {
    fn number(&self, name: &str) -> Option<u64> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }
}

fn items(headers: &HeaderMap, name: &str) -> Vec<Item> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).take(ITEMS_MAX).map(item).collect()
}

fn item(text: &str) -> Item {
    let mut parts = text.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().trim_matches('"').to_owned();
    let parameter = |part: &str| {
        let (key, value) = part.split_once('=')?;
        Some((key.to_ascii_lowercase(), value.trim().parse().ok()?))
    };
    Item { name, parameters: parts.filter_map(parameter).collect() }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Milliseconds until a number of seconds has passed; a large one is a moment since 1970.
fn seconds(number: u64, now: Timestamp) -> u64 {
    let wait = if number > MOMENTS { number.saturating_sub(now.as_secs()) } else { number };
    wait.saturating_mul(1_000).min(WINDOW_MAX)
}

/// Items of a field that are read; the rest says nothing.
const ITEMS_MAX: usize = 16;

/// No wait is as long: from here on a number is a moment.
const MOMENTS: u64 = 100_000_000;

/// IMF-fixdate, and the obsolete forms of RFC 850 and of C's `asctime`.
const DATE_FORMS: [&str; 3] =
    ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
