//! What one change of the document costs, by the size of the document.
//!
//! `cargo bench -p config` prints microseconds: the median of many changes, each of one resource.
//! `compile` is a compiler that remembers; `afresh` is one that does not, as at a start; `index` is
//! the part of the latter that indexing the routes takes.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::sync::Arc;

use config::{Change, Command, Compiler, Expect, Key, Keyring, Kind, Reference, Stamp, State};
use model::{Clock as _, Entropy, Revision, Secret, SystemClock, SystemEntropy, Timestamp};
use rules::route::RouteIndex;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    println!("microseconds, median of {CHANGES} changes");
    println!(
        "{:>8} {:>10} {:>8} {:>11} {:>8} {:>8} {:>8}",
        "of each", "changed", "apply", "references", "compile", "afresh", "index"
    );
    for size in [100, 1_000, 10_000] {
        let bench = Bench::new(size);
        for kind in [Kind::Route, Kind::Upstream, Kind::Consumer, Kind::Limit] {
            bench.change(kind);
        }
    }
}

/// A document with as many routes, upstreams and agents, and a tenth as many teams and limits.
struct Bench {
    size: usize,
    state: State,
    keyring: Arc<Keyring>,
    clock: SystemClock,
}

impl Bench {
    fn new(size: usize) -> Self {
        let keyring = Arc::new(Keyring::from_bytes(&[7; 32]));
        let mut bench =
            Self { size, state: State::default(), keyring, clock: SystemClock::start() };
        for kind in [Kind::Upstream, Kind::Route, Kind::ConsumerGroup, Kind::Consumer, Kind::Limit]
        {
            let count = match kind {
                Kind::Limit | Kind::ConsumerGroup => size / 10,
                _ => size,
            };
            let changes = (0..count).map(|number| bench.put(kind, number, 0)).collect();
            bench.state.apply(&command(changes)).unwrap();
        }
        bench
    }

    /// Changes one resource many times, and prints what each step costs.
    fn change(&self, kind: Kind) {
        let resolve = |_: &Reference| Ok(Secret::new(String::from("secret")));
        let mut compiler = Compiler::new(Arc::clone(&self.keyring));
        let mut state = self.state.clone();
        // As on a node, whoever reads the old state and the old snapshot keeps them alive.
        let mut snapshot = compiler.compile(&state, &resolve, 0).unwrap();
        let [mut apply, mut references, mut compile, mut afresh, mut index] =
            [const { Vec::new() }; 5];
        for round in 1..=CHANGES {
            let change = command(vec![self.put(kind, (round * 7) % (self.size / 10), round)]);
            let mut next = state.clone();
            apply.push(self.time(|| next.apply(&change).unwrap()).0);
            references.push(self.time(|| config::references(&next)).0);
            let (time, compiled) = self.time(|| compiler.compile(&next, &resolve, 0).unwrap());
            compile.push(time);
            if round % 10 == 1 {
                afresh.push(self.time(|| config::compile(&next, &self.keyring, &resolve, 0)).0);
            }
            let routes = compiled.routes.iter().map(Arc::clone);
            let routes: Vec<_> = routes.map(|route| (Revision::ZERO, route)).collect();
            index.push(self.time(|| RouteIndex::from_iter(routes)).0);
            (state, snapshot) = (next, compiled);
        }
        drop(snapshot);
        let [apply, references, compile, afresh, index] =
            [apply, references, compile, afresh, index].map(median);
        let (size, kind) = (self.size, kind.plural());
        println!(
            "{size:>8} {kind:>10} {apply:>8} {references:>11} {compile:>8} {afresh:>8} {index:>8}"
        );
    }

    fn put(&self, kind: Kind, number: usize, round: usize) -> Change {
        let key = Key::new(kind, format!("n{number}"));
        let value = document(kind, number, round);
        let entropy: &dyn Entropy = &SystemEntropy;
        let value = config::seal(&self.keyring, entropy, &key, value, None).unwrap();
        Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
    }

    /// How long it took, and what came out: dropping that is not a part of it.
    fn time<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let start = self.clock.uptime();
        let result = work();
        (self.clock.uptime().as_micros() - start.as_micros(), result)
    }
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn document(kind: Kind, number: usize, round: usize) -> Value {
    match kind {
        Kind::Upstream => json!({
            "scheme": "https", "nodes": {"api.cloudflare.com:443": 1},
            "credential": "$env://CLOUDFLARE_API_TOKEN", "desc": format!("round {round}"),
        }),
        Kind::Route => json!({
            "uri": format!("/n{number}/*"), "desc": format!("round {round}"),
            "methods": ["GET", "POST", "PUT", "DELETE", "PATCH"],
            "upstream_id": format!("n{number}"),
            "plugins": {
                "jwt-auth": {},
                "limit-req": {"rate": 10, "burst": 5, "key": "remote_addr", "rejected_code": 429},
                "proxy-rewrite": {"regex_uri": [format!("^/n{number}/(.*)"), "/$1"]},
                "syslog": {"host": "127.0.0.1", "port": 514, "log_format": "json"},
            },
        }),
        Kind::Consumer => json!({
            "desc": format!("round {round}"), "team": format!("n{}", number / 10),
            "plugins": {"jwt-auth": {"key": format!("k{number}"), "secret": "a secret of 32 bytes or more"}},
        }),
        Kind::Limit => json!({
            "desc": format!("round {round}"), "per": "agent", "rate": 4, "burst": 100,
            "match": {"routes": [format!("n{number}")]},
        }),
        _ => json!({"desc": format!("round {round}")}),
    }
}

fn command(changes: Vec<Change>) -> Command {
    Command { at: Timestamp::from_secs(1), base: None, force: false, changes }
}

const CHANGES: usize = 51;
