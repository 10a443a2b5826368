//! What the quickstart shows, asserted: a store that fails beneath its adapter catches up, and the
//! searches over the locked dependency set find what they must.

#[path = "../examples/support/mod.rs"]
mod support;

use std::time::Duration;

use dbmanager::{
    model::{Receipt, StoreWriteState},
    prelude::*,
};
use support::WriteLock;

const COLLECTION: &str = "crates";
/// Far above what catching up takes, so that only a defect reaches it.
const BOUND: Duration = Duration::from_secs(60);

async fn store(db: &DatabaseManager, documents: &[Document]) -> Vec<Receipt> {
    let receipts = db
        .store_documents(COLLECTION, documents.to_vec())
        .await
        .expect("the batch is journaled");
    let stored = |receipt: dbmanager::Result<Receipt>| receipt.expect("the document is stored");
    receipts.into_iter().map(stored).collect()
}

async fn wait_for_all(db: &DatabaseManager, receipts: &[Receipt]) {
    for receipt in receipts {
        let waited = db.wait_for(receipt, Level::All, BOUND).await;
        let receipt = waited.expect("every store gets it in time");
        assert_eq!(receipt.pending().count(), 0, "{receipt:?}");
    }
}

fn vector_backlog(health: &dbmanager::health::Health) -> u64 {
    let vector = |store: &&dbmanager::health::StoreHealth| store.role == Role::Vector;
    let store = health.stores.iter().find(vector);
    store.expect("a vector store is configured").backlog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_locked_from_outside_catches_up_and_searches_find_the_crates() {
    let directory = tempfile::tempdir().unwrap();
    let crates = support::load().unwrap();
    assert!(
        crates.source.starts_with("cargo metadata"),
        "{}",
        crates.source
    );
    let db = DatabaseManager::open(support::config(directory.path()))
        .await
        .unwrap();

    let (first, rest) = crates.documents.split_at(crates.documents.len() / 2);
    let (locked_out, last) = rest.split_at(20);
    wait_for_all(&db, &store(&db, first).await).await;
    assert_eq!(vector_backlog(&db.health()), 0);

    let lock = WriteLock::take(&directory.path().join("vector.db")).unwrap();
    let receipts = store(&db, locked_out).await;
    for receipt in &receipts {
        assert!(receipt.level_reached());
        let pending: Vec<_> = receipt.pending().collect();
        assert_eq!(pending.len(), 1, "{receipt:?}");
        assert_eq!(pending[0].role, Role::Vector);
        assert_eq!(pending[0].state, StoreWriteState::Pending);
    }
    assert_eq!(vector_backlog(&db.health()), locked_out.len() as u64);
    let incomplete = db
        .search_documents(COLLECTION, Query::semantic("async"))
        .await
        .unwrap();
    assert!(incomplete.degraded(), "{:?}", incomplete.legs);
    lock.release().unwrap();

    wait_for_all(&db, &receipts).await;
    assert_eq!(vector_backlog(&db.health()), 0);
    wait_for_all(&db, &store(&db, last).await).await;

    for outcome in support::searches::run_all(&db, COLLECTION).await.unwrap() {
        assert!(outcome.passed, "{outcome:?}");
    }
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    for store in &report.stores {
        assert_eq!(store.documents, crates.documents.len() as u64, "{store:?}");
    }
    db.close(BOUND).await.unwrap();
}
