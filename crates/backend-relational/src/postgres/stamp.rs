//! Who the store belongs to and how far it has come.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, Identity, Stamp, StampRequest},
    model::{JournalId, StoreId, Version},
};
use sqlx::{AssertSqlSafe, postgres::PgConnection};

use super::{catalogue, convert::JobResult};

/// Tables asked for their highest version in one statement.
const TABLES_AT_ONCE: usize = 100;

/// Stamp, highest version and emptiness, within a transaction that sees one moment.
pub(super) async fn identity(transaction: &mut PgConnection) -> JobResult<Identity> {
    let stamp = read(transaction).await?;
    let mut highest: Option<i64> = None;
    for tables in catalogue::tables(transaction).await?.chunks(TABLES_AT_ONCE) {
        let each: Vec<String> = tables
            .iter()
            .map(|table| format!("(SELECT max(version) FROM {table})"))
            .collect();
        // `greatest` leaves nulls out, and is null itself if there is nothing else.
        let sql = format!("SELECT greatest({})", each.join(", "));
        let found: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .fetch_one(&mut *transaction)
            .await?;
        highest = highest.max(found);
    }
    let highest = highest.map(Version::from_i64);
    Ok(Identity::new(stamp, highest, highest.is_none()))
}

/// Whether there is a table for the stamp: somebody may have wiped the schema.
pub(super) async fn is_there(connection: &mut PgConnection) -> JobResult<bool> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('stamp') IS NOT NULL")
        .fetch_one(connection)
        .await?;
    Ok(there)
}

/// The stamp, if a manager has used the store.
pub(super) async fn read(connection: &mut PgConnection) -> JobResult<Option<Stamp>> {
    let row: Option<(Vec<u8>, Vec<u8>, i64, i64)> =
        sqlx::query_as("SELECT store_id, journal_id, epoch, progress FROM stamp")
            .fetch_optional(connection)
            .await?;
    let Some((store_id, journal_id, epoch, progress)) = row else {
        return Ok(None);
    };
    let damaged = || BackendError::new(BackendErrorKind::Damaged, "the stamp is damaged");
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

/// Writes the stamp under the rule of [`StampRequest`], within a transaction. It waits for writes
/// that have read the old one: they hold its row until they are committed.
///
/// # Errors
/// `Foreign` for another journal's or store's stamp or a higher progress, `StaleEpoch` for a
/// higher epoch.
pub(super) async fn write(transaction: &mut PgConnection, request: &StampRequest) -> JobResult<()> {
    // One stamping at a time, also while there is no row yet that could be locked.
    sqlx::query("LOCK TABLE stamp IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await?;
    let new = &request.stamp;
    if let Some(held) = read(transaction).await? {
        request.check_over(&held)?;
    }
    let epoch = i64::try_from(new.epoch).map_err(|_| {
        BackendError::new(
            BackendErrorKind::Refused,
            "an epoch above 2^63 - 1 cannot be stored",
        )
        .not_applied()
    })?;
    sqlx::query(
        "INSERT INTO stamp (store_id, journal_id, epoch, progress) VALUES ($1, $2, $3, $4)
         ON CONFLICT (only_row) DO UPDATE SET store_id = excluded.store_id,
             journal_id = excluded.journal_id, epoch = excluded.epoch,
             progress = excluded.progress",
    )
    .bind(new.store_id.as_u128().to_be_bytes().as_slice())
    .bind(new.journal_id.as_u128().to_be_bytes().as_slice())
    .bind(epoch)
    .bind(new.progress.as_i64())
    .execute(transaction)
    .await?;
    Ok(())
}

/// Refuses a write of a manager that another one has followed, within the transaction that
/// writes: the stamp's row stays as it is until that is committed. A store without a stamp takes
/// any epoch.
///
/// # Errors
/// `StaleEpoch` if the stamp's epoch is higher.
pub(super) async fn check_epoch(transaction: &mut PgConnection, epoch: u64) -> JobResult<()> {
    let held: Option<i64> = sqlx::query_scalar("SELECT epoch FROM stamp FOR SHARE")
        .fetch_optional(transaction)
        .await?;
    judge_epoch(held, epoch)
}

/// Whether a stamp with this epoch lets a write of the other one pass.
pub(super) fn judge_epoch(held: Option<i64>, epoch: u64) -> JobResult<()> {
    match held.map(|held| u64::try_from(held).unwrap_or(0)) {
        Some(held) if held > epoch => Err(BackendError::stale_epoch(held, epoch).into()),
        _ => Ok(()),
    }
}
