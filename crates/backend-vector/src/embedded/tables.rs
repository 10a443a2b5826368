//! The tables: their SQL and nothing else.
//!
//! Every applied mutation gets the next number of its collection's change counter, so that what
//! is in memory catches up by reading the documents with a higher one.

use std::sync::Arc;

use dbmanager_backend_support::sqlite::{
    JobError, JobResult, Schema, collections, fields, filter, stamp,
};
use dbmanager_core::{
    backend::Head,
    model::{ChunkVector, CollectionKey, Filter, Metric, Passage, Version},
};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};

/// `AUTOINCREMENT`: the keys of documents and vectors never name another one, which the matrix
/// and the index build on. A vector's key is also its place in the order of writing.
pub(super) const SCHEMA: Schema = Schema {
    application_id: 0x6462_6d76,
    migrations: &[&[
        stamp::SCHEMA,
        collections::SCHEMA,
        fields::SCHEMA,
        "
CREATE TABLE vector_state (
    collection INTEGER PRIMARY KEY,
    dimension  INTEGER NOT NULL,
    change     INTEGER NOT NULL
) STRICT;
CREATE TABLE document (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    change     INTEGER NOT NULL,
    UNIQUE (collection, id)
) STRICT;
CREATE INDEX document_by_change ON document (collection, change);
CREATE TABLE vector (
    key           INTEGER PRIMARY KEY AUTOINCREMENT,
    document      INTEGER NOT NULL,
    chunk         INTEGER NOT NULL,
    passage_start INTEGER,
    passage_end   INTEGER,
    numbers       BLOB NOT NULL,
    UNIQUE (document, chunk)
) STRICT;
CREATE TABLE index_file (
    collection INTEGER PRIMARY KEY,
    facts      TEXT NOT NULL
) STRICT;
",
    ]],
};

/// What the file knows of a collection's vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The collection's integer key.
    pub(super) collection: i64,
    pub(super) metric: Metric,
    /// Numbers per vector: of the embedding space, or else of the first vector; 0 if neither is
    /// known.
    pub(super) dimension: usize,
    /// The number of the last change.
    pub(super) change: i64,
}

