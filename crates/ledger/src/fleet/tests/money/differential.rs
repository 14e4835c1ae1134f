//! The store and the node's own accounts give the same answers to the same history of money.

use model::Uptime;
use proptest::prelude::*;
use rules::budget::RowKey;
use rules::plan::Subject;

use super::{
    Arc, AtomicU64, Budget, Hold, Ordering, Plan, Store, budget, fresh, histories, is_settled,
    organisation, plan, teller,
};
use crate::fleet::Fleet;
use crate::{Denial, Embedded, Held, Reservation};

/// What happens: which budget and how much, for each hold of a plan; or the end of an earlier one.
#[derive(Clone, Debug)]
enum Step {
    Take(Vec<(usize, i64)>),
    /// Of the open holds the one at this place: settled with these costs, or void.
    Settle(usize, Vec<i64>),
    Void(usize),
    /// The plan at this place is taken again.
    Again(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let take = prop::collection::vec((0_usize..4, 0_i64..7), 1..4).prop_map(Step::Take);
    let settle = (0_usize..8, prop::collection::vec(0_i64..12, 0..3));
    prop_oneof![
        4 => take,
        3 => settle.prop_map(|(place, costs)| Step::Settle(place, costs)),
        1 => (0_usize..8).prop_map(Step::Void),
        1 => (0_usize..20).prop_map(Step::Again),
    ]
}

fn budgets() -> Vec<Arc<Budget>> {
    let shadow = Budget { shadow: true, ..budget("shadow", 5) };
    let many = Budget { thresholds: vec![1, 10, 33, 50, 67, 90, 99, 100], ..budget("many", 37) };
    [budget("small", 8), many, shadow, budget("none", 0)].map(Arc::new).into()
}

/// Both hold, and both have left.
struct Pair {
    own: Box<Held>,
    shared: Box<Held>,
}

fn held(taken: Result<Reservation, Denial>) -> Result<Box<Held>, Denial> {
    taken.map(|reservation| reservation.held.unwrap())
}

/// A ledger of each kind and what they were asked.
struct Both<'a> {
    embedded: Embedded,
    fleet: &'a Fleet,
    open: Vec<Pair>,
}

impl Both<'_> {
    async fn take(&mut self, plan: &Plan) -> Result<(), TestCaseError> {
        let own = held(self.embedded.take(plan, Uptime::default()));
        let shared = held(super::take(self.fleet, plan).await);
        prop_assert_eq!(own.as_ref().err(), shared.as_ref().err(), "{:?}", plan);
        let (Ok(mut own), Ok(mut shared)) = (own, shared) else { return Ok(()) };
        let left = own.dispatch().await;
        prop_assert_eq!(left, shared.dispatch().await, "{:?}", plan);
        if left.is_ok() {
            self.open.push(Pair { own, shared });
        }
        Ok(())
    }

    async fn end(&mut self, place: usize, costs: Option<&[i64]>) {
        if place >= self.open.len() {
            return;
        }
        let Pair { own, shared } = self.open.remove(place);
        match costs {
            Some(costs) => {
                let costs: Vec<_> = costs.iter().map(|cost| super::parts(*cost)).collect();
                own.settle(&costs);
                shared.settle(&costs);
            }
            None => {
                own.void();
                shared.void();
            }
        }
        is_settled(self.fleet).await;
    }
}

async fn is_same(
    store: &Store,
    fleet: &Fleet,
    case: u64,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut both = Both { embedded: Embedded::in_memory(), fleet, open: Vec::new() };
    let (budgets, mut plans) = (budgets(), Vec::<Plan>::new());
    let row = |place: usize| {
        RowKey::of(
            &budgets[place],
            Subject::Text(Arc::from(format!("case {case}"))),
            model::Timestamp::default(),
        )
    };
    for step in steps {
        match step {
            Step::Take(holds) => {
                let holds = holds.iter().map(|(place, amount)| Hold {
                    row: row(*place),
                    ..super::hold(&budgets[*place], *amount)
                });
                let plan = plan(fresh(), holds.collect());
                both.take(&plan).await?;
                plans.push(plan);
            }
            Step::Again(place) => {
                if let Some(plan) = plans.get(*place) {
                    both.take(plan).await?;
                }
            }
            Step::Settle(place, costs) => both.end(*place, Some(costs)).await,
            Step::Void(place) => both.end(*place, None).await,
        }
    }
    for (place, budget) in budgets.iter().enumerate() {
        let key = organisation().row(&row(place));
        let own = both.embedded.accounts().account(&row(place));
        let shared = super::account_at(store, &key);
        prop_assert_eq!(shared, own, "{}", budget.id.as_str());
    }
    Ok(())
}

#[test]
pub(super) fn the_store_answers_as_the_nodes_own_accounts_do() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let fleet = runtime.block_on(teller(&store, "a"));
    let cases = AtomicU64::new(0);
    proptest!(histories(150), |(steps in prop::collection::vec(step(), 1..40))| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(is_same(&store, &fleet, case, &steps))?;
    });
}
