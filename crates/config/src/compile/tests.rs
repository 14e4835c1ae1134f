//! From documents to decisions.

use std::net::SocketAddr;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Uri};
use model::{AgentId, Protocol, RequestId, RouteId, Scheme, Secret, Timestamp, Tokens};
use rules::Snapshot;
use rules::fact::Facts;
use rules::plugin::KeySource;
use rules::record::SyslogTransport;
use rules::route::Route;
use rules::target::Target;
use rules::upstream::{Credential, PassHost, UpstreamScheme};
use rules::variable::Variable;
use serde_json::{Value, json};

mod money;
mod policy;
mod priced;
mod quota;

use super::compile;
use crate::command::{Change, Command, Expect, Stamp};
use crate::document::tests::ARTICLE;
use crate::key::{Key, Kind};
use crate::keyring::Keyring;
use crate::keyring::tests::Counting;
use crate::reference::{Reference, VaultToken, references};
use crate::seal::seal;
use crate::state::State;

fn keyring() -> Keyring {
    Keyring::from_bytes(&[7; 32])
}

/// A state of these resources, their secrets sealed.
fn state(resources: &[(&str, Value)]) -> State {
    let entropy = Counting::default();
    let changes = resources.iter().map(|(path, value)| {
        let (kind, id) = path.split_once('/').unwrap();
        let key = Key::new(Kind::from_name(kind).unwrap(), id);
        let value = seal(&keyring(), &entropy, &key, value.clone(), None).unwrap();
        Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
    });
    let (at, changes) = (Timestamp::from_secs(1), changes.collect());
    let mut state = State::default();
    state.apply(&Command { at, base: None, force: false, changes }).unwrap();
    state
}

/// Compiles on a node whose environment holds `X=env-secret`.
fn compiled(state: &State) -> Snapshot {
    let resolve = |reference: &Reference| match reference {
        Reference::Env { name, json_key: None } if name == "X" => {
            Ok(Secret::new(String::from("env-secret")))
        }
        _ => Err(String::from("is not set")),
    };
    compile(state, &keyring(), &resolve, 0).unwrap()
}

fn article() -> Value {
    serde_json::from_str(ARTICLE).unwrap()
}

fn agent() -> Value {
    json!({"plugins": {"jwt-auth": {"key": "agent-7", "secret": "the-secret-of-agent-7"}}})
}

/// A token as any JWT library makes it.
fn token(claims: &Value, secret: &str) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({"alg": "HS256", "typ": "JWT"})), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

/// The route that takes a request.
fn found(snapshot: &Snapshot, method: &str, target: &str) -> Option<RouteId> {
    let target = Target::parse(&target.parse::<Uri>().unwrap()).unwrap();
    let headers = HeaderMap::new();
    snapshot.routes.find(&facts(method, &target, &headers)).unwrap().map(|route| route.id.clone())
}

fn facts<'a>(method: &'a str, target: &'a Target, headers: &'a HeaderMap) -> Facts<'a> {
    let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    Facts {
        request_id: RequestId(1),
        client,
        server: client,
        scheme: Scheme::Http,
        protocol: Protocol::Http11,
        method,
        host: "127.0.0.1",
        host_header: "127.0.0.1:9080",
        target,
        headers,
        route: None,
        identity: None,
        call: None,
    }
}

