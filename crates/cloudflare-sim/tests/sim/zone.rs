//! Zones, accounts, settings, plans.
use serde_json::{Value, json};

use crate::client::{Ask, House};

/// Asks in order and compares each status and error code.
async fn check(steps: &[(&str, Value, &str)]) {
    let house = House::new().await;
    for (line, body, verdict) in steps {
        let came = house.ask(Ask::new(line).json(body)).await;
        assert_eq!(came.verdict(), *verdict, "{line} {body}: {}", came.text());
    }
}

#[tokio::test]
async fn a_zone_exists_once() {
    check(&[
        ("POST /zones", json!({ "name": "new.example" }), "200"),
        ("POST /zones", json!({ "name": "NEW.example" }), "400 1061"),
        ("POST /zones", json!({ "name": "nodot" }), "400 1049"),
        ("DELETE /zones/{zone}", Value::Null, "200"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_no_identifier_has_no_route() {
    check(&[
        ("GET /zones/zz", Value::Null, "400 7003"),
        ("GET /zones/00000000000000000000000000000000", Value::Null, "404 1001"),
        ("GET /accounts/00000000000000000000000000000000/tokens", Value::Null, "403 10000"),
        ("GET /nothing", Value::Null, "404 7003"),
        ("PATCH /zones", Value::Null, "405 7001"),
    ])
    .await;
}

#[tokio::test]
async fn every_answer_wears_the_envelope() {
    let house = House::new().await;
    for line in ["GET /zones", "GET /zones/zz", "GET /user", "GET /nothing"] {
        let came = house.ask(Ask::new(line)).await.json();
        for name in ["success", "errors", "messages", "result"] {
            assert!(came.get(name).is_some(), "{line} has no {name}");
        }
    }
}

#[tokio::test]
async fn pages_hold_what_they_say() {
    let house = House::new().await;
    let came = house.ask(Ask::new("GET /zones?page=2&per_page=1&order=name")).await;
    assert_eq!(came.result()[0]["name"], "example.org");
    let info = json!({ "page": 2, "per_page": 1, "count": 1, "total_count": 2, "total_pages": 2 });
    assert_eq!(came.json()["result_info"], info);
    let past = house.ask(Ask::new("GET /zones?page=3&per_page=1")).await;
    assert_eq!(past.result(), json!([]));
}

#[tokio::test]
async fn a_setting_keeps_its_kind() {
    check(&[
        ("PATCH /zones/{zone}/settings/ssl", json!({ "value": "strict" }), "200"),
        ("PATCH /zones/{zone}/settings/ssl", json!({ "value": 7 }), "400 1007"),
        ("PATCH /zones/{zone}/settings/none", json!({ "value": "on" }), "400 1003"),
    ])
    .await;
}

#[tokio::test]
async fn a_purge_says_what_it_purges() {
    check(&[
        ("POST /zones/{zone}/purge_cache", json!({ "purge_everything": true }), "200"),
        ("POST /zones/{zone}/purge_cache", json!({ "files": ["https://example.com/"] }), "200"),
        ("POST /zones/{zone}/purge_cache", json!({}), "400 1012"),
    ])
    .await;
}

#[tokio::test]
async fn a_plan_is_charged_when_it_changes_and_not_when_it_stays() {
    let house = House::new().await;
    let pro = json!({ "rate_plan": { "id": "pro" } });
    for _ in 0..2 {
        let came = house.ask(Ask::new("PUT /zones/{zone}/subscription").json(&pro)).await;
        assert_eq!(came.result()["price"], 25);
    }
    let charges = house.sim.charges();
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0].amount.to_string(), "25.00");
    assert_eq!(charges[0].account, house.sim.account_id());
    let listed = house.ask(Ask::new("GET /zones/{zone}/available_rate_plans")).await;
    assert_eq!(listed.result()[1]["components"][0]["unit_price"], 25);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_identifiers() {
    let (one, other) = (House::new().await, House::new().await);
    assert_eq!(one.sim.account_id(), other.sim.account_id());
    assert_eq!(one.sim.zone_id("example.org"), other.sim.zone_id("example.org"));
}
