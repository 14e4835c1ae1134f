//! The checker against one that looks at each pair, and against limiters that break the promise.

use model::{Rate, Tokens};
use proptest::prelude::*;

use super::{Bucket, Duration, Replay};
use crate::limit::Level;

fn replayed(bucket: Bucket, log: &[u64]) -> Replay {
    let mut sorted = log.to_vec();
    sorted.sort_unstable();
    let mut replay = Replay::new(bucket);
    sorted.into_iter().for_each(|at| replay.take(at));
    replay
}

fn worst(bucket: Bucket, log: &[u64]) -> i128 {
    replayed(bucket, log).worst().drawn.try_into().unwrap()
}

fn is_kept(bucket: Bucket, log: &[u64]) -> bool {
    replayed(bucket, log).excess(Duration::ZERO) == 0
}

/// The same by the promise's own words: each window from one take to another.
fn worst_by_pairs(bucket: Bucket, log: &[u64]) -> i128 {
    let mut sorted = log.to_vec();
    sorted.sort_unstable();
    let mut worst = 0;
    for (first, from) in sorted.iter().enumerate() {
        for (count, to) in (1..).zip(&sorted[first..]) {
            let allowed = i128::from(bucket.refill()) * i128::from(to - from);
            worst = worst.max(count * i128::from(bucket.unit()) - allowed);
        }
    }
    worst
}

proptest! {
    #[test]
    fn one_pass_finds_what_all_pairs_find(
        log in prop::collection::vec(0_u64..400, 0..40),
        refill in 0_u64..5,
        unit in 1_u64..50,
    ) {
        let bucket = Bucket::from_parts(refill, unit, 100).unwrap();
        prop_assert_eq!(worst(bucket, &log), worst_by_pairs(bucket, &log));
        // And the window that it names is as bad as it says.
        let worst = replayed(bucket, &log).worst();
        let inside = log.iter().filter(|at| (worst.from..=worst.to).contains(at)).count() as u64;
        prop_assert!(inside >= worst.count);
        let back = u128::from(refill) * u128::from(worst.to - worst.from);
        prop_assert_eq!(u128::from(worst.count) * u128::from(unit), worst.drawn + back);
    }
}

const BURST: u64 = 10;
const SECOND: u64 = 1_000_000;

/// Ten tokens, ten a second.
fn bucket() -> Bucket {
    let rate = Rate::parse("10", Duration::from_secs(1)).unwrap();
    Bucket::new(rate, &BURST.to_string(), Tokens(0)).unwrap()
}

/// Those who come in phases: a rush, idleness, a rush at the edge of a window, a steady stream.
/// Independent arrivals break no limiter.
fn arrivals() -> Vec<u64> {
    let rush = |at: u64| (0..30).map(move |number| at + number);
    let steady = (0..100).map(|number| 7 * SECOND + number * 40_000);
    [rush(0), rush(950_000), rush(1_000_000), rush(2_900_000), rush(3_050_000), rush(5_999_000)]
        .into_iter()
        .flatten()
        .chain(rush(6_001_000))
        .chain(steady)
        .chain(rush(30 * SECOND))
        .collect()
}

/// What a limiter admits of the arrivals, and whether the checker lets it pass.
#[track_caller]
fn check(mut limiter: impl FnMut(u64) -> bool, keeps: bool) {
    let log: Vec<u64> = arrivals().into_iter().filter(|at| limiter(*at)).collect();
    assert!(log.len() >= 50, "{}", log.len());
    assert_eq!(is_kept(bucket(), &log), keeps, "{} of {}", worst(bucket(), &log), BURST);
}

#[test]
fn an_ideal_bucket_keeps_the_promise() {
    let mut level = Level::full(model::Uptime::default());
    check(
        |at| {
            let taken = level.take(bucket(), Tokens(1), model::Uptime::from_micros(at));
            taken.map(|(next, _)| level = next).is_ok()
        },
        true,
    );
}

#[test]
fn a_fixed_window_is_caught() {
    let mut window = (0, 0);
    check(
        |at| {
            if window.0 != at / SECOND {
                window = (at / SECOND, 0);
            }
            window.1 += 1;
            window.1 <= BURST
        },
        false,
    );
}

/// It lets pass what a window of one second may hold, weighing the window before.
#[test]
fn a_sliding_counter_is_caught() {
    let (mut now, mut before, mut window) = (0, 0, 0);
    check(
        |at| {
            if window != at / SECOND {
                (before, now) = (if at / SECOND == window + 1 { now } else { 0 }, 0);
                window = at / SECOND;
            }
            let weighted = now + before * (SECOND - at % SECOND) / SECOND;
            let admitted = weighted < BURST + BURST;
            now += u64::from(admitted);
            admitted
        },
        false,
    );
}

/// The arrival time of the next, clamped after idleness to so much before now.
fn clamped(tolerance: u64) -> impl FnMut(u64) -> bool {
    let (period, mut next) = (SECOND / BURST, 0_i128);
    move |at| {
        let at = i128::from(at);
        next = next.max(at - i128::from(tolerance));
        let admitted = next - at <= i128::from(period * (BURST - 1));
        next += if admitted { i128::from(period) } else { 0 };
        admitted
    }
}

#[test]
fn a_clamp_that_reaches_into_the_past_is_caught() {
    check(clamped(0), true);
    check(clamped(SECOND / 2), false);
}

#[test]
fn giving_back_what_refilled_meanwhile_is_caught() {
    let mut level = Level::full(model::Uptime::default());
    let mut taken = 0_u64;
    check(
        |at| {
            let now = model::Uptime::from_micros(at);
            let Ok((next, _)) = level.take(bucket(), Tokens(1), now) else { return false };
            level = next;
            taken += 1;
            // Every third is given back after it was used.
            if taken.is_multiple_of(3) {
                let (used, unit, at) = level.parts();
                level = Level::restored(used.saturating_sub(unit), unit, at);
            }
            true
        },
        false,
    );
}

#[test]
fn a_tolerance_forgives_what_comes_back_in_it() {
    // Three tokens of ten a second, a hundred milliseconds too early.
    let bucket = Bucket::new(Rate::parse("10", Duration::from_secs(1)).unwrap(), "2", Tokens(0));
    let replay = replayed(bucket.unwrap(), &[0, 0, 0]);
    assert_eq!(replay.excess(Duration::ZERO), 1);
    assert_eq!(replay.excess(Duration::from_millis(99)), 1);
    assert_eq!(replay.excess(Duration::from_millis(100)), 0);
}

/// Each of three nodes takes the half that was its share when there were two.
#[test]
fn a_share_among_fewer_nodes_than_there_are_is_caught() {
    let share = |nodes: u64| {
        let part = Bucket::from_parts(1, bucket().unit() * nodes, bucket().capacity()).unwrap();
        let mut levels = [Level::full(model::Uptime::default()); 3];
        let mut turn = 0;
        move |at| {
            turn = (turn + 1) % levels.len();
            let taken = levels[turn].take(part, Tokens(1), model::Uptime::from_micros(at));
            taken.map(|(next, _)| levels[turn] = next).is_ok()
        }
    };
    check(share(3), true);
    check(share(2), false);
}
