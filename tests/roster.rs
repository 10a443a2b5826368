//! Who owns what: stores and journals that do, and do not, belong together.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::{future::IntoFuture, time::Duration};

use common::{Mode, Rig, caught_up, eventually};
use dbmanager_core::{
    DatabaseManager, ErrorKind, WriteOutcome,
    backend::ServiceConfig,
    config::Config,
    journal::{JournalSource, MemoryStorage, RosterState},
    memory::{MemoryFactory, MemoryPlace},
    model::{Document, Level, Query, Role},
};

fn document(id: &str) -> Document {
    Document::new(id)
        .title("a title")
        .text("some words")
        .references(["other"])
}

async fn filled(rig: &Rig) -> DatabaseManager {
    let db = rig.open().await;
    for n in 0..3 {
        db.store_document("c", document(&n.to_string()))
            .level(Level::All)
            .await
            .unwrap();
    }
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    db
}

async fn close(db: DatabaseManager) {
    db.close(Duration::from_secs(10)).await.unwrap();
}

fn state(db: &DatabaseManager, role: Role) -> RosterState {
    db.health().store(role).unwrap().state
}

#[tokio::test(start_paused = true)]
async fn a_wiped_store_needs_a_rebuild_and_gets_everything_back() {
    let mut rig = Rig::new();
    close(filled(&rig).await).await;
    rig.replace(Role::Vector);
    let db = rig.open().await;
    assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
    let receipt = db.store_document("c", document("new")).await.unwrap();
    assert!(
        receipt.pending().any(|s| s.role == Role::Vector),
        "it does not acknowledge"
    );
    assert!(!db.health().writes(Level::All));
    let report = db.check_consistency().role(Role::Vector).await.unwrap();
    assert!(!report.is_consistent());

    let rebuilt = db.rebuild(Role::Vector).await.unwrap();
    assert_eq!(rebuilt.documents, 4);
    assert_eq!(state(&db, Role::Vector), RosterState::Active);
    assert!(db.check_consistency().await.unwrap().is_consistent());
    db.store_document("c", document("later"))
        .level(Level::All)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_ends_while_writes_go_on_faster_than_the_store_takes_them() {
    let mut rig = Rig::new();
    close(filled(&rig).await).await;
    rig.replace(Role::Vector);
    rig.switch(Role::Vector).set(Mode::Slow);
    let db = rig.open().await;
    let writer = db.clone();
    let writing = tokio::spawn(async move {
        for n in 0.. {
            writer
                .store_document("c", document(&format!("new {n:06}")))
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let rebuild = db.rebuild(Role::Vector).into_future();
    let rebuilt = tokio::time::timeout(Duration::from_secs(600), rebuild).await;
    assert!(rebuilt.expect("it ends").unwrap().documents >= 3);
    assert!(!writing.is_finished());
    writing.abort();
    eventually("the store catches up", || caught_up(&db)).await;
    assert_eq!(state(&db, Role::Vector), RosterState::Active);
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_wiped_authority_needs_a_restore_and_reads_are_errors_never_empty() {
    let mut rig = Rig::new();
    close(filled(&rig).await).await;
    rig.replace(Role::Relational);
    let db = rig.open().await;
    assert_eq!(state(&db, Role::Relational), RosterState::NeedsRestore);
    let error = db.get_document("c", "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_retryable(), "waiting does not help");
    let error = db.rebuild(Role::Relational).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_store_put_back_from_an_older_copy_needs_a_rebuild() {
    let mut rig = Rig::new();
    let db = filled(&rig).await;
    close(db).await;
    let older = rig.place(Role::Graph).copy();
    let db = rig.open().await;
    db.store_document("c", document("later"))
        .level(Level::All)
        .await
        .unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    close(db).await;
    rig.set_place(Role::Graph, older);
    let db = rig.open().await;
    assert_eq!(state(&db, Role::Graph), RosterState::NeedsRebuild);
    db.rebuild(Role::Graph).await.unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_copied_journal_is_refused_by_stores_that_went_on() {
    let rig = Rig::new();
    close(filled(&rig).await).await;
    let copy = std::sync::Arc::new(MemoryStorage::from_bytes(rig.storage.to_bytes()));
    close(rig.open().await).await;
    let error = rig
        .builder()
        .journal(JournalSource::Storage(copy))
        .open()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore);
    assert!(error.to_string().contains("older copy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn stores_of_another_journal_are_refused_until_adopted() {
    let mut rig = Rig::new();
    close(filled(&rig).await).await;
    rig.storage = std::sync::Arc::default();
    let error = rig.builder().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore);
    let db = rig.builder().adopt().open().await.unwrap();
    let receipt = db
        .store_document("c", document("new"))
        .level(Level::All)
        .await;
    let receipt = receipt.unwrap();
    assert!(receipt.level_reached());
    close(db).await;
    let db = rig.open().await;
    assert!(db.get_document("c", "new").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_down_at_the_first_opening_joins_later() {
    let rig = Rig::new();
    rig.switch(Role::Graph).set(Mode::Down);
    let db = rig.open().await;
    let receipt = db.store_document("c", document("a")).await.unwrap();
    rig.switch(Role::Graph).set(Mode::Up);
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(state(&db, Role::Graph), RosterState::Active);
    close(db).await;
    let db = rig.open().await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_disabled_store_keeps_its_backlog_and_catches_up_when_enabled_again() {
    let rig = Rig::new();
    close(filled(&rig).await).await;
    let db = rig
        .builder_with(rig.config().disable(Role::Vector))
        .open()
        .await
        .unwrap();
    let receipt = db
        .store_document("c", document("meanwhile"))
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(receipt.stores.len(), 2, "only enabled stores count");
    eventually("both hold it", || caught_up(&db)).await;
    assert_eq!(
        db.health().journal.entries,
        1,
        "kept for the disabled store"
    );
    close(db).await;
    let db = rig.open().await;
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(state(&db, Role::Vector), RosterState::Active);
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_removed_store_holds_nothing_and_comes_back_empty_handed() {
    let rig = Rig::new();
    close(filled(&rig).await).await;
    let db = rig
        .builder_with(rig.config().disable(Role::Vector))
        .open()
        .await
        .unwrap();
    db.store_document("c", document("meanwhile"))
        .level(Level::All)
        .await
        .unwrap();
    db.remove_store(Role::Vector).await.unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    assert_eq!(
        db.remove_store(Role::Vector).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    close(db).await;
    let db = rig.open().await;
    assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
    db.rebuild(Role::Vector).await.unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn stores_are_known_by_their_stamps_and_not_by_their_place() {
    let mut rig = Rig::new();
    close(filled(&rig).await).await;
    for role in Role::ALL {
        let moved = rig.place(role).copy();
        rig.set_place(role, moved);
    }
    let db = rig.open().await;
    assert!(
        Role::ALL
            .into_iter()
            .all(|role| state(&db, role) == RosterState::Active)
    );
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn the_same_place_twice_is_a_config_error() {
    let place = MemoryPlace::new();
    let config = Role::ALL
        .into_iter()
        .fold(Config::in_memory(), |config, role| {
            config.store(role, "memory", ServiceConfig::new())
        });
    let error = DatabaseManager::builder(config)
        .register(MemoryFactory::vector().at(&place))
        .register(MemoryFactory::graph().at(&place))
        .open()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("same place"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn every_store_disabled_is_a_config_error() {
    let config = Role::ALL
        .into_iter()
        .fold(Config::in_memory(), |config, role| config.disable(role));
    let error = DatabaseManager::builder(config).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn one_journal_cannot_be_opened_twice() {
    let rig = Rig::new();
    let db = rig.open().await;
    let error = rig.builder().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    db.store_document("c", document("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_was_overtaken_stops() {
    let rig = Rig::new();
    let db = filled(&rig).await;
    // Another manager, on a copy of the journal, opens the stores in the meantime.
    let copy = std::sync::Arc::new(MemoryStorage::from_bytes(rig.storage.to_bytes()));
    let other = rig
        .builder()
        .journal(JournalSource::Storage(copy))
        .open()
        .await
        .unwrap();
    let outcome = db.store_document("c", document("late")).await;
    let error = outcome.unwrap_err();
    assert!(
        matches!(error.write_outcome(), Some(WriteOutcome::Pending(_))),
        "{error:?}"
    );
    let error = db.store_document("c", document("later")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore);
    other
        .store_document("c", document("theirs"))
        .level(Level::All)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn repair_mends_what_was_changed_behind_the_managers_back() {
    let rig = Rig::new();
    let db = filled(&rig).await;
    rig.place(Role::Vector).lose("c", "1");
    let report = db.check_consistency().await.unwrap();
    assert_eq!(report.differences.len(), 1, "{report:?}");
    assert!(
        !report.differences[0].repaired,
        "a plain check changes nothing"
    );
    let report = db.check_consistency().repair().await.unwrap();
    assert!(report.differences[0].repaired);
    eventually("the repair arrives", || caught_up(&db)).await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

/// Between its opening and the moment its confirmations are compared nobody knows what it has lost.
#[tokio::test(start_paused = true)]
async fn a_page_is_complete_only_of_an_authority_that_was_compared() {
    let rig = Rig::new();
    let db = filled(&rig).await;
    let authority = rig.place(Role::Relational);
    let before = authority.copy();
    // So that the journal keeps what follows.
    rig.switch(Role::Graph).set(Mode::Down);
    db.store_document("c", document("new")).await.unwrap();
    rig.switch(Role::Relational).set(Mode::Down);
    db.list_documents("c", None, None, 10).await.unwrap_err();
    authority.restore(&before);
    rig.switch(Role::Relational).set(Mode::Up);
    let mut answered = 0;
    while answered < 20 {
        if let Ok(page) = db.list_documents("c", None, None, 10).await {
            answered += 1;
            let count = db.count("c", None).await.unwrap();
            assert_eq!(page.complete, page.documents.len() == 4, "{page:?}");
            assert!(!count.complete || count.documents == 4, "{count:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eventually("it has everything again", || {
        db.health().store(Role::Relational).unwrap().backlog == 0
    })
    .await;
    let page = db.list_documents("c", None, None, 10).await.unwrap();
    assert_eq!((page.complete, page.documents.len()), (true, 4));
}

/// Whoever opens and asks at once is told that all is there, if all is there.
#[tokio::test(start_paused = true)]
async fn what_stores_hold_is_known_when_a_manager_has_opened() {
    let rig = Rig::new();
    let db = filled(&rig).await;
    // So that the journal keeps what follows, which is then to be compared.
    rig.switch(Role::Graph).set(Mode::Down);
    db.store_document("c", document("new")).await.unwrap();
    close(db).await;
    rig.switch(Role::Graph).set(Mode::Up);
    let db = rig.open().await;
    let page = db.list_documents("c", None, None, 10).await.unwrap();
    let count = db.count("c", None).await.unwrap();
    assert_eq!((page.complete, page.documents.len()), (true, 4));
    assert_eq!((count.complete, count.documents), (true, 4));
    let found = db.search_documents("c", Query::metadata("words")).await;
    let legs = found.unwrap().legs;
    assert!(legs.iter().all(|leg| !leg.degraded()), "{legs:?}");
}

/// A store that does not say what it holds is compared later.
#[tokio::test(start_paused = true)]
async fn an_opening_waits_only_so_long_for_what_a_store_holds() {
    let rig = Rig::new();
    close(filled(&rig).await).await;
    rig.switch(Role::Graph).set(Mode::Down);
    let db = rig.open().await;
    db.store_document("c", document("new")).await.unwrap();
    close(db).await;
    rig.switch(Role::Graph).set(Mode::HangHeads);
    let start = tokio::time::Instant::now();
    let db = rig.open().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(db.count("c", None).await.unwrap().complete);
    rig.switch(Role::Graph).set(Mode::Up);
    eventually("it has everything", || caught_up(&db)).await;
}

/// The stamp of one store is ahead of what was recorded when the next store fails; less than that
/// goes in the next round.
#[tokio::test(start_paused = true)]
async fn a_round_of_truncation_that_failed_leaves_no_store_in_doubt() {
    let rig = Rig::new();
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let graph = rig.switch(Role::Graph);
    for id in ["a", "b"] {
        let write = db.store_document("c", document(id));
        write.level(Level::All).await.unwrap();
    }
    // Everything is confirmed, and the first round is to fail at the second store.
    let entries = || db.health().journal.entries;
    assert_eq!(entries(), 2);
    graph.set(Mode::Down);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(entries(), 2);
    // It comes back without the newer one, and does not take it.
    rig.place(Role::Graph).lose("c", "b");
    graph.set(Mode::Refuse);
    eventually("the older one goes", || entries() == 1).await;
    let vector = db.health().store(Role::Vector).unwrap().clone();
    assert_eq!(vector.error, None);
    assert_eq!(vector.state, RosterState::Active);
}

/// Without an authority hits are checked against the copy of another store. One that was wiped says
/// of everything that it is not there.
#[tokio::test(start_paused = true)]
async fn a_store_that_needs_a_rebuild_does_not_make_the_hits_of_others_look_deleted() {
    let mut rig = Rig::new();
    let config = |rig: &Rig| rig.config().disable(Role::Relational);
    let db = rig.builder_with(config(&rig)).open().await.unwrap();
    let stored = db.store_document("c", document("a")).level(Level::All);
    stored.await.unwrap();
    close(db).await;
    rig.replace(Role::Vector);
    let db = rig.builder_with(config(&rig)).open().await.unwrap();
    assert_eq!(state(&db, Role::Vector), RosterState::NeedsRebuild);
    eventually("the journal lets go", || db.health().journal.entries <= 1).await;
    let found = db
        .search_documents("c", Query::graph("title"))
        .await
        .unwrap();
    assert_eq!(found.hits.len(), 1);
    assert_eq!(found.verified_by, Some(Role::Graph));
    assert!(!found.degraded());
}

/// Stores that hang keep a search from neither its deadline nor what it does not need.
#[tokio::test(start_paused = true)]
async fn a_search_waits_for_lost_connections_within_its_time_and_for_its_own_stores() {
    let rig = Rig::new();
    close(filled(&rig).await).await;
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    for role in [Role::Vector, Role::Graph] {
        rig.switch(role).set(Mode::Down);
    }
    let found = db.search_documents("c", Query::hybrid("words")).await;
    assert!(found.unwrap().degraded(), "the connections are lost");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for role in [Role::Vector, Role::Graph] {
        rig.switch(role).set(Mode::Hang);
    }
    // A look whether they are back hangs too.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let timed = async |query: Query| {
        let started = tokio::time::Instant::now();
        let query = query.timeout(Duration::from_secs(4));
        let found = db.search_documents("c", query).await.unwrap();
        assert_eq!(found.hits.len(), 3);
        (started.elapsed(), found)
    };
    let (took, _) = timed(Query::metadata("words")).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    let (took, found) = timed(Query::hybrid("words")).await;
    assert!(took <= Duration::from_secs(4), "{took:?}");
    assert!(found.degraded() && found.elapsed == took);
}

/// A comparison of a long backlog ends between two requests.
#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_long_comparison() {
    let rig = Rig::new();
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    rig.switch(Role::Vector).set(Mode::Down);
    for batch in 0..30 {
        let documents = (0..500).map(|n| Document::new(format!("{batch} {n}")));
        let answers = db.store_documents("c", documents.collect::<Vec<_>>());
        assert!(answers.await.unwrap().iter().all(Result::is_ok));
    }
    rig.switch(Role::Vector).set(Mode::Slow);
    let before = rig.switch(Role::Vector).calls();
    eventually("it is being compared", || {
        rig.switch(Role::Vector).calls() > before + 3
    })
    .await;
    db.close(Duration::from_secs(1)).await.unwrap();
}
