//! Steps of quotas: the store answers as the rules do.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use rules::quota::{Join, News, Principal, Probe, Report, Rule, Said, Step};

use super::{Arc, Duration, Fleet, Store, is_up, node};

/// A history: the rules in force, and steps of nodes with a pause before each.
type History = Vec<(u64, usize, u64, News)>;

/// Small windows, so that they pass while a test runs.
fn rules() -> [Rule; 4] {
    let rule = Rule { quota: 4, window: 40, burst: 4, reserve: 0, block: 15, slot: 2, span: 21 };
    [
        rule,
        Rule { burst: 1, quota: 9, window: 50, slot: 5, span: 12, ..rule },
        Rule { reserve: 2, block: 7, ..rule },
        Rule { quota: 7, window: 46, ..rule },
    ]
}

fn joins() -> impl Strategy<Value = Vec<Join>> {
    let flow = prop::sample::select(vec!["a", "b", "c d"]);
    let join = (0_u64..12, flow, 1_u64..5, any::<bool>(), 0_u64..90, 1_u64..6).prop_map(
        |(seq, flow, weight, is_high, patience, queue_max)| Join {
            seq,
            flow: Arc::from(flow),
            weight,
            is_high,
            patience,
            queue_max,
        },
    );
    prop::collection::vec(join, 0..5)
}

fn reports() -> impl Strategy<Value = Vec<Report>> {
    let left = prop::option::weighted(0.7, (0_u64..6, 0_u64..40));
    let used = prop::option::weighted(0.3, 0_u64..9);
    let blocked = prop::option::weighted(0.15, 0_u64..30);
    let probe = prop::sample::select(vec![Probe::None, Probe::Answered, Probe::Lost]);
    let report =
        (0_u64..8, probe, left, used, blocked).prop_map(|(number, probe, left, used, blocked)| {
            Report { number, probe, said: Said { left, used, blocked } }
        });
    prop::collection::vec(report, 0..2)
}

fn history() -> impl Strategy<Value = History> {
    let drops = prop::collection::vec(0_u64..12, 0..2);
    let news = (reports(), drops, joins()).prop_map(|(reports, drops, joins)| News {
        reports,
        drops,
        joins,
    });
    let rule = prop_oneof![12 => Just(0_usize), 1 => 0_usize..4];
    prop::collection::vec((0_u64..12_000, rule, 1_u64..4, news), 1..25)
}

async fn step(fleet: &Fleet, key: &[u8], rule: &Rule, node: u64, news: &News) -> (u64, Step) {
    let (road, _) = fleet.road().expect("a link");
    road.step(key, rule, node, news).await.expect("an answer")
}

/// Both answer alike, and whatever was granted kept to the first rule while it was in force.
async fn is_same(fleet: &Fleet, case: u64, history: &History) -> Result<(), TestCaseError> {
    let key = fleet.organisation().quota("q", &format!("case-{case}"));
    let mut principal = Principal::default();
    for (pause, rule, node, news) in history {
        tokio::time::sleep(Duration::from_micros(*pause)).await;
        let rule = rules()[*rule];
        let (now, found) = step(fleet, &key, &rule, *node, news).await;
        let expected = principal.step(&rule, now, *node, news);
        prop_assert_eq!(&found, &expected, "at {} {:?} {:?}", now, rule, news);
    }
    Ok(())
}

#[test]
fn the_store_takes_steps_as_the_rules_do() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fleet = runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        fleet
    });
    let cases = AtomicU64::new(0);
    let mut config = ProptestConfig::with_cases(200);
    config.max_shrink_iters = 200;
    config.failure_persistence = None;
    proptest!(config, |(history in history())| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(is_same(&fleet, case, &history))?;
    });
}

fn one(seq: u64) -> News {
    let join = Join {
        seq,
        flow: Arc::from("a"),
        weight: 1,
        is_high: false,
        patience: 60_000,
        queue_max: 9,
    };
    News { joins: vec![join], ..News::default() }
}

/// A turn beyond the reserve may have a higher tag than those it passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_passed_does_not_turn_virtual_time_back() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    // It forgets calls sooner than the pace gives the next: one comes each half second.
    let rule =
        Rule { quota: 6, burst: 6, reserve: 4, window: 3_000, slot: 10, span: 40, ..rules()[0] };
    let key = fleet.organisation().quota("q", "passed");
    let mut principal = Principal::default();
    let call = |seq: u64, flow: &str, is_high: bool| Join {
        seq,
        flow: Arc::from(flow),
        weight: 1,
        is_high,
        patience: 60_000,
        queue_max: 9,
    };
    let low = (0..4).map(|seq| call(seq, "low", false));
    let high = (10..18).map(|seq| call(seq, "high", true));
    let late = vec![call(20, "late", false)];
    let (first, none) = (low.chain(high).collect::<Vec<_>>(), Vec::new);
    let mut granted = 0;
    for (pause, joins) in [(0, first), (530, vec![]), (530, late), (530, vec![]), (530, none())] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let news = News { joins, ..News::default() };
        let (now, found) = step(&fleet, &key, &rule, 1, &news).await;
        assert_eq!(found, principal.step(&rule, now, 1, &news));
        granted += found.granted.len();
    }
    assert!(granted >= 9, "{granted}");
}

/// A turn, a call that waits, and one that leaves: the script runs all that it may.
pub(super) async fn every_command(fleet: &Fleet) {
    let key = fleet.organisation().quota("q", "every");
    for news in [one(1), one(2), News { drops: vec![2], ..News::default() }] {
        tokio::time::sleep(Duration::from_millis(60)).await;
        step(fleet, &key, &rules()[1], 1, &news).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_is_told_so_by_both() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    let (rule, key) = (rules()[1], fleet.organisation().quota("q", "away"));
    let mut principal = Principal::default();
    for (pause, node, news) in [
        (0, 1, one(1)),
        (0, 1, one(2)),
        (0, 2, one(1)),
        (1_050, 2, News::default()),
        (0, 1, News::default()),
        (20, 1, one(2)),
    ] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (now, found) = step(&fleet, &key, &rule, node, &news).await;
        assert_eq!(found, principal.step(&rule, now, node, &news));
        assert_eq!(found.forgotten, pause == 0 && news == News::default() || pause == 1_050);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lost_its_keys_grants_nothing_until_a_window_has_passed() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    let rule = Rule { window: 400, slot: 10, span: 60, ..rules()[0] };
    let key = fleet.organisation().quota("q", "lost");
    let (_, first) = step(&fleet, &key, &rule, 1, &one(1)).await;
    assert_eq!(first.granted.len(), 1);
    store.ask::<()>(&["FLUSHALL"]);
    let (road, _) = fleet.road().unwrap();
    assert!(road.clone().step(&key, &rule, 1, &one(2)).await.is_err(), "the epoch is gone");
    road.doubt();
    let lost = super::wait_for("a new epoch", || {
        fleet.road().filter(|(other, _)| other.epoch != road.epoch)
    });
    let began = lost.0.epoch / 1_000;
    let (_, step_of) = step(&fleet, &key, &rule, 1, &one(2)).await;
    assert_eq!((step_of.granted.len(), step_of.used), (0, 4));
    let served = loop {
        let (now, found) = step(&fleet, &key, &rule, 1, &News::default()).await;
        if !found.granted.is_empty() {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(found.next.clamp(1, 20))).await;
    };
    assert!(served - began >= 600, "{}", served - began);
    // What is not used any more is forgotten by the store.
    assert!(store.ask::<i64>(&["PTTL", std::str::from_utf8(&key).unwrap()]) > 0);
}