#[test]
fn the_article_s_route_does_what_the_article_says() {
    let snapshot = compiled(&state(&[("routes/cloudflare-ai-agent", article())]));
    let id = RouteId::new("cloudflare-ai-agent");
    let target = "/ai-cloudflare/client/v4/user/tokens";
    assert_eq!(found(&snapshot, "GET", target), Some(id.clone()));
    assert_eq!(found(&snapshot, "HEAD", target), None);
    assert_eq!(found(&snapshot, "GET", "/client/v4"), None);
    let route = snapshot.routes.get(&id).unwrap();
    check_article_upstream(route);
    let limit = route.plugins.limit_req.as_ref().unwrap();
    assert_eq!(&*limit.place, "routes/cloudflare-ai-agent");
    assert_eq!(limit.rule.bucket.burst(), Tokens(6));
    assert!(matches!(limit.rule.key, KeySource::Variable(Variable::RemoteAddr)));
    assert_eq!((limit.rule.rejected_code, limit.rule.nodelay), (429, false));
    assert!(limit.rule.allow_degradation);
    let syslog = &route.plugins.syslog.as_ref().unwrap().rule;
    assert!(syslog.record.format.is_none() && syslog.record.extra.is_none());
    assert_eq!((syslog.target.port, syslog.target.transport), (514, SyslogTransport::Tcp));
    assert_eq!(route.plugins.proxy_rewrite.as_ref().unwrap().rule.regex_uri.len(), 1);
    assert!(snapshot.unresolved.is_empty() && route.unresolved.is_none());
}

fn check_article_upstream(route: &Route) {
    let upstream = route.upstream.as_ref().unwrap();
    assert_eq!((upstream.scheme, &upstream.pass_host), (UpstreamScheme::Https, &PassHost::Node));
    assert!(upstream.verify && !upstream.trusted);
    let node = upstream.nodes.first().unwrap();
    assert_eq!((&*node.host, node.port), ("api.cloudflare.com", 443));
    assert_eq!(node.host_header, "api.cloudflare.com");
    assert_eq!(upstream.retries, 0);
}

#[test]
fn an_agent_s_token_proves_it_and_another_secret_s_does_not() {
    let resources = [
        ("routes/cloudflare-ai-agent", article()),
        ("teams/dns", json!({"organisation": "acme"})),
        ("agents/bot", {
            let mut bot = agent();
            bot["team"] = json!("dns");
            bot
        }),
    ];
    let snapshot = compiled(&state(&resources));
    let route = snapshot.routes.get(&RouteId::new("cloudflare-ai-agent")).unwrap();
    let rule = &route.plugins.jwt_auth.as_ref().unwrap().rule;
    let claims = json!({"key": "agent-7", "exp": 2_000, "run": "r1"});
    let (now, good) = (Timestamp::from_secs(1_000), token(&claims, "the-secret-of-agent-7"));
    let proven = snapshot.agents.verify_token(&good, rule, now).unwrap();
    assert_eq!(proven.agent.id.as_str(), "bot");
    assert_eq!(proven.agent.team.as_ref().unwrap().as_str(), "dns");
    assert_eq!(proven.agent.organisation.as_str(), "acme");
    assert_eq!(proven.run.unwrap().as_str(), "r1");
    let forged = token(&claims, "another");
    assert!(snapshot.agents.verify_token(&forged, rule, now).is_err());
    assert!(snapshot.agents.verify_token(&good, rule, Timestamp::from_secs(2_000)).is_err());
}

#[test]
fn a_secret_in_base64_and_further_credentials_prove_an_agent_too() {
    let secret = URL_SAFE_NO_PAD.encode("raw secret!!");
    let plugin = json!({"key": "k64", "secret": secret, "base64_secret": true});
    let resources = [
        ("routes/1", article()),
        ("consumers/bot", agent()),
        ("credentials/bot/one", json!({"plugins": {"jwt-auth": plugin}})),
        ("credentials/bot/two", json!({"plugins": {"key-auth": {"key": "an api key"}}})),
    ];
    let snapshot = compiled(&state(&resources));
    let route = snapshot.routes.get(&RouteId::new("1")).unwrap();
    let rule = &route.plugins.jwt_auth.as_ref().unwrap().rule;
    let token = token(&json!({"key": "k64"}), "raw secret!!");
    let proven = snapshot.agents.verify_token(&token, rule, Timestamp::from_secs(1)).unwrap();
    assert_eq!(proven.credential.unwrap().as_str(), "one");
    let proven = snapshot.agents.verify_key("an api key").unwrap();
    assert_eq!(proven.credential.unwrap().as_str(), "two");
    assert!(snapshot.agents.verify_key("another").is_err());
}

