//! Policies, from a document to what leaves the gate.

use serde_json::{Value, json};

use crate::harness::{Gate, Message, Origin, Setup, Wire, text_at};

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";

/// A gate with an agent in a team, these policies, and an upstream that speaks Cloudflare's API.
struct Bench {
    gate: Gate,
    origin: Origin,
}

impl Bench {
    fn start(text: &str) -> Self {
        let origin = Origin::start();
        let gate = Gate::with(&Setup::default());
        let upstream = json!({ "nodes": { origin.node(): 1 }, "api": "cloudflare" });
        gate.carry(&upstream, &json!({ "plugins": { "key-auth": {} } }));
        gate.put("teams/dns", &json!({}));
        let agent = json!({
            "username": "alice", "group_id": "dns",
            "plugins": { "key-auth": { "key": "alice-key" } },
        });
        gate.put("consumers/alice", &agent);
        gate.put("zones/example.com", &json!({ "zone_id": ZONE }));
        gate.put("policies/p", &json!({ "text": text }));
        Self { gate, origin }
    }

    /// The answer to a call with further header lines.
    fn call(&self, (method, path): (&str, &str), fields: &str, body: &str) -> Message {
        let mut wire = Wire::connect(&self.gate.http);
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\napikey: alice-key\r\n{fields}");
        wire.send(format!("{head}content-length: {length}\r\n\r\n{body}"));
        wire.final_answer().expect("an answer")
    }

    #[track_caller]
    fn check(&self, call: (&str, &str), body: &str, status: u16, code: &str) -> Value {
        self.check_with(call, "content-type: application/json\r\n", body, (status, code))
    }

    /// Whether a call is answered so; what was refused never arrives.
    #[track_caller]
    fn check_with(
        &self,
        call: (&str, &str),
        fields: &str,
        body: &str,
        (status, code): (u16, &str),
    ) -> Value {
        let before = self.origin.arrivals().len();
        let answer = self.call(call, fields, body);
        assert_eq!(answer.status(), status, "{call:?} {body} {answer}");
        let arrived = self.origin.arrivals().len() - before;
        assert_eq!(arrived, usize::from(status == 200), "{call:?} {body}");
        if status == 200 {
            return Value::Null;
        }
        let told = answer.json();
        assert_eq!(text_at(&told, "/code"), code, "{told}");
        told
    }
}

const TEAM: &str = r#"
    @id("records") permit (principal in Team::"dns", action in Action::"dns.records",
        resource in Zone::"example.com");
    @id("no-mx") @reason("mail is not ours")
    forbid (principal, action == Action::"dns.records.create", resource)
        when { context.body has type && context.body.type == "MX" };"#;

fn records() -> String {
    format!("/client/v4/zones/{ZONE}/dns_records")
}

