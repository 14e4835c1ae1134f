//! A node that dies, at each step of a hold: its journal and the store agree afterwards.

use std::path::Path;

use super::{
    Arc, Store, account, budget, held, hold, is_open, is_settled, parts, spend, spent, teller_with,
    wait_for,
};
use crate::fleet::tests::{Duration, node_with};
use crate::fleet::{Fleet, Options};
use crate::{Held, Standing};

/// Where a hold stands when its node dies, and what it comes to.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The store holds it, and nothing left.
    Reserved,
    /// It may have left.
    Dispatched,
    /// It was settled, and the store did not hear of it.
    SettledUnheard,
    /// It was settled, and the store knows.
    Settled,
    VoidedUnheard,
}

/// A node whose journal is there when it starts again.
async fn remembering(store: &Store, directory: &Path) -> Fleet {
    let node = teller_with(&store.url(), "a", |options: &mut Options| {
        options.directory = Some(directory.to_owned());
    });
    is_open(&node).await;
    node
}

/// The node as it stands on its disk: a copy, since the process that wrote it goes on here.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// Brings a hold to a step, and the store with it.
async fn bring(node: &Fleet, mut held: Held, step: Step, store: &Store) -> Option<Held> {
    if matches!(step, Step::Reserved) {
        return Some(held);
    }
    held.dispatch().await.unwrap();
    match step {
        Step::Reserved | Step::Dispatched => return Some(held),
        Step::Settled => {
            held.settle(&[parts(2)]);
            is_settled(node).await;
        }
        Step::SettledUnheard | Step::VoidedUnheard => {
            // The store does not run while the end is written.
            store.signal("STOP");
            if matches!(step, Step::VoidedUnheard) {
                held.void();
            } else {
                held.settle(&[parts(2)]);
            }
        }
    }
    None
}

async fn check(step: Step, posted: i64) {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let directory = tempfile::tempdir().unwrap();
    let node = remembering(&store, directory.path()).await;
    spend(&node, &ten, 1, 1).await.unwrap();
    is_settled(&node).await;
    let id = held(&node, &ten, 3).await.unwrap();
    assert_eq!(spent(&store, &ten), account(1, 3));
    let kept = bring(&node, id, step, &store).await;
    // What nobody waits for is on the disk a moment later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let copy = killed(directory.path());
    node.till.purse.silence(true);
    // Its process is gone, and so are its calls; here they must not speak.
    let _dead = (node, kept);
    store.signal("CONT");
    let again = remembering(&store, copy.path()).await;
    wait_for("the store to agree", || (spent(&store, &ten) == account(posted, 0)).then_some(()));
    // And the journal agrees: a store that forgets everything comes to the same.
    store.ask::<()>(&["FLUSHALL"]);
    let left = super::until_answered(&again, &ten, 10 - posted).await.unwrap();
    assert_eq!(left.standing(), Standing::Reserved, "{step:?}");
    assert_eq!(spent(&store, &ten), account(posted, 10 - posted), "{step:?}");
    drop(left);
    is_settled(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn what_had_not_left_is_void() {
    check(Step::Reserved, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn what_may_have_left_is_charged_whole() {
    check(Step::Dispatched, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn an_end_that_the_store_did_not_hear_is_told_again() {
    check(Step::SettledUnheard, 3).await;
    check(Step::VoidedUnheard, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn an_end_that_the_store_has_taken_counts_once() {
    check(Step::Settled, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_that_has_spent_takes_part_before_anybody_asks_it() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let directory = tempfile::tempdir().unwrap();
    let node = remembering(&store, directory.path()).await;
    spend(&node, &ten, 4, 4).await.unwrap();
    is_settled(&node).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let copy = killed(directory.path());
    node.till.purse.silence(true);
    let _dead = node;
    store.ask::<()>(&["FLUSHALL"]);
    let again = node_with(&store.url(), |options| {
        options.patience = Duration::from_secs(20);
        options.directory = Some(copy.path().to_owned());
    });
    is_open(&again).await;
    assert_eq!(spent(&store, &ten), account(4, 0));
    assert_eq!(hold(&ten, 1).amount, parts(1));
}
