//! The cluster as operators see it from a node that is alone, and reads and writes that say how
//! much they need.

use serde_json::json;

use crate::bench::{ADMIN, VIEWER, bench};

const URI: &str = "/admin/upstreams/1";
const UPSTREAM: &str = r#"{"type":"roundrobin","nodes":{"10.0.0.1:80":1}}"#;

#[tokio::test]
async fn a_write_tells_its_revision_and_on_how_many_nodes_it_is_live() {
    let bench = bench().await;
    let plain = bench.ask("PUT", URI, UPSTREAM).await;
    assert_eq!((plain.header("x-tollgate-revision"), plain.header("x-tollgate-live")), ("1", ""));
    let waited = bench.ask("PUT", "/admin/upstreams/2?wait=all", UPSTREAM).await;
    let told = (waited.header("x-tollgate-revision"), waited.header("x-tollgate-live"));
    assert_eq!(told, ("2", "1/1"));
    let deleted = bench.ask("DELETE", "/admin/upstreams/2?wait=all", "").await;
    let told = (deleted.header("x-tollgate-revision"), deleted.header("x-tollgate-live"));
    assert_eq!(told, ("3", "1/1"));
    let applied = bench.ask("POST", "/admin/apply?wait=all", r#"{"upstreams":{}}"#).await;
    assert_eq!((applied.status, applied.header("x-tollgate-live")), (200, "1/1"));
    let tried = bench.ask("PUT", "/admin/upstreams/3?wait=all&dry_run=true", UPSTREAM).await;
    assert_eq!((tried.status, tried.header("x-tollgate-live")), (201, ""));
}

#[tokio::test]
async fn stale_is_for_reads_and_wait_is_for_all() {
    let bench = bench().await;
    bench.given(URI, UPSTREAM).await;
    for (method, uri, status) in [
        ("GET", "/admin/upstreams/1?stale=true", 200),
        ("GET", "/admin/upstreams?stale=true", 200),
        ("GET", "/admin/upstreams?stale=yes", 400),
        ("PUT", "/admin/upstreams/1?stale=true", 400),
        ("DELETE", "/admin/upstreams/1?stale=true", 400),
        ("PUT", "/admin/upstreams/1?wait=some", 400),
        ("PUT", "/admin/upstreams/1?wait=all", 200),
    ] {
        let answer = bench.ask(method, uri, UPSTREAM).await;
        assert_eq!(answer.status, status, "{method} {uri}: {answer:?}");
    }
}

#[tokio::test]
async fn the_status_shows_each_member() {
    let bench = bench().await;
    bench.given(URI, UPSTREAM).await;
    let member = json!({
        "name": "one", "votes": true, "role": "single", "revision": 1, "live": 1, "lag": 0,
        "ready": true, "why_not_ready": [], "why_not_writable": null,
    });
    let status = bench.ask("GET", "/admin/status", "").await.json();
    let found = &status["members"][0];
    for (name, value) in member.as_object().unwrap() {
        assert_eq!(&found[name], value, "{name}: {status}");
    }
    assert_eq!(status["members"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_changed_about_the_members_is_said() {
    let bench = bench().await;
    for (path, body, why) in [
        ("tokens", "{}", "tollgate cluster init"),
        ("tokens", r#"{"ttl":0}"#, "ttl"),
        ("tokens", r#"{"node":"a","replaces":"b"}"#, "not both"),
        ("tokens", r#"{"nodes":"a"}"#, "unknown field `nodes`"),
        ("vote", r#"{"promote":["b"]}"#, "no member called b"),
        ("vote", r#"{"demote":["one"]}"#, "0 voters"),
        ("leave", r#"{"names":["one"]}"#, "last voter"),
        ("leave", r#"{"names":["b"]}"#, "no member called b"),
        ("leave", "{}", "names"),
    ] {
        let answer = bench.ask("POST", &format!("/admin/cluster/{path}"), body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
        assert!(answer.text.contains(why), "{path} {body}: {answer:?}");
    }
    let dry = bench.ask("POST", "/admin/cluster/vote?dry_run=true", "{}").await;
    assert_eq!(dry.status, 400, "{dry:?}");
    assert_eq!(bench.ask("GET", "/admin/cluster/vote", "").await.status, 404);
}

#[tokio::test]
async fn whoever_only_reads_lets_nobody_in() {
    let bench = bench().await;
    for (key, status) in [(VIEWER, 401), ("nonsense-key", 401), (ADMIN, 400)] {
        let headers = [("x-api-key", key)];
        let answer = bench.ask_with("POST", "/admin/cluster/tokens", &headers, "{}").await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}
