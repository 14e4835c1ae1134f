//! A node of a cluster that agrees on who counts: the store in one life, or each node its share.

use std::collections::BTreeSet;

use model::Clock as _;
use rules::outage::{Epoch, Mode as Who, Reach};

use super::money::is_open;
use super::{
    Answer, Arc, Bucket, Denial, Draw, DrawRule, Duration, Fleet, OnOutage, Options, Plan, Short,
    Store, SystemClock, draw, fixed, is_up, node_with, per_second, plan, take, wait_for,
};
use crate::fleet::Place;
use crate::{Reservation, Telling};

/// What two nodes have agreed on, at first.
fn epoch() -> Epoch {
    let members = [(1, "a"), (2, "b")].map(|(node, name)| (node, name.to_owned()));
    Epoch { members: members.into(), ..Epoch::first() }
}

fn member(store: &Store, change: impl FnOnce(&mut Options)) -> Fleet {
    node_with(&store.url(), |options| {
        options.patience = Duration::from_secs(20);
        options.place = Some(Place { number: 1, epoch: Some(epoch()) });
        change(options);
    })
}

/// The node is sure of what it knows, and so is everybody since long ago.
fn confirm(node: &Fleet, era: u64) {
    node.confirm(node.desk.clock.uptime(), era, Duration::from_mins(1));
}

fn shared(name: &str, bucket: Bucket) -> Draw {
    let plain = draw(name, bucket);
    let DrawRule::Limit(limit) = &plain.rule else { return plain };
    let mut limit = rules::limit::Limit::clone(limit);
    limit.on_outage = OnOutage::Share;
    Draw { rule: DrawRule::Limit(Arc::new(limit)), ..plain }
}

async fn ask(node: &Fleet, plan: &Plan) -> Result<Reservation, Denial> {
    match node.draw(plan, node.desk.clock.uptime()) {
        Answer::Now(decided) => decided,
        Answer::Later(pending) => pending.wait(plan).await,
    }
}

