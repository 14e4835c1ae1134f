//! What it costs to name a call, and to read the catalogue at a start.
//!
//! `cargo bench -p rules --bench operation` prints nanoseconds a lookup, over every call there is
//! and over the longest ones, and the microseconds and bytes of the table.
#![expect(clippy::print_stdout, reason = "the figures are what a bench is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;

use http::uri::PathAndQuery;
use model::{Clock as _, SystemClock};
use rules::operation::{Catalogue, Template};
use rules::target::Target;

fn main() {
    let clock = SystemClock::start();
    let text = include_str!("../data/cloudflare.operations");
    let start = clock.uptime();
    black_box(Catalogue::parse(text).unwrap());
    let first = clock.uptime().as_micros() - start.as_micros();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = clock.uptime();
        black_box(Catalogue::parse(black_box(text)).unwrap());
        times.push(clock.uptime().as_micros() - start.as_micros());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).unwrap();
    println!("table: {} bytes, read in {first} µs at first, {median} µs after", text.len());
    let catalogue = Catalogue::cloudflare();
    let calls: Vec<(&str, Target)> =
        catalogue.templates().iter().map(|template| call(catalogue, template)).collect();
    look_up("every call", &calls);
    let mut longest = calls.clone();
    longest.sort_by_key(|(_, target)| std::cmp::Reverse(target.path().split('/').count()));
    longest.truncate(100);
    look_up("the 100 deepest", &longest);
    let one = [(
        "DELETE",
        target(
            "/zones/0123456789abcdef0123456789abcdef/dns_records/0123456789abcdef0123456789abcdef",
        ),
    )];
    look_up("dns.records.delete", &one);
    let unknown =
        [("GET", target("/accounts/0123456789abcdef0123456789abcdef/nothing/of/this/kind"))];
    look_up("an unknown one", &unknown);
}

/// Prints the median over many rounds of the mean over the calls.
fn look_up(what: &str, calls: &[(&str, Target)]) {
    let clock = SystemClock::start();
    let catalogue = Catalogue::cloudflare();
    let repeats = (100_000 / calls.len()).max(1);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = clock.uptime();
        for _ in 0..repeats {
            for (method, target) in calls {
                let _found = black_box(catalogue.find(black_box(method), black_box(target)));
            }
        }
        let took = clock.uptime().as_micros() - start.as_micros();
        times.push(took * 1_000 / u64::try_from(repeats * calls.len()).unwrap());
    }
    times.sort_unstable();
    let (median, worst) = (times.get(times.len() / 2).unwrap(), times.last().unwrap());
    println!("{what}: {median} ns a lookup, {worst} ns in the worst of {ROUNDS} rounds");
}

fn call(catalogue: &Catalogue, template: &Template) -> (&'static str, Target) {
    let mut path = catalogue.path_of(template);
    for name in &*template.parameters {
        path = path.replace(&format!("{{{name}}}"), "0123456789abcdef0123456789abcdef");
    }
    (template.verb.as_str(), target(&path))
}

fn target(path: &str) -> Target {
    let path = PathAndQuery::try_from(format!("/client/v4{path}")).unwrap();
    Target::from_path_and_query(path).unwrap()
}

const ROUNDS: usize = 25;
