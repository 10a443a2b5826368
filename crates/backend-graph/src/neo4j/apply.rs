//! Writing documents: one statement for a batch.

use std::collections::VecDeque;

use dbmanager_core::{
    backend::{ApplyRequest, BackendError, BackendErrorKind, BackendResult, Limits, Mutation},
    model::{Reference, Tokenizer, Version},
};
use neo4rs::{BoltType, Query};
use serde::Deserialize;

use super::{
    Store,
    collections::missing,
    convert::{collection_key, list, map, read, target_key, tokenizer_name, tokenizer_named},
    link::Access,
    stamp::stale_epoch,
    terms::tokens,
};

/// Bytes of one statement's content, above which a batch is sent in parts: a transaction is held
/// in the server's memory.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// What a document or an edge costs beside its texts.
const BYTES_OF_AN_ITEM: usize = 200;

/// Applies a batch in as few statements as fit, each a transaction. If the server refuses one for
/// what is in it, its halves are sent apart, down to the single item that is to blame.
pub(super) async fn apply(
    store: &Store,
    request: ApplyRequest,
) -> BackendResult<Vec<BackendResult<()>>> {
    let mutations = &request.mutations;
    let limits = &store.capabilities.limits;
    let mut results: Vec<BackendResult<()>> = mutations
        .iter()
        .map(|mutation| validate(mutation, limits))
        .collect();
    let mut valid: Vec<usize> = (0..mutations.len())
        .filter(|index| results[*index].is_ok())
        .collect();
    // Everyone locks in the same order: fewer deadlocks.
    valid.sort_unstable_by(|a, b| mutations[*a].id.cmp(&mutations[*b].id));
    let mut parts = split_by_size(mutations, valid);
    while let Some(part) = parts.pop_front() {
        let items: Vec<&Mutation> = part.iter().map(|index| &mutations[*index]).collect();
        match write(store, &request, &items).await {
            Ok(()) => {}
            Err(error) if part.len() > 1 && may_blame_one(error.kind()) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.push_front(right.to_vec());
                parts.push_front(left.to_vec());
            }
            Err(error) if may_blame_one(error.kind()) => {
                for index in part {
                    results[index] = Err(error.clone());
                }
            }
            // It concerns the store and not what was written.
            Err(error) => return Err(error),
        }
    }
    Ok(results)
}

/// Whether a statement may have failed for one of its items, or for being too much at once.
fn may_blame_one(kind: BackendErrorKind) -> bool {
    matches!(
        kind,
        BackendErrorKind::Refused | BackendErrorKind::Protocol | BackendErrorKind::Overloaded
    )
}

/// At least one part, though it be empty: the epoch and the collection are checked in any case.
fn split_by_size(mutations: &[Mutation], indices: Vec<usize>) -> VecDeque<Vec<usize>> {
    let mut parts = VecDeque::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for index in indices {
        let next = size(&mutations[index]);
        if !part.is_empty() && bytes + next > MOST_BYTES {
            parts.push_back(std::mem::take(&mut part));
            bytes = 0;
        }
        part.push(index);
        bytes += next;
    }
    if !part.is_empty() || parts.is_empty() {
        parts.push_back(part);
    }
    parts
}

fn size(mutation: &Mutation) -> usize {
    let Some(record) = mutation.state.record() else {
        return BYTES_OF_AN_ITEM;
    };
    let document = record.document();
    let edges = document.references.iter().map(|reference| {
        let collection = reference.collection.as_deref().unwrap_or_default();
        // The target's key repeats collection and id.
        BYTES_OF_AN_ITEM + 2 * (collection.len() + reference.target.len()) + reference.kind.len()
    });
    // Titles are stored a second time: at most in runs of three characters, in hexadecimal digits,
    // each behind the collection's number.
    BYTES_OF_AN_ITEM + 12 * document.title.len() + edges.sum::<usize>()
}

#[derive(Debug, Deserialize)]
struct Answer {
    epoch: i64,
    tokenizer: Option<String>,
}

