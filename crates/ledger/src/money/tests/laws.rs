//! The book against a model of it, over random histories, and against mutants that the model must
//! catch.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Amount, ReservationId};
use proptest::prelude::*;
use rules::budget::{Account, Budget, Fired, Hold};

use crate::money::book::{Book, Checked, Row};
use crate::money::sample::{budget, hold, parts};

/// One step of a history. Ids are few, so that they are repeated.
#[derive(Clone, Debug)]
enum Step {
    /// Two calls at once, of whom each holds something of one budget or of both.
    Reserve([(u8, [u8; 2]); 2]),
    Dispatch(u8),
    Settle(u8, [u8; 2]),
    Void(u8),
    Drop(u8),
    Adjust(u8, i8),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..12_u8;
    let call = (id.clone(), any::<[bool; 2]>(), 1..9_u8);
    let call = call.prop_map(|(id, of, much)| (id, of.map(|of| u8::from(of) * much)));
    prop_oneof![
        4 => [call.clone(), call].prop_map(Step::Reserve),
        3 => id.clone().prop_map(Step::Dispatch),
        3 => (id.clone(), any::<[u8; 2]>()).prop_map(|(id, of)| Step::Settle(id, of.map(|c| c % 14))),
        1 => id.clone().prop_map(Step::Void),
        2 => id.prop_map(Step::Drop),
        1 => (0..2_u8, -9..9_i8).prop_map(|(of, by)| Step::Adjust(of, by)),
    ]
}

/// What is wrong with a teller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Looks at the accounts for both calls before it holds for either.
    CheckThenIncrement,
    /// Gives back what may have left when its end is not heard of.
    RefundOnTimeout,
    SettleTwice,
    DropOverrun,
    /// Keeps the first hold where the second is short.
    PartOfAPlan,
    FireTwice,
}

const FAULTS: [Fault; 6] = [
    Fault::CheckThenIncrement,
    Fault::RefundOnTimeout,
    Fault::SettleTwice,
    Fault::DropOverrun,
    Fault::PartOfAPlan,
    Fault::FireTwice,
];

/// The book under test.
struct Teller {
    book: Book,
    budgets: [Arc<Budget>; 2],
    fault: Fault,
    fired: Vec<(usize, u8)>,
    /// For faults: what each id held.
    made: BTreeMap<u8, Vec<Hold>>,
}

impl Teller {
    fn new(fault: Fault) -> Self {
        let budgets = [Arc::new(budget("wide", 60)), Arc::new(budget("narrow", 25))];
        let (fired, made) = (Vec::new(), BTreeMap::new());
        Self { book: Book::default(), budgets, fault, fired, made }
    }

    fn holds(&self, amounts: [u8; 2]) -> Vec<Hold> {
        let holds = self.budgets.iter().zip(amounts);
        holds.filter(|(_, much)| *much > 0).map(|(of, much)| hold(of, i64::from(much))).collect()
    }

    fn reserve(&mut self, calls: [(u8, [u8; 2]); 2]) -> [bool; 2] {
        if self.fault == Fault::CheckThenIncrement && calls[0].0 != calls[1].0 {
            let checked = calls.map(|call| self.check(call));
            let mut calls = calls.iter().zip(checked);
            return [(); 2].map(|()| {
                let (call, checked) = calls.next().unwrap();
                checked.is_some_and(|rows| {
                    // Each adds to what is there by now.
                    let holds = self.holds(call.1);
                    let rows = rows.into_iter().zip(&holds).map(|((key, row), hold)| {
                        let now = self.book.row(&key).unwrap_or(row).account;
                        let pending = now.pending.plus(hold.amount).unwrap();
                        (key, Row { account: Account { pending, ..now }, ..row })
                    });
                    let rows = rows.collect();
                    self.make(call.0, holds, rows)
                })
            });
        }
        calls.map(|call| match self.check(call) {
            Some(rows) => self.make(call.0, self.holds(call.1), rows),
            None if self.fault == Fault::PartOfAPlan => {
                let first = self.holds([call.1[0], 0]);
                let id = ReservationId(u128::from(call.0));
                if let Ok(Checked::Fits(rows)) = self.book.check(id, &first) {
                    self.make(call.0, first, rows);
                }
                false
            }
            None => false,
        })
    }

