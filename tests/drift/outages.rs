//! Stores that fail while they are compared, or have yet to receive something.

use dbmanager_core::{
    ConsistencyReport, DatabaseManager,
    DifferenceKind::Content,
    ErrorKind,
    model::{Level, Role},
};

use crate::{
    common::{Mode, Rig, eventually},
    corpus::{Finding, Ledger, check, document, drained, findings, id},
    hand::{Hand, foreign},
};

const CHANGED: std::ops::Range<u64> = 3..6;

async fn filled(rig: &Rig) -> (DatabaseManager, Ledger) {
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let ledger = Ledger::default();
    ledger.fill(&db, 0..20, 1).await;
    drained(&db).await;
    (db, ledger)
}

/// What each store has yet to receive: vector, graph, relational.
fn pending(report: &ConsistencyReport) -> [u64; 3] {
    let of = |role| report.stores.iter().find(|s| s.role == role).unwrap();
    Role::ALL.map(|role| of(role).pending)
}

/// Whichever call it is that fails.
#[tokio::test(start_paused = true)]
async fn an_outage_is_an_error_and_never_passes_for_a_difference() {
    for (role, failing) in [
        (Role::Vector, Role::Vector),
        (Role::Graph, Role::Relational),
    ] {
        let rig = Rig::new();
        let (db, ledger) = filled(&rig).await;
        let hand = Hand::on(&rig, role, &db, "c");
        let expected: Vec<Finding> = CHANGED.map(|number| (role, id(number), Content)).collect();
        for number in CHANGED {
            let version = hand.version(&id(number)).await.unwrap();
            hand.put(&id(number), version, foreign(&id(number))).await;
        }
        let mut errors = 0;
        for calls in 0.. {
            rig.switch(failing).down_after(calls);
            let checked = db.check_consistency().role(role).await;
            rig.switch(failing).down_after(u64::MAX);
            match checked {
                Ok(report) => {
                    assert_eq!(findings(&report), expected, "{calls} calls worked");
                    break;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
            errors += 1;
        }
        assert!(errors >= 2, "{errors} calls");
        db.check_consistency().repair().await.unwrap();
        ledger.assert_sound(&db).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_has_yet_to_receive_is_counted_and_no_difference() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let frozen = rig.switch(Role::Vector).freeze().await;
    for number in 18..25 {
        ledger.store(&db, number, 2).await;
    }
    let report = db.check_consistency().await.unwrap();
    assert_eq!(findings(&report), []);
    assert!(
        !report.is_consistent(),
        "not as long as something is pending"
    );
    assert_eq!(pending(&report), [7, 0, 0]);
    drop(frozen);
    ledger.assert_sound(&db).await;
}

/// Though the stores agree with the authority, which has not received it either.
#[tokio::test(start_paused = true)]
async fn what_only_the_journal_holds_is_pending_wherever_it_is_missing() {
    for refused in [false, true] {
        let rig = Rig::new();
        let (db, _) = filled(&rig).await;
        let vector = rig.switch(Role::Vector).freeze().await;
        let authority = match refused {
            true => {
                rig.switch(Role::Relational).set(Mode::Refuse);
                None
            }
            false => Some(rig.switch(Role::Relational).freeze().await),
        };
        for number in 18..25 {
            let write = db.store_document("c", document(number, 2));
            write.level(Level::One).await.unwrap();
        }
        let delete = db.delete_document("c", id(0));
        delete.level(Level::One).await.unwrap();
        if refused {
            eventually("all are refused", || db.parked_writes().len() == 8).await;
            rig.switch(Role::Relational).set(Mode::Up);
        }
        let report = db.check_consistency().await.unwrap();
        assert_eq!(findings(&report), []);
        assert_eq!(pending(&report), [8, 0, 8], "refused: {refused}");

        drop((vector, authority));
        for parked in db.parked_writes() {
            let retried = db.retry_parked(Role::Relational, parked.version);
            retried.await.unwrap();
        }
        drained(&db).await;
        assert!(check(&db).await.is_consistent());
    }
}

/// What it had confirmed and lost with a crash the journal sends again.
#[tokio::test(start_paused = true)]
async fn what_a_store_lost_and_gets_from_the_journal_again_is_pending() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    // So that the journal keeps what is written.
    let graph = rig.switch(Role::Graph).freeze().await;
    for number in 3..6 {
        ledger.store(&db, number, 2).await;
    }
    let vector = rig.switch(Role::Vector);
    vector.set(Mode::Down);
    let write = db.store_document("c", document(30, 1));
    write.level(Level::Journaled).await.unwrap();
    let error = || db.health().store(Role::Vector).unwrap().error.clone();
    eventually("its sender waits", || error().is_some()).await;
    Hand::on(&rig, Role::Vector, &db, "c").lose(&id(4));
    vector.set(Mode::Up);
    let report = db.check_consistency().await.unwrap();
    assert_eq!((findings(&report), pending(&report)), (vec![], [2, 4, 0]));
    drop(graph);
    drained(&db).await;
    assert!(check(&db).await.is_consistent());
}
