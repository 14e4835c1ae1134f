//! Repeats: how a route's requests are kept from having their effect twice (`idempotency`).

use std::time::Duration;

use rules::repeat::{Care, Rule};
use serde_json::Value;

use super::limit::interval;
use crate::reader::{Reader, integer, one_of};

/// Reads `true`, `false` or the rule's members.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Care> {
    match value {
        Value::Bool(true) => return Some(Care::Always(Box::new(Rule::DEFAULT))),
        Value::Bool(false) => return Some(Care::Never),
        Value::Object(_) => {}
        _ => {
            reader.expected("a boolean or an object", value);
            return None;
        }
    }
    let mut object = reader.object(value)?;
    let window = object.optional("window", window);
    let retry_window = object.optional("retry_window", window_of_retries);
    let body_max = object.optional("body_max", integer::<i64>(0, BODY_MAX));
    let passes = object.optional("on_outage", one_of(ON_OUTAGE, &[]));
    object.finish();
    let body_max = body_max.and_then(|bytes| usize::try_from(bytes).ok());
    Some(Care::Always(Box::new(Rule {
        window: window.unwrap_or(Rule::DEFAULT.window),
        retry_window: retry_window.unwrap_or(Rule::DEFAULT.retry_window),
        body_max: body_max.unwrap_or(Rule::DEFAULT.body_max),
        passes_without_ledger: passes.unwrap_or(Rule::DEFAULT.passes_without_ledger),
    })))
}

fn window<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Duration> {
    within(reader, value, LONGEST)
}

fn window_of_retries<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Duration> {
    within(reader, value, LONGEST_OF_RETRIES)
}

fn within<'v>(reader: &mut Reader<'v>, value: &'v Value, longest: Duration) -> Option<Duration> {
    let window = interval(reader, value)?;
    if window < SHORTEST || window > longest {
        let hours = longest.as_secs() / 3_600;
        reader.fault(format!("expected {value} to be between a minute and {hours} hours"));
        return None;
    }
    Some(window)
}

const ON_OUTAGE: &[(&str, bool)] = &[("refuse", false), ("allow", true)];

/// Less than it takes to answer slowly would be forgotten too early.
const SHORTEST: Duration = Duration::from_secs(60);
/// What is remembered takes room.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const LONGEST_OF_RETRIES: Duration = Duration::from_secs(86_400);

/// Bodies that are compared are held in memory.
const BODY_MAX: i64 = 16 << 20;
