//! What an upstream's answer says of its quota: `RateLimit` (draft-ietf-httpapi-ratelimit-headers,
//! by its newest form and by that of its third draft), `X-RateLimit-*` and `Retry-After`.

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use model::Timestamp;

use super::principal::Said;
use super::rule::{QUOTA_MAX, Rule, WINDOW_MAX};

/// Reads the fields of an answer. What is not understood says nothing.
#[must_use]
pub fn read(rule: &Rule, status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Said {
    let blocked = (status == StatusCode::TOO_MANY_REQUESTS)
        .then(|| number(headers, RETRY_AFTER.as_str()).map_or(0, |wait| seconds(wait, now)));
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
