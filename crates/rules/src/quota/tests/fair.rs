//! Whose turn it is.

use std::collections::HashMap;

use super::{
    Bench, Duration, Join, News, Rule, Step, join, joins, prop, prop_assert, proptest, rule,
};

/// What flows of these weights get of a long backlog, turn by turn.
fn shares(weights: &[u64], turns: usize) -> Vec<Vec<u64>> {
    let quick = Rule::new(1_000, Duration::from_secs(1), 1, 0, Duration::ZERO);
    let mut bench = Bench::with(quick);
    let mut flow_of = HashMap::new();
    let (mut seq, mut got, mut shares) = (0, vec![0; weights.len()], Vec::new());
    let mut waiting = vec![0; weights.len()];
    while shares.len() < turns {
        let mut came = Vec::new();
        for (flow, weight) in weights.iter().enumerate() {
            while waiting[flow] < 4 {
                seq += 1;
                waiting[flow] += 1;
                flow_of.insert(seq, flow);
                came.push(join(seq, &flow.to_string(), *weight));
            }
        }
        // One turn at a time, so that everybody is always there.
        for grant in bench.step(&joins(came)).granted {
            let flow = flow_of[&grant.seq];
            waiting[flow] -= 1;
            got[flow] += 1;
            shares.push(got.clone());
        }
        bench.now += 1;
    }
    shares
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    /// |Si/wi − Sj/wj| ≤ 2 · max(cost/w) at every turn, for all that are backlogged.
    #[test]
    fn no_flow_is_ever_ahead_of_its_share_by_more_than_the_bound(
        weights in prop::collection::vec(1_u64..8, 2..6),
    ) {
        let least = *weights.iter().min().unwrap();
        for got in shares(&weights, 200) {
            for (one, of_one) in got.iter().zip(&weights) {
                for (other, of_other) in got.iter().zip(&weights) {
                    let apart = (one * of_other).abs_diff(other * of_one);
                    prop_assert!(apart * least <= 2 * of_one * of_other, "{:?} {:?}", got, weights);
                }
            }
        }
    }
}

/// Grants of flows, in their order, as letters.
fn order(bench: &mut Bench, names: &HashMap<u64, char>) -> String {
    bench.run(60_000);
    bench.log.iter().map(|(_, grant)| names[&grant.seq]).collect()
}

#[test]
fn who_was_away_saves_nothing_up() {
    let mut bench = Bench::with(Rule { burst: 1, ..rule() });
    let names: HashMap<u64, char> =
        (1..=6).map(|seq| (seq, 'a')).chain((7..=10).map(|seq| (seq, 'b'))).collect();
    bench.step(&joins((1..=6).map(|seq| join(seq, "a", 1)).collect()));
    bench.run(700);
    bench.step(&joins((7..=10).map(|seq| join(seq, "b", 1)).collect()));
    let order = order(&mut bench, &names);
    assert!(order.starts_with("aaa"), "{order}");
    // From then on in turns, not first all that `b` missed.
    assert!(order.contains("bab") && !order.contains("bbbb"), "{order}");
}

#[test]
fn a_step_gives_turns_only_to_the_node_that_asks_and_in_order() {
    let mut bench = Bench::with(rule());
    let ask = |bench: &mut Bench, node: u64, news: &News| {
        let (rule, now) = (bench.rule, bench.now);
        bench.principal.step(&rule, now, node, news)
    };
    ask(&mut bench, 1, &joins((0..4).map(|seq| join(seq, "x", 1)).collect()));
    let seqs = |step: &Step| step.granted.iter().map(|grant| grant.seq).collect::<Vec<_>>();
    // Three went at once; the next of node 1 is first, then two of node 2.
    let step = ask(&mut bench, 2, &joins(vec![join(7, "x", 1), join(8, "x", 1)]));
    assert_eq!((seqs(&step), step.waiting), (vec![], 3));
    bench.now += 210;
    let step = ask(&mut bench, 2, &News::default());
    assert_eq!((seqs(&step), step.next), (vec![], 0), "it is another's turn");
    assert_eq!(seqs(&ask(&mut bench, 1, &News::default())), [3]);
    bench.now += 210;
    assert_eq!(seqs(&ask(&mut bench, 2, &News::default())), [7]);
}

#[test]
fn a_node_that_is_gone_holds_nobody_up_and_joins_again() {
    let mut bench = Bench::with(Rule { burst: 1, ..rule() });
    let ask = |bench: &mut Bench, node: u64, news: &News| {
        let (rule, now) = (bench.rule, bench.now);
        bench.principal.step(&rule, now, node, news)
    };
    let step = ask(&mut bench, 1, &joins(vec![join(1, "a", 1), join(2, "a", 1)]));
    assert_eq!(step.granted.len(), 1);
    ask(&mut bench, 2, &joins(vec![join(1, "a", 1)]));
    bench.now += super::super::AWAY;
    ask(&mut bench, 2, &News::default());
    bench.now += 1;
    assert_eq!(ask(&mut bench, 2, &News::default()).granted.len(), 1);
    assert!(ask(&mut bench, 1, &News::default()).forgotten);
}

#[test]
fn the_reserve_is_for_the_highest_class_alone() {
    let mut bench = Bench::with(Rule { burst: 10, reserve: 4, ..rule() });
    let calls = |from: u64, is_high: bool| {
        (from..from + 8).map(move |seq| Join { is_high, patience: 1_000, ..join(seq, "a", 4) })
    };
    let step = bench.step(&joins(calls(0, false).collect()));
    assert_eq!((step.granted.len(), step.refused.len()), (6, 2));
    let step = bench.step(&joins(calls(10, true).collect()));
    assert_eq!((step.granted.len(), step.refused.len()), (4, 4));
}

#[test]
fn a_flow_has_only_so_many_that_wait() {
    let mut bench = Bench::with(rule());
    let calls = |flow: &'static str| {
        (0..30).map(move |seq| Join { queue_max: 5, ..join(seq, flow, 1) }).collect::<Vec<_>>()
    };
    let step = bench.step(&joins(calls("a")));
    assert_eq!(step.granted.len() + usize::try_from(step.waiting).unwrap(), 5);
    assert!(step.refused.iter().all(|(_, wait)| *wait > 0));
}

#[test]
fn who_is_gone_has_no_turn() {
    let mut bench = Bench::with(rule());
    bench.step(&joins((0..6).map(|seq| join(seq, "a", 1)).collect()));
    bench.step(&News { drops: vec![3, 4], ..News::default() });
    bench.run(60_000);
    let seqs: Vec<u64> = bench.log.iter().map(|(_, grant)| grant.seq).collect();
    assert_eq!(seqs, [0, 1, 2, 5]);
}
