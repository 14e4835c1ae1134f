//! Laws of the fleet's ledger, against a real Redis.

mod differential;
mod layout;
mod lease;
mod migration;
mod money;
pub(crate) mod mutants;
mod outage;
mod reach;
mod relay;
mod ring;
mod share;
pub(crate) mod store;
mod turns;

use std::net::SocketAddr;

use model::{Bucket, Clock, LimitId, Rate, SystemClock, Tokens, Uptime};
use rules::limit::{Limit, Mode, OnOutage, Per, Selector, Short};
use rules::plan::{BucketKey, Draw, DrawRule, Scope, Subject};
use tokio::task::JoinSet;

use self::store::{Store, wait_for};
use super::{
    Address, Arc, ClientConfig, Denial, Duration, Fleet, Found, Metrics, Options, Organisation,
    Plan, Reservation, TaskTracker, shorts, wants,
};
use crate::simulation::{is_kept, worst};
use crate::{Answer, Embedded, Ledger};

/// A draw on the bucket of a limit that does not refill while a test runs: `name burst`.
pub(super) fn fixed(name: &str, burst: u64) -> Draw {
    draw(name, Bucket::from_parts(0, 1, burst).unwrap())
}

fn draw(name: &str, bucket: Bucket) -> Draw {
    let id = LimitId::new(name);
    let limit = Limit {
        id: id.clone(),
        per: Per::Agent,
        selector: Selector::default(),
        bucket,
        mode: Mode::Exact,
        on_outage: OnOutage::Refuse,
        shadow: name.starts_with("shadow"),
    };
    Draw {
        key: BucketKey { scope: Scope::Limit(id), subject: Subject::Text(Arc::from("alice")) },
        bucket,
        cost: Tokens(1),
        rule: DrawRule::Limit(Arc::new(limit)),
    }
}

fn per_second(rate: &str, burst: &str) -> Bucket {
    let rate = Rate::parse(rate, Duration::from_secs(1)).unwrap();
    Bucket::new(rate, burst, Tokens(0)).unwrap()
}

pub(super) fn plan(draws: Vec<Draw>) -> Plan {
    Plan { draws, ..Plan::default() }
}

/// The name of a key of the organisation that is tested.
pub(crate) fn key_of(name: &str) -> String {
    let epoch = String::from_utf8(mutants::organisation().epoch()).unwrap();
    let (tag, _) = epoch.split_once(':').unwrap();
    format!("{tag}:{name}")
}

/// A node's way to a store, with all the time a busy machine needs.
pub(crate) fn node(url: &str) -> Fleet {
    node_with(url, |options| options.patience = Duration::from_secs(20))
}

fn node_with(url: &str, change: impl FnOnce(&mut Options)) -> Fleet {
    start(url, change, &TaskTracker::new())
}

/// A node whose tasks can be waited for.
fn node_of(url: &str, tasks: &TaskTracker) -> Fleet {
    start(url, |options| options.patience = Duration::from_secs(20), tasks)
}

fn start(url: &str, change: impl FnOnce(&mut Options), tasks: &TaskTracker) -> Fleet {
    start_by(Arc::new(SystemClock::start()), url, change, tasks)
}

/// A node with this clock.
pub(super) fn start_by(
    clock: Arc<dyn Clock>,
    url: &str,
    change: impl FnOnce(&mut Options),
    tasks: &TaskTracker,
) -> Fleet {
    let roots = rustls::RootCertStore::empty();
    let tls = rustls_client(roots);
    let mut options = Options {
        address: url.parse().unwrap(),
        tls,
        organisation: mutants::organisation(),
        node: Arc::from("a"),
        directory: None,
        patience: super::PATIENCE,
        metrics: Metrics::default(),
        budgets: crate::BudgetMetrics::default(),
        place: None,
    };
    change(&mut options);
    Fleet::start(options, clock, tasks).unwrap()
}