    fn check(&self, (id, amounts): (u8, [u8; 2])) -> Option<Vec<(rules::budget::RowKey, Row)>> {
        match self.book.check(ReservationId(u128::from(id)), &self.holds(amounts)) {
            Ok(Checked::Fits(rows)) => Some(rows),
            Ok(Checked::Known(..)) | Err(_) => None,
        }
    }

    fn make(&mut self, id: u8, holds: Vec<Hold>, rows: Vec<(rules::budget::RowKey, Row)>) -> bool {
        let shared = Arc::from(holds.as_slice());
        self.book.make(ReservationId(u128::from(id)), &shared, rows);
        self.made.insert(id, holds);
        true
    }

    fn settle(&mut self, id: u8, costs: [u8; 2]) {
        let holds = self.made.get(&id).cloned().unwrap_or_default();
        let mut costs: Vec<Amount> = holds.iter().map(|hold| cost_of(hold, costs)).collect();
        if self.fault == Fault::DropOverrun {
            costs.iter_mut().zip(&holds).for_each(|(cost, hold)| *cost = hold.amount.min(*cost));
        }
        if self.fault == Fault::FireTwice {
            for hold in &holds {
                let Some(row) = self.book.row(&hold.row) else { continue };
                let account = Account { fired: Fired::default(), ..row.account };
                self.book.put(hold.row.clone(), Row { account, ..row });
            }
        }
        match self.book.settle(ReservationId(u128::from(id)), &costs) {
            Some(end) => self.note(end.crossed),
            None if self.fault == Fault::SettleTwice => {
                for (hold, cost) in holds.iter().zip(costs) {
                    self.book.assume(&hold.row, cost);
                }
            }
            None => {}
        }
    }

    fn abandon(&mut self, id: u8) {
        let id = ReservationId(u128::from(id));
        let end = match self.fault {
            Fault::RefundOnTimeout => self.book.void(id),
            _ => match self.book.release(id) {
                None => self.book.settle(id, &[]),
                end => end,
            },
        };
        self.note(end.map(|end| end.crossed).unwrap_or_default());
    }

    fn note(&mut self, crossed: Vec<(Hold, u8)>) {
        for (hold, percent) in crossed {
            let place = self.budgets.iter().position(|of| of.id == hold.row.budget).unwrap();
            self.fired.push((place, percent));
        }
    }
}

fn cost_of(hold: &Hold, costs: [u8; 2]) -> Amount {
    parts(i64::from(costs[usize::from(hold.row.budget.as_str() == "narrow")]))
}

/// What a call held, whether it may have left, and what it came to.
type Call = ([i64; 2], bool, Option<[i64; 2]>);

/// What the law says: nothing but lists of calls.
#[derive(Default)]
struct Model {
    calls: BTreeMap<u8, Call>,
    adjusted: [i64; 2],
    fired: Vec<(usize, u8)>,
}

const AMOUNTS: [i64; 2] = [60, 25];

impl Model {
    fn posted(&self, of: usize) -> i64 {
        self.calls.values().filter_map(|(_, _, cost)| cost.map(|cost| cost[of])).sum()
    }

    fn pending(&self, of: usize) -> i64 {
        let open = self.calls.values().filter(|(_, _, cost)| cost.is_none());
        open.map(|(held, _, _)| held[of]).sum()
    }

    fn reserve(&mut self, (id, amounts): (u8, [u8; 2])) -> bool {
        let amounts = amounts.map(i64::from);
        let pays = |of: usize| {
            let left = AMOUNTS[of] + self.adjusted[of] - self.posted(of) - self.pending(of);
            amounts[of] == 0 || amounts[of] <= left
        };
        let made = !self.calls.contains_key(&id) && pays(0) && pays(1);
        if made {
            self.calls.insert(id, (amounts, false, None));
        }
        made
    }

