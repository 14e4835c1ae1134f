//! The accounts of one node: the book behind a lock, and its journal behind the book.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use model::{Amount, Clock, ReservationId, Timestamp};
use parking_lot::{Mutex, MutexGuard};
use rules::budget::{Account, Budget, Durability, Hold, RowKey};
use rules::plan::Plan;
use tokio::sync::mpsc;

use super::book::{Book, Checked, End};
use super::history::History;
use super::journal::{Draft, Found, Journal};
use super::metrics::{Holding, How, Metrics};
use super::record::{Deed, Event};
use super::{DispatchError, Held, Name, Standing, Statement, Trace};
use crate::storage::{self, Error};
use crate::{Denial, Reservation};

/// The money of one node, shared by all its cores: what every budget has spent and holds.
///
/// One lock, held for about a microsecond a call: a plan's holds are checked and made together.
#[derive(Debug, Default)]
pub struct Accounts {
    pub(super) state: Mutex<State>,
    pub(super) journal: Option<Journal>,
    /// Charges of earlier lives of which the records may know nothing.
    left: Vec<(ReservationId, Trace)>,
    watch: OnceLock<Watch>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) book: Book,
    pub(super) history: History,
    pruned: Timestamp,
}

/// Who wants to know of thresholds, and what time it is for them.
struct Watch {
    clock: Arc<dyn Clock>,
    crossings: mpsc::Sender<Crossing>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// A threshold that was reached, once in its period.
#[derive(Clone, Debug)]
pub struct Crossing {
    pub at: Timestamp,
    pub budget: Arc<Budget>,
    pub row: RowKey,
    pub percent: u8,
    pub account: Account,
}

/// A row of the ledger, and when its period ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub row: RowKey,
    pub account: Account,
    /// `None` when it never does.
    pub end: Option<Timestamp>,
}

impl Accounts {
    /// Opens the accounts of a node. A call that may have left when the node last stopped, and
    /// which nobody settled, is charged what it held: nobody knows what it did.
    ///
    /// # Errors
    /// When the journal cannot be used, is damaged, or was written by a later version.
    pub fn open(directory: &Path, now: Timestamp) -> Result<Self, Error> {
        storage::make(directory)?;
        let (journal, found) = Journal::open(&directory.join("budgets.redb"))?;
        Ok(Self::over(journal, found, now))
    }

    pub(crate) fn over(journal: Journal, found: Found, now: Timestamp) -> Self {
        let Found { rows, open, events, kept: _, traces } = found;
        let mut state = State { history: History::of(events), ..State::default() };
        let metrics = Metrics::default();
        rows.into_iter().for_each(|(key, row)| state.book.put(key, row));
        if !open.is_empty() {
            tracing::warn!(
                calls = open.len(),
                "calls were under way when the node stopped: each is charged what it held"
            );
            journal.change(|draft| {
                for (id, holds) in open {
                    metrics.ended(How::assumed);
                    draft.ends(id);
                    for (row, amount) in holds {
                        let changed = state.book.assume(&row, amount);
                        draft.row(&row, Some(changed));
                        let deed = Deed::Assumed { amount, reservation: id };
                        state.history.note(Event { at: now, row, deed }, draft);
                    }
                }
            });
        }
        let mut left = Vec::new();
        journal.change(|draft| left = draft.keep_traces(traces, now));
        metrics.gauge(state.book.open(), state.book.len());
        let state = Mutex::new(state);
        Self { state, journal: Some(journal), left, watch: OnceLock::new(), metrics }
    }

    /// The metrics of these accounts.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Tells of thresholds from now on, to the first who asks. At most 1,024 wait to
    /// be taken; what comes then is only logged.
    #[must_use]
    pub fn watch(&self, clock: Arc<dyn Clock>) -> mpsc::Receiver<Crossing> {
        let (crossings, receiver) = mpsc::channel(CROSSINGS_MAX);
        // A second watcher hears nothing.
        let _second = self.watch.set(Watch { clock, crossings });
        receiver
    }

    /// Looks at every row once: what a crash left to be assumed spent may have reached a
    /// threshold. Of those who watch, each is told.
    pub fn look(&self, budgets: &[Arc<Budget>]) {
        let mut state = self.state.lock();
        let crossed = state.book.look(budgets);
        let changed = crossed.iter().map(|(hold, _)| &hold.row);
        let changed: Vec<_> = changed.map(|row| (row.clone(), state.book.row(row))).collect();
        if !changed.is_empty() {
            self.write(|draft| changed.iter().for_each(|(key, row)| draft.row(key, *row)));
        }
        self.tell(&mut state, crossed);
    }

