//! An upstream's own quota, shared by two gates over one Redis: all of it is used, nobody is
//! refused there, shares are fair, and a 429 stops everybody until one call has found out.

mod gone;
mod refused;
mod shown;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloudflare_sim::{Arrival, DEFAULT_TOKEN, Effect, Fault, Options, Point, Quota, Sim};
use model::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::harness::redis::Redis;
use crate::harness::{Gate, Message, Origin, Setup, Wire, get, text_at, wait_for};

/// A stand-in for Cloudflare with a small quota, and gates that share a Redis.
struct Bench {
    sim: Sim,
    gates: Vec<Gate>,
    redis: Redis,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn start(calls: u32, window: Duration, quota: &Value) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let limits = Quota { calls, window, block: BLOCK };
        let options = Options { quota: limits, log_entries: 20_000, ..Options::default() };
        let sim = runtime.block_on(Sim::start(options)).expect("the stand-in starts");
        let redis = Redis::start();
        let gates = [(); 2].map(|()| gate(&redis, sim.address(), quota));
        Self { sim, gates: gates.into(), redis, _runtime: runtime }
    }

    /// What reached the stand-in, by the agents' own names; strangers have none.
    fn arrivals(&self) -> Vec<Arrival> {
        self.sim.log().arrivals()
    }
}

fn gate(redis: &Redis, upstream: SocketAddr, quota: &Value) -> Gate {
    let variables = [("TOKEN_OF_TEST", DEFAULT_TOKEN), ("REDIS_OF_TEST", &*redis.url())];
    let arguments = ["--redis", "$env://REDIS_OF_TEST"];
    let gate =
        Gate::with(&Setup { arguments: &arguments, variables: &variables, ..Setup::default() });
    gate.put(
        "upstreams/cloudflare",
        &json!({
            "scheme": "http", "nodes": { upstream.to_string(): 1 },
            "credential": "$env://TOKEN_OF_TEST",
        }),
    );
    let route = json!({ "uri": "/*", "upstream_id": "cloudflare", "plugins": { "key-auth": {} } });
    gate.put("routes/all", &route);
    for agent in 0..AGENTS {
        let key = json!({ "key-auth": { "key": format!("key-{agent}") } });
        gate.put(
            &format!("consumers/a{agent}"),
            &json!({ "plugins": key, "username": format!("a{agent}") }),
        );
    }
    gate.put("upstream_quotas/cloudflare", quota);
    let line = "tollgate_ledger_breaker 0";
    wait_for("the gate to use Redis", || {
        gate.numbers().lines().any(|other| other == line).then_some(())
    });
    gate
}

fn head(agent: usize) -> String {
    format!("GET {CALL} HTTP/1.1\r\nhost: a\r\napikey: key-{agent}\r\nuser-agent: a{agent}")
}

/// One, two or three.
const fn weight(agent: usize) -> usize {
    agent % 3 + 1
}

/// The most calls that any window holds, in order of their times in microseconds.
fn worst(log: &[i128], window: i128) -> usize {
    let mut within = std::collections::VecDeque::new();
    let held = log.iter().map(|at| {
        within.push_back(*at);
        while within.front().is_some_and(|first| first + window <= *at) {
            within.pop_front();
        }
        within.len()
    });
    held.max().unwrap_or_default()
}

fn micros(arrival: &Arrival) -> i128 {
    arrival.at.as_nanosecond() / 1_000
}

