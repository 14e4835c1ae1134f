//! Clients that hang up before they have the answer that says what their call costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Bench, Origin, json};
use crate::harness::{Wire, wait_for};

/// Answers that say what they cost, when the test lets them: `/late` from its head on, `/slow` in its
/// middle, `/events` is a stream.
fn origin() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::<AtomicBool>::default();
    let held = Arc::clone(&open);
    let origin = Origin::serving(move |mut visit| {
        while let Some(request) = visit.request() {
            let body = r#"{"cost":0.25}"#;
            let kind = if request.target() == "/events" {
                "text/event-stream"
            } else {
                "application/json"
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
            );
            let (before, after) = if request.target() == "/late" {
                (String::new(), head + body)
            } else {
                (head + &body[..5], body[5..].to_owned())
            };
            let sent = visit.wire.try_send(before);
            wait_for("the test to let it go", || held.load(Ordering::SeqCst).then_some(()));
            if sent.and_then(|()| visit.wire.try_send(after)).is_err() {
                return;
            }
        }
    });
    (origin, open)
}

/// What a call is charged whose client hangs up before its answer has come.
#[track_caller]
fn check(path: &str, fields: &str, charged: &str) {
    let (origin, open) = origin();
    let price = json!({
        "hold": { "fixed": "1" }, "charge": { "from": "response", "pointer": "/cost" },
    });
    let bench = Bench::priced(&origin.upstream(), "10", &price);
    bench.carry(&origin.upstream(), &json!({ "idempotency": true }));
    let mut wire = Wire::connect(&bench.gate.http);
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\napikey: bot-key\r\n{fields}");
    wire.send(format!("{head}content-length: 0\r\n\r\n"));
    wait_for("the call to arrive", || (origin.arrivals().len() == 1).then_some(()));
    if path != "/late" && fields.is_empty() {
        assert_eq!(wire.head().expect("a head").status(), 200);
    }
    drop(wire);
    wait_for("the gate to see it", || {
        let has_gone = |line| line == "tollgate_connections 0";
        bench.gate.numbers().lines().any(has_gone).then_some(())
    });
    open.store(true, Ordering::SeqCst);
    assert_eq!(bench.paid(path), ("1".to_owned(), charged.to_owned()), "{path} {fields}");
}

#[test]
fn a_call_whose_client_has_gone_is_charged_what_its_answer_says() {
    check("/late", "", "0.25");
    check("/slow", "", "0.25");
}

#[test]
fn so_is_one_that_may_be_repeated() {
    check("/late", "idempotency-key: a\r\n", "0.25");
    check("/slow", "idempotency-key: a\r\n", "0.25");
}

#[test]
fn a_stream_ends_with_its_listener_and_is_charged_what_it_held() {
    check("/events", "", "1");
}