/// The credential of an upstream: what is sent, or the reference that is not resolved.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_credential(credential: Value, expected: &str) {
    let upstream = json!({"nodes": {"a:80": 1}, "credential": credential});
    let route = json!({"uri": "/a", "upstream_id": "1"});
    let snapshot = compiled(&state(&[("upstreams/1", upstream), ("routes/1", route)]));
    let route = snapshot.routes.get(&RouteId::new("1")).unwrap();
    let shown = match &route.upstream.as_ref().unwrap().credential {
        Credential::Ready { header, value } => {
            assert!(value.is_sensitive());
            format!("{header}: {}", value.to_str().unwrap())
        }
        Credential::Unresolved { reference } => format!("unresolved {reference}"),
        Credential::None => String::from("none"),
    };
    assert_eq!(shown, expected);
    assert_eq!(snapshot.unresolved.is_empty(), !expected.starts_with("unresolved"));
    for unresolved in &snapshot.unresolved {
        assert!(unresolved.place.starts_with("/upstreams/1/credential"), "{unresolved:?}");
    }
}

#[test]
fn a_credential_is_resolved_on_the_node_or_never_sent() {
    check_credential(json!("$env://X"), "authorization: Bearer env-secret");
    check_credential(json!("$ENV://X"), "authorization: Bearer env-secret");
    check_credential(json!("literal"), "authorization: Bearer literal");
    check_credential(json!({"secret": "literal"}), "authorization: Bearer literal");
    check_credential(
        json!({"header": "X-Auth-Key", "secret": "$env://X"}),
        "x-auth-key: env-secret",
    );
    check_credential(json!({"prefix": "token=", "secret": "a"}), "authorization: token=a");
    check_credential(json!("$env://Y"), "unresolved $env://Y");
    check_credential(json!({"secret": "$env://Y/a"}), "unresolved $env://Y/a");
    check_credential(json!("$secret://vault/none/a/b"), "unresolved $secret://vault/none/a/b");
}

#[test]
fn a_route_with_an_unresolved_reference_is_known_as_one() {
    let headers = |value: &str| {
        let plugins = json!({"proxy-rewrite": {"headers": {"set": {"X-Token": value}}}});
        json!({"uri": "/a", "plugins": plugins})
    };
    let resources =
        [("routes/1", headers("Bearer $env://Y")), ("routes/2", headers("Bearer $env://X"))];
    let snapshot = compiled(&state(&resources));
    let of = |id: &str| snapshot.routes.get(&RouteId::new(id)).unwrap().unresolved.as_deref();
    assert_eq!((of("1"), of("2")), (Some("$env://Y"), None));
    let [unresolved] = snapshot.unresolved.as_slice() else { panic!("{:?}", snapshot.unresolved) };
    assert_eq!(unresolved.place, "/routes/1/plugins/proxy-rewrite/headers/set/X-Token");
    assert_eq!(unresolved.reference, "$env://Y");
}

#[test]
fn an_agent_without_its_secret_is_proven_by_nothing() {
    let by_key = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
    let mut limited = by_key("k3");
    limited["plugins"]["proxy-rewrite"] = json!({"headers": {"X-A": "$env://Y"}});
    let resources = [
        ("consumers/a", by_key("$env://Y")),
        ("consumers/b", by_key("$env://X")),
        ("consumers/c", limited),
    ];
    let snapshot = compiled(&state(&resources));
    assert_eq!(snapshot.agents.verify_key("env-secret").unwrap().agent.id.as_str(), "b");
    assert!(snapshot.agents.verify_key("$env://Y").is_err());
    assert!(snapshot.agents.verify_key("k3").is_err());
    assert!(!snapshot.agents.by_id.contains_key(&AgentId::new("c")));
    assert_eq!(snapshot.unresolved.len(), 2);
}

