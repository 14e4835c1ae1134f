//! Safe repeats: a mutating request that comes again has its effect once, and one answer.

mod crash;
mod disk;
mod fleet;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::call::Call;
use crate::harness::{Gate, Message, Origin, Setup, text_at, wait_for};

/// A gate before an origin that counts its answers. Paths below `/held/` are answered when the test
/// says so.
struct Bench {
    gate: Gate,
    origin: Origin,
    open: Arc<AtomicBool>,
}

impl Bench {
    fn start() -> Self {
        Self::with(&json!(true))
    }

    /// With this `idempotency` of the route.
    fn with(idempotency: &Value) -> Self {
        let (origin, open) = origin();
        let gate = Gate::start();
        carry(&gate, &origin, idempotency);
        Self { gate, origin, open }
    }

    fn post(&self, path: &str, fields: &[&str], body: &str) -> Message {
        post(&self.gate, path, fields, body)
    }

    fn arrivals(&self) -> usize {
        self.origin.arrivals().len()
    }
}

/// An origin that says which answer it gives. By path: `/late` comes again later, `/full` has too
/// many, `/broken` fails, `/stream` never ends.
fn origin() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::<AtomicBool>::default();
    let held = Arc::clone(&open);
    let origin = Origin::serving(move |mut visit| {
        let mut nth = 0;
        while let Some(request) = visit.request() {
            nth += 1;
            let path = request.target().to_owned();
            if path.starts_with("/held/") {
                wait_for("the test to let it go", || held.load(Ordering::SeqCst).then_some(()));
            }
            let (status, field) = match &*path {
                "/late" => ("503 Later", "retry-after: 1\r\n"),
                "/full" => ("429 Full", ""),
                "/broken" => ("503 Broken", ""),
                _ => ("201 Created", "x-made: yes\r\n"),
            };
            let body = format!("{path} {} {nth}", visit.nth);
            let length = body.len();
            let whole = if path == "/stream" {
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n"
                    .to_owned()
            } else {
                format!("HTTP/1.1 {status}\r\n{field}content-length: {length}\r\n\r\n{body}")
            };
            if visit.wire.try_send(whole).is_err() {
                return;
            }
        }
    });
    (origin, open)
}

/// Carries two agents' requests to the origin.
fn carry(gate: &Gate, origin: &Origin, idempotency: &Value) {
    for name in ["alice", "bob"] {
        let key = json!({ "key-auth": { "key": format!("key-of-{name}") } });
        gate.put(&format!("consumers/{name}"), &json!({ "username": name, "plugins": key }));
    }
    let route = json!({ "plugins": { "key-auth": {} }, "idempotency": idempotency });
    gate.carry(&origin.upstream(), &route);
}

fn post(gate: &Gate, path: &str, fields: &[&str], body: &str) -> Message {
    try_post(gate, path, fields, body).expect("an answer")
}

fn try_post(gate: &Gate, path: &str, fields: &[&str], body: &str) -> std::io::Result<Message> {
    let is_bob = fields.contains(&BOB);
    let fields = if is_bob { fields.to_vec() } else { [&[ALICE], fields].concat() };
    let patience = Duration::from_secs(60);
    Call { method: "POST", path, fields: &fields, body, patience }.ask(&gate.http)
}

fn is_replayed(answer: &Message) -> bool {
    answer.field("idempotent-replayed") == Some("true")
}

/// The code of a refusal that no SDK repeats.
#[track_caller]
fn final_refusal(answer: &Message) -> (u16, String) {
    assert_eq!(answer.field("x-should-retry"), Some("false"), "{answer}");
    answer.refusal()
}

const ALICE: &str = "apikey: key-of-alice";
const BOB: &str = "apikey: key-of-bob";
const KEY: &str = "idempotency-key: \"one\"";
const FIRST: &str = "x-stainless-retry-count: 0";
const SECOND: &str = "x-stainless-retry-count: 1";
const THIRD: &str = "x-stainless-retry-count: 2";

