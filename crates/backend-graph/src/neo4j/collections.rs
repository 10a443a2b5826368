//! Collections: created, listed, dropped.

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest,
    },
    model::{CollectionKey, CollectionOptions},
};
use neo4rs::Query;
use serde::Deserialize;

use super::{
    Store,
    convert::{collection_key, read, tokenizer_name},
    link::Access,
    stamp::stale_epoch,
};

/// Edges or documents removed by one statement of a drop: small enough for any server's memory.
const REMOVED_AT_ONCE: i64 = 5_000;

#[derive(Debug, Deserialize)]
struct Created {
    epoch: i64,
    options: Option<String>,
}

pub(super) async fn create(store: &Store, request: CreateCollectionRequest) -> BackendResult<()> {
    let CreateCollectionRequest {
        collection, epoch, ..
    } = request;
    let refuse =
        |message: &str| Err(BackendError::new(BackendErrorKind::Refused, message).not_applied());
    let Some(tokenizer) = tokenizer_name(collection.options.tokenizer) else {
        return Err(BackendError::unsupported("this tokenizer"));
    };
    let Ok(generation) = i64::try_from(collection.key.generation) else {
        return refuse("a generation above 2^63 - 1 cannot be stored");
    };
    if collection.key.name.contains('\0') {
        return refuse("a collection's name contains NUL");
    }
    let names = &store.names;
    let statement = format!(
        "{lock_lanes}
         MERGE (store:{store} {{number: 0}}) ON CREATE SET store.format = $format
         SET store.lock = $lock
         WITH store, epoch
         OPTIONAL MATCH (held:{collection} {{key: $key}})
         WITH store, epoch, held, held.options AS options
         CALL (store, epoch, held) {{
             WITH store, epoch, held WHERE epoch <= $epoch AND held IS NULL
             SET store.collections = coalesce(store.collections, 0) + 1
             CREATE (:{collection} {{key: $key, number: store.collections, name: $name,
                 generation: $generation, tokenizer: $tokenizer, options: $options}})
             RETURN count(*) AS created
         }}
         RETURN epoch, options",
        lock_lanes = store.lock_lanes(),
        store = names.store,
        collection = names.collection,
    );
    let query = Query::new(statement)
        .param("lock", store.lock())
        .param("format", super::schema::FORMAT)
        .param("epoch", store.epoch(epoch))
        .param("key", collection_key(&collection.key))
        .param("name", &*collection.key.name)
        .param("generation", generation)
        .param("tokenizer", tokenizer)
        .param("options", to_json(&collection.options)?);
    let answer: Created = store.link.run_for_one(Access::Write, query).await?;
    if answer.epoch > store.epoch(epoch) {
        return Err(stale_epoch(answer.epoch, epoch));
    }
    match answer.options {
        None => Ok(()),
        Some(held) => fill_in(store, &collection.key, epoch, &held, &collection.options).await,
    }
}

/// The collection is there: an embedding space is filled in if it has none, one that is not
/// repeated stays, and anything else must be the same.
async fn fill_in(
    store: &Store,
    key: &CollectionKey,
    epoch: u64,
    held: &str,
    wanted: &CollectionOptions,
) -> BackendResult<()> {
    let options: CollectionOptions = serde_json::from_str(held).map_err(|_| {
        BackendError::new(
            BackendErrorKind::Damaged,
            "the options of a collection are damaged",
        )
    })?;
    let Some(merged) = options.filled_in(wanted) else {
        return Err(BackendError::new(
            BackendErrorKind::Refused,
            format!("collection {key} exists with other options"),
        ));
    };
    if merged == options {
        return Ok(());
    }
    let statement = format!(
        "{lock_lanes}
         OPTIONAL MATCH (collection:{collection} {{key: $key}})
         WHERE epoch <= $epoch AND collection.options = $held
         SET collection.options = $merged
         RETURN collection IS NOT NULL AS changed",
        lock_lanes = store.lock_lanes(),
        collection = store.names.collection,
    );
    let query = Query::new(statement)
        .param("lock", store.lock())
        .param("epoch", store.epoch(epoch))
        .param("key", collection_key(key))
        .param("held", held)
        .param("merged", to_json(&merged)?);
    #[derive(Deserialize)]
    struct Answer {
        changed: bool,
    }
    let answer: Answer = store.link.run_for_one(Access::Write, query).await?;
    if answer.changed {
        return Ok(());
    }
    Err(BackendError::new(
        BackendErrorKind::Unavailable,
        format!("collection {key} was changed at the same time"),
    ))
}

