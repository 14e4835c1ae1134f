//! The laws of choosing a route, and a plain reference that the index must agree with.

use std::cmp::Reverse;
use std::sync::Arc;

use model::Revision;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, proptest};
use proptest::prop_oneof;
use serde_json::json;

use super::{Ambiguous, Facts, Route, RouteId, RouteIndex};
use crate::expression::Expression;
use crate::fact::sample::Sample;
use crate::plugin::Plugins;
use crate::route::{Methods, Network};

/// The id of the route that takes a `GET` of `http://{host}{path}`, out of routes written as
/// `id host uri` with `-` for no host.
fn check(routes: &[&str], request: &str, expected: Result<Option<&str>, Ambiguous>) {
    let routes = routes.iter().map(|text| {
        let [id, host, uri] = text.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
        Route { hosts: hosts(host), ..route(id, uri) }
    });
    check_routes(routes.collect(), request, expected);
}

fn check_routes(routes: Vec<Route>, request: &str, expected: Result<Option<&str>, Ambiguous>) {
    let index = indexed(routes.into_iter().map(Arc::new));
    let sample = sample(request);
    let found = index.find(&sample.facts());
    assert_eq!(found.map(|route| route.map(|route| route.id.as_str())), expected, "{request}");
}

/// A request written as `host/path`; an upper-case host is what the client sent.
fn sample(request: &str) -> Sample {
    let (host_header, path) = request.split_at(request.find('/').unwrap());
    let host = host_header.rsplit_once(':').map_or(host_header, |(host, _)| host);
    let mut sample = Sample::new(path);
    sample.host = host.to_lowercase();
    sample.host_header = host_header.to_owned();
    sample
}

fn hosts(host: &str) -> Vec<Arc<str>> {
    if host == "-" { Vec::new() } else { vec![Arc::from(host)] }
}

/// Routes of which each is older than the next.
fn indexed(routes: impl IntoIterator<Item = Arc<Route>>) -> RouteIndex {
    (0..).map(Revision::new).zip(routes).collect()
}

pub(in crate::route) fn route(id: &str, uri: &str) -> Route {
    Route {
        id: RouteId::new(id),
        name: Arc::from(id),
        hosts: Vec::new(),
        uris: vec![Arc::from(uri)],
        methods: Methods::ALL,
        priority: 0,
        clients: Vec::new(),
        vars: None,
        upstream: None,
        timeouts: None,
        websocket: false,
        repeats: crate::repeat::Care::default(),
        plugins: Plugins::default(),
        unresolved: None,
    }
}

#[test]
fn an_exact_path_wins_over_a_prefix() {
    let routes = ["p - /a/*", "e - /a/b"];
    check(&routes, "h/a/b", Ok(Some("e")));
    check(&routes, "h/a/c", Ok(Some("p")));
    check(&routes, "h/a/", Ok(Some("p")));
    check(&routes, "h/a", Ok(None));
}

#[test]
fn the_longest_prefix_wins() {
    let routes = ["all - /*", "a - /a/*", "ab - /a/b*", "other - /a/ba/c*"];
    check(&routes, "h/a/bb", Ok(Some("ab")));
    check(&routes, "h/a/bz/c", Ok(Some("ab")));
    check(&routes, "h/a/ba/cd", Ok(Some("other")));
    check(&routes, "h/a/c", Ok(Some("a")));
    check(&routes, "h/z", Ok(Some("all")));
}

#[test]
fn a_prefix_whose_conditions_fail_leaves_the_request_to_a_shorter_one() {
    let post = Route { methods: Methods::from_names(["POST"]).unwrap(), ..route("post", "/a/b") };
    let far =
        Route { clients: vec![Network::parse("10.0.0.0/8").unwrap()], ..route("far", "/a/*") };
    let vars = Expression::compile(&json!([["arg_x", "==", "1"]])).unwrap();
    let conditional = Route { vars: Some(vars), ..route("conditional", "/*") };
    let last = Route { priority: -1, ..route("last", "/*") };
    let routes = || {
        let copy = |from: &Route| Route {
            methods: from.methods,
            clients: from.clients.clone(),
            vars: from.vars.clone(),
            priority: from.priority,
            ..route(from.id.as_str(), &from.uris[0])
        };
        [&post, &far, &conditional, &last].map(copy).into()
    };
    check_routes(routes(), "h/a/b?x=1", Ok(Some("conditional")));
    check_routes(routes(), "h/a/b", Ok(Some("last")));
}