async fn write(store: &Store, request: &ApplyRequest, items: &[&Mutation]) -> BackendResult<()> {
    let mut tokenizer = store.tokenizer(&request.collection);
    // A second time if the collection has another tokenizer than the last one seen; it cannot
    // change without being dropped in between.
    for _ in 0..3 {
        let query = Query::new(statement(store))
            .param("lane", store.next_lane())
            .param("lock", store.lock())
            .param("epoch", store.epoch(request.epoch))
            .param("collection", collection_key(&request.collection))
            .param("name", &*request.collection.name)
            .param("tokenizer", tokenizer_name(tokenizer))
            .param("items", encode(request, items, tokenizer)?);
        let rows = store.link.run(Access::Write, query).await?;
        let Some(row) = rows.first() else {
            // No lane: someone has emptied the namespace.
            return Err(missing(&request.collection));
        };
        let answer: Answer = read(row)?;
        if answer.epoch > store.epoch(request.epoch) {
            return Err(stale_epoch(answer.epoch, request.epoch));
        }
        let held = answer
            .tokenizer
            .ok_or_else(|| missing(&request.collection))?;
        let held = tokenizer_named(&held).ok_or_else(|| {
            BackendError::new(
                BackendErrorKind::Damaged,
                "the tokenizer of a collection is damaged",
            )
        })?;
        if held == tokenizer {
            return Ok(());
        }
        tokenizer = held;
        store.remember_tokenizer(&request.collection, held);
    }
    Err(BackendError::new(
        BackendErrorKind::Unavailable,
        "the collection is being dropped and created again",
    ))
}

/// The lane is locked first, so the epoch cannot change before this commits. A document is made
/// or found under its unique key, then locked by a first `SET`, and only then its version is
/// compared: under read committed a version that was read before could be an old one.
///
/// The words of a title come in one text that lacks nothing but the collection's number: joining
/// them here would copy the text once for every word.
///
/// What the documents no longer refer to is looked at when all of them are written: of one batch,
/// a later one may refer to it. Few are locked, those that nothing leads to, and looked at again
/// behind the lock. A statement that takes up such a target at the same time waits for that lock
/// and then finds the target gone, or has made the server refuse the removal: it keeps no edge
/// without both ends. Either way one of the two is an error that passes.
fn statement(store: &Store) -> String {
    let names = &store.names;
    format!(
        "MATCH (lane:{lane} {{number: $lane}})
         SET lane.lock = $lock
         WITH lane
         OPTIONAL MATCH (collection:{collection} {{key: $collection}})
         WITH coalesce(lane.epoch, -1) AS epoch, collection.number AS number,
              collection.tokenizer AS tokenizer
         CALL (epoch, number, tokenizer) {{
             WITH epoch, number, tokenizer
             WHERE epoch <= $epoch AND tokenizer = $tokenizer
             UNWIND $items AS item
             MERGE (document:{document} {{key: toString(number) + '/' + item.id}})
                 ON CREATE SET document.version = -1, document.collection = number,
                               document.id = item.id
             SET document.lock = $lock
             WITH document, item, number
             WHERE document.version < item.version
             SET document.version = item.version,
                 document.deleted = item.deleted,
                 document.title = item.title,
                 document.document_type = item.document_type,
                 document.references = size(item.edges),
                 document.title_terms = replace(item.terms, '_', toString(number) + '_')
             WITH document, item
             CALL (document) {{
                 OPTIONAL MATCH (document)-[old:REFERS]->(target)
                 DELETE old
                 RETURN collect(DISTINCT target) AS formers
             }}
             CALL (document, item) {{
                 WITH document, item WHERE NOT EXISTS {{ (document)-[:AT]->() }}
                 MERGE (own:{target} {{key: item.own_key}})
                     ON CREATE SET own.collection = $name, own.id = item.id
                 CREATE (document)-[:AT]->(own)
             }}
             CALL (document, item) {{
                 UNWIND item.edges AS edge
                 WITH document, item, edge[0] AS ordinal, edge[1] AS key, edge[2] AS collection,
                      edge[3] AS id, edge[4] AS kind, edge[5] AS own_collection,
                      edge[6] AS properties
                 MERGE (target:{target} {{key: key}})
                     ON CREATE SET target.collection = collection, target.id = id
                 CREATE (document)-[:REFERS {{ordinal: ordinal, kind: kind,
                     own_collection: own_collection, properties: properties,
                     version: item.version}}]->(target)
             }}
             WITH collect(formers) AS all
             UNWIND all AS formers
             UNWIND formers AS former
             WITH DISTINCT former
             WHERE NOT EXISTS {{ (former)--() }}
             SET former.lock = $lock
             WITH former
             CALL (former) {{
                 WITH former WHERE NOT EXISTS {{ (former:{target})--() }}
                 DELETE former
             }}
             RETURN count(*) AS applied
         }}
         RETURN epoch, tokenizer",
        lane = names.lane,
        collection = names.collection,
        document = names.document,
        target = names.target,
    )
}

