//! A fleet whose Redis goes away: its nodes go on with a share of each limit, and go back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Bucket, Clock as _, Rate, SystemClock, Tokens};
use rules::window::Replay;
use serde_json::json;

use super::figure;
use crate::harness::call::get_call;
use crate::harness::node::Node;
use crate::harness::redis::Redis;
use crate::harness::{Fleet, Origin, text_at, tollgate, wait_for};

/// Tokens a second, and at once: more than what comes back while the fleet makes up its mind.
const RATE: u64 = 60;
const BURST: u64 = 600;

/// What passed, by a clock that all share.
#[derive(Clone)]
struct Log(Arc<Mutex<Vec<u64>>>, SystemClock);

impl Log {
    fn origin() -> (Origin, Self) {
        let log = Self(Arc::default(), SystemClock::start());
        let noted = log.clone();
        let origin = Origin::answering(move |_| {
            noted.0.lock().expect("a log").push(noted.now());
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n".to_owned()
        });
        (origin, log)
    }

    fn now(&self) -> u64 {
        self.1.uptime().as_micros()
    }

    /// How many passed in the last so many seconds.
    fn lately(&self, seconds: u64) -> u64 {
        let from = self.now().saturating_sub(seconds * 1_000_000);
        let log = self.0.lock().expect("a log");
        let count = log.iter().rev().take_while(|at| **at >= from).count();
        u64::try_from(count).expect("a number")
    }

    /// Waits until the fleet serves most of its rate for three seconds on end, and no more: for how
    /// long that took to begin.
    fn serves(&self, what: &str) -> Duration {
        let began = self.now();
        wait_for(what, || {
            let (served, now) = (self.lately(3), self.now());
            let is_steady = (RATE * 3 * 9 / 10..=RATE * 3 * 11 / 10).contains(&served);
            (is_steady && now >= began + 3_000_000).then_some(())
        });
        Duration::from_micros(self.now() - began - 3_000_000)
    }

    /// Waits until nothing passes for a second.
    fn stops(&self, what: &str) {
        let began = self.now();
        wait_for(what, || (self.lately(1) == 0 && self.now() >= began + 1_000_000).then_some(()));
    }

    /// By how many tokens the worst of all windows holds too much. A request comes to the origin a
    /// little later than it was admitted.
    fn excess(&self) -> u64 {
        let mut log = self.0.lock().expect("a log").clone();
        log.sort_unstable();
        let rate = Rate::parse(&RATE.to_string(), Duration::from_secs(1)).expect("a rate");
        let bucket = Bucket::new(rate, &BURST.to_string(), Tokens(0)).expect("a bucket");
        let mut replay = Replay::new(bucket);
        log.iter().for_each(|at| replay.take(*at));
        replay.excess(Duration::from_millis(200))
    }
}

/// Three nodes that count in one Redis, with a limit that is shared.
fn fleet(redis: &Redis, origin: &Origin) -> Fleet {
    let fleet = Fleet::of(3);
    for name in ["a", "b", "c"] {
        let node = fleet.node(name);
        assert!(node.stop().success());
        start(&node, redis);
        node.is_ready_in_time();
    }
    fleet.leader();
    fleet.carry_to(origin);
    for node in fleet.running() {
        uses_redis(&node);
    }
    let limit = json!({ "per": "route", "rate": RATE, "burst": BURST, "on_outage": "share" });
    let put = fleet.node("a").put("/admin/limits/shared?wait=all", &limit, &[]);
    assert_eq!(put.status(), 201, "{put}");
    fleet
}

fn start(node: &Node, redis: &Redis) {
    node.start_as(tollgate(), &["--redis", &redis.url()]);
}

fn uses_redis(node: &Node) {
    let breaker = || node.number("tollgate_ledger_breaker");
    wait_for("Redis to be used", || (breaker() == Some(0)).then_some(()));
}

