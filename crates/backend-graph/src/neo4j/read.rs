//! Reading by id.

use std::collections::HashMap;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Edges, Head, IdsRequest},
    model::{CollectionKey, Reference, Tokenizer, Version},
};
use neo4rs::{BoltType, Query};
use serde::Deserialize;

use super::{
    Store,
    collections::missing,
    convert::{collection_key, list, read, target_key, tokenizer_named},
    link::Access,
};

/// How often a document is read again that was being changed while it was read.
const MOST_READS: usize = 10;

/// What a reader may find missing while a write commits, see [`Held::is_whole`].
#[derive(Debug, Deserialize)]
struct HeldHead {
    id: String,
    version: Option<i64>,
    deleted: Option<bool>,
}

impl HeldHead {
    fn head(&self) -> Option<Head> {
        Some(Head {
            version: Version::from_i64(self.version?),
            deleted: self.deleted?,
        })
    }
}

fn id_list<'a>(ids: impl Iterator<Item = &'a str>) -> BoltType {
    list(ids.map(BoltType::from))
}

pub(super) async fn heads(store: &Store, request: &IdsRequest) -> BackendResult<Vec<Option<Head>>> {
    for _ in 0..MOST_READS {
        let held = held_heads(store, request).await?;
        let found: Option<HashMap<&str, Head>> = held
            .iter()
            .map(|held| Some((&*held.id, held.head()?)))
            .collect();
        if let Some(found) = found {
            let ids = request.ids.iter();
            return Ok(ids.map(|id| found.get(&**id).copied()).collect());
        }
    }
    Err(damaged("a document has no version"))
}

pub(super) fn damaged(what: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Damaged, what)
}

async fn held_heads(store: &Store, request: &IdsRequest) -> BackendResult<Vec<HeldHead>> {
    #[derive(Deserialize)]
    struct Answer {
        number: Option<i64>,
        found: Vec<HeldHead>,
    }
    let names = &store.names;
    let statement = format!(
        "OPTIONAL MATCH (collection:{collection} {{key: $collection}})
         WITH collection.number AS number
         CALL (number) {{
             UNWIND $ids AS id
             MATCH (document:{document} {{key: toString(number) + '/' + id}})
             RETURN collect({{id: id, version: document.version,
                              deleted: document.deleted}}) AS found
         }}
         RETURN number, found",
        collection = names.collection,
        document = names.document,
    );
    let query = Query::new(statement)
        .param("collection", collection_key(&request.collection))
        .param("ids", id_list(request.ids.iter().map(|id| &**id)));
    let answer: Answer = store.link.run_for_one(Access::Read, query).await?;
    match answer.number {
        Some(_) => Ok(answer.found),
        None => Err(missing(&request.collection)),
    }
}

/// A document as the graph holds it, copies of its facts included.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) collection: Option<i64>,
    pub(super) id: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) deleted: Option<bool>,
    pub(super) references: Option<i64>,
    pub(super) title: Option<String>,
    pub(super) document_type: Option<String>,
    pub(super) title_terms: Option<String>,
    /// The keys of the targets that stand for this document.
    pub(super) at: Vec<String>,
    pub(super) edges: Vec<HeldEdge>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct HeldEdge {
    ordinal: Option<i64>,
    version: Option<i64>,
    kind: Option<String>,
    own_collection: Option<bool>,
    properties: Option<String>,
    key: Option<String>,
    collection: Option<String>,
    id: Option<String>,
}

impl Held {
    /// Whether version, references and their number belong together. They need not while a write
    /// commits: the server lets a reader see some of it before the rest, and shows what is just
    /// being removed as an edge or a target without properties.
    pub(super) fn is_whole(&self) -> bool {
        let mut expected = 0..;
        self.head().is_some()
            && self.references == i64::try_from(self.edges.len()).ok()
            && self.edges.iter().all(|edge| {
                edge.version == self.version
                    && edge.ordinal == expected.next()
                    && edge.key.is_some()
            })
    }

    pub(super) fn head(&self) -> Option<Head> {
        Some(Head {
            version: Version::from_i64(self.version?),
            deleted: self.deleted?,
        })
    }

    /// The id, as its key says it.
    pub(super) fn id_of_key(&self) -> &str {
        self.key.split_once('/').map_or("", |(_, id)| id)
    }
}

impl HeldEdge {
    /// The reference as it was written; `None` if a part of it is not there or no JSON object.
    fn reference(&self) -> Option<Reference> {
        let mut reference = Reference::new(self.id.as_deref()?).kind(self.kind.as_deref()?);
        reference.properties = serde_json::from_str(self.properties.as_deref()?).ok()?;
        Some(if self.own_collection? {
            reference
        } else {
            reference.collection(self.collection.as_deref()?)
        })
    }

    /// The reference with its target's collection always named; `None` if a part of it is not
    /// there, is no JSON object, or does not fit the target's key.
    pub(super) fn resolved(&self) -> Option<Reference> {
        let (collection, id) = (self.collection.as_deref()?, self.id.as_deref()?);
        let fits = self.key.as_deref()? == target_key(collection, id);
        fits.then(|| self.reference())?
            .map(|reference| reference.collection(collection))
    }
}

