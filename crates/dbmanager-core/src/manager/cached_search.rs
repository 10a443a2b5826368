//! A search behind the cache: when its answer may be kept, and when a kept one may be given.

use super::Inner;
use crate::{
    cache::{Cache, SearchKey, search_key},
    model::{Collection, Query, Role, SearchResponse, SearchType},
    write::Revision,
};

/// The first page of a search. Made before the stores are asked.
pub(super) struct CachedSearch<'a> {
    inner: &'a Inner,
    cache: &'a Cache,
    scope: &'a [Collection],
    query: Query,
    key: SearchKey,
    revision: Revision,
    settled: bool,
}

impl<'a> CachedSearch<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        cache: &'a Cache,
        scope: &'a [Collection],
        query: &Query,
    ) -> Self {
        Self {
            inner,
            cache,
            scope,
            query: query.clone(),
            key: search_key(scope, query),
            revision: revision(inner, scope, query.search_type),
            settled: settled(inner),
        }
    }

    /// The answer to an earlier search for the same that still holds.
    pub(super) fn find(&self) -> Option<SearchResponse> {
        let found = self.cache.result(self.key, self.revision)?;
        if let Some(cursor) = &found.cursor {
            let (runtime, route) = (&self.inner.room.runtime, &self.inner.search);
            if !route.keeps_page(runtime, self.scope, &self.query, cursor) {
                return None;
            }
        }
        let mut response = SearchResponse::clone(&found);
        response.cached = true;
        Some(response)
    }

    /// Keeps an answer, unless another one may come to the same question without a write between:
    /// a leg failed, or a store had yet to take in what it was sent when the search began.
    pub(super) fn keep(&self, response: &SearchResponse) {
        if self.settled && !response.degraded() {
            self.cache.keep_result(self.key, self.revision, response);
        }
    }
}

/// Whether the stores show everything that was written.
fn settled(inner: &Inner) -> bool {
    let room = &inner.room;
    room.stores.iter().all(|store| {
        room.holds_all(store) && store.capabilities().is_some_and(|c| c.searchable_on_apply)
    })
}

/// The graph leg passes through every collection; the others look at those of the scope.
fn revision(inner: &Inner, scope: &[Collection], search_type: SearchType) -> Revision {
    let revisions = &inner.room.backlog.revisions;
    let has_graph = inner.room.store(Role::Graph).is_some();
    match search_type {
        SearchType::Graph | SearchType::Hybrid if has_graph => revisions.of_all(),
        _ => revisions.of_collections(scope.iter().map(|collection| &collection.key)),
    }
}
