//! Laws of reservations: all or nothing, once each, nothing lost.

mod bounds;
mod crash;
pub(crate) mod disk;
mod laws;
mod statement;

use std::sync::Arc;

use model::{Amount, ReservationId, Uptime};
use rules::budget::{Account, Budget, Fired, Hold};

use super::sample::{budget, hold, parts, plan};
use super::{DispatchError, Held, Standing};
use crate::{Denial, Embedded};

fn take(ledger: &Embedded, id: u128, holds: Vec<Hold>) -> Result<Held, Denial> {
    let taken = ledger.take(&plan(id, holds), Uptime::default())?;
    Ok(*taken.held.expect("a plan with holds holds"))
}

fn account(ledger: &Embedded, budget: &Arc<Budget>) -> Account {
    ledger.accounts().account(&hold(budget, 0).row)
}

/// Posted and pending of a budget of 10 after a take of 4 went its way.
async fn check(way: impl AsyncFnOnce(Held), posted: i64, pending: i64) {
    let (ledger, ten) = (Embedded::in_memory(), Arc::new(budget("ten", 10)));
    way(take(&ledger, 1, vec![hold(&ten, 4)]).unwrap()).await;
    let account = account(&ledger, &ten);
    assert_eq!((account.posted, account.pending), (parts(posted), parts(pending)));
}

#[tokio::test]
async fn what_is_dropped_before_the_dispatch_is_void() {
    check(async |held| drop(held), 0, 0).await;
}

#[tokio::test]
async fn what_is_dropped_after_the_dispatch_is_charged_whole() {
    let way = async |mut held: Held| {
        held.dispatch().await.unwrap();
        drop(held);
    };
    check(way, 4, 0).await;
}

#[tokio::test]
async fn what_it_did_cost_is_posted_also_where_it_is_more() {
    for cost in [0, 3, 4, 11] {
        let way = async |mut held: Held| {
            held.dispatch().await.unwrap();
            held.settle(&[parts(cost)]);
        };
        check(way, cost, 0).await;
    }
}

#[tokio::test]
async fn what_had_no_effect_is_void_though_it_was_dispatched() {
    let way = async |mut held: Held| {
        held.dispatch().await.unwrap();
        held.void();
    };
    check(way, 0, 0).await;
}

#[test]
fn a_plan_that_one_budget_cannot_pay_holds_nothing_of_any() {
    let ledger = Embedded::in_memory();
    let (wide, narrow) = (Arc::new(budget("wide", 10)), Arc::new(budget("narrow", 2)));
    let both = vec![hold(&wide, 3), hold(&narrow, 3)];
    let denied = take(&ledger, 1, both).unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 1, left: parts(2) });
    assert_eq!(account(&ledger, &wide), Account::default());
    assert!(take(&ledger, 2, vec![hold(&wide, 10)]).is_ok());
}

#[test]
fn two_holds_of_one_budget_count_twice() {
    let (ledger, ten) = (Embedded::in_memory(), Arc::new(budget("ten", 10)));
    let denied = take(&ledger, 1, vec![hold(&ten, 6), hold(&ten, 6)]).unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 1, left: parts(4) });
    let held = take(&ledger, 2, vec![hold(&ten, 4), hold(&ten, 6)]).unwrap();
    assert_eq!(account(&ledger, &ten).pending, parts(10));
    held.void();
    assert_eq!(account(&ledger, &ten), Account::default());
}

#[test]
fn a_known_id_holds_once_and_ends_once() {
    let (ledger, ten) = (Embedded::in_memory(), Arc::new(budget("ten", 10)));
    let first = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    let again = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    assert_eq!(account(&ledger, &ten).pending, parts(4));
    first.settle(&[]);
    again.settle(&[parts(9)]);
    assert_eq!(account(&ledger, &ten).posted, parts(4));
    let late = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    assert_eq!(late.standing(), Standing::Settled);
    drop(late);
    assert_eq!(account(&ledger, &ten).posted, parts(4));
}

#[test]
fn a_known_id_with_another_amount_or_row_is_a_mismatch() {
    let ledger = Embedded::in_memory();
    let (ten, other) = (Arc::new(budget("ten", 10)), Arc::new(budget("other", 10)));
    let held = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    for holds in [vec![hold(&ten, 5)], vec![hold(&other, 4)], vec![hold(&ten, 4); 2]] {
        assert_eq!(take(&ledger, 1, holds.clone()), Err(Denial::Mismatch));
    }
    held.void();
    assert_eq!(take(&ledger, 1, vec![hold(&ten, 5)]), Err(Denial::Mismatch));
}

#[tokio::test]
async fn a_repeat_that_is_dropped_gives_back_nothing_that_may_have_left() {
    let (ledger, ten) = (Embedded::in_memory(), Arc::new(budget("ten", 10)));
    let mut first = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    let again = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    first.dispatch().await.unwrap();
    drop(again);
    assert_eq!(account(&ledger, &ten).pending, parts(4));
    first.settle(&[]);
    assert_eq!(account(&ledger, &ten).posted, parts(4));
}

#[tokio::test]
async fn what_has_ended_may_not_leave() {
    let (ledger, ten) = (Embedded::in_memory(), Arc::new(budget("ten", 10)));
    let mut first = take(&ledger, 1, vec![hold(&ten, 4)]).unwrap();
    take(&ledger, 1, vec![hold(&ten, 4)]).unwrap().void();
    assert_eq!(first.dispatch().await, Err(DispatchError::Ended));
}

#[test]
fn a_budget_that_only_reports_holds_what_it_does_not_have() {
    let ledger = Embedded::in_memory();
    let shadow = Arc::new(Budget { shadow: true, ..budget("shadow", 1) });
    take(&ledger, 1, vec![hold(&shadow, 4)]).unwrap().settle(&[]);
    assert_eq!(account(&ledger, &shadow).posted, parts(4));
}

#[test]
fn a_budget_of_nothing_pays_nothing_but_what_is_free() {
    let (ledger, zero) = (Embedded::in_memory(), Arc::new(budget("zero", 0)));
    let denied = take(&ledger, 1, vec![hold(&zero, 1)]).unwrap_err();
    assert_eq!(denied, Denial::Overdrawn { hold: 0, left: Amount::ZERO });
    assert!(take(&ledger, 2, vec![hold(&zero, 0)]).is_ok());
}

#[test]
fn sixty_four_agents_drain_a_budget_to_the_unit() {
    let (ledger, thousand) = (Embedded::in_memory(), Arc::new(budget("thousand", 1_000)));
    let passed: usize = std::thread::scope(|scope| {
        let agents: Vec<_> = (0..64_u128)
            .map(|agent| {
                let (ledger, thousand) = (&ledger, &thousand);
                scope.spawn(move || {
                    let ids = (0..40).map(|turn| agent << 64 | turn);
                    let takes = ids.map(|id| take(ledger, id, vec![hold(thousand, 1)]));
                    let settled = takes.filter_map(Result::ok).map(|held| drop(held.settle(&[])));
                    settled.fold(0, |count, ()| count + 1)
                })
            })
            .collect();
        agents.into_iter().map(|agent| agent.join().unwrap()).sum()
    });
    assert_eq!(passed, 1_000);
    let account = account(&ledger, &thousand);
    assert_eq!((account.posted, account.pending), (parts(1_000), Amount::ZERO));
    assert_eq!(account.fired, Fired::from_iter([50, 100]));
    assert_eq!(ReservationId(7).to_string().len(), 32);
}
