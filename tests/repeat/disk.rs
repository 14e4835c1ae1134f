//! A node whose disk takes no more, and takes more again.

use std::process::Command;
use std::sync::Arc;

use super::{Bench, Gate, KEY, Message, Origin, carry, is_replayed, json, post, wait_for};

/// Sets what the node's files may have; a write beyond it fails.
fn limit(gate: &Gate, bytes: &str) {
    let (pid, limit) = (gate.pid.to_string(), format!("--fsize={bytes}:"));
    let limited = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(limited.expect("prlimit runs").success());
}

fn is_unavailable(answer: &Message) -> bool {
    answer.status() == 503 && answer.refusal().1 == "repeat.unavailable"
}

#[test]
fn a_node_whose_disk_was_full_remembers_repeats_again_by_itself() {
    let long = Arc::new("x".repeat(400 << 10));
    let origin = Origin::answering(move |_| {
        format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{long}", long.len())
    });
    let bench = Bench { origin, ..Bench::start() };
    carry(&bench.gate, &bench.origin, &json!(true));
    assert_eq!(bench.post("/first", &[KEY], "").status(), 201);
    let file = bench.gate.data.join("ledger/repeats.redb");
    limit(&bench.gate, &std::fs::metadata(file).expect("a file").len().to_string());
    let mut tries = 0;
    wait_for("a full disk", || {
        tries += 1;
        let refused = bench.post("/x", &[&format!("idempotency-key: {tries}")], "");
        is_unavailable(&refused).then_some(())
    });
    // What needs no memory is carried on.
    assert_eq!(bench.post("/y", &[], "").status(), 201);
    let arrived = bench.arrivals();
    assert!(is_unavailable(&bench.post("/z", &["idempotency-key: z"], "")));
    assert_eq!(bench.arrivals(), arrived, "nothing left");
    limit(&bench.gate, "unlimited");
    let answer = wait_for("the node to mend itself", || {
        let answer = bench.post("/z", &["idempotency-key: z"], "");
        (!is_unavailable(&answer)).then_some(answer)
    });
    assert_eq!((answer.status(), is_replayed(&answer)), (201, false), "{}", answer.status());
    for (path, key) in [("/first", KEY), ("/z", "idempotency-key: z")] {
        assert!(is_replayed(&post(&bench.gate, path, &[key], "")), "{path}");
    }
}
