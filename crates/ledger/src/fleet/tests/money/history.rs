//! Histories of money: each call of the scripts does what the rules say, once, however often, in
//! whatever order and company it comes, and nothing is done on a store that has forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use rules::budget::Account;

use super::machine::{Holds, Machine, Model, Percents, State, unspent};
use super::{Store, histories, parts};
use crate::fleet::money::{Entry, Fate, Kind, Resolved, Verdict};

/// What became of an entry, and which thresholds each of its parts was the first to reach.
type Become = (Fate, Percents);

/// What an id holds, and what it does cost in the end.
#[derive(Clone, Debug)]
struct Life {
    holds: Holds,
    costs: Vec<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// In one call.
    Take(Vec<usize>),
    End(Vec<(usize, Kind)>),
    /// The id with other amounts: to hold, and to end.
    Other(usize),
    Adjust(usize, usize, i64),
    /// The last call is lost, which the next of each script tells; then the store begins anew.
    Lose,
    /// The store forgets, and money is closed for a while.
    Forget,
}

fn life() -> impl Strategy<Value = Life> {
    let holds = prop::collection::vec((0_usize..3, 0_i64..6), 1..4);
    (holds, prop::collection::vec(0_i64..8, 3)).prop_map(|(holds, costs)| Life { holds, costs })
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0_usize..8;
    let kind =
        prop_oneof![4 => Just(Kind::Settle), 2 => Just(Kind::Void), 2 => Just(Kind::Estimate)];
    prop_oneof![
        20 => prop::collection::vec(id(), 1..4).prop_map(Step::Take),
        20 => prop::collection::vec((id(), kind), 1..4).prop_map(Step::End),
        3 => id().prop_map(Step::Other),
        4 => (0_usize..3, 0_usize..3, -3_i64..6).prop_map(|(id, row, by)| Step::Adjust(id, row, by)),
        1 => Just(Step::Lose),
        1 => Just(Step::Forget),
    ]
}

struct Played<'a> {
    machine: Machine,
    lives: &'a [Life],
    rows: Vec<Account>,
    known: Model,
}

