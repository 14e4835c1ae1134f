//! What every resource may hold beside its rules: id, words for people, times.

use serde_json::Value;

use crate::fault::Fault;
use crate::key::{is_name, is_segment};
use crate::pointer;
use crate::reader::{Object, Reader, id, integer, matching, named, text};

/// The words of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head<'v> {
    pub(crate) name: Option<&'v str>,
    /// `labels.custom_id`.
    pub(crate) custom_id: Option<&'v str>,
}

/// Reads the members that every kind has, the id among them.
pub(crate) fn read<'v>(object: &mut Object<'_, 'v>) -> Head<'v> {
    if object.reader.id().is_some_and(|whole| !is_segment(whole)) {
        object.fault("id", ID_HOLDS);
    }
    own(object)
}

/// Reads the members that every kind has, of one whose id has two segments: the other resource it
/// belongs to, and its own.
pub(crate) fn read_nested<'v>(object: &mut Object<'_, 'v>) -> Head<'v> {
    if let Some(whole) = object.reader.id() {
        match whole.split_once('/') {
            Some((owner, own)) if is_name(owner) && is_segment(own) => {}
            Some(_) => object.fault("id", ID_HOLDS),
            None => object.fault("id", "names nothing that it belongs to"),
        }
    }
    own(object)
}

fn own<'v>(object: &mut Object<'_, 'v>) -> Head<'v> {
    let whole = object.reader.id();
    object.optional("id", |reader, value| {
        let found = own_id(reader, value)?;
        if whole.is_some_and(|whole| whole != found && !whole.ends_with(&format!("/{found}"))) {
            reader.fault("is not the id that the resource is written under");
        }
        Some(())
    });
    let name = object.optional("name", text(1, 256));
    words(object, name)
}

/// Reads the members that every kind has, of one whose name is its id.
pub(crate) fn read_named<'v>(object: &mut Object<'_, 'v>) -> (Option<String>, Head<'v>) {
    let whole = object.reader.id();
    let found = object.optional("username", named);
    match (whole, &found) {
        (Some(whole), Some(found)) if whole != found => {
            object.fault("username", "is not the name that the consumer is written under");
        }
        (None, None) if !object.has("username") => object.fault("username", "is required"),
        (Some(whole), None) if !is_name(whole) => {
            object.fault("username", "may hold only letters, digits, `-` and `_`");
        }
        _ => {}
    }
    let head = words(object, None);
    (whole.map(str::to_owned).or(found), head)
}

/// Reads the members that every kind has, of a resource that stands inside another one.
pub(crate) fn read_inline(object: &mut Object<'_, '_>) {
    object.optional("id", id);
    let name = object.optional("name", text(1, 256));
    words(object, name);
}

fn words<'v>(object: &mut Object<'_, 'v>, name: Option<&'v str>) -> Head<'v> {
    object.optional("desc", text(0, 256));
    let custom_id = object.optional("labels", labels).flatten();
    object.optional(CREATED, integer::<i64>(0, i64::MAX));
    object.optional(UPDATED, integer::<i64>(0, i64::MAX));
    Head { name, custom_id }
}

/// Reads labels: texts without white space. Gives `custom_id`.
fn labels<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Option<&'v str>> {
    let Value::Object(map) = value else {
        reader.expected("an object", value);
        return None;
    };
    let is_visible = |letter: char| !letter.is_whitespace();
    for (name, label) in map {
        reader.at(name, |reader| matching((1, 256), is_visible, "no white space")(reader, label));
    }
    Some(map.get("custom_id").and_then(Value::as_str))
}

/// The id in a document: that of a secret manager may be given with the manager.
fn own_id<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<String> {
    match value.as_str().and_then(|text| text.split_once('/')) {
        Some(_) => value.as_str().map(str::to_owned),
        None => id(reader, value),
    }
}

const ID_HOLDS: &str = "may hold only 1 to 64 letters, digits, `-`, `_` and `.`";

/// The pointer and the text of a member that names another resource, if it is there.
pub(crate) fn link(value: &Value, name: &str) -> Option<(String, String)> {
    let member = value.get(name)?;
    let id = match member {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some((pointer::join("", name), id))
}

/// Times in a document whose writer may not set them.
pub(crate) fn forbidden_times(value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (owner, at) in [(Some(value), ""), (value.get("upstream"), "/upstream")] {
        for name in [CREATED, UPDATED] {
            if owner.is_some_and(|owner| owner.get(name).is_some()) {
                let dotted = at.trim_start_matches('/');
                let dot = if dotted.is_empty() { "" } else { "." };
                let message = format!("the property is forbidden:  {dotted}{dot}{name}");
                faults.push(Fault::new(format!("{at}/{name}"), message));
            }
        }
    }
    faults
}

/// When a resource was made, in seconds since 1970.
pub(crate) const CREATED: &str = "create_time";
/// When a resource was last written, in seconds since 1970.
pub(crate) const UPDATED: &str = "update_time";
