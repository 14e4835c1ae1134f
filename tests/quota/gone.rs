//! Clients that hang up while their calls wait.

use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::json;

use super::{Bench, call, head};
use crate::harness::{Wire, wait_for};

#[test]
fn who_hangs_up_makes_room_for_its_agent_at_every_gate() {
    let quota = json!({
        "match": { "upstreams": ["cloudflare"] }, "quota": 20, "window": "1m", "burst": 1,
        "queue": { "max": 3, "deadline": "30s" },
    });
    let bench = Bench::start(1_000, Duration::from_secs(600), &quota);
    assert_eq!(call(&bench.gates[0]).status(), 200);
    let waiting = |calls: usize| {
        let line = format!("tollgate_quota_waiting{{quota=\"cloudflare\"}} {calls}");
        wait_for("the calls that wait", || {
            bench.gates[0].numbers().lines().any(|other| other == line).then_some(())
        });
    };
    let clients: Vec<Wire> = (0..3)
        .map(|_| {
            let mut client = Wire::connect(&bench.gates[0].http);
            client.send(format!("{}\r\n\r\n", head(0)));
            client
        })
        .collect();
    waiting(3);
    // The agent has no more room, wherever it asks.
    let refused = call(&bench.gates[1]);
    assert_eq!(refused.refusal(), (429, "quota.exceeded".to_owned()));
    drop(clients);
    waiting(0);
    let clock = SystemClock::start();
    let began = clock.uptime();
    assert_eq!(call(&bench.gates[1]).status(), 200);
    // Three seconds at the most: it is not behind those that are gone.
    let took = clock.uptime().since(began);
    assert!(took < Duration::from_secs(6), "{took:?}");
}
