//! The operation of a call, from its path to the record, the numbers and the upstream.

use serde_json::{Value, json};

use crate::harness::{Gate, Origin, Setup};

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";

/// A gate that strips a prefix before an upstream with these members.
struct Bench {
    gate: Gate,
    origin: Origin,
}

impl Bench {
    fn start(members: &Value, route: &Value) -> Self {
        let origin = Origin::start();
        let resolve = format!("api.cloudflare.com:80={}", origin.node());
        let settings = json!({ "cores": 1 });
        let arguments = ["--resolve", &resolve];
        let setup = Setup { settings: Some(&settings), arguments: &arguments, ..Setup::default() };
        let gate = Gate::with(&setup);
        let mut upstream = origin.upstream();
        let all = upstream.as_object_mut().expect("an object");
        all.extend(members.as_object().cloned().unwrap_or_default());
        gate.carry(&upstream, route);
        Self { gate, origin }
    }

    /// The operation that is recorded for a call.
    fn recorded(&self, method: &str, path: &str) -> Value {
        let answer = self.gate.ask(&["-X", method, "--path-as-is"], path);
        assert_eq!(answer.status(), 200, "{answer}");
        let sent = path.split('?').next().unwrap_or_default();
        self.gate.audit.record(sent).get("operation").cloned().unwrap_or_default()
    }
}

fn stripped() -> Value {
    json!({ "plugins": { "proxy-rewrite": { "regex_uri": ["^/ai/(.*)", "/$1"] } } })
}

#[test]
fn a_call_is_recorded_and_counted_under_the_operation_that_the_upstream_runs() {
    let bench = Bench::start(&json!({ "api": "cloudflare" }), &stripped());
    for (method, path, operation) in [
        ("GET", "/ai/client/v4/zones?page=2".to_owned(), "zones.list"),
        ("DELETE", format!("/ai/client/v4/zones/{ZONE}/dns_records/{ZONE}"), "dns.records.delete"),
        ("GET", format!("/client/v4/zones/{ZONE}/dns_records/%65xport"), "dns.records.export"),
        ("DELETE", format!("/client/v4/zones/{ZONE}/"), "unknown"),
        ("GET", "/elsewhere".to_owned(), "unknown"),
        ("PURGE", "/client/v4/zones".to_owned(), "unknown"),
    ] {
        assert_eq!(bench.recorded(method, &path), operation, "{method} {path}");
    }
    let arrived = bench.origin.arrivals();
    assert_eq!(arrived[0].target(), "/client/v4/zones?page=2");
    let numbers = bench.gate.numbers();
    for line in [
        "tollgate_operations_total{operation=\"dns.records.delete\"} 1",
        "tollgate_operations_total{operation=\"unknown\"} 3",
    ] {
        assert!(numbers.lines().any(|other| other == line), "no {line} in\n{numbers}");
    }
}

#[test]
fn a_method_that_is_rewritten_names_the_operation() {
    let rewrite = json!({ "method": "GET" });
    let route = json!({ "plugins": { "proxy-rewrite": rewrite } });
    let bench = Bench::start(&json!({ "api": "cloudflare" }), &route);
    assert_eq!(bench.recorded("DELETE", &format!("/client/v4/zones/{ZONE}")), "zones.get");
}

#[test]
fn an_upstream_speaks_the_api_of_its_host_unless_the_document_says_otherwise() {
    let named = json!({ "nodes": { "api.cloudflare.com": 1 } });
    let bench = Bench::start(&named, &json!({}));
    assert_eq!(bench.recorded("GET", "/client/v4/zones"), "zones.list");
    let bench = Bench::start(&json!({}), &json!({}));
    assert_eq!(bench.recorded("GET", "/client/v4/zones"), Value::Null);
    let silent = json!({ "nodes": { "api.cloudflare.com": 1 }, "api": "none" });
    let bench = Bench::start(&silent, &json!({}));
    assert_eq!(bench.recorded("GET", "/client/v4/zones"), Value::Null);
}

#[test]
fn a_limit_counts_each_operation_and_each_upstream_for_itself() {
    let bench = Bench::start(&json!({ "api": "cloudflare" }), &json!({}));
    let slow =
        |per: &str, burst: u32| json!({ "per": per, "rate": 1, "interval": "1h", "burst": burst });
    bench.gate.put("limits/call", &slow("operation", 2));
    bench.gate.put("limits/all", &slow("upstream", 9));
    bench.gate.put("upstreams/other", &bench.origin.upstream());
    bench.gate.put("routes/other", &json!({ "uri": "/other/*", "upstream_id": "other" }));
    let zone = format!("/client/v4/zones/{ZONE}");
    for (path, passes) in [
        ("/client/v4/zones", 2),
        (&*zone, 2),
        // Two paths, one operation.
        ("/client/v4/zones?page=2", 0),
        // What has no name counts together.
        ("/elsewhere", 2),
        ("/elsewhere/else", 0),
        // Without names there is nothing to count.
        ("/other/client/v4/zones", 9),
    ] {
        let passed = (0..20).take_while(|_| bench.gate.ask(&[], path).status() == 200).count();
        assert_eq!(passed, passes, "{path}");
    }
}
