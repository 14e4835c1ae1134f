//! What agents see of answers: secrets of the API's own are taken out, and rules say what else.

use serde_json::{Value, json};

use crate::harness::{Gate, Message, Origin, Wire, at, text_at};

/// A gate before an upstream that speaks as Cloudflare's API does, with alice of the team ops and
/// bob of none.
struct Bench {
    gate: Gate,
    origin: Origin,
}

impl Bench {
    fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let bench = Self { gate: Gate::start(), origin: Origin::answering(answer) };
        let upstream = json!({ "nodes": { bench.origin.node(): 1 }, "api": "cloudflare" });
        bench.gate.carry(&upstream, &json!({ "uri": "/*", "plugins": { "key-auth": {} } }));
        bench.gate.put("consumer_groups/ops", &json!({ "plugins": {} }));
        let alice = json!({
            "username": "alice", "plugins": { "key-auth": { "key": "alice-key" } },
            "group_id": "ops",
        });
        bench.gate.put("consumers/alice", &alice);
        let bob = json!({ "username": "bob", "plugins": { "key-auth": { "key": "bob-key" } } });
        bench.gate.put("consumers/bob", &bob);
        bench
    }

    /// Always the same JSON.
    fn saying(body: &Value) -> Self {
        let body = body.to_string();
        Self::answering(move |_| answer("application/json", &body))
    }

    fn rule(&self, id: &str, rule: &Value) {
        self.gate.put(&format!("responses/{id}"), rule);
    }

    fn call(&self, agent: &str, method: &str, path: &str, fields: &str) -> Message {
        let mut wire = Wire::connect(&self.gate.http);
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\napikey: {agent}-key\r\n{fields}\
             content-length: 0\r\n\r\n"
        ));
        wire.answer(method).expect("an answer")
    }

    fn creates(&self, agent: &str) -> Message {
        self.call(agent, "POST", TOKENS, "")
    }
}

