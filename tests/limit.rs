//! Limits: whom each counts, that one take is all or nothing, and what clients are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::harness::{Gate, Message, Origin, Wire, get, wait_for};

/// A gate with two routes, and four agents: alice and bob in one team, carol in another, dave in
/// none.
struct Bench {
    gate: Gate,
    origin: Origin,
}

impl Bench {
    /// With these limits, by name.
    fn start(limits: &Value) -> Self {
        let (gate, origin) = (Gate::start(), Origin::start());
        let upstream = origin.upstream();
        for name in ["one", "two"] {
            let route = json!({
                "uri": format!("/{name}/*"), "upstream": upstream, "plugins": { "key-auth": {} },
            });
            gate.put(&format!("routes/{name}"), &route);
        }
        gate.put("teams/red", &json!({ "plugins": {} }));
        gate.put("teams/blue", &json!({ "plugins": {} }));
        for (name, team) in
            [("alice", Some("red")), ("bob", Some("red")), ("carol", Some("blue")), ("dave", None)]
        {
            let key = json!({ "key-auth": { "key": format!("key-of-{name}") } });
            let mut agent = json!({ "username": name, "plugins": key });
            if let (Some(team), Some(members)) = (team, agent.as_object_mut()) {
                members.insert("group_id".to_owned(), json!(team));
            }
            gate.put(&format!("consumers/{name}"), &agent);
        }
        for (name, limit) in limits.as_object().expect("limits by name") {
            gate.put(&format!("limits/{name}"), limit);
        }
        Self { gate, origin }
    }

    fn call(&self, agent: &str, path: &str) -> Message {
        get(&self.gate.http, path, &[&format!("apikey: key-of-{agent}")])
    }

    /// Calls until one is refused: how many passed.
    fn exhaust(&self, agent: &str, path: &str) -> usize {
        let passed = |_: &usize| match self.call(agent, path).status() {
            200 => true,
            429 => false,
            other => panic!("{other}"),
        };
        (0..100).take_while(passed).count()
    }
}

/// A limit that does not refill while a test runs.
fn slow(per: &str, burst: u32) -> Value {
    json!({ "per": per, "rate": 1, "interval": "1h", "burst": burst })
}

/// Who passes how often, call by call, until each is refused.
fn check(limits: &Value, expected: &[(&str, &str, usize)]) {
    let bench = Bench::start(limits);
    for (agent, path, passes) in expected {
        assert_eq!(bench.exhaust(agent, path), *passes, "{agent} {path} under {limits}");
    }
}

#[test]
fn each_subject_has_its_own_count() {
    check(
        &json!({ "l": slow("agent", 3) }),
        &[("alice", "/one/", 3), ("alice", "/two/", 0), ("bob", "/two/", 3), ("dave", "/one/", 3)],
    );
    check(
        &json!({ "l": slow("route", 3) }),
        &[("alice", "/one/", 3), ("bob", "/one/", 0), ("bob", "/two/", 3)],
    );
    check(
        &json!({ "l": slow("organisation", 3) }),
        &[("alice", "/one/", 3), ("carol", "/two/", 0), ("dave", "/two/", 0)],
    );
    // Whoever is in no team is not counted by teams.
    let limits = json!({ "l": slow("team", 3), "all": slow("route", 8) });
    let expected =
        [("alice", "/one/", 3), ("bob", "/two/", 0), ("carol", "/two/", 3), ("dave", "/two/", 5)];
    check(&limits, &expected);
    check(&json!({ "l": slow("address", 3) }), &[("alice", "/one/", 3), ("bob", "/two/", 0)]);
}

#[test]
fn a_limit_counts_only_what_it_names() {
    let mut limit = slow("organisation", 2);
    limit["match"] = json!({ "routes": ["two"], "agents": ["alice", "bob"], "methods": ["GET"] });
    check(
        &json!({ "l": limit, "all": slow("organisation", 9) }),
        &[("alice", "/two/", 2), ("bob", "/two/", 0), ("carol", "/two/", 7)],
    );
}

#[test]
fn each_run_of_an_agent_has_its_own_count() {
    let bench = Bench::start(&json!({ "l": slow("run", 2) }));
    let statuses = |run: &str| {
        [(); 3].map(|()| {
            let fields = ["apikey: key-of-alice", run];
            get(&bench.gate.http, "/one/", &fields).status()
        })
    };
    assert_eq!(statuses("x-tollgate-run: night-1"), [200, 200, 429]);
    assert_eq!(statuses("x-tollgate-run: night-2"), [200, 200, 429]);
    assert_eq!(statuses("x-none: x"), [200, 200, 429]);
}

/// What `RateLimit` says of a limit: tokens left.
fn left(answer: &Message, limit: &str) -> Option<u64> {
    let text = answer.field("ratelimit")?;
    let item = text.split(", ").find(|item| item.starts_with(&format!("\"{limit}\";")))?;
    item.split(';').find_map(|part| part.strip_prefix("r=")?.parse().ok())
}

