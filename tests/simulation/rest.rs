//! What a manager still does when nothing is wrong any more: it reads, finds and writes everything.

use std::{collections::BTreeMap, time::Duration};

use dbmanager_core::{
    DatabaseManager, ErrorKind, Runtime,
    conformance::Seeded,
    model::{Level, PageEnd, Query, Version},
};

use super::{
    calls::{USUAL, call},
    client::{COLLECTIONS, Client, DOCUMENTS},
    history::History,
    operation::{Kind, Operation, Place, brief},
};

/// How long a write to every store may take.
const TIME_FOR_ALL: Duration = Duration::from_secs(60);

pub fn places() -> Vec<Place> {
    COLLECTIONS.into_iter().flat_map(places_of).collect()
}

fn places_of(collection: &str) -> impl Iterator<Item = Place> {
    (0..DOCUMENTS).map(move |index| (collection.to_owned(), format!("d{index}")))
}

pub fn client(history: &History, runtime: &Runtime, db: &DatabaseManager) -> Client {
    Client {
        db: db.clone(),
        runtime: runtime.clone(),
        history: history.clone(),
        random: Seeded::new(0),
        poison: 0.0,
        known: BTreeMap::new(),
    }
}

/// Reads every document, and searches for all of them: what is found is what is there.
pub async fn read_everything(history: &History, runtime: &Runtime, db: &DatabaseManager) {
    let mut client = client(history, runtime, db);
    for collection in COLLECTIONS {
        let mut there = BTreeMap::new();
        for place in places_of(collection) {
            if let Some(version) = client.read_now(&place).await {
                there.insert(place.1, version);
            }
        }
        for query in [
            Query::metadata("harbour"),
            Query::semantic("harbour"),
            Query::hybrid("harbour"),
        ] {
            search_now(&client, collection, query, &there).await;
        }
    }
}

async fn search_now(
    client: &Client,
    collection: &str,
    query: Query,
    there: &BTreeMap<String, Version>,
) {
    let Client {
        db,
        runtime,
        history,
        ..
    } = client;
    let what = format!("{collection} {:?}", query.search_type);
    let promise = "at rest a search shows all there is";
    let search = db.search_documents(collection, query.limit(10));
    match call(history, runtime, "search_documents", USUAL, search).await {
        Ok(found) => {
            let hits = found
                .hits
                .iter()
                .map(|hit| (hit.id.to_string(), hit.version));
            let hits: BTreeMap<String, Version> = hits.collect();
            let whole = !found.degraded() && found.page_end == PageEnd::Exhausted;
            if !whole || hits != *there {
                let legs = &found.legs;
                history.violate(
                    promise,
                    format!(
                        "{what}: {hits:?} of {there:?}, {:?}, {legs:?}",
                        found.page_end
                    ),
                );
            }
        }
        Err(error) if error.kind() == ErrorKind::CollectionNotFound => {
            let known = db.collections();
            if known.iter().any(|known| &*known.key.name == collection) || !there.is_empty() {
                history.violate(promise, format!("{what}: {error}"));
            }
        }
        Err(error) => history.violate(promise, format!("{what}: {error}")),
    }
}

/// Writes every document to every store, which nothing prevents.
pub async fn write_everything(history: &History, runtime: &Runtime, db: &DatabaseManager) {
    let mut client = client(history, runtime, db);
    for place in places() {
        let operation_id = runtime.new_operation_id();
        let operation = Operation {
            operation_id: Some(operation_id),
            ..Operation::new(place.clone(), Kind::Put)
        };
        let number = history.begin(operation, false);
        let document = client.document(number, &place.1);
        let write = db.store_document(place.0.clone(), document);
        let write = write.level(Level::All).timeout(TIME_FOR_ALL);
        let write = write.operation_id(operation_id);
        let answer = call(history, runtime, "store_document", TIME_FOR_ALL, write).await;
        history.answered(number, Some(operation_id), &answer);
        if !answer.as_ref().is_ok_and(|receipt| receipt.level_reached()) {
            let what = format!("{place:?}: {}", brief(&answer));
            history.violate("a manager at rest writes", what);
            return;
        }
        if client.read_now(&place).await != answer.ok().map(|receipt| receipt.version) {
            let what = format!("{place:?}: another version than #{number} is read");
            history.violate("a manager reads its own writes", what);
        }
    }
}
