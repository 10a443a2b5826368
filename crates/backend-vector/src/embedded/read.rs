//! Reading by id and listing.

use std::sync::Arc;

use dbmanager_backend_support::sqlite::{JobResult, collections};
use dbmanager_core::{
    backend::{Fingerprint, Head, IdsRequest, ListRequest, Page, StoredVectors},
    model::{ChunkVector, ContentHash},
};
use rusqlite::Connection;

use super::tables::{self, DocumentRow};

/// Calls `read` for each id's row, in the order given.
fn by_id<T>(
    connection: &Connection,
    request: &IdsRequest,
    read: impl Fn(DocumentRow) -> JobResult<Option<T>>,
) -> JobResult<Vec<Option<T>>> {
    let collection = collections::get(connection, &request.collection)?.key;
    request
        .ids
        .iter()
        .map(|id| match tables::document(connection, collection, id)? {
            Some(document) => read(document),
            None => Ok(None),
        })
        .collect()
}

pub(super) fn heads(connection: &Connection, request: &IdsRequest) -> JobResult<Vec<Option<Head>>> {
    by_id(connection, request, |document| Ok(Some(document.head)))
}

pub(super) fn vectors(
    connection: &Connection,
    request: &IdsRequest,
) -> JobResult<Vec<Option<StoredVectors>>> {
    let dimension = tables::state(connection, &request.collection)?.dimension;
    by_id(connection, request, |document| {
        if document.head.deleted {
            return Ok(None);
        }
        let vectors = tables::checked_vectors(connection, &document, dimension)?;
        Ok(Some(StoredVectors {
            version: document.head.version,
            vectors: vectors.into_iter().map(|(_, vector)| vector).collect(),
        }))
    })
}

pub(super) fn fingerprints_of(
    connection: &Connection,
    request: &IdsRequest,
) -> JobResult<Vec<Option<Fingerprint>>> {
    by_id(connection, request, |document| {
        fingerprint(connection, document).map(Some)
    })
}

pub(super) fn fingerprints(
    connection: &Connection,
    request: &ListRequest,
) -> JobResult<Page<Fingerprint>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let limit = request.limit.max(1);
    let after = request.after.as_deref().unwrap_or_default();
    let mut documents =
        tables::documents_after(connection, collection, after, limit.saturating_add(1))?;
    let more = documents.len() > limit;
    documents.truncate(limit);
    let next = documents
        .last()
        .filter(|_| more)
        .map(|document| document.id.to_string());
    let items = documents
        .into_iter()
        .map(|document| fingerprint(connection, document))
        .collect::<JobResult<_>>()?;
    Ok(Page { items, next })
}

fn fingerprint(connection: &Connection, document: DocumentRow) -> JobResult<Fingerprint> {
    let vectors: Vec<ChunkVector> = tables::vectors(connection, document.key)?
        .into_iter()
        .map(|(_, vector)| vector)
        .collect();
    // A tombstone that has kept vectors must not look like one that has none.
    let content_hash = if document.head.deleted && vectors.is_empty() {
        ContentHash::TOMBSTONE
    } else {
        ContentHash::of_vectors(vectors.iter())
    };
    Ok(Fingerprint {
        id: Arc::clone(&document.id),
        head: document.head,
        content_hash,
    })
}