#[test]
fn two_gates_use_nearly_all_of_a_quota_fairly_and_nobody_is_refused_there() {
    let (calls, window) = (200, Duration::from_secs(10));
    let weights: serde_json::Map<String, Value> =
        (0..AGENTS).map(|agent| (format!("a{agent}"), json!(weight(agent)))).collect();
    let quota = json!({
        "match": { "upstreams": ["cloudflare"] }, "quota": calls, "window": "10s",
        "weights": { "agents": weights }, "queue": { "max": 50, "deadline": "30s" },
    });
    let bench = Bench::start(calls, window, &quota);
    let (is_over, clock) = (AtomicBool::new(false), SystemClock::start());
    let began = clock.uptime();
    std::thread::scope(|scope| {
        for agent in 0..AGENTS {
            // As many of each agent at each gate as keep it waiting all the time.
            for worker in 0..2 * weight(agent) + 2 {
                let (address, is_over) = (&bench.gates[worker % 2].http, &is_over);
                scope.spawn(move || {
                    let mut client = Wire::connect(address);
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = client.ask(&head(agent));
                        assert!(answer.status() == 200 || is_uncounted(&answer), "{answer}");
                    }
                });
            }
        }
        wait_for("a while", || (clock.uptime().since(began) >= LASTS).then_some(()));
        is_over.store(true, Ordering::Relaxed);
    });
    let took = clock.uptime().since(began);
    let arrivals = bench.arrivals();
    assert!(arrivals.iter().all(|arrival| arrival.status == Some(200)), "no 429 of our making");
    let log: Vec<i128> = arrivals.iter().map(micros).collect();
    let most = worst(&log, i128::try_from(window.as_micros()).unwrap());
    assert!(most <= calls as usize, "{most} in a window");
    let within = LASTS.min(took).as_micros().try_into().unwrap_or(i128::MAX);
    let used = log.iter().filter(|at| **at - log[0] < within).count() as f64;
    let utilisation = used / (f64::from(calls) * LASTS.as_secs_f64() / window.as_secs_f64());
    assert!(utilisation >= 0.95, "{utilisation} of the quota");
    let shares = shares(&arrivals, within);
    let jain = shares.iter().sum::<f64>().powi(2)
        / (shares.len() as f64 * shares.iter().map(|share| share * share).sum::<f64>());
    assert!(jain >= 0.99, "{jain} of {shares:?}");
    let numbers = bench.gates[0].numbers();
    for name in ["used", "waiting", "headroom", "blocked_seconds"] {
        let line = format!("tollgate_quota_{name}{{quota=\"cloudflare\"}}");
        assert!(numbers.contains(&line), "no {line} in\n{numbers}");
    }
}

/// What each agent had, by its weight, once all of them waited.
fn shares(arrivals: &[Arrival], within: i128) -> Vec<f64> {
    let first = arrivals.first().map(micros).expect("an arrival");
    let counted = arrivals.iter().filter(|arrival| {
        let at = micros(arrival) - first;
        (1_000_000..within).contains(&at)
    });
    let mut counts = [0; AGENTS];
    for arrival in counted {
        let agent = arrival.header("user-agent").and_then(|name| name[1..].parse::<usize>().ok());
        *agent.and_then(|agent| counts.get_mut(agent)).expect("an agent's name") += 1;
    }
    counts
        .iter()
        .enumerate()
        .map(|(agent, count)| f64::from(*count) / weight(agent) as f64)
        .collect()
}

#[test]
fn a_429_stops_every_gate_and_one_call_finds_out_that_it_is_over() {
    let quota = json!({
        "match": { "hosts": ["127.0.0.1"] }, "quota": 1_000, "window": "10s", "block": "2s",
        "queue": { "deadline": "1s" },
    });
    let bench = Bench::start(5, Duration::from_secs(600), &quota);
    // Somebody else uses up what the token has, and is blocked with it.
    let own = format!("authorization: Bearer {DEFAULT_TOKEN}");
    let address = bench.sim.address().to_string();
    while get(&address, CALL, &[&own]).status() == 200 {}
    let delay = Effect::Delay { millis: 300, at: Point::Done };
    let [one, other] = &bench.gates[..] else { panic!("two gates") };
    let refused = call(one);
    check_blocked(&refused);
    let before = bench.arrivals().len();
    // The other has not asked yet, and does not: it learns it from the store.
    let told = wait_for("the other to know", || {
        let answer = call(other);
        assert_ne!(answer.status(), 200, "the upstream is left alone");
        Some(answer).filter(|answer| answer.status() == 429)
    });
    check_blocked(&told);
    assert_eq!(bench.arrivals().len(), before, "nobody asked the upstream");
    bench.sim.faults().inject(Fault::new(delay)).expect("a fault");
    let served = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..12)
            .zip(bench.gates.iter().cycle())
            .map(|(_, gate)| {
                scope.spawn(|| {
                    wait_for("the end of the block", || {
                        let answer = Wire::connect(&gate.http).ask(&head(1));
                        (answer.status() == 200).then_some(())
                    });
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("it was served")).count()
    });
    assert_eq!(served, 12);
    let after = &bench.arrivals()[before..];
    let [probe, second, ..] = after else { panic!("{after:?}") };
    assert_eq!(probe.status, Some(200), "it came after the end of the block");
    let apart = micros(second) - micros(probe);
    assert!(apart >= 300_000, "one call found out, {apart} µs before the others");
}

/// A machine so busy that Redis is late: it was not counted then, or for nothing.
fn is_uncounted(answer: &Message) -> bool {
    answer.status() == 503 && text_at(&answer.json(), "/code") == "ledger.unavailable"
}

