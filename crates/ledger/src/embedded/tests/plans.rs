//! Plans against a model of them: draws alone, holds alone, both, and both one after the other, as
//! where a price is asked for in between. What is refused leaves everything as it was.

use std::sync::Arc;

use model::ReservationId;
use proptest::prelude::*;
use rules::budget::{Account, Budget};

use super::{Embedded, Plan, at, draw};
use crate::money::sample::{budget, hold};
use crate::money::{Held, Standing};

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// So many draws on each limit, so much of each budget.
    Take { draws: [u8; 3], holds: [u8; 2] },
    /// The same in two steps: first it draws, then it holds.
    DrawThenHold { draws: [u8; 3], holds: [u8; 2] },
    /// The first of those that hold is refused later on its way.
    Refuse,
    /// The first of those that hold leaves, and nobody hears of it again.
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    let draws = prop::array::uniform3(prop_oneof![2 => Just(0_u8), 1 => 1..3_u8]);
    let holds = prop::array::uniform2(prop_oneof![2 => Just(0_u8), 1 => 1..9_u8]);
    let both = (draws, holds);
    prop_oneof![
        4 => both.clone().prop_map(|(draws, holds)| Step::Take { draws, holds }),
        2 => both.prop_map(|(draws, holds)| Step::DrawThenHold { draws, holds }),
        2 => Just(Step::Refuse),
        1 => Just(Step::Lose),
    ]
}

/// What is left of each limit, and what each budget has spent and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    left: [u8; 3],
    accounts: [(i64, i64); 2],
}

const LIMITS: [(&str, u8); 3] = [("wide", 9), ("narrow", 4), ("shadow", 2)];
const BUDGETS: [(&str, i64); 2] = [("much", 30), ("little", 12)];

impl State {
    /// Takes both, or neither.
    fn take(&mut self, draws: [u8; 3], holds: [u8; 2]) -> bool {
        let draw = |(left, count): (u8, u8)| left >= count;
        let binding = self.left.into_iter().zip(draws).take(2);
        let fits = |((posted, pending), (much, amount)): ((i64, i64), (u8, i64))| {
            posted + pending + i64::from(much) <= amount
        };
        let amounts = BUDGETS.map(|(_, amount)| amount);
        let accounts = self.accounts.into_iter().zip(holds.into_iter().zip(amounts));
        // A budget of which nothing is held is not asked.
        let mut accounts = accounts.filter(|(_, (much, _))| *much > 0);
        if !binding.clone().all(draw) || !accounts.all(fits) {
            return false;
        }
        for (left, count) in self.left.iter_mut().zip(draws) {
            *left = left.saturating_sub(count);
        }
        for ((_, pending), much) in self.accounts.iter_mut().zip(holds) {
            *pending += i64::from(much);
        }
        true
    }
}

/// The ledger under test, and the reservations that are under way.
struct Teller {
    ledger: Embedded,
    budgets: [Arc<Budget>; 2],
    next: u128,
    under_way: Vec<([u8; 2], Held)>,
}

impl Teller {
    fn take(&mut self, draws: [u8; 3], holds: [u8; 2]) -> bool {
        self.next += 1;
        let limits = LIMITS.iter().zip(draws);
        let draws = limits
            .flat_map(|((name, burst), count)| {
                let burst = burst.to_string();
                (0..count).map(move |_| draw(name, "a", "0", &burst))
            })
            .collect();
        let pieces = self.budgets.iter().zip(holds).filter(|(_, much)| *much > 0);
        let pieces = pieces.map(|(budget, much)| hold(budget, i64::from(much))).collect();
        let plan = Plan { id: ReservationId(self.next), draws, holds: pieces };
        let Ok(reservation) = self.ledger.take(&plan, at(0)) else { return false };
        assert_eq!(reservation.taken.len(), plan.draws.len());
        assert_eq!(reservation.held.is_some(), !plan.holds.is_empty());
        self.under_way.extend(reservation.held.map(|held| (holds, *held)));
        true
    }

    fn state(&self) -> State {
        let left = |(name, burst): (&str, u8)| {
            let all = (1..=burst).rev();
            let has = |count: u8| {
                let mut one = draw(name, "a", "0", &burst.to_string());
                one.cost = model::Tokens(u64::from(count));
                self.ledger.peek(&one, at(0)).is_ok()
            };
            all.into_iter().find(|count| has(*count)).unwrap_or_default()
        };
        let account = |budget: &Arc<Budget>| {
            let Account { posted, pending, .. } =
                self.ledger.accounts().account(&hold(budget, 0).row);
            (posted.parts(), pending.parts())
        };
        let [much, little] = &self.budgets;
        State { left: LIMITS.map(left), accounts: [account(much), account(little)] }
    }
}

fn check(steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let budgets = BUDGETS.map(|(name, amount)| Arc::new(budget(name, amount)));
    let ledger = Embedded::in_memory();
    let mut teller = Teller { ledger, budgets, next: 0, under_way: Vec::new() };
    let mut model = State { left: LIMITS.map(|(_, burst)| burst), accounts: [(0, 0); 2] };
    for step in steps {
        match step.clone() {
            Step::Take { draws, holds } => {
                assert_eq!(teller.take(draws, holds), model.take(draws, holds), "{step:?}");
            }
            Step::DrawThenHold { draws, holds } => {
                let drawn = teller.take(draws, [0; 2]);
                assert_eq!(drawn, model.take(draws, [0; 2]), "{step:?}");
                if drawn {
                    assert_eq!(teller.take([0; 3], holds), model.take([0; 3], holds), "{step:?}");
                }
            }
            Step::Refuse | Step::Lose if teller.under_way.is_empty() => {}
            Step::Refuse => {
                let (holds, held) = teller.under_way.remove(0);
                assert_eq!(held.standing(), Standing::Reserved);
                drop(held);
                for ((_, pending), much) in model.accounts.iter_mut().zip(holds) {
                    *pending -= i64::from(much);
                }
            }
            Step::Lose => {
                let (holds, mut held) = teller.under_way.remove(0);
                runtime.block_on(held.dispatch()).unwrap();
                drop(held);
                for ((posted, pending), much) in model.accounts.iter_mut().zip(holds) {
                    (*posted, *pending) = (*posted + i64::from(much), *pending - i64::from(much));
                }
            }
        }
        assert_eq!(teller.state(), model, "after {step:?}");
    }
}

proptest! {
    #[test]
    fn a_plan_is_taken_whole_or_leaves_everything_as_it_was(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        check(steps);
    }
}