    fn settle(&mut self, id: u8, cost: impl Fn([i64; 2], bool) -> [i64; 2]) {
        if let Some((held, left, end @ None)) = self.calls.get_mut(&id) {
            *end = Some(cost(*held, *left));
            let touched = held.map(|held| held > 0);
            self.fire(touched);
        }
    }

    fn fire(&mut self, touched: [bool; 2]) {
        for of in (0..2).filter(|of| touched[*of]) {
            for percent in [50_u8, 100] {
                let granted = AMOUNTS[of] + self.adjusted[of];
                if self.posted(of) * 100 >= granted * i64::from(percent)
                    && !self.fired.contains(&(of, percent))
                {
                    self.fired.push((of, percent));
                }
            }
        }
    }
}

/// Whether a teller with this fault does what the model says.
fn agrees(fault: Fault, steps: &[Step]) -> bool {
    let (mut teller, mut model) = (Teller::new(fault), Model::default());
    steps.iter().all(|step| {
        let is_same = match step.clone() {
            Step::Reserve(calls) => {
                let real = teller.reserve(calls);
                let told = calls.map(|call| model.reserve(call));
                real == told
            }
            Step::Dispatch(id) => {
                teller.book.dispatch(ReservationId(u128::from(id)));
                if let Some((_, left, None)) = model.calls.get_mut(&id) {
                    *left = true;
                }
                true
            }
            Step::Settle(id, costs) => {
                teller.settle(id, costs);
                model.settle(id, |held, _| {
                    [0, 1].map(|of| if held[of] > 0 { i64::from(costs[of]) } else { 0 })
                });
                true
            }
            Step::Void(id) => {
                teller.book.void(ReservationId(u128::from(id)));
                if let Some((_, _, end @ None)) = model.calls.get_mut(&id) {
                    *end = Some([0, 0]);
                }
                true
            }
            Step::Drop(id) => {
                teller.abandon(id);
                if model.calls.get(&id).is_some_and(|(_, left, _)| *left) {
                    model.settle(id, |held, _| held);
                } else if let Some((_, _, end @ None)) = model.calls.get_mut(&id) {
                    *end = Some([0, 0]);
                }
                true
            }
            Step::Adjust(of, by) => {
                let of = usize::from(of);
                let (key, budget) = (hold(&teller.budgets[of], 0).row, &teller.budgets[of]);
                let (_, percents) = teller.book.adjust(&key, budget, parts(i64::from(by))).unwrap();
                teller.fired.extend(percents.into_iter().map(|percent| (of, percent)));
                model.adjusted[of] += i64::from(by);
                let mut touched = [false; 2];
                touched[of] = true;
                model.fire(touched);
                true
            }
        };
        is_same && rows_agree(&teller, &model)
    })
}

fn rows_agree(teller: &Teller, model: &Model) -> bool {
    let rows = (0..2).all(|of| {
        let row = teller.book.row(&hold(&teller.budgets[of], 0).row).unwrap_or_default();
        let Account { posted, pending, adjusted, .. } = row.account;
        let found = [posted, pending, adjusted].map(Amount::parts);
        found == [model.posted(of), model.pending(of), model.adjusted[of]]
    });
    rows && teller.fired == model.fired
}

proptest! {
    #[test]
    fn the_book_does_what_the_model_says(steps in prop::collection::vec(step(), 0..80)) {
        prop_assert!(agrees(Fault::None, &steps));
    }
}

#[test]
fn the_model_catches_every_mutant() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    for fault in FAULTS {
        let mut runner = TestRunner::deterministic();
        let histories = prop::collection::vec(step(), 40..80);
        let caught = (0..200).any(|_| {
            let steps = histories.new_tree(&mut runner).unwrap().current();
            !agrees(fault, &steps)
        });
        assert!(caught, "{fault:?} is not caught");
    }
}
