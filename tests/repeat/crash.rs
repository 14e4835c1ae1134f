//! A node that ends without a warning, and what it says of repeats when it is back.

use std::path::Path;

use super::{
    Bench, FIRST, Gate, KEY, Ordering, SECOND, Setup, carry, final_refusal, is_replayed, json,
    origin, post, try_post, wait_for,
};

fn gate_in(data: &Path) -> Gate {
    Gate::with(&Setup { data: Some(data), ..Setup::default() })
}

#[test]
fn what_was_answered_is_still_known_after_a_restart() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (origin, _open) = origin();
    let gate = gate_in(data.path());
    carry(&gate, &origin, &json!(true));
    let first = post(&gate, "/a", &[KEY], "body");
    // Its answer is written behind it: what comes next is written later.
    post(&gate, "/b", &[FIRST], "body");
    gate.kill();
    let gate = gate_in(data.path());
    let again = post(&gate, "/a", &[KEY], "body");
    assert_eq!((again.text(), is_replayed(&again)), (first.text(), true), "{again}");
    assert_eq!(origin.arrivals().len(), 2);
}

#[test]
fn what_had_left_when_the_node_ended_is_never_sent_again() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (origin, open) = origin();
    let gate = gate_in(data.path());
    carry(&gate, &origin, &json!(true));
    std::thread::scope(|scope| {
        let asked = [[KEY], [FIRST]].map(|fields| {
            let gate = &gate;
            scope.spawn(move || try_post(gate, "/held/a", &fields, "body"))
        });
        wait_for("both to arrive", || (origin.arrivals().len() == 2).then_some(()));
        crate::harness::signal(gate.pid, "KILL");
        for asked in asked {
            assert!(asked.join().expect("it ends").is_err());
        }
    });
    drop(gate);
    open.store(true, Ordering::SeqCst);
    let gate = gate_in(data.path());
    for fields in [[KEY], [SECOND], [KEY]] {
        let refused = final_refusal(&post(&gate, "/held/a", &fields, "body"));
        assert_eq!(refused, (503, "repeat.outcome_unknown".to_owned()));
    }
    assert_eq!(origin.arrivals().len(), 2);
    // Whoever wants it done all the same begins anew.
    assert_eq!(post(&gate, "/held/a", &[FIRST], "body").status(), 201);
}

#[test]
fn an_upstream_that_breaks_off_leaves_an_outcome_nobody_knows() {
    let origin = crate::harness::Origin::serving(|mut visit| {
        // It takes the request, and its connection ends.
        let _taken = visit.request();
    });
    let gate = Gate::start();
    carry(&gate, &origin, &json!(true));
    assert_eq!(post(&gate, "/a", &[KEY], "body").refusal(), (502, "upstream.broken".to_owned()));
    let refused = final_refusal(&post(&gate, "/a", &[KEY], "body"));
    assert_eq!(refused, (503, "repeat.outcome_unknown".to_owned()));
    assert_eq!(origin.arrivals().len(), 1);
}

#[test]
fn what_never_left_may_go() {
    let bench = Bench::start();
    let refusing = crate::harness::Refusing::start();
    let route = json!({ "plugins": { "key-auth": {} }, "idempotency": true });
    bench.gate.carry(&json!({ "nodes": { refusing.node(): 1 } }), &route);
    let refused = bench.post("/a", &[KEY], "body").refusal();
    assert_eq!(refused, (502, "upstream.unreachable".to_owned()));
    bench.gate.carry(&bench.origin.upstream(), &route);
    let again = bench.post("/a", &[KEY], "body");
    assert_eq!((again.status(), is_replayed(&again)), (201, false), "{again}");
}
