//! Who the store belongs to and how far it has come.

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Identity, Stamp, StampRequest},
    model::{JournalId, StoreId, Version},
};
use neo4rs::Query;
use serde::Deserialize;

use super::{Store, link::Access};

#[derive(Debug, Deserialize)]
struct Row {
    store_id: Option<String>,
    journal_id: Option<String>,
    epoch: Option<i64>,
    progress: Option<i64>,
    highest: Option<i64>,
}

impl Row {
    fn stamp(&self) -> Option<Option<Stamp>> {
        let (store_id, journal_id, epoch, progress) = match self {
            Row {
                store_id: None,
                journal_id: None,
                epoch: None,
                progress: None,
                ..
            } => return Some(None),
            Row {
                store_id: Some(store_id),
                journal_id: Some(journal_id),
                epoch: Some(epoch),
                progress: Some(progress),
                ..
            } => (store_id, journal_id, epoch, progress),
            _ => return None,
        };
        Some(Some(Stamp {
            store_id: StoreId::from_u128(u128::from_str_radix(store_id, 16).ok()?),
            journal_id: JournalId::from_u128(u128::from_str_radix(journal_id, 16).ok()?),
            epoch: u64::try_from(*epoch).ok()?,
            progress: Version::from_i64(*progress),
        }))
    }
}

pub(super) async fn identity(store: &Store) -> BackendResult<Identity> {
    let names = &store.names;
    let statement = format!(
        "OPTIONAL MATCH (store:{} {{number: 0}})
         CALL () {{ MATCH (document:{}) WHERE document.version >= 0
                    RETURN max(document.version) AS highest }}
         RETURN store.store_id AS store_id, store.journal_id AS journal_id,
                store.epoch AS epoch, store.progress AS progress, highest",
        names.store, names.document
    );
    let row: Row = store
        .link
        .run_for_one(Access::Read, Query::new(statement))
        .await?;
    let stamp = row
        .stamp()
        .ok_or_else(|| BackendError::new(BackendErrorKind::Damaged, "the stamp is damaged"))?;
    let highest = row.highest.map(Version::from_i64);
    Ok(Identity::new(stamp, highest, highest.is_none()))
}

#[derive(Debug, Deserialize)]
struct Verdict {
    verdict: String,
    held: Option<i64>,
}

/// Every lane is locked, so no write of an older epoch is under way when the new one is set, and
/// none gets through afterwards.
pub(super) async fn write(store: &Store, request: StampRequest) -> BackendResult<()> {
    let StampRequest { stamp, replace, .. } = request;
    let epoch = i64::try_from(stamp.epoch).map_err(|_| {
        let message = "an epoch above 2^63 - 1 cannot be stored";
        BackendError::new(BackendErrorKind::Refused, message).not_applied()
    })?;
    let names = &store.names;
    let statement = format!(
        "{lock_lanes}
         MERGE (store:{store} {{number: 0}}) ON CREATE SET store.format = $format
         SET store.lock = $lock
         WITH store, store.epoch AS held,
              CASE WHEN store.store_id IS NULL THEN 'taken'
                   WHEN store.journal_id <> $journal_id
                   THEN CASE WHEN $replace THEN 'taken' ELSE 'journal' END
                   WHEN store.store_id <> $store_id AND NOT $replace THEN 'store'
                   WHEN store.epoch > $epoch THEN 'epoch'
                   WHEN store.store_id = $store_id AND store.progress > $progress THEN 'progress'
                   ELSE 'taken' END AS verdict
         CALL (store, verdict) {{
             WITH store, verdict WHERE verdict = 'taken'
             SET store.store_id = $store_id, store.journal_id = $journal_id,
                 store.epoch = $epoch, store.progress = $progress
             WITH store
             MATCH (lane:{lane}) SET lane.epoch = $epoch
             RETURN count(*) AS lanes
         }}
         RETURN verdict, held",
        lock_lanes = store.lock_lanes(),
        store = names.store,
        lane = names.lane,
    );
    let query = Query::new(statement)
        .param("lock", store.lock())
        .param("format", super::schema::FORMAT)
        .param("replace", replace)
        .param("store_id", format!("{:032x}", stamp.store_id.as_u128()))
        .param("journal_id", format!("{:032x}", stamp.journal_id.as_u128()))
        .param("epoch", epoch)
        .param("progress", stamp.progress.as_i64());
    let answer: Verdict = store.link.run_for_one(Access::Write, query).await?;
    let foreign = |message: &str| Err(BackendError::new(BackendErrorKind::Foreign, message));
    match &*answer.verdict {
        "taken" => Ok(()),
        "journal" => foreign("the store is stamped by another journal"),
        "store" => foreign("the store is stamped as another store"),
        "progress" => foreign("the store has come further than the stamp says"),
        "epoch" => Err(stale_epoch(answer.held.unwrap_or_default(), stamp.epoch)),
        other => Err(BackendError::new(
            BackendErrorKind::Protocol,
            format!("the verdict on a stamp is {other:?}"),
        )),
    }
}

pub(super) fn stale_epoch(held: i64, given: u64) -> BackendError {
    BackendError::new(
        BackendErrorKind::StaleEpoch,
        format!("the store is at epoch {held}, the write at {given}"),
    )
}
