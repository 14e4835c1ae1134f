//! Laws of what an agent gets of an answer.

use std::sync::Arc;

use model::ResponseId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Detour, Field, REDACTED, Response, Reveal, Review, Unreadable};
use crate::operation::Catalogue;
use crate::selector::Selector;

fn field(text: &str) -> Field {
    Field::parse(text).unwrap()
}

fn rule(reveal: Reveal, redact: &[&str]) -> Arc<Response> {
    Arc::new(Response {
        id: ResponseId::new("r"),
        selector: Selector::default(),
        reveal,
        redact: redact.iter().map(|text| field(text)).collect(),
        detours: Vec::new(),
        refuse: None,
    })
}

fn redacting(fields: &[&str]) -> Review {
    Review::of(None, [rule(Reveal::default(), fields)].iter()).unwrap()
}

/// What becomes of a text when these fields are hidden; `H` stands for what is hidden.
#[track_caller]
fn check(fields: &[&str], text: &str, expected: &str) {
    let edited = redacting(fields).edit(text.as_bytes()).unwrap();
    let edited =
        edited.map_or_else(|| text.to_owned(), |edited| String::from_utf8(edited).unwrap());
    assert_eq!(edited.replace(&format!("\"{REDACTED}\""), "H"), expected, "{fields:?}");
}

