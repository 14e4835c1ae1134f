//! Domains and the card that pays for them.
use std::sync::Arc;
use std::time::Duration;

use cloudflare_sim::{ManualClock, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::client::{Ask, House};

/// Orders each and compares verdict, state and what the card was charged in all.
async fn check(desk: &str, orders: &[(Value, &str, &str)], charged: &str) {
    let house = House::new().await;
    for (order, verdict, state) in orders {
        let ask = Ask::new(&format!("POST /accounts/{{account}}/{desk}/registrations"));
        let came = house.ask(ask.json(order)).await;
        assert_eq!(came.verdict(), *verdict, "{order}: {}", came.text());
        assert_eq!(
            came.result().get("state").and_then(Value::as_str).unwrap_or_default(),
            *state,
            "{order}"
        );
    }
    let charges = house.sim.charges();
    let charges: Vec<_> =
        charges.iter().map(|one| format!("{}*{}={}", one.what, one.periods, one.amount)).collect();
    assert_eq!(charges.join(" "), charged);
}

fn order(domain: &str) -> Value {
    json!({ "domain_name": domain })
}

#[tokio::test]
async fn a_registration_is_charged_once_however_often_it_is_asked_for() {
    let orders = [
        (order("shiny.com"), "201", "succeeded"),
        (order("shiny.com"), "200", "succeeded"),
        (order("SHINY.com"), "200", "succeeded"),
    ];
    check("registrar", &orders, "shiny.com*1=8.57").await;
}

#[tokio::test]
async fn further_years_cost_the_renewal_price() {
    let order = json!({ "domain_name": "shiny.org", "years": 3 });
    check("registrar", &[(order, "201", "succeeded")], "shiny.org*3=27.72").await;
}

#[tokio::test]
async fn what_cannot_be_had_costs_nothing() {
    let orders = [
        (order("taken.com"), "409 10011", ""),
        (order("abc.com"), "400 10012", ""),
        (order("shiny.nowhere"), "400 10010", ""),
        (order("nodot"), "400 10010", ""),
        (json!({ "domain_name": "shiny.com", "years": 11 }), "400 10001", ""),
        (order("failing.com"), "201", "failed"),
        (order("stuck.com"), "202", "action_required"),
    ];
    check("registrar", &orders, "").await;
}

#[tokio::test]
async fn the_sandbox_charges_nobody() {
    let orders =
        [(order("shiny.com"), "201", "succeeded"), (order("shiny.com"), "200", "succeeded")];
    check("registrar-sandbox", &orders, "").await;
}

#[tokio::test]
async fn a_slow_registration_succeeds_when_its_wait_is_over() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let own = clock.clone();
    let house = House::with(Options { clock: own, ..Options::default() }).await;
    let create = Ask::new("POST /accounts/{account}/registrar/registrations");
    let came = house.ask(create.json(&order("slowly.dev"))).await;
    assert_eq!(came.verdict(), "202");
    let link = came.result()["links"]["self"].as_str().unwrap().to_owned();
    for (wait, state) in [(9, "in_progress"), (1, "succeeded")] {
        clock.advance(Duration::from_secs(wait));
        let came = house.ask(Ask::new(&format!("GET {link}"))).await;
        assert_eq!(came.result()["state"], state);
    }
    let shown =
        house.ask(Ask::new("GET /accounts/{account}/registrar/registrations/slowly.dev")).await;
    assert_eq!(shown.result()["status"], "active");
    assert_eq!(house.sim.charges().len(), 1);
}

#[tokio::test]
async fn the_price_of_a_check_is_the_price_of_the_registration() {
    let house = House::new().await;
    let names = json!({ "domains": ["shiny.app", "abc.app", "taken.app", "shiny.nowhere"] });
    let check = Ask::new("POST /accounts/{account}/registrar/domain-check").json(&names);
    let shown = house.ask(check).await.result();
    assert_eq!(shown["domains"][0]["pricing"]["registration_cost"], "11.00");
    let told =
        |index: usize| shown["domains"][index]["reason"].as_str().unwrap_or("yes").to_owned();
    let told = [told(0), told(1), told(2), told(3)].join(" ");
    assert_eq!(told, "yes domain_premium domain_unavailable extension_not_supported");
    let create = Ask::new("POST /accounts/{account}/registrar/registrations");
    house.ask(create.json(&order("shiny.app"))).await;
    assert_eq!(house.sim.charges()[0].amount.to_string(), "11.00");
}

#[tokio::test]
async fn a_domain_of_one_account_is_nothing_to_another() {
    let house = House::new().await;
    let create = Ask::new("POST /accounts/{account}/registrar/registrations");
    house.ask(create.json(&order("shiny.com"))).await;
    let other = house.ask(Ask::new("POST /accounts").json(&json!({ "name": "other" }))).await;
    let desk = format!("/accounts/{}/registrar", other.result()["id"].as_str().unwrap());
    let again = Ask::new(&format!("POST {desk}/registrations")).json(&order("shiny.com"));
    assert_eq!(house.ask(again).await.verdict(), "409 10011");
    let show = Ask::new(&format!("GET {desk}/registrations/shiny.com"));
    assert_eq!(house.ask(show).await.verdict(), "404 10404");
}
