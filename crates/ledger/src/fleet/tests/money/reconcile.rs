//! What is charged for a node that is gone, and given back when it comes back and knows better.

use super::{
    Arc, Store, account, budget, fresh, held, held_as, hold, is_open, is_settled, parts, spent,
    teller, teller_with, wait_for,
};
use crate::Deed;

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_node_holds_is_charged_in_one_go() {
    let (store, many) = (Store::start(), Arc::new(budget("many", 10_000)));
    let (gone, node) = (teller(&store, "gone").await, teller(&store, "a").await);
    let mut open = Vec::new();
    for _ in 0..1_300 {
        let mut held = held_as(&gone, fresh(), vec![hold(&many, 2)]).await.unwrap();
        held.dispatch().await.unwrap();
        open.push(held);
    }
    gone.till.purse.silence(true);
    assert_eq!(node.estimate("gone").await, Some(1_300));
    assert_eq!(spent(&store, &many), account(2_600, 0));
    assert_eq!(node.estimate("gone").await, Some(0));
    // What it knows counts instead, however late.
    gone.till.purse.silence(false);
    open.into_iter().for_each(|held| drop(held.settle(&[parts(1)])));
    is_settled(&gone).await;
    assert_eq!(spent(&store, &many), account(1_300, 0));
    assert_eq!(store.ask::<u64>(&["ZCARD", &super::key_of("open:gone")]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_charged_for_a_call_that_never_left_is_given_back_once() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let directory = tempfile::tempdir().unwrap();
    let gone = teller_with(&store.url(), "gone", |options| {
        options.directory = Some(directory.path().to_owned());
    });
    is_open(&gone).await;
    let node = teller(&store, "a").await;
    node.know(std::slice::from_ref(&ten));
    let never_left = held(&gone, &ten, 6).await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    gone.till.purse.silence(true);
    let _dead = (gone, never_left);
    assert_eq!(node.estimate("gone").await, Some(1));
    assert_eq!(spent(&store, &ten), account(6, 0));
    // Its machine is started again: nothing on its disk says that the call may have left.
    let again = teller_with(&store.url(), "gone", |options| {
        options.directory = Some(copy.path().to_owned());
    });
    is_open(&again).await;
    wait_for("it to be given back", || (spent(&store, &ten) == account(0, 0)).then_some(()));
    is_settled(&again).await;
    let returned = again.till.purse.events(0);
    let is_returned =
        |deed: &Deed| matches!(deed, Deed::Returned { amount, .. } if *amount == parts(6));
    assert_eq!(returned.iter().filter(|(_, event)| is_returned(&event.deed)).count(), 1);
    let charged = node.till.purse.events(0);
    assert!(charged.iter().any(|(_, event)| matches!(event.deed, Deed::Assumed { .. })));
    assert!(charged.iter().any(|(_, event)| event.deed == Deed::Crossed { percent: 50 }));
    assert_eq!(node.estimate("gone").await, Some(0));
    drop(held(&again, &ten, 10).await.unwrap());
}
