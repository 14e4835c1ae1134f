//! A sorted map whose clones share what neither of them changes.
//!
//! The entries lie in chunks, and a change copies one chunk and the list of chunks. So what two
//! maps have in common is known by its address: [`Rows::differences`] looks at nothing else.

use std::sync::Arc;

/// Entries in the order of their keys.
#[derive(Debug)]
pub(crate) struct Rows<K, V> {
    /// None of them is empty.
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A key whose entry is not the same in two maps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference<'a, K, V> {
    pub(crate) key: &'a K,
    pub(crate) before: Option<&'a V>,
    pub(crate) after: Option<&'a V>,
}

impl<K: Ord + Clone, V: Clone> Rows<K, V> {
    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let chunk = self.chunks.get(self.place(key))?;
        let found = chunk.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        chunk.get(found).map(|(_, value)| value)
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).map(|(key, value)| (key, value))
    }

    /// The entries from a key on.
    pub(crate) fn starting_at<'a>(
        &'a self,
        key: &K,
    ) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let place = self.place(key);
        let chunks = self.chunks.get(place..).unwrap_or_default();
        let first = chunks.first().map_or(0, |chunk| chunk.partition_point(|(k, _)| k < key));
        let entries = chunks.iter().flat_map(|chunk| chunk.iter()).skip(first);
        entries.map(|(key, value)| (key, value))
    }

    /// Sets the value of a key; gives the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.is_behind_all(&key) {
            self.push(key, value);
            return None;
        }
        let place = self.place(&key).min(self.chunks.len().saturating_sub(1));
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = chunks.get_mut(place)?;
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(found) => {
                let entry = entries.get_mut(found)?;
                return Some(std::mem::replace(&mut entry.1, value));
            }
            Err(free) => entries.insert(free, (key, value)),
        }
        self.len += 1;
        if entries.len() > CHUNK_MAX {
            let upper = entries.split_off(entries.len() / 2);
            chunks.insert(place + 1, Arc::new(upper));
        }
        None
    }

    fn is_behind_all(&self, key: &K) -> bool {
        let last = self.chunks.last().and_then(|chunk| chunk.last());
        last.is_none_or(|(last, _)| last < key)
    }

    /// Adds an entry behind all others. Those that come in their order fill each chunk before the
    /// next is begun.
    fn push(&mut self, key: K, value: V) {
        self.len += 1;
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_MAX => Arc::make_mut(chunk).push((key, value)),
            Some(_) | None => chunks.push(Arc::new(vec![(key, value)])),
        }
    }

    /// Takes a key out; gives its value.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key);
        let found = self.chunks.get(place)?.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(chunks.get_mut(place)?);
        let (_, value) = entries.remove(found);
        self.len -= 1;
        let left = entries.len();
        if left < CHUNK_MIN {
            let next = chunks.get(place + 1).map(Arc::clone);
            if let Some(next) = next.filter(|next| left + next.len() <= CHUNK_MAX) {
                Arc::make_mut(chunks.get_mut(place)?).extend(next.iter().cloned());
                chunks.remove(place + 1);
            } else if left == 0 {
                chunks.remove(place);
            }
        }
        Some(value)
    }

    /// The keys whose entries are not the same, in their order. Costs what differs, and a look at
    /// each chunk.
    pub(crate) fn differences<'a>(
        before: &'a Self,
        after: &'a Self,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Vec<Difference<'a, K, V>> {
        let mut found = Vec::new();
        if Arc::ptr_eq(&before.chunks, &after.chunks) {
            return found;
        }
        let (mut old, mut new) = (Cursor::of(before), Cursor::of(after));
        loop {
            while old.skip_common(&mut new) {}
            let (one, other) = (old.entry(), new.entry());
            let order = match (one, other) {
                (None, None) => return found,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let one = one.filter(|_| order.is_le());
            let other = other.filter(|_| order.is_ge());
            old.advance(order.is_le());
            new.advance(order.is_ge());
            let (before, after) = (one.map(|(_, value)| value), other.map(|(_, value)| value));
            let same = before.zip(after).is_some_and(|(before, after)| is_same(before, after));
            if let (false, Some((key, _))) = (same, one.or(other)) {
                found.push(Difference { key, before, after });
            }
        }
    }

    /// The chunk that holds a key, or would.
    fn place(&self, key: &K) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(last, _)| last < key))
    }
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<K, V> Clone for Rows<K, V> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