#[test]
fn one_api_key_under_two_names_proves_nobody() {
    let by_key = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
    let resources = [("consumers/a", by_key("$env://X")), ("consumers/b", by_key("env-secret"))];
    let snapshot = compiled(&state(&resources));
    assert!(snapshot.agents.verify_key("env-secret").is_err());
    assert_eq!(snapshot.unresolved.len(), 1);
}

#[test]
fn references_into_a_vault_carry_its_settings() {
    let vault =
        json!({"uri": "https://v:8200/", "prefix": "kv/a", "token": "literal", "namespace": "n"});
    let upstream = json!({"nodes": {"a:80": 1}, "credential": "$secret://vault/1/p/q/token"});
    let state = state(&[("secrets/vault/1", vault), ("upstreams/1", upstream)]);
    let found: Vec<Reference> = references(&state).into_iter().collect();
    let [Reference::Vault { uri, prefix, token, namespace, path, key }] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((uri.as_str(), prefix.as_str()), ("https://v:8200", "kv/a"));
    assert_eq!((path.as_str(), key.as_str(), namespace.as_deref()), ("p/q", "token", Some("n")));
    let VaultToken::Sealed { place, text } = token else { panic!("{token:?}") };
    assert_eq!(keyring().open(place, text).unwrap().expose(), "literal");
}

#[test]
fn a_disabled_plugin_and_a_disabled_route_are_not_there() {
    let off = json!({"rate": 1, "burst": 0, "key": "uri", "_meta": {"disable": true}});
    let resources = [
        ("routes/1", json!({"uri": "/a", "plugins": {"limit-req": off}})),
        ("routes/2", json!({"uri": "/b", "plugins": {}, "status": 0})),
    ];
    let snapshot = compiled(&state(&resources));
    assert!(snapshot.routes.get(&RouteId::new("1")).unwrap().plugins.limit_req.is_none());
    assert!(snapshot.routes.get(&RouteId::new("2")).is_none());
}

/// Which of the route's plugins apply to the agent's requests.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_layers(agent: Value, team: Value, expected: &[&str]) {
    let rule = json!({"rate": 1, "burst": 0, "key": "uri"});
    let plugins = json!({
        "limit-req": rule, "request-id": {}, "proxy-rewrite": {"uri": "/"}, "key-auth": {},
        "jwt-auth": {}, "syslog": {"host": "a", "port": 1}, "file-logger": {"path": "a"},
    });
    let resources = [
        ("routes/1", json!({"uri": "/a", "plugins": plugins})),
        ("teams/t", json!({"plugins": team})),
        ("agents/a", json!({"group_id": "t", "plugins": agent})),
    ];
    let snapshot = compiled(&state(&resources));
    let route = &snapshot.routes.get(&RouteId::new("1")).unwrap().plugins;
    let found = snapshot.agents.by_id.get(&AgentId::new("a")).unwrap().plugins.over(route);
    let names = [
        ("limit-req", found.limit_req.map(|plugin| plugin.place.to_string())),
        ("jwt-auth", found.jwt_auth.map(|plugin| plugin.place.to_string())),
        ("key-auth", found.key_auth.map(|plugin| plugin.place.to_string())),
        ("proxy-rewrite", found.proxy_rewrite.map(|plugin| plugin.place.to_string())),
        ("request-id", found.request_id.map(|plugin| plugin.place.to_string())),
        ("syslog", found.syslog.map(|plugin| plugin.place.to_string())),
        ("file-logger", found.file_logger.map(|plugin| plugin.place.to_string())),
    ];
    let on = names.iter().filter_map(|(name, place)| {
        let place = place.as_deref()?;
        Some(if place == "routes/1" { (*name).to_owned() } else { format!("{name} of {place}") })
    });
    assert_eq!(on.collect::<Vec<String>>(), expected);
}

