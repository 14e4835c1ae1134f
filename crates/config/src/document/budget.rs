//! Budgets: amounts over calendar periods.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{Amount, BudgetId, Secret, Unit};
use rules::budget::{
    Budget, Calendar, Durability, Every, THRESHOLDS_MAX, Webhook, WhenShort, zone,
};
use rules::limit::Per;
use serde_json::Value;

use super::head;
use super::selector::{ON_OUTAGE, selector};
use crate::custody::{Custody, Opened};
use crate::reader::{Object, Reader, boolean, integer, one_of, pattern, text, unique};

/// Reads a budget.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Budget> {
    let budget_id = BudgetId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let per = object.required("per", one_of(PER, PER_REFUSED));
    let unit = object.required("unit", unit);
    let amount = object.required("amount", |reader, value| amount(reader, value, unit.as_ref()));
    let calendar = object.required("period", period);
    let selector = object.optional("match", selector).unwrap_or_default();
    let thresholds = object.optional("thresholds", thresholds);
    let webhook = object.optional("notify", notify).flatten();
    let when_short = object.optional("when_short", one_of(WHEN_SHORT, WHEN_SHORT_REFUSED));
    let on_outage = object.optional("on_outage", one_of(ON_OUTAGE, &[]));
    let durability = object.optional("durability", one_of(DURABILITY, DURABILITY_REFUSED));
    let shadow = object.optional("shadow", boolean).unwrap_or_default();
    object.finish();
    Some(Budget {
        id: budget_id,
        per: per?,
        unit: unit?,
        amount: amount?,
        calendar: calendar?,
        selector,
        thresholds: thresholds.unwrap_or_else(|| THRESHOLDS.to_vec()),
        webhook,
        when_short: when_short.unwrap_or_default(),
        on_outage: on_outage.unwrap_or_default(),
        durability: durability.unwrap_or_default(),
        shadow,
    })
}

const PER: &[(&str, Per)] =
    &[Per::Organisation.named(), Per::Team.named(), Per::Agent.named(), Per::Run.named()];
const PER_REFUSED: &[(&str, &str)] = &[
    ("route", "has no budget: take `organisation` with a `match` of that route"),
    ("address", "has no budget: money belongs to somebody who is known"),
];

const WHEN_SHORT: &[(&str, WhenShort)] = &[("refuse", WhenShort::Refuse)];
const WHEN_SHORT_REFUSED: &[(&str, &str)] =
    &[("ask", "is not served yet: nobody can be asked; take `refuse`")];

const DURABILITY: &[(&str, Durability)] =
    &[("store", Durability::Store), ("journal", Durability::Journal)];
const DURABILITY_REFUSED: &[(&str, &str)] =
    &[("peer", "is not served yet: no second node keeps a journal; take `journal`")];

/// Reads the name of a unit.
pub(crate) fn unit<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Unit> {
    pattern((1, 64), |name| Unit::parse(name).map_err(|error| error.to_string()))(reader, value)
}

/// Reads an amount of zero or more. Without a unit, which has its own fault then, the text is still
/// judged as a decimal of millionths.
pub(crate) fn amount<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    unit: Option<&Unit>,
) -> Option<Amount> {
    let text = quoted(reader, value)?;
    let read = match unit {
        Some(unit) => Amount::parse(text, unit),
        None => Unit::parse("any").and_then(|unit| Amount::parse(text, &unit)),
    };
    let read = read.map_err(|error| reader.fault(error.to_string())).ok()?;
    if read < Amount::ZERO {
        reader.fault("is below zero");
        return None;
    }
    unit.is_some().then_some(read)
}

/// Reads a decimal that stands in quotes.
pub(crate) fn quoted<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<&'v str> {
    if let Value::Number(number) = value {
        reader.fault(format!(
            "expected a decimal in quotes, such as \"{number}\": programs round the numbers of JSON"
        ));
        return None;
    }
    text(1, 64)(reader, value)
}

