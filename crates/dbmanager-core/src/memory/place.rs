//! Where the data of an in-memory store lives.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, DocumentState, Fingerprint, Head, Stamp,
        StoredRecord,
    },
    model::{CollectionKey, CollectionOptions, ContentHash, DocumentRecord, Filter, Role, Version},
};

/// The data of one in-memory store. Outlives the backends opened on it; clones are the same place.
#[derive(Clone, Default)]
pub struct MemoryPlace(Arc<Mutex<Data>>);

impl MemoryPlace {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another place with the same data, as a backup of a store is.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Puts the data back to that of another place, as a restored backup does.
    pub fn restore(&self, from: &Self) {
        let data = from.lock().clone();
        *self.lock() = data;
    }

    /// Loses one document with its version, in every generation of the collection: damage for
    /// tests of whatever should find it.
    pub fn lose(&self, collection: &str, id: &str) {
        for (key, held) in &mut self.lock().collections {
            if &*key.name == collection {
                held.documents.remove(id);
            }
        }
    }

    /// What tells this place from every other one that exists at the same time.
    pub(super) fn location(&self) -> String {
        format!("memory:{:p}", Arc::as_ptr(&self.0))
    }

    /// The data. A panic under the lock cannot leave a document half written, because documents
    /// are only ever inserted whole; so a poisoned lock is taken as it is.
    pub(super) fn lock(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryPlace")
            .field(&self.location())
            .finish()
    }
}

/// Everything a store holds.
#[derive(Clone, Default)]
pub(super) struct Data {
    /// The role of the backends on this place, fixed by the first.
    pub(super) role: Option<Role>,
    pub(super) stamp: Option<Stamp>,
    pub(super) collections: BTreeMap<CollectionKey, HeldCollection>,
}

impl Data {
    pub(super) fn collection(&self, key: &CollectionKey) -> BackendResult<&HeldCollection> {
        self.collections.get(key).ok_or_else(|| missing(key))
    }

    pub(super) fn collection_mut(
        &mut self,
        key: &CollectionKey,
    ) -> BackendResult<&mut HeldCollection> {
        self.collections.get_mut(key).ok_or_else(|| missing(key))
    }
}

fn missing(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::CollectionMissing,
        format!("collection {key} was not created here"),
    )
    .not_applied()
}

/// One generation of a collection.
#[derive(Clone)]
pub(super) struct HeldCollection {
    pub(super) options: CollectionOptions,
    pub(super) documents: BTreeMap<Arc<str>, HeldDocument>,
}

impl HeldCollection {
    /// The live documents by id that fulfil `filter` and are among `only`.
    pub(super) fn live<'a>(
        &'a self,
        filter: Option<&'a Filter>,
        only: Option<&'a [Arc<str>]>,
    ) -> impl Iterator<Item = (&'a Arc<str>, Version, &'a DocumentRecord)> {
        self.documents
            .iter()
            .filter_map(|(id, held)| Some((id, held.version, &**held.state.record()?)))
            .filter(move |(id, _, record)| {
                filter.is_none_or(|filter| filter.matches(record.document()))
                    && only.is_none_or(|only| only.contains(id))
            })
    }
}

/// The newest version of a document, or its tombstone.
#[derive(Clone)]
pub(super) struct HeldDocument {
    pub(super) version: Version,
    pub(super) state: DocumentState,
}

impl HeldDocument {
    pub(super) fn head(&self) -> Head {
        Head {
            version: self.version,
            deleted: self.state == DocumentState::Deleted,
        }
    }

    pub(super) fn record(&self, id: &Arc<str>) -> StoredRecord {
        StoredRecord {
            id: Arc::clone(id),
            version: self.version,
            state: self.state.clone(),
        }
    }

    pub(super) fn fingerprint(
        &self,
        collection: &CollectionKey,
        id: &Arc<str>,
        role: Role,
    ) -> Fingerprint {
        Fingerprint {
            id: Arc::clone(id),
            head: self.head(),
            content_hash: match &self.state {
                DocumentState::Live(record) => record.content_hash(&collection.name, role),
                DocumentState::Deleted => ContentHash::TOMBSTONE,
            },
        }
    }
}
