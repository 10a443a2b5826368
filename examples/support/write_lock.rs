//! A failure beneath an adapter: somebody else holds the write lock of a store's file.

use std::path::Path;

use dbmanager::{backend::ServiceConfig, config::Config, model::Role};
use rusqlite::Connection;

/// Embedded stores under this directory. The vector store gives up soon on a file that somebody
/// else has locked, so that a lock of half a second already shows.
pub(crate) fn config(directory: &Path) -> Config {
    let mut vector = ServiceConfig::new();
    vector.insert("busy_timeout".to_owned(), "100ms".into());
    Config::embedded(directory).store(Role::Vector, "embedded", vector)
}

/// Holds the write lock of a SQLite file, as a backup tool or a forgotten shell would. The manager
/// is not told: its store simply cannot write any more. Dropping it gives the lock back.
pub(crate) struct WriteLock(Connection);

impl WriteLock {
    /// Takes the lock.
    pub(crate) fn take(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self(connection))
    }

    /// Gives the lock back.
    pub(crate) fn release(self) -> rusqlite::Result<()> {
        self.0.execute_batch("ROLLBACK")
    }
}