    /// Makes a plan's holds and takes its draws, or does nothing.
    ///
    /// # Errors
    /// Which hold found its budget short or had no room, or what the draws came to.
    pub(crate) fn take(
        self: &Arc<Self>,
        plan: &Plan,
        draw: impl FnOnce() -> Result<Reservation, Denial>,
    ) -> Result<Reservation, Denial> {
        let taken = self.try_take(plan, draw);
        match &taken {
            Ok(_) => self.metrics.held(Holding::held),
            Err(Denial::Overdrawn { .. }) => self.metrics.held(Holding::overdrawn),
            Err(Denial::Crowded { .. } | Denial::Mismatch | Denial::Away) => {
                self.metrics.held(Holding::unavailable);
            }
            Err(Denial::Short { .. } | Denial::Full { .. }) => {}
        }
        taken
    }

    fn try_take(
        self: &Arc<Self>,
        plan: &Plan,
        draw: impl FnOnce() -> Result<Reservation, Denial>,
    ) -> Result<Reservation, Denial> {
        if is_awaited(&plan.holds) && self.journal.as_ref().is_some_and(Journal::is_broken) {
            return Err(Denial::Away);
        }
        let mut state = self.state.lock();
        let (holds, standing, taken) = match state.book.check(plan.id, &plan.holds)? {
            Checked::Fits(rows) => {
                let taken = draw()?;
                let holds = Arc::<[Hold]>::from(plan.holds.as_slice());
                state.book.make(plan.id, &holds, rows);
                (holds, Standing::Reserved, taken)
            }
            Checked::Known(holds, standing) => {
                let taken = vec![None; plan.draws.len()];
                (holds, standing, Reservation { taken, ..Reservation::default() })
            }
        };
        self.gauge(&state.book);
        drop(state);
        let held = Held::own(self, plan.id, holds, standing);
        Ok(Reservation { held: Some(Box::new(held)), ..taken })
    }

    /// A row as it is; nothing of what was never held.
    #[must_use]
    pub fn account(&self, row: &RowKey) -> Account {
        self.state.lock().book.row(row).unwrap_or_default().account
    }

    /// The rows of a budget, in no order.
    #[must_use]
    pub fn list(&self, budget: &model::BudgetId) -> Vec<Listed> {
        let state = self.state.lock();
        let rows = state.book.rows().filter(|(key, _)| key.budget == *budget);
        rows.map(|(key, row)| Listed { row: key.clone(), account: row.account, end: row.end })
            .collect()
    }

    /// What happened to a budget's accounts, oldest first.
    #[must_use]
    pub fn history(&self, budget: &model::BudgetId) -> Vec<Event> {
        self.state.lock().history.of_budget(budget)
    }

    /// Adds what the journal says to a statement.
    pub(crate) fn state(&self, statement: &mut Statement) {
        let state = self.state.lock();
        for (key, row) in state.book.rows() {
            statement.row(key, &row.account);
        }
        state.history.all().for_each(|event| statement.event(event));
        statement.traces(&self.left);
    }

    /// Forgets the rows of periods that ended two of their own lengths ago. Looks at most once an
    /// hour.
    pub fn prune(&self, now: Timestamp) {
        let mut state = self.state.lock();
        if now.since(state.pruned) < PRUNE_PAUSE {
            return;
        }
        state.pruned = now;
        let old = state.book.prune(now);
        if !old.is_empty() {
            self.write(|draft| old.iter().for_each(|row| draft.row(row, None)));
            tracing::info!(accounts = old.len(), "accounts of periods long past are forgotten");
            self.gauge(&state.book);
        }
    }

    /// Writes what is not written and ends the journal.
    pub fn close(&self) {
        if let Some(journal) = &self.journal
            && !journal.close()
        {
            tracing::error!("the last changes of the budgets could not be written");
        }
    }

    pub(crate) fn dispatch(
        &self,
        id: ReservationId,
        holds: &Arc<[Hold]>,
    ) -> Result<u64, DispatchError> {
        let mut state = self.state.lock();
        if !state.book.dispatch(id) {
            return Err(DispatchError::Ended);
        }
        // The rows too: they say when their periods end.
        Ok(self.write(|draft| {
            draft.opens(id, holds);
            holds.iter().for_each(|hold| draft.row(&hold.row, state.book.row(&hold.row)));
        }))
    }