fn to_json(options: &CollectionOptions) -> BackendResult<String> {
    serde_json::to_string(options).map_err(|_| {
        BackendError::new(
            BackendErrorKind::Refused,
            "the collection's options cannot be written as JSON",
        )
        .not_applied()
    })
}

pub(super) async fn list(store: &Store) -> BackendResult<Vec<CollectionKey>> {
    #[derive(Deserialize)]
    struct Row {
        name: String,
        generation: u64,
    }
    let statement = format!(
        "MATCH (collection:{}) WHERE collection.key IS NOT NULL
         RETURN collection.name AS name, collection.generation AS generation",
        store.names.collection
    );
    let rows = store.link.run(Access::Read, Query::new(statement)).await?;
    rows.iter()
        .map(|row| {
            let Row { name, generation } = read(row)?;
            Ok(CollectionKey::new(name, generation))
        })
        .collect()
}

pub(super) fn missing(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::CollectionMissing,
        format!("collection {key} was not created here"),
    )
}

/// First the collection loses its key, while no write is under way: from then on it is missing.
/// What it held goes in steps that fit the server's memory; a drop that was interrupted leaves
/// the rest to the next drop of any collection.
pub(super) async fn drop_collection(
    store: &Store,
    request: DropCollectionRequest,
) -> BackendResult<()> {
    let names = &store.names;
    let statement = format!(
        "{lock_lanes}
         OPTIONAL MATCH (collection:{collection} {{key: $key}}) WHERE epoch <= $epoch
         SET collection.dropped = $key
         REMOVE collection.key
         RETURN epoch",
        lock_lanes = store.lock_lanes(),
        collection = names.collection,
    );
    #[derive(Deserialize)]
    struct Answer {
        epoch: i64,
    }
    let query = Query::new(statement)
        .param("lock", store.lock())
        .param("epoch", store.epoch(request.epoch))
        .param("key", collection_key(&request.collection));
    let answer: Answer = store.link.run_for_one(Access::Write, query).await?;
    if answer.epoch > store.epoch(request.epoch) {
        return Err(stale_epoch(answer.epoch, request.epoch));
    }
    store.forget_tokenizer(&request.collection);
    #[derive(Deserialize)]
    struct Dropped {
        number: i64,
    }
    let statement = format!(
        "MATCH (collection:{}) WHERE collection.key IS NULL RETURN collection.number AS number",
        names.collection
    );
    let dropped = store.link.run(Access::Read, Query::new(statement)).await?;
    for row in &dropped {
        let Dropped { number } = read(row)?;
        remove_content(store, number).await?;
    }
    Ok(())
}

async fn remove_content(store: &Store, number: i64) -> BackendResult<()> {
    let names = &store.names;
    // The keys of a collection's documents are those between `number/` and `number0`.
    let documents = format!(
        "MATCH (document:{})
         WHERE document.key > $number + '/' AND document.key < $number + '0'",
        names.document
    );
    // Targets that nothing leads to any more go too. Each is locked before it is looked at, so
    // that no reference to it is written in between.
    let remove_targets = format!(
        "UNWIND targets AS target
         WITH DISTINCT target, removed
         SET target.lock = $lock
         WITH target, removed
         CALL (target) {{
             WITH target WHERE NOT EXISTS {{ (target:{})--() }}
             DELETE target
         }}
         RETURN max(removed) AS removed",
        names.target
    );
    let steps = [
        format!(
            "{documents}
             MATCH (document)-[edge:REFERS]->(target)
             WITH edge, target LIMIT $limit
             DELETE edge
             WITH collect(target) AS targets, count(*) AS removed
             {remove_targets}"
        ),
        format!(
            "{documents}
             WITH document LIMIT $limit
             OPTIONAL MATCH (document)-[:AT]->(target)
             WITH document, collect(target) AS own
             DETACH DELETE document
             WITH collect(own) AS owns, count(*) AS removed
             WITH reduce(all = [], own IN owns | all + own) AS targets, removed
             {remove_targets}"
        ),
    ];
    for step in steps {
        loop {
            let query = Query::new(step.clone())
                .param("number", number.to_string())
                .param("limit", REMOVED_AT_ONCE)
                .param("lock", store.lock());
            #[derive(Deserialize)]
            struct Removed {
                removed: Option<i64>,
            }
            let answer: Removed = store.link.run_for_one(Access::Write, query).await?;
            if answer.removed.unwrap_or(0) == 0 {
                break;
            }
        }
    }
    let statement = format!(
        "MATCH (collection:{}) WHERE collection.key IS NULL AND collection.number = $number
         DELETE collection",
        names.collection
    );
    let query = Query::new(statement).param("number", number);
    store.link.run(Access::Write, query).await?;
    Ok(())
}
