//! A node's own money, shared by those who hold and by who speaks with the store: its share of
//! every row, its open holds, and their ends that the store has not taken yet.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::{Amount, Clock};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use rules::budget::Hold;
use tokio::sync::Notify;

use super::books::Books;
use super::resolve::Become;
use super::{Entry, GRACE, Kind, Report, Row, Telling, Wanted};
use crate::money::{DispatchError, Draft, Journal, is_awaited};
use crate::storage::{self, Error};

/// The money of a node in a fleet.
pub(crate) struct Purse {
    books: Mutex<Books>,
    /// `None` for a node that lives and dies with its process.
    journal: Option<Journal>,
    is_open: AtomicBool,
    is_used: AtomicBool,
    /// Every node that holds money, as the store last named them.
    nodes: Mutex<BTreeMap<String, Telling>>,
    /// Counts every threshold that is reached.
    thresholds: Counter,
    /// Rings when an end waits for the store.
    pub(crate) work: Notify,
    /// When rows were last pruned, in milliseconds since 1970.
    pruned: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl Purse {
    /// Takes back what the journal in a directory holds; without one nothing is kept.
    ///
    /// # Errors
    /// When the journal cannot be used, is damaged, or was written by a later version.
    pub(crate) fn open(
        directory: Option<&Path>,
        clock: Arc<dyn Clock>,
        thresholds: Counter,
    ) -> Result<Self, Error> {
        let (journal, books) = match directory {
            None => (None, Books::default()),
            Some(directory) => {
                storage::make(directory)?;
                let path = directory.join("fleet.redb");
                let (journal, found) = Journal::open(&path)?;
                let mut restored = None;
                journal.change(|draft| restored = Books::restore(&found.kept, draft));
                let what = || "what the fleet's money kept cannot be read".to_owned();
                let books = restored.ok_or_else(|| Error::Damaged { path, what: what() })?;
                (Some(journal), books)
            }
        };
        // Who has spent before takes part from the start.
        let is_used = journal.is_some() && !books.is_new();
        Ok(Self {
            books: Mutex::new(books),
            journal,
            is_open: AtomicBool::default(),
            is_used: AtomicBool::new(is_used),
            nodes: Mutex::default(),
            thresholds,
            work: Notify::new(),
            pruned: AtomicU64::new(0),
            clock,
        })
    }

    /// Changes the books, and the journal with them. Answers the number of the change too.
    fn change<T>(&self, change: impl FnOnce(&mut Books, &mut Draft) -> T) -> (T, u64) {
        let mut books = self.books.lock();
        let changed = match &self.journal {
            None => (change(&mut books, &mut Draft::default()), 0),
            Some(journal) => {
                let mut changed = None;
                let number = journal.change(|draft| changed = Some(change(&mut books, draft)));
                (changed.expect("the journal makes the change"), number)
            }
        };
        if !books.is_idle() {
            self.work.notify_one();
        }
        changed
    }

    /// Whether the store takes holds of this node now.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether these holds could be made durable now.
    pub(crate) fn can_write(&self, holds: &[Hold]) -> bool {
        !is_awaited(holds) || !self.journal.as_ref().is_some_and(Journal::is_broken)
    }

    /// From now on this node takes part in the money of its fleet.
    pub(crate) fn begin(&self) {
        if !self.is_used.swap(true, Ordering::Relaxed) {
            self.work.notify_one();
        }
    }

    /// Whether this node takes part. Until then the store is not asked for anything of money.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// As if this node were away, as far as money goes.
    #[cfg(test)]
    pub(crate) fn silence(&self, is_silent: bool) {
        self.is_used.store(!is_silent, Ordering::Relaxed);
        self.work.notify_one();
    }

    /// The store has named the nodes.
    pub(crate) fn name(&self, nodes: &BTreeMap<String, Telling>) {
        self.nodes.lock().clone_from(nodes);
    }

    /// Every node that holds money, as the store last named them.
    pub(crate) fn nodes(&self) -> BTreeMap<String, Telling> {
        self.nodes.lock().clone()
    }

    /// Holds that are open, and ends that wait for the store.
    pub(crate) fn counts(&self) -> (usize, usize) {
        self.books.lock().counts()
    }

    /// The epoch in which the store was told all.
    pub(crate) fn epoch(&self) -> u64 {
        self.books.lock().epoch
    }

    /// Goes on in an epoch in which the store was told all by an earlier life of this node.
    pub(crate) fn resume(&self, epoch: u64) {
        self.books.lock().epoch = epoch;
    }

    /// The store must be told first, by this node or by others.
    pub(crate) fn close(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    /// The store has been told all, in this epoch, by everybody.
    pub(crate) fn reopen(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        self.work.notify_one();
    }

    /// Takes a seat for holds that the store is about to be asked for. `false` when there is none.
    pub(crate) fn seat(&self, wanted: &Arc<Wanted>) -> bool {
        let deadline = self.clock.now().plus(GRACE).as_micros();
        self.books.lock().seat(wanted, deadline)
    }

    /// Nothing was held after all, which is certain.
    pub(crate) fn unseat(&self, id: u128) {
        self.books.lock().unseat(id);
    }

    /// The store holds it, in this epoch. `false` when that epoch is over: it was not told of it.
    pub(crate) fn keep(&self, id: u128, epoch: u64) -> bool {
        self.books.lock().keep(id, epoch)
    }

    /// The store may hold what was asked for, and nobody waits for it: it is void. What is held,
    /// or has ended, stays as it is.
    pub(crate) fn cancel(&self, wanted: &Wanted) {
        self.change(|books, draft| books.cancel(wanted, draft));
    }

    /// The call may leave once the change that this answers is written. `None` when its hold has
    /// ended.
    pub(crate) fn dispatch(&self, id: u128) -> Option<u64> {
        let (is_open, change) = self.change(|books, draft| books.dispatch(id, draft));
        is_open.then_some(change)
    }

    /// Waits until a change is as durable as the budgets want it.
    pub(crate) async fn written(&self, change: u64, holds: &[Hold]) -> Result<(), DispatchError> {
        match &self.journal {
            Some(journal) if is_awaited(holds) => journal.wait(change).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Nothing left by a dispatch that was not answered.
    pub(crate) fn withdraw(&self, id: u128) {
        self.change(|books, draft| books.withdraw(id, draft));
    }

    /// Gives back what is held, unless the call may have left.
    pub(crate) fn release(&self, id: u128) {
        self.change(|books, draft| books.release(id, draft));
    }

    /// Ends a hold with what the call did cost: an amount for each of its parts, what was held
    /// where none is given. It had none where it is void. Once; later ends change nothing.
    pub(crate) fn end(&self, id: u128, kind: Kind, costs: &[Amount]) {
        self.change(|books, draft| books.end(id, kind, costs, draft));
    }

    /// Adds to what a row may spend, under an id of its own.
    pub(crate) fn adjust(&self, id: u128, row: &Row, by: Amount) {
        self.change(|books, draft| books.adjust(id, row, by, draft));
    }

    /// Everything this node has spent and holds, for a store that knows nothing of it.
    pub(crate) fn report(&self, epoch: u64) -> Report {
        let now = self.clock.now().as_millis();
        self.change(|books, draft| books.report(epoch, now, draft)).0
    }

    /// Forgets what was spent in periods that are long over; at most once an hour.
    pub(crate) fn prune(&self) {
        let now = self.clock.now().as_millis();
        let pruned = self.pruned.load(Ordering::Relaxed);
        if now.saturating_sub(pruned) >= PRUNE_PAUSE_MS {
            self.pruned.store(now, Ordering::Relaxed);
            self.change(|books, draft| books.prune(now, draft));
        }
    }

    /// Some of the ends that wait; they are on their way until [`Purse::landed`] or
    /// [`Purse::strayed`].
    pub(crate) fn fly(&self) -> Vec<Entry> {
        self.books.lock().fly()
    }

    /// The store has taken what was on its way, in this epoch.
    pub(crate) fn landed(&self, epoch: u64, fates: &[Become]) {
        let landed = |books: &mut Books, draft: &mut Draft| {
            if books.epoch == epoch { books.landed(fates, draft) } else { Vec::new() }
        };
        for (row, bits) in self.change(landed).0 {
            let row_name = String::from_utf8_lossy(&row.key);
            for (place, percent) in row.percents.iter().enumerate() {
                if bits & 1_u8.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or(0)
                    != 0
                {
                    self.thresholds.inc();
                    tracing::warn!(account = &*row_name, percent, "a budget reached a threshold");
                }
            }
        }
    }

    /// Nobody knows whether the store has taken what was on its way: it goes again.
    pub(crate) fn strayed(&self) {
        self.change(|books, _| books.strayed());
    }

    /// Those of these holds of the store that nobody here knows.
    pub(crate) fn strangers(&self, entries: Vec<Entry>) -> Vec<Entry> {
        self.books.lock().strangers(entries)
    }

    /// Ends holds that are not of this purse.
    pub(crate) fn send(&self, entries: Vec<Entry>) {
        self.change(|books, _| books.send_all(entries));
    }
}

impl std::fmt::Debug for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Purse").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

/// An hour.
const PRUNE_PAUSE_MS: u64 = 3_600_000;
