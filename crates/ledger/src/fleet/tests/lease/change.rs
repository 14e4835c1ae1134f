//! What a lease makes of change: it is retired, other nodes come and go, and the load moves.

use model::Bucket;

use crate::fleet::lease::holding::{Drawn, Holding, Step};
use crate::fleet::lease::wire::{Ask, How, Reply};
use crate::simulation::{Load, Mishaps, Setup, arrivals, ideal, is_kept, run};

const MS: u64 = 1_000;
const TRIP: u64 = 1_000;

/// A thousand tokens a second, and as many at once.
struct Lease {
    holding: Holding,
    now: u64,
    seq: u64,
}

impl Lease {
    /// That is leased where there are few nodes, as this node asks for it first.
    fn asked() -> (Self, Ask) {
        let bucket = Bucket::from_parts(1, 1_000, 1_000_000).unwrap();
        let mut lease = Self { holding: Holding::new(bucket, false, MS), now: MS, seq: 0 };
        let ask = lease.draws(1_000).expect("it asks");
        (lease, ask)
    }

    fn check(&mut self) -> Step {
        self.holding.check(self.now, TRIP, &mut self.seq)
    }

    /// Draws once each millisecond, looks each ten, and stops when it asks.
    fn draws(&mut self, millis: u64) -> Option<Ask> {
        (0..millis).find_map(|milli| {
            self.now += MS;
            self.holding.take(self.now, 1);
            if milli % 10 == 9 { self.check().ask } else { None }
        })
    }

    fn answer(&self, ask: Ask, granted: u32, nodes: u16) -> Option<u64> {
        let reply =
            Reply { how: How::Granted, fresh: true, granted, used: 0, nodes, demand: 1_000 };
        self.holding.answered((self.now, TRIP), ask.seq, &reply, 500)
    }
}

#[test]
fn a_lease_that_is_retired_is_not_asked_for_again() {
    let (mut lease, ask) = Lease::asked();
    lease.answer(ask, 50, 1);
    let mut seq = lease.seq;
    let last = lease.holding.surrender(&mut seq).expect("it gives back");
    assert_eq!((last.keep, last.back, last.want), (0, 50, 0));
    // Nobody holds any of it, nobody asks, and it is forgotten at the next look.
    assert_eq!(lease.holding.take(lease.now, 1), Drawn::Short);
    assert_eq!(lease.draws(5_000), None);
    let step = lease.check();
    assert!(step.is_over && step.ask.is_none(), "{step:?}");
}

#[test]
fn what_comes_for_a_lease_that_is_retired_is_not_spent() {
    let (mut lease, ask) = Lease::asked();
    let mut seq = lease.seq;
    let last = lease.holding.surrender(&mut seq).expect("the ask that is under way is taken back");
    assert!(last.seq > ask.seq && last.want == 0, "{last:?}");
    assert_eq!(lease.answer(ask, 50, 1), None);
    assert_eq!(lease.answer(last, 0, 1), None);
    assert_eq!(lease.holding.take(lease.now, 1), Drawn::Short);
    assert_eq!(lease.draws(5_000), None);
}

#[test]
fn auto_leases_again_when_the_other_nodes_have_gone() {
    let (mut lease, ask) = Lease::asked();
    // 64 tokens for each of 16 would be more than the bucket: this node asks for each request.
    lease.answer(ask, 0, 16);
    let began = lease.now;
    let again = lease.draws(30_000).expect("it tries again");
    let waited = (lease.now - began) / MS;
    assert!((9_000..12_000).contains(&waited), "{waited} ms");
    lease.answer(again, again.want, 1);
    assert!(matches!(lease.holding.take(lease.now, 1), Drawn::Taken(_)), "it is leased");
    // And stays so.
    let next = lease.draws(1_000).expect("it goes on");
    assert!(next.want > 0, "{next:?}");
}

#[test]
fn auto_stays_exact_while_the_other_nodes_are_there() {
    let (mut lease, ask) = Lease::asked();
    lease.answer(ask, 0, 16);
    for _ in 0..3 {
        let again = lease.draws(30_000).expect("it tries again");
        lease.answer(again, 0, 16);
        assert_eq!(lease.holding.take(lease.now, 1), Drawn::Short);
        assert_eq!(lease.draws(9_000), None);
    }
}

/// The node that draws most is another each second (`reference: hot node moves, Zipf 1.5`).
#[test]
fn a_bucket_is_used_to_the_full_while_the_hot_node_moves() {
    let bucket = Bucket::from_parts(1, 1_000, 800_000).unwrap();
    let load = Load { nodes: 8, rate: 2_000, length: 20, skew: 1.5, moves: 1, rushes: false };
    for seed in 2..7 {
        let setup = Setup {
            seed,
            nodes: load.nodes,
            buckets: vec![bucket],
            arrivals: arrivals(&load, seed),
            way: 500,
            mishaps: Mishaps::default(),
            flaw: None,
            exact: None,
        };
        let (ran, best) = (run(&setup), ideal(bucket, &setup));
        assert!(ran.is_whole && is_kept(bucket, &ran.logs[0]), "seed {seed}");
        // Of each hundred that one bucket would have admitted, and of those by the node itself.
        let (used, local) = (ran.admitted * 100 / best, ran.local * 100 / ran.admitted);
        assert!(used >= 97 && local >= 60, "seed {seed}: {used} %, of them {local} % by the node");
    }
}
