//! One lease at its node: when it asks, what it asks for, and what it makes of answers.

use model::Bucket;

use crate::fleet::lease::holding::{Drawn, Holding, Step};
use crate::fleet::lease::wire::{Ask, How, Reply};

const MS: u64 = 1_000;
const TRIP: u64 = 1_000;

/// A thousand tokens a second, and as many at once.
struct Lease {
    holding: Holding,
    now: u64,
    seq: u64,
}

impl Lease {
    fn new(always: bool) -> Self {
        let bucket = Bucket::from_parts(1, 1_000, 1_000_000).unwrap();
        Self { holding: Holding::new(bucket, always, MS), now: MS, seq: 0 }
    }

    fn check(&mut self) -> Step {
        self.holding.check(self.now, TRIP, &mut self.seq)
    }

    /// Draws once each millisecond: how many were taken.
    fn draw(&mut self, millis: u64) -> u64 {
        let drawn = (0..millis).filter(|_| {
            self.now += MS;
            matches!(self.holding.take(self.now, 1), Drawn::Taken(_))
        });
        drawn.count() as u64
    }

    /// Draws until it asks, looking each ten milliseconds.
    fn asks(&mut self) -> Ask {
        (0..100)
            .find_map(|_| {
                self.draw(10);
                self.check().ask
            })
            .expect("it asks")
    }

    fn answer(&self, seq: u64, granted: u32, fresh: bool, nodes: u16) -> Option<u64> {
        let reply = Reply { how: How::Granted, fresh, granted, used: 0, nodes, demand: 1_000 };
        self.holding.answered((self.now, TRIP), seq, &reply, 500)
    }
}

#[test]
fn who_draws_once_is_not_leased_and_who_goes_on_gets_a_period() {
    let mut lease = Lease::new(false);
    lease.draw(1);
    lease.now += 5 * MS;
    assert_eq!(lease.check().ask, None);
    let first = lease.asks();
    assert!(first.keep == 0 && first.back == 0 && first.want >= 4, "{first:?}");
    lease.answer(first.seq, first.want, true, 1);
    // A thousand a second for a quarter of a second.
    let later = std::iter::repeat_with(|| {
        let ask = lease.asks();
        lease.answer(ask.seq, ask.want, false, 1);
        ask.keep + ask.want
    });
    let held: Vec<u32> = later.take(20).collect();
    assert!(held.iter().rev().take(5).all(|held| (200..=300).contains(held)), "{held:?}");
}

#[test]
fn an_ask_without_an_answer_is_sent_again_as_it_was_until_its_lease_would_be_over() {
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    let began = lease.now;
    let mut again = 0;
    loop {
        lease.draw(3);
        match lease.check().ask {
            Some(other) if other.seq == ask.seq => {
                assert_eq!(other, ask);
                again += 1;
            }
            Some(_) => break,
            None => {}
        }
    }
    let lived = lease.now - began;
    assert!(again > 10 && lived < ask.length.into() && lived > u64::from(ask.length) * 9 / 10);
    // What comes of it now is not waited for.
    assert_eq!(lease.answer(ask.seq, 100, true, 1), None);
    assert_eq!(lease.draw(1), 0);
}

#[test]
fn a_lease_is_counted_from_when_it_was_asked_for_first() {
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    let began = lease.now;
    lease.now += 900 * MS;
    lease.answer(ask.seq, 1_000, true, 1);
    lease.now = began + u64::from(ask.length) * 126 / 128 - 3 * MS;
    assert_eq!(lease.draw(1), 1);
    lease.now = began + u64::from(ask.length) * 127 / 128 - MS;
    assert_eq!(lease.draw(1), 0);
}

#[test]
fn a_fresh_lease_voids_what_was_held() {
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    lease.answer(ask.seq, 50, true, 1);
    let ask = lease.asks();
    assert!(ask.keep > 0);
    lease.answer(ask.seq, 3, true, 1);
    assert_eq!(lease.draw(10), 3);
}

#[test]
fn what_nobody_draws_on_goes_back_and_is_forgotten() {
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    lease.answer(ask.seq, 50, true, 1);
    lease.now += 300 * MS;
    let ask = lease.check().ask.unwrap();
    assert_eq!((ask.keep, ask.back, ask.want), (0, 50, 0));
    assert_eq!(lease.draw(1), 0);
    lease.answer(ask.seq, 0, false, 1);
    lease.now += 2_000 * MS;
    lease.check();
    lease.now += 2_000 * MS;
    assert!(lease.check().is_over);
}

#[test]
fn auto_gives_back_and_goes_to_the_store_where_nodes_are_many() {
    let mut lease = Lease::new(false);
    let ask = lease.asks();
    // 64 tokens for each of 16 would be more than the bucket.
    lease.answer(ask.seq, 50, true, 16);
    lease.draw(1);
    let ask = lease.check().ask.unwrap();
    assert_eq!((ask.keep, ask.back, ask.want), (0, 49, 0));
    lease.answer(ask.seq, 0, false, 16);
    assert_eq!(lease.holding.take(lease.now, 1), Drawn::Short);
    lease.draw(100);
    assert_eq!(lease.check().ask, None);
    // What is leased always does not mind.
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    lease.answer(ask.seq, 50, true, 16);
    assert_eq!(lease.draw(10), 10);
}

#[test]
fn where_tokens_are_scarce_it_refuses_for_a_while_and_then_asks() {
    let mut lease = Lease::new(true);
    let ask = lease.asks();
    let reply = Reply {
        how: How::Granted,
        fresh: true,
        granted: 0,
        used: 1_000_000,
        nodes: 2,
        demand: 2_000,
    };
    let again = lease.holding.answered((lease.now, TRIP), ask.seq, &reply, 0).unwrap();
    assert!(again > lease.now && again <= lease.now + 200 * MS);
    assert!(matches!(lease.holding.take(lease.now, 1), Drawn::Refused(_)));
    lease.now = again;
    assert!(lease.check().ask.is_some());
}
