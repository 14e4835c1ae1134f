//! What the upstream says.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use model::Timestamp;

use super::{
    Bench, Blocked, Duration, Join, News, Probe, Report, Rule, Said, join, joins, report, rule,
};

fn refused(number: u64, blocked: Blocked) -> News {
    report(number, Said { blocked: Some(blocked), ..Said::default() })
}

fn blocked(number: u64, millis: u64) -> News {
    refused(number, Blocked::For(millis))
}

#[test]
fn a_429_stops_everybody_and_then_one_call_finds_out() {
    let mut bench = Bench::with(rule());
    bench.step(&joins(vec![join(1, "a", 1)]));
    let step = bench.step(&blocked(1, 7_000));
    assert_eq!(step.blocked, 7_000);
    bench.step(&joins((2..6).map(|seq| join(seq, "a", 1)).collect()));
    bench.run(40_000);
    // The probe's answer does not come: after half a minute another is sent.
    let times: Vec<u64> = bench.times().iter().map(|at| at - 1_000_000).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(times[1] == 7_000 && (37_000..37_200).contains(&times[2]), "{times:?}");
    let (_, probe) = bench.log[2];
    assert!(probe.is_probe);
    // A call that was sent before the stop says nothing of its end.
    bench.step(&report(1, Said::default()));
    assert_eq!(bench.log.len(), 3);
    let said = Said::default();
    let answered = Report { number: probe.number, probe: Probe::Answered, said };
    let step = bench.step(&News { reports: vec![answered], ..News::default() });
    assert_eq!((step.granted.len(), step.blocked), (0, 0), "it begins with nothing saved up");
    bench.run(2_000);
    assert_eq!(bench.log.len(), 5);
}

#[test]
fn a_call_that_found_nothing_out_makes_way_for_another() {
    let mut bench = Bench::with(rule());
    bench.step(&joins(vec![join(1, "a", 1)]));
    bench.step(&blocked(1, 1_000));
    bench.step(&joins((2..5).map(|seq| join(seq, "a", 1)).collect()));
    bench.run(1_500);
    assert_eq!(bench.log.len(), 2);
    let lost = Report { number: 2, probe: Probe::Lost, said: Said::default() };
    bench.step(&News { reports: vec![lost], ..News::default() });
    assert_eq!(bench.log.len(), 3);
    assert!(bench.log[2].1.is_probe, "it is not known yet");
}

#[test]
fn a_429_that_names_no_time_stops_for_the_quota_s_own() {
    let mut bench = Bench::with(rule());
    assert_eq!(bench.step(&refused(0, Blocked::Unsaid)).blocked, 5_000);
    // A shorter one does not end it.
    assert_eq!(bench.step(&blocked(0, 1_000)).blocked, 5_000);
}

#[test]
fn a_429_that_is_over_at_once_lets_one_call_find_out() {
    let mut bench = Bench::with(rule());
    bench.step(&joins(vec![join(1, "a", 1)]));
    assert_eq!(bench.step(&blocked(1, 0)).blocked, 0);
    let step = bench.step(&joins((2..6).map(|seq| join(seq, "a", 1)).collect()));
    assert_eq!((step.granted.len(), step.waiting), (1, 3), "two more have room, and wait for one");
    assert!(step.granted[0].is_probe);
    let answered =
        Report { number: step.granted[0].number, probe: Probe::Answered, said: Said::default() };
    bench.step(&News { reports: vec![answered], ..News::default() });
    bench.run(60_000);
    assert_eq!(bench.served(), [1, 2, 3, 4, 5]);
    assert!(bench.log[2..].iter().all(|(_, grant)| !grant.is_probe));
}

#[test]
fn who_would_wait_beyond_a_block_is_told_of_the_slow_beginning_after_it() {
    let mut bench = Bench::with(rule());
    bench.step(&joins(vec![join(1, "a", 1)]));
    bench.step(&blocked(1, 1_000));
    let calls = (2..8).map(|seq| Join { patience: 1_500, ..join(seq, "a", 1) });
    let step = bench.step(&joins(calls.collect()));
    // The one that finds out, and those that the pace gives by then: 5 a second for a fifth of a
    // second, then 10 of two seconds.
    let refused: Vec<u64> = step.refused.iter().map(|(seq, _)| *seq).collect();
    assert_eq!((refused, step.waiting), (vec![5, 6, 7], 3));
    assert_eq!(step.refused[0].1, 1_000 + 3 * 200 + 100);
    // It is so: but for the answer to the one, nothing else happens.
    while bench.log.len() < 2 {
        bench.run(10);
    }
    let number = bench.log[1].1.number;
    let answered = Report { number, probe: Probe::Answered, said: Said::default() };
    bench.step(&News { reports: vec![answered], ..News::default() });
    bench.run(60_000);
    assert!(bench.times()[3] <= 1_000_000 + 1_500 + 100, "{:?}", bench.times());
}

