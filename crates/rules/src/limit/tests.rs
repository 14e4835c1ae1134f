//! Laws of buckets: the bound over every window, exactness, and the queue of `limit-req`.

use model::{Bucket, Rate, Tokens, Uptime};
use proptest::prelude::{Strategy as _, prop, prop_assert, proptest};

use super::{Duration, Level, Short};

fn bucket(rate: &str, burst: &str, extra: u64) -> Bucket {
    let rate = Rate::parse(rate, Duration::from_secs(1)).unwrap();
    Bucket::new(rate, burst, Tokens(extra)).unwrap()
}

/// Draws one token at each moment (milliseconds) and compares the answers: `y`es or `n`o.
fn check(rate: &str, burst: &str, moments: &[u64], expected: &str) {
    let bucket = bucket(rate, burst, 0);
    let mut level = Level::full(Uptime::default());
    let answer = |&millis: &u64| match level.take(bucket, Tokens(1), at(millis)) {
        Ok((next, _)) => {
            level = next;
            'y'
        }
        Err(_) => 'n',
    };
    assert_eq!(moments.iter().map(answer).collect::<String>(), expected);
}

fn at(millis: u64) -> Uptime {
    Uptime::from_micros(millis * 1_000)
}

#[test]
fn a_full_bucket_grants_its_burst_and_no_more() {
    check("10", "10", &[0; 12], "yyyyyyyyyynn");
}

#[test]
fn a_token_is_back_after_its_interval_and_not_before() {
    check("10", "1", &[0, 99, 100, 199, 200], "ynyny");
}

#[test]
fn a_bucket_of_zero_grants_nothing() {
    check("10", "0", &[0, 10_000], "nn");
}

#[test]
fn a_rate_of_zero_grants_its_burst_once() {
    check("0", "2", &[0, 0, 1_000_000_000], "yyn");
}

#[test]
fn a_clock_that_goes_back_refills_nothing() {
    check("10", "1", &[1_000, 0, 500, 1_050, 1_100], "ynnny");
}

#[test]
fn a_long_idle_time_fills_the_bucket_and_no_more() {
    check("1000", "2", &[0, 0, u64::MAX / 1_000, u64::MAX / 1_000, u64::MAX / 1_000], "yyyyn");
}

#[test]
fn what_costs_more_than_the_bucket_holds_is_never_granted() {
    let level = Level::full(Uptime::default());
    assert_eq!(level.take(bucket("10", "5", 0), Tokens(6), at(0)), Err(Short::Never));
}

#[test]
fn a_short_bucket_says_exactly_when() {
    let bucket = bucket("3", "1", 0);
    let (level, _) = Level::full(at(0)).take(bucket, Tokens(1), at(0)).unwrap();
    let Err(Short::For(wait)) = level.take(bucket, Tokens(1), at(0)) else { panic!("granted") };
    assert_eq!(wait, Duration::from_micros(333_334));
    assert!(level.take(bucket, Tokens(1), at(0).plus(wait)).is_ok());
    assert!(level.take(bucket, Tokens(1), at(0).plus(wait - Duration::from_micros(1))).is_err());
}

/// The article's `limit-req`: ten a second, five may wait. The seventh at one instant is refused,
/// and those before it wait a tenth of a second each.
#[test]
fn of_seven_at_one_instant_the_article_admits_six_in_turn() {
    let bucket = bucket("10", "5", 1);
    let mut level = Level::full(at(0));
    let mut turns = Vec::new();
    while let Ok((next, taken)) = level.take(bucket, Tokens(1), at(0)) {
        turns.push(taken.turn.as_millis());
        level = next;
    }
    assert_eq!(turns, [0, 100, 200, 300, 400, 500]);
}

#[test]
fn a_changed_rate_keeps_what_was_used() {
    let slow = bucket("1", "10", 0);
    let fast = bucket("7", "10", 0);
    let mut level = Level::full(at(0));
    for _ in 0..8 {
        (level, _) = level.take(slow, Tokens(1), at(0)).unwrap();
    }
    let (_, taken) = level.take(fast, Tokens(1), at(0)).unwrap();
    assert_eq!(taken.left, Tokens(1));
}

