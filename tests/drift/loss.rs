//! Most of one store deleted behind the manager's back.

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::Duration,
};

use dbmanager_core::{
    ConsistencyReport, DatabaseManager,
    DifferenceKind::{self, Foreign, Missing},
    model::Role,
};

use crate::{
    common::{Mode, Rig, recorder::Recorder},
    corpus::{Ledger, assert_found, check, close, drained, findings, id},
    hand::Hand,
};

const DOCUMENTS: u64 = 2_000;

/// Every 40th is deleted, and of a hundred numbers 97 are lost: tombstones among them.
async fn filled(rig: &Rig) -> (DatabaseManager, Ledger) {
    let (db, ledger) = (rig.open().await, Ledger::default());
    ledger.fill(&db, 0..DOCUMENTS, 1).await;
    for number in (0..DOCUMENTS).step_by(40) {
        ledger.delete(&db, number).await;
    }
    ledger.assert_sound(&db).await;
    drained(&db).await;
    (db, ledger)
}

fn lost() -> impl Iterator<Item = u64> {
    (0..DOCUMENTS).filter(|number| number % 100 < 97)
}

fn lose_most(rig: &Rig, db: &DatabaseManager, role: Role) {
    let hand = Hand::on(rig, role, db, "c");
    lost().for_each(|number| hand.lose(&id(number)));
}

fn of(report: &ConsistencyReport, role: Role) -> &dbmanager_core::StoreConsistency {
    report.stores.iter().find(|s| s.role == role).unwrap()
}

