//! Writing what lies under a document's key.

use dbmanager_backend_support::sqlite::{
    JobError, JobResult, collections::StoredCollection, documents,
};
use dbmanager_core::{
    backend::Mutation,
    model::{Document, Reference},
};
use rusqlite::{Connection, OptionalExtension};

use super::schema::titles;

/// Puts the mutation's state in place of whatever lies under the key. Edges that lead to the
/// document belong to their sources and stay. Returns the bytes of text that this wrote to the
/// full-text table.
pub(super) fn replace(
    transaction: &Connection,
    collection: &StoredCollection,
    key: i64,
    mutation: &Mutation,
) -> JobResult<usize> {
    let table = titles(collection.key);
    transaction
        .prepare_cached("DELETE FROM node WHERE document = ?1")?
        .execute([key])?;
    transaction
        .prepare_cached("DELETE FROM edge WHERE source = ?1")?
        .execute([key])?;
    transaction
        .prepare_cached(&format!("DELETE FROM {table} WHERE rowid = ?1"))?
        .execute([key])?;
    let Some(record) = mutation.state.record() else {
        return Ok(0);
    };
    let document = record.document();
    transaction
        .prepare_cached("INSERT INTO node VALUES (?1, ?2, ?3)")?
        .execute((key, &document.title, &document.document_type))?;
    transaction
        .prepare_cached(&format!(
            "INSERT INTO {table} (rowid, title) VALUES (?1, ?2)"
        ))?
        .execute((key, &document.title))?;
    insert_edges(transaction, collection.key, key, document)?;
    Ok(document.title.len())
}

fn insert_edges(
    transaction: &Connection,
    collection: i64,
    key: i64,
    document: &Document,
) -> JobResult<()> {
    if document.references.is_empty() {
        return Ok(());
    }
    let own: String = transaction
        .prepare_cached("SELECT name FROM collection WHERE key = ?1")?
        .query_row([collection], |row| row.get(0))
        .optional()?
        .ok_or_else(|| JobError::damaged("a collection vanished within a transaction"))?;
    let mut statement =
        transaction.prepare_cached("INSERT INTO edge VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for (ordinal, reference) in (0_i64..).zip(&document.references) {
        statement.execute((
            key,
            ordinal,
            reference.collection.as_deref().unwrap_or(&own),
            &reference.target,
            &reference.kind,
            reference.collection.is_none(),
            properties(reference)?,
        ))?;
    }
    Ok(())
}

fn properties(reference: &Reference) -> JobResult<String> {
    serde_json::to_string(&reference.properties)
        .map_err(|_| JobError::refused("the properties of a reference cannot be written as JSON"))
}

/// Removes everything of a collection, its outgoing edges included.
pub(super) fn drop_collection(transaction: &Connection, collection: i64) -> JobResult<()> {
    transaction.execute_batch(&format!("DROP TABLE {}", titles(collection)))?;
    for sql in [
        "DELETE FROM edge WHERE source IN (SELECT key FROM document WHERE collection = ?1)",
        "DELETE FROM node WHERE document IN (SELECT key FROM document WHERE collection = ?1)",
    ] {
        transaction.prepare_cached(sql)?.execute([collection])?;
    }
    documents::drop_collection(transaction, collection)
}
