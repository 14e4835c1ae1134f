//! Nodes, their network and their store in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use model::{Bucket, Tokens};

use super::store::{self, Flaw};
use crate::fleet::coarse::Coarse;
use crate::fleet::lease::draw::{Lack, take_all};
use crate::fleet::lease::holding::{Holding, Step};
use crate::fleet::lease::wire::{Ask, Reply};

/// A request: when in microseconds, at which node, on which buckets it draws one token each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub at: u64,
    pub node: usize,
    pub buckets: Vec<usize>,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    pub seed: u64,
    pub nodes: usize,
    pub buckets: Vec<Bucket>,
    /// Sorted by time.
    pub arrivals: Vec<Arrival>,
    /// Microseconds of one way between a node and the store.
    pub way: u64,
    pub mishaps: Mishaps,
    pub flaw: Option<Flaw>,
    /// A node that asks the store for each request.
    pub exact: Option<usize>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Mishaps {
    /// Of a thousand messages, so many are lost, doubled, or up to half a lease late.
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
    /// From when to when a node stands still, and goes on as if nothing had been.
    pub stops: Vec<(usize, u64, u64)>,
    /// When a node dies and a new one takes its place.
    pub crashes: Vec<(usize, u64)>,
    /// From when to when a node does not reach the store.
    pub cuts: Vec<(usize, u64, u64)>,
    /// Parts of a million by which the nodes' clocks are slow, at most.
    pub drift: u64,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// For each bucket, when it gave a token.
    pub logs: Vec<Vec<u64>>,
    /// Requests that were admitted, and by the node itself.
    pub admitted: u64,
    pub local: u64,
    /// Calls of the store.
    pub calls: u64,
    /// Tokens out on leases at the end of each renewal, at most; and in the bucket beside them.
    pub is_whole: bool,
}

/// Chance from a seed (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    /// One that came while its node stood still.
    Late(usize),
    Renew {
        node: usize,
        life: u64,
        bucket: usize,
        ask: AskOrd,
    },
    Renewed {
        node: usize,
        life: u64,
        bucket: usize,
        seq: u64,
        reply: usize,
    },
    Take {
        node: usize,
        arrival: usize,
    },
    Look {
        node: usize,
        life: u64,
        bucket: usize,
    },
}

/// An ask that has an order, as the queue wants it.
type AskOrd = [u64; 6];

struct Node {
    /// Which of the processes in its place it is: its name at the store.
    life: u64,
    holdings: BTreeMap<usize, Holding>,
    /// When each is looked at next.
    wakes: BTreeMap<usize, u64>,
    seq: u64,
    drift: u64,
}

struct World<'a> {
    setup: &'a Setup,
    chance: Chance,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events: u64,
    nodes: Vec<Node>,
    store: Vec<store::Bucket>,
    replies: Vec<Reply>,
    ran: Ran,
}

/// Runs a setup to its end.
#[must_use]
pub fn run(setup: &Setup) -> Ran {
    let mut chance = Chance(setup.seed);
    let node = |number: usize| Node {
        life: number as u64,
        holdings: BTreeMap::new(),
        wakes: BTreeMap::new(),
        seq: 0,
        drift: chance.below(setup.mishaps.drift + 1),
    };
    let mut world = World {
        setup,
        now: 0,
        queue: BinaryHeap::new(),
        events: 0,
        nodes: (0..setup.nodes).map(node).collect(),
        store: setup
            .buckets
            .iter()
            .map(|bucket| store::Bucket::full(Coarse::new(*bucket), setup.flaw))
            .collect(),
        replies: Vec::new(),
        ran: Ran {
            logs: vec![Vec::new(); setup.buckets.len()],
            admitted: 0,
            local: 0,
            calls: 0,
            is_whole: true,
        },
        chance,
    };
    if !setup.arrivals.is_empty() {
        world.push(setup.arrivals[0].at, Event::Arrive(0));
    }
    let mut crashes = setup.mishaps.crashes.clone();
    crashes.sort_by_key(|(_, at)| Reverse(*at));
    while let Some(Reverse((at, _, event))) = world.queue.pop() {
        world.now = at;
        while crashes.last().is_some_and(|(_, when)| *when <= at) {
            let Some((node, _)) = crashes.pop() else { break };
            world.crash(node);
        }
        world.happen(event);
    }
    world.ran
}

