//! A node's own money as it is, without locks and clocks; what must survive goes into a draft of
//! the journal.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use model::Amount;

use super::keep::{self, Kept};
use super::resolve::{Become, Fate};
use super::{Entry, Kind, Report, Row, SEATS_MAX, Wanted};
use crate::money::Draft;

/// What a node has put into a row, over all epochs: what is written again when the store forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) posted: Amount,
    pub(crate) adjusted: Amount,
    pub(crate) fired: u8,
    pub(crate) expires: u64,
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

/// The ids that ended last, so that a store that forgot them is told again.
#[derive(Debug, Default)]
struct Over {
    order: VecDeque<u128>,
    how: HashMap<u128, ([u8; 8], u8)>,
}

impl Over {
    fn note(&mut self, entry: &Entry) {
        // As `resolve.lua` names the states.
        let state = match entry.kind {
            Kind::Settle | Kind::Estimate => 2,
            Kind::Void => 3,
            Kind::Adjust => 5,
        };
        if self.how.insert(entry.id, (entry.check, state)).is_some() {
            return;
        }
        self.order.push_back(entry.id);
        if self.order.len() > OVER_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.how.remove(&oldest);
        }
    }
}

impl Books {
    /// What was kept by an earlier life. Its calls that may have left are charged what they held:
    /// nobody knows what they did. `None` when something cannot be read.
    pub(crate) fn restore(kept: &[(Vec<u8>, Vec<u8>)], draft: &mut Draft) -> Option<Self> {
        let (mut books, mut left) = (Self::default(), Vec::new());
        for (name, value) in kept {
            match keep::read(name, value)? {
                Kept::Share(key, share) => drop(books.shares.insert(key, share)),
                Kept::Open(wanted) => left.push(wanted),
                Kept::End(entry) => {
                    books.over.note(&entry);
                    books.queue.push_back(entry);
                }
            }
        }
        if !left.is_empty() {
            tracing::warn!(
                calls = left.len(),
                "calls were under way when the node stopped: each is charged what it held"
            );
        }
        for wanted in left {
            let open = Open { wanted: Arc::new(wanted), is_held: true, leaving: 1, deadline: 0 };
            let id = open.wanted.id;
            books.open.insert(id, open);
            books.end(id, Kind::Settle, &[], draft);
        }
        Some(books)
    }

    /// Holds that are open, and ends that wait for the store.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.open.len(), self.queue.len() + self.flying.len())
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
    pub(crate) fn withdraw(&mut self, id: u128, draft: &mut Draft) {
        match self.open.get_mut(&id) {
            Some(open) if open.leaving > 1 => open.leaving -= 1,
            Some(_) => self.end(id, Kind::Void, &[], draft),
            None => {}
        }
    }

    /// Gives back what is held, unless the call may have left.
    pub(crate) fn release(&mut self, id: u128, draft: &mut Draft) {
        if self.open.get(&id).is_some_and(|open| open.leaving == 0) {
            self.end(id, Kind::Void, &[], draft);
        }
    }

    pub(crate) fn end(&mut self, id: u128, kind: Kind, costs: &[Amount], draft: &mut Draft) {
        let Some(open) = self.open.remove(&id) else { return };
        if open.leaving > 0 {
            keep::closes(draft, id);
        }
        let mut parts = Vec::with_capacity(open.wanted.holds.len());
        for (place, piece) in open.wanted.holds.iter().enumerate() {
            let cost = costs.get(place).map_or(piece.amount, |cost| (*cost).max(Amount::ZERO));
            let cost = if kind == Kind::Void { Amount::ZERO } else { cost };
            parts.push((piece.row.clone(), cost));
            if kind != Kind::Void {
                self.post(&piece.row, draft, |share| {
                    share.posted = share.posted.plus(cost).unwrap_or(Amount::LARGEST);
                });
            }
        }
        self.send(Entry { id, check: open.wanted.check, kind, parts }, draft);
    }

    pub(crate) fn adjust(&mut self, id: u128, row: &Row, by: Amount, draft: &mut Draft) {
        if self.over.how.contains_key(&id) {
            return;
        }
        self.post(row, draft, |share| {
            share.adjusted = share.adjusted.plus(by).unwrap_or(share.adjusted);
        });
        let parts = vec![(row.clone(), by)];
        self.send(Entry { id, check: [0; 8], kind: Kind::Adjust, parts }, draft);
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

    /// Everything this node has spent and holds. What has ended is in it and is not sent any more.
    pub(crate) fn report(&mut self, epoch: u64, now_ms: u64, draft: &mut Draft) -> Report {
        self.epoch = epoch;
        for entry in self.queue.drain(..).chain(self.flying.drain(..)) {
            keep::taken(draft, entry.id);
        }
        self.prune(now_ms, draft);
        let held = self.open.values().filter(|open| open.is_held);
        let held = held.map(|open| (&*open.wanted, open.deadline));
        let over = self.over.how.iter().map(|(id, (check, state))| (*id, *check, *state));
        Report::new(epoch, self.shares.iter(), held, over)
    }

    /// Some of the ends that wait; none while others are on their way.
    pub(crate) fn fly(&mut self) -> Vec<Entry> {
        if !self.flying.is_empty() {
            return Vec::new();
        }
        let (mut entries, mut parts) = (Vec::new(), 0);
        while let Some(next) = self.queue.front() {
            parts += next.parts.len() + 1;
            if parts > PARTS_MAX && !entries.is_empty() {
                break;
            }
            entries.extend(self.queue.pop_front());
        }
        self.flying.clone_from(&entries);
        entries
    }

    /// The store has taken what was on its way. Answers the thresholds that were reached.
    pub(crate) fn landed(&mut self, fates: &[Become], draft: &mut Draft) -> Vec<(Row, u8)> {
        let mut reached = Vec::new();
        for (entry, become_) in std::mem::take(&mut self.flying).into_iter().zip(fates) {
            keep::taken(draft, entry.id);
            if matches!(become_.fate, Fate::Unknown | Fate::Conflict) {
                let id = format!("{:032x}", entry.id);
                tracing::error!(id, fate = ?become_.fate, "Redis does not agree how a hold ended");
            }
            for ((row, _), fired) in entry.parts.into_iter().zip(&become_.fired) {
                if *fired != 0 {
                    self.post(&row, draft, |share| share.fired |= fired);
                    reached.push((row, *fired));
                }
            }
        }
        reached
    }

    /// Nobody knows whether the store has taken what was on its way: it goes again.
    pub(crate) fn strayed(&mut self) {
        for entry in self.flying.drain(..).rev() {
            self.queue.push_front(entry);
        }
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

    /// Whether this node never held any money.
    pub(crate) fn is_new(&self) -> bool {
        self.shares.is_empty() && self.queue.is_empty() && self.open.is_empty()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    fn post(&mut self, row: &Row, draft: &mut Draft, change: impl FnOnce(&mut Share)) {
        let share = self.shares.entry(Arc::clone(&row.key)).or_default();
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

/// Ended ids that a store which forgot is told of; older ones it does not know afterwards.
const OVER_MAX: usize = 65_536;

/// Entries and their parts in one call.
const PARTS_MAX: usize = 1_024;
