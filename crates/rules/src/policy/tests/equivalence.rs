//! The index decides as Cedar alone does, with all policies and all entities.

use std::str::FromStr as _;
use std::sync::LazyLock;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Ask, Memory, OTHER, ZONE, agent, decide, policies};
use crate::policy::Vocabulary;

fn principal() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "principal",
        "principal is Agent",
        r#"principal == Agent::"alice""#,
        r#"principal in Agent::"bob""#,
        r#"principal in Team::"dns""#,
        r#"principal is Agent in Team::"web""#,
        r#"principal in Organisation::"acme""#,
    ])
}

fn action() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "action",
        r#"action == Action::"dns.records.delete""#,
        r#"action in Action::"dns""#,
        r#"action in [Action::"dns.records", Action::"accounts.list"]"#,
        r#"action in Action::"effect:write""#,
        r#"action in Action::"danger:irreversible""#,
        r#"action == Action::"accounts.get""#,
    ])
}

fn resource() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "resource",
        r#"resource in Zone::"example.com""#,
        r#"resource == Zone::"023e105f4ecef8ad9ca31a8372d0c353""#,
        r#"resource in Account::"00000000000000000000000000000001""#,
        r#"resource in Api::"cloudflare""#,
    ])
}

fn condition() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "",
        r#"when { action in Action::"effect:read" }"#,
        r#"unless { principal in Team::"dns" }"#,
        r#"when { resource in Zone::"example.com" || principal == Agent::"bob" }"#,
        "when { resource is Account }",
        r#"when { context.method == "DELETE" }"#,
        r#"unless { context.path like "*dns*" }"#,
    ])
}

fn one() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "permit", "forbid"]);
    (effect, principal(), action(), resource(), condition()).prop_map(
        |(effect, who, what, on, when)| format!("{effect} ({who}, {what}, {on}) {when};\n"),
    )
}

/// Everything there is, in everything it is in.
fn entities() -> Entities {
    let uid = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let entity =
        |own: Value, parents: Vec<Value>| json!({ "uid": own, "attrs": {}, "parents": parents });
    let mut all = vec![
        entity(uid("Agent", "alice"), vec![uid("Team", "dns")]),
        entity(uid("Agent", "bob"), vec![uid("Team", "web")]),
        entity(uid("Team", "dns"), vec![uid("Organisation", "acme")]),
        entity(uid("Team", "web"), vec![uid("Organisation", "acme")]),
        entity(uid("Zone", ZONE), vec![uid("Zone", "example.com")]),
        entity(uid("Zone", OTHER), vec![uid("Api", "cloudflare")]),
        entity(uid("Zone", "example.com"), vec![uid("Account", OTHER)]),
        entity(uid("Account", OTHER), vec![uid("Api", "cloudflare")]),
    ];
    for action in Vocabulary::get().actions() {
        let groups = action.groups.iter().map(|group| uid("Action", group)).collect();
        all.push(entity(uid("Action", &action.name), groups));
    }
    Entities::from_json_value(Value::Array(all), None).unwrap()
}

/// A call: method, path, action, resource.
fn calls() -> Vec<(&'static str, String, &'static str, String)> {
    let zone = |id: &str| format!("Zone::\"{id}\"");
    vec![
        ("GET", "/accounts".into(), "accounts.list", "Api::\"cloudflare\"".into()),
        ("GET", format!("/accounts/{OTHER}"), "accounts.get", format!("Account::\"{OTHER}\"")),
        ("GET", format!("/zones/{ZONE}/dns_records"), "dns.records.list", zone(ZONE)),
        ("DELETE", format!("/zones/{ZONE}/dns_records/{ZONE}"), "dns.records.delete", zone(ZONE)),
        ("DELETE", format!("/zones/{OTHER}/dns_records/{ZONE}"), "dns.records.delete", zone(OTHER)),
        ("DELETE", format!("/zones/{OTHER}"), "zones.delete", zone(OTHER)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_index_permits_what_cedar_alone_permits(written in prop::collection::vec(one(), 1..12)) {
        // What can never apply is a fault, which is another test's matter.
        let sound: String = written
            .into_iter()
            .filter(|text| crate::policy::PolicyText::parse("p", text).is_ok())
            .collect();
        let (indexed, alone) = (policies(&sound), PolicySet::from_str(&sound).unwrap());
        let mut memory = Memory::default();
        static ENTITIES: LazyLock<Entities> = LazyLock::new(entities);
        for (method, path, action, resource) in calls() {
            for (name, team) in [("alice", "dns"), ("bob", "web")] {
                let uid = |text: &str| EntityUid::from_str(text).unwrap();
                let sent = format!("/client/v4{path}");
                let context = json!({ "method": method, "path": sent });
                let request = Request::new(
                    uid(&format!("Agent::\"{name}\"")),
                    uid(&format!("Action::\"{action}\"")),
                    uid(&resource),
                    Context::from_json_value(context, None).unwrap(),
                    None,
                )
                .unwrap();
                let expected = Authorizer::new().is_authorized(&request, &alone, &ENTITIES);
                let ask = Ask { who: Some(agent(name, team)), method, path: &path, ..Ask::default() };
                for _ in 0..2 {
                    let found = decide(&indexed, &mut memory, &ask);
                    let permits = found.starts_with("permit");
                    prop_assert_eq!(permits, expected.decision() == Decision::Allow, "{}: {}", found, sound);
                }
            }
        }
    }
}
