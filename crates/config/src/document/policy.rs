//! Policies: what agents may do, in Cedar.

use rules::policy::{PolicyText, Uid, is_zone_name};
use serde_json::Value;

use super::{Link, head};
use crate::key::{Key, Kind};
use crate::reader::{Reader, boolean, text};

/// Policies of one text.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) text: PolicyText,
    /// They are there and judged, and say nothing.
    pub(crate) is_disabled: bool,
}

/// Reads policies; each fault of the text is one of `text`, with its line.
pub(crate) fn read<'v>(reader: &mut Reader<'v>, value: &'v Value) -> Option<Document> {
    let id = reader.id().unwrap_or_default();
    let mut object = reader.object(value)?;
    head::read(&mut object);
    let parsed = object.required("text", |reader, value| {
        let text = text(1, TEXT_MAX)(reader, value)?;
        match PolicyText::parse(id, text) {
            Ok(parsed) => Some(parsed),
            Err(flaws) => {
                flaws.iter().for_each(|flaw| reader.fault(flaw.to_string()));
                None
            }
        }
    });
    let is_disabled = object.optional("disabled", boolean).unwrap_or_default();
    object.finish();
    Some(Document { text: parsed?, is_disabled })
}

/// Letters of one text.
const TEXT_MAX: usize = 1 << 20;

/// The agents, teams and zones that a text names.
pub(crate) fn links(value: &Value) -> Vec<Link> {
    let text = value.get("text").and_then(Value::as_str).unwrap_or_default();
    let link = |uid: &Uid| {
        let kind = match &*uid.kind {
            "Agent" => Kind::Consumer,
            "Team" => Kind::ConsumerGroup,
            "Zone" if is_zone_name(uid) => Kind::Zone,
            _ => return None,
        };
        Some(Link { path: String::from("/text"), key: Key::new(kind, &*uid.id) })
    };
    PolicyText::entities(text).iter().filter_map(link).collect()
}
