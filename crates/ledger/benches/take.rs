//! What a take costs: `cargo bench -p ledger --profile e2e --bench take`, with redis-server at
//! hand. Each request draws on four buckets: its agent's, its team's, the organisation's and the
//! upstream's. Callers ask one after the other, each as soon as it was answered.

#[path = "store/redis.rs"]
mod redis_store;
#[path = "store/spent.rs"]
mod spent;

use std::sync::Arc;
use std::time::Duration;

use ledger::{Answer, Embedded, Fleet, Ledger, Metrics, Options, Organisation, PATIENCE};
use model::{Bucket, Clock, LimitId, SystemClock, Tokens, Uptime};
use redis_store::{Redis, tell, tls};
use rules::limit::{Limit, Mode, OnOutage, Per, Selector};
use rules::plan::{BucketKey, Draw, DrawRule, Plan, Scope, Subject};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

fn main() {
    // The shape of the proxy: who asks has a thread of its own, who speaks to Redis another.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let core = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let core = core.expect("a runtime");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let redis = Redis::start();
    let own = Arc::new(Embedded::in_memory());
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
    let shared = Ledger::shared(Arc::clone(&own), fleet);
    tell(&format!(
        "{:>9} {:>8} {:>11} {:>9} {:>9} {:>11} {:>14}",
        "ledger", "callers", "takes/s", "p50 us", "p99 us", "calls/take", "redis us/take"
    ));
    for (name, ledger) in [("embedded", &Ledger::embedded(own)), ("redis", &shared)] {
        for callers in [1, 64, 512] {
            let before = redis.spent();
            let ran = core.block_on(run(ledger, callers, &clock));
            let after = redis.spent();
            tell(&ran.row(name, callers, (after.0 - before.0, after.1 - before.1)));
        }
    }
}

/// What a run came to.
struct Ran {
    took: Duration,
    waits: Vec<Duration>,
}

impl Ran {
    /// `calls` of Redis, and the microseconds its processor worked.
    fn row(mut self, name: &str, callers: usize, (calls, micros): (f64, f64)) -> String {
        self.waits.sort_unstable();
        let takes = f64::from(u32::try_from(self.waits.len()).unwrap_or(u32::MAX));
        let at = |share: usize| {
            let wait = self.waits.get(self.waits.len() * share / 100);
            wait.map_or(0.0, |wait| wait.as_secs_f64() * 1e6)
        };
        let (rate, p50, p99) = (takes / self.took.as_secs_f64(), at(50), at(99));
        let (calls, micros) = (calls / takes, micros / takes);
        format!(
            "{name:>9} {callers:>8} {rate:>11.0} {p50:>9.1} {p99:>9.1} {calls:>11.3} {micros:>14.2}"
        )
    }
}

async fn run(ledger: &Ledger, callers: usize, clock: &Arc<dyn Clock>) -> Ran {
    let began = clock.uptime();
    let until = began.plus(RUN);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (ledger, clock) = (ledger.clone(), Arc::clone(clock));
        tasks.spawn(async move { call(&ledger, caller, &*clock, until).await });
    }
    let waits = tasks.join_all().await.into_iter().flatten().collect();
    Ran { took: clock.uptime().since(began), waits }
}

async fn call(ledger: &Ledger, caller: usize, clock: &dyn Clock, until: Uptime) -> Vec<Duration> {
    let (plan, mut waits) = (plan(caller), Vec::new());
    loop {
        let asked = clock.uptime();
        if asked >= until {
            return waits;
        }
        let taken = match ledger.take(&plan, asked) {
            Answer::Now(taken) => taken,
            Answer::Later(pending) => pending.wait(&plan).await,
        };
        assert!(taken.is_ok(), "{taken:?}");
        waits.push(clock.uptime().since(asked));
        if waits.len().is_multiple_of(64) {
            // The embedded ledger never waits: let the others in.
            tokio::task::yield_now().await;
        }
    }
}

/// Four draws on buckets that are never short.
fn plan(caller: usize) -> Plan {
    let agent = format!("agent-{caller}");
    let team = format!("team-{}", caller % 8);
    let names = [("agent", &*agent), ("team", &*team), ("organisation", "o"), ("upstream", "u")];
    let bucket = Bucket::from_parts(1_000, 1, 1_000_000_000).expect("a bucket");
    let draw = |(limit, subject): (&str, &str)| {
        let id = LimitId::new(limit);
        Draw {
            key: BucketKey {
                scope: Scope::Limit(id.clone()),
                subject: Subject::Text(Arc::from(subject)),
            },
            bucket,
            cost: Tokens(1),
            rule: DrawRule::Limit(Arc::new(Limit {
                id,
                per: Per::Agent,
                selector: Selector::default(),
                bucket,
                mode: Mode::Exact,
                on_outage: OnOutage::Refuse,
                shadow: false,
            })),
        }
    };
    Plan { draws: names.into_iter().map(draw).collect(), ..Plan::default() }
}

/// Each run's length.
const RUN: Duration = Duration::from_secs(3);
