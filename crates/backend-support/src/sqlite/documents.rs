//! A small row per document: its version, and whether it is a tombstone. What an adapter keeps of
//! a document lies in its own tables, under the row's integer key.

use std::sync::Arc;

use dbmanager_core::{backend::Head, model::Version};
use rusqlite::{Connection, OptionalExtension, Row};

use super::JobResult;

/// The tables of this module. A document keeps its key until its collection is dropped. Ids are
/// compared byte for byte.
pub const SCHEMA: &str = "
CREATE TABLE document (
    key        INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    id         TEXT NOT NULL,
    version    INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    UNIQUE (collection, id)
) STRICT;
";

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHead {
    /// The integer key.
    pub key: i64,
    /// The id.
    pub id: Arc<str>,
    /// Version and tombstone.
    pub head: Head,
}

fn head(row: &Row<'_>, first: usize) -> rusqlite::Result<Head> {
    Ok(Head {
        version: Version::from_i64(row.get(first)?),
        deleted: row.get(first + 1)?,
    })
}

/// Sets version and tombstone of a document if `new` is above the version held, and returns its
/// key: then the adapter replaces everything it keeps under it. `None`: the file holds this
/// version or a newer one, and nothing changes.
///
/// # Errors
/// Of SQLite.
pub fn advance(
    connection: &Connection,
    collection: i64,
    id: &str,
    new: Head,
) -> JobResult<Option<i64>> {
    // The condition stands in the statement itself, as in every store.
    Ok(connection
        .prepare_cached(
            "INSERT INTO document (collection, id, version, deleted) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (collection, id) DO UPDATE
             SET version = excluded.version, deleted = excluded.deleted
             WHERE excluded.version > version
             RETURNING key",
        )?
        .query_row((collection, id, new.version.as_i64(), new.deleted), |row| {
            row.get(0)
        })
        .optional()?)
}

/// The rows of these ids, in the order given.
///
/// # Errors
/// Of SQLite.
pub fn find(
    connection: &Connection,
    collection: i64,
    ids: &[Arc<str>],
) -> JobResult<Vec<Option<StoredHead>>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, version, deleted FROM document WHERE collection = ?1 AND id = ?2",
    )?;
    ids.iter()
        .map(|id| {
            let row = statement
                .query_row((collection, &**id), |row| {
                    Ok(StoredHead {
                        key: row.get(0)?,
                        id: Arc::clone(id),
                        head: head(row, 1)?,
                    })
                })
                .optional()?;
            Ok(row)
        })
        .collect()
}

/// At most `limit` rows above the id `after`, tombstones included, by the bytes of their ids.
///
/// # Errors
/// Of SQLite.
pub fn page(
    connection: &Connection,
    collection: i64,
    after: Option<&str>,
    limit: usize,
) -> JobResult<Vec<StoredHead>> {
    // Ids are never empty, so the empty text is below them all.
    let after = after.unwrap_or_default();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(
        "SELECT key, id, version, deleted FROM document
         WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map((collection, after, limit), |row| {
        Ok(StoredHead {
            key: row.get(0)?,
            id: row.get(1)?,
            head: head(row, 2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes the rows of a collection, tombstones included; what lies under their keys goes first.
///
/// # Errors
/// Of SQLite.
pub fn drop_collection(connection: &Connection, collection: i64) -> JobResult<()> {
    connection
        .prepare_cached("DELETE FROM document WHERE collection = ?1")?
        .execute([collection])?;
    Ok(())
}
