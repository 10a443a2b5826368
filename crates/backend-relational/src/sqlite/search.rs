//! Full-text search: BM25 over title and text.

use dbmanager_backend_support::sqlite::{
    JobResult, collections,
    full_text::{self, Search},
};
use dbmanager_core::{
    backend::{TextHit, TextSearchRequest},
    model::Version,
};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{
    read::{and_filter, limit},
    schema::full_text as table_name,
};

/// How much a word counts in the title and in the text, as BM25's weights.
const WEIGHTS: [f64; 2] = [1.0, 1.0];

pub(super) fn search(
    connection: &Connection,
    request: &TextSearchRequest,
) -> JobResult<Vec<TextHit>> {
    let collection = collections::get(connection, &request.collection)?;
    match full_text::query(&request.text, collection.options.tokenizer) {
        Some(query) => best(connection, request, collection.key, query),
        None => everything(connection, request, collection.key),
    }
}

/// Restricts a statement to the ids that its parameter holds as a JSON list.
fn and_restricted(
    request: &TextSearchRequest,
    collection: i64,
    key: &str,
    parameter: usize,
) -> (String, Option<Value>) {
    let Some(ids) = &request.restrict_to else {
        return (String::new(), None);
    };
    let ids = serde_json::Value::from_iter(ids.iter().map(|id| &**id));
    let sql = format!(
        "AND {key} IN (SELECT key FROM document WHERE collection = {collection} \
         AND id IN (SELECT value FROM json_each(?{parameter})))"
    );
    (sql, Some(Value::Text(ids.to_string())))
}

fn everything(
    connection: &Connection,
    request: &TextSearchRequest,
    collection: i64,
) -> JobResult<Vec<TextHit>> {
    let (restricted, ids) = and_restricted(request, collection, "document.key", 3);
    let first = if ids.is_some() { 4 } else { 3 };
    let filter = and_filter(request.filter.as_deref(), collection, "document.key", first)?;
    let mut statement = connection.prepare(&format!(
        "SELECT id, version FROM document WHERE collection = ?1 AND NOT deleted \
         {restricted} {} ORDER BY id LIMIT ?2",
        filter.sql
    ))?;
    let parameters = [
        Value::Integer(collection),
        Value::Integer(limit(request.limit)),
    ];
    let parameters = parameters.into_iter().chain(ids).chain(filter.parameters);
    let hits = statement.query_map(params_from_iter(parameters), |row| {
        let id: String = row.get(0)?;
        Ok(TextHit::new(id, Version::from_i64(row.get(1)?), 0.0))
    })?;
    Ok(hits.collect::<Result<_, _>>()?)
}

fn best(
    connection: &Connection,
    request: &TextSearchRequest,
    collection: i64,
    query: String,
) -> JobResult<Vec<TextHit>> {
    let table = table_name(collection);
    let key = Search::rowid(&table);
    let (restricted, ids) = and_restricted(request, collection, &key, 2);
    let first = if ids.is_some() { 3 } else { 2 };
    let filter = and_filter(request.filter.as_deref(), collection, &key, first)?;
    Search {
        table: &table,
        weights: &WEIGHTS,
        query,
        conditions: format!("{restricted} {}", filter.sql),
        parameters: ids.into_iter().chain(filter.parameters).collect(),
        limit: request.limit,
    }
    .run(connection)
}
