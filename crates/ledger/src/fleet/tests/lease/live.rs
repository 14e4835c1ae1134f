//! Several nodes that lease of one Redis.

use std::sync::atomic::{AtomicBool, Ordering};

use model::{Bucket, Clock as _};
use rules::limit::Mode;
use tokio::task::JoinSet;

use crate::fleet::tests::store::{Store, wait_for};
use crate::fleet::tests::{draw, is_up, key_of, node, plan};
use crate::simulation::{Chance, worst};
use crate::{Answer, Denial, Fleet};
use model::SystemClock;
use rules::plan::{Draw, DrawRule, Plan};
use std::sync::Arc;
use std::time::Duration;

/// A draw on the bucket of a limit with this mode.
pub(super) fn moded(name: &str, bucket: Bucket, mode: Mode) -> Draw {
    let mut draw = draw(name, bucket);
    if let DrawRule::Limit(limit) = &mut draw.rule {
        Arc::make_mut(limit).mode = mode;
    }
    draw
}

async fn decide(node: &Fleet, plan: &Plan, clock: &SystemClock) -> Result<bool, Denial> {
    match node.draw(plan, clock.uptime()) {
        Answer::Now(decided) => decided.map(|_| true),
        Answer::Later(pending) => pending.wait(plan).await.map(|_| false),
    }
}

/// What nodes admitted: when, by the one clock of the machine, which is the store's too; and for how
/// long at most a decision of a node's own was under way, in microseconds.
#[derive(Default)]
struct Log {
    admitted: Vec<u64>,
    slack: u64,
    local: usize,
}

/// In each second all come to hold, then draw so little that the bucket refills behind what they
/// hold, and then rush together; until told to stop.
async fn press(
    node: Fleet,
    plan: Arc<Plan>,
    clock: SystemClock,
    run: (Arc<AtomicBool>, u64),
) -> Log {
    let ((stop, seed), rushes) =
        (run, plan.draws.iter().all(|draw| draw.rule.mode() == Mode::Exact));
    let (mut log, mut chance) = (Log::default(), Chance(seed));
    while !stop.load(Ordering::Relaxed) {
        attempt(&node, &plan, &clock, &mut log).await;
        match clock.uptime().as_micros() / 1_000 % 1_000 {
            0..250 if !rushes => pass(1 + chance.below(5)).await,
            250..650 if !rushes => pass(30 + chance.below(20)).await,
            phase @ 0..650 => pass(650 - phase).await,
            650..800 => tokio::task::yield_now().await,
            phase => pass(1_000 - phase).await,
        }
    }
    log
}

async fn attempt(node: &Fleet, plan: &Plan, clock: &SystemClock, log: &mut Log) {
    let before = clock.now().as_micros();
    match node.draw(plan, clock.uptime()) {
        Answer::Now(Ok(_)) => {
            let after = clock.now().as_micros();
            log.admitted.push(after);
            log.slack = log.slack.max(after - before);
            log.local += 1;
        }
        Answer::Now(Err(_)) => {}
        Answer::Later(pending) if pending.held.is_some() => {
            if pending.wait(plan).await.is_ok() {
                log.admitted.push(clock.now().as_micros());
            }
        }
        Answer::Later(pending) => {
            let found = pending.found.await.ok().filter(|found| found.granted);
            log.admitted.extend(found.map(|found| found.at));
        }
    }
}

/// Presses with leased, exact and undecided nodes at once while something happens to the store;
/// then every window of every level is kept.
async fn check_kept(store: &mut Store, happen: impl AsyncFnOnce(&mut Store)) {
    let clock = SystemClock::start();
    let wide = Bucket::from_parts(1, 1_000, 600_000).unwrap();
    let modes = [Mode::Leased, Mode::Leased, Mode::Auto, Mode::Exact];
    let (stop, mut pressers) = (Arc::<AtomicBool>::default(), JoinSet::new());
    for (seed, mode) in modes.into_iter().enumerate() {
        let node = node(&store.url());
        is_up(&node).await;
        let other = moded("narrow", Bucket::from_parts(1, 1_000, 500_000).unwrap(), Mode::Leased);
        // Those that are exact empty what is left.
        for presser in 0..if mode == Mode::Exact { 12 } else { 2 } {
            let mut draws = vec![moded("wide", wide, mode)];
            if presser == 1 && mode != Mode::Exact {
                draws.push(moded("never-short", other.bucket, Mode::Exact));
            }
            let run = (Arc::clone(&stop), seed as u64 * 100 + presser);
            pressers.spawn(press(node.clone(), Arc::new(plan(draws)), clock, run));
        }
    }
    happen(store).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Log::default();
    for log in pressers.join_all().await {
        all.admitted.extend(log.admitted);
        all.slack = all.slack.max(log.slack);
        all.local += log.local;
    }
    // A decision may have been made any time while it was under way; and those that the store was
    // asked for as well are a little older than their time.
    let most = wide.capacity() + wide.refill() * (all.slack + 10_000);
    let found = worst(wide, &all.admitted);
    let (count, local, slack) = (all.admitted.len(), all.local, all.slack);
    assert!(found <= i128::from(most), "{found} of {most}: {count}, {local} local, {slack} µs");
    assert!(count > 600 && local > 100, "{count}, {local} local");
}

