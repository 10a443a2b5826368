//! Reads by id, pages and counts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendResult, DocumentState, Head, IdsRequest, ListDocumentsRequest, StoredRecord},
    model::{CollectionKey, Filter},
};
use mongodb::{
    bson::{Document, doc},
    options::FindOptions,
};

use super::{
    catalogue::{Catalogue, Entry},
    convert::{bytes, damaged},
    filter,
    layout::{self, Content, Parts},
    server::Server,
};

/// How often a large document that is replaced while it is read is read again.
const MAX_ROUNDS: usize = 20;
/// Live documents.
fn live() -> Document {
    doc! { "deleted": false }
}

/// The records of these ids, in any order.
pub(super) async fn find_by_id(
    server: &Server,
    documents: &str,
    ids: &[&str],
    projection: Option<Document>,
) -> BackendResult<Vec<Document>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let distinct: HashSet<&str> = ids.iter().copied().collect();
    let distinct: Vec<&str> = distinct.into_iter().collect();
    let filter = doc! { "_id": { "$in": distinct } };
    let options = FindOptions::builder().projection(projection).build();
    server
        .find("read documents by id", documents, filter, options)
        .await
}

/// The heads of these ids.
pub(super) async fn heads_by_id(
    server: &Server,
    entry: &Entry,
    ids: &[&str],
) -> BackendResult<HashMap<Arc<str>, Head>> {
    let projection = doc! { "version": 1, "deleted": 1 };
    find_by_id(server, &entry.documents, ids, Some(projection))
        .await?
        .iter()
        .map(layout::head)
        .collect()
}

pub(super) async fn heads(
    catalogue: Catalogue<'_>,
    request: &IdsRequest,
) -> BackendResult<Vec<Option<Head>>> {
    let entry = catalogue.get(&request.collection).await?;
    let heads = heads_by_id(catalogue.server, &entry, &ids(request)).await?;
    Ok(request
        .ids
        .iter()
        .map(|id| heads.get(id).copied())
        .collect())
}

pub(super) fn ids(request: &IdsRequest) -> Vec<&str> {
    request.ids.iter().map(|id| &**id).collect()
}

pub(super) async fn get(
    catalogue: Catalogue<'_>,
    request: &IdsRequest,
) -> BackendResult<Vec<Option<StoredRecord>>> {
    let entry = catalogue.get(&request.collection).await?;
    let server = catalogue.server;
    let found = find_by_id(server, &entry.documents, &ids(request), None).await?;
    let mut records = HashMap::new();
    for document in found {
        let whole = Whole::read(server, &entry, document).await?;
        // Ids never go, so one that was found is still there.
        if let Some(whole) = whole {
            let record = whole.record()?;
            records.insert(Arc::clone(&record.id), record);
        }
    }
    Ok(request
        .ids
        .iter()
        .map(|id| records.get(id).cloned())
        .collect())
}

pub(super) async fn list(
    catalogue: Catalogue<'_>,
    request: &ListDocumentsRequest,
) -> BackendResult<Vec<StoredRecord>> {
    let entry = catalogue.get(&request.collection).await?;
    let server = catalogue.server;
    let mut conditions = Vec::new();
    if request.filter.is_some() || !request.include_deleted {
        conditions.push(live());
    }
    if let Some(after) = &request.after_id {
        conditions.push(doc! { "_id": { "$gt": &**after } });
    }
    if let Some(filter) = &request.filter {
        conditions.push(condition(server, &entry, filter).await?);
    }
    let found = page(server, &entry, all(conditions), request.limit).await?;
    let mut records = Vec::with_capacity(found.len());
    for document in found {
        if let Some(whole) = Whole::read(server, &entry, document).await? {
            records.push(whole.record()?);
        }
    }
    Ok(records)
}

pub(super) async fn count(
    catalogue: Catalogue<'_>,
    key: &CollectionKey,
    filter: Option<&Filter>,
) -> BackendResult<u64> {
    let entry = catalogue.get(key).await?;
    let server = catalogue.server;
    let mut conditions = vec![live()];
    if let Some(filter) = filter {
        conditions.push(condition(server, &entry, filter).await?);
    }
    let pipeline = vec![
        doc! { "$match": all(conditions) },
        doc! { "$count": "count" },
    ];
    let found = server
        .aggregate("count documents", &entry.documents, pipeline)
        .await?;
    let count = found
        .first()
        .map(|counted| super::convert::integer(counted, "count"));
    // Nothing that is counted is no answer at all.
    match count {
        None => Ok(0),
        Some(count) => count
            .and_then(|count| u64::try_from(count).ok())
            .ok_or_else(|| damaged("a count")),
    }
}

