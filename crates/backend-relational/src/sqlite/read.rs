//! Reading by id, in pages, and counting.

use std::sync::Arc;

use dbmanager_backend_support::sqlite::{
    JobResult, collections, documents,
    filter::{self, Condition},
};
use dbmanager_core::{
    backend::{DocumentState, Head, IdsRequest, ListDocumentsRequest, StoredRecord},
    model::{CollectionKey, DocumentRecord, Filter, VectorSet, Version},
};
use rusqlite::{Connection, Row, params_from_iter, types::Value};

use super::schema::damaged;

pub(super) fn heads(connection: &Connection, request: &IdsRequest) -> JobResult<Vec<Option<Head>>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let found = documents::find(connection, collection, &request.ids)?;
    Ok(found
        .into_iter()
        .map(|found| found.map(|found| found.head))
        .collect())
}

/// The columns that [`record`] reads.
const RECORD: &str = "document.id, document.version, document.deleted, content.canonical, \
                      content.vectors FROM document \
                      LEFT JOIN content ON content.document = document.key";

fn record(row: &Row<'_>) -> JobResult<StoredRecord> {
    let id: Arc<str> = row.get(0)?;
    let version = Version::from_i64(row.get(1)?);
    let state = if row.get(2)? {
        DocumentState::Deleted
    } else {
        let canonical: Option<Vec<u8>> = row.get(3)?;
        let vectors: Option<Vec<u8>> = row.get(4)?;
        let damaged = || damaged(&id);
        let (canonical, vectors) = canonical.zip(vectors).ok_or_else(damaged)?;
        let vectors = VectorSet::from_bytes(&vectors).map_err(|_| damaged())?;
        let record = DocumentRecord::from_parts(&canonical, vectors).map_err(|_| damaged())?;
        DocumentState::Live(Arc::new(record))
    };
    Ok(StoredRecord { id, version, state })
}

pub(super) fn get(
    connection: &Connection,
    request: &IdsRequest,
) -> JobResult<Vec<Option<StoredRecord>>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {RECORD} WHERE document.collection = ?1 AND document.id = ?2"
    ))?;
    request
        .ids
        .iter()
        .map(|id| {
            let mut rows = statement.query((collection, &**id))?;
            rows.next()?.map(record).transpose()
        })
        .collect()
}

pub(super) fn list(
    connection: &Connection,
    request: &ListDocumentsRequest,
) -> JobResult<Vec<StoredRecord>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let condition = and_filter(request.filter.as_deref(), collection, "document.key", 4)?;
    // A filter is about live documents: tombstones fulfil none.
    let live = if request.include_deleted && request.filter.is_none() {
        ""
    } else {
        "AND NOT document.deleted"
    };
    // Ids are never empty, so the empty text is below them all.
    let after = request.after_id.as_deref().unwrap_or_default();
    let parameters = [
        Value::Integer(collection),
        Value::Text(after.to_owned()),
        Value::Integer(limit(request.limit)),
    ];
    let mut statement = connection.prepare(&format!(
        "SELECT {RECORD} WHERE document.collection = ?1 AND document.id > ?2 {live} {} \
         ORDER BY document.id LIMIT ?3",
        condition.sql
    ))?;
    let mut rows = statement.query(params_from_iter(
        parameters.into_iter().chain(condition.parameters),
    ))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}

pub(super) fn count(
    connection: &Connection,
    collection: &CollectionKey,
    filter: Option<&Filter>,
) -> JobResult<u64> {
    let collection = collections::get(connection, collection)?.key;
    let condition = and_filter(filter, collection, "document.key", 2)?;
    let count: i64 = connection
        .prepare(&format!(
            "SELECT count(*) FROM document WHERE collection = ?1 AND NOT deleted {}",
            condition.sql
        ))?
        .query_row(
            params_from_iter(
                std::iter::once(Value::Integer(collection)).chain(condition.parameters),
            ),
            |row| row.get(0),
        )?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The filter as one more condition of a statement; nothing without a filter.
pub(super) fn and_filter(
    filter: Option<&Filter>,
    collection: i64,
    document: &str,
    first_parameter: usize,
) -> JobResult<Condition> {
    let Some(filter) = filter else {
        return Ok(Condition {
            sql: String::new(),
            parameters: Vec::new(),
        });
    };
    let condition = filter::compile(filter, collection, document, first_parameter)?;
    Ok(Condition {
        sql: format!("AND {}", condition.sql),
        ..condition
    })
}

/// A limit as SQLite takes it.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