    /// Waits until a change is as durable as the budgets want it.
    pub(crate) async fn written(&self, change: u64, holds: &[Hold]) -> Result<(), DispatchError> {
        match &self.journal {
            Some(journal) if is_awaited(holds) => journal.wait(change).await,
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn settle(&self, id: ReservationId, costs: &[Amount]) {
        self.end((How::settled, costs), |book| book.settle(id, costs), id);
    }

    pub(crate) fn void(&self, id: ReservationId) {
        self.end((How::voided, &[]), |book| book.void(id), id);
    }

    pub(crate) fn withdraw(&self, id: ReservationId) {
        self.end((How::voided, &[]), |book| book.withdraw(id), id);
    }

    pub(crate) fn release(&self, id: ReservationId) {
        self.end((How::voided, &[]), |book| book.release(id), id);
    }

    /// The record of a charge is written.
    pub(crate) fn recorded(&self, id: ReservationId) {
        if let Some(journal) = &self.journal {
            journal.change(|draft| draft.recorded(id));
        }
    }

    fn end(
        &self,
        (how, costs): (How, &[Amount]),
        end: impl FnOnce(&mut Book) -> Option<End>,
        id: ReservationId,
    ) {
        let mut state = self.state.lock();
        let Some(End { holds, was_dispatched, crossed, is_overrun }) = end(&mut state.book) else {
            return;
        };
        // Of what never could have left and costs nothing, the disk knows nothing.
        if was_dispatched || how == How::settled {
            self.write(|draft| {
                if was_dispatched {
                    draft.ends(id);
                }
                if how == How::settled && self.journal.is_some() {
                    draft.charged(id, named(&holds, costs));
                }
                holds.iter().for_each(|hold| draft.row(&hold.row, state.book.row(&hold.row)));
            });
        }
        self.gauge(&state.book);
        self.metrics.ended(how);
        if is_overrun {
            self.metrics.overruns.inc();
        }
        self.tell(&mut state, crossed);
    }

    /// Tells of thresholds: they have fired, and do not again.
    pub(super) fn tell(&self, state: &mut MutexGuard<'_, State>, crossed: Vec<(Hold, u8)>) {
        for (Hold { row, budget, .. }, percent) in crossed {
            self.metrics.thresholds.inc();
            let account = state.row(&row);
            tracing::warn!(budget = %row.budget, subject = %row.subject, percent, "a budget's threshold is reached");
            let Some(Watch { clock, crossings }) = self.watch.get() else { continue };
            let at = clock.now();
            let event = Event { at, row: row.clone(), deed: Deed::Crossed { percent } };
            self.write(|draft| state.history.note(event, draft));
            let crossing = Crossing { at, budget, row, percent, account };
            if crossings.try_send(crossing).is_err() {
                tracing::warn!("too many thresholds wait to be told; this one is only logged");
            }
        }
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut Draft)) -> u64 {
        match &self.journal {
            Some(journal) => journal.change(change),
            None => {
                change(&mut Draft::default());
                0
            }
        }
    }

    pub(super) fn gauge(&self, book: &Book) {
        self.metrics.gauge(book.open(), book.len());
    }
}

impl State {
    pub(super) fn row(&self, key: &RowKey) -> Account {
        self.book.row(key).unwrap_or_default().account
    }
}

/// Whether a budget wants a call to be on the disk before it leaves. One that only reports keeps
/// no call back.
pub(crate) fn is_awaited(holds: &[Hold]) -> bool {
    holds.iter().filter(|hold| !hold.budget.shadow).any(|hold| match hold.budget.durability {
        Durability::Store => false,
        // A second node's journal is not there yet; the own one is the least.
        Durability::Journal | Durability::Peer => true,
    })
}

/// What each row was charged.
fn named(holds: &[Hold], costs: &[Amount]) -> Vec<(Name, Amount)> {
    let cost = |(place, hold): (usize, &Hold)| {
        let cost = costs.get(place).map_or(hold.amount, |cost| (*cost).max(Amount::ZERO));
        (Name::Own(hold.row.clone()), cost)
    };
    holds.iter().enumerate().map(cost).collect()
}

/// Thresholds that wait to be told.
pub(crate) const CROSSINGS_MAX: usize = 1_024;

/// Old rows are looked for so often.
const PRUNE_PAUSE: std::time::Duration = std::time::Duration::from_secs(3_600);