/// Records above and by their id, which the server orders by its bytes.
pub(super) async fn page(
    server: &Server,
    entry: &Entry,
    filter: Document,
    limit: usize,
) -> BackendResult<Vec<Document>> {
    let options = FindOptions::builder()
        .sort(doc! { "_id": 1 })
        .limit(at_most(limit))
        .build();
    server
        .find("list documents", &entry.documents, filter, options)
        .await
}

/// A limit as the server takes it: 0 would be none.
pub(super) fn at_most(limit: usize) -> i64 {
    i64::try_from(limit.max(1)).unwrap_or(i64::MAX)
}

/// All of the conditions.
pub(super) fn all(conditions: Vec<Document>) -> Document {
    if conditions.is_empty() {
        doc! {}
    } else {
        doc! { "$and": conditions }
    }
}

/// The filter as a condition. Documents whose entries are left out are looked at here, and those
/// that fulfil the filter are named in the condition.
pub(super) async fn condition(
    server: &Server,
    entry: &Entry,
    filter: &Filter,
) -> BackendResult<Document> {
    let complete = filter::compile(filter)?;
    let options = FindOptions::builder().projection(doc! { "_id": 1 }).build();
    let partial = server
        .find(
            "list documents without entries for filters",
            &entry.documents,
            doc! { "partial": true },
            options,
        )
        .await?;
    if partial.is_empty() {
        return Ok(complete);
    }
    let mut fulfilling = Vec::new();
    for document in &partial {
        let id = document.get_str("_id").map_err(|_| damaged("an id"))?;
        let found = find_by_id(server, &entry.documents, &[id], None).await?;
        for document in found {
            let Some(whole) = Whole::read(server, entry, document).await? else {
                continue;
            };
            if let DocumentState::Live(record) = whole.record()?.state
                && filter.matches(record.document())
            {
                fulfilling.push(id.to_owned());
            }
        }
    }
    Ok(doc! { "$or": [
        { "partial": { "$ne": true }, "$and": [complete] },
        { "partial": true, "_id": { "$in": fulfilling } },
    ] })
}

/// A record with its content, all of one version.
pub(super) struct Whole {
    pub(super) document: Document,
    pub(super) id: Arc<str>,
    pub(super) head: Head,
    /// The exact bytes of document and vectors; absent in a tombstone, and where they are damaged.
    pub(super) content: Option<(Vec<u8>, Vec<u8>)>,
}

impl Whole {
    /// Fetches the parts that a record names. If they are gone, a newer version has taken their
    /// place, and that is read instead. `None` if the record is gone.
    pub(super) async fn read(
        server: &Server,
        entry: &Entry,
        mut document: Document,
    ) -> BackendResult<Option<Self>> {
        for _ in 0..MAX_ROUNDS {
            let (id, head) = layout::head(&document)?;
            let (content, parts) = match layout::content(&document) {
                Some(Content::Inline { canonical, vectors }) => (Some((canonical, vectors)), None),
                Some(Content::Parts(parts)) => (fetch(server, entry, &parts).await?, Some(parts)),
                None => (None, None),
            };
            let whole = Self {
                document,
                id,
                head,
                content,
            };
            if whole.content.is_some() || parts.is_none() {
                return Ok(Some(whole));
            }
            let again = find_by_id(server, &entry.documents, &[&whole.id], None).await?;
            let Some(again) = again.into_iter().next() else {
                return Ok(None);
            };
            if layout::head(&again)?.1 == whole.head {
                // Nothing newer is there: the parts are lost.
                return Ok(Some(whole));
            }
            document = again;
        }
        Err(dbmanager_core::backend::BackendError::new(
            dbmanager_core::backend::BackendErrorKind::Unavailable,
            "a document was replaced every time while it was read",
        ))
    }

    /// The document as it was written.
    pub(super) fn record(self) -> BackendResult<StoredRecord> {
        let state = if self.head.deleted {
            DocumentState::Deleted
        } else {
            let record = self
                .content
                .and_then(|(canonical, vectors)| layout::record(&canonical, &vectors));
            let damage = || {
                damaged(format_args!("the stored document {:?}", self.id))
                    .with_document(Arc::clone(&self.id))
            };
            DocumentState::Live(Arc::new(record.ok_or_else(damage)?))
        };
        Ok(StoredRecord {
            id: self.id,
            version: self.head.version,
            state,
        })
    }
}

/// The content in parts; `None` if they are not all there.
async fn fetch(
    server: &Server,
    entry: &Entry,
    parts: &Parts,
) -> BackendResult<Option<(Vec<u8>, Vec<u8>)>> {
    let mut whole = Vec::new();
    for id in parts.ids() {
        let found = find_by_id(server, &entry.parts, &[&id], None).await?;
        let Some(part) = found.first().and_then(|part| bytes(part, "bytes")) else {
            return Ok(None);
        };
        whole.extend_from_slice(part);
    }
    Ok(parts.split(whole))
}
