//! Steps of quotas: the store answers as the rules do.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use rules::quota::{
    Blocked, Class, Edition, Flow, Join, Leave, News, Principal, Probe, Report, Room, Rule, Said,
    Step,
};

use super::mutants::histories;
use super::{Arc, Duration, Fleet, Store, is_up, node};

/// A history: steps of nodes with a pause before each, the document of each, and its news. Some are
/// overtaken on their way, and some bring again what was answered, since the answer was lost.
type History = Vec<(u64, (u64, usize), u64, News)>;

/// Small windows, so that they pass while a test runs.
fn rules() -> [Rule; 6] {
    let rule = Rule { quota: 4, window: 40, burst: 4, reserve: 0, block: 15, slot: 2, span: 21 };
    [
        rule,
        Rule { burst: 1, quota: 9, window: 50, slot: 5, span: 12, ..rule },
        Rule { reserve: 2, block: 7, ..rule },
        Rule { quota: 7, window: 46, ..rule },
        // Slots of one length, fewer and more of them.
        Rule { window: 12, span: 7, ..rule },
        Rule { window: 78, span: 41, ..rule },
    ]
}

fn edition(rule: Rule) -> Edition {
    Edition { revision: 1, rule }
}

fn flow() -> impl Strategy<Value = Flow> {
    let agent = prop::sample::select(vec!["a", "b", "c d"]);
    let class = prop::sample::select(vec![Class::Automation, Class::Bulk, Class::Interactive]);
    (agent, class).prop_map(|(agent, class)| Flow { class, agent: Arc::from(agent) })
}

fn joins() -> impl Strategy<Value = Vec<Join>> {
    let room = (1_u64..6, 1_u64..9).prop_map(|(agent, class)| Room { agent, class });
    let join = (0_u64..12, flow(), 1_u64..5, 0_u64..90, room)
        .prop_map(|(seq, flow, weight, patience, room)| Join { seq, flow, weight, patience, room });
    prop::collection::vec(join, 0..5)
}

fn reports() -> impl Strategy<Value = Vec<Report>> {
    let left = prop::option::weighted(0.7, (0_u64..6, 0_u64..40));
    let used = prop::option::weighted(0.3, 0_u64..9);
    let blocked = prop_oneof![Just(Blocked::Unsaid), (0_u64..30).prop_map(Blocked::For)];
    let blocked = prop::option::weighted(0.15, blocked);
    let probe = prop::sample::select(vec![Probe::None, Probe::Answered, Probe::Lost]);
    let report =
        (0_u64..8, probe, left, used, blocked).prop_map(|(number, probe, left, used, blocked)| {
            Report { number, probe, said: Said { left, used, blocked } }
        });
    prop::collection::vec(report, 0..2)
}

/// What a node brings, and whether its step is late, and is brought again.
fn news() -> impl Strategy<Value = (News, bool, bool)> {
    let leave =
        (0_u64..12, flow(), any::<bool>()).prop_map(|(seq, flow, asks)| Leave { seq, flow, asks });
    let leaves = prop::collection::vec(leave, 0..4);
    let is_rare = || prop::sample::select(vec![false, false, false, false, true]);
    let heard = prop_oneof![Just(0_u64), 0_u64..12];
    (reports(), leaves, joins(), heard, is_rare(), is_rare()).prop_map(
        |(reports, leaves, joins, heard, is_late, is_lost)| {
            (News { number: 0, heard, reports, leaves, joins }, is_late, is_lost)
        },
    )
}

fn history() -> impl Strategy<Value = History> {
    let rule = prop_oneof![8 => Just(0_usize), 1 => 0_usize..6];
    let revision = prop_oneof![6 => Just(3_u64), 1 => 1_u64..6];
    let step = (0_u64..12_000, (revision, rule), 1_u64..4, news());
    prop::collection::vec(step, 1..25).prop_map(|steps| {
        let mut history = Vec::new();
        for (index, (pause, document, node, (news, is_late, is_lost))) in (5..).zip(steps) {
            let number = if is_late { index - 4 } else { index };
            let news = News { number, ..news };
            history.push((pause, document, node, news.clone()));
            if is_lost {
                let again = News { joins: news.joins, number, ..News::default() };
                history.push((1_000, document, node, again));
            }
        }
        history
    })
}

async fn step(fleet: &Fleet, key: &[u8], edition: &Edition, node: u64, news: &News) -> (u64, Step) {
    let (road, _) = fleet.road().expect("a link");
    road.step(key, edition, node, news).await.expect("an answer")
}

/// Both answer alike.
async fn is_same(fleet: &Fleet, case: u64, history: &History) -> Result<(), TestCaseError> {
    let key = fleet.organisation().quota(&format!("case-{case}"));
    let mut principal = Principal::default();
    for (pause, (revision, rule), node, news) in history {
        tokio::time::sleep(Duration::from_micros(*pause)).await;
        let edition = Edition { revision: *revision, rule: rules()[*rule] };
        let (now, found) = step(fleet, &key, &edition, *node, news).await;
        let expected = principal.step(&edition, now, *node, news);
        prop_assert_eq!(&found, &expected, "at {} {:?} {:?}", now, edition, news);
    }
    Ok(())
}