#[test]
fn a_field_is_hidden_and_all_else_stays_byte_for_byte() {
    check(&["a"], r#"{"a":"x","b":1.50}"#, r#"{"a":H,"b":1.50}"#);
    check(
        &["a.b"],
        "{ \"a\" : {\"b\": [1, 2] , \"c\":1e400} }\n",
        "{ \"a\" : {\"b\": H , \"c\":1e400} }\n",
    );
    check(&["a"], r#"{"b":{"a":"x"}}"#, r#"{"b":{"a":"x"}}"#);
    check(&["a"], r#"{"a":null}"#, r#"{"a":null}"#);
    check(&["result"], r#"{"result":"token","ok":true}"#, r#"{"result":H,"ok":true}"#);
}

#[test]
fn lists_are_passed_through_and_a_star_is_any_name() {
    check(&["r.s"], r#"{"r":[{"s":1},{"t":2},[{"s":3}]]}"#, r#"{"r":[{"s":H},{"t":2},[{"s":H}]]}"#);
    check(&["r.*.s"], r#"{"r":{"x":{"s":1},"y":{"s":2}}}"#, r#"{"r":{"x":{"s":H},"y":{"s":H}}}"#);
    check(&["s"], r#"[{"s":1}]"#, r#"[{"s":H}]"#);
}

#[test]
fn a_name_is_found_however_it_is_spelt_and_each_time_it_stands() {
    check(&["a"], r#"{"\u0061":1,"a":2}"#, r#"{"\u0061":H,"a":H}"#);
}

#[test]
fn fields_within_one_another_are_hidden_once() {
    check(&["a.b", "a"], r#"{"a":{"b":1}}"#, r#"{"a":H}"#);
    check(&["a", "a.b"], r#"{"a":{"b":1}}"#, r#"{"a":H}"#);
    check(&["a.b", "a.*"], r#"{"a":{"b":1,"c":2}}"#, r#"{"a":{"b":H,"c":H}}"#);
}

#[test]
fn a_url_leads_through_the_gate_or_is_hidden() {
    let detour = Detour {
        field: field("result.url"),
        from: Arc::from("wss://tail.example/"),
        to: Arc::from("wss://gate.example/tail/"),
    };
    let rule = Response { detours: vec![detour], ..Response::clone(&rule(Reveal::default(), &[])) };
    let review = Review::of(None, [Arc::new(rule)].iter()).unwrap();
    let url_after = |url: Value| {
        let text = json!({ "result": { "url": url } }).to_string();
        let edited = review.edit(text.as_bytes()).unwrap().unwrap_or_else(|| text.into_bytes());
        serde_json::from_slice::<Value>(&edited).unwrap()["result"]["url"].clone()
    };
    assert_eq!(url_after(json!("wss://tail.example/a?b")), "wss://gate.example/tail/a?b");
    assert_eq!(url_after(json!("wss://other.example/a")), REDACTED);
    assert_eq!(url_after(json!(7)), REDACTED);
    assert_eq!(url_after(Value::Null), Value::Null);
}

#[test]
fn what_cannot_be_looked_through_does_not_get_back() {
    let review = redacting(&["a"]);
    for text in ["", "{", "{\"a\":1", "a=1", "{\"a\":\"\u{0}\"}", "{} {}"] {
        assert_eq!(review.edit(text.as_bytes()), Err(Unreadable::Malformed), "{text:?}");
    }
    assert_eq!(review.edit(b"{\"a\":\"\xff\"}"), Err(Unreadable::Malformed));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(review.edit(deep.as_bytes()), Err(Unreadable::Deep));
}

#[test]
fn what_the_catalogue_holds_for_secret_is_hidden_unless_a_rule_shows_it() {
    let templates = Catalogue::cloudflare().templates();
    let create = templates.iter().find(|call| call.operation == "user.tokens.create");
    let none = || std::iter::empty::<&Arc<Response>>();
    let text = br#"{"result":{"id":"x","value":"planted"}}"#;
    let edited = Review::of(create, none()).unwrap().edit(text).unwrap().unwrap();
    assert!(!String::from_utf8(edited).unwrap().contains("planted"));
    let shown = rule(Reveal::Fields(vec![field("result.value")]), &[]);
    assert_eq!(Review::of(create, [shown].iter()), None);
    assert_eq!(Review::of(create, [rule(Reveal::All, &[])].iter()), None);
    // What a rule hides no other rule shows.
    let hidden = [rule(Reveal::default(), &["result.id"]), rule(Reveal::All, &[])];
    assert_eq!(Review::of(create, hidden.iter()).unwrap().hidden, [field("result.id")]);
}

#[test]
fn a_deploy_gets_the_tokens_it_goes_on_with() {
    let templates = Catalogue::cloudflare().templates();
    for name in ["workers.assets.upload.create", "workers.scripts.assets.upload.create"] {
        let call = templates.iter().find(|call| call.operation == name).unwrap();
        assert_eq!(call.secrets, "", "{name}");
    }
}

#[test]
fn every_secret_field_of_the_catalogue_can_be_read() {
    let templates = Catalogue::cloudflare().templates();
    let fields =
        templates.iter().flat_map(|call| call.secrets.split(',')).filter(|it| !it.is_empty());
    let fields: Vec<&str> = fields.collect();
    assert!(fields.len() > 150, "{}", fields.len());
    assert!(fields.iter().all(|text| Field::parse(text).is_some()));
}

/// JSON with names of one letter.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        Just(json!("planted")),
        any::<i64>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec(("[abc]", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same by a second way: over parsed values.
fn hide(value: &mut Value, steps: &[&str]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, steps)),
        Value::Object(members) => {
            let Some((first, rest)) = steps.split_first() else { return };
            for (name, value) in
                members.iter_mut().filter(|(name, _)| *first == "*" || name == first)
            {
                let _ = name;
                match rest {
                    [] if value.is_null() => {}
                    [] => *value = json!(REDACTED),
                    rest => hide(value, rest),
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn it_does_to_bytes_what_another_way_does_to_values(
        value in values(),
        steps in proptest::collection::vec("[abc*]", 1..4),
    ) {
        let text = value.to_string();
        let edited = redacting(&[&steps.join(".")]).edit(text.as_bytes()).unwrap();
        let edited = edited.unwrap_or_else(|| text.into_bytes());
        let mut expected = value;
        hide(&mut expected, &steps.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(serde_json::from_slice::<Value>(&edited).unwrap(), expected);
    }
}