#[test]
fn what_is_left_only_tightens_within_a_window() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    bench.step(&joins((0..4).map(|seq| join(seq, "a", 1)).collect()));
    let left =
        |number, left, until| report(number, Said { left: Some((left, until)), ..Said::default() });
    // The first was answered; three more are on their way and may not be counted there.
    bench.step(&left(1, 5, 900));
    bench.step(&left(4, 9, 900));
    bench.step(&joins((4..9).map(|seq| join(seq, "a", 1)).collect()));
    assert_eq!(bench.log.len(), 6);
    bench.run(60_000);
    assert_eq!(bench.times()[6] - 1_000_000, 900);
}

#[test]
fn what_others_use_is_learnt_and_left_to_them() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    for round in 0..40 {
        bench.now += 50;
        let said = Said { used: Some(4), ..Said::default() };
        let step = bench.step(&report(round, said));
        assert!(step.headroom <= 4);
    }
    let step = bench.step(&joins((0..10).map(|seq| join(seq, "a", 1)).collect()));
    assert_eq!((step.granted.len(), step.headroom), (6, 4));
    for round in 0..40 {
        bench.step(&report(round, Said { used: Some(0), ..Said::default() }));
    }
    assert_eq!(bench.step(&News::default()).headroom, 1);
}

/// What fields say: calls left, for how many milliseconds, calls used, milliseconds of a block.
#[track_caller]
fn check(status: u16, fields: &[(&'static str, &'static str)], expected: Said) {
    let rule = Rule::new(1_200, Duration::from_secs(300), 1, 0, Duration::ZERO);
    let fields = fields
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let headers: HeaderMap = fields.collect();
    let status = StatusCode::from_u16(status).unwrap();
    let now = Timestamp::from_secs(1_700_000_000);
    assert_eq!(super::super::said(&rule, status, &headers, now), expected);
}

#[test]
fn the_fields_of_every_form_are_read() {
    let left = |left, until| Said { left: Some((left, until)), ..Said::default() };
    check(200, &[("ratelimit", "\"default\";r=50;t=30")], left(50, 30_000));
    check(
        200,
        &[
            ("ratelimit", "\"default\";r=50;t=30, \"burst\";r=7;t=9"),
            ("ratelimit-policy", "\"burst\";q=100;w=60, \"default\";q=1200;w=300"),
        ],
        Said { used: Some(1_150), ..left(7, 9_000) },
    );
    check(200, &[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "60")], left(3, 60_000));
    let moment = [("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "1700000060")];
    check(200, &moment, left(3, 60_000));
    check(200, &[("ratelimit-remaining", "3"), ("ratelimit-reset", "5")], left(3, 5_000));
    check(503, &[("retry-after", "12")], Said::default());
    for nonsense in ["", "r=1", "\"a\";r=x;t=1", ";;;,,,", "\"a\";r=-1;t=2"] {
        check(200, &[("ratelimit", nonsense)], Said::default());
    }
}

/// What a 429 with this `Retry-After` says.
#[track_caller]
fn check_after(fields: &[(&'static str, &'static str)], expected: Blocked) {
    check(429, fields, Said { blocked: Some(expected), ..Said::default() });
}

/// RFC 9110 §10.2.3. It is 14 November 2023, 22:13:20.
#[test]
fn retry_after_is_a_number_of_seconds_or_a_moment_in_each_form() {
    check_after(&[], Blocked::Unsaid);
    check_after(&[("retry-after", "12")], Blocked::For(12_000));
    check_after(&[("retry-after", "0")], Blocked::For(0));
    check_after(&[("retry-after", "99999999999999999999")], Blocked::For(86_400_000));
    for moment in [
        "Tue, 14 Nov 2023 22:13:50 GMT",
        "Tuesday, 14-Nov-23 22:13:50 GMT",
        "Tue Nov 14 22:13:50 2023",
    ] {
        check_after(&[("retry-after", moment)], Blocked::For(30_000));
    }
    check_after(&[("retry-after", "Tue Nov  7 22:13:50 2023")], Blocked::For(0));
    let ahead = [
        ("retry-after", "Tue, 14 Nov 2023 23:13:50 GMT"),
        ("date", "Tue, 14 Nov 2023 23:13:20 GMT"),
    ];
    check_after(&ahead, Blocked::For(30_000));
    for nonsense in ["", "soon", "-1", "1.5", "Tue, 14 Nov 2023", "Tue, 14 Nov 2023 22:13:50 CET"] {
        check_after(&[("retry-after", nonsense)], Blocked::Unsaid);
    }
}
