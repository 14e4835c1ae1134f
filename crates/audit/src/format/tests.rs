//! What loggers write, from the request's head to the line.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use model::{Code, Protocol, RequestId, Scheme};
use proptest::prelude::*;
use rules::expression::Expression;
use rules::fact::Facts;
use rules::plugin::{Plugin, Plugins, Sources};
use rules::record::{BodyCapture, FileLogger};
use rules::target::Target;
use serde_json::{Value, json};

use super::*;
use crate::sample::{entry, format, log_format, outcome, to_file};
use crate::{Loggers, SecretNames};

/// A request with every credential we know of.
fn headers() -> HeaderMap {
    let text = "authorization: Bearer hunter2\ncookie: sid=hunter2; t=1\napikey: hunter2\n\
        x-api-key: hunter2\nproxy-authorization: hunter2\nx-auth-key: hunter2\n\
        x-token: hunter2\nx-team: dns";
    let fields = text.lines().map(|line| line.split_once(": ").unwrap());
    fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// Does something with the facts of an invented request.
fn with_facts<R>(act: impl FnOnce(&Facts<'_>) -> R) -> R {
    let uri: Uri = "/zones/%7Ea?page=2&jwt=hunter2&t=hunter2".parse().unwrap();
    let target = Target::parse(&uri).unwrap();
    let headers = headers();
    act(&Facts {
        request_id: RequestId(1),
        client: "192.0.2.7:4711".parse().unwrap(),
        server: "198.51.100.1:9443".parse().unwrap(),
        scheme: Scheme::Https,
        protocol: Protocol::Http2,
        method: "GET",
        host: "api.example.com",
        host_header: "Api.Example.com:9443",
        target: &target,
        headers: &headers,
        route: None,
        identity: None,
        call: None,
    })
}

/// The line of a logger with this shape, and the entry it is made of.
fn written(shape: &RecordShape, change: impl FnOnce(&mut Entry)) -> (Value, String) {
    let plugins = Plugins {
        file_logger: to_file(Path::new("/x"), shape.clone()).file.map(|logger| logger.plugin),
        ..Plugins::default()
    };
    let sources = Sources {
        header: HeaderName::from_static("x-token"),
        query: Arc::from("t"),
        cookie: None,
        hide: false,
    };
    let secrets = SecretNames { sources: [Some(&sources), None] };
    let (loggers, captures) = with_facts(|facts| {
        let loggers = Loggers::choose(&plugins, facts);
        let captures = Captures::take(&loggers, facts, secrets);
        (loggers, captures)
    });
    let mut entry = entry(1, &loggers);
    entry.captures = captures;
    change(&mut entry);
    let debug = format!("{entry:?}");
    let logger = entry.loggers.file.clone().unwrap();
    let wanted = Wanted { request_body: logger.request_body, response_body: logger.response_body };
    let mut line = Vec::new();
    write(&mut line, &entry, shape, wanted);
    (serde_json::from_slice(&line).unwrap(), debug)
}

#[track_caller]
fn check(members: &[(&str, &str)], expected: &Value) {
    assert_eq!(written(&log_format(members), |_| {}).0, *expected);
}

#[track_caller]
fn check_body(bytes: &[u8], max: usize, is_cut: bool, expected: &Value) {
    let body = BodyCapture { when: None, max_bytes: max };
    let shape = RecordShape { request_body: Some(body), ..log_format(&[]) };
    let given = |entry: &mut Entry| {
        entry.bodies.request = Some(Body { bytes: bytes.to_vec(), is_cut });
    };
    assert_eq!(written(&shape, given).0, *expected);
}

#[test]
fn a_lone_variable_without_a_value_drops_its_member() {
    check(
        &[("a", "$http_absent"), ("b", "x$http_absent"), ("route_id", "mine")],
        &json!({"b": "x", "route_id": "mine"}),
    );
}

#[test]
fn variables_of_the_head_and_of_the_end_are_filled_in() {
    check(
        &[
            ("client", "$remote_addr:$remote_port"),
            ("server", "$server_addr:$server_port"),
            ("line", "$request_method $request_uri $server_protocol"),
            ("uri", "$uri"),
            ("host", "$http_host"),
            ("team", "$http_x_team"),
            ("page", "$arg_page"),
            ("who", "$consumer_name/$consumer_group_id"),
            ("end", "$status $upstream_addr $upstream_status $body_bytes_sent $request_length"),
            ("times", "$request_time $upstream_response_time $msec $time_iso8601"),
            ("trace", "$trace_id"),
        ],
        &json!({
            "client": "192.0.2.7:4711",
            "server": "198.51.100.1:9443",
            "line": "GET /client/v4/zones?page=2&jwt=[secret] HTTP/2.0",
            "uri": "/zones/~a",
            "host": "Api.Example.com:9443",
            "team": "dns",
            "page": "2",
            "who": "bot/dns",
            "end": "200 198.51.100.4:443 200 512 0",
            "times": "0.035 0.034 1767322200.158 2026-01-02T02:50:00.158579Z",
            "route_id": "1",
        }),
    );
}

#[test]
fn objects_nest() {
    let inner = FormatValue::Object(format(&[("status", "$status"), ("none", "$http_absent")]));
    let outer = Format(vec![(Arc::from("response"), inner)]);
    let shape = RecordShape { format: Some(Arc::new(outer)), ..RecordShape::default() };
    let expected = json!({"response": {"status": "200"}, "route_id": "1"});
    assert_eq!(written(&shape, |_| {}).0, expected);
}

#[test]
fn no_credential_is_ever_written_or_held() {
    let names = [
        "http_authorization",
        "http_cookie",
        "http_apikey",
        "http_x_api_key",
        "http_x_auth_key",
        "http_proxy_authorization",
        "http_x_token",
        "cookie_sid",
        "cookie_t",
        "arg_jwt",
        "arg_t",
    ];
    for name in names {
        let text = format!("a ${name}");
        let (line, held) = written(&log_format(&[("v", &text)]), |_| {});
        assert_eq!(line["v"], "a [secret]", "{name}");
        assert!(!held.contains("hunter2"), "{name}");
    }
    for name in ["args", "query_string", "request_uri"] {
        let text = format!("${name}");
        let (line, held) = written(&log_format(&[("v", &text)]), |_| {});
        assert!(line["v"].as_str().unwrap().contains("jwt=[secret]"), "{name}");
        assert!(!held.contains("hunter2"), "{name}");
    }
}

#[test]
fn extra_members_come_beside_the_record_s_own_and_never_in_their_place() {
    let extra = Some(Arc::new(format(&[("team_header", "$http_x_team"), ("status", "999")])));
    let (line, _) = written(&RecordShape { extra, ..RecordShape::default() }, |_| {});
    assert_eq!(
        (&line["team_header"], &line["status"], &line["agent"]),
        (&json!("dns"), &json!(200), &json!("bot"))
    );
}

#[test]
fn a_body_that_is_text_is_written_as_text_and_any_other_as_base64() {
    check_body(b"{\"a\":1}", 99, false, &json!({"request_body": "{\"a\":1}", "route_id": "1"}));
    check_body(b"\xff\x00", 99, false, &json!({"request_body_base64": "/wA=", "route_id": "1"}));
}

#[test]
fn a_body_that_is_cut_says_so() {
    let cut = |text: &str| json!({"request_body": text, "request_body_cut": true, "route_id": "1"});
    check_body(b"abcdef", 3, false, &cut("abc"));
    check_body(b"abc", 99, true, &cut("abc"));
    check_body("aé".as_bytes(), 2, false, &cut("a"));
}

#[test]
fn a_logger_whose_condition_fails_is_not_chosen() {
    let post = || Some(Expression::compile(&json!([["request_method", "==", "POST"]])).unwrap());
    let body = BodyCapture { when: post(), max_bytes: 10 };
    let shape = RecordShape { request_body: Some(body), ..log_format(&[]) };
    let given = |entry: &mut Entry| {
        assert_eq!(entry.loggers.request_body_max(), 0);
        entry.bodies.request = Some(Body { bytes: b"abc".to_vec(), is_cut: false });
    };
    assert_eq!(written(&shape, given).0, json!({"route_id": "1"}));
}

#[test]
fn a_refusal_has_its_code() {
    let refused = |entry: &mut Entry| entry.outcome.refusal = Some(Code::LimitExceeded);
    let (line, _) = written(&log_format(&[("code", "$refusal_code")]), refused);
    assert_eq!(line["code"], "limit.exceeded");
}

proptest! {
    #[test]
    fn any_body_is_one_line_of_json(bytes: Vec<u8>, max in 0_usize..64, is_cut: bool) {
        let body = BodyCapture { when: None, max_bytes: max };
        let shape = RecordShape { request_body: Some(body), ..RecordShape::default() };
        let given = |entry: &mut Entry| entry.bodies.request = Some(Body { bytes, is_cut });
        prop_assert!(written(&shape, given).0.is_object());
    }
}

/// Whether a logger with this `match` and this condition on the answer's body writes a request
/// that ended with 404, and whether with the body; `None` when it does not write.
#[track_caller]
fn check_conditions(only: &Value, on_body: Option<&Value>, expected: Option<bool>) {
    let expression = |json: &Value| Expression::compile(json).unwrap();
    let when = on_body.map(expression);
    let record = RecordShape {
        response_body: Some(BodyCapture { max_bytes: 10, when }),
        ..RecordShape::default()
    };
    let mut logger = to_file(Path::new("/x"), record).file.unwrap();
    let rule = FileLogger { only: Some(expression(only)), ..logger.plugin.rule.clone() };
    logger.plugin = Arc::new(Plugin { rule, ..Plugin::clone(&logger.plugin) });
    let plugins = Plugins { file_logger: Some(logger.plugin), ..Plugins::default() };
    let mut ended = outcome(1);
    ended.status = 404;
    let decided = with_facts(|facts| {
        let loggers = Loggers::choose(&plugins, facts);
        let captures = Captures::take(&loggers, facts, SecretNames::default());
        loggers.file.and_then(|logger| logger.decide(&ended, &captures))
    });
    assert_eq!(decided.map(|wanted| wanted.response_body.is_some()), expected, "{only}");
}

#[test]
fn a_condition_is_judged_as_soon_as_it_can_be() {
    check_conditions(&json!([["http_x_team", "==", "dns"]]), None, Some(true));
    check_conditions(&json!([["http_x_team", "==", "web"]]), None, None);
    check_conditions(&json!([["status", ">=", 400]]), None, Some(true));
    check_conditions(&json!([["status", ">=", 500]]), None, None);
    // What the head says is still known at the end.
    check_conditions(
        &json!([["status", "==", 404], ["http_x_team", "==", "dns"]]),
        None,
        Some(true),
    );
    check_conditions(&json!([["status", "==", 404], ["http_x_team", "==", "web"]]), None, None);
    let always = json!([["http_x_team", "==", "dns"]]);
    check_conditions(&always, Some(&json!([["status", "<", 400]])), Some(false));
    check_conditions(&always, Some(&json!([["status", "==", 404]])), Some(true));
}
