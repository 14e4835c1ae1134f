//! A hash map whose clones share what neither of them changes, so that a map of a hundred thousand
//! agents and the same with one more are nearly one.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Keys and values. A clone costs nothing, and a change copies one of `SHARDS` parts.
#[derive(Debug)]
pub struct Shards<K, V> {
    /// None while there is no entry, otherwise all of them.
    parts: Arc<Vec<Arc<HashMap<K, V>>>>,
    len: usize,
}

impl<K: Eq + Hash, V> Shards<K, V> {
    /// The value of a key.
    #[must_use]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts.get(part(key))?.get(key)
    }

    /// Whether a key is there.
    #[must_use]
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Every key with its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// Every value, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Shards<K, V> {
    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        let parts = Arc::make_mut(&mut self.parts);
        if parts.is_empty() {
            parts.resize_with(SHARDS, Arc::default);
        }
        let Some(part) = parts.get_mut(part(&key)) else { return };
        if Arc::make_mut(part).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    /// Takes a key out, if it is there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return;
        }
        if let Some(part) = Arc::make_mut(&mut self.parts).get_mut(part(key)) {
            Arc::make_mut(part).remove(key);
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self::default();
        }
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { parts: Arc::default(), len: 0 }
    }
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts), len: self.len }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> FromIterator<(K, V)> for Shards<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut shards = Self::default();
        entries.into_iter().for_each(|(key, value)| shards.insert(key, value));
        shards
    }
}

/// The part of a key. Which one only spreads them: the maps inside have a keyed hash of their own.
fn part<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    let folded = hasher.finish() ^ (hasher.finish() >> 32);
    usize::try_from(folded % SHARDS as u64).unwrap_or_default()
}

/// FNV-1a (Fowler, Noll and Vo), which is quick on short keys.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Parts of a map.
const SHARDS: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::Shards;

    type Edit = (u8, Option<u8>);

    fn edit(shards: &mut Shards<String, u8>, model: &mut HashMap<String, u8>, edits: &[Edit]) {
        for (key, value) in edits {
            let key = key.to_string();
            match value {
                Some(value) => {
                    shards.insert(key.clone(), *value);
                    model.insert(key, *value);
                }
                None => {
                    shards.remove(key.as_str());
                    model.remove(&key);
                }
            }
        }
    }

    fn is_same(shards: &Shards<String, u8>, model: &HashMap<String, u8>) -> bool {
        let all = (0..=255_u8).map(|key| key.to_string());
        let mut all = all.map(|key| shards.get(key.as_str()) == model.get(&key));
        all.all(|same| same) && shards.len() == model.len() && shards.iter().count() == model.len()
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_a_clone_keeps_what_the_other_changes(
            first in prop::collection::vec(any::<Edit>(), 0..200),
            second in prop::collection::vec(any::<Edit>(), 0..50),
        ) {
            let (mut shards, mut model) = (Shards::default(), HashMap::new());
            edit(&mut shards, &mut model, &first);
            let (kept, expected) = (shards.clone(), model.clone());
            edit(&mut shards, &mut model, &second);
            prop_assert!(is_same(&shards, &model));
            prop_assert!(is_same(&kept, &expected));
        }
    }

    #[test]
    fn keys_are_spread_over_the_parts() {
        let names = (0..12_800).map(|number| (format!("agent-{number}"), ()));
        let shards: Shards<String, ()> = names.collect();
        let fullest = shards.parts.iter().map(|part| part.len()).max().unwrap();
        assert!(fullest < 200, "{fullest} of 100 on average");
    }
}
