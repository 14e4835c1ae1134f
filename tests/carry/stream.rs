//! Bodies go through piece by piece, with what comes before and after them.

use super::{baton, before, wait};
use crate::harness::{Origin, Wire};

#[test]
fn trailers_pass_in_both_directions() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-proof\r\n\r\n\
         3\r\nabc\r\n0\r\nx-proof: 42\r\n\r\n"
            .to_owned()
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send(
        "POST /t HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 17\r\n\r\n",
    );
    let answer = client.answer("POST").expect("an answer");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.trailers, [("x-proof".to_owned(), b"42".to_vec())]);
    let [arrived] = origin.arrivals().try_into().expect("one request");
    assert_eq!(arrived.text(), "hello");
    assert_eq!(arrived.trailers, [("x-sum".to_owned(), b"17".to_vec())]);
}

/// The upstream sends an event only after the client has seen the one before: whoever collects
/// them waits for ever.
#[test]
fn events_arrive_one_by_one_when_they_are_sent() {
    let (seen, is_seen) = baton();
    let origin = Origin::serving(move |mut visit| {
        while visit.request().is_some() {
            visit.wire.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n",
            );
            for number in 0..5 {
                visit.wire.send(format!("9\r\ndata: {number}\n\n\r\n"));
                wait(&is_seen);
            }
            visit.wire.send("0\r\n\r\n");
        }
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("GET /events HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n");
    let head = client.head().expect("a head");
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    for number in 0..5 {
        assert_eq!(client.chunk().expect("an event"), format!("data: {number}\n\n").as_bytes());
        seen.send(()).expect("the upstream listens");
    }
    assert_eq!(client.chunk().expect("the end"), b"");
}

#[test]
fn a_client_that_expects_100_gets_it_before_its_body_which_arrives_once() {
    let origin = Origin::answering(|request| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{:02}", request.body.len())
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    for _ in 0..3 {
        client.send(
            "POST /e HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        );
        assert_eq!(client.head().expect("an interim answer").status(), 100);
        client.send("hello");
        let answer = client.answer("POST").expect("an answer");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "05"));
    }
    let arrivals = origin.arrivals();
    assert_eq!(arrivals.len(), 3);
    assert!(arrivals.iter().all(|arrived| arrived.body == b"hello"), "{arrivals:?}");
}

/// An answer that needs no body must not be kept back until there is one.
#[test]
fn a_client_that_expects_100_gets_a_refusal_instead_of_it() {
    let gate = before(&Origin::answering(|_| String::new()));
    let mut client = Wire::connect(&gate.http);
    client
        .send("TRACE /e HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.answer("TRACE").expect("a refusal").status(), 501);
}

/// What the client sends and what the upstream answers may overlap.
#[test]
fn an_upstream_may_answer_before_it_has_the_whole_body() {
    let origin = Origin::serving(|mut visit| {
        let mut head = visit.wire.head().expect("a head");
        visit.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n");
        head.body = visit.wire.take(10);
        visit.note(head);
        visit.wire.send("4\r\nlate\r\n0\r\n\r\n");
        visit.wire.wait_for_end();
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("POST /o HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
    assert_eq!(client.head().expect("a head").status(), 200);
    assert_eq!(client.chunk().expect("a piece"), b"early");
    client.send("56789");
    assert_eq!(client.chunk().expect("a piece"), b"late");
    assert_eq!(client.chunk().expect("the end"), b"");
    let [arrived] = origin.arrivals().try_into().expect("one request");
    assert_eq!(arrived.text(), "0123456789");
}
