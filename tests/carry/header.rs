//! Which fields go through: none that belongs to one connection, none that only the gate may say,
//! and never the agent's credential.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use super::{before, ok};
use crate::harness::{Gate, Message, Origin, Wire};

/// Sends fields through the gate and returns what arrived.
fn arrived(fields: &str) -> Message {
    let origin = Origin::answering(|_| ok(""));
    let gate = before(&origin);
    let mut client = Wire::connect(&gate.http);
    client.send(format!("GET /h HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    assert_eq!(client.answer("GET").expect("an answer").status(), 200);
    origin.arrivals().pop().expect("a request")
}

/// None of these fields may arrive; what stands beside them must.
pub(super) fn check_gone(fields: &str, names: &[&str]) {
    let arrived = arrived(&format!("x-before: 1\r\n{fields}x-after: 2\r\n"));
    for name in names {
        assert_eq!(arrived.count(name), 0, "{name}: {arrived}");
    }
    assert_eq!(arrived.field("x-before"), Some("1"));
    assert_eq!(arrived.field("x-after"), Some("2"));
}

#[test]
fn what_belongs_to_the_clients_connection_does_not_reach_the_upstream() {
    check_gone(
        "connection: keep-alive\r\nkeep-alive: timeout=5\r\n",
        &["connection", "keep-alive"],
    );
    check_gone("proxy-connection: keep-alive\r\n", &["proxy-connection"]);
    check_gone("proxy-authorization: Basic eDp5\r\n", &["proxy-authorization"]);
    check_gone("proxy-authenticate: Basic\r\n", &["proxy-authenticate"]);
    check_gone("te: gzip\r\n", &["te"]);
    check_gone("te: trailers, deflate;q=0.5\r\nconnection: te\r\n", &["te"]);
}

#[test]
fn what_a_client_lists_as_its_connections_own_does_not_reach_the_upstream() {
    check_gone("connection: x-once\r\nx-once: 1\r\n", &["connection", "x-once"]);
    check_gone(
        "connection: X-One , x-two\r\nx-one: 1\r\nx-two: 2\r\nX-TWO: 3\r\n",
        &["x-one", "x-two"],
    );
    check_gone(
        "connection: x-one\r\nx-one: 1\r\nconnection: x-two\r\nx-two: 2\r\n",
        &["x-one", "x-two"],
    );
}

/// RFC 9110 §10.1.4: who sends `TE` lists it in `Connection`; the wish may go on all the same.
#[test]
fn a_wish_for_trailers_reaches_the_upstream() {
    for fields in ["te: trailers\r\n", "connection: te\r\nte: trailers\r\n"] {
        let arrived = arrived(fields);
        assert_eq!(arrived.field("te"), Some("trailers"));
        assert_eq!(arrived.field("connection"), None);
    }
}

/// What frames a message or names its host cannot be listed away.
#[test]
fn a_client_cannot_list_away_what_the_gate_needs() {
    let origin = Origin::answering(|request| ok(&request.text()));
    let gate = Gate::before(&json!({ "nodes": { origin.node(): 1 }, "credential": "real" }));
    let mut client = Wire::connect(&gate.http);
    client.send(
        "POST /h HTTP/1.1\r\nhost: a\r\nconnection: content-length, host, authorization\r\n\
         content-length: 5\r\n\r\nhello",
    );
    assert_eq!(client.answer("POST").expect("an answer").text(), "hello");
    let arrived = origin.arrivals().pop().expect("a request");
    assert_eq!(arrived.field("host"), Some("a"));
    assert_eq!(arrived.field("authorization"), Some("Bearer real"));
}

#[test]
fn a_change_of_protocol_does_not_reach_the_upstream() {
    let origin = Origin::answering(|_| ok(""));
    let gate = before(&origin);
    let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: other/1"];
    assert_eq!(gate.ask(&upgrade, "/h").status(), 200);
    let arrived = origin.arrivals().pop().expect("a request");
    assert_eq!((arrived.field("upgrade"), arrived.field("connection")), (None, None));
}

#[test]
fn what_belongs_to_the_upstreams_connection_does_not_reach_the_client() {
    let origin = Origin::answering(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive, x-once\r\n\
         x-once: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n\
         proxy-authenticate: Basic\r\nupgrade: h2c\r\nte: gzip\r\nx-stays: 1\r\n\r\n"
            .to_owned()
    });
    let gate = before(&origin);
    for arguments in [&["--http1.1"], &["--http2-prior-knowledge"]] {
        let answer = gate.ask(arguments, "/h");
        assert_eq!(answer.status(), 200);
        for name in [
            "connection",
            "x-once",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "upgrade",
            "te",
        ] {
            assert_eq!(answer.field(name), None, "{answer:?}");
        }
        assert_eq!(answer.field("x-stays"), Some("1"));
    }
}

#[test]
fn what_only_the_gate_may_say_of_an_agent_is_not_taken_from_a_client() {
    for name in [
        "x-consumer-username",
        "x-consumer-custom-id",
        "x-credential-identifier",
        "x-consumer-group-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "forwarded",
        "x-tollgate-request-id",
    ] {
        check_gone(&format!("{name}: forged\r\n"), &[name]);
        check_gone(&format!("{}: a\r\n{name}: b\r\n", name.to_ascii_uppercase()), &[name]);
    }
}

/// Puts an agent that proves itself by a token or by a key, and returns both.
fn agent(gate: &Gate) -> (String, &'static str) {
    let (secret, key) = ("a secret of at least thirty-two bytes", "alices-api-key-0123456789");
    let plugins = json!({
        "jwt-auth": { "key": "alice", "secret": secret },
        "key-auth": { "key": key },
    });
    let consumer = json!({ "username": "alice", "plugins": plugins });
    gate.put("consumers/alice", &consumer);
    let claims = json!({ "key": "alice", "exp": 4_000_000_000_u64 });
    let signer = EncodingKey::from_secret(secret.as_bytes());
    (encode(&Header::new(Algorithm::HS256), &claims, &signer).expect("a token"), key)
}

/// Sends an agent's credential to a route of a plugin; nothing of it may arrive.
fn check_hidden(plugin: &str, places: impl Fn(&str, &str) -> Vec<(Vec<String>, String)>) {
    let origin = Origin::answering(|_| ok(""));
    let upstream = json!({ "nodes": { origin.node(): 1 }, "credential": "the-real-one" });
    let gate = Gate::carrying(&upstream, &json!({ "plugins": { plugin: {} } }), &[]);
    let (token, key) = agent(&gate);
    for (fields, target) in places(&token, key) {
        let arguments: Vec<_> = fields.iter().flat_map(|field| ["-H", field]).collect();
        let answer = gate.ask(&arguments, &target);
        assert_eq!(answer.status(), 200, "{target} {arguments:?}: {answer:?}");
        let arrived = origin.arrivals().pop().expect("a request");
        let text = arrived.to_string();
        for secret in [&token, key, "alice"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(arrived.target(), "/h?a=1");
        assert_eq!(arrived.field("authorization"), Some("Bearer the-real-one"));
        if text.contains("cookie") {
            assert_eq!(arrived.field("cookie"), Some("b=1; c=2"));
        }
    }
}

#[test]
fn the_agents_token_does_not_reach_the_upstream_wherever_it_stands() {
    check_hidden("jwt-auth", |token, _| {
        let plain = || "/h?a=1".to_owned();
        let header = || format!("Authorization: Bearer {token}");
        let cookie = || format!("Cookie: b=1; jwt={token}; c=2");
        vec![
            (vec![header()], plain()),
            (vec![format!("Authorization: {token}")], plain()),
            (vec![cookie()], plain()),
            (vec![], format!("/h?jwt={token}&a=1")),
            (vec![], format!("/h?a=1&jwt={token}")),
            (vec![header(), cookie()], format!("/h?jwt={token}&a=1&jwt={token}")),
        ]
    });
}

#[test]
fn the_agents_key_does_not_reach_the_upstream_wherever_it_stands() {
    check_hidden("key-auth", |_, key| {
        vec![
            (vec![format!("apikey: {key}")], "/h?a=1".to_owned()),
            (vec![], format!("/h?apikey={key}&a=1")),
            (vec![format!("APIKEY: {key}")], format!("/h?a=1&apikey={key}")),
        ]
    });
}
