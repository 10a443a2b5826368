//! The same over the embedded stores, whose files another hand changes while they are closed.

use dbmanager::{DifferenceKind::Missing, prelude::*};
use dbmanager_core::journal::RosterState;

use crate::{
    common::embedded::Home,
    corpus::{Finding, Ledger, assert_found, check, document, findings, id, state},
};

const DOCUMENTS: u64 = 400;

async fn close(db: DatabaseManager) {
    crate::common::embedded::close(db).await;
}

async fn filled(home: &Home) -> Ledger {
    let (db, ledger) = (home.open().await, Ledger::default());
    ledger.fill(&db, 0..DOCUMENTS, 1).await;
    for number in (0..DOCUMENTS).step_by(40) {
        ledger.delete(&db, number).await;
    }
    ledger.assert_sound(&db).await;
    close(db).await;
    ledger
}

#[tokio::test]
async fn most_of_a_file_is_found_missing_and_written_again() {
    for role in [Role::Vector, Role::Graph] {
        let home = Home::new();
        let ledger = filled(&home).await;
        let deleted = home
            .connect(role)
            .execute("DELETE FROM document WHERE substr(id, 5) < '97'", [])
            .unwrap();
        let lost = (0..DOCUMENTS).filter(|number| number % 100 < 97);
        let expected: Vec<Finding> = lost.map(|number| (role, id(number), Missing)).collect();
        assert_eq!(deleted, expected.len());
        let db = home.open().await;
        assert_found(&db, &expected).await;
        let report = db.check_consistency().role(role).repair().await.unwrap();
        assert_eq!(findings(&report), expected);
        assert!(report.differences.iter().all(|d| d.repaired));
        ledger.assert_sound(&db).await;
        close(db).await;
        let db = home.open().await;
        ledger.assert_sound(&db).await;
        close(db).await;
    }
}

#[tokio::test]
async fn an_authority_from_a_backup_of_its_file_is_adopted() {
    let home = Home::new();
    let ledger = filled(&home).await;
    let backup = home.copy_store(Role::Relational);
    let db = home.open().await;
    ledger.fill(&db, 1..3, 2).await;
    close(db).await;
    home.put_back(Role::Relational, &backup);
    let db = home.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
    ledger.store(&db, 5, 3).await;
    close(db).await;

    let builder = dbmanager::builder(home.config()).adopt();
    let db = builder.open().await.unwrap();
    let report = db.check_consistency().repair().await.unwrap();
    assert!(report.differences.iter().any(|d| d.repaired), "{report:?}");
    assert!(check(&db).await.is_consistent());
    for (number, revision) in [(1, 1), (5, 3), (6, 1)] {
        let held = db.get_document("c", id(number)).await.unwrap().unwrap();
        assert_eq!(held.document, document(number, revision));
    }
    close(db).await;
    let db = home.open().await;
    assert_ne!(state(&db, Role::Relational), RosterState::NeedsRestore);
    assert!(check(&db).await.is_consistent());
    close(db).await;
}
