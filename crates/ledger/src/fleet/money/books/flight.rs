//! What a node tells the store as it comes, and what the store makes of it.

use std::sync::Arc;

use model::{Amount, ReservationId, Timestamp};
use rules::budget::{Account, Fired};

use super::Books;
use crate::fleet::money::keep;
use crate::fleet::money::resolve::{Become, Fate};
use crate::fleet::money::{Entry, Kind, Row};
use crate::money::{Deed, Draft};

/// Thresholds that a row was the first to reach, by what this node told the store.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) row: Row,
    pub(crate) percents: Vec<u8>,
    /// The row then.
    pub(crate) account: Account,
}

impl Books {
    /// Rows that were not looked at in this epoch, under what `budget_of` says of them, if a
    /// threshold of them has not fired: they are looked at when nothing else waits.
    pub(crate) fn look(&mut self, under: impl Fn(Row) -> Option<Row>) {
        if self.looked == self.epoch {
            return;
        }
        self.looked = self.epoch;
        for (key, share) in &self.shares {
            let (key, is) = (Arc::clone(key), share.is.clone());
            let row = Row { key, is, amount: Amount::ZERO, expires: 0, percents: [].into() };
            let Some(row) = under(row) else { continue };
            let fired = share.fired.named(&row.percents);
            if row.percents.iter().any(|percent| !fired.has(*percent)) {
                self.looks.push_back(row);
            }
        }
    }

    /// Some of the ends that wait, then what operators want and is on the disk, which has changes
    /// up to this one, and then what is to be looked at; none while others are on their way.
    pub(crate) fn fly(&mut self, written: u64, look: impl Fn(Row) -> Entry) -> Vec<Entry> {
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
        let room = PARTS_MAX.saturating_sub(parts) / 2;
        entries.extend(self.intents.due(written).take(room));
        if entries.is_empty() {
            let count = self.looks.len().min(PARTS_MAX / 2);
            entries.extend(self.looks.drain(..count).map(look));
        }
        self.flying.clone_from(&entries);
        entries
    }

    /// The store has taken what was on its way. Answers the thresholds that were reached.
    pub(crate) fn landed(
        &mut self,
        fates: &[Become],
        now: Timestamp,
        draft: &mut Draft,
    ) -> Vec<Reached> {
        let mut reached = Vec::new();
        for (entry, become_) in std::mem::take(&mut self.flying).into_iter().zip(fates) {
            self.decide(&entry, become_, now, draft);
            for ((row, _), part) in entry.parts.into_iter().zip(&become_.parts) {
                // What an earlier life of this node has told of is not told again.
                let known = self.shares.get(&row.key).map(|share| share.fired).unwrap_or_default();
                let new = part.fired.iter().filter(|percent| !known.has(**percent));
                let percents: Vec<u8> = new.copied().collect();
                let (Some(account), false) = (part.account, percents.is_empty()) else { continue };
                let fired: Fired = percents.iter().copied().collect();
                self.post(&row, draft, |share| {
                    share.fired = share.fired.named(&row.percents).and(fired);
                });
                for percent in percents.iter().copied() {
                    self.note(&row, now, Deed::Crossed { percent }, draft);
                }
                reached.push(Reached { row, percents, account });
            }
        }
        reached
    }

    /// Does with an entry what the store has made of it.
    fn decide(&mut self, entry: &Entry, became: &Become, now: Timestamp, draft: &mut Draft) {
        let (id, fate) = (entry.id, became.fate);
        keep::taken(draft, id);
        if let (Kind::Adjust, Some(intent)) = (entry.kind, self.intents.take(id)) {
            keep::intent(draft, id, None);
            if matches!(fate, Fate::Done | Fate::Known) {
                let what = intent.what.clone();
                let by = what.by;
                self.post(&intent.row, draft, |share| {
                    share.adjusted = share.adjusted.plus(by).unwrap_or(share.adjusted);
                });
                let deed = Deed::Adjusted { by, who: what.who, why: what.why, id: what.id };
                self.note(&intent.row, what.at, deed, draft);
            }
            let part = became.parts.first().cloned().unwrap_or_default();
            return intent.answer(fate, &part);
        }
        let is_charged = entry.kind == Kind::Estimate && matches!(fate, Fate::Done | Fate::Known);
        for (row, amount) in &entry.parts {
            let (amount, reservation) = (*amount, ReservationId(id));
            if is_charged {
                self.note(row, now, Deed::Assumed { amount, reservation }, draft);
            } else if fate == Fate::Returned {
                self.note(row, now, Deed::Returned { amount, reservation }, draft);
            }
        }
        if matches!(fate, Fate::Unknown | Fate::Conflict) {
            let id = format!("{id:032x}");
            tracing::error!(id, ?fate, "Redis does not agree how a hold ended");
        }
    }

    /// Nobody knows whether the store has taken what was on its way: it goes again.
    pub(crate) fn strayed(&mut self) {
        for entry in self.flying.drain(..).rev() {
            // An intent stands by itself until it is answered.
            if entry.kind != Kind::Adjust || !self.intents.has(entry.id) {
                self.queue.push_front(entry);
            }
        }
    }
}

/// Entries and their parts in one call.
const PARTS_MAX: usize = 1_024;
