//! What was never written through the manager, and what the authority itself says wrongly.

use std::time::Duration;

use dbmanager_core::{
    DatabaseManager,
    DifferenceKind::{
        Content, Deleted, Foreign, ForeignCollection, Missing, Version as OtherVersion,
    },
    ErrorKind,
    model::{Role, Version},
};

use crate::{
    common::{Mode, Rig},
    corpus::{Finding, Ledger, Writer, assert_found, check, close, drained, findings, id},
    hand::{Hand, foreign},
};

async fn filled(rig: &Rig) -> (DatabaseManager, Ledger) {
    fill(rig.open().await).await
}

async fn fill(db: DatabaseManager) -> (DatabaseManager, Ledger) {
    let ledger = Ledger::default();
    ledger.fill(&db, 0..100, 1).await;
    for number in 90..100 {
        ledger.delete(&db, number).await;
    }
    ledger.assert_sound(&db).await;
    drained(&db).await;
    (db, ledger)
}

#[tokio::test(start_paused = true)]
async fn foreign_documents_and_collections_are_reported_and_stay_where_they_are() {
    for role in [Role::Vector, Role::Graph] {
        let rig = Rig::new();
        let (db, ledger) = filled(&rig).await;
        let mut hand = Hand::on(&rig, role, &db, "c");
        let issued = hand.version(&id(0)).await.unwrap();
        let strangers: Vec<String> = (0..50).map(|number| format!("s{number:02}")).collect();
        for id in &strangers {
            hand.put(id, issued, foreign(id)).await;
        }
        hand.create("strange", 77).await;
        let mut expected: Vec<Finding> = vec![(role, String::new(), ForeignCollection)];
        expected.extend(strangers.iter().map(|id| (role, id.clone(), Foreign)));
        assert_found(&db, &expected).await;
        let report = db.check_consistency().repair().await.unwrap();
        assert_eq!(findings(&report), expected);
        assert!(report.differences.iter().all(|d| !d.repaired));
        assert_found(&db, &expected).await;
        // Not spread, not shown.
        ledger.assert_kept(&db).await;
        assert_eq!(db.get_document("c", "s00").await.unwrap(), None);
        assert!(!db.collections().iter().any(|c| &*c.key.name == "strange"));
        // A rebuild leaves nothing behind that nobody knows.
        db.rebuild(role).await.unwrap();
        ledger.assert_sound(&db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_in_the_authority_above_all_that_was_issued_is_reported_until_it_is_adopted() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let hand = Hand::on(&rig, Role::Relational, &db, "c");
    let record = hand.record(&id(5)).await;
    let above = Version::from_u64(record.version.as_u64() + (1 << 45));
    hand.put(&id(5), above, record.state).await;
    let others = [Role::Vector, Role::Graph];
    let expected = others.map(|role| (role, id(5), OtherVersion));
    assert_found(&db, &expected).await;
    // Written again it would get a lower version, which the authority would not take.
    let report = db.check_consistency().repair().await.unwrap();
    assert_eq!(findings(&report), expected);
    assert!(report.differences.iter().all(|d| !d.repaired), "{report:?}");
    close(db).await;

    let error = rig.builder().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
    let db = rig.builder().adopt().open().await.unwrap();
    let report = db.check_consistency().repair().await.unwrap();
    assert!(report.differences.iter().any(|d| d.repaired), "{report:?}");
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_document_alive_again_in_the_authority_is_reported_and_can_be_deleted_again() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let hand = Hand::on(&rig, Role::Relational, &db, "c");
    let deleted = hand.version(&id(95)).await.unwrap();
    hand.put(&id(95), deleted, foreign(&id(95))).await;
    let expected = [Role::Vector, Role::Graph].map(|role| (role, id(95), Deleted));
    assert_found(&db, &expected).await;
    ledger.delete(&db, 95).await;
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn another_content_at_the_same_version_is_reported_and_written_again() {
    for role in [Role::Vector, Role::Graph] {
        let rig = Rig::new();
        let (db, ledger) = filled(&rig).await;
        let hand = Hand::on(&rig, role, &db, "c");
        let version = hand.version(&id(7)).await.unwrap();
        hand.put(&id(7), version, foreign(&id(7))).await;
        assert_found(&db, &[(role, id(7), Content)]).await;
        let report = db.check_consistency().repair().await.unwrap();
        assert!(report.differences.iter().all(|d| d.repaired), "{report:?}");
        ledger.assert_sound(&db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn drift_is_found_while_documents_are_written_and_nothing_else_is() {
    let rig = Rig::new();
    // One at a time, so that a slow store falls behind.
    let config = rig.config();
    let config = config.adjust(|settings| settings.performance.batch_size = 1);
    let (db, ledger) = fill(rig.builder_with(config).open().await.unwrap()).await;
    // Apart from what the writer changes.
    ledger.fill(&db, 9_000..9_020, 1).await;
    drained(&db).await;
    // So that it always has something yet to receive, which is no difference.
    rig.switch(Role::Graph).set(Mode::Slow);
    let writer = Writer::start(&db, &ledger, 100);
    let (mut expected, mut pending) = (Vec::new(), 0);
    for role in [Role::Vector, Role::Graph] {
        let hand = Hand::on(&rig, role, &db, "c");
        for number in 9_000..9_010 {
            hand.lose(&id(number));
            expected.push((role, id(number), Missing));
        }
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(23)).await;
        let report = db.check_consistency().await.unwrap();
        assert_eq!(findings(&report), expected);
        pending += report.stores.iter().map(|store| store.pending).sum::<u64>();
    }
    assert!(pending > 0, "some documents were under way");
    let report = db.check_consistency().repair().await.unwrap();
    assert!(!report.differences.is_empty());
    assert!(report.differences.iter().all(|d| d.repaired), "{report:?}");
    assert!(writer.stop().await > 20, "writes went on meanwhile");
    rig.switch(Role::Graph).set(Mode::Up);
    ledger.assert_sound(&db).await;
    assert!(check(&db).await.is_consistent());
}
