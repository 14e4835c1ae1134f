//! Laws of the turns: of a node alone, and of nodes that share a store.

use std::sync::Arc;
use std::time::Duration;

use model::{Clock, QuotaId, SystemClock, Timestamp, Uptime};
use rules::quota::{Blocked, Class, Edition, Flow, Join, Room, Rule, Said};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::{NoTurn, QuotaKey, QuotaMetrics, Quotas, Turn};
use crate::Embedded;

mod lossy;

/// Twenty calls in a second, four at once.
fn rule() -> Rule {
    Rule::new(20, Duration::from_secs(1), 4, 0, Duration::from_secs(2))
}

struct Bench {
    quotas: Quotas,
    clock: Arc<SystemClock>,
    key: Arc<QuotaKey>,
    tasks: TaskTracker,
}

impl Bench {
    fn over(own: Embedded) -> Self {
        let (clock, tasks) = (Arc::new(SystemClock::start()), TaskTracker::new());
        let metrics = QuotaMetrics::default();
        let quotas = Quotas::start(
            (Arc::new(own), None),
            7,
            metrics,
            Arc::<SystemClock>::clone(&clock),
            &tasks,
        );
        let key = QuotaKey::of_credential(&QuotaId::new("q"), "authorization", b"secret");
        Self { quotas, clock, key: Arc::new(key), tasks }
    }

    async fn turn(&self, agent: &str, patience: u64) -> Result<Turn, NoTurn> {
        self.quotas.turn(&self.key, edition(rule()), join(agent, patience)).await
    }

    /// Four calls at once, and then one in two seconds.
    async fn slow_turn(&self, agent: &str, patience: u64) -> Result<Turn, NoTurn> {
        let slow = Rule::new(20, Duration::from_secs(40), 4, 0, Duration::from_secs(2));
        self.quotas.turn(&self.key, edition(slow), join(agent, patience)).await
    }
}

fn join(agent: &str, patience: u64) -> Join {
    let flow = Flow { class: Class::Automation, agent: Arc::from(agent) };
    Join { seq: 0, flow, weight: 1, patience, room: Room { agent: 100, class: 5_000 } }
}

fn edition(rule: Rule) -> Edition {
    Edition { revision: 1, rule }
}

#[tokio::test]
async fn turns_come_at_the_pace_and_no_window_holds_more() {
    let bench = Bench::over(Embedded::in_memory());
    let mut times = Vec::new();
    let mut calls = JoinSet::new();
    for _ in 0..45 {
        let (quotas, key) = (bench.quotas.clone(), Arc::clone(&bench.key));
        let clock = Arc::clone(&bench.clock);
        calls.spawn(async move {
            quotas.turn(&key, edition(rule()), join("a", 30_000)).await.unwrap();
            clock.uptime()
        });
    }
    while let Some(ended) = calls.join_next().await {
        times.push(ended.unwrap().as_micros());
    }
    times.sort_unstable();
    assert!(times.windows(21).all(|window| window[20] - window[0] >= 1_000_000), "{times:?}");
    let took = times[44] - times[0];
    assert!((2_000_000..10_000_000).contains(&took), "{took}");
}

#[tokio::test]
async fn who_would_wait_too_long_is_told_at_once_for_how_long() {
    let bench = Bench::over(Embedded::in_memory());
    for _ in 0..4 {
        drop(bench.slow_turn("a", 0).await.unwrap());
    }
    let began = bench.clock.uptime();
    let Err(NoTurn::Late(wait)) = bench.slow_turn("a", 5).await else { panic!("it is too late") };
    assert!(wait <= Duration::from_secs(2) && wait > Duration::from_millis(5), "{wait:?}");
    assert!(bench.clock.uptime().since(began) < Duration::from_secs(1));
}

#[tokio::test]
async fn who_stops_waiting_leaves_the_queue() {
    let bench = Bench::over(Embedded::in_memory());
    for _ in 0..4 {
        drop(bench.slow_turn("a", 0).await.unwrap());
    }
    for _ in 0..30 {
        let waiting = bench.slow_turn("a", 100_000);
        assert!(tokio::time::timeout(Duration::from_micros(200), waiting).await.is_err());
    }
    let began = bench.clock.uptime();
    bench.slow_turn("b", 100_000).await.unwrap();
    // Not the minute that thirty before it would take.
    let took = bench.clock.uptime().since(began);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }

    fn uptime(&self) -> Uptime {
        Uptime::from_micros(5_000_000)
    }
}

#[tokio::test]
async fn who_hangs_up_is_taken_out_at_once_and_not_when_it_is_looked_at_next() {
    let own = Arc::new(Embedded::in_memory());
    let metrics = QuotaMetrics::default();
    let tasks = TaskTracker::new();
    let quotas = Quotas::start((Arc::clone(&own), None), 7, metrics, Arc::new(Still), &tasks);
    let key = Arc::new(QuotaKey::of_upstream(&QuotaId::new("q"), "u"));
    let slow = edition(Rule::new(20, Duration::from_secs(40), 1, 0, Duration::from_secs(2)));
    let nothing = rules::quota::News::default();
    let waiting = |expected: u64| {
        let (own, key, nothing) = (Arc::clone(&own), Arc::clone(&key), nothing.clone());
        async move {
            let is_so = async {
                // A step that was overtaken brings nothing, and says who waits.
                while own.step(&key.subject, &slow, Still.uptime(), &nothing).unwrap().waiting
                    != expected
                {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), is_so).await.expect("they wait");
        }
    };
    drop(quotas.turn(&key, slow, join("a", 0)).await.unwrap());
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let (quotas, key) = (quotas.clone(), Arc::clone(&key));
        calls.spawn(async move { quotas.turn(&key, slow, join("a", 60_000)).await.map(drop) });
    }
    waiting(3).await;
    calls.shutdown().await;
    waiting(0).await;
}

