//! Connections that speak no HTTP for a while: those that idle, and those that became WebSockets.

use serde_json::{Value, json};

use crate::carry::{baton, wait};
use crate::harness::{Gate, Origin, Wire, wait_for};

/// An upstream that agrees to a WebSocket, greets, and sends back what it gets in capitals.
fn shouting() -> Origin {
    Origin::serving(|mut visit| {
        if visit.request().is_none() {
            return;
        }
        visit.wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
        );
        let mut buffer = [0; 1_024];
        while let Ok(length @ 1..) = visit.wire.read(&mut buffer) {
            visit.wire.send(buffer.get(..length).unwrap_or_default().to_ascii_uppercase());
        }
    })
}

fn gate(origin: &Origin, route: &Value) -> Gate {
    Gate::carrying(&origin.upstream(), route, &[])
}

const OPENING: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       sec-websocket-version: 13\r\n\r\n";

#[test]
fn a_websocket_carries_bytes_both_ways_and_leaves_one_record() {
    let origin = shouting();
    let gate = gate(&origin, &json!({ "enable_websocket": true }));
    let mut wire = Wire::connect(&gate.http);
    wire.send(OPENING);
    let head = wire.head().expect("an answer");
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.field("upgrade"), Some("websocket"));
    assert_eq!(head.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(wire.take(5), b"hello");
    for word in ["one", "two", "three"] {
        wire.send(word);
        assert_eq!(wire.take(word.len()), word.to_uppercase().as_bytes());
    }
    let arrived = origin.arrivals().remove(0);
    assert_eq!(arrived.field("upgrade"), Some("websocket"));
    assert_eq!(arrived.field("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(gate.audit.records("/chat").is_empty(), "the record comes at the end");
    drop(wire);
    let record = gate.audit.record("/chat");
    let numbers = ["status", "received", "sent"].map(|name| record[name].as_u64());
    assert_eq!(numbers, [Some(101), Some(11), Some(16)]);
}

#[test]
fn a_route_without_leave_carries_no_websocket_and_nothing_arrives() {
    let origin = shouting();
    let gate = gate(&origin, &json!({}));
    let mut wire = Wire::connect(&gate.http);
    wire.send(OPENING);
    let answer = wire.answer("GET").expect("an answer");
    assert_eq!(answer.status(), 501, "{answer:?}");
    assert!(origin.arrivals().is_empty());
}

#[test]
fn a_silent_websocket_ends_with_the_routes_deadline() {
    let origin = shouting();
    let timeout = json!({ "connect": 5, "send": 0.2, "read": 0.2 });
    let gate = gate(&origin, &json!({ "enable_websocket": true, "timeout": timeout }));
    let mut wire = Wire::connect(&gate.http);
    wire.send(OPENING);
    assert_eq!(wire.head().expect("an answer").status(), 101);
    wire.wait_for_end();
    assert_eq!(gate.audit.record("/chat")["ending"], "cut");
}

#[test]
fn an_upstream_that_changes_the_protocol_unasked_is_refused() {
    let origin = shouting();
    let gate = gate(&origin, &json!({ "enable_websocket": true }));
    let answer = gate.ask(&[], "/x");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert_eq!(answer.json()["code"], "upstream.broken");
}

/// How many connections idle without buffers.
fn parked(gate: &Gate) -> Option<String> {
    let numbers = gate.numbers();
    let line = numbers.lines().find(|line| line.starts_with("tollgate_connections_parked "))?;
    line.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn a_connection_that_has_idled_serves_on() {
    let origin = Origin::answering(|request| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-was: {}\r\n\r\nok", request.target())
    });
    let gate = gate(&origin, &json!({}));
    let mut wire = Wire::connect(&gate.http);
    for target in ["/first", "/second", "/third"] {
        // Half a head, so that what was read before its time is put back.
        wire.send(format!("GET {target} HT"));
        wire.send("TP/1.1\r\nhost: a\r\n\r\n");
        let answer = wire.answer("GET").expect("an answer");
        assert_eq!((answer.status(), answer.field("x-was")), (200, Some(target)));
        wait_for("the connection to be parked", || (parked(&gate)? == "1").then_some(()));
    }
    drop(wire);
    wait_for("nobody to be parked", || (parked(&gate)? == "0").then_some(()));
}

#[test]
fn a_long_answer_is_not_taken_for_idleness() {
    let (go, may_go) = baton();
    let origin = Origin::serving(move |mut visit| {
        visit.request();
        visit.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab");
        wait(&may_go);
        visit.wire.send("cd");
    });
    let gate = gate(&origin, &json!({}));
    let mut long = Wire::connect(&gate.http);
    long.send("GET /long HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(long.head().expect("a head").status(), 200);
    assert_eq!(long.take(2), b"ab");
    // A second connection is parked meanwhile, so the first had its time to be.
    let mut idle = Wire::connect(&gate.http);
    idle.send("GET //none HTTP/1.1\r\nhost: a\r\n\r\n");
    idle.answer("GET").expect("a refusal");
    wait_for("the other connection to be parked", || (parked(&gate)? == "1").then_some(()));
    go.send(()).expect("the upstream waits");
    assert_eq!(long.take(2), b"cd");
}

/// A head that comes slowly looks like idleness in its middle. Whoever is told that the connection
/// closes must see it close.
#[test]
fn a_connection_that_is_said_to_close_closes_however_slowly_it_was_asked() {
    let origin = Origin::answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned());
    let gate = gate(&origin, &json!({}));
    let mut slow = Wire::connect(&gate.http);
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n");
    let mut idle = Wire::connect(&gate.http);
    idle.send("GET /quick HTTP/1.1\r\nhost: a\r\n\r\n");
    idle.answer("GET").expect("an answer");
    wait_for("the other connection to be parked", || (parked(&gate)? == "1").then_some(()));
    slow.send("connection: close\r\n\r\n");
    assert_eq!(slow.answer("GET").expect("an answer").status(), 200);
    slow.wait_for_end();
}
