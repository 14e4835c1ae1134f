//! Places in the queue: whoever leaves leaves nothing, and whoever asks twice has one.

use super::{
    Bench, Class, Grant, Join, Leave, News, Rule, join, joins, leaves, of_class, prop, prop_assert,
    prop_assert_eq, proptest, rule,
};

/// A quota that gives one turn at once, and the others one by one.
fn slow() -> Bench {
    Bench::with(Rule { burst: 1, ..rule() })
}

#[test]
fn an_agent_whose_calls_hung_up_is_not_behind_them() {
    let mut bench = slow();
    bench.step(&joins((0..40).map(|seq| join(seq, "a", 1)).collect()));
    bench.step(&joins((40..44).map(|seq| join(seq, "b", 1)).collect()));
    bench.step(&leaves(&(1..40).collect::<Vec<_>>()));
    bench.step(&joins((50..54).map(|seq| join(seq, "a", 1)).collect()));
    bench.run(60_000);
    assert_eq!(bench.served(), [0, 40, 41, 50, 42, 51, 43, 52, 53]);
}

#[test]
fn an_agent_whose_calls_hung_up_has_room_for_others() {
    let mut bench = slow();
    bench.step(&joins((0..140).map(|seq| join(seq, "a", 1)).collect()));
    bench.step(&leaves(&(1..100).collect::<Vec<_>>()));
    let step = bench.step(&joins((200..300).map(|seq| join(seq, "a", 1)).collect()));
    assert_eq!((step.refused, step.waiting), (vec![], 100));
}

#[test]
fn a_call_whose_time_is_over_is_told_how_long_it_would_still_have_been() {
    let mut bench = slow();
    bench.step(&joins((0..6).map(|seq| join(seq, "a", 1)).collect()));
    let leave = |seq, asks| Leave { asks, seq, flow: join(seq, "a", 1).flow };
    let leaves = vec![leave(4, true), leave(5, false), leave(77, true)];
    let step = bench.step(&News { leaves, ..News::default() });
    assert_eq!((step.refused, step.waiting), (vec![(4, 800)], 3));
}

#[test]
fn who_joins_twice_keeps_its_place_and_pays_once() {
    let mut bench = slow();
    let calls: Vec<Join> = (0..4).map(|seq| join(seq, "a", 1)).collect();
    bench.step(&joins(calls.clone()));
    bench.step(&joins((10..14).map(|seq| join(seq, "b", 1)).collect()));
    // The answer was lost: all that wait ask once more, and again.
    for _ in 0..3 {
        let step = bench.step(&joins(calls[1..].to_vec()));
        assert_eq!((step.waiting, step.refused), (7, vec![]));
    }
    bench.run(60_000);
    assert_eq!(bench.served(), [0, 10, 1, 11, 2, 12, 3, 13]);
}

#[test]
fn a_turn_whose_answer_was_lost_is_told_again_and_not_given_twice() {
    let mut bench = slow();
    let ask = |number, heard, seqs: &[u64]| News {
        number,
        heard,
        joins: seqs.iter().map(|seq| join(*seq, "a", 1)).collect(),
        ..News::default()
    };
    assert_eq!(bench.step(&ask(1, 0, &[1, 2])).granted.len(), 1);
    bench.now += 60;
    let step = bench.step(&ask(2, 0, &[1, 2]));
    assert_eq!(step.granted, [Grant { seq: 1, number: 1, is_probe: false, age: 60 }]);
    assert_eq!((step.used, step.waiting), (1, 1));
    // Heard of: from now on it is another call.
    let step = bench.step(&ask(3, 1, &[1]));
    assert_eq!((step.granted, step.waiting), (vec![], 2));
    // One that hung up meanwhile is not told any more.
    bench.now += 400;
    assert_eq!(bench.step(&ask(4, 1, &[])).granted[0].seq, 2);
    bench.step(&News { number: 5, heard: 1, ..leaves(&[2]) });
    assert_eq!(bench.step(&ask(6, 1, &[2])).granted, []);
}

#[test]
fn a_step_that_was_overtaken_on_its_way_brings_nothing() {
    let mut bench = slow();
    bench.step(&joins(vec![join(0, "a", 1)]));
    bench.step(&News { number: 5, ..leaves(&[3]) });
    let late = News { number: 4, ..joins(vec![join(3, "a", 1)]) };
    assert_eq!(bench.step(&late).waiting, 0);
    assert_eq!(bench.step(&News { number: 5, ..late.clone() }).waiting, 1);
}

#[test]
fn the_calls_of_a_node_that_is_gone_leave_at_once() {
    let mut bench = slow();
    bench.of_node(1, &joins((0..30).map(|seq| join(seq, "a", 1)).collect()));
    bench.of_node(2, &joins((0..3).map(|seq| join(seq, "a", 1)).collect()));
    bench.now += super::super::AWAY;
    assert_eq!(bench.of_node(2, &News::default()).waiting, 32);
    bench.now += 1;
    let step = bench.of_node(2, &News::default());
    assert_eq!((step.granted.len(), step.waiting), (1, 2));
    assert!(bench.of_node(1, &News::default()).forgotten);
    assert!(!bench.of_node(1, &News::default()).forgotten, "it was told");
}

/// A call of the agent and the class of these numbers, whose weight belongs to both.
fn call(seq: u64, agent: usize, class: usize) -> Join {
    let class = [Class::Bulk, Class::Automation, Class::Interactive][class];
    let weight = (1 + agent as u64) * class.factor();
    of_class(class, join(seq, ["a", "b", "c"][agent], weight))
}

proptest! {
    /// Whatever joined and left meanwhile, the others have the turns that they would have had; but
    /// of flows that tie, another may be the first.
    #[test]
    fn who_comes_and_goes_changes_nobody_s_turn(
        calls in prop::collection::vec((0_usize..3, 0_usize..3, prop::bool::ANY), 1..60),
    ) {
        let (mut with, mut without) = (slow(), slow());
        for bench in [&mut with, &mut without] {
            bench.step(&joins(vec![join(0, "z", 1)]));
        }
        let all: Vec<(Join, bool)> = (1..)
            .zip(calls)
            .map(|(seq, (agent, class, leaves))| (call(seq, agent, class), leaves))
            .collect();
        let which = |leaves: bool| {
            let calls = all.iter().filter(move |(_, of)| *of == leaves);
            calls.map(|(call, _)| call.clone()).collect::<Vec<_>>()
        };
        with.step(&joins(all.iter().map(|(call, _)| call.clone()).collect()));
        let leave = |call: Join| Leave { seq: call.seq, flow: call.flow, asks: false };
        let leaves = which(true).into_iter().map(leave).collect();
        with.step(&News { leaves, ..News::default() });
        without.step(&joins(which(false)));
        with.run(600_000);
        without.run(600_000);
        prop_assert_eq!(with.served().len(), which(false).len() + 1);
        for turns in 0..=with.served().len() {
            for flow in all.iter().map(|(call, _)| &call.flow) {
                let had = |bench: &Bench| {
                    let served = &bench.served()[..turns];
                    let of_flow = |(call, _): &&(Join, bool)| {
                        call.flow == *flow && served.contains(&call.seq)
                    };
                    all.iter().filter(of_flow).map(|(call, _)| call.seq).collect::<Vec<_>>()
                };
                let (one, other) = (had(&with), had(&without));
                prop_assert!(one.len().abs_diff(other.len()) <= 1, "{:?} {:?}", one, other);
                prop_assert!(one.starts_with(&other) || other.starts_with(&one));
            }
        }
    }
}
