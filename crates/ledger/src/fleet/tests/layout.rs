//! Nodes of two versions on one store: neither reads what the other has written.

use std::collections::BTreeMap;

use super::{
    Denial, Short, Store, exhaust, fixed, is_up, key_of, node, plan, reach, take, wait_for,
};

/// What the store holds.
fn kept(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<String> = store.ask(&["KEYS", "*"]);
    let value = |name: &String| store.ask(&["DUMP", name]);
    names.iter().map(|name| (name.clone(), value(name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_store_of_a_later_layout_is_refused_by_name_and_left_as_it_is() {
    let store = Store::start();
    store.ask::<()>(&["SET", &key_of("layout"), "2"]);
    let before = kept(&store);
    let why = reach::refusal(&store.url()).await;
    assert!(why.contains("is written in layout 2 by a later version"), "{why}");
    let node = node(&store.url());
    assert_eq!(take(&node, &plan(vec![fixed("l", 3)])).await, Err(Denial::Away));
    assert_eq!(kept(&store), before);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_node_that_is_overtaken_by_a_later_layout_stops_counting() {
    let store = Store::start();
    let (node, l) = (node(&store.url()), plan(vec![fixed("l", 3)]));
    is_up(&node).await;
    take(&node, &l).await.unwrap();
    // As one of a later version takes over: the layout, and an epoch of its own.
    store.ask::<()>(&["SET", &key_of("layout"), "2"]);
    store.ask::<u64>(&["SETRANGE", &key_of("epoch"), "0", "later on"]);
    let before = kept(&store);
    assert_eq!(take(&node, &l).await, Err(Denial::Away));
    wait_for("the node to give up", || (!node.is_up()).then_some(()));
    assert_eq!(take(&node, &l).await, Err(Denial::Away));
    assert_eq!(kept(&store), before);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_store_of_an_earlier_layout_is_taken_over_as_after_a_loss() {
    let store = Store::start();
    let (first, l) = (node(&store.url()), plan(vec![fixed("l", 3)]));
    is_up(&first).await;
    take(&first, &l).await.unwrap();
    drop(first);
    store.ask::<()>(&["SET", &key_of("layout"), "0"]);
    let second = node(&store.url());
    is_up(&second).await;
    assert_eq!(store.ask::<String>(&["GET", &key_of("layout")]), "1");
    // What was counted in the other layout is not known.
    let short = Err(Denial::Short { draw: 0, short: Short::Never });
    assert_eq!(take(&second, &l).await, short);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_holds_no_layout_gets_ours_and_goes_on() {
    let store = Store::start();
    let (first, l) = (node(&store.url()), plan(vec![fixed("l", 3)]));
    is_up(&first).await;
    take(&first, &l).await.unwrap();
    store.ask::<()>(&["DEL", &key_of("layout")]);
    let second = node(&store.url());
    is_up(&second).await;
    assert_eq!(exhaust(&second, &l).await, 2);
    assert_eq!(store.ask::<String>(&["GET", &key_of("layout")]), "1");
}
