//! Stores that fail while they are compared, or have yet to receive something.

use dbmanager_core::{DatabaseManager, DifferenceKind::Content, ErrorKind, model::Role};

use crate::{
    common::Rig,
    corpus::{Finding, Ledger, drained, findings, id},
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
    let pending = |role| {
        report
            .stores
            .iter()
            .find(|s| s.role == role)
            .unwrap()
            .pending
    };
    assert_eq!(Role::ALL.map(pending), [7, 0, 0]);
    drop(frozen);
    ledger.assert_sound(&db).await;
}
