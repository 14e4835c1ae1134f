//! A store that forgets what was spent.

use std::sync::atomic::Ordering;

use super::super::relay::Relay;
use super::{
    Arc, Denial, Duration, Store, account, budget, held, is_open, is_settled, parts, spend, spent,
    teller, teller_with, until_answered, wait_for,
};

/// Two nodes have spent and hold; the store loses that, or a part; then it knows it all again, and
/// the budget is exact to the unit.
async fn check(store: &mut Store, lose: impl FnOnce(&mut Store)) {
    let twenty = Arc::new(budget("twenty", 20));
    let nodes = [teller(store, "a").await, teller(store, "b").await];
    store.ask::<String>(&["SAVE"]);
    for node in &nodes {
        spend(node, &twenty, 3, 2).await.unwrap();
    }
    let mut open = held(&nodes[0], &twenty, 5).await.unwrap();
    open.dispatch().await.unwrap();
    let gone = held(&nodes[1], &twenty, 4).await.unwrap();
    for node in &nodes {
        is_settled(node).await;
    }
    assert_eq!(spent(store, &twenty), account(4, 9));
    lose(store);
    // It is found out at the next asking, and nothing is held meanwhile.
    let denied = until_answered(&nodes[1], &twenty, 8).await.unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 0, left: parts(7) });
    assert_eq!(spent(store, &twenty), account(4, 9));
    is_settled(&nodes[0]).await;
    open.settle(&[parts(6)]);
    drop(gone);
    for node in &nodes {
        is_settled(node).await;
    }
    assert_eq!(spent(store, &twenty), account(10, 0));
    drop(until_answered(&nodes[0], &twenty, 10).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_flush_loses_no_spend() {
    check(&mut Store::start(), |store| store.ask(&["FLUSHALL"])).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_restart_without_anything_loses_no_spend() {
    check(&mut Store::start(), |store| {
        store.kill();
        std::fs::remove_file(store.directory.path().join("dump.rdb")).unwrap();
        store.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_restart_from_an_old_snapshot_loses_no_spend() {
    check(&mut Store::start(), |store| {
        store.kill();
        store.restart();
    })
    .await;
}

/// The same server and the same epoch, with the counts of before: only the numbers of the calls
/// tell.
#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_lost_suffix_in_the_same_run_is_found_by_the_numbers() {
    let mut store = Store::debuggable();
    check(&mut store, |store| {
        let run = |store: &Store| {
            let info: String = store.ask(&["INFO", "server"]);
            info.lines().find(|line| line.starts_with("run_id:")).unwrap().to_owned()
        };
        let before = run(store);
        store.ask::<String>(&["DEBUG", "RELOAD", "NOSAVE"]);
        assert_eq!(run(store), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_replica_that_missed_the_end_loses_no_spend() {
    let (twenty, mut master) = (Arc::new(budget("twenty", 20)), Store::start());
    let replica = Store::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let url = format!("{},127.0.0.1:{}", master.url(), replica.port);
    let node = teller_with(&url, "a", |_| {});
    is_open(&node).await;
    spend(&node, &twenty, 3, 3).await.unwrap();
    wait_for("the replica to follow", || {
        let info: String = replica.ask(&["INFO", "replication"]);
        info.contains("master_link_status:up").then_some(())
    });
    replica.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    spend(&node, &twenty, 7, 7).await.unwrap();
    is_settled(&node).await;
    master.kill();
    let denied = until_answered(&node, &twenty, 11).await.unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 0, left: parts(10) });
    assert_eq!(spent(&replica, &twenty), account(10, 0));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn scripts_that_are_forgotten_are_sent_again() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let node = teller(&store, "a").await;
    for _ in 0..5 {
        store.ask::<String>(&["SCRIPT", "FLUSH"]);
        spend(&node, &ten, 2, 1).await.unwrap();
        is_settled(&node).await;
    }
    assert_eq!(spent(&store, &ten), account(5, 0));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn money_is_closed_until_the_silent_node_has_told() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let (second, first) = (teller(&store, "b").await, teller(&store, "a").await);
    assert!(first.till.purse.nodes().contains_key("b"));
    spend(&second, &ten, 9, 9).await.unwrap();
    is_settled(&second).await;
    second.till.purse.silence(true);
    store.ask::<()>(&["FLUSHALL"]);
    while held(&first, &ten, 1).await.is_ok() {}
    super::super::is_up(&first).await;
    for _ in 0..20 {
        assert_eq!(held(&first, &ten, 2).await.unwrap_err(), Denial::Away);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.till.purse.silence(false);
    let denied = until_answered(&first, &ten, 2).await.unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 0, left: parts(1) });
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn what_nobody_waited_for_is_void_when_the_store_goes_on() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let node =
        teller_with(&store.url(), "a", |options| options.patience = Duration::from_millis(200));
    is_open(&node).await;
    let mut kept = until_answered(&node, &ten, 1).await.unwrap();
    kept.dispatch().await.unwrap();
    store.signal("STOP");
    assert_eq!(held(&node, &ten, 5).await.unwrap_err(), Denial::Away);
    kept.settle(&[parts(2)]);
    store.signal("CONT");
    is_settled(&node).await;
    wait_for("the hold to be void", || (spent(&store, &ten) == account(2, 0)).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_spends_only_once_the_others_know_of_it() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let first = teller(&store, "a").await;
    let second = teller(&store, "b").await;
    spend(&second, &ten, 9, 9).await.unwrap();
    is_settled(&second).await;
    // However soon the store forgets.
    second.till.purse.silence(true);
    store.ask::<()>(&["FLUSHALL"]);
    wait_for("the first to find it out", || (!first.is_open()).then_some(()));
    super::super::is_up(&first).await;
    wait_for("the first to have told", || {
        first
            .money()
            .nodes
            .get("b")
            .is_some_and(|telling| *telling == crate::Telling::Awaited)
            .then_some(())
    });
    assert!(!first.is_open());
    second.till.purse.silence(false);
    let denied = until_answered(&first, &ten, 2).await.unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 0, left: parts(1) });
}

/// The store is as it was, and never heard how the call ended.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_lost_on_its_way_is_sent_again() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let relay = Relay::before(store.port).await;
    let node =
        teller_with(&relay.url(), "a", |options| options.patience = Duration::from_millis(500));
    is_open(&node).await;
    let mut open = until_answered(&node, &ten, 4).await.unwrap();
    open.dispatch().await.unwrap();
    let epoch = node.money().epoch;
    relay.loses.store(true, Ordering::Relaxed);
    open.settle(&[parts(3)]);
    wait_for("the link to be given up", || node.road().is_none().then_some(()));
    assert_eq!(spent(&store, &ten), account(0, 4));
    relay.loses.store(false, Ordering::Relaxed);
    is_settled(&node).await;
    assert_eq!((spent(&store, &ten), node.money().epoch), (account(3, 0), epoch));
}
