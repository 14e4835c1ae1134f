//! From a text to its resources, with every fault and its place.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::tree::{self, Node, Tree};
use super::{Bundle, Entry, Place, PlacedFault};
use crate::document;
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::pointer;
use crate::reader::unknown;

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<Bundle, Vec<PlacedFault>> {
    let root = match tree::read(text) {
        Ok(root) => root,
        Err((place, message)) => {
            return Err(vec![PlacedFault { place, key: None, fault: Fault::new("", message) }]);
        }
    };
    let mut parser = Parser::default();
    match &root.tree {
        Tree::Leaf(Value::Null) => {}
        Tree::Map(members) => {
            for (name, node) in members {
                parser.kind(name, node);
            }
        }
        Tree::Leaf(_) | Tree::List(_) => {
            parser.fault(root.place, "", "expected an object of kinds, such as `routes`");
        }
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    entries: BTreeMap<Key, Entry>,
    faults: Vec<PlacedFault>,
}

impl Parser {
    fn fault(&mut self, place: Place, path: &str, message: impl Into<String>) {
        self.faults.push(PlacedFault { place, key: None, fault: Fault::new(path, message) });
    }

    fn finish(self) -> Result<Bundle, Vec<PlacedFault>> {
        let Self { entries, mut faults } = self;
        if faults.is_empty() {
            return Ok(Bundle { entries: entries.into_values().collect() });
        }
        faults.sort_by(|one, other| (one.place, &one.fault).cmp(&(other.place, &other.fault)));
        Err(faults)
    }

    /// Reads the resources of one kind: a map by id, or a list.
    fn kind(&mut self, name: &str, node: &Node) {
        let at = pointer::join("", name);
        let Some(kind) = Kind::from_name(name) else {
            let aliases = Kind::ALL.iter().filter_map(|kind| kind.alias());
            let known = Kind::ALL.iter().map(|kind| kind.plural()).chain(aliases);
            let message = unknown("kind", name, known);
            return self.fault(node.place, &at, message);
        };
        self.resources(kind, None, &at, node);
    }

    fn resources(&mut self, kind: Kind, owner: Option<&str>, at: &str, node: &Node) {
        let whole = |id: &str| owner.map_or_else(|| id.to_owned(), |owner| format!("{owner}/{id}"));
        match &node.tree {
            Tree::Leaf(Value::Null) => {}
            Tree::Map(members) => {
                for (id, node) in members {
                    self.resource(Key::new(kind, whole(id)), node);
                }
            }
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let member = Key::new(kind, "").id_member();
                    match item.member(member).and_then(Node::text) {
                        Some(id) => self.resource(Key::new(kind, whole(&id)), item),
                        None => {
                            let at = pointer::join(at, &index.to_string());
                            self.fault(item.place, &at, format!("needs `{member}`, a string"));
                        }
                    }
                }
            }
            Tree::Leaf(_) => self.fault(node.place, at, "expected an object by id, or an array"),
        }
    }

    fn resource(&mut self, key: Key, node: &Node) {
        let mut value = match node.value() {
            Value::Null => Value::Object(Map::new()),
            value => value,
        };
        if key.kind == Kind::Consumer
            && let Some(credentials) = node.member("credentials")
        {
            if let Value::Object(map) = &mut value {
                map.shift_remove("credentials");
            }
            self.resources(Kind::Credential, Some(&key.id), "/credentials", credentials);
        }
        let mut faults = document::check(key.kind, Some(&key.id), &value);
        faults.extend(document::forbidden_times(&value));
        for fault in faults {
            let place = node.place_of(&fault.path);
            self.faults.push(PlacedFault { place, key: Some(key.clone()), fault });
        }
        let place = node.place;
        if let Some(other) = self.entries.get(&key) {
            let line = other.place.line;
            let fault = Fault::new("", format!("stands in the text twice, first on line {line}"));
            self.faults.push(PlacedFault { place, key: Some(key), fault });
            return;
        }
        self.entries.insert(key.clone(), Entry { key, value, place });
    }
}