async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modes_mix_on_one_bucket_and_every_window_is_kept() {
    check_kept(&mut Store::start(), async |store| {
        for _ in 0..10 {
            pass(300).await;
            store.ask::<String>(&["SCRIPT", "FLUSH"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stands_still_lets_leases_run_out_and_no_window_is_broken() {
    check_kept(&mut Store::start(), async |store| {
        for _ in 0..2 {
            pass(600).await;
            store.signal("STOP");
            pass(500).await;
            store.signal("CONT");
        }
        pass(1_000).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgets_what_is_leased_breaks_no_window() {
    check_kept(&mut Store::start(), async |store| {
        pass(800).await;
        store.ask::<()>(&["FLUSHALL"]);
        pass(3_500).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_starts_again_breaks_no_window() {
    check_kept(&mut Store::start(), async |store| {
        pass(800).await;
        store.kill();
        pass(200).await;
        store.restart();
        pass(3_500).await;
    })
    .await;
}

/// A token every two milliseconds.
pub(super) fn quick() -> Bucket {
    Bucket::from_parts(1, 2_000, 1_000_000).unwrap()
}

/// Draws until the node decides by itself.
async fn warm(node: &Fleet, plan: &Plan, clock: &SystemClock) {
    let warm = async {
        while decide(node, plan, clock).await != Ok(true) {
            pass(2).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), warm).await.expect("it leases");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_given_back_when_the_node_stops() {
    let (store, clock) = (Store::start(), SystemClock::start());
    let plan = plan(vec![moded("l", quick(), Mode::Auto)]);
    let tasks = tokio_util::task::TaskTracker::new();
    let node = crate::fleet::tests::node_of(&store.url(), &tasks);
    is_up(&node).await;
    warm(&node, &plan, &clock).await;
    drop(node);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(30), tasks.wait()).await.expect("it ends");
    // The lease holds nothing, so nothing of the bucket is out.
    let value: Vec<u8> = store.ask(&["GET", &key_of("limit:1:l:text:alice")]);
    assert_eq!(value.len(), 24 + 37);
    assert_eq!(value[48..52], [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_lease_is_given_back() {
    let (store, clock) = (Store::start(), SystemClock::start());
    let plan = plan(vec![moded("l", quick(), Mode::Leased)]);
    let node = node(&store.url());
    is_up(&node).await;
    warm(&node, &plan, &clock).await;
    wait_for("the lease to be given back", || {
        let value: Vec<u8> = store.ask(&["GET", &key_of("limit:1:l:text:alice")]);
        (value.get(48..52) == Some(&[0; 4][..])).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_changes_gives_its_lease_back_and_is_leased_anew() {
    let (store, clock) = (Store::start(), SystemClock::start());
    let node = node(&store.url());
    is_up(&node).await;
    warm(&node, &plan(vec![moded("l", quick(), Mode::Auto)]), &clock).await;
    let other = Bucket::from_parts(1, 3_000, 900_000).unwrap();
    warm(&node, &plan(vec![moded("l", other, Mode::Auto)]), &clock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_small_for_its_nodes_is_not_leased() {
    let (store, clock) = (Store::start(), SystemClock::start());
    let small = Bucket::from_parts(1, 1_000, 63_000).unwrap();
    let node = node(&store.url());
    is_up(&node).await;
    let plan = plan(vec![moded("l", small, Mode::Auto)]);
    for _ in 0..200 {
        assert_ne!(decide(&node, &plan, &clock).await, Ok(true));
        tokio::task::yield_now().await;
    }
}
