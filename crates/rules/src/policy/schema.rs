//! The schema that one policy is judged by, made from the catalogue.
//!
//! Cedar judges a policy once for every kind of request that its schema knows, and there are some
//! thousand calls. Calls that differ in nothing the policy can see give the same judgement, so one
//! of each sort stands for all: of the same type of resource, and in the same of the groups that
//! the policy names.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Schema, SchemaError};
use serde_json::{Map, Value, json};

use super::kind::{Kind, Members, extension, record};
use super::reads::Reads;
use super::scope::Calls;
use super::vocabulary::{Action, ResourceKind, Vocabulary};

/// A sort of calls that a policy cannot tell from each other.
#[derive(Debug, Default)]
struct Sort {
    /// The call that stands for all.
    name: String,
    /// The parameters of any of them, and whether each of them has it.
    parameters: BTreeMap<&'static str, bool>,
}

/// What makes a sort: the types of the resource, and the named actions that hold the call.
type Mark = (BTreeSet<ResourceKind>, Vec<String>);

/// Makes the schema for a policy that names these actions and reads this.
///
/// # Errors
/// When Cedar does not take it, which is a defect.
pub(crate) fn schema(
    calls: &Calls,
    named: &BTreeSet<String>,
    reads: &Reads,
) -> Result<Schema, Box<SchemaError>> {
    let vocabulary = Vocabulary::get();
    let named: Vec<&str> =
        named.iter().map(String::as_str).filter(|name| vocabulary.number(name).is_some()).collect();
    let mut actions = Map::new();
    for name in &named {
        actions.insert((*name).to_owned(), json!({ "memberOf": groups(name, &named) }));
    }
    for ((resources, _), sort) in sorts(calls, &named) {
        let resources: Vec<&str> = resources.iter().map(|kind| kind.as_str()).collect();
        let parents = groups(&sort.name, &named);
        actions.insert(
            sort.name,
            json!({
                "memberOf": parents,
                "appliesTo": {
                    "principalTypes": ["Agent", "Anonymous"],
                    "resourceTypes": resources,
                    "context": context(reads, &sort.parameters),
                },
            }),
        );
    }
    let schema = json!({ "": { "entityTypes": entity_types(), "actions": actions } });
    Schema::from_json_value(schema).map_err(Box::new)
}

/// The sorts of the calls in a scope.
fn sorts(calls: &Calls, named: &[&str]) -> BTreeMap<Mark, Sort> {
    let mut sorts: BTreeMap<Mark, Sort> = BTreeMap::new();
    for (number, action) in Vocabulary::get().actions().iter().enumerate() {
        let Some(kind) = action.call.as_ref().filter(|_| calls.contains(number)) else { continue };
        let within = named.iter().filter(|name| action.is_in(name)).map(|name| (*name).to_owned());
        let mark: Mark = (kind.resources.clone(), within.collect());
        // A named call stands for itself, so that what is said of it names it.
        let sort = sorts.entry(mark).or_default();
        if sort.name.is_empty() {
            *sort = Sort { name: action.name.clone(), parameters: kind.parameters.clone() };
            continue;
        }
        for (name, always) in &mut sort.parameters {
            *always &= kind.parameters.get(name).copied().unwrap_or_default();
        }
        for name in kind.parameters.keys() {
            sort.parameters.entry(name).or_insert(false);
        }
    }
    sorts
}

/// The named actions above an action.
fn groups(name: &str, named: &[&str]) -> Vec<Value> {
    let vocabulary = Vocabulary::get();
    let action = vocabulary.number(name).and_then(|number| vocabulary.action(number));
    let is_above = |group: &&&str| {
        let holds = |action: &Action| action.is_in(group);
        **group != name && action.is_some_and(holds)
    };
    named.iter().filter(is_above).map(|group| json!({ "id": group })).collect()
}

fn context(reads: &Reads, parameters: &BTreeMap<&'static str, bool>) -> Value {
    let parameters = parameters.iter().map(|(name, always)| {
        ((*name).to_owned(), json!({ "type": "String", "required": always }))
    });
    let each = |names: &BTreeSet<String>, kind: &Kind| {
        record(&names.iter().map(|name| (name.clone(), kind.clone())).collect::<Members>())
    };
    json!({
        "type": "Record",
        "attributes": {
            "method": { "type": "String" },
            "path": { "type": "String" },
            "client": extension("ipaddr"),
            "now": extension("datetime"),
            "parameters": {
                "type": "Record", "attributes": parameters.collect::<Map<_, _>>()
            },
            "headers": each(&reads.headers, &Kind::Text),
            "query": each(&reads.query, &Kind::Text),
            "price": each(&reads.prices, &Kind::Decimal),
            "body": record(reads.body.as_ref().unwrap_or(&Members::new())),
        },
    })
}

/// Who and where: what is in what.
fn entity_types() -> Value {
    json!({
        "Organisation": {},
        "Team": { "memberOfTypes": ["Organisation"] },
        "Agent": { "memberOfTypes": ["Team", "Organisation"] },
        "Anonymous": {},
        "Api": {},
        "Account": { "memberOfTypes": ["Api"] },
        "Zone": { "memberOfTypes": ["Zone", "Account", "Api"] },
    })
}