impl World<'_> {
    fn push(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((at, self.events, event)));
    }

    /// Until when a node stands still; `None` when it does not.
    fn stopped(&self, node: usize) -> Option<u64> {
        let now = self.now;
        let mut stops = self.setup.mishaps.stops.iter();
        stops.find(|(of, from, to)| *of == node && (*from..*to).contains(&now)).map(|stop| stop.2)
    }

    /// Sends a message on its way, or on several, or on none.
    fn send(&mut self, node: usize, event: &Event) {
        let Mishaps { lost, doubled, late, cuts, .. } = &self.setup.mishaps;
        let now = self.now;
        if cuts.iter().any(|(of, from, to)| *of == node && (*from..*to).contains(&now)) {
            return;
        }
        let copies = 1 + u64::from(self.chance.below(1_000) < *doubled);
        for _ in 0..copies {
            if self.chance.below(1_000) < *lost {
                continue;
            }
            let mut way = self.setup.way * (75 + self.chance.below(50)) / 100;
            if self.chance.below(1_000) < *late {
                way += self.chance.below(LATE_MAX);
            }
            self.push(now + way, event.clone());
        }
    }

    fn crash(&mut self, node: usize) {
        let lives = self.setup.nodes as u64;
        let old = &mut self.nodes[node];
        old.life += lives;
        old.holdings.clear();
        old.seq = 0;
    }

    /// A node's monotonic clock.
    fn clock(&self, node: usize) -> u64 {
        ORIGIN + self.now - self.now * self.nodes[node].drift / 1_000_000
    }

    fn happen(&mut self, event: Event) {
        let of = match &event {
            Event::Arrive(arrival) => {
                if let Some(next) = self.setup.arrivals.get(arrival + 1) {
                    self.push(next.at, Event::Arrive(arrival + 1));
                }
                Some(self.setup.arrivals[*arrival].node)
            }
            Event::Late(arrival) => Some(self.setup.arrivals[*arrival].node),
            Event::Renewed { node, .. } | Event::Look { node, .. } => Some(*node),
            Event::Renew { .. } | Event::Take { .. } => None,
        };
        if let Some(until) = of.and_then(|node| self.stopped(node)) {
            // What came meanwhile is found when the node goes on.
            let found = match event {
                Event::Arrive(arrival) => Event::Late(arrival),
                Event::Look { node, life, bucket } => {
                    return self.wake((node, life), bucket, until - self.now);
                }
                other => other,
            };
            return self.push(until, found);
        }
        match event {
            Event::Arrive(arrival) | Event::Late(arrival) => self.arrive(arrival),
            Event::Take { arrival, .. } => self.take(arrival),
            Event::Renew { node, life, bucket, ask } => self.renew((node, life), bucket, ask),
            Event::Renewed { node, life, bucket, seq, reply } if life == self.nodes[node].life => {
                self.renewed(node, bucket, seq, reply);
            }
            Event::Look { node, life, bucket } if life == self.nodes[node].life => {
                if self.nodes[node].wakes.get(&bucket) == Some(&self.now) {
                    self.look(node, bucket);
                }
            }
            Event::Renewed { .. } | Event::Look { .. } => {}
        }
    }

    fn arrive(&mut self, number: usize) {
        let setup = self.setup;
        let arrival = &setup.arrivals[number];
        if setup.exact == Some(arrival.node) {
            let take = Event::Take { node: arrival.node, arrival: number };
            return self.send(arrival.node, &take);
        }
        let (at, clock) = (arrival.node, self.clock(arrival.node));
        let node = &mut self.nodes[at];
        for bucket in &arrival.buckets {
            let new = || Holding::new(setup.buckets[*bucket], true, clock);
            node.holdings.entry(*bucket).or_insert_with(new);
        }
        let levels: Vec<(&Holding, u32)> =
            arrival.buckets.iter().filter_map(|b| Some((node.holdings.get(b)?, 1))).collect();
        let mut due = Vec::new();
        let taken = take_all(&levels, clock, |level| due.push(arrival.buckets[level]));
        match taken {
            Ok(_) => {
                self.ran.admitted += 1;
                self.ran.local += 1;
                for bucket in &arrival.buckets {
                    self.ran.logs[*bucket].push(self.now);
                }
            }
            Err(Lack::Refused(..)) => {}
            Err(Lack::Short) => {
                self.send(at, &Event::Take { node: at, arrival: number });
            }
        }
        for bucket in due {
            self.look(at, bucket);
        }
    }

    fn take(&mut self, number: usize) {
        self.ran.calls += 1;
        let (now, buckets) = (self.now, &self.setup.arrivals[number].buckets);
        let has = buckets.iter().all(|bucket| self.store[*bucket].has(now, Tokens(1).0));
        if has {
            self.ran.admitted += 1;
            for bucket in buckets {
                self.store[*bucket].take(1);
                self.ran.logs[*bucket].push(now);
            }
        }
    }

    fn look(&mut self, at: usize, bucket: usize) {
        let (clock, trip) = (self.clock(at), 2 * self.setup.way);
        let node = &mut self.nodes[at];
        let life = node.life;
        let Some(holding) = node.holdings.get(&bucket) else { return };
        let Step { ask, again, is_over, .. } = holding.check(clock, trip, &mut node.seq);
        if is_over {
            node.holdings.remove(&bucket);
            return;
        }
        if let Some(Ask { seq, keep, back, want, demand, length }) = ask {
            let counts = [keep, back, want, demand, length].map(u64::from);
            let ask = [seq, counts[0], counts[1], counts[2], counts[3], counts[4]];
            self.send(at, &Event::Renew { node: at, life, bucket, ask });
        }
        self.wake((at, life), bucket, again.saturating_sub(clock));
    }

    fn wake(&mut self, (node, life): (usize, u64), bucket: usize, wait: u64) {
        let mut at = self.now + wait.max(1);
        if let Some(until) = self.stopped(node) {
            at = at.max(until);
        }
        self.nodes[node].wakes.insert(bucket, at);
        self.push(at, Event::Look { node, life, bucket });
    }

    fn renew(&mut self, (node, life): (usize, u64), bucket: usize, ask: AskOrd) {
        self.ran.calls += 1;
        let [seq, counts @ ..] = ask;
        let [keep, back, want, demand, length] =
            counts.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let ask = Ask { seq, keep, back, want, demand, length };
        let is_dry = self.store[bucket].clone().is_dry(self.now, life, &ask);
        let reply = self.store[bucket].renew(self.now, life, &ask, is_dry);
        let [_, unit, capacity, _] = Coarse::new(self.setup.buckets[bucket]).parts();
        let out = self.store[bucket].out(self.now);
        self.ran.is_whole &= reply.used <= capacity && out * unit <= reply.used;
        self.replies.push(reply);
        let reply = self.replies.len() - 1;
        self.send(node, &Event::Renewed { node, life, bucket, seq, reply });
    }

    fn renewed(&mut self, at: usize, bucket: usize, seq: u64, reply: usize) {
        let (clock, trip) = (self.clock(at), 2 * self.setup.way);
        let reply = self.replies[reply];
        let [_, unit, capacity, _] = Coarse::new(self.setup.buckets[bucket]).parts();
        let left = capacity.saturating_sub(reply.used) / unit;
        let node = &self.nodes[at];
        let Some(holding) = node.holdings.get(&bucket) else { return };
        if let Some(again) = holding.answered((clock, trip), seq, &reply, left) {
            let life = node.life;
            self.wake((at, life), bucket, again.saturating_sub(clock));
        }
    }
}

/// The nodes' clocks at the beginning.
const ORIGIN: u64 = 1_000_000;

/// What is late is so many microseconds late at most.
const LATE_MAX: u64 = 2_000_000;
