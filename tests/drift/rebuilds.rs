//! A rebuild of a store that fails meanwhile, and what holds once it has ended.

use std::{
    future::IntoFuture,
    sync::{Arc, Mutex},
    time::Duration,
};

use dbmanager_core::{
    DatabaseManager, ErrorKind,
    journal::RosterState,
    model::{Document, Level, Role},
};
use tokio::time::Instant;

use crate::{
    common::{Mode, Rig, eventually},
    corpus::{Ledger, check, drained, state},
};

/// Above one page of a rebuild.
const DOCUMENTS: u64 = 700;

async fn filled(rig: &Rig) -> (DatabaseManager, Ledger) {
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let ledger = Ledger::default();
    ledger.fill(&db, 0..DOCUMENTS, 1).await;
    ledger.delete(&db, 5).await;
    ledger.assert_sound(&db).await;
    drained(&db).await;
    (db, ledger)
}

#[tokio::test(start_paused = true)]
async fn a_page_is_tried_again_four_times_a_second_apart() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let vector = rig.switch(Role::Vector);
    for failures in [1, 4] {
        vector.fail_applies(failures);
        let started = Instant::now();
        let rebuilt = db.rebuild(Role::Vector).await.unwrap();
        let took = started.elapsed().as_secs();
        assert_eq!(took, failures, "one second between two tries");
        assert_eq!((rebuilt.documents, rebuilt.tombstones), (DOCUMENTS - 1, 1));
        assert_eq!(state(&db, Role::Vector), RosterState::Active);
    }
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_fails_leaves_a_store_that_can_be_rebuilt() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let vector = rig.switch(Role::Vector);
    vector.fail_applies(5);
    let error = db.rebuild(Role::Vector).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
    // It does not acknowledge, and the others go on.
    ledger.store(&db, 1, 2).await;
    db.rebuild(Role::Vector).await.unwrap();
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_not_tried_again() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let vector = rig.switch(Role::Vector);
    vector.set(Mode::Refuse);
    let before = vector.applies();
    db.rebuild(Role::Vector).await.unwrap_err();
    assert_eq!(vector.applies() - before, 1);
    vector.set(Mode::Up);
    db.rebuild(Role::Vector).await.unwrap();
    ledger.assert_sound(&db).await;
}

/// Be it that it was parked, or given up, and let go of by the journal or not.
#[tokio::test(start_paused = true)]
async fn single_documents_that_are_refused_do_not_stop_a_rebuild_and_are_parked() {
    for (gives_up, lets_go) in [(false, false), (true, false), (true, true)] {
        let rig = Rig::new();
        let (db, _) = filled(&rig).await;
        let vector = rig.switch(Role::Vector);
        vector.set(Mode::RefuseBatch);
        let mut graph = Some(rig.switch(Role::Graph).freeze().await);
        let poison = Document::new("poison").text("harbour");
        let write = db.store_document("c", poison);
        write.level(Level::One).await.unwrap();
        eventually("it is parked", || db.parked_writes().len() == 1).await;
        if gives_up {
            let version = db.parked_writes()[0].version;
            db.give_up_parked(Role::Vector, version).await.unwrap();
        }
        if lets_go {
            drop(graph.take());
            drained(&db).await;
        }
        for _ in 0..2 {
            let rebuilt = db.rebuild(Role::Vector).await.unwrap();
            let counts = (rebuilt.documents, rebuilt.tombstones, rebuilt.refused);
            assert_eq!(counts, (DOCUMENTS - 1, 1, 1));
            assert_ne!(state(&db, Role::Vector), RosterState::NeedsRebuild);
            let parked = db.parked_writes();
            assert_eq!(parked.len(), 1, "{parked:?}");
            assert_eq!(parked[0].id.as_deref(), Some("poison"));
        }
        vector.set(Mode::Up);
        drop(graph);
        let version = db.parked_writes()[0].version;
        db.retry_parked(Role::Vector, version).await.unwrap();
        drained(&db).await;
        assert_eq!(state(&db, Role::Vector), RosterState::Active);
        assert!(check(&db).await.is_consistent());
    }
}

