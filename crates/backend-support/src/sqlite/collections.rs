//! The collections a file holds, each behind an integer key.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::{Collection, CollectionKey, CollectionOptions, Version},
};
use rusqlite::{Connection, OptionalExtension};

use super::{JobError, JobResult};

/// The tables of this module. `AUTOINCREMENT`: the key of a dropped collection never names a new
/// one.
pub const SCHEMA: &str = "
CREATE TABLE collection (
    key             INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT NOT NULL,
    generation      INTEGER NOT NULL,
    options         TEXT NOT NULL,
    highest_version INTEGER,
    UNIQUE (name, generation)
) STRICT;
";

/// A collection as the file holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCollection {
    /// Its integer key in this file; never used again for another.
    pub key: i64,
    /// Its options.
    pub options: CollectionOptions,
}

/// What [`create`] did.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It was not there: the adapter makes its own tables for it now.
    New(StoredCollection),
    /// It was there, perhaps without the embedding space that it has now.
    Present(StoredCollection),
}

/// Makes the collection known. With the options it has already nothing changes; an embedding
/// space is filled in if it has none, and one that is not repeated stays.
///
/// # Errors
/// `Refused` for other options than those it has, or for what cannot be stored.
pub fn create(connection: &Connection, collection: &Collection) -> JobResult<Created> {
    let (name, generation) = parts(&collection.key)?;
    if name.contains('\0') {
        return Err(JobError::refused("a collection's name contains NUL"));
    }
    let Some(held) = find(connection, &collection.key)? else {
        connection
            .prepare_cached(
                "INSERT INTO collection (name, generation, options) VALUES (?1, ?2, ?3)",
            )?
            .execute((name, generation, to_json(&collection.options)?))?;
        return Ok(Created::New(StoredCollection {
            key: connection.last_insert_rowid(),
            options: collection.options.clone(),
        }));
    };
    let Some(merged) = held.options.filled_in(&collection.options) else {
        return Err(JobError::refused(format!(
            "collection {} exists with other options",
            collection.key
        )));
    };
    if merged != held.options {
        connection
            .prepare_cached("UPDATE collection SET options = ?2 WHERE key = ?1")?
            .execute((held.key, to_json(&merged)?))?;
    }
    Ok(Created::Present(StoredCollection {
        key: held.key,
        options: merged,
    }))
}

/// The collection.
///
/// # Errors
/// `CollectionMissing` if it was never created here, or was dropped.
pub fn get(connection: &Connection, key: &CollectionKey) -> JobResult<StoredCollection> {
    find(connection, key)?.ok_or_else(|| {
        BackendError::new(
            BackendErrorKind::CollectionMissing,
            format!("collection {key} was not created here"),
        )
        .not_applied()
        .into()
    })
}

/// The collection, if it is there.
///
/// # Errors
/// `Damaged` if its options are no options.
pub fn find(connection: &Connection, key: &CollectionKey) -> JobResult<Option<StoredCollection>> {
    let (name, generation) = parts(key)?;
    let row = connection
        .prepare_cached("SELECT key, options FROM collection WHERE name = ?1 AND generation = ?2")?
        .query_row((name, generation), |row| {
            Ok((row.get(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    row.map(|(key, options)| {
        let options = serde_json::from_str(&options)
            .map_err(|_| JobError::damaged("the options of a collection are damaged"))?;
        Ok(StoredCollection { key, options })
    })
    .transpose()
}

/// Every collection.
///
/// # Errors
/// Of SQLite.
pub fn list(connection: &Connection) -> JobResult<Vec<CollectionKey>> {
    let mut statement =
        connection.prepare_cached("SELECT name, generation FROM collection ORDER BY key")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    rows.map(|row| {
        let (name, generation) = row?;
        let generation = u64::try_from(generation)
            .map_err(|_| JobError::damaged("the generation of a collection is damaged"))?;
        Ok(CollectionKey::new(name, generation))
    })
    .collect()
}

/// Forgets the collection and hands back its key, behind which the adapter then removes what it
/// holds; `None` if it is not there.
///
/// # Errors
/// Of SQLite.
pub fn remove(connection: &Connection, key: &CollectionKey) -> JobResult<Option<i64>> {
    let (name, generation) = parts(key)?;
    Ok(connection
        .prepare_cached("DELETE FROM collection WHERE name = ?1 AND generation = ?2 RETURNING key")?
        .query_row((name, generation), |row| row.get(0))
        .optional()?)
}

/// Remembers that the collection holds this version, in the transaction that writes it.
///
/// # Errors
/// Of SQLite.
pub fn record_version(connection: &Connection, collection: i64, version: Version) -> JobResult<()> {
    connection
        .prepare_cached(
            "UPDATE collection SET highest_version = ?2
             WHERE key = ?1 AND (highest_version IS NULL OR highest_version < ?2)",
        )?
        .execute((collection, version.as_i64()))?;
    Ok(())
}

/// The highest version held in any collection, tombstones included; `None` if nothing is held.
///
/// # Errors
/// Of SQLite.
pub fn highest_version(connection: &Connection) -> JobResult<Option<Version>> {
    let highest: Option<i64> = connection
        .prepare_cached("SELECT max(highest_version) FROM collection")?
        .query_row([], |row| row.get(0))?;
    Ok(highest.map(Version::from_i64))
}

fn parts(key: &CollectionKey) -> JobResult<(&str, i64)> {
    let generation = i64::try_from(key.generation)
        .map_err(|_| JobError::refused("a generation above 2^63 - 1 cannot be stored"))?;
    Ok((&key.name, generation))
}

fn to_json(options: &CollectionOptions) -> JobResult<String> {
    serde_json::to_string(options)
        .map_err(|_| JobError::refused("the collection's options cannot be written as JSON"))
}
