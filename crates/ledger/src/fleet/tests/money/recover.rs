//! Nodes that are gone, and what operators and others make of what they left.

use model::{Clock, Timestamp, Uptime};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use redis::aio::MultiplexedConnection;
use rules::budget::{Calendar, Every, zone};

use super::{
    Arc, Denial, Fleet, Store, account, budget, fresh, held, hold, is_open, is_settled, parts,
    plan, spend, spent, teller, until_answered, wait_for,
};
use crate::fleet::Organisation;
use crate::fleet::money::{Kind, Purse, Wanted, excuse};
use crate::{BudgetMetrics, Statement, Telling, row_name};

async fn connection(store: &Store) -> MultiplexedConnection {
    let client = redis::Client::open(store.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// The store forgets, and this node finds it out.
async fn forget(store: &Store, node: &Fleet) {
    let other = Arc::new(budget("other", 1_000));
    store.ask::<()>(&["FLUSHALL"]);
    while held(node, &other, 1).await.is_ok() {}
    wait_for("money to be closed", || (!node.is_open()).then_some(()));
    super::super::is_up(node).await;
}

/// Brings a node to have told a part of its report in this epoch, so much of a row, and no more.
fn tell_a_part(store: &Store, node: &str, row: &[u8], posted: u64) {
    let script = "local epoch = redis.call('GETRANGE', KEYS[1], 0, 7) \
        redis.call('HSET', KEYS[2], ARGV[1], epoch .. struct.pack('<I8BI2', 1, 0, 0)) \
        local value = redis.call('GET', KEYS[3]) \
        local told = struct.unpack('<i8', value, 9) + ARGV[2] \
        redis.call('SET', KEYS[3], epoch .. struct.pack('<i8', told) .. string.sub(value, 17))";
    let (row, posted) = (std::str::from_utf8(row).unwrap(), posted.to_string());
    let keys = ["{default}:epoch", "{default}:nodes", row];
    store.ask::<()>(&[&["EVAL", script, "3"], &keys[..], &[node, &posted]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_told_all_is_not_excused_nor_is_anybody_in_an_epoch_that_is_over() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let (gone, node) = (teller(&store, "gone").await, teller(&store, "a").await);
    spend(&gone, &ten, 3, 3).await.unwrap();
    is_settled(&gone).await;
    let before = node.money().epoch;
    assert_eq!(node.excuse("gone").await, Some(false));
    forget(&store, &node).await;
    is_open(&node).await;
    is_open(&gone).await;
    // A caller that is late does not make the store forget what was told since.
    let mut connection = connection(&store).await;
    let organisation = Organisation::default();
    assert_eq!(excuse(&mut connection, &organisation, ("gone", before)).await.unwrap(), None);
    assert_ne!(node.money().nodes["gone"], Telling::Excused);
    assert_eq!(node.excuse("gone").await, Some(false));
    assert_eq!(spent(&store, &ten), account(3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_told_a_part_and_died_is_excused_and_counts_once_when_it_is_back() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let (gone, node) = (teller(&store, "gone").await, teller(&store, "a").await);
    for each in [&gone, &node] {
        spend(each, &ten, 3, 3).await.unwrap();
        is_settled(each).await;
    }
    gone.till.purse.silence(true);
    forget(&store, &node).await;
    wait_for("the other to have told", || (spent(&store, &ten) == account(3, 0)).then_some(()));
    tell_a_part(&store, "gone", &Organisation::default().row(&hold(&ten, 0).row), 3);
    assert_eq!(held(&node, &ten, 1).await.unwrap_err(), Denial::Away);
    assert_eq!(node.excuse("gone").await, Some(true));
    is_open(&node).await;
    assert_eq!(node.money().nodes["gone"], Telling::Excused);
    spend(&node, &ten, 1, 1).await.unwrap();
    gone.till.purse.silence(false);
    // Its part is told for nobody knows what of: everybody tells again.
    let has_told = |telling: &Telling| matches!(telling, Telling::Told | Telling::Introduced);
    wait_for("it to have told", || {
        node.money().nodes.get("gone").is_some_and(has_told).then_some(())
    });
    for each in [&gone, &node] {
        is_open(each).await;
        is_settled(each).await;
    }
    let short = until_answered(&node, &ten, 4).await.unwrap_err();
    assert_eq!(short, Denial::Overdrawn { hold: 0, left: parts(3) });
    assert_eq!(spent(&store, &ten), account(7, 0));
}

/// Holds of an earlier life of a node, which nothing has left by: more than a page of them, behind
/// a page of holds that are this life's.
#[tokio::test(flavor = "multi_thread")]
async fn dead_holds_are_void_also_behind_a_page_of_living_ones() {
    const PAGE: usize = 512;
    let (store, many) = (Store::start(), Arc::new(budget("many", 10_000)));
    let node = teller(&store, "a").await;
    let mut living = Vec::new();
    while living.len() < PAGE + 10 {
        living.push(until_answered(&node, &many, 1).await.unwrap());
    }
    // Another life made these later: nobody here knows them.
    let dead = super::teller_with(&store.url(), "b", |_| {});
    is_open(&dead).await;
    let mut held = Vec::new();
    while held.len() < PAGE + 10 {
        held.push(until_answered(&dead, &many, 1).await.unwrap());
    }
    dead.till.purse.silence(true);
    assert_eq!(store.ask::<usize>(&["ZCARD", "{default}:open:b"]), PAGE + 10);
    store.ask::<()>(&[
        "ZUNIONSTORE",
        "{default}:open:a",
        "2",
        "{default}:open:a",
        "{default}:open:b",
    ]);
    let all = i64::try_from(living.len()).unwrap();
    wait_for("the dead holds to be void", || {
        (spent(&store, &many) == account(0, all)).then_some(())
    });
    assert_eq!(store.ask::<usize>(&["ZCARD", "{default}:open:a"]), living.len());
}

/// A clock that stands where it is put.
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn uptime(&self) -> Uptime {
        Uptime::default()
    }
}

#[test]
fn what_was_spent_in_periods_long_over_is_forgotten_and_the_rest_is_not() {
    let place = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand(Mutex::new(Timestamp::from_micros(0))));
    let at = |hours: u64| *clock.0.lock() = Timestamp::from_micros(hours * 3_600_000_000);
    let mut hourly = budget("hourly", 10);
    hourly.calendar = Calendar::new(Every::Hour, zone("UTC").unwrap(), None);
    let (hourly, endless) = (Arc::new(hourly), Arc::new(budget("endless", 10)));
    at(10);
    let open = || {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let who = (Organisation::default(), Arc::from("a"));
        let metrics = (Counter::default(), BudgetMetrics::default());
        Purse::open(Some(place.path()), who, clock, metrics).unwrap()
    };
    let rows: Vec<String> = [&hourly, &endless]
        .map(|budget| {
            let mut hold = hold(budget, 1);
            hold.row.period = hold.budget.calendar.at(clock.now()).start;
            row_name(&hold.row)
        })
        .into();
    let purse = open();
    let mut holds = [hold(&hourly, 2), hold(&endless, 3)];
    holds[0].row.period = hourly.calendar.at(clock.now()).start;
    let wanted = Wanted::of(&Organisation::default(), &plan(fresh(), holds.into())).unwrap();
    assert!(purse.seat(&wanted) && purse.keep(wanted.id, 0) && purse.dispatch(wanted.id).is_some());
    purse.end(wanted.id, Kind::Settle, &[]);
    // Its hour ends at eleven, and two more have passed at one; it is looked at once an hour.
    at(12);
    purse.prune();
    drop(purse);
    let stated = || Statement::read(place.path()).unwrap().rows;
    assert_eq!(stated()[&rows[0]].posted, parts(2));
    at(13);
    let purse = open();
    purse.prune();
    drop(purse);
    let left = stated();
    // The end that the store has not heard of names the row still.
    assert_eq!(left[&rows[0]].posted, parts(0));
    assert_eq!(left[&rows[1]].posted, parts(3));
}
