//! The sums of a price: fixed amounts, and numbers that are read somewhere times a factor.

use rules::price::{Decimal, Formula, Pointer, Read, Source, Term, What};
use serde_json::Value;

use crate::document::budget::quoted;
use crate::reader::{Object, Reader, list, one_of, text};

/// Reads the members of a formula: one term, or the `sum` of several.
pub(super) fn members(mut object: Object<'_, '_>, sources: &[Source]) -> Option<Formula> {
    if !object.has("sum") {
        return term(object, sources).map(|term| Formula(vec![term]));
    }
    let terms = object.optional("sum", |reader, value| {
        let before = reader.count();
        let terms = list(1, TERMS_MAX, |reader: &mut Reader<'_>, value| {
            let object = reader.object(value)?;
            term(object, sources)
        })(reader, value)?;
        (reader.count() == before).then_some(terms)
    });
    object.finish();
    terms.map(Formula)
}

/// Terms of one sum.
const TERMS_MAX: usize = 16;

/// Reads one term: `fixed`, or `from` and `pointer` with a factor.
fn term(mut object: Object<'_, '_>, sources: &[Source]) -> Option<Term> {
    if object.has("fixed") {
        let factor = object.required("fixed", |reader, value| {
            let factor = decimal(reader, value)?;
            if factor.is_negative() {
                reader.fault("is below zero");
                return None;
            }
            Some(factor)
        });
        object.exclusive("fixed", "from");
        if object.has("from") {
            read_members(&mut object, sources);
        }
        object.finish();
        return factor.map(|factor| Term { factor, reads: Vec::new() });
    }
    let first = read_members(&mut object, sources);
    let by = object.optional("by", |reader, value| {
        let mut object = reader.object(value)?;
        let read = read_members(&mut object, sources);
        object.finish();
        read
    });
    object.exclusive("times", "per_million");
    let times = object.optional("times", decimal);
    let per_million = object.optional("per_million", |reader, value| {
        let factor = decimal(reader, value)?.millionth();
        if factor.is_none() {
            reader.fault("has too many digits");
        }
        factor
    });
    let is_wrong = (object.has("by") && by.is_none())
        || (object.has("times") && times.is_none())
        || (object.has("per_million") && per_million.is_none());
    object.finish();
    let factor = times.or(per_million).unwrap_or(Decimal::ONE);
    let reads = std::iter::once(first?).chain(by).collect();
    (!is_wrong).then_some(Term { factor, reads })
}

/// Reads where a number stands.
fn read_members(object: &mut Object<'_, '_>, sources: &[Source]) -> Option<Read> {
    let from = object.required("from", |reader, value| {
        let from = one_of(SOURCES, &[])(reader, value)?;
        if !sources.contains(&from) {
            reader.fault("cannot be read before the call leaves: expected `request` or `quote`");
            return None;
        }
        Some(from)
    });
    let pointers = object.required("pointer", pointers);
    let what = object.optional("what", |reader, value| {
        one_of(WHATS, &[])(reader, value)
            .map(|count| if count { What::Count } else { What::Number })
    });
    object.exclusive("what", "each");
    let each = object.optional("each", pointer).map(What::Sum);
    let plus = object.optional("plus", decimal);
    let default = object.optional("default", |reader, value| {
        let default = decimal(reader, value)?;
        if default.is_negative() {
            reader.fault("is below zero");
            return None;
        }
        Some(default)
    });
    let plus = plus.unwrap_or(Decimal::ZERO);
    // A default counts as it is: `plus` belongs to what is read.
    let what = each.or(what).unwrap_or_default();
    Some(Read { from: from?, pointers: pointers?, what, plus, default })
}

const SOURCES: &[(&str, Source)] =
    &[("request", Source::Request), ("quote", Source::Quote), ("response", Source::Response)];

/// Whether items are counted.
const WHATS: &[(&str, bool)] = &[("number", false), ("count", true)];

/// Reads one pointer, or a list of them.
fn pointers<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Vec<Pointer>> {
    if value.is_array() {
        return list(1, POINTERS_MAX, pointer)(reader, value);
    }
    pointer(reader, value).map(|pointer| vec![pointer])
}

/// Places of one reading.
const POINTERS_MAX: usize = 8;

/// Reads a JSON pointer.
pub(super) fn pointer<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Pointer> {
    let read = Pointer::parse(text(0, 512)(reader, value)?);
    if read.is_none() {
        reader.fault("is not a JSON pointer, such as `/result/0/price` (RFC 6901)");
    }
    read
}

/// Reads an exact decimal that stands in quotes.
fn decimal<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Decimal> {
    let text = quoted(reader, value)?;
    let is_plain = |letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-');
    let read = Decimal::parse(text).filter(|_| text.chars().all(is_plain));
    if read.is_none() {
        reader.fault("is not a decimal number such as `12.50`");
    }
    read
}