#[tokio::test(start_paused = true)]
async fn most_of_a_vector_or_graph_store_is_found_missing_and_written_again() {
    for role in [Role::Vector, Role::Graph] {
        let rig = Rig::new();
        let (db, ledger) = filled(&rig).await;
        lose_most(&rig, &db, role);
        let expected: Vec<_> = lost().map(|number| (role, id(number), Missing)).collect();
        assert_found(&db, &expected).await;

        let report = db.check_consistency().repair().await.unwrap();
        assert_eq!(of(&report, role).repaired, expected.len() as u64);
        // What is written again for one store is on its way to the next one already.
        assert!(
            findings(&report)
                .iter()
                .all(|found| expected.contains(found))
        );
        ledger.assert_sound(&db).await;
        close(db).await;
        ledger.assert_sound(&rig.open().await).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_authority_lost_is_foreign_elsewhere_until_a_copy_of_it_is_put_back() {
    let mut rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    close(db).await;
    let copy = rig.place(Role::Relational).copy();
    let db = rig.open().await;
    lose_most(&rig, &db, Role::Relational);
    // Neither authority nor journal knows them any more, so nothing is spread and nothing removed.
    let expected: Vec<_> = [Role::Vector, Role::Graph]
        .into_iter()
        .flat_map(|role| lost().map(move |number| (role, id(number), Foreign)))
        .collect();
    assert_found(&db, &expected).await;
    let report = db.check_consistency().repair().await.unwrap();
    assert_eq!(findings(&report), expected);
    assert!(report.stores.iter().all(|store| store.repaired == 0));
    assert_found(&db, &expected).await;
    close(db).await;
    rig.set_place(Role::Relational, copy);
    ledger.assert_sound(&rig.open().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_lists_no_more_than_it_was_told_and_counts_all() {
    let rig = Rig::new();
    let (db, _) = filled(&rig).await;
    lose_most(&rig, &db, Role::Graph);
    let all = lost().count() as u64;
    for limit in [0, 7, 5_000] {
        let report = db.check_consistency().list_at_most(limit).await.unwrap();
        assert_eq!(report.differences.len(), limit.min(all as usize));
        let graph = of(&report, Role::Graph);
        assert_eq!(graph.differences, all);
        assert_eq!(
            graph.kinds.clone().into_iter().collect::<Vec<_>>(),
            [(Missing, all)]
        );
        assert_eq!(of(&report, Role::Vector).differences, 0);
        assert!(!report.is_consistent());
    }
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_for_every_store_and_never_goes_back() {
    let rig = Rig::new();
    let (db, _) = filled(&rig).await;
    let told: Arc<Mutex<Vec<(Role, u64)>>> = Arc::default();
    let listener = Arc::clone(&told);
    db.check_consistency()
        .on_progress(move |progress| {
            assert_eq!(&*progress.collection, "c");
            listener
                .lock()
                .unwrap()
                .push((progress.role, progress.done));
        })
        .await
        .unwrap();
    let told = told.lock().unwrap().clone();
    for role in Role::ALL {
        let done: Vec<u64> = told.iter().filter(|t| t.0 == role).map(|t| t.1).collect();
        assert!(done.len() > 2, "page by page: {done:?}");
        assert!(done.is_sorted(), "{done:?}");
        assert_eq!(done.last(), Some(&DOCUMENTS));
    }
}

fn gauge(recorder: &Recorder, role: Role, kind: DifferenceKind) -> Option<f64> {
    series(recorder, "dbmanager_drift_documents", role, kind)
}

fn series(recorder: &Recorder, name: &str, role: Role, kind: DifferenceKind) -> Option<f64> {
    let series = recorder.series(name);
    for (labels, _) in &series {
        let keys: Vec<_> = labels.keys().map(String::as_str).collect();
        assert_eq!(keys, ["kind", "role", "service"]);
    }
    let mut wanted = series.into_iter().filter(|(labels, _)| {
        labels["role"] == role.as_str()
            && labels["kind"] == kind.as_str()
            && labels["service"] == "switched"
    });
    wanted.next().map(|(_, value)| value)
}

#[tokio::test(start_paused = true)]
async fn the_metric_shows_what_is_left_until_it_is_mended() {
    let recorder = Recorder::default();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let rig = Rig::new();
    let (db, _) = filled(&rig).await;
    check(&db).await;
    for role in Role::ALL {
        assert_eq!(gauge(&recorder, role, Missing), Some(0.0));
    }
    lose_most(&rig, &db, Role::Vector);
    let all = lost().count() as f64;
    // Some collections say nothing of the whole store.
    db.check_consistency().collections(["c"]).await.unwrap();
    assert_eq!(gauge(&recorder, Role::Vector, Missing), Some(0.0));
    check(&db).await;
    assert_eq!(gauge(&recorder, Role::Vector, Missing), Some(all));
    assert_eq!(gauge(&recorder, Role::Vector, Foreign), Some(0.0));
    assert_eq!(gauge(&recorder, Role::Graph, Missing), Some(0.0));

    db.check_consistency()
        .role(Role::Vector)
        .repair()
        .await
        .unwrap();
    assert_eq!(gauge(&recorder, Role::Vector, Missing), Some(0.0));
    let repairs = series(
        &recorder,
        "dbmanager_drift_repairs_total",
        Role::Vector,
        Missing,
    );
    assert_eq!(repairs, Some(all));
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_is_dropped_at_any_time_leaves_nothing_behind() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    lose_most(&rig, &db, Role::Graph);
    rig.switch(Role::Relational).set(Mode::Slow);
    let mut ended = 0;
    for step in 0..60 {
        let cut = Duration::from_millis(41 * step);
        let repair = db.check_consistency().role(Role::Graph).repair();
        ended += u64::from(
            tokio::time::timeout(cut, repair.into_future())
                .await
                .is_ok(),
        );
    }
    assert!(ended < 60, "some were dropped");
    rig.switch(Role::Relational).set(Mode::Up);
    db.check_consistency().repair().await.unwrap();
    ledger.assert_sound(&db).await;
    // Neither an entry that nobody sends nor one that may not go.
    drained(&db).await;
    assert_eq!(of(&check(&db).await, Role::Graph).differences, 0);
}
