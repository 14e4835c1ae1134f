//! Rules about answers: what agents see of them.

use std::sync::Arc;

use model::ResponseId;
use rules::response::{Detour, Field, Response, Reveal};
use serde_json::Value;

use super::head;
use super::selector::selector;
use crate::reader::{Reader, pattern, text, unique};

/// Reads a rule.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Response> {
    let response_id = ResponseId::new(reader.id().unwrap_or_default());
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let selector = object.required("match", selector);
    let reveal = object.optional("reveal", reveal);
    let redact = object.optional("redact", unique(1, FIELDS_MAX, field));
    let detours = object.optional("rewrite", unique(1, FIELDS_MAX, detour));
    let refuse = object.optional("refuse", text(1, 256));
    let does = ["reveal", "redact", "rewrite", "refuse"];
    let does_nothing = !does.into_iter().any(|name| object.has(name));
    object.finish();
    if does_nothing {
        reader.fault("does nothing: it needs `reveal`, `redact`, `rewrite` or `refuse`");
    }
    Some(Response {
        id: response_id,
        selector: selector?,
        reveal: reveal.unwrap_or_default(),
        redact: redact.unwrap_or_default(),
        detours: detours.unwrap_or_default(),
        refuse: refuse.map(Arc::from),
    })
}

/// Reads `["*"]`, or the fields that are shown.
fn reveal<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Reveal> {
    if value.as_array().is_some_and(|items| matches!(items.as_slice(), [one] if one == "*")) {
        return Some(Reveal::All);
    }
    unique(1, FIELDS_MAX, field)(reader, value).map(Reveal::Fields)
}

fn field<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Field> {
    let read = |text: &str| {
        Field::parse(text).ok_or_else(|| {
            String::from("expected up to 16 names with dots between them, such as `result.value`")
        })
    };
    pattern((1, 256), read)(reader, value)
}

fn detour<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Detour> {
    let mut object = reader.object(value)?;
    let field = object.required("field", field);
    let from = object.required("from", pattern((8, 512), start));
    let to = object.required("to", pattern((8, 512), start));
    object.finish();
    Some(Detour { field: field?, from: from?, to: to? })
}

/// The beginning of a URL, with its host whole: a part of a host could be anybody's.
fn start(text: &str) -> Result<Arc<str>, String> {
    let rest = text.split_once("://").filter(|(scheme, _)| SCHEMES.contains(scheme));
    let host = rest.and_then(|(_, rest)| rest.split_once('/')).map(|(host, _)| host);
    if host.is_some_and(|host| !host.is_empty() && !host.contains(['@', '?', '#', '\\'])) {
        return Ok(Arc::from(text));
    }
    let scheme = SCHEMES.join(", ");
    Err(format!("expected the beginning of a URL ({scheme}) to the `/` behind its host at least"))
}

const SCHEMES: [&str; 4] = ["https", "http", "wss", "ws"];

/// Fields of one rule.
const FIELDS_MAX: usize = 64;
