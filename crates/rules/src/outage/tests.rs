//! Laws of what a node may do and of what the fleet agrees on; and a fleet in virtual time.

mod store;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{AUTHORITY, Epoch, Holder, LEASE, Mode, Reach, Report, Sight, Source, Terms, WAIT};
use super::{decide, part};
use world::{Mutant, World};

fn epoch(era: u64, mode: Mode) -> Epoch {
    let members = (1..=3).map(|node| (node, format!("n{node}"))).collect();
    Epoch { number: 1, era, life: 7, mode, members }
}

fn local(nodes: &[u64]) -> Mode {
    Mode::Local { sharing: nodes.iter().copied().collect() }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

/// What the leader of three voters agrees on next, when it hears this.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "the cases read better so")]
fn check(current: Option<&Epoch>, said: &[(u64, Reach)], expected: Option<(u64, u64, Mode)>) {
    let nodes: BTreeSet<u64> = (1..=3).collect();
    let report = |reach| Report { name: String::from("n"), reach, for_ms: 1_000 };
    let reports: BTreeMap<u64, Report> =
        said.iter().map(|(node, reach)| (*node, report(*reach))).collect();
    let heard: BTreeSet<u64> = reports.keys().copied().collect();
    let steady = (heard.len() >= 2).then_some(&heard);
    let sight = Sight { nodes: &nodes, voters: &nodes, reports: &reports, steady, is_wanted: true };
    let next = decide(current, &sight).filter(|next| {
        current
            .is_none_or(|now| (now.life, &now.mode, now.era) != (next.life, &next.mode, next.era))
    });
    assert_eq!(next.map(|next| (next.era, next.life, next.mode)), expected);
}

const AT: Reach = Reach::At { life: 7 };

#[test]
fn the_store_is_left_when_a_majority_does_not_reach_it_and_no_sooner() {
    let now = epoch(4, Mode::Store);
    check(Some(&now), &[(1, AT), (2, Reach::Away), (3, AT)], None);
    let left = Some((5, 7, local(&[1, 2, 3])));
    check(Some(&now), &[(1, AT), (2, Reach::Away), (3, Reach::Away)], left);
    check(Some(&now), &[(1, Reach::Away)], None);
    check(Some(&now), &[(1, Reach::Away), (3, Reach::Away)], Some((5, 7, local(&[1, 3]))));
    check(Some(&now), &[(1, Reach::Waits), (2, Reach::Away), (3, Reach::Waits)], None);
}

#[test]
fn a_life_that_a_majority_finds_counts_and_another_ones_does_not() {
    let now = epoch(4, Mode::Store);
    let new = Reach::At { life: 9 };
    check(Some(&now), &[(1, AT), (2, new), (3, AT)], None);
    check(Some(&now), &[(1, AT), (2, new), (3, new)], Some((5, 9, Mode::Store)));
    let unknown = Epoch { life: 0, ..now };
    check(Some(&unknown), &[(1, new), (2, new), (3, AT)], Some((4, 9, Mode::Store)));
    check(None, &[(1, new), (2, new)], None);
    check(None, &[(1, new), (2, new), (3, new)], Some((0, 9, Mode::Store)));
}

#[test]
fn the_store_that_is_back_begins_anew() {
    let now = epoch(4, local(&[1, 2, 3]));
    check(Some(&now), &[(1, AT), (2, AT), (3, Reach::Away)], Some((5, 0, Mode::Store)));
    check(Some(&now), &[(1, AT), (2, Reach::Away), (3, Reach::Away)], None);
    check(Some(&now), &[(1, Reach::Away), (3, Reach::Away)], Some((5, 7, local(&[1, 3]))));
    let ahead = Reach::Ahead { number: 12 };
    let store = epoch(4, Mode::Store);
    check(Some(&store), &[(1, ahead), (2, ahead), (3, AT)], Some((5, 0, Mode::Store)));
}

#[test]
fn a_node_counts_only_while_it_is_sure_and_when_all_others_have_stopped() {
    let mut node = Holder::new(2, Terms::default());
    assert_eq!(node.source(), Source::Nobody);
    node.hear(1_000_000, &epoch(1, local(&[2, 3])));
    assert!(!node.source().is_live(1_000_000 + micros(WAIT)), "nobody has confirmed it");
    let asked = micros(WAIT);
    node.confirm(asked, 1, Duration::ZERO);
    assert!(matches!(node.source(), Source::Local { parts: 2, .. }));
    assert!(!node.source().is_live(999_999 + micros(WAIT)));
    assert!(node.source().is_live(1_000_000 + micros(WAIT)));
    assert!(!node.source().is_live(asked + micros(AUTHORITY)));
    node.hear(9_000_000, &epoch(0, Mode::Store));
    assert!(matches!(node.source(), Source::Local { .. }), "what is older says nothing");
    // Another has known it for long.
    let mut late = Holder::new(3, Terms::default());
    late.hear(10, &epoch(1, local(&[2, 3])));
    late.confirm(10, 1, Duration::from_secs(60));
    assert!(late.source().is_live(10));
    late.confirm(20, 2, Duration::from_secs(60));
    late.hear(30, &epoch(2, Mode::Store));
    assert!(!late.source().is_live(30));
}

#[test]
fn a_stranger_has_no_share_and_may_not_call_the_store() {
    let mut node = Holder::new(9, Terms::default());
    node.hear(0, &epoch(0, Mode::Store));
    node.confirm(0, 0, Duration::ZERO);
    assert_eq!((node.source(), node.number(0), node.counts(7)), (Source::Nobody, None, false));
}

#[test]
fn waits_cover_authority_and_leases_on_clocks_that_differ() {
    let (over, all) = (micros(WAIT), micros(AUTHORITY) + micros(LEASE));
    assert!(over - over / 128 >= all + all / 256, "{over} {all}");
}

#[test]
fn parts_of_a_bucket_are_the_whole_together() {
    let whole = model::Bucket::from_parts(3, 7, 700).unwrap();
    let third = part(whole, 3).unwrap();
    assert_eq!((third.refill(), third.unit(), third.capacity()), (3, 21, 700));
    assert_eq!(part(whole, 101), None, "not one token fits into it");
}

/// What was broken, by the seeds in which it was.
fn run(seeds: std::ops::Range<u64>) -> Vec<(u64, String)> {
    let worlds = seeds.flat_map(|seed| {
        let world = || World::new(seed, None);
        [(seed, world().run()), (seed, world().spite())]
    });
    worlds.filter_map(|(seed, broken)| Some((seed, broken?))).collect()
}

#[test]
fn no_window_holds_too_much_whatever_breaks() {
    let broken = run(0..60);
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn each_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let is_caught = |seed| {
            let world = || World::new(seed, Some(mutant));
            world().spite().or_else(|| world().run()).is_some()
        };
        assert!((0..60).any(is_caught), "{mutant:?}");
    }
}

#[test]
fn in_an_outage_the_fleet_goes_on_at_its_rate_within_seconds_and_in_the_store_after_it() {
    let (first, shared, back) = World::outage(1);
    assert!(first > 0.95, "before: {first}");
    assert!(shared > 0.95, "by shares: {shared}");
    assert!(back > 0.95, "afterwards: {back}");
}
