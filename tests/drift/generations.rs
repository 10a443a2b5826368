//! A collection dropped and created again, with documents of the same ids, while a store is down.

use dbmanager_core::{
    DatabaseManager,
    model::{Level, Role},
};

use crate::{
    common::{Mode, Rig},
    corpus::{COLLECTION, Ledger, close, drained, id},
};

async fn drop_collection(db: &DatabaseManager, ledger: &Ledger) {
    db.drop_collection(COLLECTION)
        .level(Level::Quorum)
        .await
        .unwrap();
    ledger.clear();
}

/// Nothing of an old generation shows, whichever store it may still lie in.
async fn assert_only_the_new_one(db: &DatabaseManager, ledger: &Ledger, gone: u64) {
    let found = db.get_document(COLLECTION, id(gone)).await;
    match found {
        Ok(found) => assert_eq!(found, None),
        // The authority is down, and the journal does not know the id.
        Err(error) => assert!(error.is_retryable(), "{error}"),
    }
    assert!(ledger.assert_searched(db).await >= 3);
}

async fn created_again_twice(role: Role, reopened: bool) {
    let rig = Rig::new();
    let (mut db, ledger) = (rig.open().await, Ledger::default());
    ledger.fill(&db, 0..100, 1).await;
    drained(&db).await;

    rig.switch(role).set(Mode::Down);
    for revision in [2, 3] {
        drop_collection(&db, &ledger).await;
        for number in 0..30 {
            ledger.store(&db, number, revision).await;
        }
        ledger.delete(&db, 7).await;
        assert_only_the_new_one(&db, &ledger, 50).await;
        if reopened {
            close(db).await;
            db = rig.open().await;
            assert_only_the_new_one(&db, &ledger, 50).await;
        }
    }
    rig.switch(role).set(Mode::Up);
    ledger.assert_sound(&db).await;
    assert_only_the_new_one(&db, &ledger, 50).await;
    drained(&db).await;
    close(db).await;

    let db = rig.open().await;
    assert_eq!(db.collections().len(), 1);
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn no_document_of_an_old_generation_shows_when_the_store_is_back() {
    for role in Role::ALL {
        created_again_twice(role, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nor_when_the_manager_was_opened_again_in_between() {
    for role in Role::ALL {
        created_again_twice(role, true).await;
    }
}
