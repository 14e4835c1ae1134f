//! What the logging plugins have in common: the shape of a record.

use std::sync::Arc;

use rules::record::{BodyCapture, Format, FormatValue, RecordShape};
use rules::variable::Template;
use serde_json::Value;

use crate::document::route::expression;
use crate::reader::{Object, Reader, boolean, integer};

/// Reads the members that say what a record holds.
pub(super) fn read<'v>(object: &mut Object<'_, 'v>) -> RecordShape {
    RecordShape {
        format: object.optional("log_format", log_format).flatten().map(Arc::new),
        extra: object
            .optional("log_format_extra", |reader, value| format(reader, value, 1))
            .map(Arc::new),
        request_body: body(object, REQUEST),
        response_body: body(object, RESPONSE),
    }
}

/// The members about one body: whether, when, and how much of it is written.
type Members = (&'static str, &'static str, &'static str);

const REQUEST: Members = ("include_req_body", "include_req_body_expr", "max_req_body_bytes");
const RESPONSE: Members = ("include_resp_body", "include_resp_body_expr", "max_resp_body_bytes");

fn body(object: &mut Object<'_, '_>, (whether, when, how_much): Members) -> Option<BodyCapture> {
    let included = object.optional(whether, boolean).unwrap_or_default();
    let when = object.optional(when, expression);
    let max_bytes = object.optional(how_much, integer::<u32>(1, BODY_BYTES_MAX));
    let max_bytes = usize::try_from(max_bytes.unwrap_or(BODY_BYTES)).ok()?;
    included.then_some(BodyCapture { when, max_bytes })
}

/// Reads `log_format`: an object, or the text `json` for tollgate's own record.
fn log_format<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Option<Format>> {
    match value {
        Value::String(text) if text == "json" => Some(None),
        Value::String(_) => {
            reader.fault("expected an object, or `json` for tollgate's own record");
            None
        }
        other => format(reader, other, 1).map(Some),
    }
}

/// Reads an object of constants, variables (`$name`) and further objects.
fn format<'v>(reader: &mut Reader<'v>, value: &'v Value, depth: usize) -> Option<Format> {
    let Value::Object(map) = value else {
        reader.expected("an object", value);
        return None;
    };
    if depth > DEPTH_MAX {
        reader.fault(format!("is nested more than {DEPTH_MAX} deep"));
        return None;
    }
    let read = |(name, value): (&'v String, &'v Value)| {
        let read = reader.at(name, |reader: &mut Reader<'v>| member(reader, value, depth))?;
        Some((Arc::from(name.as_str()), read))
    };
    Some(Format(map.iter().filter_map(read).collect()))
}

fn member<'v>(reader: &mut Reader<'v>, value: &'v Value, depth: usize) -> Option<FormatValue> {
    match value {
        Value::String(text) if text.starts_with('$') => {
            let template = Template::parse(text);
            template.map_err(|fault| reader.fault(fault.to_string())).ok().map(FormatValue::Text)
        }
        Value::String(text) => Some(FormatValue::Text(Template::constant(text))),
        Value::Object(_) => format(reader, value, depth + 1).map(FormatValue::Object),
        other => {
            reader.expected("a string or an object", other);
            None
        }
    }
}

/// Objects within objects of a format, as in APISIX.
const DEPTH_MAX: usize = 5;
/// Bytes of a body that are written where nothing else is said.
const BODY_BYTES: u32 = 524_288;
/// The most that may be asked for: a body is held in memory while its request runs.
const BODY_BYTES_MAX: i64 = 16 << 20;
