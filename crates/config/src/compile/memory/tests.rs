//! A compiler that remembers gives what a fresh one gives, and opens what changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Uri};
use model::{
    AgentId, Identity, OrganisationId, Protocol, RequestId, RouteId, Scheme, Secret, TeamId,
    Timestamp,
};
use proptest::prelude::*;
use rules::Snapshot;
use rules::fact::Facts;
use rules::identity::{Denial, Proven};
use rules::plugin::{JwtAuth, Sources};
use rules::rewrite::HeaderText;
use rules::route::Route;
use rules::target::Target;
use rules::upstream::Credential;
use serde_json::{Value, json};

use super::super::{Compiler, compile};
use crate::command::{Change, Command, Expect, Stamp};
use crate::fault::Fault;
use crate::key::{Key, Kind};
use crate::keyring::Keyring;
use crate::reference::Reference;
use crate::state::{State, Stored};

/// What the secrets of a node are.
#[derive(Clone, Copy, Debug, Default)]
struct World {
    resolved: u64,
    /// Whether `$env://Y` is set.
    has_y: bool,
}

impl World {
    fn value(self, reference: &Reference) -> Result<Secret<String>, String> {
        let resolved = self.resolved;
        match reference {
            Reference::Env { name, .. } if name == "Y" && !self.has_y => {
                Err(String::from("is not set"))
            }
            Reference::Env { name, .. } => Ok(Secret::new(format!("{name}{resolved}"))),
            Reference::Vault { uri, .. } => Ok(Secret::new(format!("{uri}{resolved}"))),
            Reference::File { .. } => Err(String::from("is away")),
        }
    }
}

/// One step in the life of a node.
#[derive(Clone, Debug)]
enum Step {
    Apply {
        changes: Vec<Change>,
        force: bool,
    },
    /// The state of before the last command is compiled again.
    Back,
    /// The state was read from the disk.
    Restore,
    /// The state was read from the disk, and holds what this release does not take.
    Fault,
    /// Values of secrets move.
    Resolve {
        has_y: bool,
    },
    /// `$env://Y` is there at last, before anybody counted it.
    Arrive,
}

fn keyring() -> Keyring {
    Keyring::from_bytes(&[7; 32])
}

fn key(path: &str) -> Key {
    let (kind, id) = path.split_once('/').unwrap();
    Key::new(Kind::from_name(kind).unwrap(), id)
}

fn put(path: &str, value: Value) -> Change {
    Change::Put { key: key(path), value, expect: Expect::Any, stamp: Stamp::Now }
}

fn command(changes: Vec<Change>, force: bool) -> Command {
    Command { at: Timestamp::from_secs(1), base: None, force, changes }
}

