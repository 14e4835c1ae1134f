//! Whose turn it is.

use std::collections::HashMap;

use super::{
    Bench, Class, Duration, Join, News, Room, Rule, Step, join, joins, leaves, of_class, prop,
    prop_assert, proptest, rule,
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
    let ask = |bench: &mut Bench, node: u64, news: &News| bench.of_node(node, news);
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
    let ask = |bench: &mut Bench, node: u64, news: &News| bench.of_node(node, news);
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
        let class = if is_high { Class::Interactive } else { Class::Bulk };
        (from..from + 8)
            .map(move |seq| Join { patience: 1_000, ..of_class(class, join(seq, "a", 4)) })
    };
    let step = bench.step(&joins(calls(0, false).collect()));
    assert_eq!((step.granted.len(), step.refused.len()), (6, 2));
    let step = bench.step(&joins(calls(10, true).collect()));
    assert_eq!((step.granted.len(), step.refused.len()), (4, 4));
}

/// How many of thirty calls, which come from these in turn, find room where five of an agent and
/// eight of a class may wait.
#[track_caller]
fn check_room(callers: &[(Class, &str)], expected: u64) {
    let mut bench = Bench::with(rule());
    let room = Room { agent: 5, class: 8 };
    let calls = (0..30).zip(callers.iter().cycle());
    let call = |(seq, (class, agent)): (u64, &(Class, &str))| Join {
        room,
        ..of_class(*class, join(seq, agent, 1))
    };
    let step = bench.step(&joins(calls.map(call).collect()));
    assert_eq!(step.granted.len() as u64 + step.waiting, expected);
    assert!(step.refused.iter().all(|(_, wait)| *wait > 0));
}

#[test]
fn an_agent_and_a_class_have_only_so_many_that_wait() {
    use Class::{Automation, Bulk, Interactive};
    check_room(&[(Automation, "a")], 5);
    // One that uses all classes has no more.
    check_room(&[(Bulk, "a"), (Automation, "a"), (Interactive, "a")], 5);
    check_room(&[(Automation, "a"), (Automation, "b"), (Automation, "c")], 8);
    let both = [(Bulk, "a"), (Automation, "b"), (Bulk, "c"), (Automation, "d")];
    check_room(&both, 16);
}

#[test]
fn who_is_gone_has_no_turn() {
    let mut bench = Bench::with(rule());
    bench.step(&joins((0..6).map(|seq| join(seq, "a", 1)).collect()));
    bench.step(&leaves(&[3, 4]));
    bench.run(60_000);
    assert_eq!(bench.served(), [0, 1, 2, 5]);
}