#[test]
fn a_request_that_comes_again_with_its_key_gets_the_first_answer() {
    let bench = Bench::start();
    let first = bench.post("/a?b=c", &[KEY], "body");
    assert_eq!((first.status(), is_replayed(&first)), (201, false), "{first}");
    let again = bench.post("/a?b=c", &["idempotency-key: one"], "body");
    assert_eq!((again.status(), is_replayed(&again)), (201, true), "{again}");
    assert_eq!((again.text(), again.field("x-made")), (first.text(), Some("yes")));
    assert_eq!(bench.arrivals(), 1);
    let records = bench.gate.audit.records_of("/a", 2);
    assert_eq!(records[0].get("replayed"), None);
    assert_eq!(records[1]["replayed"], true);
    assert!(bench.gate.numbers().contains("tollgate_replayed_total 1"));
    // Another agent's key is another key, and another key another request.
    assert!(!is_replayed(&bench.post("/a?b=c", &[KEY, BOB], "body")));
    assert!(!is_replayed(&bench.post("/a?b=c", &["idempotency-key: two"], "body")));
    assert_eq!(bench.arrivals(), 3);
}

#[test]
fn a_key_belongs_to_one_request() {
    let bench = Bench::with(&json!({ "body_max": 100 }));
    bench.post("/a", &[KEY], "body");
    for (path, body) in [("/a", "other"), ("/b", "body"), ("/a?c", "body")] {
        let refused = final_refusal(&bench.post(path, &[KEY], body));
        assert_eq!(refused, (422, "request.key_reused".to_owned()));
    }
    let refused = final_refusal(&bench.post("/a", &["idempotency-key: a b"], ""));
    assert_eq!(refused, (400, "request.key_invalid".to_owned()));
    let refused = final_refusal(&bench.post("/a", &["idempotency-key: l"], &"x".repeat(101)));
    assert_eq!(refused, (413, "request.key_body_too_large".to_owned()));
    assert_eq!(bench.arrivals(), 1);
    assert_eq!(bench.post("/a", &["idempotency-key: l"], &"x".repeat(100)).status(), 201);
}

#[test]
fn the_tries_of_an_sdk_have_one_effect() {
    let bench = Bench::start();
    for path in ["/a", "/broken"] {
        let first = bench.post(path, &[FIRST], "body");
        let again = bench.post(path, &[SECOND], "body");
        assert_eq!((again.status(), is_replayed(&again)), (first.status(), true), "{again}");
        assert_eq!(again.text(), first.text());
    }
    assert_eq!(bench.arrivals(), 2);
    // Whoever begins anew wants it done again.
    assert!(!is_replayed(&bench.post("/a", &[FIRST], "body")));
    // And what was never seen is no repeat.
    assert!(!is_replayed(&bench.post("/b", &[THIRD], "body")));
    assert_eq!(bench.arrivals(), 4);
}

#[test]
fn what_the_upstream_refused_may_be_tried_again() {
    let bench = Bench::start();
    for path in ["/late", "/full"] {
        for fields in [[FIRST], [SECOND], [THIRD], [KEY], [KEY]] {
            assert!(!is_replayed(&bench.post(path, &fields, "body")), "{path} {fields:?}");
        }
    }
    assert_eq!(bench.arrivals(), 10);
}

