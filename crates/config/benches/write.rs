//! What one change of the document costs, by the size of the document.
//!
//! `cargo bench -p config` prints microseconds: the median of many changes, each of one resource.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use config::{Change, Command, Expect, Key, Keyring, Kind, Reference, Stamp, State};
use model::{Clock as _, Entropy, Secret, SystemClock, SystemEntropy, Timestamp};
use serde_json::{Value, json};

fn main() {
    println!("microseconds, median of {CHANGES} changes");
    println!(
        "{:>8} {:>10} {:>8} {:>12} {:>10}",
        "of each", "changed", "apply", "references", "compile"
    );
    for size in [100, 1_000, 10_000] {
        let bench = Bench::new(size);
        for kind in [Kind::Route, Kind::Upstream, Kind::Consumer, Kind::Limit] {
            bench.change(kind);
        }
    }
}

/// A document with as many routes, upstreams, agents and a tenth as many limits.
struct Bench {
    size: usize,
    state: State,
    keyring: Keyring,
    clock: SystemClock,
}

impl Bench {
    fn new(size: usize) -> Self {
        let keyring = Keyring::from_bytes(&[7; 32]);
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
        let mut state = self.state.clone();
        let mut steps: [Vec<u64>; 3] = Default::default();
        for round in 1..=CHANGES {
            let change = self.put(kind, (round * 7) % (self.size / 10), round);
            // As on a node, whoever reads the old state keeps it alive.
            let mut next = state.clone();
            steps[0].push(self.time(|| drop(next.apply(&command(vec![change])).unwrap())));
            steps[1].push(self.time(|| drop(config::references(&next))));
            let resolve = |_: &Reference| Ok(Secret::new(String::from("secret")));
            steps[2].push(self.time(|| {
                drop(config::compile(&next, &self.keyring, &resolve, 0).unwrap());
            }));
            state = next;
        }
        let [apply, references, compile] = steps.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        });
        let (size, kind) = (self.size, kind.plural());
        println!("{size:>8} {kind:>10} {apply:>8} {references:>12} {compile:>10}");
    }

    fn put(&self, kind: Kind, number: usize, round: usize) -> Change {
        let key = Key::new(kind, format!("n{number}"));
        let value = document(kind, number, round);
        let entropy: &dyn Entropy = &SystemEntropy;
        let value = config::seal(&self.keyring, entropy, &key, value, None).unwrap();
        Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now }
    }

    fn time(&self, work: impl FnOnce()) -> u64 {
        let start = self.clock.uptime();
        work();
        self.clock.uptime().as_micros() - start.as_micros()
    }
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
            "plugins": {"jwt-auth": {"key": format!("k{number}"), "secret": "a secret of 32 bytes or more …"}},
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
