//! Writers that must not overwrite each other, and writes that only pretend.

use tokio::task::JoinSet;

use crate::bench::{ADMIN, bench};

fn upstream(number: usize) -> String {
    format!(r#"{{"type":"roundrobin","nodes":{{"10.0.0.{number}:80":1}}}}"#)
}

const URI: &str = "/admin/upstreams/1";

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_with_one_tag_one_wins() {
    let bench = bench().await;
    bench.given(URI, &upstream(1)).await;
    let tag = bench.ask("GET", URI, "").await.header("etag").to_owned();
    assert_eq!(tag, "\"1\"");
    let bench = std::sync::Arc::new(bench);
    let mut writers = JoinSet::new();
    for number in 2..18 {
        let (bench, tag) = (std::sync::Arc::clone(&bench), tag.clone());
        writers.spawn(async move {
            let headers = [("x-api-key", ADMIN), ("if-match", &*tag)];
            bench.ask_with("PUT", URI, &headers, &upstream(number)).await.status
        });
    }
    let mut statuses = writers.join_all().await;
    statuses.sort_unstable();
    let mut expected = vec![200];
    expected.resize(16, 412);
    assert_eq!(statuses, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_at_once_are_all_kept() {
    let bench = std::sync::Arc::new(bench().await);
    bench.given(URI, &upstream(1)).await;
    let mut writers = JoinSet::new();
    for number in 2..8 {
        let bench = std::sync::Arc::clone(&bench);
        writers.spawn(async move {
            let patch = format!(r#"{{"nodes":{{"10.0.0.{number}:80":1}}}}"#);
            bench.ask("PATCH", URI, &patch).await.status
        });
    }
    assert_eq!(writers.join_all().await, [200; 6]);
    let nodes = bench.ask("GET", URI, "").await.json()["value"]["nodes"].clone();
    assert_eq!(nodes.as_object().unwrap().len(), 7, "{nodes}");
}

#[tokio::test]
async fn a_condition_holds_for_every_method() {
    let bench = bench().await;
    bench.given(URI, &upstream(1)).await;
    let table = [
        ("PUT", ("if-match", "\"9\""), 412),
        ("PATCH", ("if-match", "\"9\""), 412),
        ("DELETE", ("if-match", "\"9\""), 412),
        ("PUT", ("if-none-match", "*"), 412),
        ("GET", ("if-none-match", "\"1\""), 304),
        ("GET", ("if-match", "\"9\""), 412),
        ("GET", ("if-none-match", "\"9\""), 200),
        ("PUT", ("if-match", "1"), 400),
    ];
    for (method, condition, status) in table {
        let headers = [("x-api-key", ADMIN), condition];
        let answer = bench.ask_with(method, URI, &headers, &upstream(2)).await;
        assert_eq!(answer.status, status, "{method} {condition:?}: {answer:?}");
    }
    assert_eq!(bench.handle.state().revision().number(), 1);
    let headers = [("x-api-key", ADMIN), ("if-match", "\"1\"")];
    assert_eq!(bench.ask_with("DELETE", URI, &headers, "").await.status, 200);
    let headers = [("x-api-key", ADMIN), ("if-none-match", "*")];
    assert_eq!(bench.ask_with("PUT", URI, &headers, &upstream(1)).await.status, 201);
}

#[tokio::test]
async fn a_write_tells_the_tag_that_the_next_one_needs() {
    let bench = bench().await;
    let mut tag = bench.ask("PUT", URI, &upstream(1)).await.header("etag").to_owned();
    for number in 2..5 {
        let headers = [("x-api-key", ADMIN), ("if-match", &*tag)];
        let answer = bench.ask_with("PUT", URI, &headers, &upstream(number)).await;
        assert_eq!(answer.status, 200);
        tag = answer.header("etag").to_owned();
    }
}

#[tokio::test]
async fn a_dry_run_answers_as_the_write_and_changes_nothing() {
    let bench = bench().await;
    bench.given(URI, &upstream(1)).await;
    let before = bench.ask("GET", "/admin/export", "").await.text;
    let mut live = bench.handle.snapshots();
    live.mark_unchanged();
    let table = [
        ("PUT", "/admin/upstreams/1", upstream(2), 200),
        ("PUT", "/admin/upstreams/2", upstream(2), 201),
        ("POST", "/admin/upstreams", upstream(2), 201),
        ("PATCH", "/admin/upstreams/1", "{\"desc\":\"x\"}".to_owned(), 200),
        ("DELETE", "/admin/upstreams/1", String::new(), 200),
        ("DELETE", "/admin/upstreams/9", String::new(), 404),
        ("PUT", "/admin/upstreams/1", "{\"nonsense\":1}".to_owned(), 400),
        ("POST", "/admin/apply", "{\"upstreams\":{}}".to_owned(), 200),
    ];
    for (method, uri, body, status) in table {
        let answer = bench.ask(method, &format!("{uri}?dry_run=true&prune=true"), &body).await;
        assert_eq!(answer.status, status, "{method} {uri}: {answer:?}");
        assert_eq!(answer.header("x-tollgate-revision"), "1", "{method} {uri}");
    }
    assert_eq!(bench.ask("GET", "/admin/export", "").await.text, before);
    assert!(!live.has_changed().unwrap());
}
