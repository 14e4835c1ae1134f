//! A YAML or JSON text as values with their places.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use super::Place;

/// A value and where it begins in the text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) tree: Tree,
}

#[derive(Debug)]
pub(super) enum Tree {
    /// Anything that holds no others.
    Leaf(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Reads a whole text.
///
/// # Errors
/// Where the text stops making sense, and why. Quotes nothing of the text but names.
pub(super) fn read(text: &str) -> Result<Node, (Place, String)> {
    let mut budget = serde_saphyr::Budget::default();
    budget.max_nodes = NODES_MAX;
    budget.max_events = NODES_MAX * 2;
    let options = serde_saphyr::options! {
        budget: Some(budget),
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(place).unwrap_or_default();
        (place, error.without_snippet().to_string())
    })
}

/// Values in one text; a larger one is refused. Aliases count where they are used.
const NODES_MAX: usize = 8_000_000;

fn place(location: Location) -> Place {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
    Place { line: number(location.line()), column: number(location.column()) }
}

impl Node {
    /// The value without places.
    pub(super) fn value(&self) -> Value {
        match &self.tree {
            Tree::Leaf(value) => value.clone(),
            Tree::List(items) => items.iter().map(Self::value).collect(),
            Tree::Map(members) => {
                let pairs = members.iter().map(|(name, node)| (name.clone(), node.value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The place of what a pointer below this value points to; of the last step that is there,
    /// when the rest is not.
    pub(super) fn place_of(&self, pointer: &str) -> Place {
        let mut node = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let next = match &node.tree {
                Tree::Leaf(_) => None,
                Tree::List(items) => step.parse::<usize>().ok().and_then(|at| items.get(at)),
                Tree::Map(members) => {
                    members.iter().find(|(name, _)| *name == step).map(|(_, node)| node)
                }
            };
            let Some(next) = next else { break };
            node = next;
        }
        node.place
    }

    /// A member of a map.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Tree::Map(members) = &self.tree else { return None };
        members.iter().find(|(found, _)| found == name).map(|(_, node)| node)
    }

    /// A text, or a number as its text.
    pub(super) fn text(&self) -> Option<String> {
        match &self.tree {
            Tree::Leaf(Value::String(text)) => Some(text.clone()),
            Tree::Leaf(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Spanned { value: tree, referenced, .. } = Spanned::<Tree>::deserialize(from)?;
        Ok(Self { place: place(referenced), tree })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
        Tree::deserialize(from)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::from(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number without end"))?;
        Ok(Tree::Leaf(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::from(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some((name, node)) = from.next_entry::<String, Node>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom("a member stands here twice"));
            }
            members.push((name, node));
        }
        Ok(Tree::Map(members))
    }
}