#[test]
fn what_an_agent_or_its_team_switches_off_is_off_for_the_agent() {
    let off = json!({"_meta": {"disable": true}});
    let (jwt, key) = ("jwt-auth", "key-auth");
    let all = ["limit-req", jwt, key, "proxy-rewrite", "request-id", "syslog", "file-logger"];
    check_layers(json!({}), json!({}), &all);
    let most = [jwt, key, "proxy-rewrite", "request-id", "syslog", "file-logger"];
    check_layers(json!({"limit-req": off}), json!({}), &most);
    check_layers(json!({}), json!({"limit-req": off}), &most);
    let own = json!({"limit-req": {"rate": 2, "burst": 0, "key": "uri"}});
    check_layers(json!({"limit-req": off}), own.clone(), &most);
    let kept = ["limit-req of consumers/a", jwt, key, "proxy-rewrite", "request-id", "syslog"];
    check_layers(own, json!({"limit-req": off, "file-logger": off}), &kept);
}

#[test]
fn who_must_prove_what_is_the_route_s_word_alone() {
    let off = json!({"_meta": {"disable": true}});
    let everything = json!({
        "limit-req": off, "jwt-auth": off, "key-auth": off, "proxy-rewrite": off, "request-id": off,
        "syslog": off, "file-logger": off,
    });
    check_layers(everything, json!({}), &["jwt-auth", "key-auth"]);
}

#[test]
fn a_proof_that_is_switched_off_proves_nothing_and_misses_no_secret() {
    let off = |key: &str| json!({"key": key, "_meta": {"disable": true}});
    let resources = [
        ("consumers/a", json!({"plugins": {"key-auth": off("k1")}})),
        ("consumers/b", json!({"plugins": {"key-auth": off("$env://Y")}})),
    ];
    let snapshot = compiled(&state(&resources));
    assert!(snapshot.agents.verify_key("k1").is_err());
    assert_eq!(snapshot.agents.by_id.len(), 2);
    assert_eq!(snapshot.unresolved, []);
}

/// Whether a `file-logger` with this `match` writes a request of this target.
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check_match(lists: Value, target: &str, expected: bool) {
    let plugins = json!({"file-logger": {"path": "a", "match": lists}});
    let snapshot = compiled(&state(&[("routes/1", json!({"uri": "/", "plugins": plugins}))]));
    let plugins = &snapshot.routes.get(&RouteId::new("1")).unwrap().plugins;
    let only = plugins.file_logger.as_ref().unwrap().rule.only.as_ref().unwrap();
    let target = Target::parse(&target.parse::<Uri>().unwrap()).unwrap();
    assert_eq!(only.holds(&facts("GET", &target, &HeaderMap::new())), expected, "{lists}");
}

#[test]
fn a_logger_writes_what_one_list_of_its_match_holds_for() {
    let is = |name: &str, value: &str| json!([name, "==", value]);
    let lists = json!([[is("arg_a", "1"), is("arg_b", "1")], [is("arg_c", "1")]]);
    check_match(lists.clone(), "/?a=1&b=1", true);
    check_match(lists.clone(), "/?c=1", true);
    check_match(lists.clone(), "/?a=1", false);
    check_match(lists, "/", false);
    check_match(json!([is("arg_a", "1")]), "/?a=1", true);
    check_match(json!([]), "/", false);
    check_match(json!([[]]), "/", true);
}

#[test]
fn a_limit_without_a_burst_holds_what_one_interval_refills() {
    let burst = |limit: Value| {
        let snapshot = compiled(&state(&[("limits/1", limit)]));
        let route = RouteId::new("any");
        let target = Target::parse(&Uri::from_static("/")).unwrap();
        let headers = HeaderMap::new();
        let facts = facts("GET", &target, &headers);
        snapshot.limits.binding(&route, &facts).next().unwrap().bucket.burst()
    };
    assert_eq!(burst(json!({"per": "address", "rate": 1200, "interval": "5m"})), Tokens(1200));
    assert_eq!(burst(json!({"per": "address", "rate": 1200, "interval": 300})), Tokens(1200));
    assert_eq!(burst(json!({"per": "address", "rate": "0.1"})), Tokens(1));
    assert_eq!(burst(json!({"per": "address", "rate": 5, "burst": 2})), Tokens(2));
}

