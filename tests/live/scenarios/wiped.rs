//! After a reconnect the store is empty: somebody wiped it, or it lost its disk.

use dbmanager::prelude::*;
use dbmanager_core::journal::RosterState;

use super::{
    documents::{document, id},
    ledger::Ledger,
    main_job::{assert_found, fill},
    waiting::{let_go, store_health, until},
    world::{World, close},
};
use crate::proxy::Fault;

const COLLECTION: &str = "papers";

pub(super) async fn run(world: World) {
    let world = world.impatient();
    let db = world.open().await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..60).await;
    db.delete_document(COLLECTION, id(30))
        .level(Level::All)
        .await
        .unwrap();
    ledger.deleted(COLLECTION, &id(30));
    ledger.assert_held_by(&db).await;
    let_go(&db).await;

    let role = world.role();
    world.proxy.set(Fault::Cut).await;
    until("the store is away", async || {
        let store = store_health(&db, role);
        if store.reachable == Some(false) {
            Ok(())
        } else {
            Err(store)
        }
    })
    .await;
    world.go_to_an_empty_namespace();
    let receipt = db.store_document(COLLECTION, document(100)).await.unwrap();
    ledger.stored(COLLECTION, document(100));
    assert!(
        receipt.pending().any(|store| store.role == role),
        "{receipt:?}"
    );
    world.until_moved().await;
    world.proxy.set(Fault::None).await;
    let lacking = match role {
        Role::Relational => RosterState::NeedsRestore,
        _ => RosterState::NeedsRebuild,
    };
    until("the loss is seen", async || {
        let store = store_health(&db, role);
        if store.state == lacking {
            Ok(())
        } else {
            Err(store)
        }
    })
    .await;
    assert_eq!(db.health().status, HealthStatus::Degraded);
    let receipt = db.store_document(COLLECTION, document(101)).await.unwrap();
    ledger.stored(COLLECTION, document(101));
    assert!(
        receipt.pending().any(|store| store.role == role),
        "{receipt:?}"
    );

    if role == Role::Relational {
        assert_unreadable(&db).await;
        close(db).await;
        return;
    }
    let rebuilt = db.rebuild(role).await.unwrap();
    assert!(
        rebuilt.documents >= 59 && rebuilt.tombstones >= 1,
        "{rebuilt:?}"
    );
    assert_eq!(store_health(&db, role).state, RosterState::Active);
    ledger.assert_held_by(&db).await;
    assert_found(&db, &ledger, COLLECTION, &[3, 59]).await;
    world.finish(db).await;
}

/// Reads are errors, never empty, and other stores do not make up for the authority.
pub(super) async fn assert_unreadable(db: &DatabaseManager) {
    for number in [5, 9_999] {
        let error = db.get_document(COLLECTION, id(number)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(!error.is_retryable(), "waiting does not help");
    }
    db.count(COLLECTION, None).await.unwrap_err();
    db.check_consistency().await.unwrap_err();
    let error = db.rebuild(Role::Relational).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let found = db.get_document(COLLECTION, id(100)).await.unwrap();
    assert_eq!(
        found.unwrap().document,
        document(100),
        "it is in the journal"
    );
}
