//! What a document of many routes costs: to write whole, to read back, to compile, to change, to
//! ask for a route.
//!
//! `cargo bench -p config --profile e2e --bench large [ROUTES]` prints milliseconds and resident
//! megabytes of each step, then medians of the parts of one change, and of a lookup.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::net::SocketAddr;
use std::sync::Arc;

use config::{Change, Command, Compiler, Expect, Key, Keyring, Kind, Reference, Stamp, State};
use http::{HeaderMap, Uri};
use model::{
    Clock as _, Entropy, Protocol, RequestId, Scheme, Secret, SystemClock, SystemEntropy,
    Timestamp, Uptime,
};
use rules::Snapshot;
use rules::fact::Facts;
use rules::target::Target;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let routes = numbers.next().unwrap_or(ROUTES);
    let mut bench = Bench { clock: SystemClock::start(), since: Uptime::default() };
    println!("{routes} routes, {UPSTREAMS} upstreams; milliseconds, resident megabytes");
    bench.line("nothing yet");
    let keyring = Arc::new(Keyring::from_bytes(&[7; 32]));
    let resolve = |_: &Reference| Ok(Secret::new(String::from("secret")));
    let changes = changes(routes);
    bench.line("values made");
    let mut command = command(changes);
    seal(&keyring, &mut command.changes);
    bench.line("sealed");
    let mut state = State::default();
    drop(state.apply(&command).unwrap());
    bench.line("applied in one command");
    drop(command);
    let texts: Vec<(Key, String)> = [Kind::Upstream, Kind::Route]
        .into_iter()
        .flat_map(|kind| state.list(kind))
        .map(|(key, stored)| (key.clone(), serde_json::to_string(stored).unwrap()))
        .collect();
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    bench.line(&format!("written as {} KB", bytes >> 10));
    drop(state);
    bench.line("state dropped");
    let rows: Vec<_> = texts
        .iter()
        .map(|(key, text)| (key.clone(), serde_json::from_str(text).unwrap()))
        .collect();
    bench.line("parsed");
    let state = State::restore(model::Revision::new(1), rows.into_iter());
    drop(texts);
    bench.line("restored");
    let mut compiler = Compiler::new(Arc::clone(&keyring));
    let snapshot = compiler.compile(&state, &resolve, 0).unwrap();
    bench.line("compiled");
    bench.change(&mut compiler, (state, snapshot), routes);
}

struct Bench {
    clock: SystemClock,
    since: Uptime,
}

impl Bench {
    /// Prints how long it took since the last line.
    fn line(&mut self, what: &str) {
        let now = self.clock.uptime();
        let millis = now.since(self.since).as_micros() as f64 / 1000.0;
        println!("{what:<28} {millis:>10.1} {:>8}", resident());
        self.since = self.clock.uptime();
    }

    /// Changes one route many times, and prints what each part costs.
    fn change(&mut self, compiler: &mut Compiler, from: (State, Snapshot), routes: usize) {
        let resolve = |_: &Reference| Ok(Secret::new(String::from("secret")));
        let keyring = Keyring::from_bytes(&[7; 32]);
        let (mut state, mut snapshot) = from;
        let mut parts = [const { Vec::new() }; 7];
        for round in 1..=CHANGES {
            let [seals, applies, references, compiles, states, snapshots, lookups] = &mut parts;
            let mut change = command(vec![put(Kind::Route, (round * 7_919) % routes, round)]);
            seals.push(self.time(|| seal(&keyring, &mut change.changes)).0);
            let mut next = state.clone();
            applies.push(self.time(|| next.apply(&change).unwrap()).0);
            references.push(self.time(|| config::references(&next)).0);
            let (time, compiled) = self.time(|| compiler.compile(&next, &resolve, 0).unwrap());
            compiles.push(time);
            let (old_state, old_snapshot) =
                (std::mem::replace(&mut state, next), std::mem::replace(&mut snapshot, compiled));
            states.push(self.time(|| drop(old_state)).0);
            snapshots.push(self.time(|| drop(old_snapshot)).0);
            lookups.push(self.time(|| look_up(&snapshot, routes)).0);
        }
        self.line(&format!("{CHANGES} changes"));
        let names = ["seal", "apply", "references", "compile", "drop state", "drop snapshot"];
        for (name, times) in names.iter().zip(&mut parts) {
            println!("one change: {name:<16} {:>10} us", median(times));
        }
        let [.., lookups] = &mut parts;
        println!("one lookup {:>28} ns", median(lookups) * 1_000 / LOOKUPS as u64);
    }

    fn time<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let start = self.clock.uptime();
        let result = work();
        (self.clock.uptime().as_micros() - start.as_micros(), result)
    }
}

/// Looks routes up all over the document.
fn look_up(snapshot: &Snapshot, routes: usize) {
    let client: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let headers = HeaderMap::new();
    for number in 0..LOOKUPS {
        let path = format!("/n{}/zones", (number * 7_919) % routes);
        let target = Target::parse(&path.parse::<Uri>().unwrap()).unwrap();
        let facts = Facts {
            request_id: RequestId(1),
            client,
            server: client,
            scheme: Scheme::Http,
            protocol: Protocol::Http11,
            method: "GET",
            host: "a",
            host_header: "a",
            target: &target,
            headers: &headers,
            route: None,
            identity: None,
            call: None,
        };
        assert!(snapshot.routes.find(&facts).unwrap().is_some());
    }
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() >> 10
}

fn seal(keyring: &Keyring, changes: &mut [Change]) {
    let entropy: &dyn Entropy = &SystemEntropy;
    for change in changes {
        if let Change::Put { key, value, .. } = change {
            *value = config::seal(keyring, entropy, key, value.take(), None).unwrap();
        }
    }
}

fn changes(routes: usize) -> Vec<Change> {
    let upstreams = (0..UPSTREAMS).map(|number| put(Kind::Upstream, number, 0));
    upstreams.chain((0..routes).map(|number| put(Kind::Route, number, 0))).collect()
}

fn put(kind: Kind, number: usize, round: usize) -> Change {
    let key = Key::new(kind, format!("n{number}"));
    let value = document(kind, number, round);
    Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
}

fn document(kind: Kind, number: usize, round: usize) -> Value {
    if kind == Kind::Upstream {
        return json!({
            "scheme": "https", "nodes": {"api.cloudflare.com:443": 1},
            "credential": "$env://CLOUDFLARE_API_TOKEN", "desc": format!("round {round}"),
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
const CHANGES: usize = 51;
const LOOKUPS: usize = 1_000;
