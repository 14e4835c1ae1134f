//! What operators see: all rows of a budget and all that happened to them, at any node.

use std::collections::BTreeSet;

use model::Timestamp;
use rules::budget::{Calendar, Every, RowKey};
use rules::plan::Subject;

use super::adjust::by;
use super::{
    Arc, Budget, Fleet, Hold, Store, budget, fresh, held_as, hold, is_open, is_settled, parts,
    spend, teller, until_answered, wait_for,
};
use crate::Deed;

/// Spends so much of a subject's row of a budget.
async fn spend_of(node: &Fleet, budget: &Arc<Budget>, subject: &str, (period, cost): (u64, i64)) {
    let period = budget.calendar.at(Timestamp::from_secs(period)).start;
    let row = RowKey::of(budget, Subject::Text(Arc::from(subject)), period);
    let hold = Hold { row, ..hold(budget, cost) };
    let mut held = held_as(node, fresh(), vec![hold]).await.unwrap();
    held.dispatch().await.unwrap();
    held.settle(&[]);
}

/// All rows of a budget as a node pages through them, `limit` at a time: subjects with what they
/// have spent.
async fn pages(node: &Fleet, budget: &Budget, limit: usize) -> Vec<(String, i64)> {
    let (mut found, mut from, mut total) = (Vec::new(), 0, None);
    loop {
        let page = node.page(budget, from, limit).await.unwrap();
        assert!(page.rows.len() <= limit);
        assert_eq!(*total.get_or_insert(page.total), page.total);
        let rows = page.rows.iter();
        found.extend(rows.map(|row| (row.row.subject.to_string(), row.account.posted.parts())));
        let Some(next) = page.next else {
            assert_eq!(total, Some(found.len() as u64));
            return found;
        };
        from = next;
    }
}

/// So long that it is one subject, told by a digest in the store.
fn long() -> String {
    "x".repeat(300)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_budget_is_listed_at_any_node_in_pages_and_again_after_a_loss() {
    let store = Store::start();
    let nodes = [teller(&store, "a").await, teller(&store, "b").await];
    let (ours, other) = (Arc::new(budget("ours", 1_000)), Arc::new(budget("other", 1_000)));
    let mut expected = BTreeSet::new();
    for number in 0..25 {
        let subject = if number == 7 { long() } else { format!("agent-{number:02}") };
        spend_of(&nodes[number % 2], &ours, &subject, (0, number as i64)).await;
        expected.insert((subject, number as i64));
    }
    spend_of(&nodes[0], &other, "agent-00", (0, 1)).await;
    for _ in 0..2 {
        for node in &nodes {
            is_settled(node).await;
        }
        for (node, limit) in nodes.iter().zip([4, 25]) {
            let found = pages(node, &ours, limit).await;
            assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected);
            assert_eq!(found.len(), expected.len());
        }
        store.ask::<()>(&["FLUSHALL"]);
        drop(until_answered(&nodes[0], &other, 1).await.unwrap());
        for node in &nodes {
            is_open(node).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_period_comes_first_and_what_is_forgotten_leaves_the_list() {
    let store = Store::start();
    let node = teller(&store, "a").await;
    let day = Arc::new(Budget {
        calendar: Calendar::new(Every::Hour, rules::budget::zone("UTC").unwrap(), None),
        ..budget("day", 1_000)
    });
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    // The rows of an hour that began five hours ago are forgotten.
    for hours in [5, 2, 0, 1] {
        for subject in ["a", "b"] {
            let at = now - hours * 3_600;
            spend_of(&node, &day, &format!("{subject}{hours}"), (at, 1)).await;
        }
    }
    is_settled(&node).await;
    let found: Vec<String> =
        pages(&node, &day, 2).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["b0", "a0", "b1", "a1", "b2", "a2"]);
    let lists: Vec<String> = store.ask(&["KEYS", &super::key_of("rows:*")]);
    assert_eq!(lists.len(), 1);
    assert_eq!(store.ask::<u64>(&["ZCARD", &lists[0]]), 6);
    let left: i64 = store.ask(&["TTL", &lists[0]]);
    assert!((2 * 3_600..=3 * 3_600).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_told_at_every_node_and_again_after_a_loss() {
    let (store, ten) = (Store::start(), Arc::new(budget("ten", 10)));
    let nodes = [teller(&store, "a").await, teller(&store, "b").await];
    nodes[0].adjust(&ten, by("OPS-1", &ten, 5)).await.unwrap();
    spend(&nodes[1], &ten, 8, 8).await.unwrap();
    for _ in 0..2 {
        for node in &nodes {
            is_settled(node).await;
            let mut history = Vec::new();
            for _ in 0..5_000 {
                history = node.history(&ten.id).await.unwrap_or_default();
                if history.len() == 2 {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let [adjusted, crossed] = &*history else { panic!("{history:?}") };
            assert!(matches!(&adjusted.deed, Deed::Adjusted { by, .. } if *by == parts(5)));
            assert_eq!(crossed.deed, Deed::Crossed { percent: 50 });
        }
        store.ask::<()>(&["FLUSHALL"]);
        drop(until_answered(&nodes[0], &ten, 1).await.unwrap());
        wait_for("both to go on", || nodes.iter().all(Fleet::is_open).then_some(()));
    }
}
