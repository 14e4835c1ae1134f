//! Thresholds: each fires once over the fleet, by whatever it is reached.

use model::Timestamp;
use rules::budget::Fired;

use super::adjust::by;
use super::{
    Arc, Budget, Fleet, Store, budget, held, hold, is_open, is_settled, parts, row, spend, teller,
    teller_with, until_answered, wait_for,
};
use crate::Crossing;

/// Nodes that know a budget, and the percents that they have told of it.
struct Watched {
    nodes: Vec<Fleet>,
    told: Vec<tokio::sync::mpsc::Receiver<Crossing>>,
}

impl Watched {
    async fn over(store: &Store, names: &[&str], budget: &Arc<Budget>) -> Self {
        let mut nodes = Vec::new();
        for name in names {
            let node = teller(store, name).await;
            node.know(std::slice::from_ref(budget));
            nodes.push(node);
        }
        let told = nodes.iter().map(|node| node.crossings().unwrap()).collect();
        Self { nodes, told }
    }

    /// Waits until the nodes have told of these, each of its own, and of no others.
    fn expect(&mut self, expected: &[&[u8]]) {
        let mut told = vec![Vec::new(); self.told.len()];
        let mut hear = || {
            for (said, heard) in told.iter_mut().zip(&mut self.told) {
                said.extend(std::iter::from_fn(|| heard.try_recv().ok()).map(|it| it.percent));
            }
            told.concat().len() >= expected.concat().len()
        };
        wait_for("them to be told", || hear().then_some(()));
        assert_eq!(told, expected);
    }

    async fn settled(&self) {
        for node in &self.nodes {
            is_settled(node).await;
        }
    }
}

const NOTHING: &[&[u8]] = &[&[], &[]];

#[tokio::test(flavor = "multi_thread")]
async fn the_node_whose_call_reaches_a_threshold_tells_of_it_and_no_other() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let mut fleet = Watched::over(&store, &["a", "b"], &ten).await;
    spend(&fleet.nodes[0], &ten, 4, 4).await.unwrap();
    fleet.settled().await;
    fleet.expect(NOTHING);
    // An overrun that reaches both.
    spend(&fleet.nodes[1], &ten, 1, 7).await.unwrap();
    fleet.settled().await;
    let crossing = wait_for("it to be told", || fleet.told[1].try_recv().ok());
    assert_eq!((crossing.percent, crossing.account.posted), (50, parts(11)));
    fleet.expect(&[&[], &[100]]);
    // An adjustment that takes: nothing is left to fire.
    fleet.nodes[0].adjust(&ten, by("less", &ten, -3)).await.unwrap();
    fleet.expect(NOTHING);
    assert_eq!(row(&store, &ten).fired, Fired::from_iter([50, 100]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adjustment_that_takes_reaches_a_threshold() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let mut fleet = Watched::over(&store, &["a", "b"], &ten).await;
    spend(&fleet.nodes[0], &ten, 4, 4).await.unwrap();
    fleet.settled().await;
    fleet.nodes[1].adjust(&ten, by("less", &ten, -4)).await.unwrap();
    fleet.settled().await;
    fleet.expect(&[&[], &[50]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_reached_while_redis_was_away_is_told_once_when_all_have_told() {
    let (mut store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let mut fleet = Watched::over(&store, &["a", "b"], &ten).await;
    let mut open = Vec::new();
    for node in &fleet.nodes {
        let mut held = held(node, &ten, 3).await.unwrap();
        held.dispatch().await.unwrap();
        open.push(held);
    }
    store.kill();
    wait_for("it to be found out", || (!fleet.nodes.iter().any(Fleet::is_open)).then_some(()));
    // Neither reaches it alone, and Redis hears of neither.
    open.into_iter().for_each(|held| drop(held.settle(&[])));
    store.restart();
    for node in &fleet.nodes {
        is_open(node).await;
    }
    wait_for("it to fire", || (row(&store, &ten).fired.has(50)).then_some(()));
    fleet.settled().await;
    drop(until_answered(&fleet.nodes[0], &ten, 1).await.unwrap());
    fleet.settled().await;
    let told =
        wait_for("it to be told", || fleet.told.iter_mut().find_map(|told| told.try_recv().ok()));
    assert_eq!(told.percent, 50);
    fleet.expect(NOTHING);
    // And a loss of what fired tells nothing again.
    store.ask::<()>(&["FLUSHALL"]);
    drop(until_answered(&fleet.nodes[1], &ten, 4).await.unwrap());
    fleet.settled().await;
    assert_eq!(row(&store, &ten).fired, Fired::from_iter([50]));
    fleet.expect(NOTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_to_be_assumed_reaches_a_threshold() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let directory = tempfile::tempdir().unwrap();
    let start = |at: &std::path::Path| {
        let at = Some(at.to_owned());
        teller_with(&store.url(), "a", |options| options.directory = at)
    };
    let node = start(directory.path());
    is_open(&node).await;
    let mut held = held(&node, &ten, 6).await.unwrap();
    held.dispatch().await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    node.till.purse.silence(true);
    let _dead = (node, held);
    let again = start(copy.path());
    let mut told = again.crossings().unwrap();
    is_open(&again).await;
    is_settled(&again).await;
    // It has not heard of the budget yet.
    again.know(std::slice::from_ref(&ten));
    wait_for("it to fire", || told.try_recv().ok().filter(|told| told.percent == 50));
    assert!(told.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_thresholds_that_is_edited_fires_what_is_new_alone() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let mut fleet = Watched::over(&store, &["a", "b"], &ten).await;
    spend(&fleet.nodes[0], &ten, 6, 6).await.unwrap();
    fleet.settled().await;
    fleet.expect(&[&[50], &[]]);
    let edited = Arc::new(Budget { thresholds: vec![20, 50, 70], ..(*ten).clone() });
    fleet.nodes.iter().for_each(|node| node.know(std::slice::from_ref(&edited)));
    spend(&fleet.nodes[1], &edited, 1, 1).await.unwrap();
    fleet.settled().await;
    fleet.expect(&[&[], &[20, 70]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_an_earlier_version_keeps_what_has_fired_and_is_listed_from_then_on() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let mut fleet = Watched::over(&store, &["a"], &ten).await;
    let key = super::super::Organisation::default().row(&hold(&ten, 0).row);
    let epoch = fleet.nodes[0].money().epoch.to_le_bytes();
    let old = [&epoch[..], &6_i64.to_le_bytes(), &[0; 16], &[0b01]].concat();
    let mut connection = redis::Client::open(store.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg(&key).arg(old).exec(&mut connection).unwrap();
    spend(&fleet.nodes[0], &ten, 1, 4).await.unwrap();
    fleet.settled().await;
    fleet.expect(&[&[100]]);
    let row = row(&store, &ten);
    assert_eq!((row.posted, row.fired), (parts(10), Fired::from_iter([50, 100])));
    let page = fleet.nodes[0].page(&ten, 0, 10).await.unwrap();
    assert_eq!((page.total, page.rows[0].account), (1, row));
    assert_eq!(page.rows[0].row.period, Timestamp::default());
}
