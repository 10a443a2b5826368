//! Writing what lies under a document's key.

use dbmanager_backend_support::sqlite::{
    JobError, JobResult, collections::StoredCollection, fields,
};
use dbmanager_core::{backend::Mutation, model::DocumentRecord};
use rusqlite::Connection;

use super::schema::{facts, full_text};

/// Puts the mutation's state in place of whatever lies under the key. Returns the bytes of text that
/// this wrote to the full-text table.
pub(super) fn replace(
    transaction: &Connection,
    collection: &StoredCollection,
    key: i64,
    mutation: &Mutation,
) -> JobResult<usize> {
    let table = full_text(collection.key);
    transaction
        .prepare_cached("DELETE FROM content WHERE document = ?1")?
        .execute([key])?;
    transaction
        .prepare_cached(&format!("DELETE FROM {table} WHERE rowid = ?1"))?
        .execute([key])?;
    fields::remove(transaction, key)?;
    let Some(record) = mutation.state.record() else {
        return Ok(0);
    };
    insert(transaction, collection.key, &table, key, record)?;
    let document = record.document();
    Ok(document.title.len() + document.text.len())
}

fn insert(
    transaction: &Connection,
    collection: i64,
    table: &str,
    key: i64,
    record: &DocumentRecord,
) -> JobResult<()> {
    let document = record.document();
    let vectors = record
        .vectors()
        .to_bytes()
        .map_err(|_| JobError::refused("the vectors cannot be written as bytes"))?;
    let [document_type, created_at, file_path] = facts(document);
    transaction
        .prepare_cached("INSERT INTO content VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute((
            key,
            document_type,
            created_at,
            file_path,
            vectors,
            record.canonical(),
        ))?;
    transaction
        .prepare_cached(&format!(
            "INSERT INTO {table} (rowid, title, text) VALUES (?1, ?2, ?3)"
        ))?
        .execute((key, &document.title, &document.text))?;
    fields::insert(transaction, collection, key, document)
}

/// Removes everything of a collection.
pub(super) fn drop_collection(transaction: &Connection, collection: i64) -> JobResult<()> {
    transaction.execute_batch(&format!("DROP TABLE {}", full_text(collection)))?;
    fields::drop_collection(transaction, collection)?;
    transaction
        .prepare_cached(
            "DELETE FROM content
             WHERE document IN (SELECT key FROM document WHERE collection = ?1)",
        )?
        .execute([collection])?;
    dbmanager_backend_support::sqlite::documents::drop_collection(transaction, collection)
}
