//! The leases of a node, by bucket.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use foldhash::quality::RandomState;
use model::Bucket;
use parking_lot::RwLock;
use rules::plan::BucketKey;

use super::holding::Holding;

/// A bucket that the node leases of, or would.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: BucketKey,
    pub(crate) bucket: Bucket,
    pub(crate) terms: Terms,
    pub(crate) holding: Holding,
    /// Tokens left in the store when it last said so.
    pub(crate) left: AtomicU64,
    /// When it is looked at next.
    pub(crate) wake: AtomicU64,
}

/// How a bucket is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Whatever the number of nodes.
    pub(crate) always: bool,
    /// Only while it is sure that the store counts it: nodes may have shares of it otherwise.
    pub(crate) shares: bool,
}

/// By the hash of their buckets' keys, which need no further one.
type Part = HashMap<u64, Arc<Entry>, foldhash::fast::FixedState>;

/// All of them, in parts that are locked for themselves, and for writing only when one comes or
/// goes.
#[derive(Debug)]
pub(crate) struct Table {
    parts: Vec<RwLock<Part>>,
    hasher: RandomState,
    count: AtomicUsize,
    most: usize,
}

impl Table {
    pub(crate) fn new(most: usize) -> Self {
        let parts = (0..PARTS).map(|_| RwLock::default()).collect();
        Self { parts, hasher: RandomState::default(), count: AtomicUsize::new(0), most }
    }

    fn part(&self, hash: u64) -> Option<&RwLock<Part>> {
        self.parts.get(usize::try_from(hash >> 58).unwrap_or_default())
    }

    /// The entry of a bucket; `None` also where another has the same hash.
    pub(crate) fn find(&self, key: &BucketKey) -> Option<Arc<Entry>> {
        let hash = self.hasher.hash_one(key);
        let part = self.part(hash)?.read();
        part.get(&hash).filter(|entry| entry.key == *key).cloned()
    }

    /// A new entry, or the one that somebody else made meanwhile. `None` when there is no room, or
    /// another bucket has the same hash: that one is drawn on exactly.
    pub(crate) fn add(
        &self,
        key: &BucketKey,
        bucket: Bucket,
        terms: Terms,
        now: u64,
    ) -> Option<Arc<Entry>> {
        let hash = self.hasher.hash_one(key);
        let mut part = self.part(hash)?.write();
        if let Some(entry) = part.get(&hash) {
            return (entry.key == *key).then(|| Arc::clone(entry));
        }
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let entry = Arc::new(Entry {
            key: key.clone(),
            bucket,
            terms,
            holding: Holding::new(bucket, terms.always, now),
            left: AtomicU64::new(0),
            wake: AtomicU64::new(0),
        });
        part.insert(hash, Arc::clone(&entry));
        Some(entry)
    }

    /// Removes an entry, unless another has taken its place.
    pub(crate) fn remove(&self, entry: &Arc<Entry>) {
        let hash = self.hasher.hash_one(&entry.key);
        let Some(part) = self.part(hash) else { return };
        let mut part = part.write();
        if part.get(&hash).is_some_and(|other| Arc::ptr_eq(other, entry)) {
            part.remove(&hash);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let listed = |part: &RwLock<Part>| -> Vec<_> { part.read().values().cloned().collect() };
        self.parts.iter().flat_map(listed).collect()
    }
}

/// As many as six bits of a hash tell apart.
const PARTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::Entry;

    #[test]
    fn an_entry_is_small() {
        // Beside it: its counts of references, its place in the table and its next look.
        assert!(size_of::<Entry>() <= 232, "{}", size_of::<Entry>());
    }
}