#[test]
fn many_at_once_have_one_effect_and_equal_answers() {
    let bench = Bench::start();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let ask = || bench.post("/held/a", &[KEY], "body").text();
        let asked: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        wait_for("all to be under way", || {
            bench.gate.numbers().contains("tollgate_guarded 20").then_some(())
        });
        bench.open.store(true, Ordering::SeqCst);
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    assert_eq!(bench.arrivals(), 1);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[test]
fn a_request_whose_client_hangs_up_is_carried_to_its_end() {
    let bench = Bench::start();
    let gave_up = Call {
        method: "POST",
        path: "/held/a",
        fields: &[ALICE, FIRST],
        body: "body",
        patience: Duration::from_millis(500),
    };
    assert!(gave_up.ask(&bench.gate.http).is_err());
    wait_for("the request to arrive", || (bench.arrivals() == 1).then_some(()));
    bench.open.store(true, Ordering::SeqCst);
    let again = bench.post("/held/a", &[SECOND], "body");
    assert_eq!((again.status(), is_replayed(&again)), (201, true), "{again}");
    assert_eq!(bench.arrivals(), 1);
}

#[test]
fn a_stream_is_passed_on_as_it_comes_and_told_of_by_its_status() {
    let bench = Bench::start();
    let head = format!(
        "POST /stream HTTP/1.1\r\nhost: {}\r\n{ALICE}\r\n{KEY}\r\ncontent-length: 0",
        bench.gate.http
    );
    let mut wire = crate::harness::Wire::connect(&bench.gate.http);
    wire.send(format!("{head}\r\n\r\n"));
    assert_eq!(wire.head().expect("a head").status(), 200);
    assert_eq!(wire.chunk().expect("a chunk"), b"data:");
    let refused = bench.post("/stream", &[KEY], "");
    assert_eq!(final_refusal(&refused), (503, "repeat.answer_not_kept".to_owned()));
    assert!(text_at(&refused.json(), "/detail").contains("200"), "{refused}");
    assert_eq!(bench.arrivals(), 1);
}

#[test]
fn a_body_too_large_to_compare_goes_whole_and_unprotected() {
    let bench = Bench::with(&json!({ "body_max": 10 }));
    let body = "0123456789".repeat(1_000);
    for fields in [[FIRST], [SECOND]] {
        assert_eq!(bench.post("/a", &fields, &body).status(), 201);
    }
    let chunks: String = (0..4).map(|_| format!("8\r\n{}\r\n", &body[..8])).collect();
    let mut wire = crate::harness::Wire::connect(&bench.gate.http);
    wire.send(format!(
        "POST /a HTTP/1.1\r\nhost: a\r\n{ALICE}\r\n{FIRST}\r\ntransfer-encoding: chunked\r\n\r\n\
         {chunks}0\r\n\r\n"
    ));
    assert_eq!(wire.final_answer().expect("an answer").status(), 201);
    let arrived: Vec<usize> =
        bench.origin.arrivals().iter().map(|request| request.body.len()).collect();
    assert_eq!(arrived, [10_000, 10_000, 32]);
}

#[test]
fn a_body_that_waits_for_its_turn_is_counted_until_it_has_left() {
    let bench = Bench::start();
    let slow = json!({ "rate": 2, "burst": 10, "key": "remote_addr" });
    let route = json!({
        "uri": "/queued/*", "upstream_id": "only", "idempotency": true,
        "plugins": { "key-auth": {}, "limit-req": slow },
    });
    bench.gate.put("routes/queued", &route);
    let holds = |bytes: usize| {
        let line = format!("tollgate_guarded_bytes {bytes}");
        bench.gate.numbers().lines().any(|known| *known == *line).then_some(())
    };
    let body = "x".repeat(100_000);
    std::thread::scope(|scope| {
        let ask = |key| bench.post("/queued/a", &[key], &body).status();
        let asked: Vec<_> = ["idempotency-key: a", "idempotency-key: b", "idempotency-key: c"]
            .map(|key| scope.spawn(move || ask(key)))
            .into();
        wait_for("one to wait", || {
            bench.gate.numbers().contains("tollgate_queued 1").then_some(())
        });
        wait_for("it to be counted", || holds(100_000));
        asked.into_iter().for_each(|asked| assert_eq!(asked.join().expect("an answer"), 201));
    });
    wait_for("all to have left", || holds(0));
}

#[test]
fn only_routes_of_known_apis_care_unless_told_otherwise() {
    let (origin, _open) = origin();
    let gate = Gate::start();
    carry(&gate, &origin, &json!(true));
    for (route, upstream, expected) in [
        (json!({}), json!({}), false),
        (json!({}), json!({ "api": "cloudflare" }), true),
        (json!({ "idempotency": false }), json!({ "api": "cloudflare" }), false),
        (json!({ "idempotency": true }), json!({}), true),
    ] {
        let mut whole = origin.upstream();
        whole.as_object_mut().expect("an object").extend(upstream.as_object().cloned().unwrap());
        let mut members = json!({ "plugins": { "key-auth": {} } });
        members.as_object_mut().expect("an object").extend(route.as_object().cloned().unwrap());
        gate.carry(&whole, &members);
        let key = format!("idempotency-key: {}", route.to_string().len() + whole.to_string().len());
        post(&gate, "/a", &[&key], "");
        assert_eq!(is_replayed(&post(&gate, "/a", &[&key], "")), expected, "{route} {upstream}");
    }
    // Who is nobody has no requests of his own.
    gate.carry(&origin.upstream(), &json!({ "idempotency": true }));
    for _ in 0..2 {
        assert!(!is_replayed(&post(&gate, "/a", &["idempotency-key: k"], "")));
    }
}
