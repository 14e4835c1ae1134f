//! A slot that moves to another node of a cluster while it is drawn on.

use super::store::cluster;
use super::{
    Arc, Duration, Fleet, Store, draw, is_kept, is_up, node, per_second, plan, wait_for, worst,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Moves a slot from one node to another as `redis-cli --cluster reshard` does, key by key.
fn migrate([from, to]: [&Store; 2], slot: &str) {
    let [source, target]: [String; 2] = [from, to].map(|store| store.ask(&["CLUSTER", "MYID"]));
    to.ask::<String>(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &source]);
    from.ask::<String>(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &target]);
    let port = to.port.to_string();
    loop {
        let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
        let Some(key) = keys.first() else { break };
        // A key that expires meanwhile is none any more.
        from.ask::<String>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }
    for store in [to, from] {
        store.ask::<String>(&["CLUSTER", "SETSLOT", slot, "NODE", &target]);
    }
}

/// Takes until told to stop, and notes when the store gave.
async fn draw_on(node: Fleet, log: Arc<Mutex<Vec<u64>>>, stop: Arc<Mutex<bool>>) {
    let plan = plan(vec![draw("shared", per_second("500", "40"))]);
    while !*stop.lock() {
        let Ok(pending) = node.take(&plan) else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        if let Ok(found) = pending.found.await
            && found.granted
        {
            log.lock().push(found.at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_load_is_followed_and_gives_nothing_away() {
    let stores = cluster(2);
    let slot: u64 = stores[0].ask(&["CLUSTER", "KEYSLOT", "{default}"]);
    let (log, stop) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<Mutex<bool>>::default());
    let mut takers = JoinSet::new();
    for _ in 0..3 {
        let node = node(&format!("{},127.0.0.1:{}", stores[0].url(), stores[1].port));
        is_up(&node).await;
        for _ in 0..4 {
            takers.spawn(draw_on(node.clone(), Arc::clone(&log), Arc::clone(&stop)));
        }
    }
    let grows = |what: &str| {
        let enough = log.lock().len() + 100;
        wait_for(what, || (log.lock().len() >= enough).then_some(()));
    };
    for [from, to] in [[0, 1], [1, 0]] {
        grows("takes before the slot moves");
        migrate([&stores[from], &stores[to]], &slot.to_string());
        grows("takes after the slot moved");
    }
    *stop.lock() = true;
    takers.join_all().await;
    let (log, bucket) = (log.lock(), per_second("500", "40"));
    assert!(is_kept(bucket, &log), "{}", worst(bucket, &log));
}
