//! How SQLite is told to sync: what is durable on return, and what only keeps its order. That a sync
//! then reaches the disk is seen by `scripts/count-syncs`.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::path::Path;

use dbmanager_backend_support::sqlite::{Database, DatabaseOptions, JobError, Schema, stamp};
use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind},
};
use rusqlite::{Connection, Transaction};

/// The values of `PRAGMA synchronous`.
const NORMAL: i64 = 1;
const FULL: i64 = 2;
const EXTRA: i64 = 3;

/// Every sync that is asked for leaves the level behind that it is committed at.
const SCHEMA: Schema = Schema {
    application_id: 0x7465_7374,
    migrations: &[&[
        stamp::SCHEMA,
        "CREATE TABLE item (level INTEGER NOT NULL) STRICT",
        "CREATE TABLE synced (level INTEGER NOT NULL) STRICT",
        "CREATE TRIGGER note_level AFTER UPDATE ON sync BEGIN
            INSERT INTO synced SELECT synchronous FROM pragma_synchronous;
        END",
    ]],
};

async fn open(path: &Path, write_ahead_log: bool) -> Database {
    let options = DatabaseOptions::new().write_ahead_log(write_ahead_log);
    Database::open(path, options, &Runtime::tokio(), &SCHEMA)
        .await
        .unwrap()
}

/// Writes something, and answers at which level it is committed.
fn write(transaction: &Transaction<'_>) -> Result<i64, JobError> {
    let level = transaction.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
    transaction.execute("INSERT INTO item VALUES (?1)", [level])?;
    Ok(level)
}

async fn level(database: &Database) -> i64 {
    database.write(write).await.unwrap()
}

async fn durable_level(database: &Database) -> i64 {
    database.write_durable(write).await.unwrap()
}

/// The levels of the syncs that the file has seen so far.
fn synced(path: &Path) -> Vec<i64> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT level FROM synced").unwrap();
    let levels = statement.query_map([], |row| row.get(0)).unwrap();
    levels.collect::<Result<_, _>>().unwrap()
}

/// With a write-ahead log the last writes may go, but none before them; without it a write needs
/// `FULL` to keep the file whole. `EXTRA` syncs the directory too, from which the rollback journal
/// has gone.
const LEVELS: [(bool, i64, i64); 2] = [(true, NORMAL, FULL), (false, FULL, EXTRA)];

#[tokio::test]
async fn a_durable_write_is_synced_and_the_next_one_is_not() {
    for (write_ahead_log, relaxed, durable) in LEVELS {
        let directory = tempfile::tempdir().unwrap();
        let database = open(&directory.path().join("a.db"), write_ahead_log).await;
        for _ in 0..2 {
            assert_eq!(level(&database).await, relaxed);
            assert_eq!(level(&database).await, relaxed);
            assert_eq!(durable_level(&database).await, durable);
            assert_eq!(durable_level(&database).await, durable);
        }
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn after_a_durable_write_that_failed_the_levels_are_as_before() {
    // The first error leaves the connection in use, the second has it opened anew.
    let refused = || BackendError::new(BackendErrorKind::Refused, "refused").into();
    let broken = || {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        rusqlite::Error::SqliteFailure(error, None).into()
    };
    for (write_ahead_log, relaxed, durable) in LEVELS {
        let directory = tempfile::tempdir().unwrap();
        let database = open(&directory.path().join("a.db"), write_ahead_log).await;
        for error in [refused(), broken()] {
            let failed = database.write_durable::<()>(|_| Err(error)).await;
            failed.unwrap_err();
            assert_eq!(level(&database).await, relaxed);
            assert_eq!(durable_level(&database).await, durable);
        }
        database.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_sync_is_durable_and_so_is_closing() {
    for (write_ahead_log, _, durable) in LEVELS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let database = open(&path, write_ahead_log).await;
        level(&database).await;
        assert_eq!(synced(&path), [0; 0]);
        database.sync().await.unwrap();
        assert_eq!(synced(&path), [durable]);
        level(&database).await;
        database.close().await.unwrap();
        assert_eq!(synced(&path), [durable; 2]);
    }
}