fn answer(media: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn minted() -> Value {
    json!({ "success": true, "result": { "id": "t1", "value": PLANTED, "name": "ci" } })
}

#[test]
fn a_secret_of_the_api_does_not_reach_an_agent() {
    let bench = Bench::saying(&minted());
    let got = bench.creates("bob");
    assert_eq!(got.status(), 200, "{got}");
    let said = got.json();
    assert_eq!(text_at(&said, "/result/value"), "[redacted by tollgate]");
    assert_eq!(text_at(&said, "/result/name"), "ci");
    assert!(!got.text().contains(PLANTED));
    let asked = bench.origin.arrivals().remove(0);
    assert_eq!(asked.field("accept-encoding"), Some("identity"));
    assert_eq!(bench.gate.audit.record(TOKENS)["status"], 200);
}

#[test]
fn other_calls_are_not_touched() {
    let bench = Bench::saying(&minted());
    let fields = "accept-encoding: br\r\n";
    let got = bench.call("bob", "GET", "/client/v4/zones", fields);
    assert_eq!(text_at(&got.json(), "/result/value"), PLANTED);
    assert_eq!(bench.origin.arrivals().remove(0).field("accept-encoding"), Some("br"));
}

#[test]
fn a_rule_shows_a_secret_to_those_it_binds() {
    let bench = Bench::saying(&minted());
    let shows = json!({
        "match": { "teams": ["ops"], "operations": ["user.tokens.create"] },
        "reveal": ["result.value"],
    });
    bench.rule("ops", &shows);
    assert_eq!(text_at(&bench.creates("alice").json(), "/result/value"), PLANTED);
    assert_ne!(text_at(&bench.creates("bob").json(), "/result/value"), PLANTED);
}

#[test]
fn a_rule_hides_more_and_leads_urls_through_the_gate() {
    let bench = Bench::saying(&json!({ "result": [
        { "url": "wss://tail.example/a", "email": "x@example.com", "id": 15 },
    ] }));
    bench.rule("r", &json!({
        "match": {}, "redact": ["result.email"],
        "rewrite": [{ "field": "result.url", "from": "wss://tail.example/", "to": "wss://gate.example/t/" }],
    }));
    let got = bench.call("bob", "GET", "/client/v4/zones", "");
    let item = at(&got.json(), "/result/0").clone();
    let expected = json!({
        "email": "[redacted by tollgate]", "url": "wss://gate.example/t/a", "id": 15,
    });
    assert_eq!(item, expected);
}

#[test]
fn a_rule_keeps_answers_back() {
    let bench = Bench::saying(&minted());
    bench.rule("no", &json!({ "match": { "effects": ["write"] }, "refuse": "nobody needs them" }));
    let refused = bench.creates("bob");
    assert_eq!(refused.status(), 403, "{refused}");
    assert_eq!(refused.field("x-should-retry"), Some("false"));
    assert_eq!(text_at(&refused.json(), "/code"), "response.refused");
    assert!(text_at(&refused.json(), "/detail").contains("nobody needs them"));
    assert_eq!(bench.call("bob", "GET", "/client/v4/zones", "").status(), 200);
}

#[test]
fn what_cannot_be_looked_through_does_not_get_back() {
    let broken = format!("{{\"result\":{{\"value\":\"{PLANTED}\"");
    let long =
        format!("{{\"result\":{{\"value\":\"{PLANTED}\",\"x\":\"{}\"}}}}", "x".repeat(9 << 20));
    let answers = [
        answer("application/json", &broken),
        answer("text/html", &broken),
        answer("application/json\r\ncontent-encoding: br", &minted().to_string()),
        answer("application/json", &long),
    ];
    for answer in answers {
        let bench = Bench::answering(move |_| answer.clone());
        let refused = bench.creates("bob");
        assert_eq!(refused.status(), 502, "{refused}");
        assert_eq!(text_at(&refused.json(), "/code"), "response.unreadable");
        assert!(!refused.text().contains(PLANTED));
    }
}

#[test]
fn a_page_of_an_intermediary_passes_where_no_call_was_done() {
    let page = "<h1>bad gateway</h1>";
    let bench = Bench::answering(move |_| {
        answer("text/html", page).replacen("200 OK", "502 Bad Gateway", 1)
    });
    let got = bench.creates("bob");
    assert_eq!((got.status(), got.text()), (502, page.to_owned()));
}

#[test]
fn what_is_no_json_passes_the_rules_of_a_document() {
    let bench = Bench::answering(|_| answer("application/octet-stream", "\u{0}binary"));
    bench.rule("r", &json!({ "match": {}, "redact": ["result.email"] }));
    let got = bench.call("bob", "GET", "/client/v4/zones", "");
    assert_eq!(got.text(), "\u{0}binary");
}

#[test]
fn a_repeat_gets_what_the_first_one_got() {
    let bench = Bench::saying(&minted());
    let key = "idempotency-key: k\r\n";
    let first = bench.call("bob", "POST", TOKENS, key);
    let again = bench.call("bob", "POST", TOKENS, key);
    assert_eq!(again.field("idempotent-replayed"), Some("true"));
    assert_eq!(again.text(), first.text());
    assert!(!again.text().contains(PLANTED));
    assert_eq!(bench.origin.arrivals().len(), 1);
}

#[test]
fn a_repeat_of_what_was_kept_back_is_not_sent_again() {
    let bench = Bench::saying(&minted());
    bench.rule("no", &json!({ "match": {}, "refuse": "no" }));
    let key = "idempotency-key: k\r\n";
    assert_eq!(bench.call("bob", "POST", TOKENS, key).status(), 403);
    let again = bench.call("bob", "POST", TOKENS, key);
    assert_eq!(text_at(&again.json(), "/code"), "repeat.answer_not_kept");
    assert_eq!(bench.origin.arrivals().len(), 1);
}

const TOKENS: &str = "/client/v4/user/tokens";
const PLANTED: &str = "planted-token-value";
