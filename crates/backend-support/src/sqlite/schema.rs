//! The tables of a file and how older ones become today's.

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use rusqlite::{Connection, TransactionBehavior};

use super::JobResult;

/// The tables of one kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Marks files of this kind in their header (`PRAGMA application_id`); not 0.
    pub application_id: i32,
    /// What leads from each format number (`PRAGMA user_version`) to the next, from 0 on, each as
    /// pieces of SQL. Once released an entry is never changed; new ones are added behind.
    pub migrations: &'static [&'static [&'static str]],
}

impl Schema {
    fn version(&self) -> i64 {
        self.migrations.len() as i64
    }

    /// Brings the file to the newest format, all or nothing.
    pub(super) fn migrate(&self, connection: &mut Connection) -> JobResult<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let application_id: i32 =
            transaction.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let fresh = application_id == 0 && found == 0 && tables == 0;
        if application_id != self.application_id && !fresh {
            return Err(config("the file is not a store of this kind".to_owned()));
        }
        if found < 0 || found > self.version() {
            return Err(config(format!(
                "the file has format {found}, this program knows formats up to {}",
                self.version()
            )));
        }
        if found == self.version() {
            return Ok(());
        }
        let steps = self
            .migrations
            .iter()
            .skip(usize::try_from(found).unwrap_or(0));
        for piece in steps.copied().flatten() {
            transaction.execute_batch(piece)?;
        }
        transaction.pragma_update(None, "application_id", self.application_id)?;
        transaction.pragma_update(None, "user_version", self.version())?;
        transaction.commit()?;
        Ok(())
    }
}

fn config(message: String) -> super::JobError {
    BackendError::new(BackendErrorKind::Config, message)
        .not_applied()
        .into()
}