#[test]
fn what_policies_permit_leaves_and_nothing_else() {
    let bench = Bench::start(TEAM);
    let (records, zone) = (records(), format!("/client/v4/zones/{ZONE}"));
    bench.check(("POST", &records), r#"{"type":"A"}"#, 200, "");
    let sent = bench.origin.arrivals();
    assert_eq!(sent[0].body, br#"{"type":"A"}"#);
    let told = bench.check(("POST", &records), r#"{"type":"MX"}"#, 403, "policy.refused");
    assert_eq!([&told["policy"], &told["reason"]], ["p/no-mx", "mail is not ours"]);
    let told = bench.check(("DELETE", &zone), "", 403, "policy.refused");
    assert_eq!(told.get("policy"), None);
    bench.check(("GET", "/client/v4/nowhere"), "", 403, "policy.ask");
    bench.check(("POST", "/client/v4/nowhere"), "", 403, "policy.refused");
    let other = records.replace("023e", "123e");
    bench.check(("GET", &other), "", 403, "policy.refused");
    let record = bench.gate.audit.record(&zone);
    assert_eq!([&record["decision"], &record["refusal"]], ["refuse", "policy.refused"]);
    let numbers = bench.gate.numbers();
    let line = "tollgate_policy_decisions_total{decision=\"permit\",mode=\"enforced\"} 1";
    assert!(numbers.lines().any(|other| other == line), "no {line} in\n{numbers}");
}

#[test]
fn a_body_that_cannot_be_judged_is_refused_and_never_skipped() {
    let bench = Bench::start(TEAM);
    let records = records();
    let post = ("POST", &*records);
    for body in [
        "{",
        "[]",
        "type=MX",
        r#"{"type":1}"#,
        r#"{"type":"A","type":"MX"}"#,
        r#"{"type":"A","TYPE":"MX"}"#,
    ] {
        bench.check(post, body, 400, "policy.body_unreadable");
    }
    let long = format!(r#"{{"type":"A","comment":"{}"}}"#, "x".repeat(256 << 10));
    bench.check(post, &long, 413, "policy.body_too_large");
    let a = r#"{"type":"A"}"#;
    for fields in [
        "content-type: multipart/form-data; boundary=x\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-type: application/json\r\ncontent-type: application/json\r\n",
        "content-type: application/json; charset=utf-16\r\n",
        "content-type: application/json\r\ncontent-encoding: gzip\r\n",
    ] {
        bench.check_with(post, fields, a, (400, "policy.body_unreadable"));
    }
    for fields in
        ["", "content-type: text/plain\r\n", "content-type: Application/JSON; charset=UTF-8\r\n"]
    {
        bench.check_with(post, fields, a, (200, ""));
    }
}

#[test]
fn no_other_call_arrives_than_the_one_that_is_judged() {
    let bench = Bench::start(TEAM);
    let records = records();
    let get = ("GET", &*records);
    bench.check(get, "", 200, "");
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let fields = format!("{name}: DELETE\r\n");
        bench.check_with(get, &fields, "", (400, "request.header_invalid"));
    }
    bench.check_with(
        get,
        "X-Original-URL: /client/v4/zones\r\n",
        "",
        (400, "request.header_invalid"),
    );
    for (path, code) in [
        (records.replace("/zones/", "//zones/"), "request.target_ambiguous"),
        (format!("{records}/../../{ZONE}"), "request.target_ambiguous"),
        (format!("{records}/%2e%2e/x"), "request.target_ambiguous"),
    ] {
        bench.check(("DELETE", &path), "", 400, code);
    }
    // Another spelling of a call is the same call.
    let zone = format!("/client/v4/zone%73/{ZONE}");
    bench.check(("DELETE", &zone), "", 403, "policy.refused");
    // What is no spelling of a known call is unknown.
    for path in [format!("{records}/"), records.replace("dns_records", "DNS_RECORDS")] {
        bench.check(("POST", &path), r#"{"type":"A"}"#, 403, "policy.refused");
    }
}

#[test]
fn a_document_that_cannot_be_understood_changes_nothing_and_says_where() {
    let bench = Bench::start(TEAM);
    let wrong = json!({ "text": "permit (principal,\n  action == Action::\"dns.record.list\", resource);" });
    let answer =
        bench.gate.administer(&["-X", "PUT", "-d", &wrong.to_string()], "/apisix/admin/policies/q");
    assert_eq!(answer.status(), 400, "{answer}");
    let told = answer.to_string();
    for part in ["line 2:", "dns.record.list", "dns.records.list"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    bench.check(("GET", &records()), "", 200, "");
}

#[test]
fn a_document_without_policies_judges_nothing_and_a_disabled_one_permits_nothing() {
    let bench = Bench::start(TEAM);
    let all = json!({ "text": "permit (principal, action, resource);", "disabled": true });
    bench.gate.put("policies/p", &all);
    bench.check(("GET", &records()), "", 403, "policy.refused");
    let deleted = bench.gate.administer(&["-X", "DELETE"], "/apisix/admin/policies/p");
    assert_eq!(deleted.status(), 200, "{deleted}");
    bench.check(("DELETE", "/client/v4/nowhere"), "", 200, "");
}

#[test]
fn what_costs_too_much_is_asked_about_also_where_no_budget_counts_it() {
    let bench = Bench::start(
        r#"
        permit (principal, action, resource)
            when { context.price has USD && context.price.USD.lessThanOrEqual(decimal("15.00")) };
        @id("dear") @ask("finance") permit (principal, action, resource)
            when { context.price has USD && context.price.USD.greaterThan(decimal("15.00")) };"#,
    );
    let records = records();
    bench.check(("POST", &records), r#"{"amount":1}"#, 403, "policy.refused");
    let hold = json!({ "from": "request", "pointer": "/amount" });
    bench.gate.put("prices/all", &json!({ "match": {}, "unit": "USD", "hold": hold }));
    bench.check(("POST", &records), r#"{"amount":15}"#, 200, "");
    let told = bench.check(("POST", &records), r#"{"amount":15.00001}"#, 403, "policy.ask");
    assert_eq!([&told["policy"], &told["group"]], ["p/dear", "finance"]);
    bench.check(("POST", &records), r#"{"amount":"?"}"#, 402, "budget.price_unknown");
}
