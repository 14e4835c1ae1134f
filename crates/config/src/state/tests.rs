//! The laws of applying commands.

use model::{Revision, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Key, Kind, State};
use crate::command::{Change, Command, EffectKind, Expect, Rejected, Stamp};

fn key(path: &str) -> Key {
    let (kind, id) = path.split_once('/').unwrap();
    Key::new(Kind::from_name(kind).unwrap(), id)
}

fn put(path: &str, value: Value) -> Change {
    Change::Put { key: key(path), value, expect: Expect::Any, stamp: Stamp::Now }
}

fn delete(path: &str) -> Change {
    Change::Delete { key: key(path), expect: Expect::Any }
}

fn command(at: u64, changes: Vec<Change>) -> Command {
    Command { at: Timestamp::from_secs(at), base: None, force: false, changes }
}

fn route(upstream: &str) -> Value {
    json!({"uri": "/a", "upstream_id": upstream})
}

fn upstream() -> Value {
    json!({"nodes": {"a:80": 1}})
}

fn consumer(key: &str) -> Value {
    json!({"plugins": {"jwt-auth": {"key": key, "secret": "s"}}})
}

/// A route that names an upstream; an agent of a team, with a credential.
fn sample() -> State {
    let mut state = State::default();
    let credential = json!({"plugins": {"jwt-auth": {"key": "k2", "secret": "s"}}});
    let mut alice = consumer("k1");
    alice["group_id"] = json!("dns");
    let changes = vec![
        put("routes/1", route("1")),
        put("upstreams/1", upstream()),
        put("consumers/alice", alice),
        put("consumer_groups/dns", json!({})),
        put("credentials/alice/one", credential),
    ];
    state.apply(&command(100, changes)).unwrap();
    state
}

fn rows(state: &State) -> Vec<(Key, super::Stored)> {
    let rows = Kind::ALL.iter().flat_map(|kind| state.list(*kind));
    rows.map(|(key, stored)| (key.clone(), stored.clone())).collect()
}

/// Applies changes to the sample and compares what became of them.
fn check(changes: Vec<Change>, expected: &str) {
    check_command(&command(200, changes), expected);
}

fn check_command(command: &Command, expected: &str) {
    let mut state = sample();
    let before = (state.revision(), rows(&state));
    let found = match state.apply(command) {
        Ok(applied) => {
            let effects = applied.effects.iter();
            let lines: Vec<String> =
                effects.map(|effect| format!("{:?} {}", effect.kind, effect.key)).collect();
            format!("{}: {}", applied.revision, lines.join(", "))
        }
        Err(rejected) => {
            assert_eq!((state.revision(), rows(&state)), before, "rejected, and yet changed");
            rejected.to_string()
        }
    };
    assert_eq!(found, expected);
}

#[test]
fn a_command_makes_one_revision_whatever_the_number_of_its_changes() {
    assert_eq!(sample().revision(), Revision::new(1));
    check(
        vec![put("upstreams/2", upstream()), put("routes/2", route("2"))],
        "2: Created upstreams/2, Created routes/2",
    );
}

#[test]
fn what_is_written_again_unchanged_keeps_the_revision() {
    check(vec![put("routes/1", route("1"))], "1: Unchanged routes/1");
    check(
        vec![put("routes/1", route("1")), put("routes/2", route("1"))],
        "2: Unchanged routes/1, Created routes/2",
    );
}

#[test]
fn a_stored_resource_has_its_id_and_its_times_and_keeps_when_it_was_made() {
    let mut state = sample();
    let changed = json!({"uri": "/b", "upstream_id": "1"});
    state.apply(&command(300, vec![put("routes/1", changed)])).unwrap();
    let stored = state.get(&key("routes/1")).unwrap();
    assert_eq!(
        *stored.value,
        json!({"uri": "/b", "upstream_id": "1", "id": "1", "create_time": 100, "update_time": 300})
    );
    assert_eq!((stored.created, stored.modified), (Revision::new(1), Revision::new(2)));
    let alice = state.get(&key("consumers/alice")).unwrap();
    assert_eq!((&alice.value["username"], alice.value.get("id")), (&json!("alice"), None));
    let one = state.get(&key("credentials/alice/one")).unwrap();
    assert_eq!(one.value["id"], "one");
}

