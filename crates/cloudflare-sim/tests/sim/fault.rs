//! What goes wrong on purpose, as a client sees it.
use std::time::Duration;

use cloudflare_sim::{Effect, Fault, Point, When};
use serde_json::json;

use crate::client::{Ask, House, Lost, PATIENCE};

/// Lets `effect` strike one `GET /user` and compares what the client sees; the next call is well.
async fn check(effect: Effect, seen: Result<&str, Lost>) {
    let house = House::new().await;
    let fault = Fault::new(effect).under("/client/v4/user").when(When::First(1));
    house.sim.faults().inject(fault).unwrap();
    let came = house.try_ask(Ask::new("GET /user"), PATIENCE).await;
    assert_eq!(came.map(|came| came.verdict()), seen.map(str::to_owned));
    assert_eq!(house.ask(Ask::new("GET /user")).await.verdict(), "200");
}

#[tokio::test]
async fn a_status_is_answered_in_the_envelope() {
    check(Effect::status(503), Ok("503 503")).await;
    check(Effect::status(429), Ok("429 429")).await;
}

#[tokio::test]
async fn a_closed_connection_answers_nothing() {
    for at in [Point::Head, Point::Body, Point::Done] {
        check(Effect::Close { at }, Err(Lost::Head)).await;
        check(Effect::Reset { at }, Err(Lost::Head)).await;
    }
}

#[tokio::test]
async fn a_body_that_is_cut_has_no_end() {
    check(Effect::CloseMidBody { after_bytes: 10 }, Err(Lost::End)).await;
}

#[tokio::test]
async fn garbage_is_no_http() {
    check(Effect::Garbage { text: "\u{1}\u{2}nonsense\r\n\r\n".to_owned() }, Err(Lost::Head)).await;
}

#[tokio::test]
async fn a_late_or_slow_answer_is_whole() {
    check(Effect::Delay { millis: 5, at: Point::Body }, Ok("200")).await;
    check(Effect::Drip { bytes: 100, millis: 1 }, Ok("200")).await;
}

#[tokio::test]
async fn a_hung_call_never_answers() {
    let house = House::new().await;
    house.sim.faults().inject(Fault::new(Effect::Hang { at: Point::Done })).unwrap();
    let came = house.try_ask(Ask::new("GET /user"), Duration::from_millis(200)).await;
    assert_eq!(came.map(|came| came.verdict()), Err(Lost::Time));
    house.sim.stop().await;
}

#[tokio::test]
async fn what_is_struck_before_its_work_changes_nothing_and_after_it_everything() {
    for (at, charges) in [(Point::Head, 0), (Point::Body, 0), (Point::Done, 1)] {
        let house = House::new().await;
        house.sim.faults().inject(Fault::new(Effect::Close { at }).when(When::First(1))).unwrap();
        let ask = Ask::new("POST /accounts/{account}/registrar/registrations")
            .json(&json!({ "domain_name": "shiny.com" }));
        assert_eq!(house.try_ask(ask, PATIENCE).await.map(|_| ()), Err(Lost::Head));
        assert_eq!(house.sim.charges().len(), charges, "{at:?}");
    }
}

#[tokio::test]
async fn asking_again_after_a_lost_answer_charges_once() {
    let house = House::new().await;
    let fault = Fault::new(Effect::Close { at: Point::Done }).when(When::First(1));
    house.sim.faults().inject(fault).unwrap();
    let ask = Ask::new("POST /accounts/{account}/registrar/registrations")
        .json(&json!({ "domain_name": "shiny.com" }));
    assert_eq!(house.try_ask(ask.clone(), PATIENCE).await.map(|_| ()), Err(Lost::Head));
    assert_eq!(house.ask(ask).await.verdict(), "200");
    assert_eq!(house.sim.charges().len(), 1);
}

#[tokio::test]
async fn faults_can_be_armed_and_cleared_from_outside() {
    let house = House::new().await;
    let fault = json!({ "path_prefix": "/client/v4/zones", "effect": { "answer": {
        "status": 500, "headers": [["x-odd", "yes"]], "body": "{}" } } });
    let armed = house.ask(Ask::new("POST //__sim/faults").json(&fault)).await;
    assert_eq!(armed.status.as_u16(), 200, "{}", armed.text());
    let came = house.ask(Ask::new("GET /zones")).await;
    assert_eq!(
        (came.status.as_u16(), came.header("x-odd"), came.text().as_str()),
        (500, "yes", "{}")
    );
    let shown = house.ask(Ask::new("GET //__sim/faults")).await.json();
    assert_eq!(shown[0]["struck"], 1);
    house.ask(Ask::new("DELETE //__sim/faults")).await;
    assert_eq!(house.ask(Ask::new("GET /zones")).await.verdict(), "200");
    let broken =
        house.ask(Ask::new("POST //__sim/faults").json(&json!({ "effect": "none" }))).await;
    assert_eq!(broken.verdict(), "400 6007");
}