/// What each resource may be: those of one document refer to each other.
fn resources() -> Vec<(&'static str, Vec<Value>)> {
    let off = json!({"_meta": {"disable": true}});
    let limit = |burst: u8| json!({"rate": 1, "burst": burst, "key": "remote_addr"});
    let rewrite = |value: &str| json!({"proxy-rewrite": {"headers": {"set": {"X-A": value}}}});
    let by_key = |value: &str| json!({"plugins": {"key-auth": {"key": value}}});
    let routes = vec![
        json!({"uri": "/a/*", "upstream_id": "1", "plugins": {"limit-req": limit(1)}}),
        json!({"uri": "/a/*", "upstream_id": "2", "status": 0}),
        json!({"uri": "/a/b", "plugins": rewrite("$env://Y"), "priority": 1}),
        json!({"uris": ["/b", "/a/*"], "upstream_id": "2", "plugins": rewrite("$env://X")}),
        json!({"uri": "/b", "plugins": {"jwt-auth": {"anonymous_consumer": "a"}}}),
    ];
    let upstreams = vec![
        json!({"nodes": {"a:80": 1}}),
        json!({"nodes": {"b:80": 1}, "credential": "$secret://vault/1/p/k"}),
        json!({"nodes": {"b:80": 1}, "credential": "$env://Y"}),
    ];
    let teams = vec![
        json!({"organisation": "acme"}),
        json!({"plugins": {"limit-req": limit(2)}}),
        json!({"plugins": rewrite("$env://Y")}),
        json!({"plugins": {"limit-req": off}}),
    ];
    let jwt = |name: &str, secret: &str| json!({"jwt-auth": {"key": name, "secret": secret}});
    let agents = |name: &str| {
        vec![
            json!({"team": "t", "plugins": jwt(name, "s")}),
            json!({"group_id": "u", "plugins": jwt(name, "$env://X")}),
            json!({"plugins": {"key-auth": {"key": "$env://X"}, "limit-req": off}}),
            json!({"plugins": {"key-auth": {"key": format!("k-{name}")}}, "labels": {"custom_id": "c"}}),
            json!({"team": "t", "plugins": rewrite("$env://Y")}),
        ]
    };
    let credentials = vec![
        by_key("$env://X"),
        by_key("$env://Y"),
        json!({"plugins": jwt("jc", "$secret://vault/1/p/k")}),
        by_key("k-jc"),
    ];
    let limits = vec![
        json!({"per": "agent", "rate": 1, "match": {"agents": ["a"], "routes": ["1"]}}),
        json!({"per": "team", "rate": 2, "match": {"teams": ["t"]}}),
        json!({"per": "address", "rate": 3}),
    ];
    let budgets = vec![
        json!({"per": "agent", "unit": "USD", "amount": "5", "period": {"every": "day"},
            "notify": {"webhook": "https://h.example/x"}}),
        json!({"per": "team", "unit": "requests", "amount": "7", "period": {"every": "lifetime"},
            "match": {"teams": ["t"], "effects": ["read"]}}),
    ];
    let prices = vec![
        json!({"match": {}, "unit": "USD", "hold": {"fixed": "1"}}),
        json!({"match": {"routes": ["1"]}, "unit": "EUR", "hold": {"fixed": "2"}}),
    ];
    let quotas = vec![
        json!({"match": {"upstreams": ["1"]}, "quota": 5, "window": 1}),
        json!({"match": {"hosts": ["a", "b"]}, "quota": 7, "window": 2, "per": "upstream"}),
    ];
    let vault = |uri: &str| json!({"uri": uri, "prefix": "kv", "token": "$env://X"});
    vec![
        ("routes/1", routes.clone()),
        ("routes/2", routes.clone()),
        ("routes/3", routes),
        ("upstreams/1", upstreams.clone()),
        ("upstreams/2", upstreams),
        ("teams/t", teams.clone()),
        ("teams/u", teams),
        ("agents/a", agents("ja")),
        ("agents/b", agents("jb")),
        ("agents/c", agents("jb")),
        ("credentials/a/one", credentials.clone()),
        ("credentials/b/one", credentials),
        ("limits/1", limits.clone()),
        ("limits/2", limits),
        ("budgets/1", budgets.clone()),
        ("budgets/2", budgets),
        ("prices/1", prices.clone()),
        ("prices/2", prices),
        ("upstream_quotas/1", quotas.clone()),
        ("upstream_quotas/2", quotas),
        ("secrets/vault/1", vec![vault("http://v1"), vault("http://v2")]),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let resource = prop::sample::select(resources());
    (resource, any::<prop::sample::Index>(), 0..4_u8).prop_map(|((path, values), which, what)| {
        match what {
            0 => Change::Delete { key: key(path), expect: Expect::Any },
            _ => put(path, which.get(&values).clone()),
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::vec(change(), 1..4);
    prop_oneof![
        12 => (changes, prop::bool::weighted(0.8))
            .prop_map(|(changes, force)| Step::Apply { changes, force }),
        1 => Just(Step::Back),
        1 => Just(Step::Restore),
        1 => Just(Step::Fault),
        2 => any::<bool>().prop_map(|has_y| Step::Resolve { has_y }),
        1 => Just(Step::Arrive),
    ]
}

/// A state with every resource, in the first form that goes with the others.
fn full() -> State {
    let mut state = State::default();
    let resources = resources();
    // What is named must be there first, so some are taken in a later round only.
    for (path, values) in std::iter::repeat_n(&resources, 3).flatten() {
        if state.get(&key(path)).is_none() {
            let mut values = values.iter();
            values.find(|value| {
                state.apply(&command(vec![put(path, (*value).clone())], false)).is_ok()
            });
        }
    }
    assert_eq!(state.len(), resources.len());
    state
}

fn rows(state: &State) -> impl Iterator<Item = (Key, Stored)> {
    let rows = Kind::ALL.iter().flat_map(|kind| state.list(*kind));
    rows.map(|(key, stored)| (key.clone(), stored.clone()))
}

/// A life, in which every state is compiled by one compiler and by a fresh one.
fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut compiler = Compiler::new(Arc::new(keyring()));
    let (mut state, mut world) = (full(), World::default());
    let mut before = state.clone();
    check_same(&mut compiler, &state, world)?;
    for step in steps {
        match step {
            Step::Apply { changes, force } => {
                let mut next = state.clone();
                // Nearly all of a random command's changes do not fit; one by one most do.
                for change in changes {
                    drop(next.apply(&command(vec![change], force)));
                }
                before = std::mem::replace(&mut state, next);
            }
            Step::Back => {
                check_same(&mut compiler, &before, world)?;
            }
            Step::Restore => state = State::restore(state.revision(), rows(&state)),
            Step::Fault => {
                let value = Arc::new(json!({"uri": 1, "upstream_id": "1"}));
                let (created, modified) = (state.revision(), state.revision());
                let wrong = (key("routes/9"), Stored { value, created, modified });
                let faulty = State::restore(state.revision(), rows(&state).chain([wrong]));
                check_same(&mut compiler, &faulty, world)?;
            }
            Step::Resolve { has_y } => {
                world = World { resolved: world.resolved + 1, has_y };
            }
            Step::Arrive => world.has_y = true,
        }
        check_same(&mut compiler, &state, world)?;
    }
    Ok(())
}

fn check_same(compiler: &mut Compiler, state: &State, world: World) -> Result<(), TestCaseError> {
    let secrets = |reference: &Reference| world.value(reference);
    let remembered = compiler.compile(state, &secrets, world.resolved);
    let fresh = compile(state, &keyring(), &secrets, world.resolved);
    prop_assert_eq!(shown(&remembered), shown(&fresh));
    Ok(())
}

/// Everything that requests are judged by, as text.
fn shown(compiled: &Result<Snapshot, Vec<(Key, Fault)>>) -> Vec<String> {
    let snapshot = match compiled {
        Ok(snapshot) => snapshot,
        Err(faults) => return vec![format!("{faults:?}")],
    };
    let mut lines = vec![format!("{} {:?}", snapshot.revision, snapshot.unresolved)];
    let routes: BTreeMap<&RouteId, &Arc<Route>> =
        snapshot.routes.iter().map(|route| (&route.id, route)).collect();
    lines.extend(routes.into_values().map(|route| shown_route(route)));
    for path in ["/a", "/a/b", "/a/c", "/b"] {
        lines.push(format!("{path} {:?}", found(snapshot, path)));
    }
    lines.extend(shown_agents(snapshot));
    lines.extend(shown_limits(snapshot));
    let routes = ["1", "2", "3"].map(RouteId::new);
    let upstreams = routes.iter().filter_map(|id| snapshot.routes.get(id)?.upstream.as_ref());
    lines.extend(upstreams.map(|upstream| format!("{:?}", snapshot.quotas.of(upstream))));
    lines
}

/// A route; secrets print as such, so their texts are added.
fn shown_route(route: &Route) -> String {
    let credential = match route.upstream.as_ref().map(|upstream| &upstream.credential) {
        Some(Credential::Ready { value, .. }) => value.to_str().unwrap(),
        Some(Credential::Unresolved { .. } | Credential::None) | None => "",
    };
    let rewrite = route.plugins.proxy_rewrite.as_ref();
    let headers: Vec<&str> = rewrite
        .iter()
        .flat_map(|plugin| &plugin.rule.set)
        .map(|(_, text)| match text {
            HeaderText::Fixed(value) => value.to_str().unwrap(),
            HeaderText::Template(_) => "",
        })
        .collect();
    format!("{route:?} {credential} {headers:?}")
}

fn facts<'a>(target: &'a Target, headers: &'a HeaderMap) -> Facts<'a> {
    let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    Facts {
        request_id: RequestId(1),
        client,
        server: client,
        scheme: Scheme::Http,
        protocol: Protocol::Http11,
        method: "GET",
        host: "a",
        host_header: "a",
        target,
        headers,
        route: None,
        identity: None,
        call: None,
    }
}

fn found(snapshot: &Snapshot, path: &str) -> Option<RouteId> {
    let target = Target::parse(&path.parse::<Uri>().unwrap()).unwrap();
    snapshot.routes.find(&facts(&target, &HeaderMap::new())).unwrap().map(|route| route.id.clone())
}

/// The agents, and what each credential that somebody might have proves.
fn shown_agents(snapshot: &Snapshot) -> Vec<String> {
    let agents = &snapshot.agents;
    let by_id: BTreeMap<&AgentId, String> =
        agents.by_id.iter().map(|(id, agent)| (id, format!("{agent:?}"))).collect();
    let mut lines = vec![
        format!("{} {}", agents.version, agents.digester.is_some()),
        format!("{} {}", agents.by_jwt_key.len(), agents.by_api_key.len()),
        format!("{by_id:?}"),
    ];
    let proven = |found: Result<Proven, Denial>| match found {
        Ok(Proven { agent, credential, .. }) => {
            let known = agents.by_id.get(&agent.id).unwrap();
            assert!(Arc::ptr_eq(known, &agent), "proves an agent of before");
            format!("{} {credential:?}", agent.id)
        }
        Err(denial) => denial.to_string(),
    };
    let secrets = (0..9).flat_map(|n| {
        [format!("X{n}"), format!("Y{n}"), format!("http://v1{n}"), format!("http://v2{n}")]
    });
    for secret in secrets.chain(["s", "k-ja", "k-jb", "k-jc"].map(str::to_owned)) {
        lines.push(proven(agents.verify_key(&secret)));
        for name in ["ja", "jb", "jc"] {
            lines.push(proven(agents.verify_token(
                &token(name, &secret),
                &rule(),
                Timestamp::from_secs(1),
            )));
        }
    }
    lines
}

fn rule() -> JwtAuth {
    let header = http::header::AUTHORIZATION;
    JwtAuth {
        sources: Sources { header, query: "jwt".into(), cookie: None, hide: false },
        key_claim: "key".into(),
        require_exp: false,
        require_nbf: false,
        realm: "jwt".into(),
        anonymous: None,
    }
}

fn token(name: &str, secret: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({"alg": "HS256"})), encode(&json!({"key": name})));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())))
}

