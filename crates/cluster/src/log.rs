//! The log as openraft asks for it, over the store.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::Error;
use crate::store::Store;
use crate::types::{
    Entry, EntryPayload, LogFlushed, LogId, LogState, RaftLogReader, RaftLogStorage, StorageError,
    Types, Vote, read_failed, write_failed,
};

/// The log on disk, and its newest entries in memory. Every clone is the same log.
#[derive(Clone)]
pub(crate) struct Log {
    store: Arc<Store>,
    tail: Arc<Mutex<Tail>>,
}

/// The newest entries: each is read again at once, to be applied and to be sent to each peer.
/// At most [`TAIL_ENTRIES_MAX`] and [`TAIL_BYTES_MAX`], and always the last one, whatever its size:
/// the node that judged it knows it by its address. Older ones are read from the disk.
#[derive(Default)]
struct Tail {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
}

impl Log {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, tail: Arc::default() }
    }

    async fn read(
        &self,
        range: (Bound<u64>, Bound<u64>),
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.tail.lock().read(range, bytes_max) {
            return Ok(entries);
        }
        let store = Arc::clone(&self.store);
        let read = blocking(move || store.entries(range, bytes_max)).await;
        read.map_err(|cause| read_failed(&cause))
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, StorageError> {
        let store = Arc::clone(&self.store);
        blocking(move || write(&store)).await.map_err(|cause| write_failed(&cause))
    }
}

impl Tail {
    /// The entries of a range, if all that are there are in memory.
    fn read(&self, range: (Bound<u64>, Bound<u64>), bytes_max: usize) -> Option<Vec<Entry>> {
        let (first, _) = self.entries.first_key_value()?;
        let start = match range.0 {
            Bound::Included(start) => start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let is_empty = match range.1 {
            Bound::Included(end) => end < start,
            Bound::Excluded(end) => end <= start,
            Bound::Unbounded => false,
        };
        if start < *first || is_empty {
            return is_empty.then(Vec::new);
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += size(entry);
            bytes <= bytes_max
        };
        let mut found: Vec<Entry> =
            self.entries.range(range).map(|(_, entry)| entry).take_while(fits).cloned().collect();
        if found.is_empty() {
            found.extend(self.entries.range(range).next().map(|(_, entry)| entry.clone()));
        }
        Some(found)
    }

    fn extend(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.bytes += size(&entry);
            self.entries.insert(entry.log_id.index, entry);
        }
        let is_over =
            |tail: &Self| tail.entries.len() > TAIL_ENTRIES_MAX || tail.bytes > TAIL_BYTES_MAX;
        while is_over(self) && self.entries.len() > 1 {
            let Some((_, entry)) = self.entries.pop_first() else { return };
            self.bytes -= size(&entry);
        }
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.entries.retain(|index, _| keep(*index));
        self.bytes = self.entries.values().map(size).sum();
    }
}

/// What an entry's changes take in the log, in bytes.
pub(crate) fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(payload) => payload.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read((range.start_bound().cloned(), range.end_bound().cloned()), usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read((Bound::Included(start), Bound::Excluded(end)), SENT_BYTES_MAX).await
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState, StorageError> {
        let store = Arc::clone(&self.store);
        let read = blocking(move || Ok((store.purged()?, store.last()?))).await;
        let (purged, last) = read.map_err(|cause| read_failed(&cause))?;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.or(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.write(move |store| store.save_vote(&vote)).await
    }

    /// A node that led when it ended stands for election again. openraft would have it lead on at
    /// once, but a leader must know how far was agreed, to answer readers: the end of that need not
    /// have reached the disk, and only an entry of a new term tells it.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let (store, me) = (Arc::clone(&self.store), self.store.node());
        let read = blocking(move || store.vote()).await.map_err(|cause| read_failed(&cause))?;
        Ok(read.map(|mut vote| {
            vote.committed &= vote.leader_id().voted_for() != Some(me);
            vote
        }))
    }

    /// Returns when the entries are on disk: the core waits for that anyway.
    async fn append<I>(&mut self, entries: I, flushed: LogFlushed) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let written = entries.clone();
        self.write(move |store| store.append(&written)).await?;
        self.tail.lock().extend(entries);
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.tail.lock().retain(|index| index < log_id.index);
        self.write(move |store| store.truncate(log_id.index)).await
    }

    /// openraft purges what a snapshot covers while the snapshot is still being installed. A crash
    /// between the two would leave neither, and entries that come after it would be acknowledged
    /// on top of nothing; so the log waits for the machine.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.store.has_made(log_id.index).await.map_err(|cause| write_failed(&cause))?;
        self.tail.lock().retain(|index| index > log_id.index);
        self.write(move |store| store.purge(log_id)).await
    }
}

/// Runs what blocks where it may. A panic is what redb makes of some kinds of damage.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    on_thread(work).await.unwrap_or(Err(Error::Died))
}

/// Runs what blocks where it may; `None` when it panicked.
pub(crate) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    // A simulation has one thread, and what blocks takes its time by the simulated clock.
    #[cfg(test)]
    if crate::sim::is_running() {
        return crate::sim::disk::at_its_pace(work).await;
    }
    tokio::task::spawn_blocking(work).await.ok()
}

/// Entries in memory.
const TAIL_ENTRIES_MAX: usize = 512;

/// Bytes of entries in memory.
const TAIL_BYTES_MAX: usize = 16 << 20;

/// Bytes of entries in one message, unless it has only one entry.
const SENT_BYTES_MAX: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use config::{Change, Command, Expect, Key, Kind, Stamp};
    use model::{Revision, Timestamp};
    use serde_json::Value;

    use super::{TAIL_BYTES_MAX, Tail};
    use crate::entry::{self, Batch, Payload, Proposal, ProposalId};
    use crate::types::{Entry, EntryPayload, LogId};

    fn payload(bytes: usize) -> Payload {
        let (key, value) = (Key::new(Kind::Route, "1"), Value::from("x".repeat(bytes)));
        let change = Change::Put { key, value, expect: Expect::Any, stamp: Stamp::Now };
        let at = Timestamp::from_secs(1);
        let command = Command { at, base: None, force: false, changes: vec![change] };
        let change = entry::Change::Document(command);
        let proposals = vec![Proposal { id: ProposalId([1; 16]), change }];
        Payload::new(&Batch { base: Revision::ZERO, after: Revision::new(1), proposals })
    }

    /// Whether the tail holds this very payload at an index.
    fn holds(tail: &Tail, index: u64, payload: &Payload) -> bool {
        let range = (Bound::Included(index), Bound::Included(index));
        let found = tail.read(range, usize::MAX).unwrap_or_default();
        found.iter().any(|entry| match &entry.payload {
            EntryPayload::Normal(found) => found.is(payload),
            EntryPayload::Blank | EntryPayload::Membership(_) => false,
        })
    }

    #[test]
    fn the_last_entry_is_in_memory_whatever_its_size() {
        let (small, large) = (payload(1), payload(TAIL_BYTES_MAX + 1));
        let mut tail = Tail::default();
        for (index, payload) in [(1, &small), (2, &large)] {
            let log_id = LogId { index, ..LogId::default() };
            let payload = EntryPayload::Normal(payload.clone());
            tail.extend(vec![Entry { log_id, payload }]);
        }
        assert!(holds(&tail, 2, &large) && !holds(&tail, 1, &small));
        let log_id = LogId { index: 3, ..LogId::default() };
        let payload = EntryPayload::Normal(small.clone());
        tail.extend(vec![Entry { log_id, payload }]);
        assert!(holds(&tail, 3, &small) && !holds(&tail, 2, &large));
    }
}
