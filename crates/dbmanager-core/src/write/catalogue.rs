//! The collections, by name: those that are live, and up to which generation each was dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use super::WriteRoom;
use crate::{
    journal::JournalResult,
    model::{Collection, CollectionKey},
};

/// The collections by name.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    live: BTreeMap<Arc<str>, Collection>,
    /// The highest generation of each name that was dropped.
    dropped: BTreeMap<Arc<str>, u64>,
}

impl WriteRoom {
    /// The live collection of this name.
    pub(crate) fn collection(&self, name: &str) -> Option<Collection> {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .live
            .get(name)
            .cloned()
    }

    /// Whether this generation of the collection is the live one.
    pub(crate) fn is_live(&self, collection: &CollectionKey) -> bool {
        let live = self.collection(&collection.name);
        live.is_some_and(|live| live.key == *collection)
    }

    /// The live collections, by name.
    pub(crate) fn collections(&self) -> Vec<Collection> {
        self.catalogue
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .live
            .values()
            .cloned()
            .collect()
    }

    /// Takes note of a collection as the journal has it.
    pub(crate) fn remember_collection(&self, collection: Collection) {
        let mut catalogue = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Collection { key, options } = &collection;
        // Another instance's news may be older than what this one has done since: an embedding
        // space is never taken back, and a dropped generation never returns.
        let newer = catalogue.live.get(&key.name).is_none_or(|known| {
            known.key.generation < key.generation
                || known.key.generation == key.generation
                    && (options.embedding_space.is_some()
                        || known.options.embedding_space.is_none())
        });
        let dropped = catalogue.dropped.get(&key.name);
        if newer && dropped.is_none_or(|dropped| *dropped < key.generation) {
            catalogue.live.insert(Arc::clone(&key.name), collection);
        }
    }

    pub(crate) fn forget_collection(&self, key: &CollectionKey) {
        let mut catalogue = self
            .catalogue
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if catalogue
            .live
            .get(&key.name)
            .is_some_and(|known| known.key == *key)
        {
            catalogue.live.remove(&key.name);
        }
        let dropped = catalogue.dropped.entry(Arc::clone(&key.name)).or_default();
        *dropped = key.generation.max(*dropped);
    }

    /// Takes over the journal's collections; those that are not among them were dropped. What is
    /// created or dropped here meanwhile stays as it is.
    pub(super) async fn refresh_catalogue(&self) -> JournalResult<()> {
        let before = self.collections();
        let read = self.journal.collections().await?;
        let live: BTreeSet<CollectionKey> = read.iter().map(|c| c.key.clone()).collect();
        for gone in before.iter().filter(|c| !live.contains(&c.key)) {
            self.forget_collection(&gone.key);
        }
        for collection in read {
            self.remember_collection(collection);
        }
        Ok(())
    }
}
