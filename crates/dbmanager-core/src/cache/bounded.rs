//! A map of bounded size.

use std::{fmt, hash::Hash};

/// Keeps what is used often and was used lately (moka's TinyLFU), within a number of bytes.
pub(super) struct Bounded<K, V>(moka::sync::Cache<K, (u32, V)>);

impl<K, V> Bounded<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(bytes: u64) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, (bytes, _): &(u32, V)| *bytes);
        Self(cache.build())
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|(_, value)| value)
    }

    pub(super) fn insert(&self, key: K, value: V, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.insert(key, (bytes, value));
    }
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").finish_non_exhaustive()
    }
}
