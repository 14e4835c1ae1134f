//! A store that dies, stops, forgets or is slow.

use std::sync::atomic::Ordering;

use model::Clock as _;

use super::relay::Relay;
use super::{
    Denial, Duration, Fleet, Options, Plan, Short, Store, SystemClock, TaskTracker, draw, exhaust,
    fixed, is_up, key_of, node, node_with, per_second, plan, start, take, wait_for,
};

/// Three of ten were taken and the store then loses them. Nobody knows what was taken: a bucket
/// that never refills gives nothing more, and one that does fills from empty.
async fn check_forgotten(store: &mut Store, lose: impl FnOnce(&mut Store)) {
    let node = node(&store.url());
    is_up(&node).await;
    let slow = plan(vec![fixed("slow", 10)]);
    for _ in 0..3 {
        take(&node, &slow).await.unwrap();
    }
    lose(store);
    assert_eq!(answered(&node, &slow).await, Err(Denial::Short { draw: 0, short: Short::Never }));
    let quick = plan(vec![draw("quick", per_second("50", "5"))]);
    let first = answered(&node, &quick).await;
    wait_passes(&node, &quick).await;
    assert!(matches!(first, Ok(_) | Err(Denial::Short { .. })), "{first:?}");
}

/// The first answer that is one.
async fn answered(node: &Fleet, plan: &Plan) -> Result<(), Denial> {
    let clock = SystemClock::start();
    let deadline = clock.uptime().plus(super::store::patience());
    loop {
        match take(node, plan).await {
            Err(Denial::Away) => is_up(node).await,
            other => return other.map(drop),
        }
        assert!(clock.uptime() < deadline, "the store stays away");
    }
}

