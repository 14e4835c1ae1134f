//! Several gates that count in one Redis, and what each does when it is away.

mod money;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Clock as _, SystemClock, Uptime};

use serde_json::{Value, json};

use crate::harness::redis::{PASSWORD, Redis};
use crate::harness::{Gate, Message, Origin, Setup, get, signal, text_at, tollgate, wait_for};

/// A gate that counts in this Redis, with a route for each limit: `/one/` and `/two/`.
fn gate(redis: &Redis, origin: &Origin, limits: &Value) -> Gate {
    let variables = [("REDIS_OF_TEST", &*redis.url())];
    let arguments = ["--redis", "$env://REDIS_OF_TEST"];
    let gate =
        Gate::with(&Setup { arguments: &arguments, variables: &variables, ..Setup::default() });
    for name in ["one", "two"] {
        let route = json!({ "uri": format!("/{name}/*"), "upstream": origin.upstream() });
        gate.put(&format!("routes/{name}"), &route);
    }
    for (name, limit) in limits.as_object().expect("limits by name") {
        gate.put(&format!("limits/{name}"), limit);
    }
    wait_counting(&gate);
    gate
}

/// Waits until a gate uses its Redis.
fn wait_counting(gate: &Gate) {
    let line = "tollgate_ledger_breaker 0";
    wait_for("the gate to use Redis", || {
        gate.numbers().lines().any(|other| other == line).then_some(())
    });
}

/// A limit of a route that does not refill while a test runs.
fn slow(route: &str, burst: u32, on_outage: &str) -> Value {
    json!({
        "per": "route", "rate": 1, "interval": "1d", "burst": burst,
        "match": { "routes": [route] }, "on_outage": on_outage,
    })
}

fn is_uncounted(answer: &Message) -> bool {
    answer.status() == 503 && text_at(&answer.json(), "/code") == "ledger.unavailable"
}

#[test]
fn of_many_at_two_gates_exactly_the_burst_passes() {
    let (redis, origin) = (Redis::start(), Origin::start());
    let limits = json!({ "shared": slow("one", 20, "refuse") });
    let gates = [(); 2].map(|()| gate(&redis, &origin, &limits));
    let (passed, uncounted) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for gate in &gates {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let answer = get(&gate.http, "/one/", &[]);
                        match answer.status() {
                            200 => _ = passed.fetch_add(1, Ordering::Relaxed),
                            429 => {}
                            // A machine so busy that Redis is late. It may have counted then.
                            _ if is_uncounted(&answer) => {
                                uncounted.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => panic!("{answer}"),
                        }
                    }
                });
            }
        }
    });
    let [passed, uncounted] = [passed, uncounted].map(|count| count.load(Ordering::Relaxed));
    assert!(passed <= 20 && passed + uncounted >= 20, "{passed} passed, {uncounted} uncounted");
    // And the next client learns the same of both.
    for gate in &gates {
        let ask = || Some(get(&gate.http, "/one/", &[])).filter(|answer| !is_uncounted(answer));
        assert_eq!(wait_for("an answer", ask).status(), 429);
    }
}

#[test]
fn without_redis_each_limit_does_what_its_author_says_and_redis_may_come_back() {
    let (mut redis, origin) = (Redis::start(), Origin::start());
    let quick = json!({
        "per": "route", "rate": 1_000, "burst": 100, "match": { "routes": ["one"] },
    });
    let limits = json!({ "closed": quick, "open": slow("two", 1, "allow") });
    let mut gate = gate(&redis, &origin, &limits);
    let address = gate.http.clone();
    let ask = |path: &str| get(&address, path, &[]);
    wait_for("a first request", || (ask("/one/").status() == 200).then_some(()));
    redis.kill();
    let refused = wait_for("a refusal", || Some(ask("/one/")).filter(is_uncounted));
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(text_at(&refused.json(), "/limit"), "closed");
    for _ in 0..5 {
        assert_eq!(ask("/two/").status(), 200, "its author lets it pass");
    }
    let numbers = gate.numbers();
    for line in ["uncounted_total{action=\"passed\"} 5", "uncounted_total{action=\"refused\"}"] {
        assert!(numbers.contains(&format!("tollgate_ledger_{line}")), "{numbers}");
    }
    redis.restart();
    wait_for("requests to be counted again", || (ask("/one/").status() == 200).then_some(()));
    // What had been taken of the slow one is not known: it begins empty.
    let is_counted = |answer: &Message| answer.field("ratelimit").is_some();
    let counted = wait_for("an answer", || Some(ask("/two/")).filter(is_counted));
    assert_eq!(counted.status(), 429);
    assert!(gate.stop().status.success());
    let log = gate.log();
    assert!(!log.contains("did not end well"), "{log}");
    assert!(log.contains("every bucket begins empty") && !log.contains(PASSWORD), "{log}");
}

