//! The operators' table of plugins knows what the reader knows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Side, TABLE, read};
use crate::reader::Reader;

/// Fields by the heading they stand under.
type Fields = BTreeMap<String, BTreeSet<String>>;

/// Every field that is asked for when these plugins are read, also those that are not there.
fn asked(side: Side, plugins: &Value) -> BTreeSet<String> {
    let mut reader = Reader::new(None);
    read(&mut reader, plugins, side, "");
    reader.asked
}

/// What the reader knows. Objects inside plugins must stand here to be entered.
fn known() -> Fields {
    let mut fields = Fields::new();
    for entry in &TABLE {
        let plugin = match entry.name {
            "proxy-rewrite" => json!({"headers": {"set": {}}, "_meta": {}}),
            "request-id" => json!({"range_id": {}, "_meta": {}}),
            _ => json!({"_meta": {}}),
        };
        let plugins = json!({entry.name: plugin});
        for (side, heading) in [(Side::Route, "in a route"), (Side::Agent, "of an agent")] {
            let heading = match entry.proof {
                Some(_) => format!("`{}` {heading}", entry.name),
                None => format!("`{}`", entry.name),
            };
            for pointer in asked(side, &plugins) {
                let field = pointer.trim_start_matches('/').split_once('/').unwrap().1;
                let (heading, field) = match field.strip_prefix("_meta/") {
                    Some(field) => ("`_meta`", field),
                    None if field == "_meta" => continue,
                    None => (heading.as_str(), field),
                };
                fields.entry(heading.to_owned()).or_default().insert(field.replace('/', "."));
            }
        }
    }
    fields
}

/// What the tables of the document say.
fn documented() -> Fields {
    let text = include_str!("../../../../docs/plugins.md");
    let mut fields = Fields::new();
    let mut heading = "";
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("## ") {
            heading = found;
        }
        let Some((field, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        let (default, effect) = rest.trim_end_matches(" |").split_once(" | ").unwrap();
        assert!(!default.is_empty() && !effect.is_empty(), "{line}");
        let is_new = fields.entry(heading.to_owned()).or_default().insert(field.to_owned());
        assert!(is_new, "{heading} has {field} twice");
    }
    fields
}

#[test]
fn the_document_has_every_field_of_every_plugin_and_no_other() {
    let (known, documented) = (known(), documented());
    assert!(known.len() > TABLE.len(), "{known:?}");
    for heading in known.keys().chain(documented.keys()) {
        assert_eq!(known.get(heading), documented.get(heading), "docs/plugins.md, {heading}");
    }
}
