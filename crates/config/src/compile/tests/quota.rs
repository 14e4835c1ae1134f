//! From quotas in a document to whom they bind, and as what.

use http::HeaderName;
use model::{Identity, OrganisationId, TeamId};
use rules::quota::{Class, Quota};

use super::{
    AgentId, Facts, HeaderMap, Protocol, RequestId, Route, RouteId, Scheme, Snapshot, Target,
    Value, compiled, json, state,
};

/// A node with this quota, routes to the hosts `a`, `b` and `c`, and two agents, one in a team.
fn bench(quota: Value) -> Snapshot {
    let upstream = |host: &str| json!({"nodes": {format!("{host}:80"): 1}});
    let route = |id: &str| json!({"uri": format!("/{id}"), "upstream_id": id});
    compiled(&state(&[
        ("teams/dns", json!({})),
        ("agents/alice", json!({"team": "dns"})),
        ("agents/bob", json!({})),
        ("upstreams/a", upstream("a")),
        ("upstreams/b", upstream("B.example")),
        ("routes/a", route("a")),
        ("routes/b", route("b")),
        ("routes/c", json!({"uri": "/c", "upstream": upstream("c")})),
        ("upstream_quotas/2", quota),
        ("upstream_quotas/3", json!({"match": {"hosts": ["a", "c"]}, "quota": 3, "window": 60})),
    ]))
}

fn route<'s>(snapshot: &'s Snapshot, id: &str) -> &'s Route {
    snapshot.routes.get(&RouteId::new(id)).unwrap()
}

fn of<'s>(snapshot: &'s Snapshot, id: &str) -> Option<&'s Quota> {
    let upstream = route(snapshot, id).upstream.as_ref().unwrap();
    snapshot.quotas.of(upstream).map(|quota| &**quota)
}

#[test]
fn a_quota_binds_by_upstream_before_it_binds_by_host() {
    let snapshot = bench(
        json!({"match": {"upstreams": ["a"], "hosts": ["b.EXAMPLE"]}, "quota": 2, "window": "1m"}),
    );
    let bound = ["a", "b", "c"].map(|id| of(&snapshot, id).map(|quota| quota.rule.quota));
    assert_eq!(bound, [Some(2), Some(2), Some(3)]);
    let none =
        compiled(&state(&[("routes/x", json!({"uri": "/x", "upstream": {"nodes": {"x:1": 1}}}))]));
    assert!(none.quotas.is_empty() && of(&none, "x").is_none());
}

/// The class, the weight and the flow of a call to `/a`, under these members.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the cases read better")]
fn check(members: Value, agent: &str, header: Option<&'static str>, expected: (Class, u64)) {
    let mut quota = json!({"match": {"upstreams": ["a"]}, "quota": 2, "window": "1m"});
    for (name, member) in members.as_object().unwrap() {
        quota[name] = member.clone();
    }
    let snapshot = bench(quota);
    let header = header.map(|value| (HeaderName::from_static("x-class"), value.parse().unwrap()));
    let headers: HeaderMap = header.into_iter().collect();
    let identity = Identity {
        organisation: OrganisationId::new("o"),
        team: (agent == "alice").then(|| TeamId::new("dns")),
        agent: AgentId::new(agent),
        run: None,
        credential: None,
    };
    let facts = Facts {
        request_id: RequestId(1),
        client: "192.0.2.1:1".parse().unwrap(),
        server: "192.0.2.2:1".parse().unwrap(),
        scheme: Scheme::Http,
        protocol: Protocol::Http11,
        method: "GET",
        host: "h",
        host_header: "h",
        target: &Target::parse(&"/a".parse().unwrap()).unwrap(),
        headers: &headers,
        route: Some(route(&snapshot, "a")),
        identity: Some(&identity),
        call: None,
    };
    let quota = of(&snapshot, "a").unwrap();
    let join = quota.join(&facts);
    assert_eq!((quota.class(&facts), join.weight), expected);
    assert_eq!((join.flow.class, &*join.flow.agent), (expected.0, agent));
}

#[test]
fn a_class_is_what_the_first_selector_says_and_a_client_only_lowers_it() {
    let plain = json!({});
    check(plain.clone(), "alice", Some("interactive"), (Class::Automation, 4));
    let classes = json!({"classes": {
        "interactive": {"teams": ["dns"]}, "bulk": {"routes": ["a"]}, "header": "x-class",
    }});
    check(classes.clone(), "alice", None, (Class::Interactive, 16));
    check(classes.clone(), "alice", Some("automation"), (Class::Automation, 4));
    check(classes.clone(), "alice", Some("urgent"), (Class::Interactive, 16));
    check(classes.clone(), "bob", None, (Class::Bulk, 1));
    check(classes, "bob", Some("interactive"), (Class::Bulk, 1));
    let default = json!({"classes": {"default": "interactive"}});
    check(default, "bob", None, (Class::Interactive, 16));
}

#[test]
fn an_agent_s_weight_comes_before_its_team_s() {
    let weights = json!({"weights": {"agents": {"bob": 3}, "teams": {"dns": 5}}});
    check(weights.clone(), "alice", None, (Class::Automation, 20));
    check(weights, "bob", None, (Class::Automation, 12));
    let both = json!({"weights": {"agents": {"alice": 2}, "teams": {"dns": 5}}});
    check(both, "alice", None, (Class::Automation, 8));
}

#[test]
fn parts_of_a_quota_are_counted_of_it() {
    let rule = |members: Value| {
        let mut quota = json!({"match": {"upstreams": ["a"]}, "quota": 1200, "window": "5m"});
        for (name, member) in members.as_object().unwrap() {
            quota[name] = member.clone();
        }
        let rule = of(&bench(quota), "a").unwrap().rule;
        (rule.burst, rule.reserve, rule.block)
    };
    assert_eq!(rule(json!({})), (120, 0, 300_000));
    assert_eq!(rule(json!({"reserve": "10%", "block": "1m"})), (120, 120, 60_000));
    assert_eq!(rule(json!({"reserve": 7, "burst": 60})), (60, 7, 300_000));
}

#[test]
fn an_agent_has_its_room_in_the_queue_and_so_has_a_class() {
    let room = |queue: Value| {
        let quota = json!({
            "match": {"upstreams": ["a"]}, "quota": 2, "window": "1m", "queue": queue,
        });
        let room = of(&bench(quota), "a").unwrap().room;
        (room.agent, room.class)
    };
    assert_eq!(room(json!({})), (100, 4_096));
    assert_eq!(room(json!({"max": 7, "class_max": 70})), (7, 70));
}
