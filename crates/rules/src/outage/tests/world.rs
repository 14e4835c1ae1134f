//! A fleet in virtual time: nodes with clocks of their own, a store and an agreement that come and
//! go, one bucket, and the checker of all its windows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Bucket, Tokens, Uptime};

use super::super::{Epoch, Holder, Mode, Reach, Report, Sight, Source, Terms, decide, part};
use super::store::{Attached, Store};
use crate::limit::Level;
use crate::window::Replay;

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A share begins at once.
    NoWait,
    /// A share begins full.
    FullShare,
    /// A node counts the members that it knew first.
    StaleMembers,
    /// The store is gone back to at once.
    ReturnAtOnce,
    /// The store goes on as it was left.
    OldStore,
    /// A node that hears nobody goes on.
    MinorityServes,
}

impl Mutant {
    pub(super) const ALL: [Self; 6] = [
        Self::NoWait,
        Self::FullShare,
        Self::StaleMembers,
        Self::ReturnAtOnce,
        Self::OldStore,
        Self::MinorityServes,
    ];
}

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// What is on its way.
#[derive(Clone, Debug)]
enum Post {
    /// To who leads: what a node says, its number of the call and when it was sent by its clock.
    Say {
        from: usize,
        report: Report,
        asked: u64,
        boot: u64,
    },
    /// Back: how far the agreement is, which era that is, and for how long it is known.
    Told {
        to: usize,
        index: usize,
        era: u64,
        age: u64,
        asked: u64,
        boot: u64,
    },
    Attached {
        to: usize,
        found: Attached,
        boot: u64,
    },
    /// Tokens of one bucket that the store gave, when, and the end of their lease by the node's
    /// clock; 0 where they are to be spent at once.
    Given {
        to: usize,
        tokens: u64,
        at: u64,
        lease: u64,
        boot: u64,
    },
}

#[derive(Debug)]
struct Node {
    id: u64,
    /// Its clock: a beginning and how much it runs apart, in parts of 100,000.
    clock: (u64, i64),
    is_up: bool,
    boot: u64,
    reaches_store: bool,
    reaches_others: bool,
    holder: Holder,
    /// How far it has applied the agreement. It survives a crash.
    applied: usize,
    reach: (Reach, u64),
    share: Option<(u64, Level)>,
    /// Tokens ahead, and until when by its clock.
    lease: (u64, u64),
    era: (u64, u64),
    reports: BTreeMap<u64, (u64, Report)>,
    steady: (BTreeSet<u64>, u64),
    /// The first members that shared, for a mutant.
    first: Option<u64>,
}

/// The fleet.
#[derive(Debug)]
pub(super) struct World {
    now: u64,
    chance: Chance,
    mutant: Option<Mutant>,
    nodes: Vec<Node>,
    log: Vec<Epoch>,
    leader: Option<usize>,
    store: Store,
    posts: Vec<(u64, Post)>,
    /// When each token was spent, in real time.
    admitted: Vec<u64>,
    broken: Option<String>,
    /// Whether faults come by chance.
    has_faults: bool,
    /// Whether nothing is wanted.
    is_idle: bool,
}