#[test]
fn a_gate_without_its_redis_starts_and_refuses() {
    let (mut redis, origin) = (Redis::start(), Origin::start());
    redis.kill();
    let gate = Gate::with(&Setup { arguments: &["--redis", &redis.url()], ..Setup::default() });
    let route = json!({ "uri": "/*", "upstream": origin.upstream() });
    gate.put("routes/1", &route);
    assert_eq!(get(&gate.http, "/", &[]).status(), 200, "nothing is to be counted");
    gate.put("limits/l", &json!({ "per": "address", "rate": 1_000 }));
    assert!(is_uncounted(&get(&gate.http, "/", &[])));
    redis.restart();
    wait_for("requests to be counted", || {
        (get(&gate.http, "/", &[]).status() == 200).then_some(())
    });
}

#[test]
fn a_url_that_cannot_be_used_ends_with_64_and_is_not_repeated() {
    let data = tempfile::tempdir().expect("a temporary directory");
    for url in [
        "planted",
        "http://u:planted@localhost",
        "redis://u:planted@localhost:x",
        "redis+sentinel://:planted@localhost",
        "$env://PLANTED_NOWHERE",
        "$secret://file/nowhere/at/all",
    ] {
        let said = tollgate()
            .args(["run", "--redis", url, "--data"])
            .arg(data.path())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(64), "{url}: {text}");
        assert!(text.contains("`redis`") && !text.contains("planted"), "{url}: {text}");
    }
}

/// Two hundred a second, and four hundred at once.
const RATE: u64 = 200;
const BURST: u64 = 400;

/// An origin that notes when requests came, in microseconds.
fn noting(clock: SystemClock) -> (Origin, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::<Mutex<Vec<u64>>>::default();
    let noted = Arc::clone(&seen);
    let origin = Origin::answering(move |_| {
        noted.lock().expect("a log").push(clock.uptime().as_micros());
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n".to_owned()
    });
    (origin, seen)
}

/// The most that was ever drawn beyond what came back, in tokens.
fn worst(log: &[u64]) -> u64 {
    let per_token = 1_000_000 / RATE;
    let (mut drawn, mut before, mut worst) = (0, 0, 0);
    for at in log {
        drawn = u64::saturating_sub(drawn, at - before) + per_token;
        (worst, before) = (worst.max(drawn), *at);
    }
    worst.div_ceil(per_token)
}

/// One gate stands still for longer than its leases live, while the other goes on, and then goes
/// on itself: what it held is not spent a second time.
#[test]
fn of_leased_tokens_none_is_spent_twice_when_a_gate_stands_still() {
    let clock = SystemClock::start();
    let (redis, (origin, seen)) = (Redis::start(), noting(clock));
    let limit = json!({
        "per": "route", "rate": RATE, "burst": BURST, "mode": "leased",
        "match": { "routes": ["one"] },
    });
    let limits = json!({ "shared": limit });
    let gates = [(); 2].map(|()| gate(&redis, &origin, &limits));
    let stop = &AtomicBool::new(false);
    let pass = |millis| {
        let until = clock.uptime().plus(Duration::from_millis(millis));
        wait_for("time to pass", || (clock.uptime() >= until).then_some(()));
    };
    std::thread::scope(|scope| {
        for gate in &gates {
            for _ in 0..4 {
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        drop(get(&gate.http, "/one/", &[]));
                    }
                });
            }
        }
        wait_for("both to lease", || gates.iter().all(|gate| spent(gate) > 20).then_some(()));
        signal(gates[0].pid, "STOP");
        pass(2_600);
        signal(gates[0].pid, "CONT");
        pass(600);
        stop.store(true, Ordering::Relaxed);
    });
    let mut log = seen.lock().expect("a log").clone();
    log.sort_unstable();
    // A request comes to the origin a little later than it was admitted, and eight were on their
    // way when the gate stood still.
    let most = BURST + RATE / 10 + 8;
    assert!(worst(&log) <= most, "{} of {most}, {} in all", worst(&log), log.len());
    let lasted = clock.uptime().since(Uptime::default()).as_secs();
    assert!(log.len() > 600, "{} in {lasted} s", log.len());
}

/// Tokens of leases that requests spent.
fn spent(gate: &Gate) -> u64 {
    let numbers = gate.numbers();
    let name = "tollgate_ledger_lease_tokens_total{fate=\"spent\"} ";
    let line = numbers.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}
