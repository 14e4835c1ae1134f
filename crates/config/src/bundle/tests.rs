//! Whole documents, there and back.

use model::Timestamp;
use serde_json::json;

use super::Bundle;
use crate::command::{Command, EffectKind};
use crate::diff::diff;
use crate::document::tests::ARTICLE;
use crate::key::{Key, Kind};
use crate::keyring::Keyring;
use crate::keyring::tests::Counting;
use crate::seal::{MASK, seal};
use crate::state::State;

const YAML: &str = "\
# the gate of the article
upstreams:
  cloudflare:
    scheme: https
    nodes: {\"api.cloudflare.com:443\": 1}
    credential: $env://CF_TOKEN
routes:
  - id: 1
    uri: /ai-cloudflare/*
    upstream_id: cloudflare
    plugins:
      jwt-auth: {}
      limit-req: {rate: 0.5, burst: 5, key: remote_addr}
teams:
  dns:
agents:
  - username: alice
    group_id: dns
    plugins:
      jwt-auth: {key: alice, secret: s3cr3t}
    credentials:
      one:
        plugins: {key-auth: {key: an-api-key}}
limits:
  per-agent: {per: agent, rate: \"1200\", interval: 5m, match: {teams: [dns]}}
";

fn applied(bundle: &Bundle, mut state: State, prune: bool) -> State {
    let keyring = Keyring::from_bytes(&[7; 32]);
    let changes = bundle.changes(&state, prune).into_iter().map(|mut change| {
        if let crate::command::Change::Put { key, value, .. } = &mut change {
            let previous = state.get(key).map(|stored| &*stored.value);
            *value = seal(&keyring, &Counting::default(), key, value.take(), previous).unwrap();
        }
        change
    });
    let (at, changes) = (Timestamp::from_secs(1), changes.collect());
    state.clone_from(&{
        let command = Command { at, base: None, force: false, changes };
        let mut next = state.clone();
        next.apply(&command).unwrap();
        next
    });
    state
}

fn keys(bundle: &Bundle) -> Vec<String> {
    bundle.entries.iter().map(|entry| entry.key.to_string()).collect()
}

/// The faults of a text, each as `line:column key path: message`, or the start of it.
fn check_faults(text: &str, expected: &[&str]) {
    let faults = Bundle::parse(text).unwrap_err();
    let found: Vec<String> = faults
        .iter()
        .map(|fault| {
            let key = fault.key.as_ref().map(|key| format!(" {key}")).unwrap_or_default();
            format!("{}:{}{key} {}", fault.place.line, fault.place.column, fault.fault)
        })
        .collect();
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, start)| found.starts_with(start));
    assert!(matches, "found {found:#?}\nexpected {expected:#?}");
}

#[test]
fn a_text_holds_resources_by_id_in_lists_and_under_their_consumer() {
    assert_eq!(
        keys(&Bundle::parse(YAML).unwrap()),
        [
            "upstreams/cloudflare",
            "routes/1",
            "consumer_groups/dns",
            "consumers/alice",
            "credentials/alice/one",
            "limits/per-agent",
        ]
    );
}

#[test]
fn json_is_read_as_well_with_tabs_and_all() {
    let text = format!("{{\n\t\"routes\":\t{{\n\t\t\"cloudflare-ai-agent\": {ARTICLE}\n\t}}\n}}");
    let bundle = Bundle::parse(&text).unwrap();
    assert_eq!(keys(&bundle), ["routes/cloudflare-ai-agent"]);
    let value: serde_json::Value = serde_json::from_str(ARTICLE).unwrap();
    assert_eq!(bundle.entries[0].value, value);
}

#[test]
fn an_empty_text_is_an_empty_bundle() {
    for text in ["", "# nothing\n", "routes:\n", "{}"] {
        assert_eq!(keys(&Bundle::parse(text).unwrap()), [""; 0], "{text:?}");
    }
}

#[test]
fn every_fault_has_its_line_and_column() {
    check_faults(
        "routes:\n  one:\n    uri: a\n    upstream:\n      nodes: {\"a:80\": -1}\n  two: {}\n",
        &[
            "3:10 routes/one /uri: expected a path",
            "5:23 routes/one /upstream/nodes/a:80: expected -1 to be at least 0",
            "6:8 routes/two needs an `upstream`",
            "6:8 routes/two /uri: is required",
        ],
    );
}

#[test]
fn what_is_no_bundle_is_refused() {
    check_faults("- a\n", &["1:1 expected an object of kinds"]);
    check_faults("rotues: {}\n", &["1:9 /rotues: unknown kind `rotues`; did you mean `routes`?"]);
    check_faults("routes: 5\n", &["1:9 /routes: expected an object by id, or an array"]);
    check_faults("limits:\n  - per: agent\n", &["2:5 /limits/0: needs `id`"]);
    check_faults(
        "teams: {a: {}}\nconsumer_groups: {a: {}}\n",
        &["2:22 consumer_groups/a stands in the text twice, first on line 1"],
    );
    check_faults(
        "teams: {a: {create_time: 1}}\n",
        &["1:26 consumer_groups/a /create_time: the property"],
    );
}

#[test]
fn a_text_that_makes_no_sense_is_refused_where_it_stops() {
    for (text, line) in [("routes: [", 1), ("a: b\n c: d: e\n", 2), ("teams: {a: {}, a: {}}\n", 1)]
    {
        let faults = Bundle::parse(text).unwrap_err();
        assert_eq!((faults.len(), faults[0].place.line), (1, line), "{faults:?}");
    }
}

#[test]
fn a_fault_of_the_text_quotes_no_secret() {
    let faults = Bundle::parse("agents:\n  a: {plugins: {key-auth: {key: s3cr3t}}\n").unwrap_err();
    assert!(!format!("{faults:?}").contains("s3cr3t"), "{faults:?}");
}

#[test]
fn what_was_exported_is_applied_again_without_a_change() {
    let state = applied(&Bundle::parse(YAML).unwrap(), State::default(), false);
    let exported = Bundle::from_state(&state);
    let text = exported.to_yaml();
    assert!(!text.contains("s3cr3t") && text.contains(MASK), "{text}");
    let again = Bundle::parse(&text).unwrap();
    assert_eq!(keys(&again), keys(&exported));
    assert_eq!(diff(&state, &again, true), []);
    let state_again = applied(&again, state.clone(), true);
    assert_eq!(state_again.revision(), state.revision());
    assert_eq!(Bundle::parse(&Bundle::default().to_yaml()).unwrap(), Bundle::default());
}

#[test]
fn a_difference_says_what_would_become_of_each_resource() {
    let state = applied(&Bundle::parse(YAML).unwrap(), State::default(), false);
    let text = YAML.replace("burst: 5", "burst: 6").replace("s3cr3t", &format!("\"{MASK}\""));
    let text = text.replace("an-api-key", &format!("\"{MASK}\"")).replace("per-agent:", "per-bot:");
    let wanted = Bundle::parse(&text).unwrap();
    let found: Vec<_> = diff(&state, &wanted, true)
        .into_iter()
        .map(|difference| (difference.key.to_string(), difference.kind))
        .collect();
    let expected = [
        ("routes/1", EffectKind::Updated),
        ("limits/per-agent", EffectKind::Deleted),
        ("limits/per-bot", EffectKind::Created),
    ];
    assert_eq!(found, expected.map(|(key, kind)| (key.to_owned(), kind)));
    assert_eq!(diff(&state, &wanted, false).len(), 2);
}

#[test]
fn a_difference_shows_no_secret() {
    let state = applied(&Bundle::parse(YAML).unwrap(), State::default(), false);
    let wanted = Bundle::parse(&YAML.replace("s3cr3t", "n3w")).unwrap();
    let differences = diff(&state, &wanted, false);
    let text = serde_json::to_string(&differences).unwrap();
    assert!(!text.contains("n3w") && !text.contains("$sealed"), "{text}");
    assert!(differences.iter().any(|d| d.key == Key::new(Kind::Consumer, "alice")), "{text}");
}

#[test]
fn pruning_deletes_a_consumer_and_its_credentials() {
    let state = applied(&Bundle::parse(YAML).unwrap(), State::default(), false);
    let wanted = Bundle::parse("teams: {dns: {}}\n").unwrap();
    let pruned = applied(&wanted, state, true);
    assert_eq!(keys(&Bundle::from_state(&pruned)), ["consumer_groups/dns"]);
    let stored = pruned.get(&Key::new(Kind::ConsumerGroup, "dns")).unwrap();
    assert_eq!(stored.value["id"], json!("dns"));
}
