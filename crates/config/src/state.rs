//! The cluster's rules as they are stored, and how a command changes them.

mod draft;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::{Applied, Command, RECORD_VERSION, Rejected, UnknownVersion};
use crate::key::{Key, Kind};
use draft::Draft;

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
    rows: BTreeMap<Kind, Arc<BTreeMap<Key, Stored>>>,
}

impl State {
    /// A state as it was stored. Rows are trusted: they came out of [`State::apply`].
    #[must_use]
    pub fn restore(revision: Revision, rows: impl Iterator<Item = (Key, Stored)>) -> Self {
        let mut state = Self { revision, ..Self::default() };
        for (key, stored) in rows {
            state.insert(key, stored);
        }
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
        self.rows.get(&key.kind)?.get(key)
    }

    /// The resources of a kind, in the order of their ids.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Stored)> {
        self.rows.get(&kind).into_iter().flat_map(|rows| rows.iter())
    }

    /// How many resources of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.rows.get(&kind).map_or(0, |rows| rows.len())
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.values().map(|rows| rows.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes all of a command's changes, or none.
    ///
    /// Pure: whoever applies the same commands reaches the same state.
    ///
    /// # Errors
    /// When the command does not fit the state; nothing has changed then.
    pub fn apply(&mut self, command: &Command) -> Result<Applied, Rejected> {
        let mut draft = Draft::new(self, command)?;
        for change in &command.changes {
            draft.make(change)?;
        }
        let (state, applied) = draft.finish()?;
        *self = state;
        Ok(applied)
    }

    fn insert(&mut self, key: Key, stored: Stored) {
        Arc::make_mut(self.rows.entry(key.kind).or_default()).insert(key, stored);
    }

    fn remove(&mut self, key: &Key) -> Option<Stored> {
        Arc::make_mut(self.rows.get_mut(&key.kind)?).remove(key)
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