impl World {
    pub(super) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance(seed);
        let terms = terms(mutant);
        let count = 3 + chance.below(2);
        let node = |id: u64, chance: &mut Chance| Node {
            id,
            clock: (chance.below(1 << 40), i64::try_from(chance.below(700)).unwrap() - 350),
            is_up: true,
            boot: 0,
            reaches_store: true,
            reaches_others: true,
            holder: Holder::new(id, terms),
            applied: 0,
            reach: (Reach::Waits, 0),
            share: None,
            lease: (0, 0),
            era: (0, 0),
            reports: BTreeMap::new(),
            steady: (BTreeSet::new(), 0),
            first: None,
        };
        let nodes = (1..=count).map(|id| node(id, &mut chance)).collect();
        let has_begun_anew = mutant != Some(Mutant::OldStore);
        Self {
            now: 1_000_000,
            chance,
            mutant,
            nodes,
            log: Vec::new(),
            leader: None,
            store: Store::new(bucket(), has_begun_anew),
            posts: Vec::new(),
            admitted: Vec::new(),
            broken: None,
            has_faults: true,
            is_idle: false,
        }
    }

    /// Lives for a while: what was broken.
    pub(super) fn run(mut self) -> Option<String> {
        while self.now < 120_000_000 && self.broken.is_none() {
            self.step();
        }
        self.run_out()
    }

    /// The same, where faults do not come by chance: the store goes, nothing is wanted until shares
    /// are full, then all of them are spent, and the store is back while that lasts.
    pub(super) fn spite(mut self) -> Option<String> {
        self.has_faults = false;
        while self.now < 200_000_000 && self.broken.is_none() {
            self.is_idle = false;
            self.pass(2_000, 6_000);
            self.leave();
            self.is_idle = true;
            self.pass(38_000, 46_000);
            self.is_idle = false;
            self.pass(500, 3_000);
            self.come_back();
            let place = self.place();
            self.nodes[place].reaches_others = self.chance.below(2) == 0;
            self.pass(9_000, 14_000);
            self.nodes[place].reaches_others = true;
        }
        self.run_out()
    }

    fn pass(&mut self, least: u64, most: u64) {
        let until = self.now + 1_000 * (least + self.chance.below(most - least));
        while self.now < until {
            self.step();
        }
    }

    fn place(&mut self) -> usize {
        let count = u64::try_from(self.nodes.len()).unwrap();
        usize::try_from(self.chance.below(count)).unwrap()
    }

    /// Nobody reaches the store any more, or only one does; or one node goes with it.
    fn leave(&mut self) {
        let (place, how) = (self.place(), self.chance.below(3));
        self.store.is_up = how != 0;
        for (other, node) in self.nodes.iter_mut().enumerate() {
            node.reaches_store = how == 2 && other == place;
        }
        self.nodes[place].reaches_others = self.chance.below(3) > 0;
    }

    fn come_back(&mut self) {
        if !self.store.is_up {
            let has_lost = self.chance.below(2) == 0;
            self.store.restart(self.now, has_lost);
        }
        for node in &mut self.nodes {
            (node.reaches_store, node.reaches_others) = (true, true);
        }
    }

    fn run_out(mut self) -> Option<String> {
        let worst = self.excess();
        self.broken
            .or_else(|| (worst > 0).then(|| format!("{worst} too many of {}", self.admitted.len())))
    }

    /// What part of its rate a fleet serves before an outage of the store, by shares once they have
    /// begun, and after it.
    pub(super) fn outage(seed: u64) -> (f64, f64, f64) {
        let mut world = Self::new(seed, None);
        world.has_faults = false;
        let until = |millis: u64, world: &mut Self| {
            let (from, before) = (world.now, world.admitted.len());
            while world.now < millis * 1_000 {
                world.step();
            }
            let rate = bucket().refill() as f64 / bucket().unit() as f64;
            (world.admitted.len() - before) as f64 / ((world.now - from) as f64 * rate)
        };
        until(10_000, &mut world);
        let first = until(20_000, &mut world);
        world.store.is_up = false;
        until(28_000, &mut world);
        let shared = until(50_000, &mut world);
        world.store.restart(world.now, false);
        until(62_000, &mut world);
        let back = until(80_000, &mut world);
        assert_eq!((world.excess(), &world.broken), (0, &None));
        (first, shared, back)
    }

    fn excess(&mut self) -> u64 {
        self.admitted.sort_unstable();
        // Clocks of nodes may run faster than the checker's.
        let bucket = bucket();
        let fast = Bucket::from_parts(bucket.refill() + 1, bucket.unit(), bucket.capacity());
        let mut replay = Replay::new(fast.unwrap());
        self.admitted.iter().for_each(|at| replay.take(*at));
        replay.excess(Duration::ZERO)
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.has_faults && self.chance.below(250) == 0 {
            self.fault();
        }
        // Nothing is wanted, until everywhere more is wanted than there is.
        if self.has_faults && self.chance.below(if self.is_idle { 1_200 } else { 900 }) == 0 {
            self.is_idle ^= true;
        }
        if self.now.is_multiple_of(50_000) {
            self.elect();
        }
        let due: Vec<Post> = {
            let now = self.now;
            let (due, later) = self.posts.drain(..).partition(|(at, _)| *at <= now);
            self.posts = later;
            let due: Vec<(u64, Post)> = due;
            due.into_iter().map(|(_, post)| post).collect()
        };
        due.into_iter().for_each(|post| self.deliver(post));
        for place in 0..self.nodes.len() {
            if self.nodes[place].is_up {
                self.live(place);
            }
        }
        self.judge();
    }

    fn post(&mut self, post: Post) {
        let delay = if self.chance.below(40) == 0 { 400_000 } else { 20_000 };
        let at = self.now + STEP + self.chance.below(delay);
        self.posts.push((at, post));
    }

    /// What a node's clock shows.
    fn local(&self, place: usize) -> u64 {
        let (began, apart) = self.nodes[place].clock;
        let now = i64::try_from(self.now).unwrap();
        began + u64::try_from(now + now / 100_000 * apart).unwrap()
    }

    fn fault(&mut self) {
        let place = self.place();
        match self.chance.below(9) {
            0 | 1 => self.store.is_up = false,
            2 if self.store.is_up => self.store.restart(self.now, self.chance.below(2) == 0),
            2 | 3 => {
                let has_lost = self.chance.below(2) == 0;
                if self.chance.below(3) == 0 {
                    self.store.is_up = true;
                } else {
                    self.store.restart(self.now, has_lost);
                }
            }
            4 => self.nodes[place].reaches_store ^= true,
            5 => self.nodes[place].reaches_others ^= true,
            6 => {
                for node in &mut self.nodes {
                    (node.reaches_others, node.reaches_store) = (true, true);
                }
            }
            7 => {
                // The network breaks between the store and all but one.
                for (other, node) in self.nodes.iter_mut().enumerate() {
                    node.reaches_store = other == place;
                }
            }
            _ => {
                let fresh = Holder::new(self.nodes[place].id, terms(self.mutant));
                let node = &mut self.nodes[place];
                node.is_up ^= true;
                node.boot += 1;
                node.holder = fresh;
                (node.share, node.lease) = (None, (0, 0));
                node.reports.clear();
                node.reach = (Reach::Waits, self.now);
                node.era = (u64::MAX, 0);
                if node.is_up {
                    self.apply(place, self.nodes[place].applied);
                }
            }
        }
    }

    fn is_heard(&self, place: usize) -> bool {
        self.nodes[place].is_up && self.nodes[place].reaches_others
    }

    fn has_quorum(&self, leader: usize) -> bool {
        let heard = (0..self.nodes.len()).filter(|place| self.is_heard(*place)).count();
        self.is_heard(leader) && heard * 2 > self.nodes.len()
    }

    fn elect(&mut self) {
        if self.leader.is_some_and(|leader| self.has_quorum(leader)) {
            return;
        }
        self.leader = (0..self.nodes.len()).find(|place| self.has_quorum(*place));
        if let Some(leader) = self.leader {
            self.nodes[leader].reports.clear();
            self.nodes[leader].steady = (BTreeSet::new(), self.now);
            // Who leads knows all that was agreed on.
            self.apply(leader, self.log.len());
        }
    }

    fn apply(&mut self, place: usize, index: usize) {
        let local = self.local(place);
        let from = self.nodes[place].holder.epoch().map_or(0, |_| self.nodes[place].applied);
        for at in from..index {
            let epoch = self.log[at].clone();
            let node = &mut self.nodes[place];
            if node.era.0 != epoch.era {
                node.era = (epoch.era, local);
            }
            if let (None, Mode::Local { sharing }) = (node.first, &epoch.mode) {
                node.first = Some(sharing.len() as u64);
            }
            node.holder.hear(local, &epoch);
        }
        let node = &mut self.nodes[place];
        node.applied = node.applied.max(index);
    }

    fn deliver(&mut self, post: Post) {
        match post {
            Post::Say { from, report, asked, boot } => {
                let Some(leader) = self.leader else { return };
                if !self.is_heard(from) || !self.has_quorum(leader) {
                    return;
                }
                let (now, local) = (self.now, self.local(leader));
                let id = self.nodes[from].id;
                let index = self.log.len();
                let node = &mut self.nodes[leader];
                node.reports.insert(id, (now, report));
                let (era, since) = node.era;
                let age = local - since;
                self.post(Post::Told { to: from, index, era, age, asked, boot });
            }
            Post::Told { to, index, era, age, asked, boot } => {
                if self.is_heard(to) && self.nodes[to].boot == boot {
                    self.apply(to, index);
                    self.nodes[to].holder.confirm(asked, era, Duration::from_micros(age));
                }
            }
            Post::Attached { to, found, boot } => {
                if self.nodes[to].boot == boot && self.nodes[to].reaches_store {
                    let reach = match found {
                        Attached::At(life) => Reach::At { life },
                        Attached::Ahead(number) => Reach::Ahead { number },
                    };
                    self.reaches(to, reach);
                }
            }
            Post::Given { to, tokens, at, lease, boot } => {
                let local = self.local(to);
                let node = &mut self.nodes[to];
                let is_sure = node.holder.source().is_live(local);
                let by_store = matches!(node.holder.source(), Source::Store { .. });
                if node.boot != boot || !node.is_up || !is_sure || !by_store {
                    return;
                }
                if lease > 0 {
                    node.lease = (tokens, lease);
                } else if self.now - at < 50_000 {
                    self.admitted.extend((0..tokens).map(|_| at));
                }
            }
        }
    }

    fn reaches(&mut self, place: usize, reach: Reach) {
        if self.nodes[place].reach.0 != reach {
            self.nodes[place].reach = (reach, self.now);
        }
    }

    fn live(&mut self, place: usize) {
        let local = self.local(place);
        if (self.now / STEP + place as u64).is_multiple_of(25) {
            self.beat(place, local);
        }
        if self.leader == Some(place) && (self.now / STEP) % 25 == 7 && self.has_quorum(place) {
            self.lead(place);
        }
        self.attach(place, local);
        if self.is_idle {
            return;
        }
        let wanted = self.chance.below(4);
        self.spend(place, local, wanted);
    }

    fn beat(&mut self, place: usize, local: u64) {
        let node = &self.nodes[place];
        let (reach, since) = node.reach;
        let report =
            Report { name: format!("n{}", node.id), reach, for_ms: (self.now - since) / 1_000 };
        if self.is_heard(place) {
            let boot = node.boot;
            self.post(Post::Say { from: place, report, asked: local, boot });
        }
    }

    fn lead(&mut self, place: usize) {
        let now = self.now;
        let nodes: BTreeSet<u64> = self.nodes.iter().map(|node| node.id).collect();
        let node = &mut self.nodes[place];
        node.reports.retain(|_, (at, _)| now - *at < 1_000_000);
        let reports: BTreeMap<u64, Report> =
            node.reports.iter().map(|(id, (_, report))| (*id, report.clone())).collect();
        let heard: BTreeSet<u64> = reports.keys().copied().collect();
        if node.steady.0 != heard {
            node.steady = (heard, now);
        }
        let steady = (now - node.steady.1 > 5_000_000).then_some(node.steady.0.clone());
        let steady = steady.as_ref();
        let sight =
            Sight { nodes: &nodes, voters: &nodes, reports: &reports, steady, is_wanted: true };
        if let Some(next) = decide(self.log.last(), &sight) {
            self.log.push(next);
            self.apply(place, self.log.len());
        }
    }

    fn is_reached(&self, place: usize) -> bool {
        self.store.is_up && self.nodes[place].reaches_store
    }

    /// Keeps the way to the store.
    fn attach(&mut self, place: usize, local: u64) {
        if !self.now.is_multiple_of(100_000) {
            return;
        }
        let holder = &self.nodes[place].holder;
        let Some(number) = holder.number(local) else { return self.reaches(place, Reach::Waits) };
        if !self.is_reached(place) {
            return self.reaches(place, Reach::Away);
        }
        let life = holder.epoch().map_or(0, |epoch| epoch.life);
        let is_there = self.nodes[place].reach.0 == Reach::At { life: self.store.life };
        if is_there && self.store.number >= number {
            return;
        }
        let found = self.store.attach(self.now, number, life);
        let boot = self.nodes[place].boot;
        self.post(Post::Attached { to: place, found, boot });
    }

    fn spend(&mut self, place: usize, local: u64, wanted: u64) {
        let source = self.nodes[place].holder.source();
        let (tokens, until) = self.nodes[place].lease;
        if local < until
            && tokens > 0
            && !matches!(source, Source::Local { .. } if source.is_live(local))
        {
            let spent = tokens.min(wanted);
            self.nodes[place].lease.0 -= spent;
            self.admitted.extend((0..spent).map(|_| self.now));
            return;
        }
        match source {
            source if !source.is_live(local) => {}
            Source::Store { .. } => self.ask_store(place, local, wanted),
            Source::Local { parts, from, .. } => {
                let era = self.nodes[place].holder.epoch().unwrap().era;
                self.spend_share(place, local, (wanted, parts, from, era));
            }
            Source::Nobody => {}
        }
    }

    fn ask_store(&mut self, place: usize, local: u64, wanted: u64) {
        let node = &self.nodes[place];
        let counts = node.reach.0 == Reach::At { life: self.store.life }
            && node.holder.counts(self.store.life);
        if !counts || !self.is_reached(place) {
            return;
        }
        let boot = node.boot;
        let (tokens, lease) = if self.chance.below(30) == 0 {
            let end = local + 2_000_000 - 2_000_000 / 128;
            (self.store.lease(self.now, 20), end)
        } else {
            (self.store.take(self.now, wanted), 0)
        };
        self.post(Post::Given { to: place, tokens, at: self.now, lease, boot });
    }

    fn spend_share(&mut self, place: usize, local: u64, of: (u64, u64, u64, u64)) {
        let (wanted, parts, from, era) = of;
        let parts = match self.mutant {
            Some(Mutant::StaleMembers) => self.nodes[place].first.unwrap_or(parts).min(2),
            _ => parts,
        };
        let Some(part) = part(bucket(), parts) else { return };
        let is_full = self.mutant == Some(Mutant::FullShare);
        let begin = Uptime::from_micros(from.max(local.saturating_sub(STEP)));
        let empty = if is_full { Level::full(begin) } else { Level::empty(part, begin) };
        let known = self.nodes[place].share.filter(|(of, _)| *of == era);
        let mut level = known.map_or(empty, |(_, level)| level);
        for _ in 0..wanted {
            if let Ok((next, _)) = level.take(part, Tokens(1), Uptime::from_micros(local)) {
                level = next;
                self.admitted.push(self.now);
            }
        }
        self.nodes[place].share = Some((era, level));
    }

    /// At no instant do shares add up to more than the whole, nor does the store count beside them.
    fn judge(&mut self) {
        let (mut shares, mut by_store) = (0.0, false);
        for place in 0..self.nodes.len() {
            let (local, node) = (self.local(place), &self.nodes[place]);
            match node.holder.source() {
                source if !node.is_up || !source.is_live(local) => {}
                Source::Store { .. } => by_store = true,
                Source::Local { parts, .. } => shares += 1.0 / parts as f64,
                Source::Nobody => {}
            }
        }
        if shares > 1.000_001 || (by_store && shares > 0.0) {
            self.broken = Some(format!("shares of {shares}, the store too: {by_store}"));
        }
    }
}

fn terms(mutant: Option<Mutant>) -> Terms {
    let right = Terms::default();
    match mutant {
        Some(Mutant::NoWait) => Terms { before_share: Duration::ZERO, ..right },
        Some(Mutant::ReturnAtOnce) => Terms { before_store: Duration::ZERO, ..right },
        Some(Mutant::MinorityServes) => Terms { authority: Duration::from_secs(3_600), ..right },
        Some(Mutant::FullShare | Mutant::StaleMembers | Mutant::OldStore) | None => right,
    }
}

/// Four hundred at once and ten a second: far more than what comes back in any wait.
fn bucket() -> Bucket {
    Bucket::from_parts(1_000, 100_000_000, 40_000_000_000).unwrap()
}

const STEP: u64 = 10_000;
