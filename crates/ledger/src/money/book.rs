//! The book: accounts and reservations as they are, without locks, clocks or disks.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::{Amount, BudgetId, ReservationId, Timestamp};
use rules::budget::{Account, Budget, Hold, Overdraft, RowKey};

use super::Standing;
use crate::Denial;

/// All rows and reservations of a ledger.
#[derive(Debug, Default)]
pub(crate) struct Book {
    rows: HashMap<RowKey, Row>,
    rows_of: HashMap<BudgetId, usize>,
    open: HashMap<ReservationId, Open>,
    ended: Ended,
}

/// An account, and when its period ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) account: Account,
    pub(crate) end: Option<Timestamp>,
}

/// A reservation under way.
#[derive(Clone, Debug)]
struct Open {
    holds: Arc<[Hold]>,
    /// How many say that the call may leave.
    dispatched: usize,
}

/// What a plan's holds would come to; nothing is changed yet.
#[derive(Debug)]
pub(crate) enum Checked {
    /// They can be made: the rows as they would be.
    Fits(Vec<(RowKey, Row)>),
    /// They were made before, and stand like this.
    Known(Arc<[Hold]>, Standing),
}

/// What the end of a reservation comes to.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) holds: Arc<[Hold]>,
    /// Whether the call may have left.
    pub(crate) was_dispatched: bool,
    /// Thresholds reached, with their percent.
    pub(crate) crossed: Vec<(Hold, u8)>,
    /// Some row was charged more than was held.
    pub(crate) is_overrun: bool,
}

impl Book {
    /// Whether these holds can be made together under this id.
    ///
    /// # Errors
    /// Which hold cannot, or that the id stands for others.
    pub(crate) fn check(&self, id: ReservationId, holds: &[Hold]) -> Result<Checked, Denial> {
        let known = self.open.get(&id).map(|open| {
            let at = if open.dispatched > 0 { Standing::Dispatched } else { Standing::Reserved };
            (&open.holds, at)
        });
        if let Some((made, standing)) = known.or_else(|| self.ended.find(id)) {
            let is_same = made.len() == holds.len()
                && made.iter().zip(holds).all(|(a, b)| (&a.row, a.amount) == (&b.row, b.amount));
            let known = is_same.then(|| Checked::Known(Arc::clone(made), standing));
            return known.ok_or(Denial::Mismatch);
        }
        let mut rows: Vec<(RowKey, Row)> = Vec::with_capacity(holds.len());
        for (place, hold) in holds.iter().enumerate() {
            let earlier = rows.iter().rev().find(|(key, _)| *key == hold.row);
            let before = earlier.map(|(_, row)| *row).or_else(|| self.rows.get(&hold.row).copied());
            if before.is_none() && !self.has_room(&hold.row.budget) {
                return Err(Denial::Crowded { hold: place });
            }
            let before = before.unwrap_or_else(|| Row {
                account: Account::default(),
                end: hold.budget.calendar.at(hold.row.period).end,
            });
            let account = reserved(before.account, hold).map_err(|overdraft| {
                let left = match overdraft {
                    Overdraft::Left(left) => left,
                    Overdraft::Range => Amount::ZERO,
                };
                Denial::Overdrawn { hold: place, left }
            })?;
            rows.push((hold.row.clone(), Row { account, ..before }));
        }
        if self.open.len() >= OPEN_MAX {
            return Err(Denial::Crowded { hold: 0 });
        }
        Ok(Checked::Fits(rows))
    }

    /// Makes holds that were found to fit; nothing has changed since.
    pub(crate) fn make(
        &mut self,
        id: ReservationId,
        holds: &Arc<[Hold]>,
        rows: Vec<(RowKey, Row)>,
    ) {
        for (key, row) in rows {
            self.put(key, row);
        }
        self.open.insert(id, Open { holds: Arc::clone(holds), dispatched: 0 });
    }

