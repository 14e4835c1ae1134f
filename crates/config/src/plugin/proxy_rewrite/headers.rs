//! `headers` of `proxy-rewrite`: `{add, set, remove}`, or a flat object of fields to set.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use model::Secret;
use rules::rewrite::HeaderText;
use rules::variable::Template;
use serde_json::{Map, Value};

use crate::custody::{Custody, Opened, is_stored};
use crate::document::upstream::field;
use crate::reader::{Reader, list, pattern};
use crate::reference::position;
use crate::seal::MASK;

/// Changes of the fields, carried out in this order.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) add: Vec<Change>,
    pub(super) set: Vec<Change>,
    pub(super) remove: Vec<HeaderName>,
}

/// A field and its new value.
type Change = (HeaderName, HeaderText);

/// Reads the changes.
pub(super) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Changes> {
    let Value::Object(map) = value else {
        reader.expected("an object", value);
        return None;
    };
    if map.is_empty() {
        reader.fault("expect object to have at least 1 properties");
    }
    if !is_structured(map) {
        return Some(Changes { set: fields(reader, value, false)?, ..Changes::default() });
    }
    let mut object = reader.object(value)?;
    let add = object.optional("add", |reader, value| fields(reader, value, true));
    let set = object.optional("set", |reader, value| fields(reader, value, false));
    let remove = object.optional("remove", list(1, FIELDS_MAX, pattern((1, 256), field)));
    object.finish();
    Some(Changes {
        add: add.unwrap_or_default(),
        set: set.unwrap_or_default(),
        remove: remove.unwrap_or_default(),
    })
}

/// Whether the object says what to do; in the old flat form its members are fields.
fn is_structured(map: &Map<String, Value>) -> bool {
    ["add", "set", "remove"]
        .iter()
        .any(|name| map.get(*name).is_some_and(|value| value.is_object() || value.is_array()))
}

fn fields<'v>(reader: &mut Reader<'v>, value: &'v Value, several: bool) -> Option<Vec<Change>> {
    let Value::Object(map) = value else {
        reader.expected("an object", value);
        return None;
    };
    if map.len() > FIELDS_MAX {
        reader.fault(format!("expected at most {FIELDS_MAX} fields, got {}", map.len()));
        return None;
    }
    let mut changes = Vec::with_capacity(map.len());
    for (name, value) in map {
        reader.at(name, |reader| {
            let name = field(name).map_err(|why| reader.fault(why)).ok();
            let texts = values(reader, name.as_ref(), value, several);
            if let Some(name) = name {
                changes.extend(texts.into_iter().map(|text| (name.clone(), text)));
            }
        });
    }
    Some(changes)
}

/// The values of one field: a text, a number, or (where several may stand) a list of them.
fn values<'v>(
    reader: &mut Reader<'v>,
    name: Option<&HeaderName>,
    value: &'v Value,
    several: bool,
) -> Vec<HeaderText> {
    let Value::Array(items) = value else {
        return text(reader, name, value).into_iter().collect();
    };
    if items.is_empty() || items.len() > FIELDS_MAX {
        reader.fault(format!("expected 1 to {FIELDS_MAX} values, got {}", items.len()));
    } else if !several && items.len() > 1 {
        reader.fault("takes one value: more of them are served under `add` only");
    }
    let read = |(index, item)| reader.element(index, |reader| text(reader, name, item));
    items.iter().enumerate().take(FIELDS_MAX).filter_map(read).collect()
}

fn text<'v>(
    reader: &mut Reader<'v>,
    name: Option<&HeaderName>,
    value: &'v Value,
) -> Option<HeaderText> {
    match value {
        Value::String(text) => match position(text) {
            Some(from) => referring(reader, text, from),
            None => written(reader, name, text),
        },
        Value::Number(number) => {
            HeaderValue::from_str(&number.to_string()).ok().map(HeaderText::Fixed)
        }
        other => {
            reader.expected("a string or a number", other);
            None
        }
    }
}

/// A value that ends in a reference to a secret.
fn referring(reader: &mut Reader<'_>, text: &str, from: usize) -> Option<HeaderText> {
    let (prefix, reference) = text.split_at_checked(from)?;
    if Template::parse(prefix).is_ok_and(|template| template.has_variables()) {
        reader.fault("may hold no variables in front of a reference to a secret");
        return None;
    }
    match reader.secret(reference, Custody::Plain) {
        Opened::Text(secret) => {
            let whole = Secret::new(format!("{prefix}{}", secret.expose()));
            sensitive(reader, reference, whole.expose())
        }
        Opened::Closed(_) => Some(closed()),
    }
}

/// A value with variables and captures, or one that is itself a secret.
fn written(reader: &mut Reader<'_>, name: Option<&HeaderName>, text: &str) -> Option<HeaderText> {
    if name.is_some_and(|name| SECRET_FIELDS.contains(&name.as_str())) || is_stored(text) {
        return match reader.secret(text, Custody::Seal) {
            Opened::Text(secret) => template(reader, secret.expose(), true),
            Opened::Closed(_) => Some(closed()),
        };
    }
    if text == MASK {
        reader.fault("is the mask of a secret, and there is none in this field");
        return None;
    }
    template(reader, text, false)
}

fn template(reader: &mut Reader<'_>, text: &str, is_secret: bool) -> Option<HeaderText> {
    let template = match Template::parse_with_captures(text) {
        Ok(template) => template,
        Err(fault) => {
            // The name of a variable in a secret may be a part of the secret.
            let why = if is_secret {
                String::from("has a `$` that starts no variable")
            } else {
                fault.to_string()
            };
            reader.unusable(text, why);
            return is_secret.then(closed);
        }
    };
    if HeaderValue::from_str(text).is_err() {
        reader.unusable(text, String::from("invalid value character in header"));
        return is_secret.then(closed);
    }
    if template.has_variables() || template.has_captures() {
        return Some(HeaderText::Template(Arc::new(template)));
    }
    // A `$` behind a backslash stands for itself.
    let plain = Secret::new(template.fill_with(&mut |_| None));
    if is_secret {
        return sensitive(reader, text, plain.expose());
    }
    HeaderValue::from_str(plain.expose()).ok().map(HeaderText::Fixed)
}

fn sensitive(reader: &mut Reader<'_>, written: &str, text: &str) -> Option<HeaderText> {
    let Ok(mut value) = HeaderValue::from_str(text) else {
        reader.unusable(written, String::from("invalid value character in header"));
        return Some(closed());
    };
    value.set_sensitive(true);
    Some(HeaderText::Fixed(value))
}

/// Stands in for a secret that is not open here: no request is forwarded with it.
const fn closed() -> HeaderText {
    HeaderText::Fixed(HeaderValue::from_static(""))
}

/// Fields whose values are sealed when they are written into a document as they are.
const SECRET_FIELDS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "apikey",
    "x-api-key",
    "x-auth-key",
    "x-auth-token",
    "x-auth-user-service-key",
];

/// Fields in one change, and values of one field.
const FIELDS_MAX: usize = 256;
