//! Limits: rates that hold over the whole fleet.

use std::time::Duration;

use model::{Bucket, LimitId, Rate, Tokens};
use rules::limit::{Limit, Mode, Per};
use serde_json::Value;

use super::head;
use super::selector::{ON_OUTAGE, selector};
use crate::reader::{Object, Reader, boolean, choices, decimal, one_of, pattern, seconds};

/// Reads a limit.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Limit> {
    let limit_id = LimitId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let per = object.required("per", one_of(Per::NAMED, &[]));
    let selector = object.optional("match", selector).unwrap_or_default();
    let bucket = bucket(&mut object);
    let mode = object.optional("mode", one_of(MODE, &[]));
    let on_outage = object.optional("on_outage", one_of(ON_OUTAGE, &[]));
    let shadow = object.optional("shadow", boolean).unwrap_or_default();
    object.finish();
    Some(Limit {
        id: limit_id,
        per: per?,
        selector,
        bucket: bucket?,
        mode: mode.unwrap_or_default(),
        on_outage: on_outage.unwrap_or_default(),
        shadow,
    })
}

const MODE: &[(&str, Mode)] =
    &[("exact", Mode::Exact), ("leased", Mode::Leased), ("auto", Mode::Auto)];

/// Reads `rate` every `interval`, and `burst`. Without a burst the bucket holds what one interval
/// refills, and at least one token.
fn bucket(object: &mut Object<'_, '_>) -> Option<Bucket> {
    let interval = object.optional("interval", interval);
    let every = if object.has("interval") { interval } else { Some(SECOND) };
    let rate = object.required("rate", |reader, value| {
        let text = decimal(true)(reader, value)?;
        // A fault in the interval is not one of the rate.
        let rate = Rate::parse(&text, every.unwrap_or(SECOND));
        rate.map_err(|error| reader.fault(error.to_string())).ok().map(|rate| (text, rate))
    });
    let burst = object.optional("burst", |reader, value| {
        let text = decimal(true)(reader, value)?;
        // Without a rate the burst itself is still judged.
        let judged = rate.as_ref().map(|(_, rate)| *rate).or_else(|| Rate::parse("1", SECOND).ok());
        let bucket = Bucket::new(judged?, &text, Tokens(0));
        let bucket = bucket.map_err(|error| reader.fault(error.to_string())).ok()?;
        if bucket.burst() < Tokens(1) {
            reader.fault(format!(
                "expected {text} to be at least 1: a smaller bucket admits nothing, ever"
            ));
            return None;
        }
        rate.is_some().then_some(bucket)
    });
    if object.has("burst") {
        return burst;
    }
    let (text, rate) = rate?;
    let refilled = Bucket::new(rate, &text, Tokens(0)).ok();
    let held = refilled.filter(|bucket| bucket.burst() >= Tokens(1));
    let one = || Bucket::new(rate, "1", Tokens(0));
    match held.map_or_else(one, Ok) {
        Ok(bucket) => Some(bucket),
        Err(error) => {
            object.fault("rate", error.to_string());
            None
        }
    }
}

/// The interval where none is given.
const SECOND: Duration = Duration::from_secs(1);

/// Reads a number of seconds, or a text such as `10s` and `5m`.
pub(super) fn interval<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Duration> {
    if value.is_string() {
        return pattern((1, 16), with_unit)(reader, value);
    }
    if !value.is_number() {
        reader.expected("a number of seconds or a text such as `5m`", value);
        return None;
    }
    let interval = seconds(false)(reader, value)?;
    if interval < SHORTEST {
        reader.fault(format!("expected {value} to be at least 0.001: a millisecond"));
        return None;
    }
    Some(interval)
}

/// Reads `10s`, `5m`…
fn with_unit(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default();
    let found = UNITS.iter().find(|(name, _)| *name == unit);
    let amount = digits.parse::<u64>().ok().filter(|amount| *amount > 0);
    let (Some((_, millis)), Some(amount)) = (found, amount) else {
        let units = choices(UNITS.iter().map(|(name, _)| *name));
        return Err(format!(
            "expected a whole number from 1 with a unit: {units}; or seconds as a plain number"
        ));
    };
    let whole = amount.checked_mul(*millis).map(Duration::from_millis);
    whole.filter(|time| *time <= LONGEST).ok_or_else(|| String::from("is longer than 366 days"))
}

/// Units of an interval, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