/// The state of a collection.
///
/// # Errors
/// `CollectionMissing`.
pub(super) fn state(connection: &Connection, key: &CollectionKey) -> JobResult<State> {
    let stored = collections::get(connection, key)?;
    let (written, change): (u32, i64) = connection
        .prepare_cached("SELECT dimension, change FROM vector_state WHERE collection = ?1")?
        .query_row([stored.key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let space = stored.options.embedding_space.as_ref();
    Ok(State {
        collection: stored.key,
        metric: space.map(|space| space.metric).unwrap_or_default(),
        dimension: if written == 0 {
            space.map_or(0, |space| space.dimension as usize)
        } else {
            written as usize
        },
        change,
    })
}

pub(super) fn insert_state(connection: &Connection, collection: i64) -> JobResult<()> {
    connection
        .prepare_cached("INSERT INTO vector_state VALUES (?1, 0, 0)")?
        .execute([collection])?;
    Ok(())
}

pub(super) fn update_state(connection: &Connection, state: &State) -> JobResult<()> {
    connection
        .prepare_cached(
            "UPDATE vector_state SET dimension = ?2, change = ?3 WHERE collection = ?1",
        )?
        .execute((state.collection, state.dimension as i64, state.change))?;
    Ok(())
}

/// Removes everything of a collection besides its row in the table of collections.
pub(super) fn drop_collection(connection: &Connection, collection: i64) -> JobResult<()> {
    fields::drop_collection(connection, collection)?;
    for sql in [
        "DELETE FROM vector WHERE document IN (SELECT key FROM document WHERE collection = ?1)",
        "DELETE FROM document WHERE collection = ?1",
        "DELETE FROM vector_state WHERE collection = ?1",
        "DELETE FROM index_file WHERE collection = ?1",
    ] {
        connection.execute(sql, [collection])?;
    }
    Ok(())
}

/// A document's row.
#[derive(Clone, Debug)]
pub(super) struct DocumentRow {
    pub(super) key: i64,
    pub(super) id: Arc<str>,
    pub(super) head: Head,
}

/// Selects what [`document_row`] reads.
macro_rules! select_document {
    ($rest:literal) => {
        concat!("SELECT key, id, version, deleted FROM document ", $rest)
    };
}

fn document_row(row: &Row<'_>) -> rusqlite::Result<DocumentRow> {
    Ok(DocumentRow {
        key: row.get(0)?,
        id: row.get(1)?,
        head: Head {
            version: Version::from_i64(row.get(2)?),
            deleted: row.get(3)?,
        },
    })
}

pub(super) fn document(
    connection: &Connection,
    collection: i64,
    id: &str,
) -> JobResult<Option<DocumentRow>> {
    Ok(connection
        .prepare_cached(select_document!("WHERE collection = ?1 AND id = ?2"))?
        .query_row((collection, id), document_row)
        .optional()?)
}

/// Documents by id, above `after` (the empty text is below every id), at most `limit`.
pub(super) fn documents_after(
    connection: &Connection,
    collection: i64,
    after: &str,
    limit: usize,
) -> JobResult<Vec<DocumentRow>> {
    let mut statement = connection.prepare_cached(select_document!(
        "WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((collection, after, limit), document_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Documents and tombstones changed after the change with number `change`, in the order of their
/// changes, which is the order of their vectors' keys.
pub(super) fn documents_changed(
    connection: &Connection,
    collection: i64,
    change: i64,
    mut visit: impl FnMut(DocumentRow) -> JobResult<()>,
) -> JobResult<()> {
    let mut statement = connection.prepare_cached(select_document!(
        "WHERE collection = ?1 AND change > ?2 ORDER BY change"
    ))?;
    let mut rows = statement.query((collection, change))?;
    while let Some(row) = rows.next()? {
        visit(document_row(row)?)?;
    }
    Ok(())
}

/// Writes the document's row at its change and answers its key; its vectors and fields of before
/// are gone.
pub(super) fn put_document(
    connection: &Connection,
    state: &State,
    held: Option<&DocumentRow>,
    id: &str,
    head: Head,
) -> JobResult<i64> {
    let Some(held) = held else {
        connection
            .prepare_cached(
                "INSERT INTO document (collection, id, version, deleted, change)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                state.collection,
                id,
                head.version.as_i64(),
                head.deleted,
                state.change,
            ))?;
        return Ok(connection.last_insert_rowid());
    };
    connection
        .prepare_cached(
            "UPDATE document SET version = ?2, deleted = ?3, change = ?4 WHERE key = ?1",
        )?
        .execute((held.key, head.version.as_i64(), head.deleted, state.change))?;
    connection
        .prepare_cached("DELETE FROM vector WHERE document = ?1")?
        .execute([held.key])?;
    fields::remove(connection, held.key)?;
    Ok(held.key)
}

pub(super) fn insert_vector(
    connection: &Connection,
    document: i64,
    vector: &ChunkVector,
) -> JobResult<()> {
    let numbers: Vec<u8> = vector
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    connection
        .prepare_cached(
            "INSERT INTO vector (document, chunk, passage_start, passage_end, numbers)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            document,
            vector.chunk,
            vector.passage.map(|passage| passage.start),
            vector.passage.map(|passage| passage.end),
            numbers,
        ))?;
    Ok(())
}

/// A document's vectors by chunk number, each with its key; the keys ascend too, because a set is
/// written in that order. Bytes behind the last whole number read as one NaN more: never written,
/// so that a reader that checks finds it, and a hash differs.
pub(super) fn vectors(
    connection: &Connection,
    document: i64,
) -> JobResult<Vec<(i64, ChunkVector)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, chunk, passage_start, passage_end, numbers
         FROM vector WHERE document = ?1 ORDER BY chunk",
    )?;
    let rows = statement.query_map([document], |row| {
        let passage = match (row.get(2)?, row.get(3)?) {
            (None, None) => None,
            (start, end) => Some(Passage {
                start: start.unwrap_or(u32::MAX),
                end: end.unwrap_or(0),
            }),
        };
        let numbers = row.get_ref(4)?.as_blob()?;
        let (whole, rest) = numbers.as_chunks::<4>();
        let mut values: Vec<f32> = whole
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if !rest.is_empty() {
            values.push(f32::NAN);
        }
        Ok((
            row.get(0)?,
            ChunkVector {
                chunk: row.get(1)?,
                passage,
                values,
            },
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Like [`vectors`], for a reader that computes with them.
///
/// # Errors
/// `Damaged` if a vector has not `dimension` finite numbers.
pub(super) fn checked_vectors(
    connection: &Connection,
    document: &DocumentRow,
    dimension: usize,
) -> JobResult<Vec<(i64, ChunkVector)>> {
    let vectors = vectors(connection, document.key)?;
    let sound = |vector: &ChunkVector| {
        vector.values.len() == dimension && vector.values.iter().all(|value| value.is_finite())
    };
    if vectors.iter().all(|(_, vector)| sound(vector)) {
        Ok(vectors)
    } else {
        Err(JobError::damaged(format!(
            "a vector of document {:?} is damaged",
            document.id
        )))
    }
}

/// The keys of the live documents that fulfil the filter.
pub(super) fn matching(
    connection: &Connection,
    collection: i64,
    filter: &Filter,
) -> JobResult<Vec<i64>> {
    let condition = filter::compile(filter, collection, "document.key", 2)?;
    let mut statement = connection.prepare(&format!(
        "SELECT key FROM document WHERE collection = ?1 AND deleted = 0 AND {}",
        condition.sql
    ))?;
    let parameters = [Value::Integer(collection)]
        .into_iter()
        .chain(condition.parameters);
    let rows = statement.query_map(params_from_iter(parameters), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
