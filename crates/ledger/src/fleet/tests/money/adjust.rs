//! Adjustments by operators: each counts once, over the whole fleet, and is not forgotten.

use model::Timestamp;

use super::{
    Arc, Budget, Denial, Fleet, Store, budget, held, hold, is_open, is_settled, parts, row, spend,
    teller, teller_with, until_answered, wait_for,
};
use crate::{AdjustError, Adjustment, Deed};

/// What an operator wants of the one row of a budget.
pub(in crate::fleet::tests) fn by(id: &str, budget: &Arc<Budget>, by: i64) -> Adjustment {
    Adjustment {
        id: Arc::from(id),
        row: hold(budget, 0).row,
        by: parts(by),
        who: Arc::from("olga"),
        why: Arc::from("the launch took longer"),
        at: Timestamp::from_secs(7),
    }
}

/// Asks for an adjustment: what is adjusted of the row then, and whether that is new.
async fn check(
    node: &Fleet,
    (id, of, amount): (&str, &Arc<Budget>, i64),
    expected: Result<(i64, bool), AdjustError>,
) {
    let adjusted = node.adjust(of, by(id, of, amount)).await;
    let adjusted = adjusted.map(|(account, is_new)| (account.adjusted.parts(), is_new));
    assert_eq!(adjusted, expected, "{id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_counts_once_at_whatever_node_it_is_repeated() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let nodes = [teller(&store, "a").await, teller(&store, "b").await];
    spend(&nodes[0], &ten, 10, 10).await.unwrap();
    check(&nodes[0], ("OPS-1", &ten, 5), Ok((5, true))).await;
    for node in nodes.iter().rev() {
        check(node, ("OPS-1", &ten, 5), Ok((5, false))).await;
        check(node, ("OPS-1", &ten, 6), Err(AdjustError::Mismatch)).await;
    }
    check(&nodes[1], ("OPS-2", &ten, -2), Ok((3, true))).await;
    assert_eq!(row(&store, &ten).adjusted, parts(3));
    // And what the journals say comes to the same.
    store.ask::<()>(&["FLUSHALL"]);
    let short = until_answered(&nodes[0], &ten, 4).await.unwrap_err();
    assert_eq!(short, Denial::Overdrawn { hold: 0, left: parts(3) });
    for node in &nodes {
        check(node, ("OPS-1", &ten, 5), Ok((3, false))).await;
        check(node, ("OPS-2", &ten, -2), Ok((3, false))).await;
    }
    assert_eq!(row(&store, &ten).adjusted, parts(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_that_leaves_the_range_of_amounts_is_refused() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let node = teller(&store, "a").await;
    let most = model::Amount::LARGEST.parts();
    check(&node, ("most", &ten, most), Ok((most, true))).await;
    check(&node, ("more", &ten, 1), Err(AdjustError::TooLarge)).await;
    check(&node, ("less", &ten, -1), Ok((most - 1, true))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_adjusted_where_redis_cannot_be_asked() {
    let (mut store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let node = teller(&store, "a").await;
    store.kill();
    wait_for("it to be found out", || (!node.is_open()).then_some(()));
    check(&node, ("OPS-1", &ten, 5), Err(AdjustError::Away)).await;
    store.restart();
    is_open(&node).await;
    is_settled(&node).await;
    assert_eq!(row(&store, &ten).adjusted, parts(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_that_redis_did_not_answer_counts_once_when_it_is_back() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let directory = tempfile::tempdir().unwrap();
    let remember = |at: &std::path::Path| {
        let at = Some(at.to_owned());
        teller_with(&store.url(), "a", |options| options.directory = at)
    };
    let node = remember(directory.path());
    is_open(&node).await;
    store.signal("STOP");
    check(&node, ("OPS-1", &ten, 5), Err(AdjustError::Late)).await;
    // Its process ends with what is on its disk.
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    node.till.purse.silence(true);
    let _dead = node;
    store.signal("CONT");
    let again = remember(copy.path());
    is_open(&again).await;
    is_settled(&again).await;
    check(&again, ("OPS-1", &ten, 5), Ok((5, false))).await;
    let history = again.till.purse.events(0);
    let [(_, event)] = &*history else { panic!("{history:?}") };
    assert!(matches!(&event.deed, Deed::Adjusted { who, .. } if **who == *"olga"), "{event:?}");
    drop(held(&again, &ten, 15).await.unwrap());
}