#[test]
fn when_one_limit_refuses_no_other_is_charged() {
    let limits = json!({ "wide": slow("agent", 6), "narrow": slow("route", 2), "all": slow("organisation", 9) });
    let bench = Bench::start(&limits);
    assert_eq!(bench.exhaust("alice", "/one/"), 2);
    for _ in 0..5 {
        let refused = bench.call("alice", "/one/");
        assert_eq!(refused.status(), 429);
        let body: Value = refused.json();
        assert_eq!([&body["code"], &body["limit"]], ["limit.exceeded", "narrow"]);
    }
    let other = bench.call("alice", "/two/");
    assert_eq!(
        [left(&other, "wide"), left(&other, "narrow"), left(&other, "all")],
        [Some(3), Some(1), Some(6)]
    );
}

#[test]
fn of_many_at_once_exactly_the_burst_passes() {
    let bench = &Bench::start(&json!({ "a": slow("agent", 10), "b": slow("organisation", 15) }));
    let passed = ["alice", "bob"].map(|_| AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for (agent, count) in ["alice", "bob"].into_iter().zip(&passed) {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut client = Wire::connect(&bench.gate.http);
                    let head = format!("GET /one/ HTTP/1.1\r\nhost: a\r\napikey: key-of-{agent}");
                    for _ in 0..10 {
                        match client.ask(&head).status() {
                            200 => _ = count.fetch_add(1, Ordering::Relaxed),
                            status => assert_eq!(status, 429),
                        }
                    }
                });
            }
        }
    });
    let [alice, bob] = passed.map(AtomicUsize::into_inner);
    assert_eq!(alice + bob, 15, "{alice} and {bob}");
    assert!(alice <= 10 && bob <= 10, "{alice} and {bob}");
}

#[test]
fn what_clients_are_told_is_what_happens() {
    let quick = json!({ "per": "agent", "rate": 1, "interval": "2s", "burst": 4 });
    let bench = Bench::start(&json!({ "quick": quick }));
    let passed = bench.call("alice", "/one/");
    // Four tokens, eight seconds to fill an empty bucket; one refills in two seconds.
    assert_eq!(passed.field("ratelimit-policy"), Some("\"quick\";q=4;w=8"));
    assert_eq!(passed.field("ratelimit"), Some("\"quick\";r=3;t=2"));
    assert!(passed.field("retry-after").is_none());
    let clock = SystemClock::start();
    let (refused, asked) = wait_for("a refusal", || {
        let asked = clock.uptime();
        let answer = bench.call("alice", "/one/");
        (answer.status() == 429).then_some((answer, asked))
    });
    let number = |name: &str| refused.field(name)?.parse::<u64>().ok();
    let (seconds, millis) = (number("retry-after").unwrap(), number("retry-after-ms").unwrap());
    assert_eq!(seconds, millis.div_ceil(1_000));
    assert!((1..=2_000).contains(&millis), "{millis}");
    assert_eq!(refused.field("ratelimit"), Some(&*format!("\"quick\";r=0;t={seconds}")));
    assert!(refused.field("x-should-retry").is_none(), "it is worth trying again");
    wait_for("a token", || (bench.call("alice", "/one/").status() == 200).then_some(()));
    let waited = clock.uptime().since(asked);
    // Told in whole milliseconds, rounded up.
    assert!(
        waited + Duration::from_millis(1) >= Duration::from_millis(millis),
        "{waited:?} {millis}"
    );
    assert!(waited < Duration::from_millis(millis) + SLOW, "{waited:?} {millis}");
}

#[test]
fn a_wait_that_is_not_worthwhile_is_said_to_be_none() {
    let bench = Bench::start(&json!({ "hourly": slow("agent", 1) }));
    assert_eq!(bench.exhaust("alice", "/one/"), 1);
    let refused = bench.call("alice", "/one/");
    assert_eq!(refused.field("x-should-retry"), Some("false"));
    let seconds: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((3_500..=3_600).contains(&seconds), "{seconds}");
}

#[test]
fn a_limit_that_never_refills_says_never() {
    let limit = json!({ "per": "agent", "rate": 0, "burst": 2 });
    let bench = Bench::start(&json!({ "fixed": limit }));
    assert_eq!(bench.exhaust("alice", "/one/"), 2);
    let refused = bench.call("alice", "/one/");
    let body: Value = refused.json();
    assert_eq!([&body["code"], &body["limit"]], ["limit.never", "fixed"]);
    assert_eq!(refused.field("x-should-retry"), Some("false"));
    assert!(refused.field("retry-after").is_none());
}

#[test]
fn a_shadow_refuses_nobody() {
    let mut shadow = slow("agent", 1);
    shadow["shadow"] = json!(true);
    check(&json!({ "l": shadow, "all": slow("organisation", 7) }), &[("alice", "/one/", 7)]);
}

#[test]
fn limit_req_answers_as_its_author_says() {
    let bench = Bench::start(&json!({}));
    let route = json!({
        "uri": "/own/*",
        "upstream": bench.origin.upstream(),
        "plugins": { "limit-req": {
            "rate": 0.01, "burst": 2, "key": "remote_addr", "nodelay": true,
            "rejected_code": 503, "rejected_msg": "not now",
        } },
    });
    bench.gate.put("routes/own", &route);
    let answers = [(); 4].map(|()| get(&bench.gate.http, "/own/", &[]));
    assert_eq!(answers.each_ref().map(Message::status), [200, 200, 200, 503]);
    let body: Value = answers[3].json();
    assert_eq!([&body["error_msg"], &body["code"]], ["not now", "limit.exceeded"]);
    assert!(answers[3].field("retry-after").is_some());
}

/// What a busy machine may add to a wait.
const SLOW: Duration = Duration::from_secs(10);
