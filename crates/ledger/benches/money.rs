//! What money costs: `cargo bench -p ledger --profile e2e --bench money`, with redis-server at
//! hand. Each call holds of three budgets, its agent's, its team's and the organisation's, leaves,
//! and settles. Callers ask one after the other, each as soon as it was answered. Then Redis is
//! flushed, and the time is taken until a call may hold again and nothing is missing.

#[path = "store/redis.rs"]
mod redis_store;
#[path = "store/spent.rs"]
mod spent;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Answer, Embedded, Fleet, Ledger, Metrics, Options, Organisation, PATIENCE};
use model::{Amount, BudgetId, Clock, ReservationId, SystemClock, Timestamp, Unit, Uptime};
use redis_store::{Redis, tell, tls};
use rules::budget::{Budget, Calendar, Durability, Hold, RowKey, WhenShort};
use rules::limit::{OnOutage, Per, Selector};
use rules::plan::{Plan, Subject};
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
    let trip = Redis::start().trip(&*clock);
    tell(&format!("a round trip takes {:.1} us at the median", trip.as_secs_f64() * 1e6));
    tell(&format!(
        "{:>8} {:>8} {:>10} {:>9} {:>9} {:>11} {:>15} {:>13}",
        "journal",
        "callers",
        "cycles/s",
        "p50 us",
        "p99 us",
        "calls/cycle",
        "redis us/cycle",
        "a redis core"
    ));
    let disk = std::env::temp_dir().join(format!("tollgate-bench-money-{}", std::process::id()));
    std::fs::create_dir_all(&disk).expect("a directory");
    for directory in [None, Some(disk.clone())] {
        let redis = Redis::start();
        let fleet = start(&redis, directory.clone(), &control, &clock);
        let ledger = Ledger::shared(Arc::new(Embedded::in_memory()), fleet.clone());
        for callers in [1, 64, 512] {
            let before = redis.spent();
            let ran = core.block_on(run(&ledger, callers, &clock));
            drained(&fleet);
            let after = redis.spent();
            let spent = (after.0 - before.0, after.1 - before.1);
            let name = if directory.is_some() { "disk" } else { "none" };
            tell(&ran.row(name, callers, spent));
        }
        if directory.is_some() {
            let rows = 20_000;
            core.block_on(fill(&ledger, rows, &clock));
            drained(&fleet);
            let took = recovered(&redis, &fleet, &ledger, &core, &clock);
            tell(&format!("after FLUSHALL with {rows} accounts: {} ms", took.as_millis()));
        }
    }
    std::fs::remove_dir_all(&disk).expect("the directory can be removed");
}

fn start(
    redis: &Redis,
    directory: Option<PathBuf>,
    control: &tokio::runtime::Runtime,
    clock: &Arc<dyn Clock>,
) -> Fleet {
    let options = Options {
        address: format!("redis://127.0.0.1:{}", redis.port).parse().expect("a URL"),
        tls: tls(),
        organisation: Organisation::default(),
        node: Arc::from("a"),
        directory,
        patience: PATIENCE.saturating_mul(20),
        metrics: Metrics::default(),
        budgets: ledger::BudgetMetrics::default(),
        place: None,
    };
    let _control = control.enter();
    let fleet = Fleet::start(options, Arc::clone(clock), &TaskTracker::new());
    let fleet = fleet.expect("a journal");
    fleet.begin_money();
    opened(&fleet);
    fleet
}

