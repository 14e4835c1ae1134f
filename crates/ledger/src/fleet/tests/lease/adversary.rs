//! Leases under an adversary that knows them, in virtual time: thousands of seeds.
//!
//! Nodes come to hold, idleness lets the bucket refill behind what they hold, and then all of
//! them rush at once, while messages are lost, late, doubled, nodes die, stand still and are cut
//! off. Independent load finds nothing (`reference: phased adversary`).

use model::Bucket;

use crate::simulation::{Arrival, Chance, Flaw, Mishaps, Setup, is_kept, run, worst};

const MS: u64 = 1_000;

/// Phases on two levels: an agent's bucket at each node's choice, and everybody's.
fn phases(seed: u64) -> Setup {
    let mut chance = Chance(seed ^ 0x5eed);
    let nodes = 2 + usize::try_from(chance.below(5)).unwrap();
    let unit = 1_000 + chance.below(9_000);
    let burst = 60 + chance.below(120);
    let bucket = |burst: u64, rest: u64| Bucket::from_parts(1, unit, burst * unit + rest).unwrap();
    let buckets = vec![bucket(burst, chance.below(unit)), bucket(burst / 2, chance.below(unit))];
    let full = burst * unit;
    let (mut at, mut arrivals, mut mishaps) = (0, Vec::new(), Mishaps::default());
    for _ in 0..5 {
        // They come to hold …
        let build = full / 2 + chance.below(full);
        let step = (full * 2 / burst).max(1) * 100 / (60 + chance.below(150));
        let from = at;
        while at < from + build {
            at += 1 + chance.below(2 * step);
            arrivals.push(arrival(&mut chance, at, nodes));
        }
        if chance.below(3) == 0 {
            mishap(&mut chance, nodes, at, &mut mishaps);
        }
        // … spend some of it, …
        for _ in 0..chance.below(3) * burst / 5 {
            at += chance.below(3);
            arrivals.push(arrival(&mut chance, at, nodes));
        }
        // … the bucket refills behind it, now and then while a trickle keeps them holding …
        let silence = if chance.below(2) == 0 { full / 8 } else { 0 } + chance.below(full);
        if chance.below(2) == 0 {
            for step in 0..16 {
                let when = at + silence * step / 16;
                let node = |node| Arrival { at: when, node, buckets: vec![0] };
                arrivals.extend((0..nodes).map(node));
            }
        }
        at += silence;
        // … and all rush, at once and once more. One that asks the store each time takes the rest:
        // at the same time, or when the others have told the store what they spent.
        for _ in 0..2 {
            let is_after = chance.below(2) == 0;
            for number in 0..burst * 2 {
                let is_exact = if is_after { number >= burst } else { chance.below(2) == 0 };
                let node = if is_exact { nodes } else { chance_of(&mut chance, nodes) };
                at += chance.below(4) + if is_after && number == burst { 10 * MS } else { 0 };
                arrivals.push(Arrival { node, ..arrival(&mut chance, at, nodes) });
            }
            at += chance.below(full / 8);
        }
        if chance.below(4) == 0 {
            at += 2_500 * MS;
        }
    }
    let mishaps = Mishaps {
        lost: chance.below(60),
        doubled: chance.below(150),
        late: chance.below(80),
        drift: 5_000,
        ..mishaps
    };
    let way = 200 + chance.below(3 * MS);
    let exact = Some(nodes);
    Setup { seed, nodes: nodes + 1, buckets, arrivals, way, mishaps, flaw: None, exact }
}

fn mishap(chance: &mut Chance, nodes: usize, at: u64, mishaps: &mut Mishaps) {
    let (node, length) = (chance_of(chance, nodes), chance.below(3_000 * MS));
    match chance.below(3) {
        0 => mishaps.crashes.push((node, at)),
        1 => mishaps.stops.push((node, at, at + length)),
        _ => mishaps.cuts.push((node, at, at + length)),
    }
}

fn arrival(chance: &mut Chance, at: u64, nodes: usize) -> Arrival {
    let buckets = if chance.below(4) == 0 { vec![1, 0] } else { vec![0] };
    Arrival { at, node: chance_of(chance, nodes), buckets }
}

fn chance_of(chance: &mut Chance, count: usize) -> usize {
    usize::try_from(chance.below(count as u64)).unwrap()
}

/// Whether every window of every level is kept, and no bucket ever held more than itself.
fn keeps(setup: &Setup) -> bool {
    let ran = run(setup);
    let mut logs = setup.buckets.iter().zip(&ran.logs);
    ran.is_whole && logs.all(|(bucket, log)| is_kept(*bucket, log))
}

#[test]
fn no_window_of_any_level_ever_holds_more_than_was_promised() {
    let many = |seeds: std::ops::Range<u64>| {
        let (mut local, mut admitted) = (0, 0);
        for seed in seeds {
            let setup = phases(seed);
            let ran = run(&setup);
            (local, admitted) = (local + ran.local, admitted + ran.admitted);
            assert!(ran.is_whole, "seed {seed}: a bucket held more than itself");
            for (level, (bucket, log)) in setup.buckets.iter().zip(&ran.logs).enumerate() {
                let (worst, capacity) = (worst(*bucket, log), bucket.capacity());
                assert!(is_kept(*bucket, log), "seed {seed}, level {level}: {worst} of {capacity}");
            }
        }
        (local, admitted)
    };
    let halves = std::thread::scope(|scope| {
        let halves = [0..1_000, 1_000..2_000].map(|seeds| scope.spawn(|| many(seeds)));
        halves.map(|half| half.join().expect("no seed fails"))
    });
    // And leases admitted a good part.
    for (local, admitted) in halves {
        assert!(local * 3 > admitted, "{local} of {admitted}");
    }
}

/// The adversary finds the flaw, by a window that holds too much.
#[track_caller]
fn check_found(flaw: Flaw) {
    let found = (0..2_000).find(|seed| {
        let setup = Setup { flaw: Some(flaw), ..phases(*seed) };
        let ran = run(&setup);
        let mut logs = setup.buckets.iter().zip(&ran.logs);
        !logs.all(|(bucket, log)| is_kept(*bucket, log))
    });
    assert!(found.is_some(), "{flaw:?} survived");
}

#[test]
fn a_bucket_that_refills_behind_what_is_held_is_found() {
    check_found(Flaw::NoClamp);
}

#[test]
fn a_clamp_with_what_is_held_afterwards_is_found() {
    check_found(Flaw::ClampAfter);
}

#[test]
fn giving_back_what_is_not_out_any_more_is_found() {
    check_found(Flaw::BackWithoutOut);
}

#[test]
fn a_lease_whose_end_gives_its_tokens_back_is_found() {
    check_found(Flaw::ExpiryCredits);
}

#[test]
fn a_part_of_a_token_that_counts_as_a_whole_is_found() {
    check_found(Flaw::RoundsUp);
}

/// A node whose lease is longer than the store thinks: its clock runs at a fraction of the true
/// speed.
#[test]
fn a_lease_that_is_longer_at_the_node_is_found() {
    let found = (0..200).find(|seed| {
        let mut setup = phases(*seed);
        setup.mishaps.drift = 700_000;
        !keeps(&setup)
    });
    assert!(found.is_some());
}