fn rustls_client(roots: rustls::RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Waits until a node uses its store.
pub(crate) async fn is_up(node: &Fleet) {
    let up = async {
        while !node.is_up() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(store::patience(), up).await.expect("the store is used");
}

async fn take(node: &Fleet, plan: &Plan) -> Result<Reservation, Denial> {
    node.take(plan)?.wait(plan).await
}

/// Takes until it is refused: how often it passed.
async fn exhaust(node: &Fleet, plan: &Plan) -> usize {
    let mut passed = 0;
    while take(node, plan).await.is_ok() {
        passed += 1;
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_at_once_take_exactly_the_burst_and_all_or_nothing() {
    let store = Store::start();
    let nodes: Vec<Fleet> = (0..4).map(|_| node(&store.url())).collect();
    let mut takers = JoinSet::new();
    for (number, node) in nodes.iter().enumerate() {
        is_up(node).await;
        for taker in 0..8 {
            let node = node.clone();
            takers.spawn(async move {
                let own = format!("own-{number}-{taker}");
                let plan = plan(vec![fixed(&own, 25), fixed("wide", 500), fixed("narrow", 300)]);
                let mut passed = 0;
                for _ in 0..40 {
                    passed += usize::from(take(&node, &plan).await.is_ok());
                }
                assert!(passed <= 25, "{passed}");
                passed
            });
        }
    }
    let passed: usize = takers.join_all().await.into_iter().sum();
    assert_eq!(passed, 300);
    // What was refused by one took nothing of the others.
    assert_eq!(exhaust(&nodes[0], &plan(vec![fixed("wide", 500)])).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_of_a_fleet_ever_holds_more_than_was_promised() {
    let store = Store::start();
    let bucket = per_second("2000", "50");
    let mut takers = JoinSet::new();
    for _ in 0..4 {
        let node = node(&store.url());
        is_up(&node).await;
        for _ in 0..16 {
            let node = node.clone();
            takers.spawn(async move {
                let (plan, mut log) = (plan(vec![draw("shared", bucket)]), Vec::new());
                for round in 0..60 {
                    let found = node.take(&plan).unwrap().found.await.unwrap();
                    log.extend(found.granted.then_some(found.at));
                    if round % 20 == 19 {
                        // All come back at once.
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                }
                log
            });
        }
    }
    let log: Vec<u64> = takers.join_all().await.into_iter().flatten().collect();
    assert!(log.len() > 100, "{}", log.len());
    assert!(is_kept(bucket, &log), "{} of {}", log.len(), worst(bucket, &log));
    // And it gave all there was: the bucket was emptied.
    assert!(worst(bucket, &log) > i128::from(bucket.capacity() - bucket.unit()));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_full_bucket_is_forgotten_by_the_store() {
    let store = Store::start();
    let node = node(&store.url());
    is_up(&node).await;
    let quick = plan(vec![draw("quick", per_second("1000", "5"))]);
    assert!(take(&node, &quick).await.is_ok());
    let left: i64 = store.ask(&["PTTL", &key_of("limit:5:quick:text:alice")]);
    // A millisecond to be full, and a second's grace.
    assert!((1..=1_001).contains(&left), "{left}");
    // One that never refills is never forgotten.
    assert!(take(&node, &plan(vec![fixed("never", 5)])).await.is_ok());
    assert_eq!(store.ask::<i64>(&["PTTL", &key_of("limit:5:never:text:alice")]), -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_share_a_store_and_no_counts() {
    let store = Store::start();
    let plan = plan(vec![fixed("l", 3)]);
    for name in ["acme", "other"] {
        let node = node_with(&store.url(), |options| {
            options.organisation = name.parse().unwrap();
            options.patience = Duration::from_secs(20);
        });
        is_up(&node).await;
        assert_eq!(exhaust(&node, &plan).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_on_an_empty_bucket_asks_the_store_seldom() {
    let (store, clock) = (Store::start(), SystemClock::start());
    let node = node(&store.url());
    is_up(&node).await;
    let ledger = Ledger::shared(Arc::new(Embedded::in_memory()), node);
    let plan = plan(vec![draw("slow", per_second("0.01", "3"))]);
    let (mut passed, mut asked) = (0, 0);
    let end = clock.uptime().plus(Duration::from_millis(300));
    while clock.uptime() < end {
        let decided = match ledger.take(&plan, clock.uptime()) {
            Answer::Now(decided) => decided,
            Answer::Later(pending) => {
                asked += 1;
                pending.wait(&plan).await
            }
        };
        match decided {
            Ok(_) => passed += 1,
            Err(denial) => assert!(matches!(denial, Denial::Short { draw: 0, .. }), "{denial:?}"),
        }
    }
    assert_eq!(passed, 3);
    // Three that passed, and one at the most in each of six times 50 ms.
    assert!(asked <= 3 + 1 + 6, "{asked}");
}

#[test]
fn what_was_refused_is_the_draw_that_was_asked_for_and_not_one_that_is_held() {
    let bucket = per_second("1", "5");
    let plan = plan(vec![draw("leased", bucket), draw("exact", bucket)]);
    let wants = wants(&Organisation::default(), &plan, |at| at == 0);
    let found = Found { at: 0, granted: false, used: vec![bucket.capacity()], holds: None };
    let shorts: Vec<_> = shorts((&wants, &found), |at| at == 0).take(2).collect();
    assert_eq!(shorts, [None, Some(Short::For(Duration::from_secs(1)))]);
}