    /// Marks that the call may leave. `false` when the reservation has ended.
    pub(crate) fn dispatch(&mut self, id: ReservationId) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        open.dispatched += 1;
        true
    }

    /// Takes a dispatch back, since nothing has left by it, and voids if it was the only one.
    pub(crate) fn withdraw(&mut self, id: ReservationId) -> Option<End> {
        let open = self.open.get_mut(&id)?;
        if open.dispatched > 1 {
            open.dispatched -= 1;
            return None;
        }
        self.void(id)
    }

    /// Posts what a call did cost, once. `None` when the reservation has ended.
    pub(crate) fn settle(&mut self, id: ReservationId, costs: &[Amount]) -> Option<End> {
        let Open { holds, dispatched } = self.open.remove(&id)?;
        let (mut crossed, mut is_overrun) = (Vec::new(), false);
        for (place, hold) in holds.iter().enumerate() {
            let cost = costs.get(place).map_or(hold.amount, |cost| (*cost).max(Amount::ZERO));
            is_overrun |= cost > hold.amount;
            // A row that holds nothing is forgotten when another of its holds is void.
            let row = self.rows.get(&hold.row).copied().unwrap_or_else(|| Row {
                account: Account::default(),
                end: hold.budget.calendar.at(hold.row.period).end,
            });
            let (account, percents) = row.account.settle(hold.amount, cost).fire(&hold.budget);
            self.put(hold.row.clone(), Row { account, ..row });
            crossed.extend(percents.into_iter().map(|percent| (hold.clone(), percent)));
        }
        self.ended.note(id, &holds, Standing::Settled);
        Some(End { holds, was_dispatched: dispatched > 0, crossed, is_overrun })
    }

    /// Gives back what a call holds. `None` when the reservation has ended.
    pub(crate) fn void(&mut self, id: ReservationId) -> Option<End> {
        let Open { holds, dispatched } = self.open.remove(&id)?;
        for hold in holds.iter() {
            let Some(row) = self.rows.get_mut(&hold.row) else { continue };
            row.account = row.account.void(hold.amount);
            if row.account == Account::default() {
                self.remove(&hold.row);
            }
        }
        self.ended.note(id, &holds, Standing::Voided);
        let crossed = Vec::new();
        Some(End { holds, was_dispatched: dispatched > 0, crossed, is_overrun: false })
    }

    /// The same, unless the call may have left.
    pub(crate) fn release(&mut self, id: ReservationId) -> Option<End> {
        let is_dispatched = self.open.get(&id).is_some_and(|open| open.dispatched > 0);
        if is_dispatched { None } else { self.void(id) }
    }

    /// Adds to what a row may spend. Answers the row and the thresholds that this reaches.
    ///
    /// # Errors
    /// When there is no room for another row, or the sum leaves the range of amounts.
    pub(crate) fn adjust(
        &mut self,
        key: &RowKey,
        budget: &Budget,
        by: Amount,
    ) -> Result<(Row, Vec<u8>), Denial> {
        let known = self.rows.get(key).copied();
        if known.is_none() && !self.has_room(&key.budget) {
            return Err(Denial::Crowded { hold: 0 });
        }
        let row = known.unwrap_or_else(|| Row {
            account: Account::default(),
            end: budget.calendar.at(key.period).end,
        });
        let adjusted = row.account.adjusted.plus(by);
        let adjusted = adjusted.ok_or(Denial::Overdrawn { hold: 0, left: Amount::ZERO })?;
        let (account, percents) = Account { adjusted, ..row.account }.fire(budget);
        let row = Row { account, ..row };
        self.put(key.clone(), row);
        Ok((row, percents))
    }

    /// Posts what a call held that was under way when its node stopped: nobody will ever settle
    /// it. The row is made if it is not there.
    pub(crate) fn assume(&mut self, key: &RowKey, amount: Amount) -> Row {
        let row = self.rows.get(key).copied().unwrap_or_default();
        let row = Row { account: row.account.settle(Amount::ZERO, amount), ..row };
        self.put(key.clone(), row);
        row
    }

    /// Fires the thresholds that were reached by what no call of this life has spent.
    pub(crate) fn look(&mut self, budgets: &[Arc<Budget>]) -> Vec<(Hold, u8)> {
        let mut crossed = Vec::new();
        for (key, row) in &mut self.rows {
            let Some(budget) = budgets.iter().find(|budget| key.is_of(budget)) else { continue };
            let (account, percents) = row.account.fire(budget);
            row.account = account;
            let (budget, amount) = (Arc::clone(budget), Amount::ZERO);
            let hold = Hold { row: key.clone(), amount, budget, tariff: None };
            crossed.extend(percents.into_iter().map(|percent| (hold.clone(), percent)));
        }
        crossed
    }

    /// A row as it is.
    pub(crate) fn row(&self, key: &RowKey) -> Option<Row> {
        self.rows.get(key).copied()
    }

    /// All rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows.iter()
    }

    /// Puts a row in place.
    pub(crate) fn put(&mut self, key: RowKey, row: Row) {
        let budget = key.budget.clone();
        if self.rows.insert(key, row).is_none() {
            *self.rows_of.entry(budget).or_default() += 1;
        }
    }

    /// Forgets the rows whose period ended two of its own lengths before `now`, and which nothing
    /// holds. Answers their keys.
    pub(crate) fn prune(&mut self, now: Timestamp) -> Vec<RowKey> {
        let is_old = |key: &RowKey, row: &Row| {
            row.account.pending == Amount::ZERO
                && row.end.is_some_and(|end| now.since(end) >= 2 * end.since(key.period))
        };
        let rows = self.rows.iter().filter(|(key, row)| is_old(key, row));
        let old: Vec<RowKey> = rows.map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| self.remove(key));
        old
    }

    /// How many reservations are open.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    fn has_room(&self, budget: &BudgetId) -> bool {
        let of = self.rows_of.get(budget).copied().unwrap_or_default();
        self.rows.len() + PLAN_HOLDS < ROWS_MAX && of + PLAN_HOLDS < ROWS_OF_A_BUDGET_MAX
    }

    fn remove(&mut self, key: &RowKey) {
        if self.rows.remove(key).is_none() {
            return;
        }
        if let Some(of) = self.rows_of.get_mut(&key.budget) {
            *of -= 1;
            if *of == 0 {
                self.rows_of.remove(&key.budget);
            }
        }
    }
}

