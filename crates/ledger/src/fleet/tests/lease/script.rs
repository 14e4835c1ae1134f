//! The script of leases: equal to its model, and its guards one by one.

use model::{Bucket, Tokens};
use redis::{Connection, ToRedisArgs};

use crate::fleet::batch::{self, Want};
use crate::fleet::coarse::Coarse;
use crate::fleet::lease::wire::{Arguments, Ask, How, Renewal, Reply, unpack};
use crate::fleet::tests::mutants::text_here;
use crate::fleet::tests::store::Store;
use crate::simulation::{Chance, store};

/// A store in an epoch without an end, whose scripts are called directly.
struct Raw {
    _store: Store,
    connection: Connection,
}

impl Raw {
    fn start() -> Self {
        let store = Store::start();
        let client = redis::Client::open(store.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let epoch = [1_u64, 0, 0].map(u64::to_le_bytes).concat();
        redis::cmd("SET").arg("epoch").arg(epoch).exec(&mut connection).unwrap();
        Self { _store: store, connection }
    }

    fn call(&mut self, text: &str, keys: &[Vec<u8>], rest: &[&[u8]]) -> Vec<u8> {
        let mut command = redis::cmd("EVAL");
        command.arg(text_here(text)).arg(keys.len() + 1).arg("epoch");
        keys.iter().for_each(|key| key.write_redis_args(&mut command));
        command.arg("1").arg(rest).query(&mut self.connection).unwrap()
    }

    fn renew(&mut self, node: u64, renewals: &[Renewal]) -> (u64, Vec<Reply>) {
        let Arguments { keys, rules, renewals: packed } = Arguments::pack(renewals);
        let text = concat!(
            include_str!("../../epoch.lua"),
            include_str!("../../bucket.lua"),
            include_str!("../../lease.lua")
        );
        let answer = self.call(text, &keys, &[&rules, &node.to_le_bytes(), &packed]);
        unpack(&answer, renewals.len()).unwrap()
    }

    /// Asks for one bucket.
    fn ask(&mut self, node: u64, bucket: Bucket, ask: Ask) -> (u64, Reply) {
        let coarse = Coarse::new(bucket);
        let (at, replies) =
            self.renew(node, &[Renewal { name: b"b".into(), coarse, ask, joined: false }]);
        (at, replies[0])
    }

    /// Whether so many tokens were there, when, and the units that were used before.
    fn take(&mut self, name: &str, bucket: Bucket, tokens: u64) -> (u64, bool, u64) {
        let want = Want {
            key: name.as_bytes().to_vec(),
            coarse: Coarse::new(bucket),
            cost: Tokens(tokens),
            is_shadow: false,
        };
        let (answer, _waiting) = tokio::sync::oneshot::channel();
        let asks = [batch::Ask { wants: [want].into(), money: None, answer }];
        let organisation = crate::Organisation::default();
        let batch::Arguments { keys, rules, plans, .. } =
            batch::Arguments::pack(&organisation, &asks);
        let text = concat!(
            "local money\n",
            include_str!("../../epoch.lua"),
            include_str!("../../bucket.lua"),
            include_str!("../../take.lua")
        );
        let answer = self.call(text, &keys, &[&rules, &plans]);
        let found = batch::unpack(&answer, &asks, 0).unwrap().0.remove(0);
        (found.at, found.granted, found.used[0])
    }
}

fn number(chance: &mut Chance, bound: u64) -> u32 {
    u32::try_from(chance.below(bound)).unwrap()
}

/// One history, told to both.
fn check_same(raw: &mut Raw, seed: u64) {
    let mut chance = Chance(seed);
    let parts = (1 + chance.below(3), 10 + chance.below(300), 60_000 + chance.below(1_000));
    let bucket = match seed % 4 {
        // Too fine for the store's numbers: counted in ticks.
        0 => Bucket::from_parts(parts.0 << 44, parts.1 << 44, parts.2 << 44),
        _ => Bucket::from_parts(parts.0, parts.1, parts.2),
    };
    let bucket = bucket.unwrap();
    let names = [0, 1].map(|level| format!("{seed}-{level}"));
    let mut models = [(); 2].map(|()| store::Bucket::full(Coarse::new(bucket), None));
    let mut seqs = [[0_u64; 3]; 2];
    for step in 0..40 {
        let level = usize::try_from(chance.below(2)).unwrap();
        if chance.below(3) == 0 {
            let tokens = chance.below(40);
            let (at, granted, used) = raw.take(&names[level], bucket, tokens);
            // What is refused writes nothing.
            let mut model = models[level].clone();
            assert_eq!(used, model.settle(at), "seed {seed}, step {step}: take");
            assert_eq!(granted, model.has(at, tokens), "seed {seed}, step {step}");
            if granted {
                model.take(tokens);
                models[level] = model;
            }
            continue;
        }
        let node = usize::try_from(chance.below(3)).unwrap();
        // Mostly the next; sometimes one that was there before.
        let seq = (seqs[level][node] + 1).saturating_sub(chance.below(5).saturating_sub(2));
        seqs[level][node] = seqs[level][node].max(seq);
        let ask = Ask {
            seq,
            keep: number(&mut chance, 80),
            back: number(&mut chance, 40),
            want: number(&mut chance, 150),
            demand: number(&mut chance, 5_000),
            length: number(&mut chance, 8_000),
        };
        let renewal = Renewal {
            name: names[level].clone().into(),
            coarse: Coarse::new(bucket),
            ask,
            joined: false,
        };
        let (at, replies) = raw.renew(node as u64, &[renewal]);
        let is_dry = models[level].clone().is_dry(at, node as u64, &ask);
        let expected = models[level].renew(at, node as u64, &ask, is_dry);
        assert_eq!(replies[0], expected, "seed {seed}, step {step}: {ask:?}");
        if chance.below(4) == 0 {
            std::thread::park_timeout(std::time::Duration::from_micros(chance.below(4_000)));
        }
    }
}

#[test]
pub(super) fn the_script_does_what_its_model_does() {
    let mut raw = Raw::start();
    for seed in 0..150 {
        check_same(&mut raw, seed);
    }
}

/// A hundred tokens that never come back.
fn fixed() -> Bucket {
    Bucket::from_parts(0, 1, 100).unwrap()
}

const LONG: u32 = 2_000_000;

fn ask(seq: u64, keep: u32, back: u32, want: u32) -> Ask {
    Ask { seq, keep, back, want, demand: 1, length: LONG }
}

#[test]
pub(super) fn an_ask_that_comes_again_is_answered_and_not_granted_again() {
    let mut raw = Raw::start();
    let (_, first) = raw.ask(1, fixed(), ask(1, 0, 0, 40));
    assert_eq!((first.granted, first.used, first.fresh), (40, 40, true));
    assert_eq!(raw.ask(1, fixed(), ask(1, 0, 0, 40)).1, first);
    let (_, second) = raw.ask(1, fixed(), ask(2, 40, 0, 10));
    assert_eq!((second.granted, second.used, second.fresh), (10, 50, false));
    // One that was overtaken changes nothing.
    let (_, old) = raw.ask(1, fixed(), ask(1, 0, 40, 40));
    assert_eq!((old.how, old.used), (How::Stale, 50));
}

#[test]
pub(super) fn what_is_reported_of_a_lease_that_is_over_is_void() {
    let mut raw = Raw::start();
    raw.ask(1, fixed(), Ask { length: 1, ..ask(1, 0, 0, 40) });
    std::thread::park_timeout(std::time::Duration::from_millis(2));
    // What it claims to hold or to give back was burnt: it counts for nothing.
    let (_, reply) = raw.ask(1, fixed(), ask(2, 20, 20, 10));
    assert_eq!((reply.fresh, reply.granted, reply.used), (true, 10, 50));
    // And it cannot give back more than the new lease holds.
    let (_, reply) = raw.ask(1, fixed(), ask(3, 0, 70, 0));
    assert_eq!((reply.fresh, reply.used), (false, 40));
    // Where nothing is held nothing can be kept.
    let (_, reply) = raw.ask(1, fixed(), ask(4, 7, 7, 5));
    assert_eq!((reply.fresh, reply.granted, reply.used), (true, 5, 45));
}

#[test]
pub(super) fn what_nodes_hold_does_not_refill_and_is_taken_by_nobody_else() {
    let mut raw = Raw::start();
    // A token every millisecond, and a lease of half the bucket.
    let bucket = Bucket::from_parts(1, 1_000, 50_000).unwrap();
    raw.ask(1, bucket, ask(1, 0, 0, 25));
    std::thread::park_timeout(std::time::Duration::from_millis(60));
    let (_, granted, used) = raw.take("b", bucket, 26);
    assert_eq!((granted, used), (false, 25_000));
    assert!(raw.take("b", bucket, 25).1);
}

#[test]
pub(super) fn where_one_level_has_nothing_the_others_are_not_leased() {
    let mut raw = Raw::start();
    assert!(raw.take("empty", fixed(), 100).1);
    let renewal = |name: &str, joined| Renewal {
        name: name.into(),
        coarse: Coarse::new(fixed()),
        ask: ask(1, 0, 0, 10),
        joined,
    };
    let asked = [renewal("full", false), renewal("empty", true), renewal("other", false)];
    let granted: Vec<u32> = raw.renew(1, &asked).1.iter().map(|reply| reply.granted).collect();
    assert_eq!(granted, [0, 0, 10]);
}

#[test]
pub(super) fn a_bucket_is_not_forgotten_while_its_leases_live() {
    let mut raw = Raw::start();
    // Full again in a millisecond.
    let bucket = Bucket::from_parts(1_000, 1_000, 1_000_000).unwrap();
    raw.ask(1, bucket, ask(1, 0, 0, 100));
    let left: i64 = redis::cmd("PTTL").arg("b").query(&mut raw.connection).unwrap();
    assert!((2_500..=3_100).contains(&left), "{left}");
}
