//! Connections on both sides: kept, reused, and given up when the other end has gone.

use serde_json::json;

use super::{baton, before, ok, wait};
use crate::harness::{Origin, Wire, wait_for};

#[test]
fn a_connection_to_the_upstream_is_kept_and_used_again() {
    let origin = Origin::answering(|request| ok(request.target()));
    let gate = before(&origin);
    for number in 0..10 {
        let path = format!("/{number}");
        assert_eq!(gate.ask(&["-d", "x"], &path).text(), path);
        assert_eq!(gate.ask(&[], &path).text(), path);
    }
    assert_eq!((origin.arrivals().len(), origin.accepted()), (20, 1));
}

/// As many connections as requests at once, and no more.
#[test]
fn requests_at_once_have_a_connection_each_which_the_next_ones_use_again() {
    let (go, may_go) = baton();
    let origin = Origin::serving(move |mut visit| {
        while let Some(request) = visit.request() {
            if request.target() == "/wait" {
                wait(&may_go);
            }
            visit.wire.send(ok(""));
        }
    });
    let gate = before(&origin);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(gate.ask(&[], "/wait").status(), 200));
        }
        wait_for("four requests", || (origin.arrivals().len() == 4).then_some(()));
        for _ in 0..4 {
            go.send(()).expect("the upstream waits");
        }
    });
    for _ in 0..8 {
        assert_eq!(gate.ask(&[], "/again").status(), 200);
    }
    assert_eq!(origin.accepted(), 4);
}

/// An upstream that says `close` gets no further request, although it stays open.
#[test]
fn a_connection_that_the_upstream_gives_up_is_not_used_again() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
    });
    let gate = before(&origin);
    for number in 1..=5 {
        assert_eq!(gate.ask(&[], "/c").status(), 200);
        assert_eq!(origin.accepted(), number);
    }
}