impl Played<'_> {
    /// What becomes of a take.
    fn taken(&mut self, id: usize) -> Verdict {
        match self.known.get(&id) {
            Some(State::Reserved) => return Verdict::Known,
            Some(State::Settled(_) | State::Estimated(_)) => return Verdict::Settled,
            Some(State::Voided) => return Verdict::Voided,
            Some(State::Adjusted(_)) => return Verdict::Mismatch,
            None => {}
        }
        let mut rows = self.rows.clone();
        for (place, amount) in &self.lives[id].holds {
            let (budget, amount) = (&self.machine.budgets[*place], parts(*amount));
            rows[*place] = match rows[*place].reserve(budget, amount) {
                Ok(row) => row,
                Err(_) if budget.shadow => {
                    let pending = rows[*place].pending.plus(amount).unwrap();
                    Account { pending, ..rows[*place] }
                }
                Err(_) => return Verdict::Short,
            };
        }
        self.rows = rows;
        self.known.insert(id, State::Reserved);
        Verdict::New
    }

    /// What becomes of an end.
    fn ended(&mut self, id: usize, kind: Kind) -> Become {
        let Life { holds, costs } = self.lives[id].clone();
        let become_ = |fate, fired: Percents| (fate, fired);
        let none = vec![Vec::new(); holds.len()];
        let before = match (self.known.get(&id).cloned(), kind) {
            (Some(State::Settled(fired)), Kind::Settle) => return become_(Fate::Known, fired),
            (Some(State::Estimated(fired)), Kind::Estimate) => return become_(Fate::Known, fired),
            (Some(State::Voided), Kind::Void) => return become_(Fate::Known, none),
            (None, Kind::Void) => {
                self.known.insert(id, State::Voided);
                return become_(Fate::Done, none);
            }
            (None, _) => return become_(Fate::Unknown, none),
            (Some(before @ State::Reserved), _)
            | (Some(before @ State::Estimated(_)), Kind::Settle | Kind::Void) => before,
            (Some(_), _) => return become_(Fate::Conflict, none),
        };
        let mut masks = Vec::new();
        for ((place, held), cost) in holds.iter().zip(costs) {
            let (held, budget) = (parts(*held), &self.machine.budgets[*place]);
            let cost = if kind == Kind::Estimate { held } else { parts(cost) };
            let row = match &before {
                State::Estimated(_) => unspent(self.rows[*place], held),
                _ => self.rows[*place].void(held),
            };
            let (row, mask) = match kind {
                Kind::Void => (row, Vec::new()),
                _ => row.settle(parts(0), cost).fire(budget),
            };
            self.rows[*place] = row;
            masks.push(mask);
        }
        let after = match kind {
            Kind::Void => State::Voided,
            Kind::Estimate => State::Estimated(masks.clone()),
            _ => State::Settled(masks.clone()),
        };
        let is_returned = kind == Kind::Void && matches!(before, State::Estimated(_));
        self.known.insert(id, after);
        become_(if is_returned { Fate::Returned } else { Fate::Done }, masks)
    }

    fn adjusted(&mut self, id: usize, place: usize, by: i64) -> Become {
        if let Some(State::Adjusted(fired)) = self.known.get(&id) {
            return (Fate::Known, fired.clone());
        }
        let row = self.rows[place];
        let row = Account { adjusted: row.adjusted.plus(parts(by)).unwrap(), ..row };
        let (row, mask) = row.fire(&self.machine.budgets[place]);
        self.rows[place] = row;
        self.known.insert(id, State::Adjusted(vec![mask.clone()]));
        (Fate::Done, vec![mask])
    }

    async fn resolve(&mut self, entries: &[Entry]) -> Result<Vec<Become>, TestCaseError> {
        match self.machine.resolve(entries).await {
            Resolved::All(_, all) => {
                let of = |one: crate::fleet::money::Become| {
                    (one.fate, one.parts.into_iter().map(|part| part.fired).collect())
                };
                Ok(all.into_iter().map(of).collect())
            }
            other => Err(TestCaseError::fail(format!("{other:?}"))),
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let lives = self.lives;
        let id = |id: usize| id % lives.len();
        match step {
            Step::Take(ids) => {
                let ids: Vec<usize> = ids.iter().map(|other| id(*other)).collect();
                let wanted: Vec<_> = ids.iter().map(|id| (*id, &lives[*id].holds)).collect();
                let found = self.machine.take(&wanted).await;
                let found: Vec<Verdict> = found.iter().map(|found| found.verdict).collect();
                let expected: Vec<Verdict> = ids.iter().map(|id| self.taken(*id)).collect();
                prop_assert_eq!(found, expected);
            }
            Step::End(ends) => {
                let ends: Vec<_> = ends.iter().map(|(other, kind)| (id(*other), *kind)).collect();
                let entry = |(id, kind): &(usize, Kind)| {
                    self.machine.entry(*id, &lives[*id].holds, *kind, &lives[*id].costs)
                };
                let entries: Vec<Entry> = ends.iter().map(entry).collect();
                let found = self.resolve(&entries).await?;
                let expected: Vec<Become> =
                    ends.iter().map(|(id, kind)| self.ended(*id, *kind)).collect();
                prop_assert_eq!(found, expected);
            }
            Step::Other(other) => self.other(id(*other)).await?,
            Step::Adjust(id, place, by) => {
                let id = 100 + id;
                let entry = self.machine.adjustment(id, *place, *by);
                let found = self.resolve(&[entry]).await?;
                prop_assert_eq!(found, [self.adjusted(id, *place, *by)]);
            }
            Step::Lose | Step::Forget => self.forgets(matches!(step, Step::Lose)).await?,
        }
        Ok(())
    }

    async fn other(&mut self, id: usize) -> Result<(), TestCaseError> {
        if !self.known.contains_key(&id) {
            return Ok(());
        }
        let mut holds = self.lives[id].holds.clone();
        holds[0].1 += 1;
        let found = self.machine.take(&[(id, &holds)]).await;
        prop_assert_eq!(found[0].verdict, Verdict::Mismatch);
        let entry = self.machine.entry(id, &holds, Kind::Settle, &[1, 1, 1]);
        let fired = vec![Vec::new(); holds.len()];
        prop_assert_eq!(self.resolve(&[entry]).await?, [(Fate::Conflict, fired)]);
        Ok(())
    }

    /// Each script tells that the epoch is lost or over, or money closed, and does nothing.
    async fn forgets(&mut self, loses_a_call: bool) -> Result<(), TestCaseError> {
        let (id, holds) = (99, vec![(0, 1)]);
        let entry = self.machine.entry(id, &holds, Kind::Void, &[]);
        if loses_a_call && self.machine.answered > 0 {
            self.machine.lose().await;
            let (answer, _) = self.machine.hold(&[(id, &holds)]).await;
            prop_assert_eq!(answer, b"R");
            prop_assert_eq!(
                self.machine.resolve(std::slice::from_ref(&entry)).await,
                Resolved::Lost
            );
        }
        let past = (self.machine.epoch, self.machine.answered);
        self.machine.begin().await;
        let now = (self.machine.epoch, self.machine.answered);
        (self.machine.epoch, self.machine.answered) = past;
        let (answer, _) = self.machine.hold(&[(id, &holds)]).await;
        prop_assert_eq!(answer, b"");
        prop_assert_eq!(self.machine.resolve(std::slice::from_ref(&entry)).await, Resolved::Closed);
        (self.machine.epoch, self.machine.answered) = now;
        self.machine.close(loses_a_call).await;
        let closed = self.machine.take(&[(id, &holds)]).await;
        prop_assert_eq!(closed[0].verdict, Verdict::Closed);
        prop_assert_eq!(self.machine.resolve(&[entry]).await, Resolved::Closed);
        self.machine.begin().await;
        (self.rows, self.known) = (vec![Account::default(); 3], Model::new());
        Ok(())
    }

    /// What the store holds is what the model does, and for as long as it should.
    fn is_same(&self, store: &Store) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.machine.rows(store), self.rows.clone());
        let open = self.known.iter().filter(|(_, state)| matches!(state, State::Reserved));
        let open: Vec<u128> = open.map(|(id, _)| self.machine.id(*id)).collect();
        prop_assert_eq!(self.machine.open(store), open);
        for (id, state) in &self.known {
            let [_, kept] = self.machine.kept_for(store, 0, *id);
            let is_right = match state {
                State::Reserved => kept == -1,
                State::Estimated(_) | State::Adjusted(_) => kept > 86_400_000,
                _ => (86_000_000..=86_400_000).contains(&kept),
            };
            prop_assert!(is_right, "{:?} is kept for {} ms", state, kept);
        }
        for (place, row) in self.rows.iter().enumerate() {
            let [kept, _] = self.machine.kept_for(store, place, 0);
            let is_right = *row == Account::default() || (kept == -1) == (place != 1);
            prop_assert!(is_right, "the row {} is kept for {} ms", place, kept);
        }
        Ok(())
    }
}

#[test]
pub(super) fn each_call_does_what_the_rules_say_however_it_is_sent() {
    let store = Store::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let cases = AtomicU64::new(1);
    let lives = prop::collection::vec(life(), 1..8);
    let steps = prop::collection::vec(step(), 1..40);
    proptest!(histories(200), |(lives in lives, steps in steps)| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(async {
            let machine = Machine::new(&store, case).await;
            let rows = vec![Account::default(); 3];
            let mut played = Played { machine, lives: &lives, rows, known: Model::new() };
            for step in &steps {
                played.step(step).await?;
            }
            played.is_same(&store)
        })?;
    });
}