/// Asks more of each node than there is, while something is done.
fn under_load(fleet: &Fleet, deed: impl FnOnce()) {
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c"] {
            scope.spawn(move || {
                let node = fleet.node(name);
                while !stop.load(Ordering::Relaxed) {
                    if let Some(doors) = node.doors() {
                        drop(get_call("/t", &[]).ask(&doors.http));
                    }
                    std::thread::park_timeout(Duration::from_millis(4));
                }
            });
        }
        let _over = Over(stop);
        deed();
    });
}

/// Ends the load, also when the deed fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long after a moment the fleet serves its rate again.
fn after(log: &Log, moment: u64, what: &str) -> Duration {
    let asked = log.now();
    Duration::from_micros(asked - moment) + log.serves(what)
}

/// Waits until all nodes have a share, or none has.
fn share(fleet: &Fleet, sharing: u64) {
    wait_for("all nodes to have a share, or none", || {
        let shares = |node: &Arc<Node>| node.number("tollgate_ledger_sharing") == Some(sharing);
        fleet.running().iter().all(shares).then_some(())
    });
}

#[test]
fn by_shares_the_fleet_goes_on_at_its_rate_and_no_window_holds_too_much() {
    let (mut redis, (origin, log)) = (Redis::start(), Log::origin());
    let fleet = fleet(&redis, &origin);
    under_load(&fleet, || {
        log.serves("the rate to be served by Redis");
        redis.kill();
        let killed = log.now();
        log.stops("the leases to be over");
        figure("served by shares from", after(&log, killed, "the rate to be served by shares"));
        share(&fleet, 1);
        redis.restart();
        let restarted = log.now();
        share(&fleet, 0);
        log.stops("the shares to be over");
        figure("served by Redis from", after(&log, restarted, "the rate to be served by Redis"));
        share(&fleet, 0);
    });
    assert_eq!(log.excess(), 0);
}

#[test]
fn a_redis_that_the_others_do_not_count_in_is_not_used() {
    let (redis, other, (origin, _)) = (Redis::start(), Redis::start(), Log::origin());
    let fleet = fleet(&redis, &origin);
    wait_for("what Redis counts to be agreed on", || {
        (fleet.node("a").carry("/t").status() == 200).then_some(())
    });
    let node = fleet.node("c");
    assert!(node.stop().success());
    start(&node, &other);
    node.says("this Redis is not used");
    assert_eq!(node.carry("/t").status(), 503);
    // Redis may be late once on a busy machine.
    wait_for("the others to go on", || (fleet.node("a").carry("/t").status() == 200).then_some(()));
    assert!(node.stop().success());
    start(&node, &redis);
    uses_redis(&node);
    wait_for("it to count with the others", || (node.carry("/t").status() == 200).then_some(()));
}

#[test]
fn a_node_that_is_cut_off_has_no_share_and_the_others_have_all() {
    let (mut redis, (origin, log)) = (Redis::start(), Log::origin());
    let fleet = fleet(&redis, &origin);
    under_load(&fleet, || {
        log.serves("the rate to be served by Redis");
        redis.kill();
        log.stops("the leases to be over");
        log.serves("the rate to be served by shares");
        let alone = fleet.followers().remove(0);
        for other in fleet.running().iter().filter(|node| node.name != alone.name) {
            fleet.mesh.cut(&alone.name, &other.name);
            fleet.mesh.cut(&other.name, &alone.name);
        }
        wait_for("it to refuse", || {
            let answer = alone.carry("/t");
            (answer.status() == 503).then(|| {
                assert_eq!(text_at(&answer.json(), "/code"), "ledger.unavailable", "{answer}");
            })
        });
        let cut = log.now();
        figure("served by two from", after(&log, cut, "the rate to be served by two"));
        fleet.mesh.heal();
        wait_for("it to have a share again", || (alone.carry("/t").status() == 200).then_some(()));
    });
    assert_eq!(log.excess(), 0);
}
