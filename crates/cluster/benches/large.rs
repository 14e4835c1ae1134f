//! What a document of many routes costs a node, and a cluster of three.
//!
//! `cargo bench -p cluster --profile e2e --bench large [ROUTES]` prints milliseconds, and the
//! resident megabytes of the process after each step.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]
#![expect(dead_code, reason = "the tests use more of their helpers")]

#[path = "../tests/cluster/fleet.rs"]
mod fleet;
#[path = "../tests/cluster/net.rs"]
mod net;

use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use config::{Change, Command, Expect, Key, Kind, Stamp};
use model::{Clock as _, SystemClock, Timestamp, Uptime};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use fleet::{Fleet, options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [part, dir, routes] = arguments.as_slice() {
        let routes = routes.parse().unwrap();
        return match part.as_str() {
            "write" => runtime.block_on(write(dir.as_ref(), routes)),
            "restart" => runtime.block_on(restart(dir.as_ref(), routes)),
            _ => runtime.block_on(three(routes)),
        };
    }
    let routes = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(ROUTES);
    let bytes = serde_json::to_vec(&document(routes)).unwrap().len();
    println!("{routes} routes, {UPSTREAMS} upstreams, {} KB", bytes >> 10);
    let dir = tempfile::tempdir().unwrap();
    // Each part is a process of its own, so that none is given memory that another used.
    for part in ["write", "restart", "three"] {
        let mut process = Process::new(std::env::current_exe().unwrap());
        let process = process.args([part, dir.path().to_str().unwrap(), &routes.to_string()]);
        assert!(process.status().unwrap().success(), "{part}");
    }
}

/// The whole document in one command, then changes of one route.
async fn write(dir: &Path, routes: usize) {
    let mut bench = Bench::new("one node");
    let (handle, task) = cluster::open(options(dir, 1)).await.unwrap();
    let document = document(routes);
    bench.line("opened empty, document at hand");
    let asked = handle.clone();
    let mut proposing = JoinSet::new();
    proposing.spawn(async move { asked.propose(document).await });
    let mut slowest = Duration::ZERO;
    let revision = loop {
        if let Some(proposed) = proposing.try_join_next() {
            break proposed.unwrap().unwrap().revision;
        }
        let start = bench.clock.uptime();
        assert!(handle.status().ready());
        slowest = slowest.max(bench.clock.uptime().since(start));
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    bench.line("the whole in one command");
    println!("  the slowest status meanwhile {:>16} us", slowest.as_micros());
    assert_eq!(handle.snapshots().borrow().revision, revision);
    let mut times = Vec::new();
    for round in 1..=CHANGES {
        let change = command(vec![put(Kind::Route, (round * 7_919) % routes, round)]);
        let start = bench.clock.uptime();
        let applied = handle.propose(change).await.unwrap();
        times.push(bench.clock.uptime().since(start));
        assert_eq!(handle.snapshots().borrow().revision, applied.revision);
    }
    report("one change, propose to live", times);
    bench.line("all of them");
    task.stop().await;
    bench.line("stopped");
}

/// A start on what was written: to the first snapshot.
async fn restart(dir: &Path, routes: usize) {
    let mut bench = Bench::new("started again");
    let (handle, task) = cluster::open(options(dir, 1)).await.unwrap();
    bench.line("first snapshot");
    assert_eq!(handle.snapshots().borrow().routes.len(), routes);
    task.stop().await;
}

/// Three voters and a learner, over a network in memory.
async fn three(routes: usize) {
    let mut bench = Bench::new("three nodes in one process");
    let mut fleet = Fleet::three(1).await;
    let document = document(routes);
    bench.line("opened empty, document at hand");
    for part in document.changes.chunks(CHANGES_SENT) {
        fleet.handle(1_u64).propose(command(part.to_vec())).await.unwrap();
    }
    bench.line(&format!("sent, {CHANGES_SENT} in a command"));
    fleet.all_reach(fleet.handle(1_u64).state().revision()).await;
    bench.line("and on all");
    let mut times = Vec::new();
    for round in 1..=CHANGES {
        let change = command(vec![put(Kind::Route, (round * 7_919) % routes, round)]);
        let start = bench.clock.uptime();
        let applied = fleet.handle(1_u64).propose(change).await.unwrap();
        // Woken by the snapshots themselves, so that no pause between looks is counted.
        for id in 2..=3_u64 {
            let mut snapshots = fleet.handle(id).snapshots();
            let is_live = snapshots.wait_for(|snapshot| snapshot.revision >= applied.revision);
            drop(is_live.await.unwrap());
        }
        times.push(bench.clock.uptime().since(start));
    }
    report("one change, propose to live on all", times);
    bench.line("all of them");
    // Farther behind than the log reaches: the document is sent whole.
    for round in 1..=150 {
        let change = command(vec![put(Kind::Upstream, UPSTREAMS, round)]);
        fleet.handle(1_u64).propose(change).await.unwrap();
    }
    bench.line("150 changes of an upstream");
    fleet.join(4).await;
    let newest = fleet.handle(1_u64).state().revision();
    fleet.all_reach(newest).await;
    bench.line("a learner was sent the whole");
    fleet.stop().await;
}

struct Bench {
    clock: SystemClock,
    since: Uptime,
}

impl Bench {
    fn new(what: &str) -> Self {
        println!("{what}");
        let clock = SystemClock::start();
        let since = clock.uptime();
        Self { clock, since }
    }

    /// Prints how long it took since the last line, and what the process holds.
    fn line(&mut self, what: &str) {
        let millis = self.clock.uptime().since(self.since).as_millis();
        let (now, peak) = (resident("VmRSS:"), resident("VmHWM:"));
        println!("  {what:<38} {millis:>8} ms {now:>6} MB, peak {peak} MB");
        self.since = self.clock.uptime();
    }
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() - 1) * part / 100).unwrap().as_micros();
    println!("  {what:<36} {:>8} us, p99 {} us, most {} us", at(50), at(99), at(100));
}

fn resident(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() >> 10
}

fn document(routes: usize) -> Command {
    let upstreams = (0..UPSTREAMS).map(|number| put(Kind::Upstream, number, 0));
    command(upstreams.chain((0..routes).map(|number| put(Kind::Route, number, 0))).collect())
}

fn put(kind: Kind, number: usize, round: usize) -> Change {
    let (key, value) = (Key::new(kind, format!("n{number}")), resource(kind, number, round));
    Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
}

fn resource(kind: Kind, number: usize, round: usize) -> Value {
    if kind == Kind::Upstream {
        return json!({
            "scheme": "https", "nodes": {"api.cloudflare.com:443": 1},
            "desc": format!("round {round}"),
        });
    }
    json!({
        "uri": format!("/n{number}/*"), "desc": format!("round {round}"),
        "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
        "upstream_id": format!("n{}", number % UPSTREAMS),
        "plugins": {
            "jwt-auth": {},
            "limit-req": {"rate": 10, "burst": 5, "key": "remote_addr", "rejected_code": 429},
            "proxy-rewrite": {"regex_uri": [format!("^/n{number}/(.*)"), "/$1"]},
            "syslog": {"host": "127.0.0.1", "port": 514, "log_format": "json"},
        },
    })
}

fn command(changes: Vec<Change>) -> Command {
    Command { at: Timestamp::from_secs(1), base: None, force: false, changes }
}

const ROUTES: usize = 100_000;
const UPSTREAMS: usize = 100;
const CHANGES: usize = 101;
/// As many as fit into a body that the Admin API takes.
const CHANGES_SENT: usize = 25_000;
