//! Laws of the fleet's money, against a real Redis.

pub(super) mod adjust;
mod crash;
mod differential;
mod history;
mod loss;
mod machine;
mod mutants;
mod reconcile;
mod recover;
mod repeat;
mod reports;
mod threshold;
mod view;

use std::sync::atomic::{AtomicU64, Ordering};

use rules::budget::{Account, Budget, Fired, Hold};

use super::mutants::{histories, organisation};
use super::store::{cluster, patience};
use super::{
    Arc, Denial, Duration, Fleet, JoinSet, Options, Plan, Store, fixed, key_of, node_with, take,
    wait_for,
};
use crate::money::sample::{budget, hold, parts, plan};
use crate::{Held, Standing};

/// A node of this name that takes part in money, once it may hold any.
async fn teller(store: &Store, name: &str) -> Fleet {
    let node = teller_with(&store.url(), name, |_| {});
    is_open(&node).await;
    node
}

fn teller_with(url: &str, name: &str, change: impl FnOnce(&mut Options)) -> Fleet {
    let node = node_with(url, |options| {
        options.patience = Duration::from_secs(20);
        options.node = Arc::from(name);
        change(options);
    });
    node.begin_money();
    node
}

pub(super) async fn is_open(node: &Fleet) {
    let open = async {
        while !node.is_open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(patience(), open).await.expect("money is open");
}

/// An id of its own for each call.
fn fresh() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 64
}

/// Holds so much of a budget.
async fn held(node: &Fleet, budget: &Arc<Budget>, amount: i64) -> Result<Held, Denial> {
    held_as(node, fresh(), vec![hold(budget, amount)]).await
}

async fn held_as(node: &Fleet, id: u128, holds: Vec<Hold>) -> Result<Held, Denial> {
    let reservation = take(node, &plan(id, holds)).await?;
    Ok(*reservation.held.expect("it holds"))
}

/// Holds so much and spends so much of it.
pub(super) async fn spend(
    node: &Fleet,
    budget: &Arc<Budget>,
    amount: i64,
    cost: i64,
) -> Result<(), Denial> {
    let mut held = held(node, budget, amount).await?;
    held.dispatch().await.unwrap();
    held.settle(&[parts(cost)]);
    Ok(())
}

/// Holds again until the store answers.
async fn until_answered(node: &Fleet, budget: &Arc<Budget>, amount: i64) -> Result<Held, Denial> {
    let answered = async {
        loop {
            match held(node, budget, amount).await {
                Err(Denial::Away) => tokio::time::sleep(Duration::from_millis(2)).await,
                other => return other,
            }
        }
    };
    tokio::time::timeout(patience(), answered).await.expect("the store answers")
}

