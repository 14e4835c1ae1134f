//! The cluster's rules as they are stored, and how a command changes them.

mod draft;
mod index;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{Applied, Command, RECORD_VERSION, Rejected, UnknownVersion};
use crate::key::{Key, Kind};
use crate::parallel::in_parallel;
use crate::reference::Written;
use crate::rows::Rows;
use draft::Draft;
use index::Index;

/// A resource as it is stored.
///
/// Its serialised form names its version; a reader of another version refuses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Record", try_from = "Record")]
pub struct Stored {
    /// As sent, with `id`, `create_time` and `update_time`; secrets sealed.
    pub value: Arc<Value>,
    /// The revision that made it.
    pub created: Revision,
    /// The revision that last changed it.
    pub modified: Revision,
}

/// Every resource, at one revision.
///
/// Cheap to clone: the clones share what neither of them changes.
#[derive(Clone, Debug, Default)]
pub struct State {
    revision: Revision,
    kinds: BTreeMap<Kind, Rows<Key, Stored>>,
    /// What the resources say of each other.
    index: Index,
    /// The last revision at which a resource of the kind was written or deleted, or a later one.
    changed: BTreeMap<Kind, Revision>,
}

impl State {
    /// A state as it was stored. Rows are trusted: they came out of [`State::apply`].
    #[must_use]
    pub fn restore(revision: Revision, rows: impl Iterator<Item = (Key, Stored)>) -> Self {
        let mut state = Self { revision, ..Self::default() };
        for (key, stored) in rows {
            state.insert(key, stored);
        }
        // What was deleted left no trace, so each kind counts as changed.
        state.changed = Kind::ALL.iter().map(|kind| (*kind, revision)).collect();
        state
    }

    /// The number of this state.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// One resource.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.kinds.get(&key.kind)?.get(key)
    }

    /// The resources of a kind, in the order of their ids.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Stored)> {
        self.kinds.get(&kind).into_iter().flat_map(Rows::iter)
    }

    /// How many resources of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, Rows::len)
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.values().map(Rows::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last revision at which a resource of the kind was written or deleted, or a later one.
    pub(crate) fn changed(&self, kind: Kind) -> Revision {
        self.changed.get(&kind).copied().unwrap_or_default()
    }

    /// The resources that name another one, which need not be there.
    pub(crate) fn referrers(&self, named: &Key) -> impl Iterator<Item = &Key> {
        self.index.referrers(named)
    }

    /// The references to secrets that the resources hold, as they are written.
    pub(crate) fn written_references(&self) -> impl Iterator<Item = &Written> {
        self.index.references()
    }

    /// The credentials of a consumer.
    pub(crate) fn credentials(&self, consumer: &Key) -> Vec<Key> {
        let first = Key::new(Kind::Credential, format!("{}/", consumer.id));
        let rows = self.kinds.get(&Kind::Credential).into_iter();
        rows.flat_map(|rows| rows.starting_at(&first))
            .map(|(key, _)| key)
            .take_while(|key| key.id.starts_with(&first.id))
            .cloned()
            .collect()
    }

    /// The resources of a kind that are not the same in two states: of another value, made at
    /// another revision, or in one of them only.
    pub(crate) fn differences<'a>(before: &'a Self, after: &'a Self, kind: Kind) -> Vec<&'a Key> {
        let is_same = |one: &Stored, other: &Stored| {
            Arc::ptr_eq(&one.value, &other.value) && one.created == other.created
        };
        let (before, after) = (before.kinds.get(&kind), after.kinds.get(&kind));
        match (before, after) {
            (Some(before), Some(after)) => {
                let differences = Rows::differences(before, after, is_same).into_iter();
                differences.map(|difference| difference.key).collect()
            }
            (one, other) => one
                .or(other)
                .map_or_else(Vec::new, |rows| rows.iter().map(|(key, _)| key).collect()),
        }
    }

    /// Makes all of a command's changes, or none.
    ///
    /// Pure: whoever applies the same commands reaches the same state.
    ///
    /// # Errors
    /// When the command does not fit the state; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Rejected> {
        let mut draft = Draft::new(self, command)?;
        let faults = in_parallel(&command.changes, |change| draft.faults(change));
        for (change, faults) in command.changes.iter().zip(faults) {
            draft.make(change, faults)?;
        }
        let (state, applied) = draft.finish()?;
        *self = state;
        Ok(applied)
    }

    fn insert(&mut self, key: Key, stored: Stored) {
        self.changed.insert(key.kind, stored.modified);
        let rows = self.kinds.entry(key.kind).or_default();
        if let Some(previous) = rows.get(&key) {
            self.index.forget(&key, &previous.value);
        }
        self.index.note(&key, &stored.value);
        rows.insert(key, stored);
    }

    fn remove(&mut self, key: &Key, at: Revision) -> Option<Stored> {
        let stored = self.kinds.get_mut(&key.kind)?.remove(key)?;
        self.changed.insert(key.kind, at);
        self.index.forget(key, &stored.value);
        Some(stored)
    }
}

/// A resource as it is kept on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    v: u32,
    created: u64,
    modified: u64,
    value: Arc<Value>,
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Self {
        let Stored { value, created, modified } = stored;
        Self { v: RECORD_VERSION, created: created.number(), modified: modified.number(), value }
    }
}

impl TryFrom<Record> for Stored {
    type Error = UnknownVersion;

    fn try_from(record: Record) -> Result<Self, UnknownVersion> {
        let Record { v, created, modified, value } = record;
        if v != RECORD_VERSION {
            return Err(UnknownVersion { found: v });
        }
        Ok(Self { value, created: Revision::new(created), modified: Revision::new(modified) })
    }
}

#[cfg(test)]
mod tests;
