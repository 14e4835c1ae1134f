//! Turns over a store: nodes share one order, and learn when the store is away.

use model::{Clock as _, QuotaId};
use rules::quota::{Class, Edition, Flow, Join, Room, Rule};

use super::{
    Arc, Duration, Fleet, JoinSet, Store, SystemClock, TaskTracker, is_up, node, node_with,
};
use crate::Embedded;
use crate::quota::{NoTurn, QuotaKey, QuotaMetrics, Quotas};

fn quotas(fleet: Fleet, number: u64) -> Quotas {
    let places = (Arc::new(Embedded::in_memory()), Some(fleet));
    let clock = Arc::new(SystemClock::start());
    Quotas::start(places, number, QuotaMetrics::default(), clock, &TaskTracker::new())
}

fn key() -> Arc<QuotaKey> {
    Arc::new(QuotaKey::of_credential(&QuotaId::new("q"), "authorization", b"secret"))
}

fn join(patience: u64) -> Join {
    let flow = Flow { class: Class::Automation, agent: Arc::from("a") };
    Join { seq: 0, flow, weight: 1, patience, room: Room { agent: 100, class: 5_000 } }
}

fn edition(rule: Rule) -> Edition {
    Edition { revision: 1, rule }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_store_share_a_quota() {
    let store = Store::start();
    let rule = Rule::new(12, Duration::from_secs(1), 4, 0, Duration::from_secs(9));
    let clock = Arc::new(SystemClock::start());
    let mut calls = JoinSet::new();
    for number in 0..3 {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        let quotas = quotas(fleet, number);
        for _ in 0..10 {
            let (quotas, clock) = (quotas.clone(), Arc::clone(&clock));
            calls.spawn(async move {
                quotas.turn(&key(), edition(rule), join(20_000)).await.unwrap();
                clock.uptime().as_micros()
            });
        }
    }
    let mut times = calls.join_all().await;
    times.sort_unstable();
    assert!(times.windows(13).all(|window| window[12] - window[0] >= 1_000_000), "{times:?}");
    let took = times[29] - times[0];
    assert!(took < 20_000_000, "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_an_older_document_goes_by_the_newer() {
    let store = Store::start();
    let rule = |quota| Rule::new(quota, Duration::from_secs(600), quota, 0, Duration::from_secs(9));
    let [older, newer] =
        [(1, 100), (2, 3)].map(|(revision, quota)| Edition { revision, rule: rule(quota) });
    let mut nodes = Vec::new();
    for (number, edition) in [(1, older), (2, newer)] {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        nodes.push((quotas(fleet, number), edition));
    }
    let mut left = Vec::new();
    for (quotas, edition) in nodes.iter().rev().chain(nodes.iter().rev()) {
        match quotas.turn(&key(), *edition, join(0)).await {
            Ok(turn) => left.push(turn.left()),
            Err(no_turn) => assert!(matches!(no_turn, NoTurn::Late(_)), "{no_turn:?}"),
        }
    }
    assert_eq!(left, [(2, newer.rule), (1, newer.rule), (0, newer.rule)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_learns_soon_that_the_store_is_away_and_who_comes_at_once() {
    let mut store = Store::start();
    let fleet = node_with(&store.url(), |_| {});
    is_up(&fleet).await;
    let quotas = quotas(fleet, 1);
    let rule = Rule::new(2, Duration::from_secs(600), 2, 0, Duration::from_secs(9));
    let first = async {
        while quotas.turn(&key(), edition(rule), join(0)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::store::PATIENCE, first).await.expect("a turn");
    while !matches!(quotas.turn(&key(), edition(rule), join(0)).await, Err(NoTurn::Late(_))) {}
    let (mut waiting, clone) = (JoinSet::new(), quotas.clone());
    waiting.spawn(async move { clone.turn(&key(), edition(rule), join(700_000)).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    store.kill();
    let clock = SystemClock::start();
    let began = clock.uptime();
    assert!(matches!(waiting.join_next().await, Some(Ok(Err(NoTurn::Away)))));
    assert!(clock.uptime().since(began) < Duration::from_secs(20));
    let began = clock.uptime();
    assert!(matches!(quotas.turn(&key(), edition(rule), join(5_000)).await, Err(NoTurn::Away)));
    assert!(clock.uptime().since(began) < Duration::from_secs(4));
    store.restart();
    let back = async {
        loop {
            match quotas.turn(&key(), edition(rule), join(0)).await {
                Err(NoTurn::Late(wait)) => return wait,
                Ok(turn) => panic!("nobody knows what was called: {turn:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let wait = tokio::time::timeout(super::store::PATIENCE, back).await.expect("the store is used");
    assert!(wait > Duration::from_secs(500), "{wait:?}");
}