async fn wait_passes(node: &Fleet, plan: &Plan) {
    let passes = async {
        while answered(node, plan).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::store::patience(), passes).await.expect("it passes");
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn after_a_flush_buckets_begin_empty() {
    check_forgotten(&mut Store::start(), |store| store.ask(&["FLUSHALL"])).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn after_a_restart_buckets_begin_empty() {
    check_forgotten(&mut Store::start(), |store| {
        store.kill();
        store.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn after_a_restart_from_an_old_snapshot_buckets_begin_empty() {
    let mut store = Store::start();
    check_forgotten(&mut store, |store| {
        store.ask::<String>(&["SAVE"]);
        store.kill();
        store.restart();
        // The old counts are there again, and too low.
        assert!(store.ask::<bool>(&["EXISTS", &key_of("limit:4:slow:text:alice")]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_that_was_away_while_the_store_was_replaced_finds_it_out() {
    let mut store = Store::start();
    let directory = tempfile::tempdir().unwrap();
    let tasks = TaskTracker::new();
    let remembering = |store: &Store| {
        let change = |options: &mut Options| {
            options.directory = Some(directory.path().to_owned());
            options.patience = Duration::from_secs(20);
        };
        start(&store.url(), change, &tasks)
    };
    let slow = plan(vec![fixed("slow", 10)]);
    let first = remembering(&store);
    is_up(&first).await;
    take(&first, &slow).await.unwrap();
    drop(first);
    tasks.close();
    tasks.wait().await;
    store.kill();
    store.restart();
    // One that never knew it takes it for new …
    let stranger = node(&store.url());
    is_up(&stranger).await;
    take(&stranger, &slow).await.unwrap();
    // … until one comes that knows better.
    let again = remembering(&store);
    is_up(&again).await;
    let short = Err(Denial::Short { draw: 0, short: Short::Never });
    assert_eq!(answered(&again, &slow).await, short);
    assert_eq!(answered(&stranger, &slow).await, short);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_whose_counts_a_stranger_began_anew_finds_it_out() {
    let store = Store::start();
    let slow = plan(vec![fixed("slow", 10)]);
    let old = node(&store.url());
    is_up(&old).await;
    take(&old, &slow).await.unwrap();
    store.ask::<()>(&["FLUSHALL"]);
    let stranger = node(&store.url());
    is_up(&stranger).await;
    take(&stranger, &slow).await.unwrap();
    let short = Err(Denial::Short { draw: 0, short: Short::Never });
    assert_eq!(answered(&old, &slow).await, short);
    assert_eq!(answered(&stranger, &slow).await, short);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn after_a_replica_took_over_buckets_begin_empty() {
    let mut master = Store::start();
    let replica = Store::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let node = node(&format!("{},127.0.0.1:{}", master.url(), replica.port));
    is_up(&node).await;
    let slow = plan(vec![fixed("slow", 10)]);
    take(&node, &slow).await.unwrap();
    wait_for("the replica to follow", || {
        let info: String = replica.ask(&["INFO", "replication"]);
        info.contains("master_link_status:up").then_some(())
    });
    // The replica misses what is taken from now on.
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    for _ in 0..9 {
        take(&node, &slow).await.unwrap();
    }
    master.kill();
    let short = Err(Denial::Short { draw: 0, short: Short::Never });
    assert_eq!(answered(&node, &slow).await, short);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_script_that_the_store_forgot_is_sent_again() {
    let store = Store::start();
    let node = node(&store.url());
    is_up(&node).await;
    let plan = plan(vec![fixed("l", 10)]);
    for _ in 0..5 {
        take(&node, &plan).await.unwrap();
        store.ask::<String>(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(exhaust(&node, &plan).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn nobody_waits_long_for_a_store_that_stopped_and_it_goes_on_where_it_was() {
    let store = Store::start();
    let node = node_with(&store.url(), |_| {});
    let plan = plan(vec![fixed("l", 5)]);
    wait_passes(&node, &plan).await;
    store.signal("STOP");
    let clock = SystemClock::start();
    let mut waits: Vec<Duration> = Vec::new();
    for _ in 0..200 {
        let began = clock.uptime();
        assert_eq!(take(&node, &plan).await, Err(Denial::Away));
        waits.push(clock.uptime().since(began));
    }
    waits.sort();
    // One learns it by waiting; all others at once.
    assert!(waits[180] < Duration::from_millis(5), "{waits:?}");
    assert!(waits[199] < Duration::from_millis(500), "{waits:?}");
    store.signal("CONT");
    // What was under way when it stopped may have been counted and not served.
    let passed = {
        is_up(&node).await;
        let mut passed = 0;
        loop {
            match answered(&node, &plan).await {
                Ok(()) => passed += 1,
                Err(_) => break passed,
            }
        }
    };
    assert!(passed <= 4, "{passed}");
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_slow_store_is_left_alone_until_it_is_quick() {
    let store = Store::start();
    let relay = Relay::before(store.port).await;
    let node = node_with(&relay.url(), |_| {});
    let plan = plan(vec![draw("l", per_second("100000", "100000"))]);
    wait_passes(&node, &plan).await;
    relay.delay.store(150, Ordering::Relaxed);
    let clock = SystemClock::start();
    let (mut waits, mut away) = (Vec::new(), 0);
    for _ in 0..100 {
        let began = clock.uptime();
        away += usize::from(take(&node, &plan).await == Err(Denial::Away));
        waits.push(clock.uptime().since(began));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    waits.sort();
    assert!(away >= 99, "{away}");
    assert!(waits[90] < Duration::from_millis(5), "{waits:?}");
    relay.delay.store(0, Ordering::Relaxed);
    wait_passes(&node, &plan).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_store_that_is_not_there_yet_is_used_when_it_comes() {
    let mut store = Store::start();
    store.kill();
    let node = node(&store.url());
    let plan = plan(vec![fixed("l", 2)]);
    assert_eq!(take(&node, &plan).await, Err(Denial::Away));
    store.restart();
    assert_eq!(answered(&node, &plan).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_clock_that_went_far_back_begins_anew_and_heals() {
    let store = Store::start();
    let node = node(&store.url());
    is_up(&node).await;
    let plan = plan(vec![draw("l", per_second("20", "5"))]);
    take(&node, &plan).await.unwrap();
    // As if the last call had been an hour from now.
    let ahead = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() + 3_600_000_000;
    let bytes = u64::try_from(ahead).unwrap().to_le_bytes();
    let client = redis::Client::open(store.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut command = redis::cmd("SETRANGE");
    command.arg(key_of("epoch")).arg(16).arg(&bytes[..]);
    wait_for("the epoch to be set", || command.query::<u64>(&mut connection).ok());
    wait_passes(&node, &plan).await;
    let seen: Vec<u8> = store.ask(&["GETRANGE", &key_of("epoch"), "16", "23"]);
    assert!(u128::from(u64::from_le_bytes(seen.try_into().unwrap())) < ahead, "time stands still");
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn the_last_time_of_a_store_is_kept() {
    let store = Store::start();
    let node = node(&store.url());
    is_up(&node).await;
    let last = || {
        let seen: Vec<u8> = store.ask(&["GETRANGE", &key_of("epoch"), "16", "23"]);
        u64::from_le_bytes(seen.try_into().unwrap())
    };
    let began = last();
    for _ in 0..2 {
        answered(&node, &plan(vec![fixed("l", 10)])).await.unwrap();
    }
    assert!(last() > began);
}

/// The same server, which knows an epoch again that is over.
#[tokio::test(flavor = "multi_thread")]
pub(super) async fn an_epoch_that_comes_again_in_the_same_run_is_not_taken_up() {
    let store = Store::debuggable();
    let node = node(&store.url());
    let mut epochs = Vec::new();
    for lose in [&["FLUSHALL"][..], &["SAVE"], &["FLUSHALL"], &["DEBUG", "RELOAD", "NOSAVE"]] {
        is_up(&node).await;
        store.ask::<redis::Value>(lose);
        let _short = answered(&node, &plan(vec![fixed("l", 10)])).await;
        is_up(&node).await;
        epochs.push(node.road().expect("a link").0.epoch);
    }
    assert!(epochs[0] == epochs[1] && epochs[1] < epochs[2], "{epochs:?}");
    assert!(epochs[2] < epochs[3], "{epochs:?}");
}
