//! The whole document: all of it or nothing.

use serde_json::{Value, json};

use crate::bench::{Bench, bench};

const WHOLE: &str = r#"{
    "upstreams": {"1": {"type": "roundrobin", "nodes": {"10.0.0.1:80": 1}}},
    "routes": {"1": {"uri": "/a/*", "upstream_id": "1"}, "2": {"uri": "/b/*", "upstream_id": "1"}},
    "consumers": {"alice": {"plugins": {"key-auth": {"key": "planted-agent-key"}}}}
}"#;

async fn apply(bench: &Bench, query: &str, body: &str) -> (u16, Value) {
    let answer = bench.ask("POST", &format!("/admin/apply?{query}"), body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_document_is_applied_as_one_revision() {
    let bench = bench().await;
    let (status, body) = apply(&bench, "", WHOLE).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["revision"], 1);
    assert_eq!(body["counts"]["created"], 4, "{body}");
    let (status, body) = apply(&bench, "", WHOLE).await;
    assert_eq!((status, &body["revision"]), (200, &json!(1)), "{body}");
}

#[tokio::test]
async fn one_fault_keeps_the_whole_document_out() {
    let bench = bench().await;
    let faulty = WHOLE.replace(r#""uri": "/b/*""#, r#""uri": "/b/*", "nonsense": 1"#);
    let (status, body) = apply(&bench, "", &faulty).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["errors"][0]["line"].as_u64().unwrap() >= 3, "{body}");
    let dangling = WHOLE
        .replace(r#""uri": "/b/*", "upstream_id": "1""#, r#""uri": "/b/*", "upstream_id": "9""#);
    let (status, body) = apply(&bench, "", &dangling).await;
    assert_eq!(status, 400, "{body}");
    assert!(bench.handle.state().is_empty());
    assert_eq!(bench.handle.state().revision().number(), 0);
}

#[tokio::test]
async fn a_member_that_stands_twice_keeps_the_whole_document_out() {
    let bench = bench().await;
    let route = r#""uri": "/b/*""#;
    for twice in [r#""uri": "/c", "uri": "/b/*""#, r#""u\u0072i": "/c", "uri": "/b/*""#] {
        let (status, body) = apply(&bench, "", &WHOLE.replace(route, twice)).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(body["errors"][0]["line"], 3, "{body}");
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("uri"), "{body}");
    }
    assert_eq!(bench.handle.state().revision().number(), 0);
}

#[tokio::test]
async fn a_base_that_has_moved_is_refused() {
    let bench = bench().await;
    assert_eq!(apply(&bench, "base=0", WHOLE).await.0, 200);
    assert_eq!(apply(&bench, "base=0", r#"{"routes":{}}"#).await.0, 409);
    assert_eq!(apply(&bench, "base=x", WHOLE).await.0, 400);
    assert_eq!(apply(&bench, "base=1&prune=true", "{}").await.0, 200);
}

#[tokio::test]
async fn only_a_prune_deletes_what_is_not_named() {
    let bench = bench().await;
    apply(&bench, "", WHOLE).await;
    let less = WHOLE.replace(r#", "2": {"uri": "/b/*", "upstream_id": "1"}"#, "");
    let (_, kept) = apply(&bench, "", &less).await;
    assert_eq!(kept["counts"]["deleted"], 0, "{kept}");
    let (_, pruned) = apply(&bench, "prune=true", &less).await;
    assert_eq!(pruned["changes"], json!([{"key": "/apisix/routes/2", "kind": "deleted"}]));
}

#[tokio::test]
async fn what_is_exported_can_be_applied_and_changes_nothing() {
    let bench = bench().await;
    apply(&bench, "", WHOLE).await;
    for format in ["json", "yaml"] {
        let text = bench.ask("GET", &format!("/admin/export?format={format}"), "").await.text;
        assert!(!text.contains("planted"), "{text}");
        let (status, body) = apply(&bench, "prune=true", &text).await;
        assert_eq!((status, &body["revision"]), (200, &json!(1)), "{format}: {body}\n{text}");
    }
}

#[tokio::test]
async fn a_diff_tells_what_would_change() {
    let bench = bench().await;
    apply(&bench, "", WHOLE).await;
    let other = WHOLE.replace("/b/*", "/c/*").replace("alice", "bob");
    let answer = bench.ask("POST", "/admin/diff?prune=true", &other).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let mut kinds: Vec<(&str, &str)> = body["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["key"].as_str().unwrap(), it["kind"].as_str().unwrap()))
        .collect();
    kinds.sort_unstable();
    let expected = [
        ("/apisix/consumers/alice", "deleted"),
        ("/apisix/consumers/bob", "created"),
        ("/apisix/routes/2", "updated"),
    ];
    assert_eq!(kinds, expected);
    assert!(!answer.text.contains("planted"), "{}", answer.text);
}
