//! Budgets that several gates draw on through one Redis.

mod steer;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::redis::Redis;
use crate::harness::{Gate, Message, Origin, Setup, at, get, text_at, wait_for};

/// A gate with one agent and one budget of so many requests for ever, on its own disk.
fn gate(redis: &Redis, data: &Path, origin: &Origin, amount: usize) -> Gate {
    gate_with(redis, data, origin, (&budget(amount, &json!({})), &[]))
}

/// A budget of so many requests for ever, with further members.
fn budget(amount: usize, further: &Value) -> Value {
    let mut budget = json!({
        "per": "organisation", "unit": "requests", "amount": amount.to_string(),
        "period": { "every": "lifetime" },
    });
    let further = further.as_object().cloned().unwrap_or_default();
    budget.as_object_mut().expect("an object").extend(further);
    budget
}

fn gate_with(
    redis: &Redis,
    data: &Path,
    origin: &Origin,
    (budget, variables): (&Value, &[(&str, &str)]),
) -> Gate {
    let url = redis.url();
    let variables = [&[("REDIS_OF_TEST", &*url)], variables].concat();
    let arguments = ["--redis", "$env://REDIS_OF_TEST"];
    let gate = Gate::with(&Setup {
        data: Some(data),
        arguments: &arguments,
        variables: &variables,
        ..Setup::default()
    });
    gate.carry(&origin.upstream(), &json!({ "plugins": { "key-auth": {} } }));
    let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
    gate.put("consumers/bot", &agent);
    gate.put("budgets/b", budget);
    gate
}

/// Two gates with one budget in one Redis.
struct Fleet {
    gates: [Gate; 2],
    redis: Redis,
    _data: [TempDir; 2],
    _origin: Origin,
}

impl Fleet {
    fn of(amount: usize) -> Self {
        Self::with(&budget(amount, &json!({})), &[])
    }

    fn with(budget: &Value, variables: &[(&str, &str)]) -> Self {
        let (redis, origin) = (Redis::start(), Origin::start());
        let data = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory"));
        let with = (budget, variables);
        let gates = data.each_ref().map(|data| gate_with(&redis, data.path(), &origin, with));
        Self { gates, redis, _data: data, _origin: origin }
    }
}

fn call(gate: &Gate) -> Message {
    get(&gate.http, "/", &["apikey: bot-key"])
}

/// Calls until the budget is used up: how many passed. What Redis did not answer in time, or was
/// not ready for, is asked again.
fn drain(gate: &Gate) -> usize {
    let mut passed = 0;
    loop {
        match call(gate).status() {
            200 => passed += 1,
            402 => return passed,
            503 => std::thread::yield_now(),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn gates_spend_one_budget_to_the_request_and_a_flush_of_redis_gives_nothing_back() {
    let (redis, origin) = (Redis::start(), Origin::start());
    let data = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let gates = data.each_ref().map(|data| gate(&redis, data.path(), &origin, 40));
    let passed = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for gate in &gates {
            for _ in 0..4 {
                scope.spawn(move || passed.fetch_add(drain(gate), Ordering::Relaxed));
            }
        }
    });
    // What is held may be void in the end, where nobody waited for it: then there is more.
    let rest = || gates.iter().map(drain).sum::<usize>();
    wait_for("the budget to be used up", || {
        passed.fetch_add(rest(), Ordering::Relaxed);
        (passed.load(Ordering::Relaxed) == 40).then_some(())
    });
    assert_eq!(origin.arrivals().len(), 40);
    redis.ask(&["FLUSHALL"]);
    assert_eq!(rest(), 0);
    let status = gates[0].administer(&[], "/admin/ledger").json();
    assert_eq!(at(&status, "/money"), "open", "{status}");
    let told = (0..2).map(|node| text_at(&status, &format!("/nodes/{node}/state")));
    assert!(told.eq(["told", "told"]), "{status}");
    // Nor does a gate forget that is killed, with all that Redis knew.
    let [first, second] = gates;
    drop((first, second));
    redis.ask(&["FLUSHALL"]);
    let gates = data.each_ref().map(|data| gate(&redis, data.path(), &origin, 41));
    assert_eq!(gates.iter().map(drain).sum::<usize>(), 1);
    assert_eq!(origin.arrivals().len(), 41);
}
