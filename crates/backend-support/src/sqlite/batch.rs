//! Applying a batch of mutations.

use std::{collections::BTreeMap, sync::Arc};

use dbmanager_core::{
    backend::{
        ApplyRequest, BackendErrorKind, BackendResult, DocumentState, Head, Limits, Mutation,
    },
    model::Version,
};
use rusqlite::Connection;

use super::{
    Database, JobError, JobResult,
    collections::{self, StoredCollection},
    documents, full_text, stamp,
};

/// What a store keeps under the keys of [`documents`].
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// The name of a collection's full-text table, from the collection's integer key.
    pub full_text: fn(i64) -> String,
    /// Puts the mutation's state in place of whatever lies under the document's integer key, and
    /// returns the bytes of text that this wrote to the full-text table.
    pub replace: fn(&Connection, &StoredCollection, i64, &Mutation) -> JobResult<usize>,
}

/// Applies a batch in one transaction: checks the epoch, finds the collection, refuses what breaks
/// a limit, advances each document's row of [`documents`], replaces what lies under the keys of
/// those that went up, and merges a little of the full-text index. Of several mutations of one
/// document only the last replaces.
///
/// All rows go first, then contents by ascending key: FTS5 gathers up to a mebibyte of words of a
/// transaction in memory, and writes them out as a segment of their own before that whenever a row
/// comes that is before the last one, and whenever a statement opens a savepoint, as one with
/// `RETURNING` does. In turns with the rows, every document would be a segment that has to be merged
/// again later.
///
/// If SQLite refuses the content of one item, though it breaks no limit, each item is applied in a
/// transaction of its own, so that only this one fails.
///
/// # Errors
/// `StaleEpoch`, `CollectionMissing`, and those of [`Database::write`].
pub async fn apply(
    database: &Database,
    request: ApplyRequest,
    limits: &Limits,
    content: Content,
) -> BackendResult<Vec<BackendResult<()>>> {
    let batch = Arc::new(Batch {
        request,
        limits: limits.clone(),
        content,
    });
    let count = batch.request.mutations.len();
    let whole = Arc::clone(&batch);
    let result = database
        .write(move |transaction| whole.apply(transaction, 0..count))
        .await;
    match result {
        Err(error) if error.kind() == BackendErrorKind::Refused && count > 1 => {}
        result => return result,
    }
    let mut results = Vec::with_capacity(count);
    for index in 0..count {
        let one = Arc::clone(&batch);
        let result = database
            .write(move |transaction| one.apply(transaction, index..index + 1))
            .await;
        results.push(result.and_then(|results| results.into_iter().collect()));
    }
    Ok(results)
}

struct Batch {
    request: ApplyRequest,
    limits: Limits,
    content: Content,
}

impl Batch {
    fn apply(
        &self,
        transaction: &Connection,
        items: std::ops::Range<usize>,
    ) -> JobResult<Vec<BackendResult<()>>> {
        stamp::check_epoch(transaction, self.request.epoch)?;
        let collection = collections::get(transaction, &self.request.collection)?;
        let mutations = self.request.mutations.get(items).unwrap_or_default();
        let mut advanced = BTreeMap::new();
        let mut results = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            if let Err(error) = validate(mutation, &self.limits) {
                results.push(Err(error.translate()));
                continue;
            }
            let new = Head {
                version: mutation.version,
                deleted: matches!(mutation.state, DocumentState::Deleted),
            };
            let key = documents::advance(transaction, collection.key, &mutation.id, new)?;
            if let Some(key) = key {
                // The row only ever goes up, so a later mutation of the same document replaces.
                advanced.insert(key, mutation);
            }
            results.push(Ok(()));
        }
        if let Some(version) = advanced.values().map(|mutation| mutation.version).max() {
            let mut bytes = 0;
            for (key, mutation) in advanced {
                bytes += (self.content.replace)(transaction, &collection, key, mutation)?;
            }
            let table = (self.content.full_text)(collection.key);
            full_text::merge(transaction, &table, bytes)?;
            collections::record_version(transaction, collection.key, version)?;
        }
        Ok(results)
    }
}

fn validate(mutation: &Mutation, limits: &Limits) -> JobResult<()> {
    let longest = limits.max_id_bytes;
    let bytes = mutation.id.len();
    if bytes == 0 || bytes > longest {
        return Err(JobError::refused(format!(
            "an id of {bytes} bytes; 1 to {longest} are allowed"
        )));
    }
    if mutation.id.contains('\0') {
        return Err(JobError::refused("an id contains NUL"));
    }
    if mutation.version > Version::MAX {
        return Err(JobError::refused("a version above the highest one"));
    }
    let largest = limits.max_document_bytes;
    let bytes = mutation
        .state
        .record()
        .map_or(0, |record| record.canonical().len());
    if bytes > largest {
        return Err(JobError::refused(format!(
            "a document of {bytes} bytes; at most {largest} are allowed"
        )));
    }
    Ok(())
}
