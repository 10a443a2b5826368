//! Reading by id, in pages, and counting.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, DocumentState, Head, ListDocumentsRequest, StoredRecord,
    },
    model::{DocumentRecord, Filter, VectorSet, Version},
};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgConnection, postgres::PgRow};

use super::{
    catalogue::StoredCollection,
    convert::JobResult,
    filter::{self, Condition},
};

/// The versions held, in the order of the ids.
pub(super) async fn heads(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    ids: &[Arc<str>],
) -> JobResult<Vec<Option<Head>>> {
    let rows = of_ids(connection, collection, "id, version, deleted", ids).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id: &str = row.try_get(0)?;
        let version = Version::from_i64(row.try_get(1)?);
        let deleted = row.try_get(2)?;
        found.insert(id, Head { version, deleted });
    }
    Ok(ids.iter().map(|id| found.get(&**id).copied()).collect())
}

/// The rows of these ids, in any order.
async fn of_ids(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    columns: &str,
    ids: &[Arc<str>],
) -> JobResult<Vec<PgRow>> {
    let table = &collection.table;
    let select =
        |condition: &str| AssertSqlSafe(format!("SELECT {columns} FROM {table} WHERE {condition}"));
    let rows = match sendable(ids)[..] {
        // Most reads are of one document, and the plan for a list of any length is a third slower.
        [id] => sqlx::query(select("id = $1"))
            .bind(id)
            .fetch_all(connection),
        ref several => sqlx::query(select("id = ANY ($1)"))
            .bind(several)
            .fetch_all(connection),
    };
    Ok(rows.await?)
}

/// Ids as the server takes them. One with NUL was never written, and must not be sent.
pub(super) fn sendable(ids: &[Arc<str>]) -> Vec<&str> {
    ids.iter()
        .map(|id| &**id)
        .filter(|id| !id.contains('\0'))
        .collect()
}

/// The columns that [`record`] reads.
const RECORD: &str = "id, version, deleted, canonical, vectors";

fn record(row: &PgRow) -> JobResult<StoredRecord> {
    let id: String = row.try_get(0)?;
    let version = Version::from_i64(row.try_get(1)?);
    let state = if row.try_get(2)? {
        DocumentState::Deleted
    } else {
        let canonical: Option<&[u8]> = row.try_get(3)?;
        let vectors: Option<&[u8]> = row.try_get(4)?;
        let damaged = || {
            BackendError::new(
                BackendErrorKind::Damaged,
                format!("the stored document {id:?} is damaged"),
            )
            .with_document(id.as_str())
        };
        let (canonical, vectors) = canonical.zip(vectors).ok_or_else(damaged)?;
        let vectors = VectorSet::from_bytes(vectors).map_err(|_| damaged())?;
        let record = DocumentRecord::from_parts(canonical, vectors).map_err(|_| damaged())?;
        DocumentState::Live(Arc::new(record))
    };
    Ok(StoredRecord {
        id: id.into(),
        version,
        state,
    })
}

/// The records, in the order of the ids.
pub(super) async fn get(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    ids: &[Arc<str>],
) -> JobResult<Vec<Option<StoredRecord>>> {
    let rows = of_ids(connection, collection, RECORD, ids).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let record = record(row)?;
        found.insert(Arc::clone(&record.id), record);
    }
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// A page by the bytes of the ids.
pub(super) async fn list(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    request: &ListDocumentsRequest,
) -> JobResult<Vec<StoredRecord>> {
    let table = &collection.table;
    let condition = and_filter(request.filter.as_deref(), 3)?;
    // A filter is about live documents: tombstones fulfil none.
    let live = if request.include_deleted && request.filter.is_none() {
        ""
    } else {
        "AND NOT deleted"
    };
    let sql = format!(
        "SELECT {RECORD} FROM {table} WHERE id > $1 {live} {} ORDER BY id LIMIT $2",
        condition.sql
    );
    // Ids are never empty, so the empty text is below them all.
    // The text of a statement with a filter hardly ever comes again.
    let query = sqlx::query(AssertSqlSafe(sql))
        .persistent(request.filter.is_none())
        .bind(request.after_id.as_deref().unwrap_or_default())
        .bind(limit(request.limit));
    let rows = condition.bind(query).fetch_all(connection).await?;
    rows.iter().map(record).collect()
}

/// How many live documents fulfil the filter.
pub(super) async fn count(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    filter: Option<&Filter>,
) -> JobResult<u64> {
    let table = &collection.table;
    let condition = and_filter(filter, 1)?;
    let sql = format!(
        "SELECT count(*) FROM {table} WHERE NOT deleted {}",
        condition.sql
    );
    let row = condition
        .bind(sqlx::query(AssertSqlSafe(sql)).persistent(filter.is_none()))
        .fetch_one(connection)
        .await?;
    let count: i64 = row.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The filter as one more condition of a statement; nothing without a filter.
pub(super) fn and_filter(filter: Option<&Filter>, first_parameter: usize) -> JobResult<Condition> {
    let Some(filter) = filter else {
        return Ok(Condition::default());
    };
    let condition = filter::compile(filter, first_parameter)?;
    Ok(Condition {
        sql: format!("AND {}", condition.sql),
        ..condition
    })
}

/// A limit as the server takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
