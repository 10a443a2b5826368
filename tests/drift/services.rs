//! Stores that are exchanged, or not there for a while, while the others go on.

use std::time::Duration;

use dbmanager_core::{
    DatabaseManager, Error, ErrorKind, WriteOutcome,
    backend::ServiceConfig,
    journal::RosterState,
    memory::{MemoryFactory, MemoryPlace},
    model::{Precondition, Role, Version},
};

use crate::{
    common::{Rig, caught_up, eventually},
    corpus::{COLLECTION, Ledger, Writer, close, document, drained, id, state},
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

fn assert_unsupported<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(!error.is_retryable(), "{error}");
}

async fn version(db: &DatabaseManager, number: u64) -> Version {
    let found = db.get_document(COLLECTION, id(number)).await.unwrap();
    found.unwrap().version
}

/// What only the authority could tell is an error: a document that the journal has let go of must
/// not look absent, nor one that never was, for nobody can tell them apart.
async fn assert_untold(db: &DatabaseManager, number: u64, known: Version) {
    assert_unsupported(db.get_document(COLLECTION, id(number)).await);
    for precondition in [Precondition::Absent, Precondition::Version(known)] {
        let write = db.store_document(COLLECTION, document(number, 9));
        let answer = write.precondition(precondition).await;
        let outcome = answer.as_ref().unwrap_err().write_outcome();
        assert_eq!(outcome, Some(&WriteOutcome::Rejected), "{precondition:?}");
        assert_unsupported(answer);
        let delete = db.delete_document(COLLECTION, id(number));
        assert_unsupported(delete.precondition(precondition).await);
    }
}

/// What the journal still holds is told, also once every enabled store holds it.
async fn assert_told(db: &DatabaseManager, ledger: &Ledger) {
    let stored = version(db, 200).await;
    let deleted = db.get_document(COLLECTION, id(2)).await.unwrap();
    assert_eq!(deleted.map(|found| found.document.id), None);
    let write = |number| db.store_document(COLLECTION, document(number, 9));
    let refused = write(200).precondition(Precondition::Absent).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    let refused = write(2).precondition(Precondition::Version(stored)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    let accepted = write(200).precondition(Precondition::Version(stored)).await;
    assert_eq!(version(db, 200).await, accepted.unwrap().version);
    ledger.store(db, 200, 1).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_authority_what_only_it_knows_is_unsupported_and_nothing_comes_back() {
    let rig = Rig::new();
    let ledger = filled(&rig).await;
    let db = rig.open().await;
    let known = version(&db, 1).await;
    close(db).await;
    for _ in 0..2 {
        let config = rig.config().disable(Role::Relational);
        let db = rig.builder_with(config).open().await.unwrap();
        // Live, deleted, and never written.
        for number in [1, 85, 999] {
            assert_untold(&db, number, known).await;
        }
        for role in Role::ALL {
            assert_unsupported(db.rebuild(role).await);
            assert_unsupported(db.check_consistency().role(role).await);
        }
        assert_unsupported(db.check_consistency().repair().await);
        ledger.delete(&db, 2).await;
        ledger.store(&db, 86, 2).await;
        ledger.store(&db, 200, 1).await;
        eventually("the others hold it", || caught_up(&db)).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_told(&db, &ledger).await;
        close(db).await;
    }
    let db = rig.open().await;
    eventually("the authority has caught up", || {
        state(&db, Role::Relational) == RosterState::Active
    })
    .await;
    ledger.assert_sound(&db).await;
    close(db).await;
    ledger.assert_sound(&rig.open().await).await;
}
