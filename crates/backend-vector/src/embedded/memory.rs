//! What is held in memory of each collection, and how it keeps up with the tables.
//!
//! The tables are the only truth. A search first reads, in its own snapshot of the file, the
//! number of the collection's last change; if memory is behind, it reads the documents changed
//! since. So a write whose outcome nobody learned, a failed commit or a dropped future need no
//! care: what is not committed is never read.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use dbmanager_backend_support::sqlite::JobResult;
use dbmanager_core::model::{ChunkVector, CollectionKey, Filter};
use rusqlite::Connection;

use super::{
    matrix::{DocumentEntry, Matrix},
    scan::KeySet,
    tables::{self, DocumentRow, State},
};

/// Filters remembered per collection.
const KNOWN_FILTERS: usize = 16;

/// One collection in memory.
#[derive(Debug)]
pub(super) struct Slot {
    loaded: Mutex<Option<Loaded>>,
    filters: Mutex<Filters>,
    /// Held by a search that has to load everything, so that the others wait for it without
    /// taking a connection.
    pub(super) loading: tokio::sync::Mutex<()>,
    #[cfg(feature = "hnsw")]
    pub(super) index: super::index::SlotIndex,
}

/// What was read up to a change.
#[derive(Debug)]
struct Loaded {
    state: State,
    matrix: Arc<Matrix>,
    /// The first serial number and the count of rows of each live document with vectors.
    places: HashMap<i64, (i64, usize)>,
}

impl Slot {
    fn new() -> Self {
        Self {
            loaded: Mutex::new(None),
            filters: Mutex::default(),
            loading: tokio::sync::Mutex::new(()),
            #[cfg(feature = "hnsw")]
            index: super::index::SlotIndex::default(),
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        locked(&self.loaded).is_some()
    }

    /// The documents that fulfil the filter at this state, read by `read` if they are not known.
    pub(super) fn matching(
        &self,
        state: &State,
        filter: &Arc<Filter>,
        read: impl FnOnce() -> JobResult<KeySet>,
    ) -> JobResult<Arc<KeySet>> {
        if let Some(keys) = locked(&self.filters).find(state, filter) {
            return Ok(keys);
        }
        let keys = Arc::new(read()?);
        locked(&self.filters).remember(state, filter, &keys);
        Ok(keys)
    }

    /// The matrix as of now, without reading; `None` if nothing is loaded.
    #[cfg(feature = "hnsw")]
    pub(super) fn current(&self) -> Option<(State, Arc<Matrix>)> {
        locked(&self.loaded)
            .as_ref()
            .map(|loaded| (loaded.state, Arc::clone(&loaded.matrix)))
    }

    /// The collection's state and vectors in the connection's snapshot of the file, which must
    /// not have been read from before: it starts under the slot's lock, so that memory is never
    /// ahead of it.
    pub(super) fn catch_up(
        &self,
        connection: &Connection,
        key: &CollectionKey,
    ) -> JobResult<(State, Arc<Matrix>)> {
        let mut slot = locked(&self.loaded);
        let state = tables::state(connection, key)?;
        // Taken out while it changes: after an error half-way it is read anew.
        let mut loaded = slot
            .take()
            .filter(|loaded| loaded.can_reach(&state))
            .unwrap_or_else(|| Loaded::empty(state));
        loaded.catch_up(connection, state)?;
        let matrix = Arc::clone(&loaded.matrix);
        *slot = Some(loaded);
        Ok((state, matrix))
    }
}

impl Loaded {
    fn empty(state: State) -> Self {
        Self {
            state: State { change: 0, ..state },
            matrix: Arc::new(Matrix::new(state.metric, state.dimension)),
            places: HashMap::new(),
        }
    }

    fn can_reach(&self, state: &State) -> bool {
        self.state.change <= state.change
            && *state
                == State {
                    change: state.change,
                    ..self.state
                }
    }

    fn catch_up(&mut self, connection: &Connection, state: State) -> JobResult<()> {
        if self.state.change == state.change {
            return Ok(());
        }
        tables::documents_changed(
            connection,
            state.collection,
            self.state.change,
            |document| {
                let vectors = if document.head.deleted {
                    Vec::new()
                } else {
                    tables::checked_vectors(connection, &document, state.dimension)?
                };
                self.replace(document, vectors);
                Ok(())
            },
        )?;
        if self.matrix.wants_compaction() {
            self.matrix = Arc::new(self.matrix.compacted());
        }
        self.state = state;
        Ok(())
    }

    fn replace(&mut self, document: DocumentRow, vectors: Vec<(i64, ChunkVector)>) {
        let matrix = Arc::make_mut(&mut self.matrix);
        if let Some((serial, count)) = self.places.remove(&document.key)
            && let Some(row) = matrix.row_of(serial)
        {
            matrix.remove(Range {
                start: row,
                end: row + count,
            });
        }
        let Some((first, _)) = vectors.first() else {
            return;
        };
        self.places.insert(document.key, (*first, vectors.len()));
        let entry = Arc::new(DocumentEntry {
            key: document.key,
            id: document.id,
            version: document.head.version,
        });
        matrix.append(&entry, vectors);
    }
}

/// What the last filters matched, for as long as nothing changes: finding it takes longer than
/// the scan it leads to, and filters repeat.
#[derive(Debug, Default)]
struct Filters {
    state: Option<State>,
    matched: VecDeque<(Arc<Filter>, Arc<KeySet>)>,
}

impl Filters {
    fn find(&self, state: &State, filter: &Filter) -> Option<Arc<KeySet>> {
        if self.state != Some(*state) {
            return None;
        }
        let found = self.matched.iter().find(|(known, _)| **known == *filter);
        found.map(|(_, keys)| Arc::clone(keys))
    }

    fn remember(&mut self, state: &State, filter: &Arc<Filter>, keys: &Arc<KeySet>) {
        if self.state != Some(*state) {
            self.state = Some(*state);
            self.matched.clear();
        }
        if self.matched.len() == KNOWN_FILTERS {
            self.matched.pop_front();
        }
        self.matched
            .push_back((Arc::clone(filter), Arc::clone(keys)));
    }
}

/// The collections in memory.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<CollectionKey, Arc<Slot>>>);

impl Memory {
    pub(super) fn slot(&self, key: &CollectionKey) -> Arc<Slot> {
        let mut slots = locked(&self.0);
        Arc::clone(
            slots
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Slot::new())),
        )
    }

    /// Frees what is held of a collection that is gone.
    pub(super) fn forget(&self, key: &CollectionKey) {
        locked(&self.0).remove(key);
    }
}

/// What these mutexes guard is whole whenever one is free: changes take it out first.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