#[test]
fn on_one_path_priority_wins_then_the_longer_pattern_then_the_first() {
    let high = || Route { priority: 1, ..route("high", "/a/*") };
    check_routes(vec![route("low", "/a/*"), high()], "h/a/b", Ok(Some("high")));
    check_routes(vec![high(), route("longer", "/a/*/c")], "h/a/b/c", Ok(Some("high")));
    check_routes(
        vec![route("one", "/a/*"), route("longer", "/a/*/c")],
        "h/a/b/c",
        Ok(Some("longer")),
    );
    check_routes(vec![route("one", "/a/*"), route("two", "/a/*")], "h/a/b", Ok(Some("one")));
    check_routes(vec![high(), route("exact", "/a/b")], "h/a/b", Ok(Some("exact")));
}

#[test]
fn a_star_in_the_middle_takes_any_run() {
    let routes = ["m - /zones/*/dns/*/x", "o - /o*o/*"];
    check(&routes, "h/zones/1/dns/2/x", Ok(Some("m")));
    check(&routes, "h/zones/1/2/dns/dns/3/4/x", Ok(Some("m")));
    check(&routes, "h/zones/1/dns/x", Ok(None));
    check(&routes, "h/zones/1/dns/2/x/y", Ok(None));
    check(&routes, "h/oo/", Ok(Some("o")));
    check(&routes, "h/o/o", Ok(None));
}

#[test]
fn the_most_specific_host_wins_and_the_hostless_come_last() {
    let routes = [
        "none - /*",
        "any * /*",
        "com *.com /*",
        "ex *.ex.com /*",
        "exact a.ex.com /*",
        "port a.ex.com:80 /*",
    ];
    check(&routes, "A.ex.com:80/", Ok(Some("port")));
    check(&routes, "a.ex.com:81/", Ok(Some("exact")));
    check(&routes, "a.ex.com/", Ok(Some("exact")));
    check(&routes, "b.a.ex.com/", Ok(Some("ex")));
    check(&routes, "ex.com/", Ok(Some("com")));
    check(&routes, "com/", Ok(Some("any")));
    check(&routes[..1], "com/", Ok(Some("none")));
}

#[test]
fn a_host_without_a_matching_route_leaves_the_request_to_a_less_specific_one() {
    let routes = ["none - /n", "ex *.ex.com /b", "exact a.ex.com /a"];
    check(&routes, "a.ex.com/a", Ok(Some("exact")));
    check(&routes, "a.ex.com/b", Ok(Some("ex")));
    check(&routes, "a.ex.com/n", Ok(Some("none")));
    check(&routes, "a.ex.com/x", Ok(None));
}

#[test]
fn an_address_in_brackets_is_a_host_without_a_port() {
    let routes = ["six [::1] /*", "port [::1]:80 /*"];
    check(&routes, "[::1]:81/", Ok(Some("six")));
    check(&routes, "[::1]:80/", Ok(Some("port")));
}

#[test]
fn a_path_is_matched_in_normal_form() {
    let routes = ["p - /client/v4/*", "e - /a b"];
    check(&routes, "h/%63lient/v4/zones", Ok(Some("p")));
    check(&routes, "h/a%20b", Ok(Some("e")));
}

#[test]
fn an_encoded_slash_must_lie_in_what_a_trailing_star_takes() {
    let routes = ["kv - /kv/*", "mid - /mid/*/x", "both - /both/*/x/*", "e - /e%2Ff"];
    check(&routes, "h/kv/a%2Fb", Ok(Some("kv")));
    check(&routes, "h/kv/%5c", Ok(Some("kv")));
    check(&routes, "h/kv%2Fa", Err(Ambiguous));
    check(&routes, "h/mid/a%2Fb/x", Err(Ambiguous));
    check(&routes, "h/both/a/x/b%2Fc", Ok(Some("both")));
    check(&routes, "h/both/a%2fb/x/c", Err(Ambiguous));
    check(&routes, "h/e%2Ff", Err(Ambiguous));
    check(&routes, "h/none%2F", Ok(None));
}