#[tokio::test]
async fn a_count_is_the_credential_s_whatever_its_quota_is_called() {
    let bench = Bench::over(Embedded::in_memory());
    for _ in 0..4 {
        drop(bench.slow_turn("a", 0).await.unwrap());
    }
    let renamed = QuotaKey::of_credential(&QuotaId::new("r"), "authorization", b"secret");
    assert!(renamed.counts_as(&bench.key));
    let slow = Rule::new(20, Duration::from_secs(40), 4, 0, Duration::from_secs(2));
    let turn = bench.quotas.turn(&Arc::new(renamed), edition(slow), join("a", 0)).await;
    assert!(matches!(turn, Err(NoTurn::Late(_))), "{turn:?}");
    let other = QuotaKey::of_credential(&QuotaId::new("q"), "authorization", b"another");
    assert!(!other.counts_as(&bench.key) && !other.subject.contains("another"));
    drop(bench.quotas.turn(&Arc::new(other), edition(slow), join("a", 0)).await.unwrap());
}

#[tokio::test]
async fn a_429_refuses_those_who_wait_and_one_probe_ends_it() {
    let bench = Bench::over(Embedded::in_memory());
    let turn = bench.turn("a", 0).await.unwrap();
    turn.answered(Said { blocked: Some(Blocked::For(400)), ..Said::default() });
    let blocked = async {
        loop {
            match bench.turn("a", 50).await {
                Err(NoTurn::Blocked(wait)) => return wait,
                other => drop(other),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let wait = tokio::time::timeout(Duration::from_secs(5), blocked).await.unwrap();
    assert!(wait <= Duration::from_millis(400), "{wait:?}");
    let lost = bench.turn("a", 2_000).await.unwrap();
    assert!(lost.is_probe);
    drop(lost);
    let probe = bench.turn("a", 2_000).await.unwrap();
    assert!(probe.is_probe);
    let other = bench.turn("b", 300);
    assert!(tokio::time::timeout(Duration::from_millis(200), other).await.is_err());
    probe.answered(Said::default());
    assert!(!bench.turn("b", 5_000).await.unwrap().is_probe);
}

#[tokio::test]
async fn the_task_ends_with_the_last_way_to_it() {
    let bench = Bench::over(Embedded::in_memory());
    drop(bench.turn("a", 0).await.unwrap());
    let Bench { quotas, tasks, .. } = bench;
    drop(quotas);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(5), tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn a_clean_stop_keeps_what_was_called_and_a_crash_counts_as_a_quota() {
    let directory = tempfile::tempdir().unwrap();
    let clock = SystemClock::start();
    let open = || Embedded::open(directory.path(), clock.now(), clock.uptime()).unwrap();
    let slow = Rule::new(4, Duration::from_secs(3_600), 4, 0, Duration::from_secs(2));
    let key = QuotaKey::of_upstream(&QuotaId::new("q"), "cf");
    let granted = |own: &Embedded, seq: u64| {
        let joins = vec![Join { seq, ..join("a", 0) }];
        let news = rules::quota::News { joins, ..rules::quota::News::default() };
        own.step(&key.subject, &edition(slow), clock.uptime(), &news).unwrap().granted.len()
    };
    let own = open();
    assert_eq!([1, 2, 3].map(|seq| granted(&own, seq)), [1, 1, 1]);
    own.close(clock.now(), clock.uptime()).unwrap();
    drop(own);
    // What nobody asks for is kept over a second stop.
    let own = open();
    own.close(clock.now(), clock.uptime()).unwrap();
    drop(own);
    let own = open();
    assert_eq!([4, 5].map(|seq| granted(&own, seq)), [1, 0]);
    drop(own);
    assert_eq!(granted(&open(), 6), 0, "nobody knows what was called before a crash");
}

#[tokio::test]
async fn what_an_older_version_saved_is_read_and_its_counts_of_one_credential_are_one() {
    let directory = tempfile::tempdir().unwrap();
    let clock = SystemClock::start();
    let open = || Embedded::open(directory.path(), clock.now(), clock.uptime()).unwrap();
    open().close(clock.now(), clock.uptime()).unwrap();
    let row = |quota: &str, calls: u64| {
        serde_json::json!({
            "quota": quota, "subject": "upstream:cf", "calls": [[100, calls]], "blocked": 0,
            "at": clock.now().as_micros(),
        })
    };
    let rows = serde_json::json!([row("q", 2), row("r", 3)]);
    std::fs::write(directory.path().join("quotas.json"), rows.to_string()).unwrap();
    let own = open();
    let rule = Rule::new(9, Duration::from_secs(3_600), 4, 0, Duration::from_secs(2));
    let key = QuotaKey::of_upstream(&QuotaId::new("q"), "cf");
    let news = rules::quota::News::default();
    let used = own.step(&key.subject, &edition(rule), clock.uptime(), &news).unwrap().used;
    assert_eq!(used, 5);
}
