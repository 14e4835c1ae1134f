//! What must hold at the edges: half a request, an answer nobody reads, lengths that disagree.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use serde_json::json;

use super::http2::{connect, document, get, soon, text, upstream};
use super::{before, ok, ranked};
use crate::harness::secure::{Pieces, runtime, whole};
use crate::harness::{Gate, Origin, Wire};

/// An upstream answers before it has the whole body (a 401, a 413), and the client
/// keeps the rest back: that connection is not free, and no other request may wait for it.
#[test]
fn a_request_that_is_half_sent_holds_up_no_other() {
    let origin = Origin::serving(|mut visit| {
        while let Some(head) = visit.wire.head() {
            visit.wire.send(ok("early"));
            if head.target() == "/half" {
                return visit.wire.wait_for_end();
            }
        }
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("POST /half HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
    assert_eq!(client.answer("POST").expect("an answer").text(), "early");
    for _ in 0..3 {
        assert_eq!(gate.ask(&["--max-time", "10"], "/other").text(), "early");
    }
}

/// A client that leaves an answer unread must not stop the others, its own or
/// another agent's, although they share the upstream's connection.
#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let secure = upstream(|request| async move {
        if request.uri().path() != "/big" {
            return whole(vec![b'y'; 1 << 16]);
        }
        whole(vec![b'x'; 8 << 20])
    });
    let timeout = json!({ "connect": 3, "send": 3, "read": 3 });
    let gate = Gate::carrying(&document(&secure), &json!({ "timeout": timeout }), &[]);
    runtime().block_on(async {
        let mut other = connect(&gate).await;
        for _ in 0..20 {
            let mut slow = connect(&gate).await;
            let unread = soon(slow.send_request(get("/big"))).await.expect("an answer");
            // Small answers beside it widen the windows, as they do in use.
            for _ in 0..5 {
                let answer = soon(other.send_request(get("/small"))).await.expect("an answer");
                assert_eq!(soon(text(answer)).await.len(), 1 << 16);
            }
            assert_eq!(soon(text(unread)).await.len(), 8 << 20);
        }
    });
    assert_eq!(secure.accepted(), 1);
}

/// More streams at once than an upstream takes on one connection (RFC 9113 §6.5.2
/// recommends at least 100; hyper takes 200): the others need another connection.
#[test]
fn streams_that_last_leave_room_for_others() {
    let secure = upstream(|request| async move {
        if request.uri().path() != "/lasting" {
            return whole("fine");
        }
        let (pieces, body) = Pieces::new();
        drop(pieces.send(Frame::data(Bytes::from_static(b"x"))).await);
        drop(tokio::runtime::Handle::current().spawn(async move { pieces.closed().await }));
        http::Response::new(http_body_util::combinators::BoxBody::new(body))
    });
    let gate = Gate::before(&document(&secure));
    runtime().block_on(async {
        let (mut first, mut second) = (connect(&gate).await, connect(&gate).await);
        soon(first.send_request(get("/other"))).await.expect("an answer");
        let mut lasting = Vec::new();
        for _ in 0..150 {
            for client in [&mut first, &mut second] {
                let sent = tokio::time::timeout(
                    Duration::from_secs(10),
                    client.send_request(get("/lasting")),
                );
                lasting.push(sent.await.expect("in time").expect("an answer"));
            }
        }
        let mut client = connect(&gate).await;
        let sent =
            tokio::time::timeout(Duration::from_secs(10), client.send_request(get("/other")));
        assert_eq!(text(sent.await.expect("in time").expect("an answer")).await, "fine");
    });
}

/// A refusal of a HEAD has no body, and was complete.
#[test]
fn a_refusal_of_a_head_has_no_body_and_is_complete() {
    let closed = crate::harness::Refusing::start();
    let gate = Gate::before(&ranked(&[closed.node()]));
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        // curl fails where a body follows on HTTP/2 (exit 92).
        let answer = gate.ask(&[protocol, "-I"], "/h");
        assert_eq!((answer.status(), answer.text().as_str()), (502, ""));
    }
    for record in gate.audit.records_of("/h", 2) {
        assert_eq!(
            (&record["ending"], &record["sent"]),
            (&json!("complete"), &json!(0)),
            "{record}"
        );
    }
}