/// Waits until the store has taken every end.
pub(super) async fn is_settled(node: &Fleet) {
    let settled = async {
        while node.till.purse.counts().1 > 0 || !node.is_open() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(patience(), settled).await.expect("the store takes the ends");
}

/// What the store holds of a budget's row: nothing where it is of another epoch.
fn row(store: &Store, budget: &Arc<Budget>) -> Account {
    account_at(store, &organisation().row(&hold(budget, 0).row))
}

fn account_at(store: &Store, key: &[u8]) -> Account {
    let key = std::str::from_utf8(key).unwrap();
    let value: Option<Vec<u8>> = store.ask(&["GET", key]);
    let epoch: Vec<u8> = store.ask(&["GETRANGE", &key_of("epoch"), "0", "7"]);
    let Some(value) = value.filter(|value| value[..8] == epoch) else { return Account::default() };
    crate::fleet::money::row(&value).unwrap().1
}

fn account(posted: i64, pending: i64) -> Account {
    Account { posted: parts(posted), pending: parts(pending), ..Account::default() }
}

/// A row without its thresholds.
fn spent(store: &Store, budget: &Arc<Budget>) -> Account {
    Account { fired: Fired::default(), ..row(store, budget) }
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn what_is_held_is_settled_or_void_once() {
    let store = Store::start();
    let (node, ten) = (teller(&store, "a").await, Arc::new(budget("ten", 10)));
    let mut first = held(&node, &ten, 6).await.unwrap();
    assert_eq!(spent(&store, &ten), account(0, 6));
    let short = held(&node, &ten, 5).await.unwrap_err();
    assert_eq!(short, Denial::Overdrawn { hold: 0, left: parts(4) });
    drop(held(&node, &ten, 4).await.unwrap());
    is_settled(&node).await;
    assert_eq!(spent(&store, &ten), account(0, 6));
    first.dispatch().await.unwrap();
    first.settle(&[parts(7)]);
    is_settled(&node).await;
    assert_eq!(spent(&store, &ten), account(7, 0));
    assert_eq!(store.ask::<u64>(&["ZCARD", &key_of("open:a")]), 0);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn draws_and_holds_are_taken_together_or_not_at_all() {
    let store = Store::start();
    let (node, ten) = (teller(&store, "a").await, Arc::new(budget("ten", 10)));
    let both = |burst: u64, amount| Plan {
        draws: vec![fixed("l", burst)],
        ..plan(fresh(), vec![hold(&ten, amount)])
    };
    // Short of money: no token goes.
    assert!(matches!(take(&node, &both(2, 11)).await, Err(Denial::Overdrawn { .. })));
    let one = take(&node, &both(2, 1)).await.unwrap();
    let two = take(&node, &both(2, 1)).await.unwrap();
    // Short of tokens: no money goes.
    assert!(matches!(take(&node, &both(2, 1)).await, Err(Denial::Short { draw: 0, .. })));
    assert_eq!(spent(&store, &ten), account(0, 2));
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn an_id_is_made_once_and_stands_for_its_holds_alone() {
    let store = Store::start();
    let (node, ten) = (teller(&store, "a").await, Arc::new(budget("ten", 10)));
    let id = fresh();
    let mut first = held_as(&node, id, vec![hold(&ten, 3)]).await.unwrap();
    first.dispatch().await.unwrap();
    let again = held_as(&node, id, vec![hold(&ten, 3)]).await.unwrap();
    assert_eq!(again.standing(), Standing::Reserved);
    assert_eq!(spent(&store, &ten), account(0, 3));
    let other = held_as(&node, id, vec![hold(&ten, 4)]).await.unwrap_err();
    assert_eq!(other, Denial::Mismatch);
    drop(again);
    first.settle(&[parts(2)]);
    is_settled(&node).await;
    assert_eq!(spent(&store, &ten), account(2, 0));
    let over = held_as(&node, id, vec![hold(&ten, 3)]).await.unwrap();
    assert_eq!(over.standing(), Standing::Settled);
    drop(over);
    is_settled(&node).await;
    assert_eq!(spent(&store, &ten), account(2, 0));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn three_nodes_drain_one_budget_to_the_unit() {
    let store = Store::start();
    let budgets = [Arc::new(budget("all", 1_000)), Arc::new(budget("wide", 5_000))];
    let mut takers = JoinSet::new();
    for name in ["a", "b", "c"] {
        let node = teller(&store, name).await;
        for task in 0..64 {
            let (node, budgets) = (node.clone(), budgets.clone());
            takers.spawn(async move {
                let mut sum = 0;
                for round in 0..40 {
                    let amount = 1 + (task + round) % 7;
                    let holds = budgets.iter().map(|budget| hold(budget, amount)).collect();
                    let Ok(mut held) = held_as(&node, fresh(), holds).await else { continue };
                    if round % 5 == 4 {
                        continue;
                    }
                    held.dispatch().await.unwrap();
                    held.settle(&[]);
                    sum += amount;
                }
                is_settled(&node).await;
                sum
            });
        }
    }
    let sum: i64 = takers.join_all().await.into_iter().sum();
    let last = teller(&store, "d").await;
    while spend(&last, &budgets[0], 1, 1).await.is_ok() {}
    is_settled(&last).await;
    assert_eq!(spent(&store, &budgets[0]), account(1_000, 0));
    assert_eq!(spent(&store, &budgets[1]), account(sum, 0));
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn a_threshold_fires_once_of_all_nodes() {
    let store = Store::start();
    let ten = Arc::new(budget("ten", 10));
    let nodes = [teller(&store, "a").await, teller(&store, "b").await];
    let mut fired = Vec::new();
    for round in 0..12 {
        let node = &nodes[round % 2];
        if spend(node, &ten, 1, 1).await.is_ok() {
            is_settled(node).await;
            fired.push(nodes.each_ref().map(|node| node.metrics.thresholds.get()));
        }
    }
    // The fifth, by the first node, reaches 50 percent; the tenth, by the second, the whole.
    let expected = [[[0, 0]; 4].as_slice(), &[[1, 0]; 5], &[[1, 1]]].concat();
    assert_eq!(fired, expected);
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn plans_without_holds_ask_nothing_of_money() {
    let store = Store::start();
    let node = super::node(&store.url());
    super::is_up(&node).await;
    take(&node, &super::plan(vec![fixed("l", 1)])).await.unwrap();
    assert!(!store.ask::<bool>(&["EXISTS", &key_of("nodes")]));
    // The first that holds something begins it.
    let ten = Arc::new(budget("ten", 10));
    assert_eq!(held(&node, &ten, 1).await.unwrap_err(), Denial::Away);
    is_open(&node).await;
    drop(held(&node, &ten, 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn all_that_one_organisation_holds_lies_in_one_slot_of_a_cluster() {
    let stores = cluster(3);
    for name in ["acme", "beta", "gamma", "delta"] {
        let nodes = ["a", "b"].map(|node| {
            teller_with(&stores[0].url(), node, |options| {
                options.organisation = name.parse().unwrap();
            })
        });
        let budgets: Vec<_> = ["x", "y", "z"].map(|name| Arc::new(budget(name, 10))).into();
        for node in &nodes {
            is_open(node).await;
            let holds = budgets.iter().map(|budget| hold(budget, 5)).collect();
            let mut held = held_as(node, fresh(), holds).await.unwrap();
            held.dispatch().await.unwrap();
            held.settle(&[]);
            is_settled(node).await;
        }
        assert!(matches!(held(&nodes[0], &budgets[2], 1).await, Err(Denial::Overdrawn { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn an_operator_goes_on_without_a_node_and_charges_what_it_held() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let (gone, node) = (teller(&store, "gone").await, teller(&store, "a").await);
    let mut open = held(&gone, &ten, 4).await.unwrap();
    open.dispatch().await.unwrap();
    gone.till.purse.silence(true);
    assert_eq!(node.estimate("gone").await, Some(1));
    wait_for("it to be charged", || (spent(&store, &ten) == account(4, 0)).then_some(()));
    // It was not gone: what it knows counts instead.
    gone.till.purse.silence(false);
    open.settle(&[parts(1)]);
    is_settled(&gone).await;
    assert_eq!(spent(&store, &ten), account(1, 0));
    gone.till.purse.silence(true);
    store.ask::<()>(&["FLUSHALL"]);
    while held(&node, &ten, 1).await.is_ok() {}
    wait_for("money to be closed", || (!node.is_open()).then_some(()));
    super::is_up(&node).await;
    assert_eq!(node.excuse("gone").await, Some(true));
    is_open(&node).await;
    assert_eq!(node.money().nodes["gone"], crate::Telling::Excused);
    gone.till.purse.silence(false);
    wait_for("it to be told", || (spent(&store, &ten) == account(1, 0)).then_some(()));
}