#[test]
fn a_resource_without_an_id_is_named_after_the_revision() {
    let create = Change::Create { kind: Kind::Route, value: route("1") };
    check(vec![create.clone()], "2: Created routes/00000000000000000002");
    let twice =
        "invalid configuration: the command's revision is the id: one command makes one of a kind";
    check(vec![create.clone(), create], twice);
    let named = Change::Create { kind: Kind::Route, value: json!({"id": "7", "uri": "/a"}) };
    check(vec![named], "invalid configuration: /id: wrong route id, do not need it");
}

#[test]
fn times_are_set_by_patches_only() {
    let mut value = route("1");
    value["create_time"] = json!(5);
    let refused = "invalid configuration: /create_time: the property is forbidden:  create_time";
    check(vec![put("routes/1", value.clone())], refused);
    let given =
        Change::Put { key: key("routes/1"), value, expect: Expect::Any, stamp: Stamp::Given };
    check(vec![given], "2: Updated routes/1");
}

#[test]
fn an_expectation_holds_or_nothing_changes() {
    let expecting = |path: &str, expect| Change::Put {
        key: key(path),
        value: route("1"),
        expect,
        stamp: Stamp::Now,
    };
    let stale = "value changed before overwritten: routes/1 is at revision 1, not at";
    check(vec![expecting("routes/1", Expect::Absent)], &format!("{stale} nothing"));
    let seven = Expect::Modified(Revision::new(7));
    check(vec![expecting("routes/1", seven)], &format!("{stale} revision 7"));
    check(vec![expecting("routes/2", Expect::Absent)], "2: Created routes/2");
    let one = Expect::Modified(Revision::new(1));
    check(vec![expecting("routes/1", one)], "1: Unchanged routes/1");
    check(
        vec![expecting("routes/2", one)],
        "value changed before overwritten: routes/2 is at nothing, not at revision 1",
    );
}

#[test]
fn a_command_for_another_revision_is_rejected() {
    let base = Some(Revision::new(9));
    check_command(
        &Command { base, ..command(1, vec![delete("routes/1")]) },
        "the configuration is at revision 1, not at 9",
    );
}

#[test]
fn what_is_named_must_be_there_once_the_whole_command_is_done() {
    let missing = "failed to fetch upstream info by upstream id [9], response code: 404";
    check(vec![put("routes/1", route("9"))], missing);
    check(
        vec![put("routes/1", route("9")), put("upstreams/9", upstream())],
        "2: Updated routes/1, Created upstreams/9",
    );
    check(
        vec![put("credentials/bob/one", json!({"plugins": {"key-auth": {"key": "k"}}}))],
        "failed to fetch consumer info by consumer id [bob], response code: 404",
    );
    check(
        vec![put("limits/1", json!({"per": "agent", "rate": 1, "match": {"agents": ["bob"]}}))],
        "failed to fetch consumer info by consumer id [bob], response code: 404",
    );
}

#[test]
fn what_is_still_named_is_deleted_by_force_only() {
    let used = "can not delete this upstream, route [1] is still using it now";
    check(vec![delete("upstreams/1")], used);
    check(
        vec![delete("upstreams/1"), delete("routes/1")],
        "2: Deleted upstreams/1, Deleted routes/1",
    );
    let forced = Command { force: true, ..command(1, vec![delete("upstreams/1")]) };
    check_command(&forced, "2: Deleted upstreams/1");
    let used = "can not delete this consumer group, consumer [alice] is still using it now";
    check(vec![delete("teams/dns")], used);
}

/// A resource that names another one: it can be written and the other one deleted in the right
/// order only.
fn check_link(path: &str, value: Value, place: &str, named: &str, found: Value) {
    let mut state = State::default();
    let rejected = state.apply(&command(1, vec![put(path, value.clone())]));
    let Err(Rejected::Dangling { key: by, path: at, missing }) = rejected else {
        panic!("{rejected:?}");
    };
    assert_eq!((by, at.as_str(), missing), (key(path), place, key(named)));
    state.apply(&command(1, vec![put(path, value), put(named, found)])).unwrap();
    let rejected = state.apply(&command(2, vec![delete(named)]));
    assert_eq!(rejected, Err(Rejected::Referenced { key: key(named), by: key(path) }));
    let forced = Command { force: true, ..command(3, vec![delete(named)]) };
    state.clone().apply(&forced).unwrap();
    state.apply(&command(3, vec![delete(path)])).unwrap();
    state.apply(&command(4, vec![delete(named)])).unwrap();
}

