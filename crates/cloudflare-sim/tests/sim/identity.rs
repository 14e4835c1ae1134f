//! Who calls, and what they may.
use std::sync::Arc;
use std::time::Duration;

use cloudflare_sim::{
    DEFAULT_TOKEN, GlobalKey, ManualClock, Options, Permission, Token, TokenStatus,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::client::{Ask, House};

const READER: &str = "reader_0123456789";
const DISABLED: &str = "disabled_0123456789";
const LATE: &str = "late_0123456789_late";
const GLOBAL: &str = "cfk_0123456789abcdefghijABCDEFGHIJ0123456789";

async fn house() -> House {
    let now = Timestamp::UNIX_EPOCH;
    let disabled = Token { status: TokenStatus::Disabled, ..Token::all(DISABLED) };
    let late = Token { expires_on: Some(now - SignedDuration::from_secs(1)), ..Token::all(LATE) };
    let tokens = vec![Token::all(DEFAULT_TOKEN), Token::read_only(READER), disabled, late];
    let key = GlobalKey { email: "user@example.com".to_owned(), key: GLOBAL.to_owned() };
    let clock = Arc::new(ManualClock::new(now));
    House::with(Options { tokens, global_key: Some(key), clock, ..Options::default() }).await
}

/// Asks with these headers and compares the status and the error's code.
async fn check(line: &str, headers: &[(&str, &str)], verdict: &str) {
    let house = house().await;
    let ask =
        headers.iter().fold(Ask::new(line).header("authorization", ""), |ask, (name, value)| {
            ask.header(name, value)
        });
    assert_eq!(house.ask(ask.json(&json!({}))).await.verdict(), verdict, "{line} {headers:?}");
}

#[tokio::test]
async fn only_a_known_token_in_force_is_let_in() {
    let bearer = |secret: &str| format!("Bearer {secret}");
    check("GET /zones", &[("authorization", &bearer(DEFAULT_TOKEN))], "200").await;
    check("GET /zones", &[("authorization", &bearer("stranger_0123456789"))], "403 9109").await;
    check("GET /zones", &[("authorization", &bearer(DISABLED))], "403 9109").await;
    check("GET /zones", &[("authorization", &bearer(LATE))], "403 9109").await;
    check("GET /zones", &[], "400 9106").await;
    check("GET /zones", &[("authorization", "Basic abc")], "400 6003").await;
    check("GET /ips", &[], "200").await;
}

#[tokio::test]
async fn a_token_that_reads_may_change_nothing() {
    let reader = format!("Bearer {READER}");
    let headers = [("authorization", reader.as_str())];
    check("GET /zones/{zone}", &headers, "200").await;
    check("POST /zones/{zone}/purge_cache", &headers, "403 10000").await;
    check("POST /accounts/{account}/registrar/domain-check", &headers, "400 6007").await;
}

#[tokio::test]
async fn the_global_key_needs_its_address() {
    let email = ("x-auth-email", "user@example.com");
    check("GET /user", &[email, ("x-auth-key", GLOBAL)], "200").await;
    check("GET /user", &[("x-auth-email", "x@example.com"), ("x-auth-key", GLOBAL)], "403 9103")
        .await;
    check("GET /user", &[email, ("x-auth-key", "short")], "400 6003").await;
}

#[tokio::test]
async fn a_token_may_ask_how_it_stands() {
    for (secret, expected) in [(DEFAULT_TOKEN, "active"), (DISABLED, "disabled"), (LATE, "expired")]
    {
        let ask = Ask::new("GET /user/tokens/verify");
        let came =
            house().await.ask(ask.header("authorization", &format!("Bearer {secret}"))).await;
        assert_eq!(came.result()["status"], expected);
    }
    let stranger = [("authorization", "Bearer stranger_0123456789")];
    check("GET /user/tokens/verify", &stranger, "401 1000").await;
}

#[tokio::test]
async fn a_made_token_works_until_it_is_rolled_and_its_roll_until_it_is_deleted() {
    let house = House::new().await;
    let groups = house.ask(Ask::new("GET /user/tokens/permission_groups?name=DNS%20Write")).await;
    let draft = json!({ "name": "made", "policies": [{
        "effect": "allow", "resources": { "com.cloudflare.api.account.*": "*" },
        "permission_groups": [{ "id": groups.result()[0]["id"] }] }] });
    let made = house.ask(Ask::new("POST /user/tokens").json(&draft)).await.result();
    let (id, first) = (made["id"].as_str().unwrap(), made["value"].as_str().unwrap().to_owned());
    let verdict = async |secret: &str| {
        let ask = Ask::new("GET /zones").header("authorization", &format!("Bearer {secret}"));
        house.ask(ask).await.verdict()
    };
    assert_eq!(verdict(&first).await, "200");
    let rolled =
        house.ask(Ask::new(&format!("PUT /user/tokens/{id}/value")).json(&json!({}))).await;
    let second = rolled.result().as_str().unwrap().to_owned();
    assert_eq!(verdict(&first).await, "403 9109");
    assert_eq!(verdict(&second).await, "200");
    house.ask(Ask::new(&format!("DELETE /user/tokens/{id}"))).await;
    assert_eq!(verdict(&second).await, "403 9109");
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let ends = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60);
    let token =
        Token { permission: Permission::All, expires_on: Some(ends), ..Token::all(DEFAULT_TOKEN) };
    let own = Arc::clone(&clock);
    let house =
        House::with(Options { tokens: vec![token], clock: own, ..Options::default() }).await;
    clock.advance(Duration::from_secs(59));
    assert_eq!(house.ask(Ask::new("GET /zones")).await.verdict(), "200");
    clock.advance(Duration::from_secs(1));
    assert_eq!(house.ask(Ask::new("GET /zones")).await.verdict(), "403 9109");
}
