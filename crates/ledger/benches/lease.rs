//! What leases cost and give: `cargo bench -p ledger --profile e2e --features simulation --bench
//! lease`, with redis-server at hand for the second figure. The tables are computed in virtual
//! time: they are the same on every machine. `over` is what the worst window of all held above
//! burst + rate · w, in tokens; `use` is what was admitted of what one bucket for all, asked
//! without delay, admits.

#[path = "store/redis.rs"]
mod redis_store;

use std::sync::Arc;
use std::time::Duration;

use ledger::simulation::{
    Baseline, Flaw, Hot, Load, Mishaps, Ran, Setup, arrivals, ideal, run, run_baseline, worst,
};
use ledger::{Answer, Embedded, Fleet, Ledger, Metrics, Options, Organisation, PATIENCE};
use model::{Bucket, Clock, LimitId, Rate, SystemClock, Tokens};
use rules::limit::{Limit, Mode, OnOutage, Per, Selector};
use rules::plan::{BucketKey, Draw, DrawRule, Plan, Scope, Subject};
use tokio_util::task::TaskTracker;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
use redis_store::{Redis, tell, tls};

fn main() {
    hot();
    looked_up();
    let even = Load { nodes: 8, rate: 2_000, length: 60, skew: 0.0, moves: 0, rushes: false };
    let scenarios = [
        ("saturated", even, 1_000, 800, 500),
        ("saturated, Zipf 1", Load { skew: 1.0, ..even }, 1_000, 800, 500),
        ("moving, Zipf 1.5", Load { skew: 1.5, moves: 1, ..even }, 1_000, 800, 500),
        ("80 % load, Zipf 1", Load { rate: 800, skew: 1.0, ..even }, 1_000, 800, 500),
        ("80 % load, b=200", Load { rate: 800, skew: 1.0, ..even }, 1_000, 200, 500),
        ("phases and rushes", Load { rushes: true, ..even }, 1_000, 800, 500),
        ("30 ms away", Load { skew: 1.0, ..even }, 1_000, 1_000, 15_000),
        (
            "20k/s, 90 % load",
            Load { rate: 18_000, skew: 1.0, length: 5, ..even },
            20_000,
            4_000,
            500,
        ),
    ];
    for (name, load, rate, burst, way) in scenarios {
        table(name, &load, bucket(rate, burst), way);
    }
}

fn bucket(rate: u64, burst: u64) -> Bucket {
    let rate = Rate::parse(&rate.to_string(), Duration::from_secs(1)).expect("a rate");
    Bucket::new(rate, &burst.to_string(), Tokens(0)).expect("a bucket")
}