/// The life that a node finds, other than one that is known.
fn finds(node: &Fleet, other: u64) -> u64 {
    wait_for("a life", || match node.report().reach {
        Reach::At { life } if life != other => Some(life),
        Reach::At { .. } | Reach::Waits | Reach::Away | Reach::Ahead { .. } => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_counts_once_it_is_agreed_on_and_no_longer() {
    let store = Store::start();
    let node = member(&store, |_| {});
    is_up(&node).await;
    let slow = plan(vec![fixed("slow", 3)]);
    take(&node, &slow).await.unwrap();
    let life = finds(&node, 0);
    node.hear(&Epoch { life, ..epoch() });
    take(&node, &slow).await.unwrap();
    // The others count in another one: this one has been forgotten, or is another server's.
    let later = Epoch { era: 1, life: life + 10_000_000_000, ..epoch() };
    node.hear(&later);
    wait_for("the store to be left", || (!node.is_up()).then_some(()));
    let next = finds(&node, life);
    assert_eq!(take(&node, &slow).await.unwrap_err(), Denial::Away);
    node.hear(&Epoch { era: 2, life: next, ..epoch() });
    is_up(&node).await;
    let short = take(&node, &slow).await.unwrap_err();
    assert_eq!(short, Denial::Short { draw: 0, short: Short::Never }, "it begins empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_number_begins_the_store_anew_and_a_lower_one_is_not_counted_in() {
    let store = Store::start();
    let (node, late) = (member(&store, |_| {}), member(&store, |_| {}));
    is_up(&node).await;
    is_up(&late).await;
    let first = finds(&node, 0);
    node.hear(&Epoch { number: 1, era: 1, ..epoch() });
    assert!(!node.is_up() || node.report().reach != Reach::Waits, "it waits for the others");
    confirm(&node, 1);
    let second = finds(&node, first);
    assert!(second > first);
    node.hear(&Epoch { number: 1, era: 1, life: second, ..epoch() });
    is_up(&node).await;
    let slow = plan(vec![fixed("slow", 3)]);
    assert!(matches!(take(&node, &slow).await, Err(Denial::Short { .. })));
    // A node that knows number 2 begins it anew; this one sees a number that it does not know.
    let ahead = member(&store, |options| {
        let epoch = Epoch { number: 2, era: 0, ..epoch() };
        options.place = Some(Place { number: 2, epoch: Some(epoch) });
    });
    finds(&ahead, second);
    drop(take(&node, &slow).await);
    wait_for("the number", || (node.report().reach == Reach::Ahead { number: 2 }).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_begins_empty_and_fills_at_its_part_of_the_rate() {
    let store = Store::start();
    let node = member(&store, |_| {});
    is_up(&node).await;
    let life = finds(&node, 0);
    let (mine, others) = (shared("s", per_second("100", "20")), fixed("other", 1_000));
    let alone = plan(vec![mine]);
    let both = plan(vec![others, shared("s", per_second("100", "20"))]);
    let agreed = Epoch { life, ..epoch() };
    node.hear(&agreed);
    assert_eq!(ask(&node, &alone).await.unwrap_err(), Denial::Away, "nobody has confirmed it");
    confirm(&node, 0);
    ask(&node, &alone).await.unwrap();
    let sharing: BTreeSet<u64> = [1, 2].into();
    node.hear(&Epoch { era: 1, mode: Who::Local { sharing }, ..agreed });
    assert_eq!(ask(&node, &alone).await.unwrap_err(), Denial::Away, "the others may still count");
    confirm(&node, 1);
    let clock = SystemClock::start();
    let mut passed = 0;
    let empty = ask(&node, &alone).await.unwrap_err();
    assert!(matches!(empty, Denial::Short { draw: 0, short: Short::For(_) }), "{empty:?}");
    let began = clock.uptime();
    while clock.uptime().since(began) < Duration::from_millis(400) {
        passed += u32::from(ask(&node, &alone).await.is_ok());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Half of a hundred a second.
    let most = clock.uptime().since(began).as_millis() / 20 + 1;
    assert!(u128::from(passed) <= most && passed > 10, "{passed} of {most}");
    // What is not shared goes to the store.
    let taken = loop {
        match ask(&node, &both).await {
            Ok(reservation) => break reservation,
            Err(Denial::Short { draw: 1, .. }) => tokio::time::sleep(PAUSE).await,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(taken.taken.len(), 2);
    assert!(taken.taken.iter().all(Option::is_some));
}

/// A store that nobody has counted in looks new to a node that comes first; but its cluster knows
/// who has spent.
#[tokio::test(flavor = "multi_thread")]
async fn money_opens_when_every_node_that_the_cluster_knows_has_told() {
    let store = Store::start();
    let first = member(&store, |options| options.node = Arc::from("a"));
    first.begin_money();
    wait_for("it to ask for the other", || {
        (first.money().nodes.get("b") == Some(&Telling::Awaited)).then_some(())
    });
    assert!(!first.is_open());
    let second = member(&store, |options| {
        options.node = Arc::from("b");
        options.place = Some(Place { number: 2, epoch: Some(epoch()) });
    });
    second.begin_money();
    is_open(&first).await;
    is_open(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_goes_on_without_a_node_that_the_cluster_knows() {
    let store = Store::start();
    let first = member(&store, |options| options.node = Arc::from("a"));
    first.begin_money();
    wait_for("it to ask for the other", || {
        (first.money().nodes.get("b") == Some(&Telling::Awaited)).then_some(())
    });
    assert_eq!(first.excuse("b").await, Some(true));
    is_open(&first).await;
}

/// What it holds on leases it may spend, and no more is given to it: the others may have shares by
/// then. A limit that is not shared goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_nobody_stops_when_its_authority_and_its_leases_are_over() {
    let store = Store::start();
    let node = member(&store, |_| {});
    is_up(&node).await;
    let leased = {
        let plain = shared("leased", per_second("2000", "2000"));
        let DrawRule::Limit(limit) = &plain.rule else { panic!("a limit") };
        let mut limit = rules::limit::Limit::clone(limit);
        limit.mode = rules::limit::Mode::Leased;
        plan(vec![Draw { rule: DrawRule::Limit(Arc::new(limit)), ..plain }])
    };
    let (exact, other) = (plan(vec![shared("exact", per_second("900", "900"))]), fixed("o", 9));
    node.hear(&Epoch { life: finds(&node, 0), ..epoch() });
    confirm(&node, 0);
    let asked = node.desk.clock.uptime();
    let lasted = async |plan: &Plan| {
        while ask(&node, plan).await != Err(Denial::Away) {
            tokio::time::sleep(PAUSE).await;
        }
        node.desk.clock.uptime().since(asked)
    };
    let (leased, exact) = tokio::join!(lasted(&leased), lasted(&exact));
    let (sure, spent) = (rules::outage::AUTHORITY, rules::outage::LEASE);
    assert!(exact > sure / 2 && exact < sure + SLACK, "{exact:?}");
    assert!(leased > sure && leased < sure + spent + SLACK, "{leased:?}");
    ask(&node, &plan(vec![other])).await.unwrap();
}

/// For a busy machine.
const SLACK: Duration = Duration::from_millis(400);

const PAUSE: Duration = Duration::from_millis(2);
