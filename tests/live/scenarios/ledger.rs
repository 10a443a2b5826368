//! What the stores must hold: a book kept beside the manager.

use std::collections::{BTreeMap, BTreeSet};

use dbmanager::prelude::*;
use dbmanager_core::ConsistencyReport;

use super::waiting::{settled, until};

/// Every live document by collection and id, as it was acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    collections: BTreeMap<String, BTreeMap<String, Document>>,
    deleted: BTreeMap<String, BTreeSet<String>>,
}

impl Ledger {
    pub(super) fn stored(&mut self, collection: &str, document: Document) {
        let id = document.id.clone();
        self.deleted
            .entry(collection.to_owned())
            .or_default()
            .remove(&id);
        let documents = self.collections.entry(collection.to_owned()).or_default();
        documents.insert(id, document);
    }

    pub(super) fn deleted(&mut self, collection: &str, id: &str) {
        if let Some(documents) = self.collections.get_mut(collection) {
            documents.remove(id);
        }
        let deleted = self.deleted.entry(collection.to_owned()).or_default();
        deleted.insert(id.to_owned());
    }

    pub(super) fn dropped(&mut self, collection: &str) {
        self.collections.remove(collection);
        self.deleted.remove(collection);
    }

    /// The live documents of a collection.
    pub(super) fn documents(&self, collection: &str) -> impl Iterator<Item = &Document> {
        self.collections
            .get(collection)
            .into_iter()
            .flat_map(|c| c.values())
    }

    /// The ids of the live documents that fulfil the condition, sorted.
    pub(super) fn ids(&self, collection: &str, filter: &Filter) -> Vec<String> {
        self.documents(collection)
            .filter(|document| filter.matches(document))
            .map(|document| document.id.clone())
            .collect()
    }

    /// Waits until the stores have caught up, and then compares everything: each store with the
    /// authority, and the authority with this book.
    pub(super) async fn assert_held_by(&self, db: &DatabaseManager) {
        settled(db).await;
        let found = checked(db).await;
        assert!(found.is_consistent(), "{found:#?}");
        let live: usize = self.collections.values().map(BTreeMap::len).sum();
        for store in &found.stores {
            assert_eq!(store.documents, live as u64, "{}: {found:#?}", store.role);
        }
        for (name, documents) in &self.collections {
            let count = db.count(name, None).await.unwrap();
            assert!(count.complete);
            assert_eq!(count.documents, documents.len() as u64, "{name:?}");
            let wanted: Vec<_> = documents.values().collect();
            let listed = listed(db, name).await;
            assert_eq!(listed.iter().collect::<Vec<_>>(), wanted, "{name:?}");
            let gone = self.deleted.get(name).into_iter().flatten();
            let found = db.get_documents(name, gone).await.unwrap();
            assert!(found.iter().all(Option::is_none), "{name:?}: {found:?}");
        }
    }
}

/// The comparison of every store with the authority; a busy server may need more than one try.
async fn checked(db: &DatabaseManager) -> ConsistencyReport {
    let mut found = None;
    until("the stores are compared", async || {
        match db.check_consistency().await {
            Ok(report) => {
                found = Some(report);
                Ok(())
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                Err(error)
            }
        }
    })
    .await;
    found.expect("it was compared")
}

/// Every document of a collection, page by page.
async fn listed(db: &DatabaseManager, collection: &str) -> Vec<Document> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = db
            .list_documents(collection, None, after, 64)
            .await
            .unwrap();
        assert!(page.complete);
        all.extend(page.documents.into_iter().map(|found| found.document));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// The ids of the hits, sorted; every leg answered, from a store that has everything.
pub(super) async fn hits(db: &DatabaseManager, collection: &str, query: Query) -> Vec<String> {
    let shown = format!("{query:?}");
    let answer = db.search_documents(collection, query).await.unwrap();
    assert!(!answer.degraded(), "{shown}: {answer:#?}");
    let mut ids: Vec<_> = answer.hits.iter().map(|hit| hit.id.to_string()).collect();
    ids.sort();
    ids
}

/// Stores a document in every store, and notes it.
pub(super) async fn store(
    db: &DatabaseManager,
    ledger: &mut Ledger,
    collection: &str,
    document: Document,
) -> Receipt {
    let id = document.id.clone();
    let write = db
        .store_document(collection, document.clone())
        .level(Level::All);
    let receipt = write
        .await
        .unwrap_or_else(|error| panic!("{id:?}: {error}"));
    ledger.stored(collection, document);
    receipt
}