fn table(name: &str, load: &Load, bucket: Bucket, way: u64) {
    let setup = Setup {
        seed: 1,
        nodes: load.nodes,
        buckets: vec![bucket],
        arrivals: arrivals(load, 1),
        way,
        mishaps: Mishaps::default(),
        flaw: None,
        exact: None,
    };
    let best = ideal(bucket, &setup);
    tell(&format!("\n{name}: {} nodes, {} of {} requests", load.nodes, best, setup.arrivals.len()));
    tell(&format!("{:>18} {:>7} {:>8} {:>11} {:>7}", "", "use", "over", "calls/admit", "local"));
    let naive = Setup { flaw: Some(Flaw::NoClamp), ..setup.clone() };
    let rows = [
        ("leased", run(&setup)),
        ("naive chunks", run(&naive)),
        ("static 1/N", run_baseline(Baseline::StaticShare, &setup)),
        ("fixed window", run_baseline(Baseline::FixedWindow, &setup)),
        ("delayed sync", run_baseline(Baseline::DelayedSync, &setup)),
        ("call a request", run_baseline(Baseline::CallPerRequest, &setup)),
    ];
    for (name, ran) in rows {
        row(name, &ran, bucket, best);
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn row(name: &str, ran: &Ran, bucket: Bucket, best: u64) {
    let log = ran.logs.first().map_or(&[][..], Vec::as_slice);
    let over = worst(bucket, log) - i128::from(bucket.capacity());
    let over = over.max(0) as f64 / bucket.unit() as f64;
    let admitted = ran.admitted.max(1) as f64;
    let (used, calls) = (admitted / best as f64, ran.calls as f64 / admitted);
    let local = ran.local as f64 / admitted;
    tell(&format!("{name:>18} {used:>7.3} {over:>8.1} {calls:>11.3} {local:>7.2}"));
}

/// Four levels, their leases at hand.
fn hot() {
    let (clock, hot) = (SystemClock::start(), Hot::new(bucket(1_000, 1_000_000)));
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let began = clock.uptime();
        for _ in 0..ROUNDS {
            assert!(hot.decide(clock.uptime().as_micros()));
        }
        let took = clock.uptime().since(began).as_secs_f64();
        best = best.max(f64::from(ROUNDS) / took);
    }
    tell(&format!("leases at hand, 4 levels, clock read each time: {:.1} M/s", best / 1e6));
}

/// Four levels, looked up by their keys, through the ledger.
fn looked_up() {
    let mut control = tokio::runtime::Builder::new_multi_thread();
    let control = control.worker_threads(1).enable_all().build().expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let redis = Redis::start();
    let options = Options {
        address: format!("redis://127.0.0.1:{}", redis.port).parse().expect("a URL"),
        tls: tls(),
        organisation: Organisation::default(),
        node: Arc::from("a"),
        directory: None,
        patience: PATIENCE.saturating_mul(20),
        metrics: Metrics::default(),
        budgets: ledger::BudgetMetrics::default(),
        place: None,
    };
    let fleet = {
        let _control = control.enter();
        Fleet::start(options, Arc::clone(&clock), &TaskTracker::new()).expect("no journal")
    };
    while !fleet.is_up() {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let ledger = Ledger::shared(Arc::new(Embedded::in_memory()), fleet);
    let plan = plan();
    let (mut best, mut by_redis) = (0.0_f64, 0);
    // The first slices wait for the leases.
    for slice in 0..30 {
        let (began, mut local) = (clock.uptime(), 0_u32);
        while clock.uptime().since(began) < Duration::from_millis(100) {
            for _ in 0..256 {
                match ledger.take(&plan, clock.uptime()) {
                    Answer::Now(Ok(_)) => local += 1,
                    Answer::Now(Err(denial)) => panic!("{denial:?}"),
                    Answer::Later(pending) => {
                        by_redis += u32::from(slice > 5);
                        assert!(control.block_on(pending.wait(&plan)).is_ok());
                    }
                }
            }
        }
        best = best.max(f64::from(local) / clock.uptime().since(began).as_secs_f64());
    }
    let best = best / 1e6;
    tell(&format!("through the ledger, 4 levels looked up: {best:.1} M/s, {by_redis} by Redis"));
}

/// Four draws on buckets that are never short.
fn plan() -> Plan {
    let bucket = Bucket::from_parts(1_000, 1, 4_000_000_000).expect("a bucket");
    let draw = |limit: &str| {
        let id = LimitId::new(limit);
        let rule = Limit {
            id: id.clone(),
            per: Per::Agent,
            selector: Selector::default(),
            bucket,
            mode: Mode::Auto,
            on_outage: OnOutage::Refuse,
            shadow: false,
        };
        Draw {
            key: BucketKey { scope: Scope::Limit(id), subject: Subject::Text(Arc::from("alice")) },
            bucket,
            cost: Tokens(1),
            rule: DrawRule::Limit(Arc::new(rule)),
        }
    };
    let draws = ["agent", "team", "organisation", "upstream"].map(draw).into();
    Plan { draws, ..Plan::default() }
}

const ROUNDS: u32 = 10_000_000;
