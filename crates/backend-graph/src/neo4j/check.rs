//! What the graph holds, as hashes over what is read.

use std::collections::{BTreeSet, HashMap};

use dbmanager_core::{
    backend::{BackendResult, Fingerprint, Head, IdsRequest, ListRequest, Page},
    model::{ContentHash, Reference, Version},
};
use neo4rs::Query;

use super::{
    Store,
    convert::{collection_key, target_key},
    read::{self, Found, HELD, Held, HeldEdge},
    terms::tokens,
};

pub(super) async fn fingerprints(
    store: &Store,
    request: &ListRequest,
) -> BackendResult<Page<Fingerprint>> {
    let names = &store.names;
    // In the order of the index on the key, which every page keeps.
    let statement = format!(
        "OPTIONAL MATCH (collection:{collection} {{key: $collection}})
         WITH collection.number AS number, collection.tokenizer AS tokenizer,
              toString(collection.number) + '/' + $after AS low,
              toString(collection.number) + '0' AS high
         CALL (low, high) {{
             MATCH (document:{document}) WHERE document.key > low AND document.key < high
             WITH document ORDER BY document.key LIMIT $limit
             {HELD}
         }}
         RETURN number, tokenizer, found",
        collection = names.collection,
        document = names.document,
    );
    let limit = request.limit.max(1);
    let query = Query::new(statement)
        .param("collection", collection_key(&request.collection))
        .param("after", request.after.as_deref().unwrap_or_default())
        .param("limit", i64::try_from(limit).unwrap_or(i64::MAX));
    let mut found = read::run(store, &request.collection, query).await?;
    // Twice: what is still not whole then shows as a difference, and is looked at again by id.
    for _ in 0..2 {
        read::read_torn_again(store, &request.collection, &mut found).await?;
    }
    let next = (found.documents.len() == limit)
        .then(|| found.documents.last())
        .flatten()
        .map(|document| document.id_of_key().to_owned());
    let items = found
        .documents
        .iter()
        .map(|document| fingerprint(&found, document, &request.collection.name))
        .collect();
    Ok(Page { items, next })
}

pub(super) async fn fingerprints_of(
    store: &Store,
    request: &IdsRequest,
) -> BackendResult<Vec<Option<Fingerprint>>> {
    let distinct: BTreeSet<&str> = request.ids.iter().map(|id| &**id).collect();
    let found = read::find(store, &request.collection, distinct.into_iter()).await?;
    let by_id: HashMap<&str, Fingerprint> = found
        .documents
        .iter()
        .map(|document| {
            let print = fingerprint(&found, document, &request.collection.name);
            (document.id_of_key(), print)
        })
        .collect();
    Ok(request
        .ids
        .iter()
        .map(|id| by_id.get(&**id).cloned())
        .collect())
}

fn fingerprint(found: &Found, document: &Held, name: &str) -> Fingerprint {
    let head = document.head().unwrap_or(Head {
        version: Version::ZERO,
        deleted: false,
    });
    // No title has a NUL, so this is the hash of no document.
    let damaged = || ContentHash::of_graph(name, &format!("\0{document:?}"), None, [].iter());
    Fingerprint {
        id: document.id_of_key().into(),
        head,
        content_hash: content_hash(found, document, name).unwrap_or_else(damaged),
    }
}

/// The hash of what is held; `None` if something is missing, or if what is held twice is not held
/// the same: the key and its parts, the references and their number and version, the title and its
/// words, the target that stands for the document.
fn content_hash(found: &Found, document: &Held, name: &str) -> Option<ContentHash> {
    let id = document.id_of_key();
    let copies_agree = document.is_whole()
        && document.id.as_deref() == Some(id)
        && document.collection == Some(found.number)
        && document.at == [target_key(name, id)]
        && document.title_terms == title_terms(found, document);
    if !copies_agree {
        return None;
    }
    if document.deleted? {
        let bare = document.title.is_none() && document.document_type.is_none();
        return (bare && document.edges.is_empty()).then_some(ContentHash::TOMBSTONE);
    }
    let references = document
        .edges
        .iter()
        .map(HeldEdge::resolved)
        .collect::<Option<Vec<Reference>>>()?;
    Some(ContentHash::of_graph(
        name,
        document.title.as_deref()?,
        document.document_type.as_deref(),
        references.iter(),
    ))
}

/// What the index must hold of the title.
fn title_terms(found: &Found, document: &Held) -> Option<String> {
    let words = tokens(found.tokenizer, document.title.as_deref()?)
        .into_iter()
        .map(|token| format!("{}_{token}", found.number))
        .collect::<Vec<_>>();
    (!words.is_empty()).then(|| words.join(" "))
}
