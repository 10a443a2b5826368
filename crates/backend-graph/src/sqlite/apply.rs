//! Writing what lies under a document's key.

use dbmanager_backend_support::sqlite::{
    JobError, JobResult, batch::Replacements, collections::StoredCollection, documents,
    full_text::merge,
};
use dbmanager_core::{
    backend::Mutation,
    model::{Document, Reference},
};
use rusqlite::{Connection, OptionalExtension};

use super::schema::titles;

/// Puts the states of mutations in place of whatever lies under their keys. Edges that lead to
/// these documents belong to their sources and stay.
pub(super) fn replace(
    transaction: &Connection,
    collection: &StoredCollection,
    mutations: &Replacements<'_>,
) -> JobResult<()> {
    let table = titles(collection.key);
    let mut bytes = 0;
    for (key, mutation) in mutations {
        replace_one(transaction, collection.key, &table, *key, mutation)?;
        let record = mutation.state.record();
        bytes += record.map_or(0, |record| record.document().title.len());
    }
    merge(transaction, &table, bytes)
}

fn replace_one(
    transaction: &Connection,
    collection: i64,
    table: &str,
    key: i64,
    mutation: &Mutation,
) -> JobResult<()> {
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
        return Ok(());
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
    insert_edges(transaction, collection, key, document)
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