#[test]
fn both_readings_of_an_encoded_slash_must_choose_one_route() {
    let routes = ["all - /a/*", "secret - /a/secret/*", "exact - /a/x/y"];
    check(&routes, "h/a/public%2Fb", Ok(Some("all")));
    check(&routes, "h/a/secret%2Fb", Err(Ambiguous));
    check(&routes, "h/a/x%5Cy", Err(Ambiguous));
}

#[test]
fn conditions_on_the_path_hold_in_both_readings() {
    let vars = Expression::compile(&json!([["uri", "!", "~~", "^/a/secret/"]])).unwrap();
    let routes = || vec![Route { vars: Some(vars.clone()), ..route("open", "/a/*") }];
    check_routes(routes(), "h/a/b%2Fc", Ok(Some("open")));
    check_routes(routes(), "h/a/secret%2Fc", Err(Ambiguous));
}

#[test]
fn a_route_is_found_by_its_id() {
    let index = indexed(["a", "b"].map(|id| Arc::new(route(id, "/"))));
    assert_eq!(index.get(&RouteId::new("b")).unwrap().id.as_str(), "b");
    assert!(index.get(&RouteId::new("c")).is_none());
    assert_eq!((index.len(), index.iter().count(), index.is_empty()), (2, 2, false));
    assert!(RouteIndex::default().is_empty());
}

/// What one reading of a path chooses, by asking every route, and the fewest bytes that the rest
/// of its pattern needs before a trailing `*`.
fn choose<'r>(routes: &'r [Arc<Route>], facts: &Facts<'_>) -> Option<(&'r Arc<Route>, usize)> {
    let path = facts.target.normal();
    let mut found = Vec::new();
    for (number, route) in routes.iter().enumerate().filter(|(_, route)| route.accepts(facts)) {
        let hosts = if route.hosts.is_empty() {
            vec!["-"]
        } else {
            route.hosts.iter().map(|host| &**host).collect()
        };
        for host in hosts {
            for uri in route.uris.iter().filter(|uri| glob(uri.as_bytes(), path.as_bytes())) {
                let Some(rank) = host_rank(host, facts) else { continue };
                let (exact, prefix) = match uri.split_once('*') {
                    None => (true, uri.len()),
                    Some((prefix, _)) => (false, prefix.len()),
                };
                let rank = (rank, !exact, Reverse((prefix, route.priority, uri.len())), number);
                found.push((rank, route, taken_from(uri, path)));
            }
        }
    }
    let best = found.into_iter().min_by(|(one, ..), (other, ..)| one.cmp(other));
    best.map(|(_, route, taken_from)| (route, taken_from))
}

fn host_rank(pattern: &str, facts: &Facts<'_>) -> Option<(u8, Reverse<usize>)> {
    let sent = facts.host_header.to_lowercase();
    let (host, rank) = if pattern.contains(':') { (&*sent, 0) } else { (facts.host, 1) };
    match pattern {
        "*" => Some((4, Reverse(0))),
        "-" => Some((5, Reverse(0))),
        _ if pattern == host => Some((rank, Reverse(0))),
        _ => {
            let tail = pattern.strip_prefix('*')?;
            let matches = host.ends_with(tail) && host != tail;
            matches.then_some((rank + 2, Reverse(tail.len())))
        }
    }
}

fn glob(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', rest @ ..] => (0..=path.len()).any(|taken| glob(rest, &path[taken..])),
        [first, rest @ ..] => path.first() == Some(first) && glob(rest, &path[1..]),
    }
}

fn taken_from(uri: &str, path: &str) -> usize {
    let Some(front) = uri.strip_suffix('*') else { return path.len() };
    let ends = |end: &usize| glob(front.as_bytes(), &path.as_bytes()[..*end]);
    (0..=path.len()).find(ends).unwrap()
}

fn reference(routes: &[Arc<Route>], facts: &Facts<'_>) -> Result<Option<RouteId>, Ambiguous> {
    let id = |found: Option<(&Arc<Route>, usize)>| found.map(|(route, _)| route.id.clone());
    let found = choose(routes, facts);
    let Some(target) = facts.target.with_slashes_decoded() else { return Ok(id(found)) };
    let reread = choose(routes, &Facts { target: &target, ..*facts });
    let slash = facts.target.normal().find(['%']).unwrap();
    if id(found) != id(reread) || found.is_some_and(|(_, from)| slash < from) {
        return Err(Ambiguous);
    }
    Ok(id(found))
}

