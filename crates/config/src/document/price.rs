//! Prices: what calls hold of a budget, and what they are charged.

mod formula;
mod quote;

use model::PriceId;
use rules::price::{Due, Estimate, Formula, Price, Recurring, Source};
use serde_json::Value;

use super::budget::{amount, unit};
use super::head;
use super::selector::selector;
use crate::reader::{Object, Reader, integer, one_of, unique};

/// Reads a price.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Price> {
    let price_id = PriceId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let selector = object.required("match", selector);
    let priority = object.optional("priority", integer(i64::from(i32::MIN), i64::from(i32::MAX)));
    let unit = object.required("unit", |reader, value| {
        let unit = unit(reader, value)?;
        if unit.is_requests() {
            reader.fault("needs no price: every call is one of the `requests`");
            return None;
        }
        Some(unit)
    });
    let quote =
        object.optional("quote", |reader, value| quote::read(reader, value, selector.as_ref()));
    let hold = object.required("hold", |reader, value| {
        let mut object = reader.object(value)?;
        let cap = object.optional("cap", |reader, value| amount(reader, value, unit.as_ref()));
        let formula = formula::members(object, &BEFORE)?;
        Some(Estimate { formula, cap })
    });
    let charge = object.optional("charge", |reader, value| {
        let object = reader.object(value)?;
        formula::members(object, &AFTER)
    });
    check_quote(&mut object, hold.as_ref(), charge.as_ref());
    let due = object.optional("due", due);
    let recurring = object.optional("recurring", one_of(RECURRING, &[]));
    object.finish();
    Some(Price {
        id: price_id,
        selector: selector?,
        priority: priority.unwrap_or_default(),
        unit: unit?,
        hold: hold?,
        charge,
        quote,
        due: due.unwrap_or_default(),
        recurring: recurring.unwrap_or_default(),
    })
}

/// What can be read before the call leaves.
const BEFORE: [Source; 2] = [Source::Request, Source::Quote];

/// What can be read once it is answered.
const AFTER: [Source; 3] = [Source::Request, Source::Quote, Source::Response];

/// A quote is asked for where something reads it, and only there.
fn check_quote(object: &mut Object<'_, '_>, hold: Option<&Estimate>, charge: Option<&Formula>) {
    let is_wrong = object.has("hold") && hold.is_none() || object.has("charge") && charge.is_none();
    if is_wrong {
        return;
    }
    let held = hold.into_iter().flat_map(|hold| &hold.formula.0);
    let terms = held.chain(charge.into_iter().flat_map(|charge| &charge.0));
    let is_read = terms.flat_map(|term| &term.reads).any(|read| read.from == Source::Quote);
    match (is_read, object.has("quote")) {
        (true, false) => object.fault("quote", "is required: something is read `from` it"),
        (false, true) => object.fault("quote", "is asked for nothing: nothing is read `from` it"),
        (true, true) | (false, false) => {}
    }
}

const RECURRING: &[(&str, Recurring)] =
    &[("once", Recurring::Once), ("month", Recurring::Month), ("year", Recurring::Year)];

const ON: &[(&str, ())] = &[("accepted", ())];
const ON_REFUSED: &[(&str, &str)] =
    &[("completed", "is not served yet: a call that the upstream accepts is charged at once")];

fn due<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Due> {
    let mut object = reader.object(value)?;
    let statuses = object.optional("statuses", unique(1, STATUSES_MAX, status));
    object.optional("on", one_of(ON, ON_REFUSED));
    object.finish();
    Some(statuses.map_or_else(Due::default, |statuses| Due { statuses }))
}

/// Ranges of statuses in one list.
const STATUSES_MAX: usize = 64;

/// Reads a status, such as `201`, or a class of them, such as `2xx`.
fn status<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<(u16, u16)> {
    if value.is_number() {
        return integer(100, 599)(reader, value).map(|status| (status, status));
    }
    let class = value.as_str().and_then(|text| text.strip_suffix("xx"));
    let class = class.and_then(|class| class.parse().ok()).filter(|class| (1..6).contains(class));
    if class.is_none() {
        reader.fault("expected a status, such as 201, or a class of them: `1xx` to `5xx`");
    }
    class.map(|class: u16| (class * 100, class * 100 + 99))
}
