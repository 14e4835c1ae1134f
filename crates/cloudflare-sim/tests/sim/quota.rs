//! The rate limit as a client sees it.
use std::sync::Arc;
use std::time::Duration;

use cloudflare_sim::{ManualClock, Options, Quota};
use jiff::Timestamp;

use crate::client::{Ask, House};

/// Asks at each second and writes `status/left/retry-after`.
async fn check(calls: u32, at: &[u64], expected: &str) {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let quota = Quota { calls, ..Quota::default() };
    let house = House::with(Options { quota, clock: clock.clone(), ..Options::default() }).await;
    let (mut now, mut seen) = (0, Vec::new());
    for second in at {
        clock.advance(Duration::from_secs(second - now));
        now = *second;
        let came = house.ask(Ask::new("GET /zones")).await;
        let left = came.header("ratelimit").to_owned();
        let left = left.split("r=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or("?");
        seen.push(format!("{}/{left}/{}", came.verdict(), came.header("retry-after")));
    }
    assert_eq!(seen.join(" "), expected);
}

#[tokio::test]
async fn one_call_too_many_blocks_for_five_minutes() {
    check(2, &[0, 1, 2, 301, 302], "200/1/ 200/0/ 429 971/0/300 429 971/0/1 200/1/").await;
}

#[tokio::test]
async fn the_policy_is_told_with_every_answer() {
    let house = House::new().await;
    let came = house.ask(Ask::new("GET /zones")).await;
    assert_eq!(came.header("ratelimit-policy"), "\"default\";q=1200;w=300");
    assert_eq!(came.header("ratelimit"), "\"default\";r=1199;t=300");
}
