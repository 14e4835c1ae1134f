//! A request has its effect once or not at all: sent again only where that is known.

use serde_json::json;

use super::{before, ok, ranked};
use crate::harness::{Gate, Message, Origin, Refusing, Wire, at, wait_for};

fn methods(arrivals: &[Message]) -> Vec<&str> {
    arrivals.iter().map(Message::method).collect()
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Answers the first request of the first connection, takes the second and hangs up; any other
/// connection works.
fn forgetful() -> Origin {
    Origin::serving(|mut visit| {
        while let Some(request) = visit.request() {
            if visit.nth == 0 && request.target() != "/first" {
                return;
            }
            visit.wire.send(ok(request.method()));
        }
    })
}

#[test]
fn where_a_node_refuses_the_connection_the_next_gets_the_whole_request() {
    let (closed, origin) = (Refusing::start(), Origin::answering(|request| ok(&request.text())));
    let gate = Gate::before(&ranked(&[closed.node(), origin.node()]));
    let answer = gate.ask(&["-d", "hello"], "/r");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    assert_eq!(origin.arrivals().len(), 1);
    let record = gate.audit.record("/r");
    assert_eq!(record["upstream"]["tries"], 2);
    assert_eq!(record["upstream"]["node"], origin.node());
}

#[test]
fn where_all_nodes_refuse_the_answer_is_502() {
    let closed = [Refusing::start(), Refusing::start(), Refusing::start()];
    let gate = Gate::before(&ranked(&closed.each_ref().map(Refusing::node)));
    assert_eq!(gate.ask(&[], "/r").refusal(), refusal(502, "upstream.unreachable"));
    assert_eq!(gate.audit.record("/r")["upstream"]["tries"], 3);
}

#[test]
fn without_retries_only_one_node_is_tried() {
    let (closed, origin) = (Refusing::start(), Origin::answering(|_| ok("")));
    let mut upstream = ranked(&[closed.node(), origin.node()]);
    upstream["retries"] = json!(0);
    let gate = Gate::before(&upstream);
    assert_eq!(gate.ask(&[], "/r").refusal(), refusal(502, "upstream.unreachable"));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_post_that_reached_an_upstream_is_not_sent_again() {
    let other = Origin::answering(|_| ok(""));
    let origin = Origin::serving(|mut visit| drop(visit.request()));
    let gate = Gate::before(&ranked(&[origin.node(), other.node()]));
    let answer = gate.ask(&["-d", "buy=1"], "/r");
    assert_eq!(answer.refusal(), refusal(502, "upstream.broken"));
    assert_eq!(methods(&origin.arrivals()), ["POST"]);
    assert_eq!(other.accepted(), 0);
}

/// Sends a request over a kept connection that the upstream closes when it has come, and returns
/// the status and how often it came.
fn check(arguments: &[&str], expected: (u16, usize)) {
    let origin = forgetful();
    let gate = before(&origin);
    assert_eq!(gate.ask(&[], "/first").status(), 200);
    let answer = gate.ask(arguments, "/second");
    let came = origin.arrivals().len() - 1;
    assert_eq!((answer.status(), came), expected, "{arguments:?}");
    assert_eq!(*at(&gate.audit.record("/second"), "/upstream/tries"), came, "{arguments:?}");
}

#[test]
fn what_is_safe_and_has_no_body_is_sent_again_when_a_kept_connection_loses_it() {
    check(&[], (200, 2));
    check(&["-I"], (200, 2));
    check(&["-X", "OPTIONS"], (200, 2));
}

#[test]
fn what_is_not_safe_or_has_a_body_comes_once_when_a_kept_connection_loses_it() {
    check(&["-d", "buy=1"], (502, 1));
    check(&["-X", "POST"], (502, 1));
    check(&["-X", "PUT"], (502, 1));
    check(&["-X", "DELETE"], (502, 1));
    check(&["-X", "PATCH", "-d", "{}"], (502, 1));
    check(&["-X", "GET", "-d", "query"], (502, 1));
}

/// The upstream closes each connection after its first answer, without a word: the gate learns of
/// it before, while or after it sends the next request.
#[test]
fn a_post_over_a_connection_that_is_being_closed_comes_once_at_most() {
    let origin = Origin::serving(|mut visit| {
        if visit.request().is_some() {
            visit.wire.send(ok(""));
        }
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    for number in 0..200 {
        let path = format!("/{number}");
        client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"));
        let status = client.answer("POST").expect("an answer").status();
        let came = origin.arrivals().iter().filter(|message| message.target() == path).count();
        match status {
            200 => assert_eq!(came, 1, "{path}"),
            502 => assert!(came <= 1, "{path} came {came} times"),
            other => panic!("{path}: {other}"),
        }
    }
    let passed = || gate.audit.records("/199").pop();
    assert_eq!(wait_for("the last record", passed)["method"], "POST");
}

/// Whatever was closed while nobody looked is found out before anything is sent over it.
#[test]
fn a_post_after_a_kept_connection_was_closed_succeeds_over_another() {
    let origin = Origin::serving(|mut visit| {
        if visit.request().is_some() {
            visit.wire.send(ok(""));
        }
    });
    let gate = before(&origin);
    for number in 1..=20 {
        assert_eq!(gate.ask(&["-d", "hi"], "/r").status(), 200);
        assert_eq!(origin.arrivals().len(), number);
    }
}