/// What `RETURN` gives of a `document`, as [`Held`].
pub(super) const HELD: &str = "
    CALL (document) {
        MATCH (document)-[edge:REFERS]->(target)
        WITH edge, target ORDER BY edge.ordinal
        RETURN collect({ordinal: edge.ordinal, version: edge.version, kind: edge.kind,
            own_collection: edge.own_collection, properties: edge.properties, key: target.key,
            collection: target.collection, id: target.id}) AS edges
    }
    RETURN collect({key: document.key, collection: document.collection, id: document.id,
        version: document.version, deleted: document.deleted,
        references: document.references, title: document.title,
        document_type: document.document_type, title_terms: document.title_terms,
        at: [(document)-[:AT]->(own) | own.key], edges: edges}) AS found";

/// What is held of some documents of a collection.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) number: i64,
    pub(super) tokenizer: Tokenizer,
    pub(super) documents: Vec<Held>,
}

/// Runs a statement that answers with a collection's number and tokenizer, and `found`.
pub(super) async fn run(store: &Store, key: &CollectionKey, query: Query) -> BackendResult<Found> {
    #[derive(Deserialize)]
    struct Answer {
        number: Option<i64>,
        tokenizer: Option<String>,
        found: Vec<Held>,
    }
    let rows = store.link.run(Access::Read, query).await?;
    let answer: Answer = match rows.first() {
        Some(row) => read(row)?,
        None => return Err(missing(key)),
    };
    let number = answer.number.ok_or_else(|| missing(key))?;
    let tokenizer = answer
        .tokenizer
        .as_deref()
        .and_then(tokenizer_named)
        .ok_or_else(|| damaged("the tokenizer of a collection is damaged"))?;
    Ok(Found {
        number,
        tokenizer,
        documents: answer.found,
    })
}

/// The documents with these ids, in no particular order, read until each is whole or has been read
/// often enough.
pub(super) async fn find<'a>(
    store: &Store,
    collection: &CollectionKey,
    ids: impl Iterator<Item = &'a str>,
) -> BackendResult<Found> {
    let mut found = find_once(store, collection, ids).await?;
    for _ in 1..MOST_READS {
        if !read_torn_again(store, collection, &mut found).await? {
            break;
        }
    }
    Ok(found)
}

/// Reads those again that were not whole; whether there were any.
pub(super) async fn read_torn_again(
    store: &Store,
    collection: &CollectionKey,
    found: &mut Found,
) -> BackendResult<bool> {
    let torn: Vec<usize> = (0..found.documents.len())
        .filter(|index| !found.documents[*index].is_whole())
        .collect();
    if torn.is_empty() {
        return Ok(false);
    }
    let ids: Vec<String> = torn
        .iter()
        .map(|index| found.documents[*index].id_of_key().to_owned())
        .collect();
    let again = find_once(store, collection, ids.iter().map(String::as_str)).await?;
    for document in again.documents {
        let place = found
            .documents
            .iter_mut()
            .find(|held| held.key == document.key);
        if let Some(place) = place {
            *place = document;
        }
    }
    Ok(true)
}

async fn find_once<'a>(
    store: &Store,
    collection: &CollectionKey,
    ids: impl Iterator<Item = &'a str>,
) -> BackendResult<Found> {
    let names = &store.names;
    let statement = format!(
        "OPTIONAL MATCH (collection:{collection} {{key: $collection}})
         WITH collection.number AS number, collection.tokenizer AS tokenizer
         CALL (number) {{
             UNWIND $ids AS id
             MATCH (document:{document} {{key: toString(number) + '/' + id}})
             {HELD}
         }}
         RETURN number, tokenizer, found",
        collection = names.collection,
        document = names.document,
    );
    let query = Query::new(statement)
        .param("collection", collection_key(collection))
        .param("ids", id_list(ids));
    run(store, collection, query).await
}

pub(super) async fn edges(
    store: &Store,
    request: &IdsRequest,
) -> BackendResult<Vec<Option<Edges>>> {
    let distinct: std::collections::BTreeSet<&str> = request.ids.iter().map(|id| &**id).collect();
    let found = find(store, &request.collection, distinct.into_iter()).await?;
    let mut by_id = HashMap::new();
    for document in &found.documents {
        by_id.insert(document.id_of_key(), edges_of(document)?);
    }
    Ok(request
        .ids
        .iter()
        .map(|id| by_id.get(&**id).cloned().flatten())
        .collect())
}

/// The references of a live document.
fn edges_of(document: &Held) -> BackendResult<Option<Edges>> {
    let broken = || damaged("the references of a document are damaged");
    let head = document
        .head()
        .filter(|_| document.is_whole())
        .ok_or_else(broken)?;
    if head.deleted {
        return Ok(None);
    }
    let references = document
        .edges
        .iter()
        .map(|edge| edge.reference().ok_or_else(broken))
        .collect::<BackendResult<_>>()?;
    Ok(Some(Edges {
        version: head.version,
        references,
    }))
}