/// A place in a map.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    offset: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn of(rows: &'a Rows<K, V>) -> Self {
        Self { chunks: &rows.chunks, offset: 0 }
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first()?.get(self.offset)
    }

    fn advance(&mut self, moves: bool) {
        self.offset += usize::from(moves);
        if let Some((chunk, rest)) = self.chunks.split_first()
            && self.offset >= chunk.len()
        {
            *self = Self { chunks: rest, offset: 0 };
        }
    }

    /// Passes a chunk that both maps share, when both are at its beginning.
    fn skip_common(&mut self, other: &mut Self) -> bool {
        let (Some((one, ours)), Some((two, theirs))) =
            (self.chunks.split_first(), other.chunks.split_first())
        else {
            return false;
        };
        if self.offset != 0 || other.offset != 0 || !Arc::ptr_eq(one, two) {
            return false;
        }
        (self.chunks, other.chunks) = (ours, theirs);
        true
    }
}

/// Entries of a chunk: what a change copies. A larger one is split.
const CHUNK_MAX: usize = 64;

/// A smaller chunk joins the next if both fit in one.
const CHUNK_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{CHUNK_MAX, Rows};

    type Edit = (u16, Option<u8>);

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let key = prop_oneof![0_u16..40, 0_u16..600];
        prop::collection::vec((key, prop::option::weighted(0.6, any::<u8>())), 0..400)
    }

    fn edit(rows: &mut Rows<u16, u8>, model: &mut BTreeMap<u16, u8>, edits: &[Edit]) {
        for (key, value) in edits {
            let (found, expected) = match value {
                Some(value) => (rows.insert(*key, *value), model.insert(*key, *value)),
                None => (rows.remove(key), model.remove(key)),
            };
            assert_eq!(found, expected);
        }
    }

    fn pairs<'a>(entries: impl Iterator<Item = (&'a u16, &'a u8)>) -> Vec<(u16, u8)> {
        entries.map(|(key, value)| (*key, *value)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(first in edits(), from in 0_u16..600) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            edit(&mut rows, &mut model, &first);
            prop_assert_eq!(rows.len(), model.len());
            prop_assert_eq!(pairs(rows.iter()), pairs(model.iter()));
            prop_assert_eq!(pairs(rows.starting_at(&from)), pairs(model.range(from..)));
            for key in 0..600 {
                prop_assert_eq!(rows.get(&key), model.get(&key));
            }
            prop_assert!(rows.chunks.iter().all(|it| !it.is_empty() && it.len() <= CHUNK_MAX));
        }

        #[test]
        fn a_clone_keeps_what_the_other_changes(first in edits(), second in edits()) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            edit(&mut rows, &mut model, &first);
            let (kept, expected) = (rows.clone(), pairs(model.iter()));
            edit(&mut rows, &mut model, &second);
            prop_assert_eq!(pairs(kept.iter()), expected);
            prop_assert_eq!(pairs(rows.iter()), pairs(model.iter()));
        }

        #[test]
        fn the_differences_are_those_of_the_entries(first in edits(), second in edits()) {
            let (mut rows, mut model) = (Rows::default(), BTreeMap::new());
            edit(&mut rows, &mut model, &first);
            let (before, old) = (rows.clone(), model.clone());
            edit(&mut rows, &mut model, &second);
            let mut expected = Vec::new();
            for key in 0..600 {
                if old.get(&key) != model.get(&key) {
                    expected.push((key, old.get(&key).copied(), model.get(&key).copied()));
                }
            }
            let found: Vec<_> = Rows::differences(&before, &rows, |one, other| one == other)
                .into_iter()
                .map(|found| (*found.key, found.before.copied(), found.after.copied()))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn one_change_among_many_is_compared_with_its_neighbours_only() {
        let mut rows = Rows::default();
        for key in 0..10_000_u32 {
            rows.insert(key, key);
        }
        let before = rows.clone();
        rows.insert(5_000, 0);
        rows.insert(20_000, 0);
        rows.remove(&77);
        let compared = std::cell::Cell::new(0);
        let found = Rows::differences(&before, &rows, |one, other| {
            compared.set(compared.get() + 1);
            one == other
        });
        let keys: Vec<u32> = found.iter().map(|found| *found.key).collect();
        assert_eq!(keys, [77, 5_000, 20_000]);
        assert!(compared.get() <= 3 * CHUNK_MAX, "{} compared", compared.get());
    }
}
