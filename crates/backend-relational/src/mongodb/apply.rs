//! Writes: for each document one conditional upsert of its own.
//!
//! `{_id: id, version: {$lt: v}}` with `upsert` replaces an older record, inserts an absent one,
//! and fails on the unique `_id` if a record of this version or a newer one is there — or if
//! another insert of the same id was quicker. So that failure proves nothing: only a read that
//! shows at least this version does, and otherwise the upsert is repeated.
//!
//! A large document's parts are written before its record, under a name of this attempt alone, so
//! that no reader ever finds half of them and no two writes mix. Parts that no record names are
//! removed by the next write of their id.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::{ApplyRequest, BackendError, BackendErrorKind, BackendResult, Head, Mutation},
    model::Tokenizer,
};
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::{
    catalogue::{Catalogue, Entry},
    convert::{DUPLICATE_KEY, GAVE_WAY, item_error},
    layout::{self, Parts, Prepared},
    read,
    server::{Outcome, Server},
};

/// How often an upsert that lost a race, though nothing newer is there, is tried again.
const MAX_ROUNDS: usize = 50;
/// Content above this is cut into words off the async threads.
const BLOCKING_BYTES: usize = 64 * 1024;
/// Parts that are sent in one call.
const PARTS_AT_ONCE: usize = 2;

/// One mutation on its way.
struct Item {
    statement: RawDocumentBuf,
    /// The name of the attempt, if the document has parts.
    parts: Option<Parts>,
    answer: Option<BackendResult<()>>,
}

pub(super) async fn apply(
    catalogue: Catalogue<'_>,
    request: &ApplyRequest,
) -> BackendResult<Vec<BackendResult<()>>> {
    let server = catalogue.server;
    let entry = catalogue
        .get_for_write(&request.collection, request.epoch)
        .await?;
    let prepared = prepare(server, &entry, &request.mutations).await?;
    let mut items = Vec::with_capacity(prepared.len());
    let mut announced = entry.has_parts;
    for (prepared, mutation) in prepared.into_iter().zip(request.mutations.iter()) {
        let item = match prepared.and_then(|p| Ok((statement(mutation, &p.record)?, p.parts))) {
            Ok((statement, None)) => Item::new(statement, None),
            Ok((statement, Some((parts, documents)))) => {
                let mut item = Item::new(statement, Some(parts));
                if !announced {
                    catalogue.announce_parts(&entry).await?;
                    announced = true;
                }
                item.answer = write_parts(server, &entry, documents).await.err().map(Err);
                item
            }
            Err(error) => Item {
                statement: RawDocumentBuf::new(),
                parts: None,
                answer: Some(Err(error)),
            },
        };
        items.push(item);
    }
    upsert(server, &entry, &request.mutations, &mut items).await;
    if announced {
        remove_leftovers(server, &entry, &request.mutations, &items).await;
    }
    Ok(items.into_iter().map(Item::answer).collect())
}

impl Item {
    fn new(statement: RawDocumentBuf, parts: Option<Parts>) -> Self {
        Self {
            statement,
            parts,
            answer: None,
        }
    }

    fn answer(self) -> BackendResult<()> {
        self.answer.unwrap_or_else(|| {
            let message = "other writes of the document were quicker every time";
            Err(BackendError::new(BackendErrorKind::Unavailable, message))
        })
    }
}

async fn prepare(
    server: &Server,
    entry: &Entry,
    mutations: &Arc<[Mutation]>,
) -> BackendResult<Vec<BackendResult<Prepared>>> {
    let bytes: usize = mutations
        .iter()
        .filter_map(|mutation| mutation.state.record())
        .map(|record| record.canonical().len())
        .sum();
    let runtime = server.runtime.clone();
    let (mutations, tokenizer) = (Arc::clone(mutations), entry.options.tokenizer);
    if bytes <= BLOCKING_BYTES {
        return Ok(prepare_all(&runtime, &mutations, tokenizer));
    }
    let again = runtime.clone();
    runtime
        .blocking(move || prepare_all(&again, &mutations, tokenizer))
        .await
        .map_err(|lost| {
            BackendError::new(BackendErrorKind::Unavailable, lost.to_string()).not_applied()
        })
}

fn prepare_all(
    runtime: &dbmanager_core::Runtime,
    mutations: &[Mutation],
    tokenizer: Tokenizer,
) -> Vec<BackendResult<Prepared>> {
    mutations
        .iter()
        .map(|mutation| {
            let attempt = runtime.new_store_id().as_u128();
            layout::prepare(mutation, tokenizer, attempt)
        })
        .collect()
}

fn statement(mutation: &Mutation, record: &Document) -> BackendResult<RawDocumentBuf> {
    let statement = doc! {
        "q": { "_id": &*mutation.id, "version": { "$lt": mutation.version.as_i64() } },
        "u": record,
        "upsert": true,
    };
    RawDocumentBuf::try_from(&statement).map_err(|e| {
        let message = format!("the document cannot be written as BSON: {e}");
        BackendError::new(BackendErrorKind::Refused, message).not_applied()
    })
}

async fn write_parts(
    server: &Server,
    entry: &Entry,
    documents: Vec<Document>,
) -> BackendResult<()> {
    let parts = server.collection(&entry.parts);
    for some in documents.chunks(PARTS_AT_ONCE) {
        server
            .run("write the parts of a document", async {
                parts.insert_many(some).await
            })
            .await
            // Parts that no record names are no write.
            .map_err(BackendError::not_applied)?;
    }
    Ok(())
}

