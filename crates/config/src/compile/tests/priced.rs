//! The operations that the example documents name: each exists, and is the call that is meant.

use std::collections::BTreeSet;

use rules::operation::{Catalogue, Operations};
use serde_json::Value;

use super::state;
use crate::bundle::Bundle;

/// Every name in a list of operations, however deep.
fn named(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                if let ("operations", Value::Array(list)) = (member.as_str(), value) {
                    names.extend(list.iter().map(|name| name.as_str().unwrap().to_owned()));
                }
                named(value, names);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| named(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The calls that a document names, a line each.
fn calls(document: &str) -> Vec<String> {
    let mut names = BTreeSet::new();
    for change in Bundle::parse(document).unwrap().changes(&state(&[]), false) {
        named(&serde_json::to_value(&change).unwrap(), &mut names);
    }
    let catalogue = Catalogue::cloudflare();
    let mut calls = Vec::new();
    for name in names {
        let operations = Operations::of(&name);
        assert!(!operations.names().is_empty(), "no operation is called `{name}`");
        for template in catalogue.templates() {
            if operations.contains(template.operation) {
                let path = catalogue.path_of(template);
                calls.push(format!("{name} {} {path}", template.verb.as_str()));
            }
        }
    }
    calls.sort();
    calls
}

#[test]
fn the_list_of_prices_names_the_calls_that_it_means() {
    let found = calls(include_str!("../../../../../deploy/documents/cloudflare-prices.yaml"));
    let expected: Vec<&str> = include_str!("priced.txt").lines().collect();
    assert_eq!(found, expected, "{}", found.join("\n"));
}

#[test]
fn the_other_examples_name_no_operations() {
    let cloudflare = include_str!("../../../../../deploy/documents/cloudflare.yaml");
    let llm = include_str!("../../../../../deploy/documents/llm.yaml");
    for document in [cloudflare, llm] {
        assert_eq!(calls(document), Vec::<String>::new());
    }
}
