//! The checker of the hard bound, by two pointers over a log; and limiters that it must fail.

use super::{
    Bench, Duration, News, Principal, Ring, Rule, join, joins, prop, prop_assert, proptest, rule,
};

/// The most calls that any window of this length holds.
fn worst(window: u64, log: &[u64]) -> usize {
    let (mut first, mut worst) = (0, 0);
    for (last, at) in log.iter().enumerate() {
        while log[first] + window <= *at {
            first += 1;
        }
        worst = worst.max(last - first + 1);
    }
    worst
}

/// Rushes at the edges of windows of two seconds, and steady callers between them.
fn arrivals() -> Vec<u64> {
    let rush = |at: u64| (0..40).map(move |number| at + number);
    let steady = (0..400).map(|number| 30_000 + number * 25);
    let rushes = [
        0, 1_990, 2_000, 2_009, 4_000, 5_970, 7_960, 9_950, 11_990, 14_020, 50_190, 52_001, 60_008,
        62_000,
    ];
    rushes.into_iter().flat_map(rush).chain(steady).collect()
}

/// What a limiter lets pass of the arrivals, and whether any window holds more than ten of them.
#[track_caller]
fn check(mut passes: impl FnMut(u64) -> bool, keeps: bool) {
    let log: Vec<u64> = arrivals().into_iter().filter(|at| passes(*at)).collect();
    assert!(log.len() >= 60, "{}", log.len());
    let (worst, quota) = (worst(2_000, &log), 10);
    assert_eq!(worst <= quota, keeps, "{worst} in a window");
}

/// A ring of a rule, as a limiter.
fn ring(rule: Rule) -> impl FnMut(u64) -> bool {
    let mut ring = Ring::default();
    move |at| {
        ring.turn(&rule, at);
        let passes = ring.used() < rule.quota;
        if passes {
            ring.count(&rule, at, 1);
        }
        passes
    }
}

#[test]
fn the_ring_keeps_every_window() {
    check(ring(rule()), true);
    let exact = rule().window / rule().slot;
    check(ring(Rule { span: exact, ..rule() }), true);
}

#[test]
fn a_ring_that_is_a_slot_short_is_caught() {
    let exact = rule().window / rule().slot;
    // Slots of a tenth of the window show it best.
    let coarse = Rule { slot: 200, span: 10, ..rule() };
    check(ring(coarse), true);
    check(ring(Rule { span: 9, ..coarse }), false);
    check(ring(Rule { span: exact - 1, ..rule() }), false);
}

#[test]
fn a_fixed_window_is_caught() {
    let mut window = (0, 0);
    check(
        |at| {
            if window.0 != at / 2_000 {
                window = (at / 2_000, 0);
            }
            window.1 += 1;
            window.1 <= 10
        },
        false,
    );
}

#[test]
fn a_bucket_of_the_quota_that_refills_it_is_caught() {
    let mut bucket = super::super::pace::Pace::default();
    let rule = Rule { burst: 10, ..rule() };
    check(
        |at| {
            bucket.turn(&rule, at);
            let passes = bucket.wait(&rule, at, 1) == 0;
            if passes {
                bucket.count(&rule);
            }
            passes
        },
        false,
    );
}

proptest! {
    #[test]
    fn no_window_ever_holds_more_than_the_quota(
        quota in 1_u64..40,
        window in 1_000_u64..5_000,
        burst in 1_u64..40,
        steps in prop::collection::vec((0_u64..900, 0_u64..20), 1..60),
    ) {
        let millis = Duration::from_millis(window);
        let mut bench = Bench::with(Rule::new(quota, millis, burst, 0, millis));
        let mut seq = 0;
        for (pause, calls) in steps {
            bench.run(pause);
            bench.now += pause / 3;
            let calls = (0..calls).map(|call| join(seq + call, "a", 1)).collect::<Vec<_>>();
            seq += 20;
            bench.step(&joins(calls));
        }
        let span = window + u64::try_from(bench.rule.transit().as_millis()).unwrap();
        prop_assert!(worst(span, &bench.times()) as u64 <= quota, "{:?}", bench.times());
    }

    /// An estimate of the wait is kept where nothing else happens, and never too pessimistic.
    #[test]
    fn who_is_let_in_is_served_in_time(
        before in 0_u64..30,
        patience in 0_u64..6_000,
    ) {
        let mut bench = Bench::with(rule());
        for call in 0..before {
            bench.step(&joins(vec![join(call, "a", 1)]));
        }
        let last = super::Join { patience, ..join(99, "a", 1) };
        let came = bench.now;
        let step = bench.step(&joins(vec![last]));
        bench.run(60_000);
        let served = bench.log.iter().find(|(_, grant)| grant.seq == 99).map(|(at, _)| at - came);
        match step.refused.first() {
            Some((_, wait)) => prop_assert!(*wait > patience && served.is_none()),
            None => prop_assert!(served.unwrap() <= patience + 100, "{served:?} {patience}"),
        }
    }
}

proptest! {
    /// Whoever is refused and comes again when it was told to has its turn at once.
    #[test]
    fn who_is_refused_is_told_when_its_turn_would_come(
        before in 1_u64..40,
        share in 1_u64..5,
        patience in 0_u64..2_000,
    ) {
        let mut bench = Bench::with(rule());
        bench.step(&joins((0..before).map(|call| join(call, "a", 1)).collect()));
        let call = |seq| super::Join { patience, ..join(seq, "b", share) };
        // Those of its own agent that wait count as well.
        bench.step(&joins((100..105).map(|seq| super::Join { patience: 60_000, ..call(seq) }).collect()));
        let Some((_, wait)) = bench.step(&joins(vec![call(99)])).refused.first().copied() else {
            return Ok(());
        };
        bench.run(wait);
        bench.now = bench.now.max(1_000_000 + wait);
        let again = super::Join { patience: 100, ..call(200) };
        let step = bench.step(&joins(vec![again]));
        prop_assert!(step.refused.is_empty(), "{step:?} after {wait}");
    }
}

#[test]
fn a_backlog_uses_nearly_the_whole_quota() {
    let rule = Rule::new(1_200, Duration::from_secs(300), 120, 0, Duration::from_secs(300));
    assert_eq!((rule.slot, rule.span), (1_000, 301));
    let mut bench = Bench::with(rule);
    let mut seq = 0;
    let hour = bench.now + 3_600_000;
    while bench.now < hour {
        if bench.step(&News::default()).waiting < 30 {
            seq += 1;
            bench.step(&joins(vec![join(seq, "a", 1)]));
        } else {
            let next = bench.step(&News::default()).next;
            bench.now += next.clamp(1, 100);
        }
    }
    let calls = bench.log.len();
    // 12 windows and the burst of the first.
    assert!(calls >= 12 * 1_200 * 98 / 100, "{calls}");
    assert!(worst(301_000, &bench.times()) <= 1_200);
}

#[test]
fn what_is_lost_counts_as_a_whole_quota() {
    let mut bench = Bench::with(rule());
    bench.principal = Principal::lost(&bench.rule, bench.now);
    let step = bench.step(&joins(vec![super::Join { patience: 2_000, ..join(1, "a", 1) }]));
    assert_eq!(step.granted, []);
    assert!(step.refused[0].1 >= 2_250, "{step:?}");
    bench.step(&joins(vec![join(2, "a", 1)]));
    bench.run(10_000);
    assert!(bench.times()[0] >= 1_000_000 + 2_250, "{:?}", bench.times());
}