/// Sends every statement without an answer until it has one.
async fn upsert(server: &Server, entry: &Entry, mutations: &[Mutation], items: &mut [Item]) {
    for _ in 0..MAX_ROUNDS {
        let mut open: Vec<usize> = (0..items.len())
            .filter(|index| items[*index].answer.is_none())
            .collect();
        if open.is_empty() {
            return;
        }
        // Batches that overlap meet their documents in the same order, so that no two of them wait
        // for each other where a server locks as it goes.
        open.sort_by(|a, b| mutations[*a].id.cmp(&mutations[*b].id));
        let statements: Vec<_> = open.iter().map(|i| items[*i].statement.clone()).collect();
        let mut beaten = Vec::new();
        for (range, outcome) in server.write("update", &entry.documents, &statements).await {
            let sent = &open[range];
            match outcome.and_then(|outcome| understood(outcome, sent.len())) {
                Err(error) => {
                    for index in sent {
                        items[*index].answer = Some(Err(error.clone()));
                    }
                }
                Ok(outcome) => beaten.extend(take_answers(sent, outcome, items)),
            }
        }
        settle(server, entry, mutations, items, &beaten).await;
    }
}

/// An error of a statement that was not sent means that none of the answers can be trusted.
fn understood(outcome: Outcome, sent: usize) -> BackendResult<Outcome> {
    if outcome.errors.iter().all(|(place, _, _)| *place < sent) {
        return Ok(outcome);
    }
    let message = "the server reports an error of a write that was not sent";
    Err(BackendError::new(BackendErrorKind::Protocol, message))
}

/// Takes the answers to the statements of the items `sent`, and returns those of them that were
/// beaten by another write.
fn take_answers(sent: &[usize], outcome: Outcome, items: &mut [Item]) -> Vec<usize> {
    let mut beaten = Vec::new();
    let mut failed = vec![false; sent.len()];
    for (place, code, message) in outcome.errors {
        failed[place] = true;
        if code == DUPLICATE_KEY || GAVE_WAY.contains(&code) {
            beaten.push(sent[place]);
        } else {
            items[sent[place]].answer = Some(Err(item_error(code, &message)));
        }
    }
    for (index, failed) in sent.iter().zip(failed) {
        if !failed {
            items[*index].answer = Some(outcome.concern.clone().map_or(Ok(()), Err));
        }
    }
    beaten
}

/// Answers for those of the beaten that a newer version, or their own, stands in for.
async fn settle(
    server: &Server,
    entry: &Entry,
    mutations: &[Mutation],
    items: &mut [Item],
    beaten: &[usize],
) {
    if beaten.is_empty() {
        return;
    }
    let ids: Vec<&str> = beaten.iter().map(|index| &*mutations[*index].id).collect();
    match read::heads_by_id(server, entry, &ids).await {
        Ok(heads) => {
            for index in beaten {
                let mutation = &mutations[*index];
                let held = heads.get(&mutation.id).map(|head| head.version);
                if held.is_some_and(|held| held >= mutation.version) {
                    items[*index].answer = Some(Ok(()));
                }
            }
        }
        // These were refused by the server, and nothing more is known.
        Err(error) => {
            for index in beaten {
                items[*index].answer = Some(Err(error.clone()));
            }
        }
    }
}

/// Removes parts that no record can name any more: of older versions, of this one by another
/// attempt, and one's own if a newer version was there.
///
/// A failure here fails no write: the parts are in nobody's way, and the next write of the same id
/// removes them.
async fn remove_leftovers(server: &Server, entry: &Entry, mutations: &[Mutation], items: &[Item]) {
    let applied: Vec<(&Mutation, &Item)> = mutations
        .iter()
        .zip(items)
        .filter(|(_, item)| matches!(item.answer, Some(Ok(()))))
        .collect();
    let ids: Vec<&str> = applied.iter().map(|(mutation, _)| &*mutation.id).collect();
    let Ok(named) = named_attempts(server, entry, &ids).await else {
        return;
    };
    let statements: Vec<RawDocumentBuf> = applied
        .iter()
        .filter_map(|(mutation, item)| {
            let (head, attempt) = named.get(&mutation.id)?;
            let mut of_others = doc! {
                "id": &*mutation.id,
                "version": { "$lte": head.version.as_i64() },
            };
            if let Some(attempt) = attempt {
                // The `_id` of a part starts with its attempt; `.` sorts right behind `-`.
                of_others.insert(
                    "_id",
                    doc! { "$not": { "$gte": format!("{attempt}-"), "$lt": format!("{attempt}.") } },
                );
            }
            debug_assert!(item.parts.is_none() || head.version >= mutation.version);
            RawDocumentBuf::try_from(&doc! { "q": of_others, "limit": 0 }).ok()
        })
        .collect();
    drop(server.write("delete", &entry.parts, &statements).await);
}

/// The head of each id, with the attempt whose parts its record names.
async fn named_attempts(
    server: &Server,
    entry: &Entry,
    ids: &[&str],
) -> BackendResult<HashMap<Arc<str>, (Head, Option<String>)>> {
    let projection = doc! { "version": 1, "deleted": 1, "parts.attempt": 1 };
    let found = read::find_by_id(server, &entry.documents, ids, Some(projection)).await?;
    found
        .iter()
        .map(|document| {
            let (id, head) = layout::head(document)?;
            let attempt = document
                .get_document("parts")
                .ok()
                .and_then(|parts| parts.get_str("attempt").ok())
                .map(str::to_owned);
            Ok((id, (head, attempt)))
        })
        .collect()
}