fn opened(fleet: &Fleet) {
    while !fleet.is_open() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Waits until Redis has taken every end.
fn drained(fleet: &Fleet) {
    while fleet.money().waiting > 0 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// What a run came to.
struct Ran {
    took: Duration,
    /// Of each hold's making.
    waits: Vec<Duration>,
}

impl Ran {
    /// `calls` of Redis, and the microseconds its processor worked.
    fn row(mut self, name: &str, callers: usize, (calls, micros): (f64, f64)) -> String {
        self.waits.sort_unstable();
        let cycles = f64::from(u32::try_from(self.waits.len()).unwrap_or(u32::MAX));
        let at = |share: usize| {
            let wait = self.waits.get(self.waits.len() * share / 100);
            wait.map_or(0.0, |wait| wait.as_secs_f64() * 1e6)
        };
        let (rate, p50, p99) = (cycles / self.took.as_secs_f64(), at(50), at(99));
        let (calls, micros) = (calls / cycles, micros / cycles);
        let core = 1e6 / micros;
        format!(
            "{name:>8} {callers:>8} {rate:>10.0} {p50:>9.1} {p99:>9.1} {calls:>11.3} {micros:>15.2} \
             {core:>11.0}/s"
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
    let (budgets, mut waits) = (budgets(), Vec::new());
    loop {
        let asked = clock.uptime();
        if asked >= until {
            return waits;
        }
        let id = u128::from(asked.as_micros()) << 64 | (caller as u128) << 32 | waits.len() as u128;
        cycle(ledger, &plan(id, &budgets, caller), clock).await;
        waits.push(clock.uptime().since(asked));
    }
}

/// One call: holds, leaves, settles.
async fn cycle(ledger: &Ledger, plan: &Plan, clock: &dyn Clock) {
    let taken = match ledger.take(plan, clock.uptime()) {
        Answer::Now(taken) => taken,
        Answer::Later(pending) => pending.wait(plan).await,
    };
    let mut held = taken.expect("it holds").held.expect("it holds");
    held.dispatch().await.expect("it may leave");
    held.settle(&[]);
}

/// Makes so many accounts, each with something spent.
async fn fill(ledger: &Ledger, rows: usize, clock: &Arc<dyn Clock>) {
    let mut tasks = JoinSet::new();
    for part in 0..64 {
        let (ledger, clock) = (ledger.clone(), Arc::clone(clock));
        tasks.spawn(async move {
            let budgets = budgets();
            for row in (part..rows).step_by(64) {
                let id = 1 << 127 | row as u128;
                cycle(&ledger, &plan(id, &budgets, 1_000_000 + row), &*clock).await;
            }
        });
    }
    tasks.join_all().await;
}

/// From the flush until a call holds again.
fn recovered(
    redis: &Redis,
    fleet: &Fleet,
    ledger: &Ledger,
    core: &tokio::runtime::Runtime,
    clock: &Arc<dyn Clock>,
) -> Duration {
    let (before, budgets) = (redis.size(), budgets());
    redis.flush();
    let began = clock.uptime();
    let plan = plan(7, &budgets, 0);
    loop {
        let taken = match ledger.take(&plan, clock.uptime()) {
            Answer::Now(taken) => taken,
            Answer::Later(pending) => core.block_on(pending.wait(&plan)),
        };
        if taken.is_ok() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let took = clock.uptime().since(began);
    opened(fleet);
    // The ids that ended long ago are not told again; everything else is there.
    assert!(redis.size() > 20_000, "{} of {before}", redis.size());
    took
}

fn budgets() -> [Arc<Budget>; 3] {
    ["agent", "team", "organisation"].map(|name| {
        Arc::new(Budget {
            id: BudgetId::new(name),
            per: Per::Agent,
            unit: Unit::requests(),
            amount: Amount::LARGEST,
            calendar: Calendar::lifetime(),
            selector: Selector::default(),
            thresholds: vec![50, 80, 100],
            when_short: WhenShort::Refuse,
            on_outage: OnOutage::Refuse,
            durability: Durability::Journal,
            webhook: None,
            shadow: false,
        })
    })
}

/// Three holds on accounts that are never short.
fn plan(id: u128, budgets: &[Arc<Budget>; 3], caller: usize) -> Plan {
    let names = [format!("agent-{caller}"), format!("team-{}", caller % 8), "o".to_owned()];
    let hold = |(name, budget): (&String, &Arc<Budget>)| Hold {
        row: RowKey::of(budget, Subject::Text(Arc::from(name.as_str())), Timestamp::default()),
        amount: Amount::from_parts(1).expect("an amount"),
        budget: Arc::clone(budget),
        tariff: None,
    };
    let holds = names.iter().zip(budgets).map(hold).collect();
    Plan { id: ReservationId(id), holds, ..Plan::default() }
}

impl Redis {
    /// The median time of a call that does nothing.
    fn trip(&self, clock: &dyn Clock) -> Duration {
        let mut connection = self.connection();
        let mut trips: Vec<Duration> = (0..2_000)
            .map(|_| {
                let began = clock.uptime();
                let _pong: String = redis::cmd("PING").query(&mut connection).expect("PONG");
                clock.uptime().since(began)
            })
            .collect();
        trips.sort_unstable();
        trips.get(1_000).copied().unwrap_or_default()
    }

    fn size(&self) -> u64 {
        redis::cmd("DBSIZE").query(&mut self.connection()).expect("a size")
    }

    fn flush(&self) {
        redis::cmd("FLUSHALL").exec(&mut self.connection()).expect("a flush");
    }
}

/// Each run's length.
const RUN: Duration = Duration::from_secs(3);
