//! The server takes the place of an embedded store that is in use, while writes go on.

use std::time::Duration;

use dbmanager::prelude::*;
use dbmanager_core::journal::RosterState;
use tokio::sync::watch;

use super::{
    documents::{document, id, revised},
    ledger::Ledger,
    main_job::{assert_found, fill},
    waiting::store_health,
    wiped::assert_unreadable,
    world::{World, close},
};

const COLLECTION: &str = "papers";
/// From one round of writes to the next.
const PACE: Duration = Duration::from_millis(40);

pub(super) async fn run(world: World) {
    let db = world.open_with(world.embedded()).await;
    let mut ledger = Ledger::default();
    fill(&db, &mut ledger, COLLECTION, 0..120).await;
    db.delete_document(COLLECTION, id(50))
        .level(Level::All)
        .await
        .unwrap();
    ledger.deleted(COLLECTION, &id(50));
    ledger.assert_held_by(&db).await;
    close(db).await;

    let db = world.open().await;
    let role = world.role();
    if role == Role::Relational {
        // The authority is restored, not rebuilt: an empty one is no authority.
        assert_eq!(store_health(&db, role).state, RosterState::NeedsRestore);
        db.store_document(COLLECTION, document(100)).await.unwrap();
        assert_unreadable(&db).await;
        close(db).await;
        return;
    }
    assert_eq!(store_health(&db, role).state, RosterState::NeedsRebuild);
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write_on(db.clone(), ledger, stopped));
    let rebuilt = db.rebuild(role).await.unwrap();
    assert!(rebuilt.documents >= 119, "{rebuilt:?}");
    stop.send_replace(true);
    let ledger = writing.await.unwrap();
    ledger.assert_held_by(&db).await;
    assert_eq!(store_health(&db, role).state, RosterState::Active);
    assert_found(&db, &ledger, COLLECTION, &[61, 119, 1_000]).await;
    close(db).await;
    let db = world.open().await;
    ledger.assert_held_by(&db).await;
    world.finish(db).await;
}

/// Stores, changes and deletes until it is told to stop.
async fn write_on(
    db: DatabaseManager,
    mut ledger: Ledger,
    stopped: watch::Receiver<bool>,
) -> Ledger {
    // Without a pause a slow server would be sent more than it gets done in the time of a test.
    let mut pace = tokio::time::interval(PACE);
    for step in 0.. {
        pace.tick().await;
        if *stopped.borrow() {
            break;
        }
        let new = document(1_000 + step);
        db.store_document(COLLECTION, new.clone()).await.unwrap();
        ledger.stored(COLLECTION, new);
        let changed = revised(step % 40);
        db.store_document(COLLECTION, changed.clone())
            .await
            .unwrap();
        ledger.stored(COLLECTION, changed);
        if step % 5 == 0 {
            let gone = id(70 + step % 40);
            db.delete_document(COLLECTION, &*gone).await.unwrap();
            ledger.deleted(COLLECTION, &gone);
        }
    }
    ledger
}
