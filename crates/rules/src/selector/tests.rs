//! Laws of selectors, and of the index over them.

use std::sync::Arc;

use model::{AgentId, RouteId, TeamId};
use proptest::prelude::*;

use super::{Deed, Selector, SelectorIndex, Selects};
use crate::fact::Facts;
use crate::fact::sample::Sample;
use crate::operation::{Api, Found, Operations};
use crate::target::Target;

#[derive(Debug)]
struct Rule(Selector);

impl Selects for Rule {
    fn selector(&self) -> &Selector {
        &self.0
    }
}

const ZONE: &str = "/client/v4/zones/0123456789abcdef0123456789abcdef";

/// Whether a selector binds a call of Cloudflare's API by agent `bot` of team `dns`.
#[track_caller]
fn check(selector: &Selector, method: &str, path: &str, expected: bool) {
    let sample = Sample::new("/");
    let target = Target::parse(&path.parse().unwrap()).unwrap();
    let call = Some(Found::new(Api::Cloudflare, method, &target).of(method, &target));
    let facts = Facts { call, ..sample.facts() };
    let bound = selector.binds(&RouteId::new("r"), &facts);
    assert_eq!(bound, expected, "{selector:?} {method} {path}");
}

fn operations(patterns: &[&str]) -> Selector {
    let sets: Vec<_> = patterns.iter().map(|pattern| Operations::of(pattern)).collect();
    Selector { operations: Some(Operations::union(sets.iter())), ..Selector::default() }
}

fn effects(effects: &[Deed]) -> Selector {
    Selector { effects: effects.to_vec(), ..Selector::default() }
}

#[test]
fn an_operation_is_bound_by_its_name_and_by_patterns_of_it() {
    for pattern in ["zones.delete", "zones.*", "*.delete"] {
        check(&operations(&[pattern]), "DELETE", ZONE, true);
    }
    check(&operations(&["zones.get", "dns.*"]), "DELETE", ZONE, false);
    check(&operations(&["zones.get", "zones.delete"]), "DELETE", ZONE, true);
}

#[test]
fn a_call_without_a_name_is_bound_as_unknown_alone() {
    check(&operations(&["unknown"]), "DELETE", "/client/v4/no/such/thing", true);
    check(&operations(&["zones.*"]), "DELETE", "/client/v4/no/such/thing", false);
    check(&operations(&["unknown"]), "DELETE", ZONE, false);
}

#[test]
fn an_effect_is_that_of_the_operation_and_not_of_the_method() {
    check(&effects(&[Deed::Read]), "GET", ZONE, true);
    check(&effects(&[Deed::Write]), "DELETE", ZONE, true);
    check(&effects(&[Deed::Write]), "GET", ZONE, false);
    let account = "/client/v4/accounts/0123456789abcdef0123456789abcdef";
    let asks = format!("{account}/registrar/domain-check");
    check(&effects(&[Deed::Read]), "POST", &asks, true);
    check(&effects(&[Deed::Write]), "POST", &asks, false);
    check(&effects(&[Deed::Unknown]), "GET", "/client/v4/no/such/thing", true);
    check(&effects(&[Deed::Read]), "GET", "/client/v4/no/such/thing", false);
}

#[test]
fn without_names_the_method_says_the_effect_and_no_operation_is_bound() {
    let (sample, route) = (Sample::new("/"), RouteId::new("r"));
    let binds =
        |selector: &Selector, method| selector.binds(&route, &Facts { method, ..sample.facts() });
    assert!(binds(&effects(&[Deed::Read]), "HEAD") && binds(&effects(&[Deed::Write]), "POST"));
    assert!(!binds(&effects(&[Deed::Unknown]), "GET") && !binds(&effects(&[Deed::Read]), "PUT"));
    assert!(!binds(&operations(&["unknown"]), "GET"));
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    names: &[T],
) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::collection::vec(prop::sample::select(names.to_vec()), 0..3)
}

fn selector() -> impl Strategy<Value = Selector> {
    let patterns = prop::option::of(some(&["zones.get", "zones.*", "*", "unknown", "dns.*"]));
    let lists = (some(&["r", "s"]), some(&["bot", "bat"]), some(&["dns", "web"]));
    let methods = some(&["GET", "DELETE"]);
    (lists, methods, patterns, some(&[Deed::Read, Deed::Write, Deed::Unknown])).prop_map(
        |((routes, agents, teams), methods, patterns, effects)| Selector {
            routes: routes.into_iter().map(RouteId::new).collect(),
            agents: agents.into_iter().map(AgentId::new).collect(),
            teams: teams.into_iter().map(TeamId::new).collect(),
            methods: methods.into_iter().map(Arc::from).collect(),
            operations: patterns.and_then(|patterns| operations(&patterns).operations),
            effects,
        },
    )
}

proptest! {
    #[test]
    fn the_index_finds_what_a_search_of_all_finds_once_each(
        selectors in prop::collection::vec(selector(), 0..12),
        route in prop::sample::select(vec!["r", "s", "t"]),
        method in prop::sample::select(vec!["GET", "DELETE"]),
        path in prop::sample::select(vec![None, Some(ZONE), Some("/client/v4/no")]),
        is_known in any::<bool>(),
    ) {
        let rules: Vec<_> = selectors.into_iter().map(|selector| Arc::new(Rule(selector))).collect();
        let (sample, route) = (Sample::new("/"), RouteId::new(route));
        let target = Target::parse(&path.unwrap_or("/").parse().unwrap()).unwrap();
        let call = path.map(|_| Found::new(Api::Cloudflare, method, &target).of(method, &target));
        let identity = is_known.then_some(&sample.identity);
        let facts = Facts { method, call, identity, ..sample.facts() };
        let index = SelectorIndex::build(rules.clone());
        let mut found: Vec<_> = index.binding(&route, &facts).map(Arc::as_ptr).collect();
        let all = rules.iter().filter(|rule| rule.0.binds(&route, &facts));
        let mut expected: Vec<_> = all.map(Arc::as_ptr).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