/// What a gate answers to a call that it can count.
fn call(gate: &Gate) -> Message {
    let ask = || Some(Wire::connect(&gate.http).ask(&head(0))).filter(|it| !is_uncounted(it));
    wait_for("Redis to be in time", ask)
}

/// What a client is told of an upstream that refuses everybody.
fn check_blocked(answer: &Message) {
    assert_eq!(answer.status(), 429, "{answer}");
    let body = answer.json();
    assert_eq!([text_at(&body, "/code"), text_at(&body, "/limit")], ["quota.blocked", "upstream"]);
    let wait: u64 = answer.field("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait");
    assert!((1..=BLOCK.as_secs()).contains(&wait), "{wait}");
    assert_eq!(answer.field("ratelimit"), Some(&*format!("\"upstream\";r=0;t={wait}")));
}

#[test]
fn who_would_wait_too_long_is_refused_at_once_and_told_for_how_long() {
    let quota = json!({
        "match": { "upstreams": ["cloudflare"] }, "quota": 2, "window": "1h", "burst": 2,
        "queue": { "deadline": "1s" },
    });
    let bench = Bench::start(1_000, Duration::from_secs(600), &quota);
    let first = call(&bench.gates[0]);
    assert_eq!(first.field("ratelimit-policy"), Some("\"upstream\";q=2;w=3600"), "{first}");
    assert_eq!(first.field("ratelimit"), Some("\"upstream\";r=1;t=1800"), "{first}");
    assert_eq!(call(&bench.gates[1]).status(), 200);
    for gate in &bench.gates {
        let refused = call(gate);
        let body = refused.json();
        let code = [text_at(&body, "/code"), text_at(&body, "/limit")];
        assert_eq!(
            (refused.status(), code),
            (429, ["quota.exceeded", "upstream"].map(str::to_owned))
        );
        let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((1_700..=3_640).contains(&wait), "{wait}");
        assert_eq!(refused.field("x-should-retry"), Some("false"));
    }
    assert_eq!(bench.arrivals().len(), 2);
}

#[test]
fn without_redis_a_quota_does_what_its_author_says() {
    let quota = |on_outage: &str| {
        json!({
            "match": { "upstreams": ["cloudflare"] }, "quota": 100, "window": "1h", "burst": 100,
            "on_outage": on_outage,
        })
    };
    let mut bench = Bench::start(1_000, Duration::from_secs(600), &quota("refuse"));
    let call = |bench: &Bench| Wire::connect(&bench.gates[0].http).ask(&head(0));
    assert_eq!(call(&bench).status(), 200);
    bench.redis.kill();
    let refused = wait_for("a refusal", || Some(call(&bench)).filter(|it| it.status() == 503));
    let body = refused.json();
    assert_eq!(text_at(&body, "/code"), "ledger.unavailable");
    assert_eq!(refused.field("retry-after"), Some("1"));
    bench.gates[0].put("upstream_quotas/cloudflare", &quota("allow"));
    let passed = wait_for("a call to pass", || Some(call(&bench)).filter(|it| it.status() == 200));
    // It says what the upstream says, since nobody here has counted it.
    assert!(
        passed.field("ratelimit").is_some_and(|rest| rest.starts_with("\"default\"")),
        "{passed}"
    );
    let line = "tollgate_quota_uncounted_total{quota=\"cloudflare\",action=\"passed\"}";
    assert!(bench.gates[0].numbers().contains(line));
}

#[test]
fn each_sending_is_counted_those_of_the_gate_itself_too() {
    let origin = Origin::serving(|mut visit| {
        // The first connection answers once and then breaks off.
        for nth in 0.. {
            let Some(_request) = visit.request() else { return };
            if visit.nth == 0 && nth == 1 {
                return;
            }
            visit.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let gate = Gate::before(&origin.upstream());
    let quota = json!({
        "match": { "upstreams": ["only"] }, "per": "upstream", "quota": 50, "window": "1h",
        "burst": 50,
    });
    gate.put("upstream_quotas/only", &quota);
    let left = || {
        let answer = get(&gate.http, "/", &[]);
        let text = answer.field("ratelimit").expect("what is left").to_owned();
        text.split(';').find_map(|part| part.strip_prefix("r=")?.parse::<u32>().ok())
    };
    assert_eq!([left(), left(), left()], [Some(49), Some(47), Some(46)]);
}

/// As long as the block of the stand-in lasts.
const BLOCK: Duration = Duration::from_secs(4);

/// How long the agents press on.
const LASTS: Duration = Duration::from_secs(24);

const AGENTS: usize = 16;

/// A call that costs the stand-in little.
const CALL: &str = "/client/v4/user/tokens/verify";
