//! Stores that are exchanged, or not there for a while, while the others go on.

use std::time::Duration;

use dbmanager_core::{
    DatabaseManager,
    backend::ServiceConfig,
    journal::RosterState,
    memory::{MemoryFactory, MemoryPlace},
    model::Role,
};

use crate::{
    common::{Rig, eventually},
    corpus::{Ledger, Writer, close, drained, state},
};

async fn filled(rig: &Rig) -> Ledger {
    let (db, ledger) = (rig.open().await, Ledger::default());
    ledger.fill(&db, 0..100, 1).await;
    for number in 80..100 {
        ledger.delete(&db, number).await;
    }
    drained(&db).await;
    close(db).await;
    ledger
}

/// The rig's stores, but for the vectors in a service of another name and place.
async fn open_with_other_vectors(rig: &Rig, place: &MemoryPlace) -> DatabaseManager {
    let config = rig.config();
    let config = config.store(Role::Vector, "memory", ServiceConfig::new());
    let builder = rig.builder_with(config);
    let builder = builder.register(MemoryFactory::vector().at(place));
    builder.open().await.unwrap()
}

fn service(db: &DatabaseManager, role: Role) -> String {
    db.health().store(role).unwrap().service.to_string()
}

#[tokio::test(start_paused = true)]
async fn another_vector_service_takes_over_while_writes_go_on_and_the_first_one_comes_back() {
    let rig = Rig::new();
    let ledger = filled(&rig).await;
    let place = MemoryPlace::new();
    for (round, from) in [(0, 100), (1, 300), (2, 500)] {
        // There, back to the store that missed what was written meanwhile, and there again.
        let (db, expected) = match round {
            1 => (rig.open().await, "switched"),
            _ => (open_with_other_vectors(&rig, &place).await, "memory"),
        };
        assert_eq!(service(&db, Role::Vector), expected);
        assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
        let writer = Writer::start(&db, &ledger, from);
        tokio::time::sleep(Duration::from_millis(50)).await;
        db.rebuild(Role::Vector).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(writer.stop().await > 5, "writes went on meanwhile");
        assert_eq!(state(&db, Role::Vector), RosterState::Active);
        ledger.assert_sound(&db).await;
        close(db).await;
    }
    ledger
        .assert_sound(&open_with_other_vectors(&rig, &place).await)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_disabled_for_a_while_gets_what_it_missed_and_nothing_that_is_gone() {
    for role in Role::ALL {
        let rig = Rig::new();
        let ledger = filled(&rig).await;
        let config = rig.config().disable(role);
        for from in [100, 200] {
            let db = rig.builder_with(config.clone()).open().await.unwrap();
            let writer = Writer::start(&db, &ledger, from);
            tokio::time::sleep(Duration::from_millis(500)).await;
            writer.stop().await;
            close(db).await;
        }
        let db = rig.open().await;
        let writer = Writer::start(&db, &ledger, 300);
        eventually("it has caught up", || {
            state(&db, role) == RosterState::Active
        })
        .await;
        writer.stop().await;
        ledger.assert_sound(&db).await;
        close(db).await;
        ledger.assert_sound(&rig.open().await).await;
    }
}
