//! What is counted is what is shown: the credential of the node that a call goes to.

use http::Request;
use hyper::body::Incoming;
use serde_json::json;

use crate::harness::secure::whole;
use crate::harness::{Certificate, Gate, Message, Origin, Secure, Setup, get};

/// Two nodes of one upstream, each with a credential of its own that the gate keeps.
struct Bench {
    gate: Gate,
    _nodes: Vec<Secure>,
}

impl Bench {
    /// `up` says how many of the nodes answer.
    fn start(up: usize, quota: u32) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let certificate = Certificate::of(&["one.example.com", "two.example.com"]);
        let (ca, _) = certificate.write(directory.path());
        let mut nodes: Vec<Secure> = (0..2)
            .map(|_| {
                Secure::start(&certificate, &["http/1.1"], |request| async move { shown(&request) })
            })
            .collect();
        let leads: Vec<String> = ["one", "two"]
            .iter()
            .zip(&nodes)
            .map(|(name, node)| format!("{name}.example.com:443={}", node.node()))
            .collect();
        nodes.truncate(up);
        let kept = ["one", "two"]
            .map(|name| format!("{name}.example.com=$env://TOKEN_{}", name.to_uppercase()));
        let mut arguments = vec!["--upstream-ca", ca.to_str().expect("a path in text")];
        leads.iter().for_each(|lead| arguments.extend(["--resolve", lead]));
        kept.iter().for_each(|kept| arguments.extend(["--credential", kept]));
        let variables = [("TOKEN_ONE", "first-token"), ("TOKEN_TWO", "second-token")];
        let settings = json!({ "cores": 1 });
        let gate = Gate::with(&Setup {
            arguments: &arguments,
            variables: &variables,
            settings: Some(&settings),
            ..Setup::default()
        });
        let upstream = json!({
            "scheme": "https", "retries": 1,
            "nodes": { "one.example.com:443": 1, "two.example.com:443": 1 },
        });
        gate.carry(&upstream, &json!({ "plugins": { "key-auth": {} } }));
        let agent = json!({ "username": "bot", "plugins": { "key-auth": { "key": "bot-key" } } });
        gate.put("consumers/bot", &agent);
        let quota = json!({
            "match": { "hosts": ["one.example.com"] }, "quota": quota, "window": "1h",
            "burst": quota, "queue": { "deadline": "1s" },
        });
        gate.put("upstream_quotas/both", &quota);
        Self { gate, _nodes: nodes }
    }

    /// The tokens that nodes were shown, by as many calls as nobody refuses.
    fn shown(&self) -> Vec<String> {
        let call = || get(&self.gate.http, "/", &["apikey: bot-key"]);
        let answers = std::iter::repeat_with(call).take(20);
        answers
            .take_while(|answer| answer.status() == 200)
            .map(|answer: Message| answer.text())
            .collect()
    }
}

/// Answers with the token that it was shown.
fn shown(request: &Request<Incoming>) -> crate::harness::secure::Answer {
    let token = request.headers().get("authorization").and_then(|token| token.to_str().ok());
    whole(token.unwrap_or_default().trim_start_matches("Bearer ").to_owned())
}

#[test]
fn nodes_that_are_shown_two_credentials_are_counted_by_two() {
    let (first, second) = ("first-token", "second-token");
    assert_eq!(Bench::start(2, 3).shown(), [first, second, first, second, first, second]);
}

#[test]
fn a_call_that_goes_to_another_node_is_counted_by_what_that_is_shown() {
    assert_eq!(Bench::start(1, 4).shown(), ["first-token"; 4]);
}

#[test]
fn a_quota_that_is_renamed_or_changed_goes_on_with_the_calls_that_were_made() {
    let origin = Origin::start();
    let gate = Gate::before(&origin.upstream());
    let quota = |calls: u32, window: &str| {
        json!({
            "match": { "upstreams": ["only"] }, "per": "upstream", "quota": calls,
            "window": window, "burst": calls,
        })
    };
    let call = || get(&gate.http, "/", &[]);
    gate.put("upstream_quotas/first", &quota(2, "1h"));
    assert_eq!([call(), call(), call()].map(|answer| answer.status()), [200, 200, 429]);
    gate.put("upstream_quotas/second", &quota(2, "1h"));
    let path = "/apisix/admin/upstream_quotas/first";
    assert_eq!(gate.administer(&["-X", "DELETE"], path).status(), 200);
    assert_eq!(call().refusal(), (429, "quota.exceeded".to_owned()));
    gate.put("upstream_quotas/second", &quota(10_000, "2h"));
    // Both that were made, and itself.
    let answer = call();
    let rest = answer.field("ratelimit").unwrap_or_default();
    assert!(rest.starts_with("\"upstream\";r=9997;"), "{answer}");
}
