//! Who the file belongs to and how far it has come.

use dbmanager_core::{
    backend::{BackendError, Identity, Stamp, StampRequest},
    model::{JournalId, StoreId, Version},
};
use rusqlite::{Connection, OptionalExtension};

use super::{JobError, JobResult, collections};

/// The tables of this module.
pub const SCHEMA: &str = "
CREATE TABLE stamp (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    store_id   BLOB NOT NULL,
    journal_id BLOB NOT NULL,
    epoch      INTEGER NOT NULL,
    progress   INTEGER NOT NULL
) STRICT;
CREATE TABLE sync (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    counter  INTEGER NOT NULL
) STRICT;
INSERT INTO sync VALUES (1, 0);
";

/// The stamp, if a manager has used the file.
///
/// # Errors
/// `Damaged` if the row is not a stamp.
pub fn read(connection: &Connection) -> JobResult<Option<Stamp>> {
    let row = connection
        .prepare_cached("SELECT store_id, journal_id, epoch, progress FROM stamp")?
        .query_row([], |row| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        })
        .optional()?;
    let Some((store_id, journal_id, epoch, progress)) = row else {
        return Ok(None);
    };
    let damaged = || JobError::damaged("the stamp is damaged");
    let bits = |bytes: Vec<u8>| {
        <[u8; 16]>::try_from(bytes)
            .map(u128::from_be_bytes)
            .map_err(|_| damaged())
    };
    Ok(Some(Stamp {
        store_id: StoreId::from_u128(bits(store_id)?),
        journal_id: JournalId::from_u128(bits(journal_id)?),
        epoch: u64::try_from(epoch).map_err(|_| damaged())?,
        progress: Version::from_i64(progress),
    }))
}

/// Stamp, highest version and emptiness.
///
/// # Errors
/// Of SQLite.
pub fn identity(connection: &Connection) -> JobResult<Identity> {
    let highest = collections::highest_version(connection)?;
    Ok(Identity::new(read(connection)?, highest, highest.is_none()))
}

/// Writes the stamp under the rule of [`StampRequest`]; for [`super::Database::write_durable`].
///
/// # Errors
/// `Foreign` for another journal's or store's stamp or a higher progress, `StaleEpoch` for a
/// higher epoch.
pub fn write(connection: &Connection, request: &StampRequest) -> JobResult<()> {
    let new = &request.stamp;
    if let Some(held) = read(connection)? {
        request.check_over(&held)?;
    }
    let epoch = i64::try_from(new.epoch)
        .map_err(|_| JobError::refused("an epoch above 2^63 - 1 cannot be stored"))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO stamp VALUES (1, ?1, ?2, ?3, ?4)")?
        .execute((
            new.store_id.as_u128().to_be_bytes().as_slice(),
            new.journal_id.as_u128().to_be_bytes().as_slice(),
            epoch,
            new.progress.as_i64(),
        ))?;
    // The same stamp written again may leave no changed page behind, and then nothing is synced.
    touch(connection)
}

/// Refuses a write of a manager that another one has followed; call it first in every write. A
/// file without a stamp takes any epoch.
///
/// # Errors
/// `StaleEpoch` if the stamp's epoch is higher.
pub fn check_epoch(connection: &Connection, epoch: u64) -> JobResult<()> {
    let held: Option<i64> = connection
        .prepare_cached("SELECT epoch FROM stamp")?
        .query_row([], |row| row.get(0))
        .optional()?;
    match held.map(|held| u64::try_from(held).unwrap_or(0)) {
        Some(held) if held > epoch => Err(BackendError::stale_epoch(held, epoch).into()),
        _ => Ok(()),
    }
}

/// A change that has no meaning but that a commit has to write.
pub(super) fn touch(connection: &Connection) -> JobResult<()> {
    connection
        .prepare_cached("UPDATE sync SET counter = (counter + 1) & 0xffffffff")?
        .execute([])?;
    Ok(())
}
