//! What the stand-in remembers of what arrived.
use cloudflare_sim::{BODY_KEPT_MAX, Options};
use serde_json::json;

use crate::client::{Ask, House};

#[tokio::test]
async fn a_request_is_written_down_as_it_came() {
    let house = House::new().await;
    let ask = Ask::new("PUT /__sim/sink/..%2F?q=%20").header("x-odd", "yes");
    house.ask(ask.bytes("text/plain", "hello")).await;
    let arrival = house.sim.log().last().unwrap();
    assert_eq!(arrival.method, "PUT");
    assert_eq!(arrival.path, "/client/v4/__sim/sink/..%2F");
    assert_eq!(arrival.query.as_deref(), Some("q=%20"));
    assert_eq!(arrival.header("x-odd"), Some("yes"));
    assert_eq!(arrival.status, Some(404));
    assert_eq!(arrival.version, "HTTP/1.1");
}

#[tokio::test]
async fn a_body_is_kept_up_to_its_bound_and_digested_whole() {
    let house = House::new().await;
    for length in [0, 1, BODY_KEPT_MAX, BODY_KEPT_MAX + 1] {
        house.ask(Ask::new("PUT /__sim/sink").bytes("a/b", vec![1; length])).await;
        let body = house.sim.log().last().unwrap().body;
        assert_eq!(body.length, u64::try_from(length).unwrap());
        assert_eq!(body.kept.len(), length.min(BODY_KEPT_MAX));
        assert!(body.complete && body.sha256.is_some());
    }
}

#[tokio::test]
async fn the_oldest_is_forgotten_and_counted() {
    let house = House::with(Options { log_entries: 2, ..Options::default() }).await;
    for _ in 0..5 {
        house.ask(Ask::new("GET /ips")).await;
    }
    let log = house.sim.log();
    let kept: Vec<_> = log.arrivals().iter().map(|arrival| arrival.sequence).collect();
    assert_eq!((kept, log.forgotten()), (vec![4, 5], 3));
}

#[tokio::test]
async fn the_log_can_be_read_from_outside_and_control_calls_are_not_in_it() {
    let house = House::new().await;
    house.ask(Ask::new("POST /__sim/sink").json(&json!({ "a": 1 }))).await;
    let shown = house.ask(Ask::new("GET //__sim/log")).await.json();
    assert_eq!(shown["arrivals"].as_array().unwrap().len(), 1);
    assert_eq!(shown["arrivals"][0]["body"]["text"], "{\"a\":1}");
    let after = house.ask(Ask::new("GET //__sim/log?after=1")).await.json();
    assert_eq!(after["arrivals"], json!([]));
}

#[tokio::test]
async fn a_reset_takes_everything_back() {
    let house = House::new().await;
    house.ask(Ask::new("DELETE /zones/{zone}")).await;
    assert_eq!(house.sim.zone_id("example.com"), None);
    house.ask(Ask::new("POST //__sim/reset")).await;
    assert!(house.sim.zone_id("example.com").is_some());
    assert!(house.sim.log().arrivals().is_empty());
}
