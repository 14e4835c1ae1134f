//! The kill switch on one node: who is suspended is refused, and what is under way ends.

use std::path::Path;

use serde_json::{Value, json};

use crate::command::said::Said;
use crate::harness::{
    ADMIN_KEY, Gate, Message, Origin, Setup, Wire, get, text_at, tollgate, wait_for,
};

/// A gate with a route that asks for keys, one that does not, and agents of a team and of none.
struct Bench {
    gate: Gate,
}

impl Bench {
    fn start(origin: &Origin, data: Option<&Path>) -> Self {
        let bench = Self::again(data);
        bench.gate.carry(
            &origin.upstream(),
            &json!({
                "uri": "/keys/*", "enable_websocket": true, "idempotency": true,
                "plugins": { "key-auth": {} },
            }),
        );
        let open = json!({ "uri": "/open", "upstream": origin.upstream() });
        bench.gate.put("routes/open", &open);
        bench.gate.put("consumer_groups/red", &json!({ "plugins": {} }));
        for (agent, team) in [("alice", Some("red")), ("bob", None)] {
            let key = json!({ "key-auth": { "key": format!("{agent}-key") } });
            let agent = json!({ "username": agent, "plugins": key, "group_id": team });
            let agent = without_null(agent);
            bench.gate.put(&format!("consumers/{}", text_at(&agent, "/username")), &agent);
        }
        bench
    }

    fn again(data: Option<&Path>) -> Self {
        Self { gate: Gate::with(&Setup { data, ..Setup::default() }) }
    }

    fn call(&self, agent: &str) -> Message {
        get(&self.gate.http, "/keys/x", &[&format!("apikey: {agent}-key")])
    }

    /// The statuses of alice's call, of bob's and of nobody's.
    fn statuses(&self) -> [u16; 3] {
        let open = get(&self.gate.http, "/open", &[]);
        [self.call("alice").status(), self.call("bob").status(), open.status()]
    }

    /// Sends a call of alice's and waits for nothing.
    fn send(&self, method: &str, fields: &str) -> Wire {
        let mut wire = Wire::connect(&self.gate.http);
        let head = format!("{method} /keys/x HTTP/1.1\r\nhost: a\r\napikey: alice-key");
        wire.send(format!("{head}\r\n{fields}\r\n"));
        wire
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let server = format!("http://{}", self.gate.admin);
        let variables = [("TOLLGATE_SERVER", &*server), ("TOLLGATE_ADMIN_KEY", ADMIN_KEY)];
        Said::by(tollgate().args(arguments).envs(variables))
    }