fn period<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Calendar> {
    let mut object = reader.object(value)?;
    let every = object.required("every", one_of(Every::NAMED, &[]));
    let named = object.optional("zone", pattern((1, 64), zone_named));
    let anchor = object.optional("anchor", pattern((1, 64), moment));
    if every == Some(Every::Lifetime) {
        for name in ["zone", "anchor"] {
            if object.has(name) {
                object.fault(name, "means nothing for a lifetime, which neither begins nor ends");
            }
        }
    }
    object.finish();
    let every = every?;
    if every == Every::Lifetime {
        return Some(Calendar::lifetime());
    }
    Some(Calendar::new(every, named.unwrap_or(TimeZone::UTC), anchor))
}

fn zone_named(name: &str) -> Result<TimeZone, String> {
    zone(name).ok_or_else(|| {
        String::from("is not a time zone: expected a name of the IANA's, such as `Europe/Berlin`")
    })
}

/// Reads a moment on the wall clock of the zone.
fn moment(text: &str) -> Result<DateTime, String> {
    let expected = "expected a date, or a date and a time in whole seconds without a zone, such \
                    as `2026-01-15T06:00:00`";
    let is_plain = |letter: char| letter.is_ascii_digit() || matches!(letter, '-' | ':' | 'T');
    let is_whole = text.chars().all(is_plain);
    let read = text.parse::<DateTime>().ok().filter(|_| is_whole);
    let read = read.ok_or_else(|| String::from(expected))?;
    if (ANCHOR_YEAR_MIN..=ANCHOR_YEAR_MAX).contains(&read.year()) {
        Ok(read)
    } else {
        Err(format!("expected a year from {ANCHOR_YEAR_MIN} to {ANCHOR_YEAR_MAX}"))
    }
}

const ANCHOR_YEAR_MIN: i16 = 1970;
const ANCHOR_YEAR_MAX: i16 = 2200;

/// Reads percents in any order.
fn thresholds<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Vec<u8>> {
    let mut percents = unique(0, THRESHOLDS_MAX, integer::<u8>(1, 100))(reader, value)?;
    percents.sort_unstable();
    Some(percents)
}

/// What reports itself where a budget says nothing else.
const THRESHOLDS: [u8; 3] = [50, 80, 100];

fn notify<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Option<Webhook>> {
    let mut object = reader.object(value)?;
    let url = webhook(&mut object);
    let secret = object.optional("secret", |reader, value| {
        let written = text(SECRET_BYTES_MIN, 1024)(reader, value)?;
        Some(reader.secret(written, Custody::Seal))
    });
    object.finish();
    Some(match secret {
        None => url.map(|url| Webhook { url, secret: None }),
        Some(Opened::Text(secret)) => url.map(|url| Webhook { url, secret: Some(secret) }),
        // Whoever awaits a signature is told nothing without one.
        Some(Opened::Closed(_)) => None,
    })
}

/// Reads the address of a webhook, whose path mostly is a secret.
fn webhook(object: &mut Object<'_, '_>) -> Option<Secret<String>> {
    let opened = object.required("webhook", |reader, value| {
        let written = text(1, 2048)(reader, value)?;
        let opened = reader.secret(written, Custody::Seal);
        let Opened::Text(secret) = &opened else { return Some(opened) };
        let uri: Option<http::Uri> = secret.expose().parse().ok();
        let is_fine = uri.is_some_and(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            let named = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
            is_http && named && uri.host().is_some_and(|host| !host.is_empty())
        });
        if is_fine {
            return Some(opened);
        }
        let why = "is not the address of a webhook: expected `https://HOST/…` without a user name";
        Some(reader.unusable(written, String::from(why)))
    });
    match opened? {
        Opened::Text(url) => Some(url),
        Opened::Closed(_) => None,
    }
}

/// Bytes of a text that tellings are signed with; a reference to one is longer in any case.
const SECRET_BYTES_MIN: usize = 8;
