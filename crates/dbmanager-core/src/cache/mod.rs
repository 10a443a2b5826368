//! An in-process cache of documents and of search results, in front of `get` and `search`.
//!
//! Off unless `performance.cache_ttl` says how long an answer may be served, and only there with
//! the Cargo feature `cache`. Every answer carries the [`Revision`] it was made at, read *before*
//! the stores were asked; it is served only while that revision still is the current one. So a
//! write, a delete, or a change of a store's standing makes it useless the moment the
//! read-your-writes view shows it, with no second list of what to invalidate. The time bounds what
//! nobody here can see: somebody who edits the authority behind the library's back, and, where
//! several instances share a journal, the lag of its change sequence.

#[cfg(feature = "cache")]
#[path = "bounded.rs"]
mod bounded;
#[cfg(not(feature = "cache"))]
#[path = "absent.rs"]
mod bounded;

use std::{fmt::Write as _, io, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use self::bounded::Bounded;
use crate::{
    Runtime,
    config::PerformanceSettings,
    model::{Collection, DocumentRecord, Query, SearchResponse, Version},
    write::{DocumentKey, Revision},
};

/// An answer and when it was made.
#[derive(Clone, Debug)]
struct Dated<T> {
    answer: T,
    revision: Revision,
    made_at: Duration,
}

/// What identifies a search.
pub(crate) type SearchKey = [u8; 32];

/// The cache of a manager.
#[derive(Debug)]
pub(crate) struct Cache {
    runtime: Runtime,
    lifetime: Duration,
    /// The most bytes of the documents, and of the results.
    capacity: u64,
    documents: Bounded<DocumentKey, Dated<(Version, Arc<DocumentRecord>)>>,
    results: Bounded<SearchKey, Dated<Arc<SearchResponse>>>,
}

impl Cache {
    /// Whether this build has a cache.
    pub(crate) const COMPILED_IN: bool = cfg!(feature = "cache");

    /// The cache that the settings ask for; `None` if they ask for none, or there is none.
    pub(crate) fn new(runtime: &Runtime, performance: &PerformanceSettings) -> Option<Self> {
        if performance.cache_ttl.is_zero() {
            return None;
        }
        if !Self::COMPILED_IN {
            tracing::warn!(
                "\"performance.cache_ttl\" has no effect without the Cargo feature \"cache\""
            );
            return None;
        }
        // Half for each: which one fills depends on what the program does more.
        let bytes = performance.cache_size / 2;
        Some(Self {
            runtime: runtime.clone(),
            lifetime: performance.cache_ttl,
            capacity: bytes,
            documents: Bounded::new(bytes),
            results: Bounded::new(bytes),
        })
    }

    /// A document as it was read at this revision.
    pub(crate) fn document(
        &self,
        key: &DocumentKey,
        revision: Revision,
    ) -> Option<(Version, Arc<DocumentRecord>)> {
        let found = self.current(self.documents.get(key), revision);
        count("document", found.is_some());
        found
    }

    /// Keeps a document that was read after `revision` was.
    pub(crate) fn keep_document(
        &self,
        key: DocumentKey,
        revision: Revision,
        found: (Version, Arc<DocumentRecord>),
    ) {
        let vectors = &found.1.vectors().vectors;
        let numbers: usize = vectors.iter().map(|v| v.values.len() * 4).sum();
        // The document is kept twice: its bytes, and what they say.
        let bytes = found.1.canonical().len() * 2 + numbers + key.id.len();
        self.documents
            .insert(key, self.dated(found, revision), bytes);
    }

    /// The answer to a search at this revision.
    pub(crate) fn result(&self, key: SearchKey, revision: Revision) -> Option<Arc<SearchResponse>> {
        let found = self.current(self.results.get(&key), revision);
        count("result", found.is_some());
        found
    }

    /// Keeps the answer to a search that began after `revision` was read, unless it takes more room
    /// than there is for all of them.
    pub(crate) fn keep_result(
        &self,
        key: SearchKey,
        revision: Revision,
        response: &SearchResponse,
    ) {
        // As JSON it is about as large as in memory.
        let mut room = Room(self.capacity);
        if serde_json::to_writer(&mut room, response).is_err() {
            return;
        }
        let bytes = usize::try_from(self.capacity - room.0).unwrap_or(usize::MAX);
        let dated = self.dated(Arc::new(response.clone()), revision);
        self.results.insert(key, dated, bytes);
    }

    fn dated<T>(&self, answer: T, revision: Revision) -> Dated<T> {
        Dated {
            answer,
            revision,
            made_at: self.runtime.monotonic(),
        }
    }

    fn current<T>(&self, found: Option<Dated<T>>, revision: Revision) -> Option<T> {
        let found = found?;
        let age = self.runtime.monotonic().saturating_sub(found.made_at);
        (found.revision == revision && age < self.lifetime).then_some(found.answer)
    }
}

/// Counts what is written down to nothing, and takes no more then.
struct Room(u64);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.0.checked_sub(bytes.len() as u64);
        self.0 = left.ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count(kind: &'static str, hit: bool) {
    let outcome = if hit { "hit" } else { "miss" };
    metrics::counter!("dbmanager_cache_requests_total", "operation" => kind, "outcome" => outcome)
        .increment(1);
}

/// Two searches are the same if everything in their queries and scopes is.
pub(crate) fn search_key(scope: &[Collection], query: &Query) -> SearchKey {
    let mut text = String::new();
    for collection in scope {
        // Lengths before what may contain anything, so that no two scopes run together.
        let key = &collection.key;
        let _infallible = write!(text, "{}:{}:{};", key.name.len(), key.name, key.generation);
    }
    // The derived form writes every field, and floats so that they read back the same.
    let _infallible = write!(text, "{query:?}");
    Sha256::digest(text.as_bytes()).into()
}