fn some_routes() -> impl Strategy<Value = Vec<Arc<Route>>> {
    let host = prop::sample::select(vec![
        "-",
        "*",
        "com",
        "*.com",
        "x.com",
        "*.x.com",
        "a.x.com",
        "x.com:80",
        "*.x.com:80",
        "*m",
    ]);
    let piece = prop::sample::select(vec!["a", "b", "ab", "/", "/a", "/b", "*", "%2F"]);
    let uri = prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("/{}", pieces.concat()));
    let methods = prop_oneof![
        3 => Just(Methods::ALL),
        1 => Just(Methods::from_names(["POST"]).unwrap()),
    ];
    let one = (
        prop::collection::vec(host, 0..3),
        prop::collection::vec(uri, 1..3),
        methods,
        -1_i64..=1,
        any::<bool>(),
    );
    prop::collection::vec(one, 0..24).prop_map(|routes| {
        let numbered = routes.into_iter().enumerate();
        let make = |(number, (hosts, uris, methods, priority, far)): (
            usize,
            (Vec<&str>, Vec<String>, _, _, bool),
        )| {
            Arc::new(Route {
                hosts: hosts.into_iter().filter(|host| *host != "-").map(Arc::from).collect(),
                uris: uris.into_iter().map(Arc::from).collect(),
                methods,
                priority,
                clients: if far && priority == 1 {
                    vec![Network::parse("10.0.0.0/8").unwrap()]
                } else {
                    Vec::new()
                },
                ..route(&number.to_string(), "/")
            })
        };
        numbered.map(make).collect()
    })
}

fn some_request() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "com",
        "x.com",
        "a.x.com",
        "b.a.x.com",
        "x.com:80",
        "A.X.com:80",
        "b.x.com:81",
        "m",
    ]);
    let piece = prop::sample::select(vec!["a", "b", "ab", "/a", "/b", "/ab", "%2F", "%61", "%5c"]);
    let path = prop::collection::vec(piece, 0..6);
    (host, path)
        .prop_map(|(host, path)| format!("{host}/{}", path.concat().trim_start_matches('/')))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_asking_every_route(
        routes in some_routes(),
        requests in prop::collection::vec(some_request(), 1..16),
    ) {
        let index = indexed(routes.clone());
        for request in requests {
            let sample = sample(&request);
            let found = index.find(&sample.facts()).map(|route| route.map(|route| route.id.clone()));
            prop_assert_eq!(found, reference(&routes, &sample.facts()), "{}", request);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_index_that_was_changed_agrees_too_and_a_clone_keeps_what_it_had(
        first in some_routes(),
        second in some_routes(),
        order in any::<prop::sample::Index>(),
        removed in prop::collection::vec(0..24_usize, 0..24),
        requests in prop::collection::vec(some_request(), 1..8),
    ) {
        // Those of the second list take the place of those of the first that have their numbers.
        let mut index = RouteIndex::default();
        put(&mut index, &first, order);
        let before = index.clone();
        put(&mut index, &second, order);
        let mut last = second.clone();
        last.extend(first.iter().skip(second.len()).map(Arc::clone));
        for number in removed {
            index.remove(&RouteId::new(&number.to_string()));
            last.retain(|route| route.id.as_str() != number.to_string());
        }
        prop_assert_eq!(index.len(), last.len());
        for request in requests {
            let sample = sample(&request);
            let facts = sample.facts();
            for (index, routes) in [(&before, &first), (&index, &last)] {
                let found = index.find(&facts).map(|route| route.map(|route| route.id.clone()));
                prop_assert_eq!(found, reference(routes, &facts), "{}", &request);
            }
        }
        last.iter().for_each(|route| index.remove(&route.id));
        prop_assert_eq!(format!("{index:?}"), format!("{:?}", RouteIndex::default()));
    }
}

/// Puts routes, of which each is older than the next, beginning anywhere among them.
fn put(index: &mut RouteIndex, routes: &[Arc<Route>], order: prop::sample::Index) {
    let first = if routes.is_empty() { 0 } else { order.index(routes.len()) };
    let numbered = (0..).map(Revision::new).zip(routes);
    let (later, sooner) = (numbered.clone().take(first), numbered.skip(first));
    sooner.chain(later).for_each(|(made, route)| index.insert(made, Arc::clone(route)));
}
