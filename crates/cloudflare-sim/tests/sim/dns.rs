//! DNS records.
use serde_json::{Value, json};

use crate::client::{Ask, House};

/// Posts records one after another and compares each verdict.
async fn check(records: &[(Value, &str)]) {
    let house = House::new().await;
    for (record, verdict) in records {
        let came = house.ask(Ask::new("POST /zones/{zone}/dns_records").json(record)).await;
        assert_eq!(came.verdict(), *verdict, "{record}: {}", came.text());
    }
}

fn record(kind: &str, name: &str, content: &str) -> Value {
    json!({ "type": kind, "name": name, "content": content, "ttl": 300 })
}

async fn count(house: &House) -> usize {
    house.ask(Ask::new("GET /zones/{zone}/dns_records")).await.result().as_array().unwrap().len()
}

#[tokio::test]
async fn a_record_that_stands_is_refused_a_second_time() {
    check(&[
        (record("A", "api", "192.0.2.7"), "200"),
        (record("A", "api.example.com", "192.0.2.7"), "400 81058"),
        (record("A", "api", "192.0.2.8"), "200"),
        (record("CNAME", "api", "example.com"), "400 81053"),
        (record("A", "www", "192.0.2.7"), "400 81054"),
    ])
    .await;
}

#[tokio::test]
async fn a_record_that_cannot_be_is_refused() {
    check(&[
        (record("A", "x", "not an address"), "400 1004"),
        (record("AAAA", "x", "192.0.2.1"), "400 1004"),
        (record("MX", "x", "mail.example.com"), "400 1004"),
        (record("NONE", "x", "y"), "400 1004"),
        (json!({ "type": "A", "name": "x", "content": "192.0.2.1", "ttl": 59 }), "400 1004"),
        (json!({ "type": "TXT", "name": "x", "content": "y", "proxied": true }), "400 1004"),
    ])
    .await;
}

#[tokio::test]
async fn a_record_lives_from_its_post_to_its_delete() {
    let house = House::new().await;
    let made = house
        .ask(Ask::new("POST /zones/{zone}/dns_records").json(&record("A", "api", "192.0.2.7")))
        .await
        .result();
    let path = format!("/zones/{{zone}}/dns_records/{}", made["id"].as_str().unwrap());
    let patch = json!({ "comment": "new" });
    let patched = house.ask(Ask::new(&format!("PATCH {path}")).json(&patch)).await.result();
    assert_eq!(patched["comment"], "new");
    assert_eq!(patched["content"], "192.0.2.7");
    let put = record("A", "api", "192.0.2.9");
    let replaced = house.ask(Ask::new(&format!("PUT {path}")).json(&put)).await.result();
    assert_eq!(replaced["content"], "192.0.2.9");
    assert_eq!(replaced["comment"], Value::Null);
    assert_eq!(house.ask(Ask::new(&format!("GET {path}"))).await.result(), replaced);
    assert_eq!(house.ask(Ask::new(&format!("DELETE {path}"))).await.verdict(), "200");
    assert_eq!(house.ask(Ask::new(&format!("GET {path}"))).await.verdict(), "404 81044");
}

#[tokio::test]
async fn a_batch_happens_whole_or_not_at_all() {
    let house = House::new().await;
    let before = count(&house).await;
    let bad = json!({ "posts": [record("A", "a", "192.0.2.1"), record("A", "b", "no")] });
    let batch = || Ask::new("POST /zones/{zone}/dns_records/batch");
    assert_eq!(house.ask(batch().json(&bad)).await.verdict(), "400 1004");
    assert_eq!(count(&house).await, before);
    let good = json!({ "posts": [record("A", "a", "192.0.2.1"), record("A", "b", "192.0.2.2")] });
    assert_eq!(house.ask(batch().json(&good)).await.verdict(), "200");
    assert_eq!(count(&house).await, before + 2);
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    let house = House::new().await;
    let file = house.ask(Ask::new("GET /zones/{zone}/dns_records/export")).await.text();
    let other = house.sim.zone_id("example.org").unwrap();
    let file = file.replace("example.com", "fresh.example.org");
    let form = format!(
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{file}\r\n--x--\r\n"
    );
    let ask = Ask::new(&format!("POST /zones/{other}/dns_records/import"));
    let came = house.ask(ask.bytes("multipart/form-data; boundary=x", form)).await;
    assert_eq!(came.result(), json!({ "recs_added": 5, "total_records_parsed": 5 }));
}

#[tokio::test]
async fn a_filter_shows_what_fits() {
    let house = House::new().await;
    for (query, expected) in [
        ("type=MX", 1),
        ("name=www.example.com", 1),
        ("name.contains=mail&type=A", 1),
        ("content.startswith=192.0.2.", 2),
        ("match=any&type=MX&name=www.example.com", 2),
    ] {
        let came = house.ask(Ask::new(&format!("GET /zones/{{zone}}/dns_records?{query}"))).await;
        assert_eq!(came.result().as_array().unwrap().len(), expected, "{query}");
    }
}