/// The account with a hold more. A budget that only reports holds whatever is left of it.
fn reserved(account: Account, hold: &Hold) -> Result<Account, Overdraft> {
    let reserved = account.reserve(&hold.budget, hold.amount);
    if reserved.is_err() && hold.budget.shadow {
        let pending = account.pending.plus(hold.amount.max(Amount::ZERO));
        return pending.map(|pending| Account { pending, ..account }).ok_or(Overdraft::Range);
    }
    reserved
}

/// The reservations that ended last: whoever repeats one of them is told so.
#[derive(Debug, Default)]
struct Ended {
    order: VecDeque<ReservationId>,
    how: HashMap<ReservationId, (Arc<[Hold]>, Standing)>,
}

impl Ended {
    fn find(&self, id: ReservationId) -> Option<(&Arc<[Hold]>, Standing)> {
        self.how.get(&id).map(|(holds, standing)| (holds, *standing))
    }

    fn note(&mut self, id: ReservationId, holds: &Arc<[Hold]>, standing: Standing) {
        if self.order.len() >= ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.how.remove(&oldest);
        }
        self.order.push_back(id);
        self.how.insert(id, (Arc::clone(holds), standing));
    }
}

/// Rows of a ledger, some 100 MB at the worst. When as many are there, a call that needs another
/// is refused: forgetting one would forget what was spent.
const ROWS_MAX: usize = 262_144;

/// Rows of one budget, so that the subjects of one, which its users may choose, leave the others
/// room. When as many are there, a call that needs another is refused.
const ROWS_OF_A_BUDGET_MAX: usize = 65_536;

/// Rows that one plan may add at most beyond the bounds above.
const PLAN_HOLDS: usize = 64;

/// Calls that hold something at once. When as many do, the next is refused.
const OPEN_MAX: usize = 65_536;

/// Ended reservations that are known. An older one that is repeated counts as a new one; the
/// gate's ids are random and never come again.
const ENDED_MAX: usize = 16_384;