#[test]
fn an_interval_in_seconds_is_the_same_as_with_its_unit() {
    let bucket = |interval: Value| {
        let limit = json!({"per": "address", "rate": 7, "interval": interval});
        let snapshot = compiled(&state(&[("limits/1", limit)]));
        let route = RouteId::new("any");
        let target = Target::parse(&Uri::from_static("/")).unwrap();
        let headers = HeaderMap::new();
        let facts = facts("GET", &target, &headers);
        snapshot.limits.binding(&route, &facts).next().unwrap().bucket
    };
    assert_eq!(bucket(json!(300)), bucket(json!("5m")));
    assert_eq!(bucket(json!(0.25)), bucket(json!("250ms")));
}

/// Whether a change moves the version of the agents.
fn check_version(before: &State, change: Change, expected: bool) {
    let of = |state: &State| {
        compile(state, &keyring(), &|_| Err(String::new()), 0).unwrap().agents.version
    };
    let mut after = before.clone();
    let changes = vec![change];
    after
        .apply(&Command { at: Timestamp::from_secs(2), base: None, force: true, changes })
        .unwrap();
    assert_eq!(of(before) != of(&after), expected);
    // Read from the disk, it may be another one, but never an older one's.
    let rows = Kind::ALL.iter().flat_map(|kind| after.list(*kind));
    let rows = rows.map(|(key, stored)| (key.clone(), stored.clone()));
    let restored = State::restore(after.revision(), rows);
    assert_ne!(of(before), of(&restored));
}

#[test]
fn the_version_of_the_agents_moves_with_whatever_an_identity_is_made_of() {
    let vault = json!({"uri": "https://v:8200", "prefix": "kv", "token": "$env://T"});
    let before = state(&[
        ("secrets/vault/1", vault),
        ("routes/1", json!({"uri": "/a", "plugins": {}})),
        ("upstreams/1", json!({"nodes": {"a:80": 1}})),
        ("limits/1", json!({"per": "agent", "rate": 1})),
        ("teams/t", json!({})),
        ("agents/a", agent()),
        ("credentials/a/one", json!({"plugins": {"key-auth": {"key": "$secret://vault/1/p/k"}}})),
    ]);
    let put = |path: &str, value: Value| {
        let (kind, id) = path.split_once('/').unwrap();
        let key = Key::new(Kind::from_name(kind).unwrap(), id);
        Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
    };
    let delete = |path: &str| {
        let (kind, id) = path.split_once('/').unwrap();
        let key = Key::new(Kind::from_name(kind).unwrap(), id);
        Change::Delete { key, expect: Expect::Any }
    };
    let moved = json!({"uri": "https://w:8200", "prefix": "kv", "token": "$env://T"});
    check_version(&before, put("secrets/vault/1", moved), true);
    check_version(&before, put("teams/t", json!({"organisation": "acme"})), true);
    check_version(&before, put("agents/b", json!({})), true);
    let by_key = json!({"plugins": {"key-auth": {"key": "k"}}});
    check_version(&before, put("credentials/a/one", by_key), true);
    for path in ["secrets/vault/1", "teams/t", "agents/a", "credentials/a/one"] {
        check_version(&before, delete(path), true);
    }
    check_version(&before, put("routes/1", json!({"uri": "/b", "plugins": {}})), false);
    check_version(&before, put("upstreams/1", json!({"nodes": {"b:80": 1}})), false);
    check_version(&before, delete("limits/1"), false);
}

#[test]
fn the_version_of_the_agents_moves_when_secrets_were_resolved_anew() {
    let state = state(&[("agents/a", agent())]);
    let of = |resolved| {
        compile(&state, &keyring(), &|_| Err(String::new()), resolved).unwrap().agents.version
    };
    assert_eq!(of(3), of(3));
    assert_ne!(of(3), of(4));
}
