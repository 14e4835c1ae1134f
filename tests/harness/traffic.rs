//! Agents' traffic through a fleet while something is done to it; each request that fails counts.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::{connect, get_call};
use super::{Fleet, Message, Origin, Wire, wait_for};
use serde_json::json;

/// Where the requests go.
#[derive(Clone, Copy)]
pub(crate) enum Way<'a> {
    /// To one node, on a connection that is kept.
    Through(&'a str),
    /// To each node that is ready in turn, as a balancer sends them, on a connection each.
    Balanced,
}

/// What became of the requests so far.
#[derive(Default)]
pub(crate) struct Traffic {
    stop: AtomicBool,
    answered: AtomicUsize,
    failures: Mutex<Vec<String>>,
    /// The doors of the nodes that a balancer holds for ready, by name.
    ready: Mutex<BTreeMap<String, String>>,
}

impl Fleet {
    /// Sends every request to one origin, from every node.
    pub(crate) fn carry_to(&self, origin: &Origin) {
        let node = self.running().into_iter().next().expect("a node that runs");
        let put = |path: &str, body| {
            let answer = node.put(path, &body, &[]);
            assert!(matches!(answer.status(), 200 | 201), "{answer}");
        };
        put("/admin/upstreams/only", origin.upstream());
        put("/admin/routes/only?wait=all", json!({ "uri": "/t", "upstream_id": "only" }));
        self.agree();
    }

    /// Does something while requests go these ways, none of which may fail; returns how many did
    /// not.
    pub(crate) fn under_traffic(&self, ways: &[Way<'_>], deed: impl FnOnce(&Traffic)) -> usize {
        let traffic = Traffic::default();
        std::thread::scope(|scope| {
            let _stop = Stop(&traffic.stop);
            let traffic = &traffic;
            for way in ways {
                match *way {
                    Way::Through(name) => {
                        scope.spawn(move || traffic.go_through(self, name));
                    }
                    Way::Balanced => {
                        scope.spawn(move || traffic.probe(self));
                        scope.spawn(move || traffic.go_balanced());
                    }
                }
            }
            traffic.flows();
            deed(traffic);
            traffic.flows();
        });
        let failures = traffic.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert!(failures.is_empty(), "{} requests failed: {:#?}", failures.len(), failures.first());
        traffic.answered.into_inner()
    }
}

impl Traffic {
    /// Waits until some more requests were answered.
    pub(crate) fn flows(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + FLOW;
        wait_for("traffic", || {
            let failed = !lock(&self.failures).is_empty();
            (failed || self.answered.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// One agent at one node.
    fn go_through(&self, fleet: &Fleet, name: &str) {
        let door = fleet.node(name).doors().expect("it runs").http;
        let mut kept: Option<Wire> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let was_kept = kept.is_some();
            let mut asked = ask(&mut kept, &door);
            // A connection that was closed while it rested says nothing of the request (RFC 9112
            // §9.3.1).
            if was_kept && asked.is_err() {
                asked = ask(&mut kept, &door);
            }
            self.count(name, asked);
        }
    }

    /// One agent behind a balancer.
    fn go_balanced(&self) {
        for nth in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let ready = lock(&self.ready).clone();
            let chosen = ready.iter().nth(nth.checked_rem(ready.len()).unwrap_or(0));
            match chosen {
                Some((name, door)) => self.count(name, get_call("/t", &[]).ask(door)),
                None => std::thread::park_timeout(PROBE_EVERY),
            }
        }
    }

    /// What a balancer does to know who is ready.
    fn probe(&self, fleet: &Fleet) {
        while !self.stop.load(Ordering::Relaxed) {
            let running = fleet.running();
            lock(&self.ready).retain(|name, _| running.iter().any(|node| node.name == *name));
            for node in running {
                let is_ready = node.readiness().is_some_and(|answer| answer.status() == 200);
                match node.doors().filter(|_| is_ready) {
                    Some(doors) => lock(&self.ready).insert(node.name.clone(), doors.http),
                    None => lock(&self.ready).remove(&node.name),
                };
            }
            std::thread::park_timeout(PROBE_EVERY);
        }
    }

    fn count(&self, name: &str, asked: io::Result<Message>) {
        match asked {
            Ok(answer) if answer.status() == 200 => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => lock(&self.failures).push(format!("through {name}: {answer}")),
            Err(error) => lock(&self.failures).push(format!("through {name}: {error}")),
        }
        // Others need the machine too.
        std::thread::park_timeout(REST);
    }
}

/// Asks on the kept connection or a new one, which is kept if it may be.
fn ask(kept: &mut Option<Wire>, door: &str) -> io::Result<Message> {
    let call = get_call("/t", &[]);
    let mut wire = match kept.take() {
        Some(wire) => wire,
        None => connect(door, call.patience)?,
    };
    let answer = call.ask_on(&mut wire, door, "keep-alive")?;
    if answer.field("connection") != Some("close") {
        *kept = Some(wire);
    }
    Ok(answer)
}

/// Ends what runs beside a deed, also when that fails.
pub(super) struct Stop<'a>(pub(super) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long an agent thinks.
const REST: Duration = Duration::from_millis(5);

/// Requests that show that traffic flows.
const FLOW: usize = 20;

/// How often a balancer looks; well below the time for which a node says that it is going.
const PROBE_EVERY: Duration = Duration::from_millis(20);
