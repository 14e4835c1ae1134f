//! A whole document: every resource in one YAML or JSON text.

mod parse;
mod tree;

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::command::{Change, Expect, Stamp};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::seal::mask;
use crate::state::State;

/// Resources that are applied together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    pub entries: Vec<Entry>,
}

/// One resource of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Key,
    pub value: Value,
    /// Where it begins in the text.
    pub place: Place,
}

/// A place in a text. Both count from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// What is wrong in a bundle, and where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlacedFault {
    pub place: Place,
    /// The resource; `None` when the text itself is wrong.
    pub key: Option<Key>,
    pub fault: Fault,
}

impl Bundle {
    /// Reads a YAML or JSON text: an object of kinds (`routes`, `consumers` or `agents`…), each of
    /// which is an object by id or a list. Credentials stand by `CONSUMER/ID`, or under
    /// `credentials` of their consumer. The entries come in the order of their keys.
    ///
    /// # Errors
    /// Every fault of the text and of its resources, each with its line and column.
    pub fn parse(text: &str) -> Result<Self, Vec<PlacedFault>> {
        parse::parse(text)
    }

    /// The resources of a state, masked, without their times.
    #[must_use]
    pub fn from_state(state: &State) -> Self {
        let rows = Kind::ALL.iter().flat_map(|kind| state.list(*kind));
        let mut entries: Vec<Entry> = rows
            .map(|(key, stored)| Entry {
                key: key.clone(),
                value: bare(key, mask(key.kind, &stored.value)),
                place: Place::default(),
            })
            .collect();
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        Self { entries }
    }

    /// The text of it, as YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut kinds = Map::new();
        for Entry { key, value, .. } in &self.entries {
            let kind = kinds.entry(key.kind.plural()).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(resources) = kind {
                resources.insert(key.id.clone(), bare(key, value.clone()));
            }
        }
        if kinds.is_empty() {
            return String::from("{}\n");
        }
        serde_saphyr::to_string(&kinds).expect("a value of JSON is one of YAML")
    }

    /// The changes that make a state hold what the bundle holds.
    ///
    /// With `prune`, what the bundle does not name is deleted.
    #[must_use]
    pub fn changes(&self, state: &State, prune: bool) -> Vec<Change> {
        let puts = self.entries.iter().map(|Entry { key, value, .. }| Change::Put {
            key: key.clone(),
            value: value.clone(),
            expect: Expect::Any,
            stamp: Stamp::Now,
        });
        let pruned = if prune { self.missing(state) } else { Vec::new() };
        let deletes = pruned.into_iter().map(|key| Change::Delete { key, expect: Expect::Any });
        deletes.chain(puts).collect()
    }

    /// What a state holds and the bundle does not name: credentials first, because a consumer
    /// that is deleted takes its credentials along.
    pub(crate) fn missing(&self, state: &State) -> Vec<Key> {
        let named: BTreeSet<&Key> = self.entries.iter().map(|entry| &entry.key).collect();
        let rows = Kind::ALL.iter().flat_map(|kind| state.list(*kind));
        let mut missing: Vec<Key> =
            rows.map(|(key, _)| key).filter(|key| !named.contains(key)).cloned().collect();
        missing.sort_by_key(|key| key.kind != Kind::Credential);
        missing
    }
}

/// A document without what its place in a bundle says, and without its times.
pub(crate) fn bare(key: &Key, mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        for name in [key.id_member(), "create_time", "update_time"] {
            map.shift_remove(name);
        }
    }
    value
}

#[cfg(test)]
mod tests;
