//! What others do instead of leases, on the same load.

use model::{Bucket, Tokens, Uptime};
use rules::limit::Level;

use super::world::{Ran, Setup};

/// A way to share a limit among nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// Each node has its part of the rate and the burst, for ever.
    StaticShare,
    /// A counter in the store for each second.
    FixedWindow,
    /// A counter for each second in each node, which tells the store, and learns of the others,
    /// every 100 ms.
    DelayedSync,
    /// The store has the bucket, and is asked for each request.
    CallPerRequest,
}

/// Requests that one bucket for all nodes, asked without any delay, admits.
#[must_use]
pub fn ideal(bucket: Bucket, setup: &Setup) -> u64 {
    let mut level = Level::full(Uptime::default());
    let admitted = setup.arrivals.iter().filter(|arrival| take(&mut level, bucket, arrival.at));
    admitted.count() as u64
}

/// Runs the load of a setup on its first bucket.
#[must_use]
pub fn run(baseline: Baseline, setup: &Setup) -> Ran {
    let Some(bucket) = setup.buckets.first().copied() else { return Ran::default() };
    match baseline {
        Baseline::StaticShare => share(bucket, setup),
        Baseline::FixedWindow => window(bucket, setup),
        Baseline::DelayedSync => sync(bucket, setup),
        Baseline::CallPerRequest => call(bucket, setup),
    }
}

fn take(level: &mut Level, bucket: Bucket, at: u64) -> bool {
    let taken = level.take(bucket, Tokens(1), Uptime::from_micros(at));
    taken.map(|(next, _)| *level = next).is_ok()
}

fn admit(ran: &mut Ran, at: u64) {
    ran.admitted += 1;
    if ran.logs.is_empty() {
        ran.logs.push(Vec::new());
    }
    ran.logs.iter_mut().for_each(|log| log.push(at));
}

fn share(bucket: Bucket, setup: &Setup) -> Ran {
    let nodes = setup.nodes as u64;
    let part = Bucket::from_parts(bucket.refill(), bucket.unit() * nodes, bucket.capacity());
    let part = part.unwrap_or(bucket);
    let mut levels = vec![Level::full(Uptime::default()); setup.nodes];
    let mut ran = Ran::default();
    for arrival in &setup.arrivals {
        let level = levels.get_mut(arrival.node);
        if level.is_some_and(|level| take(level, part, arrival.at)) {
            ran.local += 1;
            admit(&mut ran, arrival.at);
        }
    }
    ran
}

/// Tokens that come back in a second.
const fn per_second(bucket: Bucket) -> u64 {
    bucket.refill() * 1_000_000 / bucket.unit()
}

fn window(bucket: Bucket, setup: &Setup) -> Ran {
    let (mut ran, mut counted) = (Ran::default(), (0, 0));
    for arrival in &setup.arrivals {
        let at = arrival.at + setup.way;
        ran.calls += 1;
        if counted.0 != at / 1_000_000 {
            counted = (at / 1_000_000, 0);
        }
        counted.1 += 1;
        if counted.1 <= per_second(bucket) {
            admit(&mut ran, at);
        }
    }
    ran
}

fn sync(bucket: Bucket, setup: &Setup) -> Ran {
    let mut ran = Ran::default();
    let (mut total, mut second) = (0, 0);
    let mut nodes = vec![(0_u64, 0_u64, 0_u64); setup.nodes];
    for arrival in &setup.arrivals {
        let at = arrival.at;
        if second != at / 1_000_000 {
            (total, second) = (0, at / 1_000_000);
            nodes.iter_mut().for_each(|(known, own, _)| (*known, *own) = (0, 0));
        }
        let Some((known, own, next)) = nodes.get_mut(arrival.node) else { continue };
        if at >= *next {
            total += *own;
            (*known, *own, *next) = (total, 0, at + 100_000);
            ran.calls += 1;
        }
        if *known + *own < per_second(bucket) {
            *own += 1;
            ran.local += 1;
            admit(&mut ran, at);
        }
    }
    ran
}

fn call(bucket: Bucket, setup: &Setup) -> Ran {
    let (mut ran, mut level) = (Ran::default(), Level::full(Uptime::default()));
    for arrival in &setup.arrivals {
        ran.calls += 1;
        if take(&mut level, bucket, arrival.at + setup.way) {
            admit(&mut ran, arrival.at + setup.way);
        }
    }
    ran
}
