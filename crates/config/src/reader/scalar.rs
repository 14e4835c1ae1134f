//! Readers of single values and of lists.

use std::time::Duration;

use serde_json::Value;

use super::{Reader, choices, repeated, unknown};
use crate::key::{is_id_letter, is_name_letter};

/// Anything; for what is read elsewhere.
pub(crate) fn any<'v>(_: &mut Reader<'v>, value: &'v Value) -> Option<&'v Value> {
    Some(value)
}

/// `true` or `false`.
pub(crate) fn boolean(reader: &mut Reader<'_>, value: &Value) -> Option<bool> {
    let read = value.as_bool();
    if read.is_none() {
        reader.expected("a boolean", value);
    }
    read
}

/// A whole number within bounds, both included.
pub(crate) fn integer<'v, T: TryFrom<i64>>(
    min: i64,
    max: i64,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<T> {
    move |reader, value| {
        let Value::Number(number) = value else {
            reader.expected("an integer", value);
            return None;
        };
        // `1.0` is an integer in JSON Schema and to APISIX.
        let Some(read) = number.as_i64().or_else(|| whole(number.as_f64()?)) else {
            reader.fault(format!("expected an integer, got {number}"));
            return None;
        };
        if read < min {
            reader.fault(format!("expected {read} to be at least {min}"));
            return None;
        }
        if read > max {
            reader.fault(format!("expected {read} to be at most {max}"));
            return None;
        }
        T::try_from(read).ok()
    }
}

/// A float without a fraction, within what a float holds exactly.
fn whole(number: f64) -> Option<i64> {
    let limit = 9_007_199_254_740_992.0;
    if number.fract() != 0.0 || number.abs() > limit {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

/// A port number.
pub(crate) fn port<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<u16> {
    integer(1, 65_535)(reader, value)
}

/// A text within bounds of its length in characters, both included.
pub(crate) fn text<'v>(
    min: usize,
    max: usize,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<&'v str> {
    move |reader, value| {
        let Some(read) = value.as_str() else {
            reader.expected("a string", value);
            return None;
        };
        let length = read.chars().count();
        if length < min {
            reader.fault(format!("is too short: expected at least {min} characters, got {length}"));
            return None;
        }
        if length > max {
            reader.fault(format!("is too long: expected at most {max} characters, got {length}"));
            return None;
        }
        Some(read)
    }
}

/// A text of which every character is allowed; `what` says which are.
pub(crate) fn matching<'v>(
    (min, max): (usize, usize),
    allowed: fn(char) -> bool,
    what: &'static str,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<&'v str> {
    move |reader, value| {
        let read = text(min, max)(reader, value)?;
        if !read.chars().all(allowed) {
            reader.fault(format!("may hold only {what}"));
            return None;
        }
        Some(read)
    }
}

/// A text that a function turns into something, or says why it cannot.
pub(crate) fn pattern<'v, T>(
    (min, max): (usize, usize),
    parse: impl Fn(&str) -> Result<T, String>,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<T> {
    move |reader, value| {
        let read = text(min, max)(reader, value)?;
        parse(read).map_err(|why| reader.fault(why)).ok()
    }
}

/// An id: 1 to 64 letters, digits, `-`, `_` and `.`, or an integer from 1.
pub(crate) fn id<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    if value.is_number() {
        let number: i64 = integer(1, i64::MAX)(reader, value)?;
        return Some(number.to_string());
    }
    matching((1, 64), is_id_letter, "letters, digits, `-`, `_` and `.`")(reader, value)
        .map(str::to_owned)
}

/// The name of an agent: 1 to 256 letters, digits, `-` and `_`.
pub(crate) fn named<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    let what = "letters, digits, `-` and `_`";
    matching((1, 256), is_name_letter, what)(reader, value).map(str::to_owned)
}

/// One of a closed set of names. A name with a reason is known and refused.
pub(crate) fn one_of<'v, T: Copy>(
    served: &'static [(&'static str, T)],
    refused: &'static [(&'static str, &'static str)],
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<T> {
    move |reader, value| {
        let Some(read) = value.as_str() else {
            reader.expected("a string", value);
            return None;
        };
        if let Some((_, found)) = served.iter().find(|(name, _)| *name == read) {
            return Some(*found);
        }
        let names = || served.iter().map(|(name, _)| *name);
        match refused.iter().find(|(name, _)| *name == read) {
            Some((name, why)) => reader.fault(format!("`{name}` {why}")),
            None => reader.fault(format!(
                "{}: expected {}",
                unknown("value", read, names()),
                choices(names())
            )),
        }
        None
    }
}

/// Seconds as a number with a fraction; zero only where it is allowed.
pub(crate) fn seconds<'v>(zero: bool) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<Duration> {
    move |reader, value| {
        let Some(read) = value.as_f64() else {
            reader.expected("a number of seconds", value);
            return None;
        };
        let duration = Duration::try_from_secs_f64(read).ok().filter(|time| *time <= LONGEST);
        match duration {
            None if read < 0.0 => reader.fault(format!("expected {read} to be at least 0")),
            None => reader.fault(format!("is longer than {} seconds", LONGEST.as_secs())),
            Some(Duration::ZERO) if !zero => {
                reader.fault(format!("expected {read} to be greater than 0"));
            }
            Some(duration) => return Some(duration),
        }
        None
    }
}

/// Whole milliseconds from `min`.
pub(crate) fn millis<'v>(min: i64) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<Duration> {
    move |reader, value| {
        let longest = i64::try_from(LONGEST.as_millis()).unwrap_or(i64::MAX);
        integer(min, longest)(reader, value).map(Duration::from_millis)
    }
}

/// A number of zero or more, as its own text, so that nothing of it is rounded.
pub(crate) fn decimal<'v>(texts: bool) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<String> {
    move |reader, value| match value {
        Value::Number(number) if number.as_f64().is_some_and(|number| number < 0.0) => {
            reader.fault(format!("expected {number} to be at least 0"));
            None
        }
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if texts => Some(text.clone()),
        other => {
            reader.expected("a number", other);
            None
        }
    }
}

/// A list within bounds of its length, both included. Items with faults are left out.
pub(crate) fn list<'v, T>(
    min: usize,
    max: usize,
    item: impl Fn(&mut Reader<'v>, &'v Value) -> Option<T>,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<Vec<T>> {
    move |reader, value| {
        let Value::Array(items) = value else {
            reader.expected("an array", value);
            return None;
        };
        if items.len() < min {
            reader.fault(format!("expected at least {min} items, got {}", items.len()));
        }
        if items.len() > max {
            reader.fault(format!("expected at most {max} items, got {}", items.len()));
            return None;
        }
        let read = |(index, value)| reader.element(index, |reader| item(reader, value));
        Some(items.iter().enumerate().filter_map(read).collect())
    }
}

/// A list as above, in which nothing stands twice.
pub(crate) fn unique<'v, T: Ord>(
    min: usize,
    max: usize,
    item: impl Fn(&mut Reader<'v>, &'v Value) -> Option<T>,
) -> impl Fn(&mut Reader<'v>, &'v Value) -> Option<Vec<T>> {
    move |reader, value| {
        let before = reader.count();
        let items = list(min, max, &item)(reader, value)?;
        // With faults, items are left out, and positions would be wrong.
        if reader.count() == before {
            for index in repeated(items.iter()) {
                reader.element(index, |reader| reader.fault("stands in the list already"));
            }
        }
        Some(items)
    }
}

/// The longest time a document may name: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
