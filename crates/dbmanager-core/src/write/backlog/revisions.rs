//! Counts of what was written, by which a cached answer knows whether it is still current.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::DocumentKey;
use crate::model::CollectionKey;

/// Documents share counts: a write to one may make another's cached copy useless, never wrong.
const SHARDS: usize = 4_096;

/// The counts. They only rise, under the backlog's lock and in the same critical section that makes
/// the write visible: who reads a count and then the backlog, and finds no live entry, has either
/// read a count from before the write or reads an authority that holds it.
#[derive(Debug)]
pub(crate) struct Revisions {
    documents: Box<[AtomicU64]>,
    collections: Mutex<HashMap<CollectionKey, u64>>,
    all: AtomicU64,
    /// Raised when a store's standing changes: then nothing cached counts any more.
    standing: AtomicU64,
}

/// How a document, or what a search looks at, stood at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    standing: u64,
    count: u64,
}

impl Default for Revisions {
    fn default() -> Self {
        Self {
            documents: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            collections: Mutex::default(),
            all: AtomicU64::new(0),
            standing: AtomicU64::new(0),
        }
    }
}

impl Revisions {
    /// Of a document.
    pub(crate) fn of_document(&self, document: &DocumentKey) -> Revision {
        self.at(self.shard(document))
    }

    /// Of everything in these collections.
    pub(crate) fn of_collections<'a>(
        &self,
        collections: impl IntoIterator<Item = &'a CollectionKey>,
    ) -> Revision {
        let counts = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = |key| counts.get(key).copied().unwrap_or(0);
        Revision {
            standing: self.standing.load(Ordering::SeqCst),
            count: collections.into_iter().map(count).sum(),
        }
    }

    /// Of everything there is.
    pub(crate) fn of_all(&self) -> Revision {
        self.at(&self.all)
    }

    /// Something was written.
    pub(super) fn written(&self, document: &DocumentKey) {
        self.shard(document).fetch_add(1, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        let mut counts = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *counts.entry(document.collection.clone()).or_default() += 1;
        if document.is_drop() {
            // Generations are never used again.
            counts.remove(&document.collection);
        }
    }

    /// A store's standing changed.
    pub(super) fn restanding(&self) {
        self.standing.fetch_add(1, Ordering::SeqCst);
    }

    fn at(&self, count: &AtomicU64) -> Revision {
        Revision {
            standing: self.standing.load(Ordering::SeqCst),
            count: count.load(Ordering::SeqCst),
        }
    }

    fn shard(&self, document: &DocumentKey) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        document.hash(&mut hasher);
        &self.documents[(hasher.finish() % SHARDS as u64) as usize]
    }
}
