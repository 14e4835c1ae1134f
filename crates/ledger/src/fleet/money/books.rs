//! A node's own money as it is, without locks and clocks; what must survive goes into a draft of
//! the journal.

mod flight;
mod over;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::{Amount, ReservationId, Timestamp};
use rules::budget::{Fired, RowKey};

pub(crate) use self::flight::Reached;
use self::over::Over;

use super::intent::{self, Intents};
use super::keep::{self, Kept};
use super::report::ADJUSTED;
use super::{Entry, Kind, Report, Row, SEATS_MAX, Wanted};
use crate::fleet::key::Organisation;
use crate::money::{Deed, Draft, Event, Found, History, Name, Statement};

/// What a node has put into a row, over all epochs: what is written again when the store forgets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) posted: Amount,
    pub(crate) adjusted: Amount,
    pub(crate) fired: Fired,
    pub(crate) expires: u64,
    /// Which row it is of; `None` where nobody here can tell.
    pub(crate) is: Option<Arc<RowKey>>,
}

#[derive(Debug, Default)]
pub(crate) struct Books {
    /// The epoch in which the store was told all.
    pub(crate) epoch: u64,
    shares: HashMap<Arc<[u8]>, Share>,
    open: HashMap<u128, Open>,
    /// Ends that the store has not taken, in the order they came.
    queue: VecDeque<Entry>,
    /// Those of them that are on their way.
    flying: Vec<Entry>,
    over: Over,
    pub(crate) intents: Intents,
    /// What happened by this node besides calls.
    pub(crate) history: History,
    /// Rows that may have reached a threshold by what was told after a loss, or assumed. They are
    /// asked for when nothing else waits.
    looks: VecDeque<Row>,
    /// The epoch in which all rows were looked at.
    pub(crate) looked: u64,
}

#[derive(Debug)]
struct Open {
    wanted: Arc<Wanted>,
    /// Whether the store holds it; else it was only asked.
    is_held: bool,
    /// How many say that the call may leave.
    leaving: usize,
    /// Microseconds since 1970.
    deadline: u64,
}

impl Books {
    /// What was kept by an earlier life. Its calls that may have left are charged what they held:
    /// nobody knows what they did; answers how many those are. `None` when something cannot be
    /// read.
    pub(crate) fn restore(
        found: Found,
        now: Timestamp,
        draft: &mut Draft,
    ) -> Option<(Self, usize)> {
        let (mut books, mut left) = (Self::default(), Vec::new());
        books.history = History::of(found.events);
        for (name, value) in &found.kept {
            match keep::read(name, value)? {
                Kept::Share(key, share) => drop(books.shares.insert(key, share)),
                Kept::Open(wanted) => left.push(wanted),
                Kept::End(entry) => {
                    books.over.note(&entry);
                    books.queue.push_back(entry);
                }
                Kept::Intent(id, intent) => books.intents.put(id, intent, None),
            }
        }
        let assumed = left.len();
        if assumed > 0 {
            tracing::warn!(
                calls = assumed,
                "calls were under way when the node stopped: each is charged what it held"
            );
        }
        for wanted in left {
            let open = Open { wanted: Arc::new(wanted), is_held: true, leaving: 1, deadline: 0 };
            let (id, wanted) = (open.wanted.id, Arc::clone(&open.wanted));
            books.open.insert(id, open);
            books.end(id, Kind::Settle, &[], draft);
            draft.assumed(ReservationId(id));
            for piece in &wanted.holds {
                let (amount, reservation) = (piece.amount, ReservationId(id));
                books.note(&piece.row, now, Deed::Assumed { amount, reservation }, draft);
            }
        }
        Some((books, assumed))
    }

    /// Something has happened to a row.
    fn note(&mut self, row: &Row, at: Timestamp, deed: Deed, draft: &mut Draft) {
        if let Some(row) = &row.is {
            self.history.note(Event { at, row: (**row).clone(), deed }, draft);
        }
    }