/// What an upstream says about a body that is not there must not be taken for a body.
#[test]
fn answers_without_a_body_leave_both_connections_in_order() {
    let origin = Origin::answering(|request| match request.target() {
        "/head" if request.method() == "HEAD" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned()
        }
        "/chunked" if request.method() == "HEAD" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()
        }
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => {
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\netag: \"1\"\r\n\r\n".to_owned()
        }
        path => ok(path),
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    for (method, path, status) in [
        ("HEAD", "/head", 200),
        ("HEAD", "/chunked", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("DELETE", "/204", 204),
        ("HEAD", "/304", 304),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let answer = client.answer(method).expect("an answer");
        assert_eq!(answer.status(), status, "{path}");
        if path == "/head" {
            assert_eq!(answer.field("content-length"), Some("5"));
        }
        client.send("GET /after HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(client.answer("GET").expect("an answer").text(), "/after", "{method} {path}");
    }
    assert_eq!(origin.accepted(), 1);
    for (path, count) in [("/head", 1), ("/chunked", 1), ("/204", 2), ("/304", 2)] {
        for record in gate.audit.records_of(path, count) {
            assert_eq!((&record["ending"], &record["sent"]), (&json!("complete"), &json!(0)));
        }
    }
}

#[test]
fn requests_sent_without_waiting_are_answered_in_their_order() {
    let origin =
        Origin::answering(|request| ok(&format!("{} {}", request.target(), request.text())));
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    let mut bytes = String::new();
    for number in 0..20 {
        bytes += &format!("GET /{number}/a HTTP/1.1\r\nhost: a\r\n\r\n");
        bytes += &format!("POST /{number}/b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
        bytes += &format!(
            "PUT /{number}/c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n"
        );
    }
    client.send(bytes);
    for number in 0..20 {
        for (method, end) in [("GET", "a "), ("POST", "b hi"), ("PUT", "c hi")] {
            let answer = client.answer(method).expect("an answer");
            assert_eq!(answer.text(), format!("/{number}/{end}"));
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_a_whole_answer_and_its_end() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            .to_owned()
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("GET /old HTTP/1.0\r\n\r\n");
    let answer = client.answer("GET").expect("an answer");
    assert_eq!((answer.field("transfer-encoding"), answer.text().as_str()), (None, "abcde"));
}

/// The second answer stands there before anybody asked for it.
#[test]
fn what_an_upstream_sends_beyond_its_answer_is_nobodys_answer() {
    let origin = Origin::answering(|request| format!("{}{}", ok(request.target()), ok("smuggled")));
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    for number in 1..=5 {
        let path = format!("/{number}");
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(client.answer("GET").expect("an answer").text(), path);
        assert_eq!(origin.accepted(), number);
    }
}

#[test]
fn interim_answers_are_passed_over_and_the_final_one_counts() {
    let origin = Origin::answering(|_| {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
        format!("{interim}{}", ok("final"))
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    for _ in 0..2 {
        client.send("POST /i HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
        assert_eq!(client.answer("POST").expect("an answer").text(), "final");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_upstream_that_speaks_no_http_is_broken() {
    for nonsense in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let origin = Origin::answering(move |_| nonsense.to_owned());
        let gate = before(&origin);
        let refusal = gate.ask(&[], "/n").refusal();
        assert_eq!(refusal, (502, "upstream.broken".to_owned()), "{nonsense:?}");
        assert_eq!(origin.arrivals().len(), 1);
    }
}

/// What follows on such a connection is no HTTP any more.
#[test]
fn an_upstream_that_changes_the_protocol_unasked_is_broken() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n".to_owned()
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("GET /u HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer("GET").expect("an answer").status(), 502);
    assert_eq!(gate.audit.record("/u")["refusal"], "upstream.broken");
}

/// Hangs up after the answer has begun: the upstream must not go on for nobody.
#[test]
fn a_client_that_hangs_up_in_the_answer_ends_the_upstreams_connection_and_is_recorded() {
    let (gone, is_gone) = baton();
    let origin = Origin::serving(move |mut visit| {
        while let Some(request) = visit.request() {
            if request.target() == "/other" {
                visit.wire.send(ok("fine"));
                continue;
            }
            visit.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let mut piece = format!("{:x}\r\n", 16_384);
            piece += &"x".repeat(16_384);
            piece += "\r\n";
            while visit.wire.try_send(&piece).is_ok() {}
            gone.send(()).expect("the test waits");
            return;
        }
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("GET /gone HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().expect("a head").status(), 200);
    assert_eq!(client.chunk().expect("a piece").first(), Some(&b'x'));
    drop(client);
    wait(&is_gone);
    let record = gate.audit.record("/gone");
    assert_eq!((&record["ending"], &record["status"]), (&json!("client_gone"), &json!(200)));
    assert!(record["sent"].as_u64() > Some(0), "{record}");
    assert_eq!(gate.ask(&[], "/other").text(), "fine");
}

/// Hangs up while the upstream still thinks.
#[test]
fn a_client_that_hangs_up_before_the_answer_ends_the_upstreams_connection_and_is_recorded() {
    let (gone, is_gone) = baton();
    let origin = Origin::serving(move |mut visit| {
        while let Some(request) = visit.request() {
            if request.target() == "/other" {
                visit.wire.send(ok("fine"));
                continue;
            }
            visit.wire.wait_for_end();
            gone.send(()).expect("the test waits");
            return;
        }
    });
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send("POST /gone HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi");
    wait_for("the request", || origin.arrivals().pop());
    drop(client);
    wait(&is_gone);
    let record = gate.audit.record("/gone");
    assert_eq!((&record["ending"], &record["status"]), (&json!("client_gone"), &json!(0)));
    assert_eq!(gate.ask(&[], "/other").text(), "fine");
}

/// Hangs up in its own body: the upstream must not take a part for the whole.
#[test]
fn a_client_that_hangs_up_in_its_body_is_not_taken_for_whole_and_is_recorded() {
    for head in
        ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"]
    {
        let (came, has_come) = baton();
        let origin = Origin::serving(move |mut visit| {
            let whole = visit.request();
            assert!(whole.is_none(), "a part was taken for the whole");
            came.send(()).expect("the test waits");
        });
        let gate = before(&origin);
        let mut client = Wire::connect(&gate.http);
        client.send(format!("POST /gone HTTP/1.1\r\nhost: a\r\n{head}"));
        wait_for("a connection", || (origin.accepted() == 1).then_some(()));
        drop(client);
        wait(&has_come);
        assert_eq!(origin.arrivals().len(), 0);
        assert_eq!(gate.audit.record("/gone")["refusal"], "request.body_broken");
        assert_eq!(gate.ask(&[], "/nobody").status(), 502);
    }
}
