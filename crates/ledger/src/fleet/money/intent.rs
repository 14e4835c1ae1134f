//! Adjustments on their way: on this node's disk first, then in the store, and only then in the
//! node's share and in its history, together.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use model::Amount;
use rules::budget::Account;
use tokio::sync::oneshot;

use super::books::Books;
use super::keep;
use super::resolve::{Fate, Part};
use super::{Entry, Kind, Purse, Row};
use crate::money::{AdjustError, Adjustment, Draft};

/// What an operator wants, which the store has not answered.
#[derive(Debug)]
pub(crate) struct Intent {
    pub(crate) row: Row,
    pub(crate) what: Adjustment,
    /// The change of the journal that has it: it is sent when that is written.
    change: u64,
    waiting: Vec<oneshot::Sender<Adjusted>>,
}

/// The row afterwards, and whether it was adjusted now.
pub(crate) type Adjusted = Result<(Account, bool), AdjustError>;

/// All intents of a node, by the ids of their entries.
#[derive(Debug, Default)]
pub(crate) struct Intents(BTreeMap<u128, Intent>);

impl Intent {
    /// Of an earlier life, which is on the disk.
    pub(crate) const fn kept(row: Row, what: Adjustment) -> Self {
        Self { row, what, change: 0, waiting: Vec::new() }
    }

    fn entry(&self, id: u128) -> Entry {
        let parts = vec![(self.row.clone(), self.what.by)];
        Entry { id, check: check(&self.row, self.what.by), kind: Kind::Adjust, parts }
    }

    /// Answers who waits what became of it.
    pub(crate) fn answer(self, fate: Fate, part: &Part) {
        let account = part.account.unwrap_or_default();
        let adjusted = match fate {
            Fate::Done | Fate::Known => Ok((account, true)),
            Fate::Elsewhere => Ok((account, false)),
            Fate::Range => Err(AdjustError::TooLarge),
            Fate::Conflict | Fate::Unknown | Fate::Returned => Err(AdjustError::Mismatch),
        };
        for waiting in self.waiting {
            // Whoever asked may be gone.
            let _unheard = waiting.send(adjusted).is_err();
        }
    }
}

impl Intents {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits for an intent of the same id, if there is one.
    ///
    /// # Errors
    /// When that wants something else.
    pub(crate) fn join(
        &mut self,
        id: u128,
        (row, by): (&Row, Amount),
        waiting: oneshot::Sender<Adjusted>,
    ) -> Result<Option<oneshot::Sender<Adjusted>>, AdjustError> {
        let Some(intent) = self.0.get_mut(&id) else { return Ok(Some(waiting)) };
        if intent.row.key != row.key || intent.what.by != by {
            return Err(AdjustError::Mismatch);
        }
        intent.waiting.push(waiting);
        Ok(None)
    }

    /// Takes one from an earlier life, or a new one with who waits for it.
    pub(crate) fn put(
        &mut self,
        id: u128,
        intent: Intent,
        waiting: Option<oneshot::Sender<Adjusted>>,
    ) {
        let intent = self.0.entry(id).or_insert(intent);
        intent.change = if waiting.is_some() { u64::MAX } else { 0 };
        intent.waiting.extend(waiting);
    }

    /// It is on the disk once this change is.
    pub(crate) fn stands_in(&mut self, id: u128, change: u64) {
        if let Some(intent) = self.0.get_mut(&id) {
            intent.change = intent.change.min(change);
        }
    }

    /// Those that are on the disk, which has changes up to this one.
    pub(crate) fn due(&self, written: u64) -> impl Iterator<Item = Entry> {
        let due = self.0.iter().filter(move |(_, intent)| intent.change <= written);
        due.map(|(id, intent)| intent.entry(*id))
    }

    pub(crate) fn has(&self, id: u128) -> bool {
        self.0.contains_key(&id)
    }

    pub(crate) fn take(&mut self, id: u128) -> Option<Intent> {
        self.0.remove(&id)
    }
}

impl Purse {
    /// Adds to what a row may spend: first on the disk, then in the store, whose answer it waits
    /// for. `None` when this node has done the same under this id before.
    ///
    /// # Errors
    /// When it cannot be done, or is not known to be; what is on the disk is done once the store
    /// can be asked.
    pub(crate) async fn adjust(&self, row: Row, what: Adjustment) -> Option<Adjusted> {
        let (id, by) = (id_of(&what.id), what.by);
        let (waiting, adjusted) = oneshot::channel();
        let put = |books: &mut Books, draft: &mut Draft| {
            if let Some((of, before)) = books.history.adjustment(&what.id) {
                let is_same = *of == what.row && before == by;
                return Err(if is_same { None } else { Some(AdjustError::Mismatch) });
            }
            if let Some(waiting) = books.intents.join(id, (&row, by), waiting).map_err(Some)? {
                if books.intents.len() >= INTENTS_MAX {
                    return Err(Some(AdjustError::Full));
                }
                let intent = Intent::kept(row, what);
                keep::intent(draft, id, Some(&intent));
                books.intents.put(id, intent, Some(waiting));
            }
            Ok(())
        };
        let (done, change) = self.change(put);
        if let Err(error) = done {
            return error.map(Err);
        }
        self.books.lock().intents.stands_in(id, change);
        if let Some(journal) = &self.journal
            && journal.wait(change).await.is_err()
        {
            return Some(Err(AdjustError::Late));
        }
        self.work.notify_one();
        let adjusted = tokio::time::timeout(ADJUST_MAX, adjusted).await;
        Some(adjusted.ok().and_then(Result::ok).unwrap_or(Err(AdjustError::Late)))
    }
}

/// The id under which the store knows an adjustment, for all nodes.
pub(crate) fn id_of(name: &str) -> u128 {
    let digest = digest(&SHA256, format!("adjust:{name}").as_bytes());
    u128::from_be_bytes(*digest.as_ref().first_chunk().unwrap_or(&[0; 16]))
}

/// Stands for a row and an amount: the same id for another is a mistake.
pub(crate) fn check(row: &Row, by: Amount) -> [u8; 8] {
    let text = [&*row.key, b":", &by.parts().to_le_bytes()].concat();
    let mut check = [0; 8];
    check.copy_from_slice(digest(&SHA256, &text).as_ref().first_chunk::<8>().unwrap_or(&[0; 8]));
    check
}

/// Adjustments on their way at once. When as many are, the next is refused.
const INTENTS_MAX: usize = 1_024;

/// Longest wait of an operator for the store to take an adjustment.
const ADJUST_MAX: Duration = Duration::from_secs(5);
