//! The scope of a policy: who, what and where it is about, known without a request.

use std::sync::Arc;

use serde_json::Value;

use super::vocabulary::{Vocabulary, is_unknown};

/// An entity: its type and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid {
    pub kind: Arc<str>,
    pub id: Arc<str>,
}

/// An entity, and everything that it is in, however far above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub own: Uid,
    pub above: Vec<Uid>,
}

/// What a policy says of its principal, or of its resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `is`.
    pub(crate) kind: Option<Arc<str>>,
    /// `==` or `in`.
    pub(crate) of: Option<Uid>,
    /// `==`.
    pub(crate) is_exact: bool,
}

/// The calls that a policy's scope holds, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Calls(Box<[u64]>);

impl Uid {
    /// An entity.
    #[must_use]
    pub fn new(kind: &str, id: &str) -> Self {
        Self { kind: Arc::from(kind), id: Arc::from(id) }
    }

    fn of(value: &Value) -> Option<Self> {
        Some(Self::new(value.get("type")?.as_str()?, value.get("id")?.as_str()?))
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}::{:?}", self.kind, self.id)
    }
}

impl Slot {
    /// Reads a constraint in Cedar's JSON form.
    pub(crate) fn of(value: &Value) -> Self {
        let text = |name| value.get(name).and_then(Value::as_str);
        let within = value.get("in").and_then(|within| within.get("entity"));
        Self {
            kind: text("entity_type").map(Arc::from),
            of: value.get("entity").or(within).and_then(Uid::of),
            is_exact: text("op") == Some("=="),
        }
    }

    /// Whether an entity is what the constraint says.
    pub(crate) fn accepts(&self, lineage: &Lineage) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == lineage.own.kind)
            && self.of.as_ref().is_none_or(|of| {
                *of == lineage.own || (!self.is_exact && lineage.above.contains(of))
            })
    }
}

impl Calls {
    /// The calls that an action constraint in Cedar's JSON form holds, and the actions it names.
    pub(crate) fn of(value: &Value) -> (Self, Vec<Uid>) {
        let listed = value.get("entities").and_then(Value::as_array);
        let one = value.get("entity").into_iter();
        let named: Vec<Uid> = one.chain(listed.into_iter().flatten()).filter_map(Uid::of).collect();
        let vocabulary = Vocabulary::get();
        let mut calls = Self(vec![0; vocabulary.actions().len().div_ceil(64)].into());
        match value.get("op").and_then(Value::as_str) {
            Some("==") => {
                let numbers = named.iter().filter_map(|uid| vocabulary.number(&uid.id));
                numbers.for_each(|number| calls.insert(number));
            }
            Some("in") => {
                for uid in &named {
                    vocabulary.calls_in(&uid.id).for_each(|number| calls.insert(number));
                }
            }
            _ => (0..vocabulary.actions().len()).for_each(|number| calls.insert(number)),
        }
        (calls, named)
    }

    fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether a call is among them.
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// Whether the actions that a scope names are calls that no catalogue knows.
pub(crate) fn names_unknown(named: &[Uid]) -> bool {
    named.iter().any(|uid| is_unknown(&uid.id))
}
