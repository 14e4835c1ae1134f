//! What it costs to hold and settle money in a node.
//!
//! `cargo bench -p ledger --profile e2e --bench hold`

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ledger::Embedded;
use model::{Amount, BudgetId, Clock, ReservationId, SystemClock, Timestamp, Unit, Uptime};
use rules::budget::{Budget, Calendar, Durability, Hold, RowKey, WhenShort};
use rules::limit::{OnOutage, Per};
use rules::plan::{Plan, Subject};
use rules::selector::Selector;

fn budget(name: &str, durability: Durability) -> Arc<Budget> {
    Arc::new(Budget {
        id: BudgetId::new(name),
        per: Per::Organisation,
        unit: Unit::requests(),
        amount: Amount::LARGEST,
        calendar: Calendar::lifetime(),
        selector: Selector::default(),
        thresholds: Vec::new(),
        webhook: None,
        when_short: WhenShort::Refuse,
        on_outage: OnOutage::Refuse,
        durability,
        shadow: false,
    })
}

/// A plan that holds of two budgets: an organisation's and an agent's.
fn plan(id: u128, budgets: &[Arc<Budget>; 2], agent: &Arc<str>) -> Plan {
    let hold = |budget: &Arc<Budget>, subject: &Arc<str>| Hold {
        row: RowKey::of(budget, Subject::Text(Arc::clone(subject)), Timestamp::default()),
        amount: Amount::ONE,
        budget: Arc::clone(budget),
        tariff: None,
    };
    let [organisation, own] = budgets;
    let holds = vec![hold(organisation, &Arc::from("acme")), hold(own, agent)];
    Plan { id: ReservationId(id), holds, ..Plan::default() }
}

/// So many agents at once, each calls after the other; every call's time.
async fn cycles(
    ledger: &Arc<Embedded>,
    durability: Durability,
    agents: u128,
    calls: u128,
) -> Vec<Duration> {
    let budgets = [budget("organisation", durability), budget("agent", durability)];
    let clock = Arc::new(SystemClock::start());
    let mut tasks = tokio::task::JoinSet::new();
    for agent in 0..agents {
        let (ledger, budgets, clock) = (Arc::clone(ledger), budgets.clone(), Arc::clone(&clock));
        tasks.spawn(async move {
            let name: Arc<str> = Arc::from(format!("agent-{agent}"));
            let mut took = Vec::new();
            for call in 0..calls {
                let begun = clock.uptime();
                let plan =
                    plan(u128::from(begun.as_micros()) << 64 | agent << 32 | call, &budgets, &name);
                let taken = ledger.take(&plan, begun).expect("the budgets are large");
                let mut held = taken.held.expect("the plan holds");
                held.dispatch().await.expect("the journal is written");
                held.settle(&[]);
                took.push(clock.uptime().since(begun));
            }
            took
        });
    }
    let mut all = Vec::new();
    while let Some(took) = tasks.join_next().await {
        all.extend(took.expect("no task panics"));
    }
    all
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let open = || Embedded::open(directory.path(), Timestamp::from_secs(1), Uptime::default());
    let journaled = Arc::new(open().expect("the ledger opens"));
    let memory = Arc::new(Embedded::in_memory());
    let runs = [
        ("memory, one agent", &memory, Durability::Store, 1, 200_000),
        ("memory, 64 agents", &memory, Durability::Store, 64, 10_000),
        ("durability store, 64 agents", &journaled, Durability::Store, 64, 2_000),
        ("durability journal, one agent", &journaled, Durability::Journal, 1, 300),
        ("durability journal, 64 agents", &journaled, Durability::Journal, 64, 100),
        ("durability journal, 1024 agents", &journaled, Durability::Journal, 1_024, 30),
    ];
    let mut out = std::io::stdout();
    for (what, ledger, durability, agents, calls) in runs {
        let clock = SystemClock::start();
        let begun = clock.uptime();
        let mut took = runtime.block_on(cycles(ledger, durability, agents, calls));
        let whole = clock.uptime().since(begun);
        took.sort_unstable();
        let rate = took.len() as f64 / whole.as_secs_f64();
        let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
        let line = format!("{what}: {rate:.0} cycles/s, p50 {:?}, p99 {:?}", at(50), at(99));
        writeln!(out, "{line}").expect("somebody reads");
    }
}