#[test]
fn a_limit_names_what_is_there_and_what_it_names_stays() {
    let limit = |names: Value| json!({"per": "agent", "rate": 1, "match": names});
    let plain = json!({"uri": "/a", "plugins": {}});
    let routes = limit(json!({"routes": ["7"]}));
    check_link("limits/1", routes, "/match/routes/0", "routes/7", plain.clone());
    let routes = limit(json!({"routes": [7]}));
    check_link("limits/1", routes, "/match/routes/0", "routes/7", plain);
    let agents = limit(json!({"methods": ["GET"], "agents": ["bob"]}));
    check_link("limits/1", agents, "/match/agents/0", "agents/bob", json!({}));
    let teams = limit(json!({"teams": ["dns"]}));
    check_link("limits/1", teams, "/match/teams/0", "teams/dns", json!({}));
    let quota = json!({"match": {"upstreams": ["cf"]}, "quota": 1, "window": 1});
    let nodes = json!({"nodes": {"a:80": 1}});
    check_link("upstream_quotas/1", quota, "/match/upstreams/0", "upstreams/cf", nodes);
    let with = |name: &str, value: Value| {
        let mut quota = json!({"match": {"hosts": ["a"]}, "quota": 1, "window": 1});
        quota[name] = value;
        quota
    };
    let weighted = with("weights", json!({"agents": {"bob": 2}}));
    check_link("upstream_quotas/1", weighted, "/weights/agents/bob", "agents/bob", json!({}));
    let classed = with("classes", json!({"bulk": {"teams": ["dns"]}}));
    check_link("upstream_quotas/1", classed, "/classes/bulk/teams/0", "teams/dns", json!({}));
    let policy = |who: &str| json!({"text": format!("permit ({who});")});
    let agent = policy("principal == Agent::\"bob\", action, resource");
    check_link("policies/1", agent, "/text", "agents/bob", json!({}));
    let team = policy("principal in Team::\"dns\", action, resource");
    check_link("policies/1", team, "/text", "teams/dns", json!({}));
    let zone = policy("principal, action, resource in Zone::\"a.example\"");
    let declared = json!({"zone_id": "0".repeat(32)});
    check_link("policies/1", zone, "/text", "zones/a.example", declared);
}

#[test]
fn whoever_may_act_anonymously_is_there_and_stays() {
    for name in ["jwt-auth", "key-auth"] {
        let route = json!({"uri": "/a", "plugins": {name: {"anonymous_consumer": "guest"}}});
        let place = format!("/plugins/{name}/anonymous_consumer");
        check_link("routes/1", route, &place, "agents/guest", json!({}));
    }
    let off = json!({"anonymous_consumer": "guest", "_meta": {"disable": true}});
    let route = json!({"uri": "/a", "plugins": {"key-auth": off}});
    check(vec![put("routes/9", route)], "2: Created routes/9");
}

#[test]
fn an_agent_s_team_is_there_and_stays() {
    for name in ["team", "group_id"] {
        let place = format!("/{name}");
        check_link("agents/bob", json!({name: "dns"}), &place, "teams/dns", json!({}));
    }
}

#[test]
fn a_route_s_upstream_is_there_and_stays() {
    check_link("routes/1", route("7"), "/upstream_id", "upstreams/7", upstream());
}

#[test]
fn a_consumer_takes_its_credentials_along() {
    check(
        vec![delete("consumers/alice")],
        "2: Deleted consumers/alice, Deleted credentials/alice/one",
    );
    let again = json!({"plugins": {"key-auth": {"key": "k"}}});
    check(
        vec![
            delete("consumers/alice"),
            put("consumers/alice", consumer("k1")),
            put("credentials/alice/one", again),
        ],
        "2: Deleted consumers/alice, Created consumers/alice, Created credentials/alice/one",
    );
}

#[test]
fn what_is_not_there_cannot_be_deleted() {
    check(vec![delete("routes/2")], "Key not found");
    check(vec![delete("routes/1"), delete("routes/1")], "Key not found");
}

#[test]
fn two_agents_cannot_have_one_key() {
    let text = "duplicate key of plugin jwt-auth found with";
    check(vec![put("consumers/bob", consumer("k1"))], &format!("{text} consumer: alice"));
    check(
        vec![put("consumers/bob", consumer("k2"))],
        &format!("{text} credential: one of consumer: alice"),
    );
    check(vec![put("consumers/bob", consumer("k3"))], "2: Created consumers/bob");
}