#[test]
fn a_shrunk_bucket_grants_nothing_until_it_has_drained() {
    let (mut level, now) = (Level::full(at(0)), at(0));
    for _ in 0..10 {
        (level, _) = level.take(bucket("1", "10", 0), Tokens(1), now).unwrap();
    }
    let small = bucket("1", "2", 0);
    assert_eq!(level.take(small, Tokens(1), now), Err(Short::For(Duration::from_secs(9))));
}

/// The worst excess over all windows of a log of admissions, by replaying it through an ideal
/// bucket; equivalent to checking `admitted ≤ burst + rate · w` for every window.
fn worst_over(admitted: &[u64], rate: u64, burst: u64) -> bool {
    let windows = admitted.iter().enumerate().flat_map(|(first, &start)| {
        admitted[first..]
            .iter()
            .enumerate()
            .map(move |(count, &end)| (count as u64 + 1, end - start))
    });
    // Exact in integers: count ≤ burst + rate · micros / 10^6.
    windows.into_iter().any(|(count, micros)| {
        u128::from(count) * 1_000_000 > u128::from(burst) * 1_000_000 + u128::from(rate * micros)
    })
}

fn admitted(
    rate: u64,
    burst: u64,
    gaps: &[u64],
    take: impl Fn(Level, Bucket, Uptime) -> Option<Level>,
) -> Vec<u64> {
    let bucket = bucket(&rate.to_string(), &burst.to_string(), 0);
    let (mut level, mut now, mut log) = (Level::full(Uptime::default()), 0, Vec::new());
    for gap in gaps {
        now += gap;
        if let Some(next) = take(level, bucket, Uptime::from_micros(now)) {
            level = next;
            log.push(now);
        }
    }
    log
}

fn honest(level: Level, bucket: Bucket, now: Uptime) -> Option<Level> {
    level.take(bucket, Tokens(1), now).ok().map(|(next, _)| next)
}

/// A mutant that forgets what was used after an idle time; the checker must catch it.
fn forgetful(level: Level, bucket: Bucket, now: Uptime) -> Option<Level> {
    let idle = now.since(level.at) > Duration::from_millis(5);
    honest(if idle { Level::full(now) } else { level }, bucket, now)
}

#[test]
fn the_checker_catches_a_bucket_that_forgets() {
    let gaps: Vec<u64> = [0, 0, 0, 0, 6_000].into_iter().cycle().take(60).collect();
    assert!(!worst_over(&admitted(10, 4, &gaps, honest), 10, 4));
    assert!(worst_over(&admitted(10, 4, &gaps, forgetful), 10, 4));
}

proptest! {
    #[test]
    fn in_every_window_no_more_than_burst_and_rate_allow(
        rate in 1_u64..5_000,
        burst in 1_u64..40,
        gaps in prop::collection::vec(prop::num::u64::ANY.prop_map(|n| match n % 3 {
            0 => 0,
            1 => n % 700,
            _ => n % 90_000,
        }), 1..200),
    ) {
        let log = admitted(rate, burst, &gaps, honest);
        prop_assert!(!worst_over(&log, rate, burst));
    }

    #[test]
    fn a_refused_draw_is_granted_when_it_was_told_to_come(
        rate in 1_u64..5_000,
        burst in 1_u64..40,
        gap in 0_u64..10_000,
    ) {
        let bucket = bucket(&rate.to_string(), &burst.to_string(), 0);
        let mut level = Level::full(Uptime::default());
        let mut now = Uptime::from_micros(gap);
        for _ in 0..burst + 5 {
            match level.take(bucket, Tokens(1), now) {
                Ok((next, _)) => level = next,
                Err(Short::For(wait)) => {
                    now = now.plus(wait);
                    let (next, _) = level.take(bucket, Tokens(1), now).unwrap();
                    level = next;
                }
                Err(Short::Never) => prop_assert!(false, "never"),
            }
        }
    }
}
