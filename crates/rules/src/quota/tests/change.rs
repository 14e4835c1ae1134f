//! Another rule for the same credential.

use super::{Bench, Blocked, Duration, Edition, News, Past, Principal, Rule, join, joins, rule};

#[test]
fn a_change_of_the_quota_forgets_no_call() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    bench.step(&joins((0..10).map(|seq| join(seq, "a", 1)).collect()));
    // A share changes no unit: what was called leaves when it would have.
    (bench.rule.reserve, bench.revision) = (2, 2);
    bench.now += 2_200;
    assert_eq!(bench.step(&joins(vec![join(10, "a", 1)])).used, 10);
    bench.now += 70;
    assert_eq!(bench.step(&News::default()).used, 1);
}

#[test]
fn slots_of_another_length_stay_for_a_whole_window_from_now() {
    let mut bench = Bench::with(Rule::new(10, Duration::from_secs(20), 10, 0, Duration::ZERO));
    bench.step(&joins((0..6).map(|seq| join(seq, "a", 1)).collect()));
    bench.now += 15_000;
    (bench.rule, bench.revision) =
        (Rule::new(10, Duration::from_secs(10), 3, 0, Duration::ZERO), 2);
    assert_eq!(bench.step(&News::default()).used, 6);
    bench.now += 10_000;
    assert_eq!(bench.step(&News::default()).used, 6);
}

#[test]
fn a_longer_window_counts_what_the_shorter_has_forgotten() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    for round in 0..3 {
        bench.step(&joins((round * 10..round * 10 + 10).map(|seq| join(seq, "a", 1)).collect()));
        bench.run(60_000);
        bench.now += 2_260;
    }
    assert_eq!((bench.log.len(), bench.step(&News::default()).used), (30, 0));
    bench.rule = Rule::new(40, Duration::from_secs(6), 40, 0, Duration::ZERO);
    bench.revision = 2;
    let step = bench.step(&joins((50..70).map(|seq| join(seq, "a", 1)).collect()));
    // The longer window and its way reach back over three of the shorter, of ten calls each.
    assert_eq!((step.used, step.granted.len()), (30, 0));
    // Of a fleet that has just begun it is known that there were no more.
    let mut fresh = Bench::with(Rule { burst: 10, ..rule() });
    fresh.step(&joins((0..3).map(|seq| join(seq, "a", 1)).collect()));
    (fresh.rule, fresh.revision) = (bench.rule, 2);
    assert_eq!(fresh.step(&News::default()).used, 3);
}

#[test]
fn while_nodes_serve_two_documents_all_go_by_the_newer() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    let older = bench.rule;
    let newer = Rule { quota: 4, burst: 4, ..older };
    let ask = |bench: &mut Bench, node: u64, revision: u64, rule: Rule| {
        (bench.rule, bench.revision) = (rule, revision);
        let calls = (0..3).map(|call| join(bench.now + call, "a", 1)).collect();
        let step = bench.of_node(node, &joins(calls));
        (step.in_force, step.used)
    };
    assert_eq!(ask(&mut bench, 1, 7, older), (None, 3));
    assert_eq!(ask(&mut bench, 2, 8, newer), (None, 4));
    // The older node is told, and its calls are counted by the newer rule.
    assert_eq!(ask(&mut bench, 1, 7, older), (Some(newer), 4));
    assert_eq!(ask(&mut bench, 2, 9, newer), (None, 4), "the same rule, of a later document");
    assert_eq!(ask(&mut bench, 1, 8, older), (Some(newer), 4));
    assert_eq!(ask(&mut bench, 1, 10, older).0, None);
    // A fleet that was set up anew begins with the first revision, and is heard in the end.
    bench.now += 599_999;
    assert_eq!(ask(&mut bench, 2, 1, newer).0, Some(older));
    bench.now += 2;
    assert_eq!(ask(&mut bench, 2, 1, newer).0, None);
}

#[test]
fn of_two_quotas_of_one_document_the_stricter_counts_the_credential() {
    let strict = rule();
    let loose = Rule { quota: 11, ..strict };
    let mut bench = Bench::with(loose);
    let ask = |bench: &mut Bench, rule: Rule| {
        bench.rule = rule;
        bench.step(&News::default()).in_force
    };
    let found = [loose, strict, loose, strict].map(|rule| ask(&mut bench, rule));
    assert_eq!(found, [None, None, Some(strict), None]);
}

#[test]
fn a_stop_keeps_the_calls_by_the_rule_that_counted_them() {
    let mut bench = Bench::with(Rule { burst: 10, ..rule() });
    bench.step(&joins((0..6).map(|seq| join(seq, "a", 1)).collect()));
    bench.now += 5_000;
    bench.step(&joins((10..14).map(|seq| join(seq, "a", 1)).collect()));
    bench.step(&super::report(
        9,
        super::Said { blocked: Some(Blocked::For(700)), ..Default::default() },
    ));
    let past = bench.principal.past(bench.now).unwrap();
    let expected = Past { rule: bench.rule, calls: vec![(0, 4)], before: 6, blocked: 700 };
    assert_eq!(past, expected);
    assert_eq!(Principal::default().past(0), None);
    // The document has changed meanwhile, and began anew: six may be in the longer window.
    let rule = Rule::new(40, Duration::from_secs(20), 40, 0, Duration::ZERO);
    let mut known = Principal::known(&past, 9_000_000);
    let step = known.step(&Edition { revision: 1, rule }, 9_000_000, 1, &News::default());
    assert_eq!((step.used, step.blocked), (10, 700));
}