#[test]
fn a_fault_anywhere_leaves_everything_as_it_was() {
    check(
        vec![delete("routes/1"), put("routes/2", json!({"uri": 1}))],
        "invalid configuration: needs an `upstream`, an `upstream_id` or `plugins`; \
         /uri: expected a string, got a number",
    );
}

fn change() -> impl Strategy<Value = Change> {
    let ids = prop::sample::select(vec!["1", "2", "x/y"]);
    let values = prop::sample::select(vec![
        route("1"),
        route("2"),
        upstream(),
        consumer("k1"),
        consumer("k2"),
        json!({"nodes": {"a:80": 1}, "credential": "$env://A"}),
        json!({"team": "1"}),
        json!({}),
        json!(1),
    ]);
    let expects =
        prop::sample::select(vec![Expect::Any, Expect::Absent, Expect::Modified(Revision::new(1))]);
    let kinds = prop::sample::select(Kind::ALL.to_vec());
    (kinds, ids, values, expects, 0..4).prop_map(|(kind, id, value, expect, what)| {
        let key = Key::new(kind, id);
        match what {
            0 => Change::Delete { key, expect },
            1 => Change::Create { kind, value },
            _ => Change::Put { key, value, expect, stamp: Stamp::Now },
        }
    })
}

proptest! {
    #[test]
    fn whoever_applies_the_same_commands_reaches_the_same_state(
        commands in prop::collection::vec(prop::collection::vec(change(), 1..4), 0..12),
        force in any::<bool>(),
    ) {
        let (mut one, mut other) = (sample(), sample());
        for (at, changes) in (200..).zip(commands) {
            let command = Command { force, ..command(at, changes) };
            let before = (one.revision(), rows(&one));
            let applied = one.apply(&command);
            prop_assert_eq!(&applied, &other.apply(&command));
            prop_assert_eq!(rows(&one), rows(&other));
            match &applied {
                Err(_) => prop_assert_eq!((one.revision(), rows(&one)), before),
                Ok(applied) => {
                    let changed = applied.effects.iter().any(|e| e.kind != EffectKind::Unchanged);
                    prop_assert_eq!(one.revision().number(), before.0.number() + u64::from(changed));
                }
            }
        }
        let restored = State::restore(one.revision(), rows(&one).into_iter());
        prop_assert_eq!(rows(&restored), rows(&one));
        prop_assert_eq!(index(&restored), index(&one));
    }
}

/// What the resources say of each other, as far as these tests know them.
fn index(state: &State) -> Vec<String> {
    let mut lines = vec![format!("{:?}", state.written_references().collect::<Vec<_>>())];
    for kind in Kind::ALL {
        for id in ["1", "2", "alice", "dns"] {
            let key = Key::new(*kind, id);
            lines.push(format!("{key} {:?}", state.referrers(&key).collect::<Vec<_>>()));
            lines.push(format!("{key} {:?}", state.credentials(&key)));
        }
    }
    for key in ["k1", "k2"] {
        let identity = ("jwt-auth", key.to_owned());
        lines.push(format!("{key} {:?}", state.index.owners(&identity).collect::<Vec<_>>()));
    }
    lines
}

#[test]
fn what_is_named_no_more_can_be_deleted_and_used_again() {
    let mut state = sample();
    let reference =
        |name: &str| json!({"nodes": {"a:80": 1}, "credential": format!("$env://{name}")});
    let steps = [
        vec![put("upstreams/2", reference("A")), put("upstreams/3", reference("A"))],
        vec![put("routes/1", route("2"))],
        vec![delete("upstreams/1")],
        vec![put("upstreams/2", reference("B"))],
        vec![put("consumers/alice", consumer("k3"))],
        vec![put("consumers/bob", consumer("k1"))],
        vec![delete("teams/dns")],
    ];
    for changes in steps {
        state.apply(&command(1, changes)).unwrap();
        let restored = State::restore(state.revision(), rows(&state).into_iter());
        assert_eq!(index(&state), index(&restored));
    }
    assert_eq!(crate::references(&state).len(), 2);
}

#[test]
fn a_duplicate_names_the_place_of_the_key() {
    let mut state = sample();
    let rejected = state.apply(&command(1, vec![put("consumers/bob", consumer("k1"))]));
    let Err(Rejected::Duplicate { key: bob, path, .. }) = rejected else { panic!("{rejected:?}") };
    assert_eq!((bob, path.as_str()), (key("consumers/bob"), "/plugins/jwt-auth/key"));
}