fn encode(
    request: &ApplyRequest,
    items: &[&Mutation],
    tokenizer: Tokenizer,
) -> BackendResult<BoltType> {
    let own = &*request.collection.name;
    let items = items
        .iter()
        .map(|mutation| {
            let document = mutation.state.record().map(|record| record.document());
            let references = document.map_or(&[][..], |document| &document.references);
            let edges = references
                .iter()
                .zip(0_i64..)
                .map(|(reference, ordinal)| encode_edge(reference, ordinal, own))
                .collect::<BackendResult<Vec<_>>>()?;
            let title = document.map(|document| &*document.title);
            let terms = title.and_then(|title| unnumbered_terms(tokenizer, title));
            let kind = document.and_then(|document| document.document_type.as_deref());
            Ok(map([
                ("id", (&*mutation.id).into()),
                ("version", mutation.version.as_i64().into()),
                ("deleted", document.is_none().into()),
                ("title", title.into()),
                ("document_type", kind.into()),
                ("terms", terms.into()),
                ("own_key", target_key(own, &mutation.id).into()),
                ("edges", list(edges.into_iter())),
            ]))
        })
        .collect::<BackendResult<Vec<_>>>()?;
    Ok(list(items.into_iter()))
}

/// The words of a title, each behind the `_` that ends the collection's number; an encoded word has
/// none in it.
fn unnumbered_terms(tokenizer: Tokenizer, title: &str) -> Option<String> {
    let tokens = tokens(tokenizer, title);
    (!tokens.is_empty()).then(|| format!("_{}", tokens.join(" _")))
}

/// A list and no map: the names would outweigh the values.
fn encode_edge(reference: &Reference, ordinal: i64, own: &str) -> BackendResult<BoltType> {
    let collection = reference.collection.as_deref().unwrap_or(own);
    let properties = serde_json::to_string(&reference.properties).map_err(|_| {
        let message = "the properties of a reference cannot be written as JSON";
        BackendError::new(BackendErrorKind::Refused, message).not_applied()
    })?;
    let values: [BoltType; 7] = [
        ordinal.into(),
        target_key(collection, &reference.target).into(),
        collection.into(),
        (&*reference.target).into(),
        (&*reference.kind).into(),
        reference.collection.is_none().into(),
        properties.into(),
    ];
    Ok(list(values.into_iter()))
}

fn validate(mutation: &Mutation, limits: &Limits) -> BackendResult<()> {
    let refuse =
        |message: String| Err(BackendError::new(BackendErrorKind::Refused, message).not_applied());
    let longest = limits.max_id_bytes;
    let bytes = mutation.id.len();
    if bytes == 0 || bytes > longest {
        return refuse(format!(
            "an id of {bytes} bytes; 1 to {longest} are allowed"
        ));
    }
    if mutation.id.contains('\0') {
        return refuse("an id contains NUL".to_owned());
    }
    if mutation.version > Version::MAX {
        return refuse("a version above the highest one".to_owned());
    }
    let Some(record) = mutation.state.record() else {
        return Ok(());
    };
    let largest = limits.max_document_bytes;
    let bytes = record.canonical().len();
    if bytes > largest {
        return refuse(format!(
            "a document of {bytes} bytes; at most {largest} are allowed"
        ));
    }
    let most = limits.max_references;
    let references = record.document().references.len();
    if references > most {
        return refuse(format!(
            "{references} references; at most {most} are allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_goes_before_each_word() {
        let terms = unnumbered_terms(Tokenizer::Unicode, "Abc_d abc").unwrap();
        assert_eq!(terms.replace('_', "7_"), "7_616263 7_64 7_616263");
        assert_eq!(unnumbered_terms(Tokenizer::Unicode, " _"), None);
    }
}
