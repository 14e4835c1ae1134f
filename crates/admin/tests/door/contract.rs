//! The contract that APISIX's clients rely on, call by call.

use serde_json::json;

use crate::bench::{ADMIN, VIEWER, bench};

const UPSTREAM: &str = r#"{"type":"roundrobin","nodes":{"10.0.0.1:80":1}}"#;
const ROUTE: &str = r#"{"uri":"/a/*","upstream_id":"1","name":"first"}"#;
const AGENT: &str = r#"{"username":"alice","plugins":{"key-auth":{"key":"planted-agent-key"}}}"#;
const CREDENTIAL: &str = r#"{"plugins":{"key-auth":{"key":"planted-other-key"}}}"#;

#[tokio::test]
async fn a_put_creates_and_then_replaces() {
    let bench = bench().await;
    let put = ("PUT", "/apisix/admin/upstreams/1", UPSTREAM);
    let value = json!({"id": "1", "type": "roundrobin"});
    bench.check(put, 201, json!({"key": "/apisix/upstreams/1", "value": value})).await;
    bench.check(put, 200, json!({"key": "/apisix/upstreams/1", "value": value})).await;
    let answer = bench.ask("PUT", "/admin/upstreams/1", UPSTREAM).await.json();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["key", "value"]);
    assert!(answer["value"]["create_time"].is_u64() && answer["value"]["update_time"].is_u64());
}

#[tokio::test]
async fn a_put_without_an_id_in_its_path_takes_the_body_s() {
    let bench = bench().await;
    let body = r#"{"id":7,"type":"roundrobin","nodes":{"10.0.0.1:80":1}}"#;
    bench
        .check(("PUT", "/admin/upstreams", body), 201, json!({"key": "/apisix/upstreams/7"}))
        .await;
    bench
        .check(("PUT", "/admin/consumers", AGENT), 201, json!({"key": "/apisix/consumers/alice"}))
        .await;
}

#[tokio::test]
async fn a_post_names_by_the_revision_in_twenty_digits() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    let id = "00000000000000000002";
    let key = format!("/apisix/upstreams/{id}");
    let expected = json!({"key": key, "value": {"id": id}});
    bench.check(("POST", "/apisix/admin/upstreams", UPSTREAM), 201, expected).await;
    bench.check(("GET", &format!("/admin/upstreams/{id}"), ""), 200, json!({"key": key})).await;
}

#[tokio::test]
async fn a_read_tells_both_revisions() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    bench.given("/admin/upstreams/1", r#"{"type":"roundrobin","nodes":{"10.0.0.2:80":1}}"#).await;
    let read = ("GET", "/apisix/admin/upstreams/1", "");
    let expected = json!({"key": "/apisix/upstreams/1", "createdIndex": 1, "modifiedIndex": 2});
    bench.check(read, 200, expected.clone()).await;
    let listed = bench.ask("GET", "/apisix/admin/upstreams", "").await.json();
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["list"][0]["modifiedIndex"], 2, "{listed}");
    bench.check(("GET", "/apisix/admin/routes", ""), 200, json!({"list": [], "total": 0})).await;
}

#[tokio::test]
async fn a_delete_tells_what_it_deleted() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    let delete = ("DELETE", "/apisix/admin/upstreams/1", "");
    bench.check(delete, 200, json!({"deleted": "1", "key": "/apisix/upstreams/1"})).await;
    bench.check(delete, 404, json!({"message": "Key not found"})).await;
    bench.check(("GET", "/admin/upstreams/1", ""), 404, json!({"message": "Key not found"})).await;
    let patch = ("PATCH", "/admin/upstreams/1", "{}");
    bench.check(patch, 404, json!({"message": "Key not found"})).await;
}

#[tokio::test]
async fn a_patch_merges_and_null_deletes() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    bench.given("/admin/routes/1", ROUTE).await;
    let patch = ("PATCH", "/apisix/admin/routes/1", r#"{"desc":"x","name":null}"#);
    bench.check(patch, 200, json!({"value": {"desc": "x", "uri": "/a/*"}})).await;
    let route = bench.ask("GET", "/admin/routes/1", "").await.json();
    assert!(route["value"].get("name").is_none(), "{route}");
}

#[tokio::test]
async fn a_patch_of_a_path_replaces_what_is_there() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    let patch = ("PATCH", "/admin/upstreams/1/nodes", r#"{"10.0.0.9:80":1}"#);
    bench.check(patch, 200, json!({"value": {"nodes": {"10.0.0.9:80": 1}}})).await;
    let nodes = bench.ask("GET", "/admin/upstreams/1", "").await.json()["value"]["nodes"].clone();
    assert_eq!(nodes.as_object().unwrap().len(), 1, "{nodes}");
    let inside = ("GET", "/admin/upstreams/1/nodes", "");
    bench.check(inside, 404, json!({"error_msg": "not found"})).await;
}