fn shown_limits(snapshot: &Snapshot) -> Vec<String> {
    let counts = [snapshot.limits.len(), snapshot.budgets.len(), snapshot.prices.len()];
    let mut lines = vec![format!("{counts:?}")];
    for (agent, team) in [("a", Some("t")), ("a", None), ("b", Some("t"))] {
        let identity = Identity {
            organisation: OrganisationId::new("o"),
            team: team.map(TeamId::new),
            agent: AgentId::new(agent),
            run: None,
            credential: None,
        };
        let route = RouteId::new("1");
        let target = Target::parse(&Uri::from_static("/")).unwrap();
        let headers = HeaderMap::new();
        let facts = Facts { identity: Some(&identity), ..facts(&target, &headers) };
        let binding = snapshot.limits.binding(&route, &facts);
        lines.push(format!("{:?}", binding.collect::<Vec<_>>()));
        lines.push(format!("{:?}", Vec::from_iter(snapshot.prices.binding(&route, &facts))));
        for budget in snapshot.budgets.binding(&route, &facts) {
            let webhook = budget.webhook.as_ref().map(|webhook| webhook.url.expose().clone());
            lines.push(format!("{budget:?} {webhook:?}"));
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_compiler_that_remembers_gives_what_a_fresh_one_gives(
        steps in prop::collection::vec(step(), 1..24),
    ) {
        live(steps)?;
    }
}

/// The resources that are opened again after a change of the full state.
fn check_opened(changes: Vec<Change>, expected: &[&str]) {
    let (mut compiler, mut state) = (Compiler::new(Arc::new(keyring())), full());
    let world = World { has_y: true, ..World::default() };
    check_same(&mut compiler, &state, world).unwrap();
    state.apply(&command(changes, true)).unwrap();
    let stale = compiler.memory.stale(&state, world.resolved);
    let stale: Vec<String> = stale.iter().map(Key::to_string).collect();
    assert_eq!(stale, expected);
}

#[test]
fn a_change_opens_what_it_changed() {
    let route = json!({"uri": "/z", "plugins": {}});
    check_opened(vec![put("routes/1", route.clone())], &["routes/1"]);
    check_opened(vec![put("routes/7", route)], &["routes/7"]);
    let upstream = json!({"nodes": {"z:80": 1}});
    check_opened(vec![put("upstreams/1", upstream)], &["upstreams/1"]);
    check_opened(vec![put("teams/t", json!({}))], &["consumer_groups/t"]);
    let delete = |path| Change::Delete { key: key(path), expect: Expect::Any };
    check_opened(vec![delete("agents/a")], &["consumers/a", "credentials/a/one"]);
    check_opened(vec![put("limits/1", json!({"per": "run", "rate": 1}))], &["limits/1"]);
}

#[test]
fn settings_of_a_vault_open_what_refers_to_secrets() {
    let (mut compiler, state) = (Compiler::new(Arc::new(keyring())), full());
    let world = World { has_y: true, ..World::default() };
    check_same(&mut compiler, &state, world).unwrap();
    let mut moved = state.clone();
    let vault = json!({"uri": "http://v3", "prefix": "kv", "token": "$env://X"});
    moved.apply(&command(vec![put("secrets/vault/1", vault)], false)).unwrap();
    let stale = compiler.memory.stale(&moved, world.resolved);
    assert!(stale.len() > 1 && stale.len() < state.len(), "{stale:?}");
    assert_eq!(compiler.memory.stale(&state, world.resolved + 1).len(), stale.len());
    assert!(compiler.memory.stale(&state, world.resolved).is_empty());
}

#[test]
fn what_did_not_change_is_the_same_in_the_next_snapshot() {
    let (mut compiler, mut state) = (Compiler::new(Arc::new(keyring())), full());
    let world = World { has_y: true, ..World::default() };
    let secrets = |reference: &Reference| world.value(reference);
    let before = compiler.compile(&state, &secrets, 0).unwrap();
    let change = vec![put("routes/1", json!({"uri": "/z", "plugins": {"jwt-auth": {}}}))];
    state.apply(&command(change, false)).unwrap();
    let after = compiler.compile(&state, &secrets, 0).unwrap();
    let same = |id: &str| {
        let id = RouteId::new(id);
        Arc::ptr_eq(before.routes.get(&id).unwrap(), after.routes.get(&id).unwrap())
    };
    assert!(!same("1") && same("2") && same("3"));
    let agent = |snapshot: &Snapshot| Arc::clone(snapshot.agents.by_id.get("a").unwrap());
    assert!(Arc::ptr_eq(&agent(&before), &agent(&after)));
    assert_eq!(before.agents.version, after.agents.version);
}