    fn suspends(&self, whom: &[&str]) {
        let said = self.run(&[&["suspend"], whom, &["--reason", "incident 7"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }

    fn resumes(&self, whom: &[&str]) {
        let said = self.run(&[&["resume"], whom].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }
}

fn without_null(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    value
}

#[test]
fn who_is_suspended_is_refused_until_somebody_resumes_it() {
    let origin = Origin::start();
    let bench = Bench::start(&origin, None);
    assert_eq!(bench.statuses(), [200, 200, 200]);
    for (whom, statuses) in [
        (["agent", "alice"].as_slice(), [403, 200, 200]),
        (["team", "red"].as_slice(), [403, 200, 200]),
        (["agent", "bob"].as_slice(), [200, 403, 200]),
        (["all"].as_slice(), [403, 403, 403]),
    ] {
        bench.suspends(whom);
        let arrived = origin.arrivals().len();
        assert_eq!(bench.statuses(), statuses, "{whom:?}");
        let passed = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(origin.arrivals().len(), arrived + passed, "a refused call left: {whom:?}");
        bench.resumes(whom);
        assert_eq!(bench.statuses(), [200, 200, 200], "{whom:?}");
    }
}

#[test]
fn a_suspended_agent_is_told_why_and_not_to_come_back() {
    let origin = Origin::start();
    let bench = Bench::start(&origin, None);
    bench.suspends(&["agent", "alice"]);
    let refused = bench.call("alice");
    assert_eq!(refused.field("x-should-retry"), Some("false"));
    let told = refused.json();
    assert_eq!(text_at(&told, "/code"), "identity.suspended");
    assert!(text_at(&told, "/detail").contains("incident 7"), "{told}");
    let record = bench.gate.audit.record("/keys/x");
    assert_eq!(record["refusal"], "identity.suspended");
    let listed = bench.run(&["suspend", "list"]);
    for text in ["agent/alice", "incident 7", "cluster", "command-line"] {
        assert!(listed.out.contains(text), "{listed:?}");
    }
}

#[test]
fn a_suspension_lasts_over_a_crash_and_ends_with_its_time() {
    let (origin, data) = (Origin::start(), tempfile::tempdir().expect("a directory"));
    let bench = Bench::start(&origin, Some(data.path()));
    bench.suspends(&["agent", "alice"]);
    bench.suspends(&["agent", "bob", "--for", "1s"]);
    bench.gate.kill();
    let bench = Bench::again(Some(data.path()));
    assert_eq!(bench.call("alice").status(), 403);
    wait_for("the end of a suspension", || (bench.call("bob").status() == 200).then_some(()));
    assert_eq!(bench.call("alice").status(), 403);
}

#[test]
fn a_name_that_nobody_has_is_refused_unless_it_is_forced() {
    let origin = Origin::start();
    let bench = Bench::start(&origin, None);
    let reason = ["--reason", "x"];
    let said = bench.run(&[&["suspend", "agent", "alcie"], reason.as_slice()].concat());
    assert_ne!(said.code, 0);
    assert!(said.err.contains("alcie"), "{said:?}");
    let forced = [&["suspend", "agent", "carol", "--force"], reason.as_slice()].concat();
    assert_eq!(bench.run(&forced).code, 0);
    let carol = json!({ "username": "carol", "plugins": { "key-auth": { "key": "carol-key" } } });
    bench.gate.put("consumers/carol", &carol);
    assert_eq!(bench.call("carol").status(), 403);
    assert_ne!(bench.run(&["resume", "agent", "dora"]).code, 0, "nobody suspended her");
    assert_ne!(bench.run(&["suspend", "agent", "alice"]).code, 0, "a reason is asked for");
}

/// An upstream that sends what it is given and then nothing, and keeps the connection.
fn stalling(sends: &'static str) -> Origin {
    Origin::serving(move |mut visit| {
        if visit.request().is_some() {
            visit.wire.send(sends);
            visit.wire.wait_for_end();
        }
    })
}

/// Suspends alice once her call has come so far, and returns what her client got before and after.
fn ended(
    origin: &Origin,
    (method, fields): (&str, &str),
    is_so_far: impl Fn(&mut Wire) -> bool,
) -> (Bench, Wire) {
    let bench = Bench::start(origin, None);
    let mut wire = bench.send(method, fields);
    wait_for("the call to be under way", || is_so_far(&mut wire).then_some(()));
    bench.suspends(&["team", "red"]);
    (bench, wire)
}

#[test]
fn a_request_at_the_upstream_ends_and_is_recorded() {
    let origin = stalling("");
    let (bench, mut wire) = ended(&origin, ("GET", ""), |_| !origin.arrivals().is_empty());
    assert_eq!(wire.answer("GET").expect("an answer").status(), 403);
    let record = bench.gate.audit.record("/keys/x");
    assert_eq!(record["refusal"], "identity.suspended");
}

#[test]
fn a_guarded_request_at_the_upstream_ends_and_is_not_sent_again() {
    let origin = stalling("");
    let keyed = ("POST", "content-length: 0\r\nidempotency-key: k\r\n");
    let (bench, mut wire) = ended(&origin, keyed, |_| !origin.arrivals().is_empty());
    assert_eq!(wire.answer("POST").expect("an answer").status(), 403);
    bench.resumes(&["team", "red"]);
    let again = bench.send(keyed.0, keyed.1).answer("POST").expect("an answer");
    assert_eq!(text_at(&again.json(), "/code"), "repeat.outcome_unknown", "{again}");
    assert_eq!(origin.arrivals().len(), 1);
}

#[test]
fn an_answer_that_streams_breaks_off() {
    let origin = stalling("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let (bench, mut wire) = ended(&origin, ("GET", ""), |wire| {
        wire.head().is_some_and(|head| head.status() == 200)
            && wire.chunk().as_deref() == Some(b"abc")
    });
    wire.wait_for_end();
    assert_eq!(bench.gate.audit.record("/keys/x")["ending"], "cut");
}

#[test]
fn a_websocket_closes() {
    let origin = stalling(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    let opening = "connection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";
    let (bench, mut wire) = ended(&origin, ("GET", opening), |wire| {
        wire.head().is_some_and(|head| head.status() == 101)
    });
    wire.wait_for_end();
    assert_eq!(bench.gate.audit.record("/keys/x")["ending"], "cut");
}

#[test]
fn a_request_that_waits_for_its_turn_is_refused() {
    let origin = Origin::start();
    let bench = Bench::start(&origin, None);
    let queue = json!({ "rate": 0.01, "burst": 2, "key": "remote_addr" });
    let route = json!({
        "uri": "/keys/*", "priority": 9, "upstream": origin.upstream(),
        "plugins": { "key-auth": {}, "limit-req": queue },
    });
    bench.gate.put("routes/slow", &route);
    assert_eq!(bench.call("alice").status(), 200);
    let mut wire = bench.send("GET", "");
    wait_for("a request to wait", || {
        bench.gate.numbers().contains("tollgate_queued 1").then_some(())
    });
    bench.suspends(&["agent", "alice"]);
    assert_eq!(wire.answer("GET").expect("an answer").status(), 403);
    assert_eq!(origin.arrivals().len(), 1);
}
