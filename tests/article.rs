//! The article's commands, as printed.

use serde_json::Value;

use crate::harness::{Demo, curl, wait_for};

/// The article's own body, letter by letter.
const BODY: &str = r#"{ "uri": "/ai-cloudflare/*", "name": "AI Agent Cloudflare Proxy", "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"], "upstream": { "type": "roundrobin", "nodes": { "api.cloudflare.com:443": 1 }, "scheme": "https" }, "plugins": { "limit-req": { "rate": 10, "burst": 5, "key": "remote_addr", "rejected_code": 429, "allow_degradation": true }, "proxy-rewrite": { "regex_uri": ["^/ai-cloudflare/(.*)", "/$1"] }, "jwt-auth": {}, "syslog": { "host": "127.0.0.1", "port": 514, "log_format": "json" } } }"#;

#[test]
fn the_articles_put_is_taken_as_printed_and_does_what_the_article_says() {
    let demo = Demo::start();
    let put = ["-H", "Content-Type: application/json", "-X", "PUT", "-d", BODY];
    let answer = demo.administer(&put, "/apisix/admin/routes/cloudflare-ai-agent");
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json()["key"], "/apisix/routes/cloudflare-ai-agent");

    // The node keeps the real credential for the API's host, so the bare route works.
    let answer = demo.ask(&["-X", "GET"], "/user/tokens");
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json()["success"], true);
    let log = demo.arrivals();
    let arrived = last_arrival(&log);
    let text = arrived.to_string();
    assert!(!text.contains(&demo.token), "{text}");
    let text = text.to_ascii_lowercase();
    assert!(text.contains("/client/v4/user/tokens"), "{text}");
    assert!(!text.contains("ai-cloudflare"), "{text}");
    assert!(text.contains("bearer cfut_"), "{text}");
    assert!(!text.contains("x-consumer"), "{text}");
}

/// Whoever may write routes could otherwise lend the real credential to strangers.
#[test]
fn the_credential_of_a_host_goes_nowhere_else_and_never_along_with_a_stranger() {
    let demo = Demo::start();
    let upstream = |node: &str, more: &str| {
        format!(r#""upstream":{{"scheme":"https","nodes":{{"{node}":1}}{more}}}"#)
    };
    let api = "api.cloudflare.com:443";
    let rewrite = r#""proxy-rewrite":{"regex_uri":["^/x/(.*)","/$1"]"#;
    for (auth, upstream) in [
        // Nobody is asked who they are.
        ("", upstream(api, "")),
        // Nobody has checked who answers.
        (r#""jwt-auth":{},"#, upstream(api, r#","tls":{"verify":false}"#)),
        // It is another server.
        (r#""jwt-auth":{},"#, upstream(&demo.upstream, r#","tls":{"verify":false}"#)),
        // The client's word decides which customer of the API's servers is asked.
        (r#""jwt-auth":{},"#, upstream(api, r#","pass_host":"pass""#)),
        // The upstream names its own.
        (r#""jwt-auth":{},"#, upstream(api, r#","credential":"wrong""#)),
    ] {
        let body = format!(r#"{{"uri":"/x/*",{upstream},"plugins":{{{auth}{rewrite}}}}}}}"#);
        let put = demo.administer(&["-X", "PUT", "-d", &body], "/admin/routes/x");
        assert!(matches!(put.status(), 200 | 201), "{body}: {put:?}");
        let bearer = format!("Authorization: Bearer {}", demo.token);
        let url = format!("http://{}/x/client/v4/user/tokens/verify", demo.http);
        let answer = curl(&["-H", &bearer, &url]);
        assert!(matches!(answer.status(), 400 | 401 | 403), "{body}: {answer:?}");
    }
}

#[test]
fn without_a_token_the_answer_is_401_and_nothing_arrives() {
    let demo = Demo::start();
    let answer = curl(&[&demo.url("/user/tokens/verify")]);
    assert_eq!(answer.status(), 401, "{answer:?}");
    assert_eq!(answer.json()["code"], "identity.refused");
    assert_eq!(answer.json()["success"], false);
    assert_eq!(answer.field("x-should-retry"), Some("false"));
    assert!(answer.field("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    assert!(!demo.arrivals().to_string().contains("/client/v4"), "nothing may arrive");
}

#[test]
fn a_call_goes_through_with_the_real_credential_and_is_recorded() {
    let demo = Demo::start();
    let answer = demo.ask(&[], "/user/tokens/verify");
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json()["success"], true);
    let id = answer.field("x-tollgate-request-id").expect("a request id").to_owned();
    assert!(answer.field("ratelimit").is_some_and(|value| value.contains("limit-req")));
    let line = demo.audit.line(&id);
    let record: Value = serde_json::from_str(&line).expect("a record is JSON");
    assert_eq!(record["agent"], "alice");
    assert_eq!(record["status"], 200);
    assert!(!line.contains(&demo.token), "a record holds no token");
}

#[test]
fn of_twenty_at_once_six_pass_in_turn_and_the_rest_get_429() {
    let demo = Demo::start();
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || demo.ask(&[], "/zones");
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let passed = answers.iter().filter(|answer| answer.status() == 200).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() == 429).collect();
    assert_eq!(passed + refused.len(), 20);
    // Twenty clients on a busy machine do not come in one instant: some tokens refill meanwhile.
    assert!((6..20).contains(&passed), "{passed} passed");
    for answer in refused {
        assert_eq!(answer.json()["code"], "limit.exceeded");
        assert!(answer.field("retry-after").is_some());
        assert!(answer.field("retry-after-ms").is_some());
    }
}

/// A request must never reach a resource other than the one that was judged.
#[test]
fn what_two_parsers_could_read_differently_is_refused_and_does_not_arrive() {
    let demo = Demo::start();
    for path in [
        "/zones/../user",
        "/zones/%2e%2e/user",
        "/zones/.%2E/user",
        "/zones//x",
        "/zones/%2e/x",
        "/a%00b",
        "/a%0ab",
        "/zones/..;/user",
        "/zones/%2e%2e%2fuser",
        "/zones\\..\\user",
        "/%zz",
    ] {
        let answer = demo.ask(&[], path);
        assert_eq!(answer.status(), 400, "{path}: {answer:?}");
    }
    assert!(!demo.arrivals().to_string().contains("/client/v4"), "nothing may arrive");
}

#[test]
fn what_the_client_sent_arrives_byte_by_byte() {
    let demo = Demo::start();
    for path in ["/ZONES/x", "/a%2Fb", "/a%20b?c=%2F&d=+", "/%7Ezones", "/x;y=1/z"] {
        wait_for("a token of the limit", || (demo.ask(&[], path).status() != 429).then_some(()));
        let log = demo.arrivals();
        let arrived = last_arrival(&log);
        let query = arrived["query"].as_str().map(|query| format!("?{query}"));
        let target = format!("{}{}", arrived["path"].as_str().unwrap(), query.unwrap_or_default());
        assert_eq!(target, format!("/client/v4{path}"));
    }
}

fn last_arrival(log: &Value) -> &Value {
    let list = log.as_array().or_else(|| log.as_object()?.values().find_map(Value::as_array));
    let of_the_api = |arrival: &&Value| arrival.to_string().contains("/client/v4");
    list.and_then(|list| list.iter().rfind(of_the_api)).unwrap_or_else(|| panic!("none in {log}"))
}
