//! KV values and R2 objects, and the rooms that hold little: D1, AI, GraphQL.
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Ask, House};

/// Makes what `create` says and answers with the path of its items.
async fn made(house: &House, create: &str, body: &Value) -> Value {
    let came = house.ask(Ask::new(create).json(body)).await;
    assert_eq!(came.verdict(), "200", "{}", came.text());
    came.result()
}

/// Writes at one spelling of a path and reads at another.
async fn check(root: &str, written: &str, read: &str, found: bool) {
    let house = House::new().await;
    made(&house, "POST /accounts/{account}/r2/buckets", &json!({ "name": "bucket" })).await;
    let created = made(
        &house,
        "POST /accounts/{account}/storage/kv/namespaces",
        &json!({ "title": "space" }),
    )
    .await;
    let root = root.replace("{ns}", created.get("id").and_then(Value::as_str).unwrap());
    let bytes = Bytes::from_static(b"\x00\xff raw");
    let put = Ask::new(&format!("PUT {root}/{written}"));
    let came = house.ask(put.bytes("application/octet-stream", bytes.clone())).await;
    assert_eq!(came.verdict(), "200", "{}", came.text());
    let came = house.ask(Ask::new(&format!("GET {root}/{read}"))).await;
    assert_eq!(came.body == bytes, found, "{written} {read}");
}

const OBJECTS: &str = "/accounts/{account}/r2/buckets/bucket/objects";
const VALUES: &str = "/accounts/{account}/storage/kv/namespaces/{ns}/values";

#[tokio::test]
async fn an_object_is_the_same_with_raw_and_with_escaped_slashes() {
    check(OBJECTS, "dir/key.txt", "dir/key.txt", true).await;
    check(OBJECTS, "dir/key.txt", "dir%2Fkey.txt", true).await;
    check(OBJECTS, "dir%2fkey.txt", "dir/key.txt", true).await;
    check(OBJECTS, "dir//key.txt", "dir/key.txt", false).await;
    check(OBJECTS, "a%20b", "a+b", false).await;
}

#[tokio::test]
async fn a_value_has_one_spelling_of_its_slash() {
    check(VALUES, "dir%2Fkey", "dir%2Fkey", true).await;
    check(VALUES, "k%3F", "k%3f", true).await;
    check(VALUES, "key", "other", false).await;
}

#[tokio::test]
async fn a_bulk_write_is_read_in_bulk() {
    let house = House::new().await;
    let create = "POST /accounts/{account}/storage/kv/namespaces";
    let created = made(&house, create, &json!({ "title": "space" })).await;
    let root =
        format!("/accounts/{{account}}/storage/kv/namespaces/{}", created["id"].as_str().unwrap());
    let pairs = json!([{ "key": "a", "value": "1", "metadata": { "m": 1 } },
                       { "key": "b", "value": "Mg==", "base64": true }]);
    let put = house.ask(Ask::new(&format!("PUT {root}/bulk")).json(&pairs)).await;
    assert_eq!(put.result()["successful_key_count"], 2);
    let asked = json!({ "keys": ["a", "b", "c"] });
    let got = house.ask(Ask::new(&format!("POST {root}/bulk/get")).json(&asked)).await;
    assert_eq!(got.result()["values"], json!({ "a": "1", "b": "2", "c": null }));
    let keys = house.ask(Ask::new(&format!("GET {root}/keys?limit=1"))).await;
    assert_eq!(keys.result(), json!([{ "name": "a", "metadata": { "m": 1 } }]));
    let cursor = keys.json()["result_info"]["cursor"].as_str().unwrap().to_owned();
    let rest = house.ask(Ask::new(&format!("GET {root}/keys?limit=1&cursor={cursor}"))).await;
    assert_eq!(rest.result(), json!([{ "name": "b" }]));
    assert_eq!(rest.json()["result_info"]["cursor"], "");
}

#[tokio::test]
async fn a_bucket_with_objects_stays() {
    let house = House::new().await;
    let bucket = "/accounts/{account}/r2/buckets/bucket";
    made(&house, "POST /accounts/{account}/r2/buckets", &json!({ "name": "bucket" })).await;
    house.ask(Ask::new(&format!("PUT {OBJECTS}/a")).bytes("text/plain", "x")).await;
    assert_eq!(house.ask(Ask::new(&format!("DELETE {bucket}"))).await.verdict(), "409 10008");
    house.ask(Ask::new(&format!("DELETE {OBJECTS}/a"))).await;
    assert_eq!(house.ask(Ask::new(&format!("DELETE {bucket}"))).await.verdict(), "200");
}

#[tokio::test]
async fn a_model_answers_whole_or_as_events() {
    let house = House::new().await;
    let run = "POST /accounts/{account}/ai/run/@cf/meta/llama-3.1-8b-instruct";
    let whole = house.ask(Ask::new(run).json(&json!({ "prompt": "hi", "max_tokens": 3 }))).await;
    assert_eq!(whole.result()["response"], "1 2 3");
    let asked = json!({ "prompt": "hi", "max_tokens": 3, "stream": true });
    let events = house.ask(Ask::new(run).json(&asked)).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert_eq!(events.text().matches("data: ").count(), 5);
    assert!(events.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn graphql_errs_with_status_200() {
    let house = House::new().await;
    for (query, is_error) in [("{ viewer { zones } }", false), ("{ nothing }", true)] {
        let came = house.ask(Ask::new("POST /graphql").json(&json!({ "query": query }))).await;
        assert_eq!(came.status.as_u16(), 200);
        assert_eq!(came.json()["errors"].is_array(), is_error);
        assert!(came.json().get("success").is_none());
    }
}

#[tokio::test]
async fn a_query_tells_the_rows_it_is_charged_for() {
    let house = House::new().await;
    let create = "POST /accounts/{account}/d1/database";
    let made = made(&house, create, &json!({ "name": "db" })).await;
    let uuid = made["uuid"].as_str().unwrap();
    let ask = Ask::new(&format!("POST /accounts/{{account}}/d1/database/{uuid}/query"));
    let came = house.ask(ask.json(&json!({ "sql": "SELECT 1; INSERT INTO t VALUES (1)" }))).await;
    assert_eq!(came.result()[0]["meta"]["rows_read"], 1);
    assert_eq!(came.result()[1]["meta"]["rows_written"], 1);
}