    /// Holds that are open, and ends that wait for the store.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.open.len(), self.queue.len() + self.flying.len() + self.intents.len())
    }

    /// Rows that this node has spent of.
    pub(crate) fn rows(&self) -> usize {
        self.shares.len()
    }

    /// Whether what a node that is gone holds is on its way to be charged.
    pub(crate) fn estimates(&self) -> bool {
        self.queue.iter().chain(&self.flying).any(|entry| entry.kind == Kind::Estimate)
    }

    pub(crate) fn seat(&mut self, wanted: &Arc<Wanted>, deadline: u64) -> bool {
        let (open, waiting) = self.counts();
        if open + waiting >= SEATS_MAX {
            return false;
        }
        let open = Open { wanted: Arc::clone(wanted), is_held: false, leaving: 0, deadline };
        // A hold that is made again goes on as it stood.
        self.open.entry(wanted.id).or_insert(open);
        true
    }

    pub(crate) fn unseat(&mut self, id: u128) {
        if self.open.get(&id).is_some_and(|open| !open.is_held) {
            self.open.remove(&id);
        }
    }

    /// The store holds it, in this epoch. `false` when that epoch is over.
    pub(crate) fn keep(&mut self, id: u128, epoch: u64) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        open.is_held |= self.epoch == epoch;
        self.epoch == epoch
    }

    pub(crate) fn cancel(&mut self, wanted: &Wanted, draft: &mut Draft) {
        let is_held = self.open.get(&wanted.id).is_some_and(|open| open.is_held);
        if is_held || self.over.how.contains_key(&wanted.id) {
            return;
        }
        self.open.remove(&wanted.id);
        let parts = wanted.holds.iter().map(|piece| (piece.row.clone(), Amount::ZERO)).collect();
        let entry = Entry { id: wanted.id, check: wanted.check, kind: Kind::Void, parts };
        self.send(entry, draft);
    }

    pub(crate) fn dispatch(&mut self, id: u128, draft: &mut Draft) -> bool {
        let Some(open) = self.open.get_mut(&id) else { return false };
        open.leaving += 1;
        keep::opens(draft, &open.wanted);
        true
    }

    /// Takes a dispatch back, since nothing has left by it; void if it was the only one.
    pub(crate) fn withdraw(&mut self, id: u128, draft: &mut Draft) -> Option<bool> {
        let open = self.open.get_mut(&id)?;
        if open.leaving > 1 {
            open.leaving -= 1;
            return None;
        }
        self.end(id, Kind::Void, &[], draft)
    }

    /// Gives back what is held, unless the call may have left.
    pub(crate) fn release(&mut self, id: u128, draft: &mut Draft) -> Option<bool> {
        let may_have_left = self.open.get(&id).is_none_or(|open| open.leaving > 0);
        if may_have_left { None } else { self.end(id, Kind::Void, &[], draft) }
    }

    /// Answers whether the call did cost more than it held; `None` when it had ended.
    pub(crate) fn end(
        &mut self,
        id: u128,
        kind: Kind,
        costs: &[Amount],
        draft: &mut Draft,
    ) -> Option<bool> {
        let open = self.open.remove(&id)?;
        let mut is_overrun = false;
        if open.leaving > 0 {
            keep::closes(draft, id);
        }
        let mut parts = Vec::with_capacity(open.wanted.holds.len());
        for (place, piece) in open.wanted.holds.iter().enumerate() {
            let cost = costs.get(place).map_or(piece.amount, |cost| (*cost).max(Amount::ZERO));
            parts.push((piece.row.clone(), cost));
            if kind != Kind::Void {
                is_overrun |= cost > piece.amount;
                self.post(&piece.row, draft, |share| {
                    share.posted = share.posted.plus(cost).unwrap_or(Amount::LARGEST);
                });
            }
        }
        if kind == Kind::Settle {
            let named = |(row, cost): &(Row, Amount)| (Name::Fleet(Arc::clone(&row.key)), *cost);
            draft.charged(ReservationId(id), parts.iter().map(named).collect());
        }
        self.send(Entry { id, check: open.wanted.check, kind, parts }, draft);
        Some(is_overrun)
    }

    /// Forgets what was spent in periods that are long over.
    pub(crate) fn prune(&mut self, now_ms: u64, draft: &mut Draft) {
        self.shares.retain(|key, share| {
            let is_kept = share.expires == 0 || share.expires > now_ms;
            if !is_kept {
                keep::share(draft, key, None);
            }
            is_kept
        });
    }

    /// Everything this node has spent and holds. What has ended is in it and is not sent any more;
    /// what operators want is not, and is.
    pub(crate) fn report(
        &mut self,
        (organisation, epoch): (&Organisation, u64),
        now_ms: u64,
        draft: &mut Draft,
    ) -> Report {
        self.epoch = epoch;
        for entry in self.queue.drain(..).chain(self.flying.drain(..)) {
            keep::taken(draft, entry.id);
        }
        self.looks.clear();
        self.prune(now_ms, draft);
        let held = self.open.values().filter(|open| open.is_held);
        let held = held.map(|open| (&*open.wanted, open.deadline));
        let over = self.over.how.iter().map(|(id, (check, state))| (*id, *check, *state));
        // Who repeats an adjustment at another node must be told of it.
        let adjusted = self.history.adjustments().map(|(row, by, id)| {
            let row = Row::named(organisation.row(row).into(), None);
            (intent::id_of(id), intent::check(&row, by), ADJUSTED)
        });
        let over = over.chain(adjusted);
        Report::new((organisation, epoch), self.shares.iter(), held, over)
    }

    /// Which of these, which the store holds for this node, nobody here knows: they were asked for
    /// by an earlier life, and nothing left by them.
    pub(crate) fn strangers(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let is_known = |id: &u128| self.open.contains_key(id) || self.over.how.contains_key(id);
        entries.into_iter().filter(|entry| !is_known(&entry.id)).collect()
    }

    pub(crate) fn send_all(&mut self, entries: Vec<Entry>) {
        self.queue.extend(entries);
    }

    /// Adds what is posted, and what the store has not heard of, to a statement.
    pub(crate) fn state(&self, statement: &mut Statement) {
        self.shares.iter().for_each(|(key, share)| statement.share(key, share));
        self.queue.iter().chain(&self.flying).for_each(|entry| statement.untold(entry));
    }

    /// Whether this node never held any money.
    pub(crate) fn is_new(&self) -> bool {
        let is_idle = self.queue.is_empty() && self.intents.len() == 0;
        is_idle && self.shares.is_empty() && self.open.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.looks.is_empty()
    }

    fn post(&mut self, row: &Row, draft: &mut Draft, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(Arc::clone(&row.key)).or_default();
        if share.is.is_none() {
            share.is.clone_from(&row.is);
        }
        // An end that does not know its budget leaves the row its end.
        if row.expires != 0 {
            share.expires = row.expires;
        }
        change(share);
        keep::share(draft, &row.key, Some(share));
    }

    fn send(&mut self, entry: Entry, draft: &mut Draft) {
        self.over.note(&entry);
        keep::ends(draft, &entry);
        self.queue.push_back(entry);
    }
}