/// The authority lacks them, so that only the journal can bring them.
#[tokio::test(start_paused = true)]
async fn a_rebuild_waits_for_what_the_journal_has_yet_to_send() {
    let rig = Rig::new();
    let config = rig
        .bare_config()
        .adjust(|settings| settings.performance.batch_size = 1);
    let db = rig.builder_with(config).open().await.unwrap();
    let ledger = Ledger::default();
    ledger.fill(&db, 0..10, 1).await;
    drained(&db).await;
    let authority = rig.switch(Role::Relational).freeze().await;
    for number in 10..60 {
        ledger.store(&db, number, 1).await;
    }
    // Each of them takes it a tenth of a second; to compare all takes it a few of those.
    rig.switch(Role::Vector).set(Mode::Slow);
    db.rebuild(Role::Vector).await.unwrap();
    assert_eq!(db.health().store(Role::Vector).unwrap().backlog, 0);
    drop(authority);
    ledger.assert_sound(&db).await;
}

#[tokio::test(start_paused = true)]
async fn progress_counts_what_was_copied_page_by_page() {
    let rig = Rig::new();
    let (db, _) = filled(&rig).await;
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let listener = Arc::clone(&told);
    let rebuild = db.rebuild(Role::Graph).on_progress(move |progress| {
        assert_eq!((progress.role, &*progress.collection), (Role::Graph, "c"));
        listener.lock().unwrap().push(progress.done);
    });
    rebuild.await.unwrap();
    assert_eq!(*told.lock().unwrap(), [500, DOCUMENTS]);
}

/// Whoever gave up waiting for the first one asks again.
#[tokio::test(start_paused = true)]
async fn a_store_is_rebuilt_once_at_a_time() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    rig.switch(Role::Vector).set(Mode::Slow);
    let first = tokio::spawn(db.rebuild(Role::Vector).into_future());
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let error = db.rebuild(Role::Vector).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(error.is_retryable());
    }
    // Others are another matter.
    db.rebuild(Role::Graph).await.unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(state(&db, Role::Vector), RosterState::Active);
    db.rebuild(Role::Vector).await.unwrap();
    ledger.assert_sound(&db).await;
}

/// The store has its new identity on the roster, and never heard of it.
#[tokio::test(start_paused = true)]
async fn a_rebuild_that_was_cut_off_before_the_store_heard_of_it_can_be_repeated() {
    let rig = Rig::new();
    let (db, ledger) = filled(&rig).await;
    let vector = rig.switch(Role::Vector);
    vector.down_after(0);
    db.rebuild(Role::Vector).await.unwrap_err();
    assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
    // What is found out about it meanwhile makes it be looked at anew.
    let error = || db.health().store(Role::Vector).unwrap().error.clone();
    eventually("it is seen to be down", || error().is_some()).await;
    vector.down_after(u64::MAX);
    let rebuilt = db.rebuild(Role::Vector).await.unwrap();
    assert_eq!((rebuilt.documents, rebuilt.tombstones), (DOCUMENTS - 1, 1));
    ledger.assert_sound(&db).await;
}

/// What is copied of it must not create it again in the store.
#[tokio::test(start_paused = true)]
async fn a_collection_that_is_dropped_during_a_rebuild_or_a_comparison_is_no_difference() {
    for moment in (0..20).map(|moment| Duration::from_millis(50 + 150 * moment)) {
        let rig = Rig::new();
        let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
        let dropped = (0..600).map(|number| Document::new(number.to_string()).text("text"));
        for stored in db.store_documents("dropped", dropped).await.unwrap() {
            stored.unwrap();
        }
        drained(&db).await;
        for role in [Role::Vector, Role::Graph] {
            rig.switch(role).set(Mode::Slow);
        }
        let rebuild = tokio::spawn(db.rebuild(Role::Vector).into_future());
        let compare = tokio::spawn(db.check_consistency().into_future());
        tokio::time::sleep(moment).await;
        db.drop_collection("dropped").await.unwrap();
        rebuild.await.unwrap().unwrap();
        let report = compare.await.unwrap().unwrap();
        // While it is rebuilt, the other one does lack documents.
        let of_graph = report.differences.iter().filter(|d| d.role == Role::Graph);
        assert_eq!(of_graph.count(), 0, "{moment:?}: {report:?}");
        drained(&db).await;
        let report = db.check_consistency().await.unwrap();
        assert!(report.is_consistent(), "{moment:?}: {report:?}");
    }
}
