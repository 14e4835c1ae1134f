//! Nothing waits without an end.

use std::time::Duration;

use model::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::{before, ok, ranked};
use crate::harness::{Deaf, Gate, Origin, Wire, at, wait_for};

/// A gate whose route waits for a third of a second.
fn impatient(upstream: &Value) -> Gate {
    let timeout = json!({ "connect": PATIENCE, "send": PATIENCE, "read": PATIENCE });
    Gate::carrying(upstream, &json!({ "timeout": timeout }), &[])
}

const PATIENCE: f64 = 0.3;
const PATIENCE_MICROS: u64 = 300_000;

/// Asks, and expects a timeout of the upstream that came neither early nor much too late.
fn check(gate: &Gate, arguments: &[&str]) {
    let answer = gate.ask(arguments, "/d");
    assert_eq!(answer.refusal(), (504, "upstream.timeout".to_owned()));
    let record = gate.audit.record("/d");
    assert_eq!(at(&record, "/refusal"), "upstream.timeout");
    assert_eq!(at(&record, "/ending"), "complete");
    let total = at(&record, "/latency_us/total").as_u64().expect("a time");
    assert!((PATIENCE_MICROS..50 * PATIENCE_MICROS).contains(&total), "{record}");
}

#[test]
fn an_upstream_that_takes_no_connection_is_a_timeout() {
    let deaf = Deaf::start();
    check(&impatient(&ranked(&[deaf.node()])), &[]);
}

#[test]
fn an_upstream_that_never_shakes_hands_is_a_timeout() {
    let origin = Origin::serving(|mut visit| visit.wire.wait_for_end());
    let mut upstream = origin.upstream();
    upstream["scheme"] = json!("https");
    check(&impatient(&upstream), &[]);
}

#[test]
fn a_node_that_takes_no_connection_in_time_is_passed_over() {
    let (deaf, origin) = (Deaf::start(), Origin::answering(|_| ok("")));
    let timeout = json!({ "connect": PATIENCE, "send": 60, "read": 60 });
    let upstream = ranked(&[deaf.node(), origin.node()]);
    let gate = Gate::carrying(&upstream, &json!({ "timeout": timeout }), &[]);
    assert_eq!(gate.ask(&[], "/d").status(), 200);
}

/// The upstream takes the request; its connection is closed, not kept, when the gate gives up.
#[test]
fn an_upstream_that_never_answers_is_a_timeout_and_loses_its_connection() {
    let (gone, is_gone) = super::baton();
    let origin = Origin::serving(move |mut visit| {
        drop(visit.request());
        visit.wire.wait_for_end();
        gone.send(()).expect("the test waits");
    });
    let gate = impatient(&origin.upstream());
    check(&gate, &["-d", "buy=1"]);
    super::wait(&is_gone);
    assert_eq!(origin.arrivals().len(), 1);
}

#[test]
fn an_upstream_that_never_takes_the_body_is_a_timeout() {
    let (over, is_over) = super::baton();
    let origin = Origin::serving(move |mut visit| {
        drop(visit.wire.head());
        super::wait(&is_over);
    });
    let gate = impatient(&origin.upstream());
    let file = gate.data.join("body");
    std::fs::write(&file, vec![b'x'; 32 << 20]).expect("a file");
    // Without `Expect` curl sends at once and reads the answer whenever it comes.
    check(&gate, &["-H", "Expect:", "-T", file.to_str().expect("a path in text")]);
    over.send(()).expect("the upstream waits");
}

/// The gate cannot say 504 any more: what the client must see is that the answer is not whole.
fn check_broken_off(head: &'static str) {
    let (gone, is_gone) = super::baton();
    let origin = Origin::serving(move |mut visit| {
        drop(visit.request());
        visit.wire.send(head);
        visit.wire.wait_for_end();
        gone.send(()).expect("the test waits");
    });
    let gate = impatient(&origin.upstream());
    let mut client = Wire::connect(&gate.http);
    client.send("GET /d HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.answer_breaks_off(), "{head:?} must not look whole");
    super::wait(&is_gone);
    let record = gate.audit.record("/d");
    assert_eq!(at(&record, "/status"), 200);
    assert_eq!(at(&record, "/ending"), "upstream_broken");
    assert_eq!(at(&record, "/sent"), 3);
}

#[test]
fn an_answer_whose_body_pauses_for_ever_breaks_off() {
    check_broken_off("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc");
    check_broken_off("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
}

/// The end of the connection is the end of such an answer, so it is cut without an end.
#[test]
fn an_upstream_that_breaks_off_in_its_body_is_not_taken_for_whole() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let origin = Origin::serving(move |mut visit| {
            drop(visit.request());
            visit.wire.send(head);
        });
        let gate = before(&origin);
        let mut client = Wire::connect(&gate.http);
        client.send("GET /d HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.answer_breaks_off(), "{head:?} must not look whole");
        assert_eq!(gate.audit.record("/d")["ending"], "upstream_broken");
    }
}

/// The deadline is for pauses, not for the whole.
#[test]
fn a_body_that_keeps_coming_may_take_longer_than_the_deadline() {
    let origin = Origin::serving(|mut visit| {
        drop(visit.request());
        visit.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let clock = SystemClock::start();
        let until = clock.uptime().plus(Duration::from_millis(3_000));
        wait_for("twice the deadline", || {
            visit.wire.send("1\r\nx\r\n");
            (clock.uptime() > until).then_some(())
        });
        visit.wire.send("0\r\n\r\n");
    });
    let timeout = json!({ "connect": 1.5, "send": 1.5, "read": 1.5 });
    let gate = Gate::carrying(&origin.upstream(), &json!({ "timeout": timeout }), &[]);
    assert_eq!(gate.ask(&[], "/d").status(), 200);
    assert_eq!(gate.audit.record("/d")["ending"], "complete");
}