#[tokio::test]
async fn a_credential_belongs_to_its_consumer() {
    let bench = bench().await;
    let uri = "/apisix/admin/consumers/alice/credentials/one";
    bench.check(("PUT", uri, CREDENTIAL), 404, json!({"error_msg": "consumer not found"})).await;
    bench.given("/admin/consumers/alice", AGENT).await;
    let key = "/apisix/consumers/alice/credentials/one";
    bench.check(("PUT", uri, CREDENTIAL), 201, json!({"key": key, "value": {"id": "one"}})).await;
    bench.check(("GET", "/admin/agents/alice/credentials", ""), 200, json!({"total": 1})).await;
    bench.check(("GET", "/admin/agents/alice/credentials/one", ""), 200, json!({"key": key})).await;
    bench.check(("DELETE", "/admin/agents/alice", ""), 200, json!({"deleted": "1"})).await;
    bench.check(("GET", uri, ""), 404, json!({"message": "Key not found"})).await;
}

#[tokio::test]
async fn our_words_name_the_same_resources() {
    let bench = bench().await;
    bench.given("/admin/teams/red", r#"{"plugins":{}}"#).await;
    let read = ("GET", "/apisix/admin/consumer_groups/red", "");
    bench.check(read, 200, json!({"key": "/apisix/consumer_groups/red"})).await;
}

/// Requests that are refused, over a node with an upstream, a route on it, and an agent.
async fn check_refused(table: &[(&str, &str, &str, u16, &str)]) {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    bench.given("/admin/routes/1", ROUTE).await;
    bench.given("/admin/consumers/alice", AGENT).await;
    for (method, uri, body, status, message) in table {
        bench.check((method, uri, body), *status, json!({"error_msg": message})).await;
    }
    assert_eq!(bench.handle.state().revision().number(), 3);
}

#[tokio::test]
async fn what_is_not_served_is_told_so() {
    let schema = "schemas are not served; to have a document judged, POST it to \
                  /apisix/admin/schema/validate/{resource}";
    check_refused(&[
        ("GET", "/apisix/admin/schema/routes", "", 404, schema),
        ("GET", "/apisix/admin/schema/plugins/limit-req?schema_type=consumer", "", 404, schema),
        ("GET", "/admin/schema", "", 404, schema),
        ("POST", "/admin/schema/validate", "{}", 404, schema),
        ("GET", "/admin/x", "", 404, "Unsupported resource type: x"),
        ("GET", "/apisix/admin/services/1", "", 404, "Unsupported resource type: services"),
        ("GET", "/admin/status/x", "", 404, "Unsupported resource type: status"),
        ("POST", "/admin/consumers", AGENT, 405, "not supported `POST` method for consumer"),
        ("PATCH", "/admin/consumers/alice", "{}", 405, "not supported `PATCH` method for consumer"),
        ("POST", "/admin/export", "", 404, "not found"),
        ("GET", "/admin/apply", "", 404, "not found"),
        ("GET", "/admin", "", 404, "not found"),
    ])
    .await;
}

#[tokio::test]
async fn a_resource_has_one_id_and_a_body() {
    check_refused(&[
        ("PUT", "/admin/routes/1", "", 400, "missing configurations"),
        ("POST", "/admin/routes", " ", 400, "missing configurations"),
        ("PUT", "/admin/routes", ROUTE, 400, "missing route id"),
        ("DELETE", "/admin/routes", "", 400, "missing route id"),
        ("PATCH", "/admin/routes", "{}", 400, "missing route id"),
        ("PUT", "/admin/routes/1", r#"{"id":"2","uri":"/a"}"#, 400, "wrong route id"),
        ("PUT", "/admin/consumers/bob", AGENT, 400, "wrong username"),
        ("POST", "/admin/routes/1", ROUTE, 400, "wrong route id, do not need it"),
        ("POST", "/admin/routes", r#"{"id":"2"}"#, 400, "wrong route id, do not need it"),
        ("PATCH", "/admin/routes/1", "[]", 400, "invalid request body: expected an object"),
        ("PATCH", "/admin/routes/1/uri/x", "1", 400, "invalid sub-path: /uri/x"),
    ])
    .await;
}

#[tokio::test]
async fn an_argument_that_is_not_understood_is_refused() {
    let known = "invalid argument dry_run: should be true or false";
    let typo = "unknown argument dry-run: write dry_run";
    let number = "invalid argument ttl: should be a number";
    let ends = "invalid argument ttl: nothing disappears by itself here; write the resource \
                without it, and delete it when its time is over";
    check_refused(&[
        ("PUT", "/admin/routes/1?ttl=x", ROUTE, 400, number),
        ("PUT", "/admin/routes/1?ttl=5", ROUTE, 400, ends),
        ("POST", "/apisix/admin/routes?ttl=0.5", ROUTE, 400, ends),
        ("PATCH", "/admin/routes/1?ttl=5", "{}", 400, ends),
        ("PATCH", "/admin/routes/1/uri?ttl=5", "\"/b\"", 400, ends),
        ("POST", "/admin/apply?ttl=5", "{}", 400, ends),
        ("PUT", "/admin/routes/1?dry_run=yes", ROUTE, 400, known),
        ("PUT", "/admin/routes/1?dry-run=true", ROUTE, 400, typo),
    ])
    .await;
}

#[tokio::test]
async fn what_is_named_has_to_be_there_and_to_stay() {
    let dangling = "failed to fetch upstream info by upstream id [9], response code: 404";
    let used = "can not delete this upstream, route [1] is still using it now";
    check_refused(&[
        ("PUT", "/admin/routes/2", r#"{"uri":"/b","upstream_id":"9"}"#, 400, dangling),
        ("DELETE", "/admin/upstreams/1", "", 400, used),
    ])
    .await;
}

#[tokio::test]
async fn what_is_referred_to_goes_by_force_only() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    bench.given("/admin/routes/1", ROUTE).await;
    let delete = ("DELETE", "/admin/upstreams/1?force=true", "");
    bench.check(delete, 200, json!({"deleted": "1"})).await;
}

#[tokio::test]
async fn every_fault_is_told_at_once() {
    let bench = bench().await;
    let wrong = r#"{"uri":"no-slash","priority":"high","nonsense":1,"upstream":{"type":"x"}}"#;
    let answer = bench.ask("PUT", "/admin/routes/1", wrong).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let body = answer.json();
    let errors = body["errors"].as_array().unwrap();
    assert!(errors.len() >= 3, "{body}");
    assert!(errors.iter().all(|it| it["path"].is_string() && it["message"].is_string()), "{body}");
    assert!(body["error_msg"].as_str().unwrap().starts_with("invalid configuration: "), "{body}");
}

#[tokio::test]
async fn a_member_that_stands_twice_is_refused_wherever_a_body_is_read() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    bench.given("/admin/routes/1", ROUTE).await;
    let uris = r#"{"uri":"/a","uri":"/b","upstream_id":"1"}"#;
    let plugins = r#"{"uri":"/a","upstream_id":"1","plugins":{"jwt-auth":{}},"plugins":{}}"#;
    let nested = r#"{"plugins":{"jwt-auth":{"hide":true,"hi\u0064e":false}}}"#;
    let all = r#"{"routes":[{"uri":"/a"},{"uri":"/a","uri":"/b"}]}"#;
    let cases = [
        ("PUT", "/apisix/admin/routes/1", uris, "/uri"),
        ("PUT", "/admin/routes/2?dry_run=true", plugins, "/plugins"),
        ("POST", "/apisix/admin/routes", plugins, "/plugins"),
        ("PATCH", "/apisix/admin/routes/1", nested, "/plugins/jwt-auth/hide"),
        ("PATCH", "/admin/routes/1/plugins", r#"{"a":{},"a":{}}"#, "/a"),
        ("POST", "/apisix/admin/schema/validate/routes", uris, "/uri"),
        ("POST", "/apisix/admin/configs/validate", all, "/routes/1/uri"),
    ];
    for (method, uri, body, path) in cases {
        let answer = bench.ask(method, uri, body).await;
        assert_eq!(answer.status, 400, "{method} {uri} {body}: {}", answer.text);
        let found = answer.json();
        assert_eq!(found["errors"][0]["path"], path, "{method} {uri}: {found}");
        let begin = format!("invalid request body: {path}: this member stands here twice");
        assert!(found["error_msg"].as_str().unwrap().starts_with(&begin), "{found}");
    }
    assert_eq!(bench.handle.state().revision().number(), 2);
}

#[tokio::test]
async fn a_body_over_its_bound_is_refused() {
    let bench = bench().await;
    let long = format!(r#"{{"desc":"{}"}}"#, "x".repeat(3 << 19));
    let answer = bench.ask("PUT", "/admin/routes/1", &long).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text.starts_with(r#"{"error_msg":"invalid request body: "#), "{}", answer.text);
    assert!(answer.text.len() < 200, "the body came back");
}

#[tokio::test]
async fn every_answer_has_the_headers() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    for (method, uri) in
        [("GET", "/admin/upstreams/1"), ("GET", "/admin/upstreams/2"), ("OPTIONS", "/admin/x")]
    {
        let answer = bench.ask(method, uri, "").await;
        assert_eq!(answer.header("x-api-version"), "v3", "{method} {uri}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert_eq!(answer.header("access-control-expose-headers"), "*");
        assert_eq!(answer.header("access-control-max-age"), "3600");
        assert_eq!(answer.header("x-tollgate-revision"), "1");
    }
}

#[tokio::test]
async fn some_questions_need_no_key_and_the_rest_do() {
    let bench = bench().await;
    let status = async |method: &str, uri: &str| bench.ask_with(method, uri, &[], "").await.status;
    assert_eq!(status("HEAD", "/apisix/admin").await, 200);
    assert_eq!(status("OPTIONS", "/apisix/admin/routes/1").await, 200);
    assert_eq!(status("HEAD", "/apisix/admin/routes").await, 401);
    for uri in ["/admin/routes", "/admin/x", "/admin/status", "/admin/export"] {
        let answer = bench.ask_with("GET", uri, &[], "").await;
        assert_eq!(answer.status, 401);
        let expected = r#"{"error_msg":"failed to check token","description":"missing apikey"}"#;
        assert_eq!(answer.text.trim_end(), expected);
    }
    let preflight = bench.ask_with("OPTIONS", "/admin/routes", &[], "").await;
    let methods = preflight.header("access-control-allow-methods");
    assert_eq!(methods, "POST, GET, PUT, OPTIONS, DELETE, PATCH");
}

#[tokio::test]
async fn a_viewer_reads_and_cannot_write() {
    let bench = bench().await;
    bench.given("/admin/upstreams/1", UPSTREAM).await;
    let key = [("x-api-key", VIEWER)];
    assert_eq!(bench.ask_with("GET", "/admin/upstreams/1", &key, "").await.status, 200);
    for (method, uri, body) in [
        ("PUT", "/admin/upstreams/1", UPSTREAM),
        ("POST", "/admin/upstreams", UPSTREAM),
        ("PATCH", "/admin/upstreams/1", r#"{"desc":"x"}"#),
        ("DELETE", "/admin/upstreams/1", ""),
        ("POST", "/admin/apply", "{}"),
    ] {
        let answer = bench.ask_with(method, uri, &key, body).await;
        assert_eq!(answer.status, 401, "{method} {uri}");
        assert_eq!(answer.json()["description"], "invalid method for role viewer");
    }
    assert_eq!(bench.handle.state().revision().number(), 1);
}

#[tokio::test]
async fn whoever_guesses_keys_has_to_wait() {
    let bench = bench().await;
    for _ in 0..20 {
        let answer = bench.ask_with("GET", "/admin/routes", &[("x-api-key", "guess")], "").await;
        assert_eq!(answer.status, 401);
    }
    let answer = bench.ask_with("GET", "/admin/routes", &[("x-api-key", ADMIN)], "").await;
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 60);
}

#[tokio::test]
async fn a_document_can_be_judged_without_being_written() {
    let bench = bench().await;
    let judge = ("POST", "/apisix/admin/schema/validate/routes", ROUTE);
    let answer = bench.ask(judge.0, judge.1, judge.2).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    let wrong = r#"{"uri":"/a","nonsense":1}"#;
    let answer = bench.ask(judge.0, judge.1, wrong).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let whole = format!(r#"{{"routes":[{wrong},{{"id":"2","nonsense":1}}],"upstreams":[]}}"#);
    let answer = bench.ask("POST", "/apisix/admin/configs/validate", &whole).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error_msg"], "Configuration validation failed");
    assert_eq!(body["errors"][1]["index"], 1, "{body}");
    assert_eq!(body["errors"][1]["resource_id"], "2", "{body}");
    bench
        .check(("POST", "/apisix/admin/configs/validate", r#"{"routes":[]}"#), 200, json!({}))
        .await;
    assert_eq!(bench.handle.state().revision().number(), 0);
}

#[tokio::test]
async fn the_node_tells_what_it_is() {
    let bench = bench().await;
    let expected = json!({"node": "one", "role": "single", "revision": 0, "ready": true});
    bench.check(("GET", "/admin/status", ""), 200, expected).await;
    let plugins = bench.ask("GET", "/apisix/admin/plugins/list", "").await.json();
    assert!(plugins.as_array().unwrap().contains(&json!("limit-req")), "{plugins}");
}
