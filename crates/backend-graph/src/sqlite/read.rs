//! Reading by id, and titles.

use dbmanager_backend_support::sqlite::{
    JobResult, collections, documents,
    full_text::{self, Search},
};
use dbmanager_core::{
    backend::{Edges, Head, IdsRequest, TextHit, TextSearchRequest},
    model::Reference,
};
use rusqlite::Connection;

use super::schema::titles;

pub(super) fn heads(connection: &Connection, request: &IdsRequest) -> JobResult<Vec<Option<Head>>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let found = documents::find(connection, collection, &request.ids)?;
    Ok(found
        .into_iter()
        .map(|found| found.map(|found| found.head))
        .collect())
}

pub(super) fn edges(
    connection: &Connection,
    request: &IdsRequest,
) -> JobResult<Vec<Option<Edges>>> {
    let collection = collections::get(connection, &request.collection)?.key;
    documents::find(connection, collection, &request.ids)?
        .into_iter()
        .map(|found| {
            let Some(found) = found.filter(|found| !found.head.deleted) else {
                return Ok(None);
            };
            let references = references(connection, found.key)?
                .into_iter()
                .map(|edge| {
                    edge.reference().ok_or_else(|| {
                        dbmanager_backend_support::sqlite::JobError::damaged(
                            "the properties of a stored reference are damaged",
                        )
                    })
                })
                .collect::<JobResult<_>>()?;
            Ok(Some(Edges {
                version: found.head.version,
                references,
            }))
        })
        .collect()
}

/// A row of `edge`.
pub(super) struct StoredEdge {
    target_collection: String,
    target: String,
    kind: String,
    own_collection: bool,
    properties: String,
}

impl StoredEdge {
    /// The reference as it was written; `None` if its properties are no JSON object.
    pub(super) fn reference(&self) -> Option<Reference> {
        let mut reference = Reference::new(&*self.target).kind(&*self.kind);
        reference.properties = serde_json::from_str(&self.properties).ok()?;
        Some(if self.own_collection {
            reference
        } else {
            reference.collection(&*self.target_collection)
        })
    }

    /// The reference with its target's collection always named, and with properties that are no
    /// JSON object as one text.
    pub(super) fn resolved(&self) -> Reference {
        let reference = self.reference().unwrap_or_else(|| {
            Reference::new(&*self.target)
                .kind(&*self.kind)
                .property("", &*self.properties)
        });
        reference.collection(&*self.target_collection)
    }
}

pub(super) fn references(connection: &Connection, key: i64) -> JobResult<Vec<StoredEdge>> {
    let mut statement = connection.prepare_cached(
        "SELECT target_collection, target_id, kind, own_collection, properties FROM edge
         WHERE source = ?1 ORDER BY ordinal",
    )?;
    let rows = statement.query_map([key], |row| {
        Ok(StoredEdge {
            target_collection: row.get(0)?,
            target: row.get(1)?,
            kind: row.get(2)?,
            own_collection: row.get(3)?,
            properties: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn match_titles(
    connection: &Connection,
    request: &TextSearchRequest,
) -> JobResult<Vec<TextHit>> {
    let collection = collections::get(connection, &request.collection)?;
    let Some(query) = full_text::query(&request.text, collection.options.tokenizer) else {
        return Ok(Vec::new());
    };
    Search {
        table: &titles(collection.key),
        weights: &[1.0],
        query,
        conditions: String::new(),
        parameters: Vec::new(),
        limit: request.limit,
    }
    .run(connection)
}