/// The record says what was read of the body, above all where the exchange failed.
#[test]
fn what_a_failed_request_had_sent_is_recorded() {
    let origin = Origin::serving(|mut visit| drop(visit.request()));
    let gate = before(&origin);
    assert_eq!(gate.ask(&["-d", "hello"], "/r").status(), 502);
    assert_eq!(gate.audit.record("/r")["received"], 5);
}

/// What starts like one of the gate's own names is one of them, as CGI-like
/// servers spell it too.
#[test]
fn no_name_of_the_gates_families_is_taken_from_a_client() {
    for name in [
        "x-consumer-groups",
        "x-consumer-anything",
        "x-credential-anything",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-tollgate-anything",
        "x_consumer_username",
        "x_forwarded_for",
        "proxy-authentication-info",
    ] {
        super::header::check_gone(&format!("{name}: forged\r\n"), &[name]);
    }
}

/// A trailer is a field too: whatever may not stand in the head may not stand there.
#[test]
fn what_may_not_stand_in_a_head_may_not_stand_in_trailers() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
         trailer: x-proof, keep-alive, connection, x-tollgate-request-id\r\n\r\n\
         3\r\nabc\r\n0\r\nx-proof: 42\r\nkeep-alive: 5\r\nconnection: x\r\n\
         x-tollgate-request-id: forged\r\n\r\n"
            .to_owned()
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send(
        "POST /t HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum, x-consumer-username, x-forwarded-for, keep-alive, connection\r\n\r\n\
         5\r\nhello\r\n0\r\nx-sum: 17\r\nx-consumer-username: forged\r\nx-forwarded-for: 1.2.3.4\r\n\
         keep-alive: 5\r\nconnection: x\r\n\r\n",
    );
    let answer = client.answer("POST").expect("an answer");
    assert_eq!(answer.trailers, [("x-proof".to_owned(), b"42".to_vec())]);
    let [arrived] = origin.arrivals().try_into().expect("one request");
    assert_eq!(arrived.trailers, [("x-sum".to_owned(), b"17".to_vec())]);
}

/// A client that offers HTTP/2 in clear text is answered in HTTP/1.1 (RFC 9110
/// §7.8 lets a server ignore it): Java's own client offers it with its first request.
#[test]
fn an_offer_of_http_2_in_clear_text_is_passed_over() {
    let origin = Origin::answering(|_| ok("fine"));
    let gate = before(&origin);
    assert_eq!(gate.ask(&["--http2"], "/h").text(), "fine");
    let arrived = origin.arrivals().pop().expect("a request");
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(arrived.field(name), None);
    }
}

/// RFC 9112 §6.3: the chunks count, the length is taken out.
#[test]
fn an_answer_with_two_lengths_goes_by_its_chunks() {
    for length in [2, 3, 9] {
        let origin = Origin::answering(move |_| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n"
            )
        });
        let gate = before(&origin);
        let mut client = Wire::connect(&gate.http);
        client.send("GET /l HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.answer("GET").expect("an answer").text(), "abc", "{length}");
    }
}

/// Who pauses is named: the client here, not the upstream.
#[test]
fn a_client_that_pauses_its_body_is_not_taken_for_a_slow_upstream() {
    let origin = Origin::answering(|request| ok(&request.text()));
    let timeout = json!({ "connect": 0.3, "send": 0.3, "read": 0.3 });
    let gate = Gate::carrying(&origin.upstream(), &json!({ "timeout": timeout }), &[]);
    let mut client = Wire::connect(&gate.http);
    client.send("POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234");
    let answer = client.answer("POST").expect("an answer");
    assert_eq!(answer.json()["code"], "request.body_broken");
}