#[test]
pub(super) fn the_store_takes_steps_as_the_rules_do() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fleet = runtime.block_on(async {
        let fleet = node(&store.url());
        is_up(&fleet).await;
        fleet
    });
    let cases = AtomicU64::new(0);
    proptest!(histories(200), |(history in history())| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(is_same(&fleet, case, &history))?;
    });
}

fn call(seq: u64, agent: &str, class: Class) -> Join {
    let flow = Flow { class, agent: Arc::from(agent) };
    Join { seq, flow, weight: 1, patience: 60_000, room: Room { agent: 9, class: 90 } }
}

fn one(seq: u64) -> News {
    News { joins: vec![call(seq, "a", Class::Automation)], ..News::default() }
}

/// A turn beyond the reserve may have a higher tag than those it passes.
#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_call_that_was_passed_does_not_turn_virtual_time_back() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    // It forgets calls sooner than the pace gives the next: one comes each half second.
    let rule =
        Rule { quota: 6, burst: 6, reserve: 4, window: 3_000, slot: 10, span: 40, ..rules()[0] };
    let key = fleet.organisation().quota("passed");
    let mut principal = Principal::default();
    let low = (0..4).map(|seq| call(seq, "low", Class::Bulk));
    let high = (10..18).map(|seq| call(seq, "high", Class::Interactive));
    let late = vec![call(20, "late", Class::Bulk)];
    let (first, none) = (low.chain(high).collect::<Vec<_>>(), Vec::new);
    let mut granted = 0;
    for (pause, joins) in [(0, first), (530, vec![]), (530, late), (530, vec![]), (530, none())] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let news = News { joins, ..News::default() };
        let (now, found) = step(&fleet, &key, &edition(rule), 1, &news).await;
        assert_eq!(found, principal.step(&edition(rule), now, 1, &news));
        granted += found.granted.len();
    }
    assert!(granted >= 9, "{granted}");
}

/// A turn, a call that waits, and one that leaves: the script runs all that it may.
pub(super) async fn every_command(fleet: &Fleet) {
    let key = fleet.organisation().quota("every");
    let leave = |seq| Leave { seq, flow: call(seq, "a", Class::Automation).flow, asks: true };
    let leaves = News { leaves: vec![leave(2)], ..News::default() };
    for news in [one(1), one(2), leaves, one(3)] {
        step(fleet, &key, &edition(rules()[1]), 1, &news).await;
    }
    // The same slots, and a node that is gone.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    step(fleet, &key, &edition(rules()[1]), 2, &one(1)).await;
}

/// Each step reads the state whole: it must not grow with those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_reads_does_not_grow_with_those_who_wait() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    let slow = edition(Rule::new(9, Duration::from_secs(300), 1, 0, Duration::from_secs(9)));
    let key = fleet.organisation().quota("many");
    for part in 0..5 {
        let joins = (0..200).map(|nth| {
            let seq = part * 200 + nth + 1;
            let patience = u64::MAX;
            let room = Room { agent: 9, class: 9_000 };
            Join { patience, room, ..call(seq, &format!("agent-{seq}"), Class::Bulk) }
        });
        let news = News { joins: joins.collect(), ..News::default() };
        assert_eq!(step(&fleet, &key, &slow, 1, &news).await.1.refused, []);
    }
    let fields: u64 = store.ask(&["HLEN", std::str::from_utf8(&key).unwrap()]);
    assert!(fields < 30, "{fields}");
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_that_was_away_is_told_so_by_both() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    // A call each half second: the second waits for as long as node 1 is away.
    let rule = Rule { window: 5_000, slot: 500, ..rules()[1] };
    let key = fleet.organisation().quota("away");
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
        let (now, found) = step(&fleet, &key, &edition(rule), node, &news).await;
        assert_eq!(found, principal.step(&edition(rule), now, node, &news));
        assert_eq!(found.forgotten, pause == 0 && news == News::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_store_that_lost_its_keys_grants_nothing_until_a_window_has_passed() {
    let store = Store::start();
    let fleet = node(&store.url());
    is_up(&fleet).await;
    let rule = Rule { window: 400, slot: 10, span: 60, ..rules()[0] };
    let key = fleet.organisation().quota("lost");
    let (_, first) = step(&fleet, &key, &edition(rule), 1, &one(1)).await;
    assert_eq!(first.granted.len(), 1);
    store.ask::<()>(&["FLUSHALL"]);
    let (road, _) = fleet.road().unwrap();
    assert!(
        road.clone().step(&key, &edition(rule), 1, &one(2)).await.is_err(),
        "the epoch is gone"
    );
    road.doubt();
    let lost = super::wait_for("a new epoch", || {
        fleet.road().filter(|(other, _)| other.epoch != road.epoch)
    });
    let began = lost.0.epoch / 1_000;
    let (_, step_of) = step(&fleet, &key, &edition(rule), 1, &one(2)).await;
    assert_eq!((step_of.granted.len(), step_of.used), (0, 4));
    let served = loop {
        let (now, found) = step(&fleet, &key, &edition(rule), 1, &News::default()).await;
        if !found.granted.is_empty() {
            break now;
        }
        tokio::time::sleep(Duration::from_millis(found.next.clamp(1, 20))).await;
    };
    assert!(served - began >= 600, "{}", served - began);
    // What is not used any more is forgotten by the store.
    assert!(store.ask::<i64>(&["PTTL", std::str::from_utf8(&key).unwrap()]) > 0);
}
