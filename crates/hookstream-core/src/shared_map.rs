//! A map whose copies share what they have in common.
//!
//! A view of the configuration has a hundred thousand webhooks, is never changed, and is replaced at every change.
//! The map is cut into [`SHARDS`] parts by a hash of the key; a copy has the same parts, and changing one entry copies
//! one part.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

/// Parts: with 100,000 entries one has about 200, so that copying it costs about as much as copying the list of parts.
const SHARDS: usize = 512;

/// Like a hash map, cheap to clone.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    shards: Vec<Arc<FxHashMap<K, V>>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        // Parts without entries are one.
        Self { shards: vec![Arc::default(); SHARDS], len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards.get(shard_of(key))?.get(key)
    }

    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// In no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// In no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Sets an entry; returns what stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = self.shards.get_mut(shard_of(&key))?;
        let old = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes an entry out; returns what stood there.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let shard = self.shards.get_mut(shard_of(key)).filter(|shard| shard.contains_key(key))?;
        let old = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(old.is_some());
        old
    }
}

/// The hash's upper bits: the parts' own tables take the lower ones.
fn shard_of<K: Hash>(key: &K) -> usize {
    usize::try_from(FxBuildHasher.hash_one(key) >> 32).unwrap_or_default() % SHARDS
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Hash + Eq + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards
    }
}

impl<K: fmt::Debug + Hash + Eq + Clone, V: fmt::Debug + Clone> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a map, and a copy stays as it was.
        #[test]
        fn like_a_map(steps in prop::collection::vec((any::<bool>(), 0u16..600, any::<u8>()), 0..400)) {
            let (mut map, mut model) = (SharedMap::default(), HashMap::new());
            let mut copies = Vec::new();
            for (step, (is_insert, key, value)) in steps.into_iter().enumerate() {
                if step % 50 == 0 {
                    copies.push((map.clone(), model.clone()));
                }
                if is_insert {
                    prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key), model.remove(&key));
                }
            }
            copies.push((map, model));
            for (map, model) in copies {
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), model.clone());
                prop_assert_eq!(map, model.into_iter().collect::<SharedMap<_, _>>());
            }
        }
    }
}
