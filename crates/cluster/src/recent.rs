//! The proposals that had their effect lately, so that a repeated one has it once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use config::{EffectKind, Key};
use serde::{Deserialize, Serialize};

use crate::entry::ProposalId;

/// What a proposal did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) id: ProposalId,
    /// The document's revision after it.
    pub(crate) revision: u64,
    /// What became of each resource; nothing for a change of facts.
    pub(crate) effects: Vec<(Key, EffectKind)>,
}

/// What the proposals of one entry did.
pub(crate) type DoneBatch = Arc<[Done]>;

/// At most [`RECENT_MAX`] proposals; beyond it the oldest entry's are forgotten together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    /// By the entry's index, oldest first.
    batches: VecDeque<(u64, DoneBatch)>,
    /// Where a proposal lies: its entry's index, and its place in it.
    places: HashMap<ProposalId, (u64, usize)>,
    /// The last entry whose proposals were forgotten.
    forgotten: u64,
}

/// What is known of a proposal that was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Done(Done),
    /// It had no effect.
    New,
    /// It was first sent so long ago that nobody remembers.
    Forgotten,
}

impl Recent {
    /// What is known of a proposal. `since` is an entry that was applied somewhere before it was
    /// first sent, if it was sent before.
    pub(crate) fn look_up(&self, id: ProposalId, since: Option<u64>) -> Known {
        match (self.find(id), since) {
            (Some(done), _) => Known::Done(done.clone()),
            (None, Some(since)) if since < self.forgotten => Known::Forgotten,
            (None, _) => Known::New,
        }
    }

    pub(crate) fn holds(&self, id: ProposalId) -> bool {
        self.places.contains_key(&id)
    }

    /// The last entry whose proposals were forgotten.
    pub(crate) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &(u64, DoneBatch)> {
        self.batches.iter()
    }

    /// What was remembered when it was stored, oldest first.
    pub(crate) fn restore(
        forgotten: u64,
        batches: impl IntoIterator<Item = (u64, DoneBatch)>,
    ) -> Self {
        let mut recent = Self { forgotten, ..Self::default() };
        for (index, batch) in batches {
            recent.insert(index, batch);
        }
        recent
    }

    /// Remembers an entry's proposals; answers which entries' are forgotten for them.
    pub(crate) fn note(&mut self, index: u64, batch: DoneBatch) -> Vec<u64> {
        self.insert(index, batch);
        let mut forgotten = Vec::new();
        while self.places.len() > RECENT_MAX
            && self.batches.len() > 1
            && let Some((index, batch)) = self.batches.pop_front()
        {
            for done in batch.iter() {
                self.places.remove(&done.id);
            }
            self.forgotten = index;
            forgotten.push(index);
        }
        forgotten
    }

    fn insert(&mut self, index: u64, batch: DoneBatch) {
        for (place, done) in batch.iter().enumerate() {
            self.places.insert(done.id, (index, place));
        }
        self.batches.push_back((index, batch));
    }

    fn find(&self, id: ProposalId) -> Option<&Done> {
        let (index, place) = self.places.get(&id)?;
        let at = self.batches.binary_search_by_key(index, |(index, _)| *index).ok()?;
        self.batches.get(at)?.1.get(*place)
    }
}

/// Proposals remembered: many times what can be repeated within a proposal's deadline.
const RECENT_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::{Done, Known, RECENT_MAX, Recent};
    use crate::entry::ProposalId;

    fn id(number: usize) -> ProposalId {
        ProposalId((number as u128).to_be_bytes())
    }

    fn done(number: usize) -> Done {
        Done { id: id(number), revision: number as u64, effects: vec![] }
    }

    #[test]
    fn what_was_done_is_known_until_it_is_forgotten_and_then_said_to_be() {
        let mut recent = Recent::default();
        for number in 0..RECENT_MAX + 2 {
            recent.note(number as u64 + 1, [done(number)].into());
        }
        assert_eq!(recent.look_up(id(2), Some(0)), Known::Done(done(2)));
        assert_eq!(recent.look_up(id(1), Some(1)), Known::Forgotten);
        assert_eq!(recent.look_up(id(1), None), Known::New);
        assert_eq!(recent.look_up(id(RECENT_MAX * 2), Some(2)), Known::New);
    }

    #[test]
    fn memory_survives_the_store() {
        let mut recent = Recent::default();
        recent.note(4, [done(1), done(2)].into());
        recent.note(9, [done(3)].into());
        let restored = Recent::restore(recent.forgotten(), recent.batches().cloned());
        assert_eq!(restored.look_up(id(2), None), Known::Done(done(2)));
        assert_eq!(restored.look_up(id(3), None), Known::Done(done(3)));
    }
}
