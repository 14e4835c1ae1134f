//! Quotes: the calls by which a price asks the upstream.

use std::sync::Arc;

use http::{Method, Uri};
use rules::operation::{Api, Effect, Template};
use rules::price::{Piece, Pointer, Quote};
use rules::selector::Selector;
use rules::target::Target;
use serde_json::Value;

use super::formula::pointer;
use crate::reader::{Reader, choices, one_of, text};

/// Reads a quote of a price that binds what this selector names.
pub(super) fn read<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    selector: Option<&Selector>,
) -> Option<Quote> {
    let mut object = reader.object(value)?;
    let method = object.optional("method", one_of(METHODS, &[]));
    let asks = if object.has("method") { method } else { Some("GET") };
    let body = object.optional("body", body);
    let path = object.required("path", |reader, value| {
        let written = text(1, 1_024)(reader, value)?;
        let pieces = path(reader, written, selector)?;
        check_effect(reader, asks?, &pieces)?;
        Some(pieces)
    });
    if asks == Some("GET") && object.has("body") {
        object.fault("body", "has no place in a GET");
    }
    let currency = object.optional("currency", pointer);
    object.finish();
    let method = Method::from_bytes(asks?.as_bytes()).ok()?;
    Some(Quote { method, path: path?, body, currency })
}

const METHODS: &[(&str, &str)] = &[("GET", "GET"), ("POST", "POST")];

/// Reads a path with the names of parameters in braces: those of the calls that are priced.
fn path(
    reader: &mut Reader<'_>,
    text: &str,
    selector: Option<&Selector>,
) -> Option<Vec<Piece<&'static str, Arc<str>>>> {
    if !text.starts_with('/') || text.contains(['?', '#']) {
        reader.fault("expected a path that begins with `/`, without a query");
        return None;
    }
    let templates = templates(selector);
    let mut pieces = Vec::new();
    for segment in text.split('/').skip(1) {
        pieces.push(Piece::Text(Arc::from("/")));
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            pieces.push(Piece::Text(Arc::from(segment)));
            continue;
        };
        pieces.push(Piece::Slot(parameter(reader, name, &templates)?));
    }
    Some(pieces)
}

/// What is priced by name.
fn templates(selector: Option<&Selector>) -> Vec<&'static Template> {
    let operations = selector.and_then(|selector| selector.operations.as_ref());
    let Some(operations) = operations else { return Vec::new() };
    let all = Api::ALL.iter().flat_map(|api| api.catalogue().templates());
    all.filter(|template| operations.contains(template.operation)).collect()
}

/// A parameter that every priced call has.
fn parameter(
    reader: &mut Reader<'_>,
    name: &str,
    templates: &[&'static Template],
) -> Option<&'static str> {
    let Some((first, rest)) = templates.split_first() else {
        reader.fault(format!("has the parameter `{name}`, but `match` names no `operations`"));
        return None;
    };
    let is_everywhere = |found: &str| rest.iter().all(|other| other.parameters.contains(&found));
    let known = first.parameters.iter().copied().filter(|found| is_everywhere(found));
    let found = known.clone().find(|found| *found == name);
    if found.is_none() {
        let known: Vec<&str> = known.collect();
        let have = match known.as_slice() {
            [] => String::from("the priced calls have none in common"),
            known => format!("the priced calls have {}", choices(known.iter().copied())),
        };
        reader.fault(format!("has the parameter `{name}`: {have}"));
    }
    found
}

/// A quote is asked for with the real credential, whoever the agent is; so where calls have names,
/// it must be one that only reads.
fn check_effect(
    reader: &mut Reader<'_>,
    method: &str,
    pieces: &[Piece<&'static str, Arc<str>>],
) -> Option<()> {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => &**text,
        Piece::Slot(_) => ANY_VALUE,
    });
    let filled: String = texts.collect();
    let parsed = filled.parse::<Uri>().ok().and_then(|uri| Target::parse(&uri).ok());
    let Some(target) = parsed else {
        reader.fault("is not a path that could be sent");
        return None;
    };
    for api in Api::ALL.iter().filter(|api| filled.starts_with(api.catalogue().base())) {
        match api.catalogue().find(method, &target) {
            Ok(call) if call.template.effect == Effect::Read => {}
            Ok(call) => {
                let operation = call.template.operation;
                reader.fault(format!("is `{operation}`, which may change something"));
                return None;
            }
            Err(_) => {
                reader.fault(format!("is no call of the API `{}`", api.as_str()));
                return None;
            }
        }
    }
    Some(())
}

/// What every shape of a parameter takes.
const ANY_VALUE: &str = "0123456789abcdef0123456789abcdef";

/// Reads a JSON value in which a text such as `{/name}` stands for what the request's body has
/// there.
fn body<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Vec<Piece<Pointer, Arc<str>>>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    fill(reader, value, &mut pieces, &mut text)?;
    pieces.push(Piece::Text(Arc::from(text)));
    Some(pieces)
}

/// Writes a value as a template: text up to the next slot, which ends a piece.
fn fill<'v>(
    reader: &mut Reader<'v>,
    value: &'v Value,
    pieces: &mut Vec<Piece<Pointer, Arc<str>>>,
    text: &mut String,
) -> Option<()> {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                reader.element(index, |reader| fill(reader, item, pieces, text))?;
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                reader.at(name, |reader| fill(reader, member, pieces, text))?;
            }
            text.push('}');
        }
        Value::String(written) if is_slot(written) => {
            let found = written.get(1..written.len() - 1).and_then(Pointer::parse);
            let Some(found) = found else {
                reader.fault("is not a JSON pointer in braces, such as `{/name}`");
                return None;
            };
            pieces.push(Piece::Text(Arc::from(std::mem::take(text))));
            pieces.push(Piece::Slot(found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
    Some(())
}

fn is_slot(text: &str) -> bool {
    text.starts_with("{/") && text.ends_with('}')
}
