//! The promises of a write over the whole facade, with stores that fail.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::{sync::Arc, time::Duration};

use common::{Mode, Rig, caught_up, eventually, gated_storage::GatedStorage};
use dbmanager_core::{
    CircuitState, ErrorKind, WriteOutcome,
    embed::{EmbedError, Embedder, EmbedderKind},
    journal::JournalSource,
    model::{
        CollectionOptions, Document, Level, OnTimeout, OperationStatus, Precondition, Query, Role,
        StoreWriteState,
    },
};

fn document(id: &str) -> Document {
    Document::new(id).title("a title").text("some words")
}

async fn get_text(db: &dbmanager_core::DatabaseManager, id: &str) -> Option<String> {
    db.get_document("c", id)
        .await
        .unwrap()
        .map(|found| found.document.text)
}

#[tokio::test(start_paused = true)]
async fn a_write_reaches_every_store_and_is_read_back() {
    let rig = Rig::new();
    let db = rig.open().await;
    let receipt = db
        .store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    assert!(receipt.level_reached());
    assert!(
        receipt
            .stores
            .iter()
            .all(|s| s.state == StoreWriteState::Applied)
    );
    let found = db.get_document("c", "a").await.unwrap().unwrap();
    assert_eq!(found.document, document("a"));
    assert_eq!(found.version, receipt.version);
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!(
        report
            .stores
            .iter()
            .map(|s| s.documents)
            .collect::<Vec<_>>(),
        [1, 1, 1]
    );
    db.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quorum_answers_while_a_store_is_down_and_the_store_catches_up_by_itself() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    for n in 0..5 {
        let receipt = db
            .store_document("c", document(&n.to_string()))
            .await
            .unwrap();
        let pending: Vec<_> = receipt.pending().map(|s| s.role).collect();
        assert_eq!(pending, [Role::Vector]);
    }
    let vector = db
        .health()
        .stores
        .into_iter()
        .find(|s| s.role == Role::Vector)
        .unwrap();
    assert_eq!(vector.backlog, 5);
    rig.switch(Role::Vector).set(Mode::Up);
    eventually("the vector store catches up", || caught_up(&db)).await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn what_a_store_is_found_to_hold_is_not_sent_again() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    for n in 0..5 {
        let write = db.store_document("c", document(&n.to_string()));
        write.await.unwrap();
    }
    db.close(Duration::from_secs(10)).await.unwrap();
    let sent = rig.switch(Role::Graph).applies();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Up);
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    assert_eq!(rig.switch(Role::Graph).applies(), sent);
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_new_write_does_not_stand_behind_a_long_backlog() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    for batch in 0..4 {
        let documents: Vec<_> = (0..500)
            .map(|n| document(&format!("{batch}-{n}")))
            .collect();
        for answer in db.store_documents("c", documents).await.unwrap() {
            answer.unwrap();
        }
    }
    rig.switch(Role::Vector).set(Mode::Slow);
    let vector = |db: &dbmanager_core::DatabaseManager| {
        let stores = db.health().stores;
        let vector = stores.into_iter().find(|s| s.role == Role::Vector);
        vector.unwrap().backlog
    };
    eventually("the vector store is back", || vector(&db) < 2_000).await;
    for (collection, id) in [("c", "new"), ("d", "new"), ("c", "2-250")] {
        db.store_document(collection, document(id).title("another"))
            .level(Level::All)
            .timeout(Duration::from_secs(1))
            .await
            .unwrap();
        assert!(vector(&db) > 500, "the backlog is not through yet");
    }
    eventually("the vector store catches up", || caught_up(&db)).await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_level_that_is_not_reached_is_pending_never_lost() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    rig.switch(Role::Graph).set(Mode::Down);
    let error = db.store_document("c", document("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LevelNotReached);
    let Some(WriteOutcome::Pending(receipt)) = error.write_outcome().cloned() else {
        panic!("{error:?}")
    };
    assert!(!receipt.unreachable);
    assert_eq!(
        db.status(receipt.operation_id).await.unwrap(),
        OperationStatus::Pending(receipt.version)
    );
    assert_eq!(
        get_text(&db, "a").await.as_deref(),
        Some("some words"),
        "reads its own write"
    );
    let returned = db
        .store_document("c", document("b"))
        .on_timeout(OnTimeout::ReturnPending)
        .await
        .unwrap();
    assert!(!returned.level_reached());
    rig.switch(Role::Vector).set(Mode::Up);
    rig.switch(Role::Graph).set(Mode::Up);
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    assert_eq!(
        db.status(receipt.operation_id).await.unwrap(),
        OperationStatus::Done(receipt.version)
    );
}

/// A model that takes longer than a write waits for its stores.
#[derive(Debug)]
struct SlowModel;

#[async_trait::async_trait]
impl Embedder for SlowModel {
    fn model(&self) -> &'static str {
        "slow"
    }
    fn kind(&self) -> EmbedderKind {
        EmbedderKind::Lexical
    }
    fn dimension(&self) -> u32 {
        1
    }
    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(vec![vec![1.0]; texts.len()])
    }
    async fn embed_query(&self, _: Arc<str>) -> Result<Vec<f32>, EmbedError> {
        Ok(vec![1.0])
    }
}

/// The time is for the stores, and a slow model takes none of it.
#[tokio::test(start_paused = true)]
async fn the_time_for_the_level_begins_when_the_write_is_journaled() {
    let rig = Rig::new();
    let builder = rig.builder().embedder(Arc::new(SlowModel));
    let db = builder.open().await.unwrap();
    for answer in db
        .store_documents("c", [document("a"), document("b")])
        .timeout(Duration::from_secs(1))
        .await
        .unwrap()
    {
        assert!(answer.unwrap().level_reached());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_waited_for_though_it_had_nothing_left_to_receive() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::LoseAnswers);
    db.store_document("c", document("a")).await.unwrap();
    let vector = rig.switch(Role::Vector);
    eventually("it is applied", || vector.applies() > 0).await;
    vector.set(Mode::Down);
    eventually("the circuit opens", || {
        db.health().stores.iter().any(|store| {
            store.role == Role::Vector && matches!(store.circuit, CircuitState::Open { .. })
        })
    })
    .await;
    vector.set(Mode::Up);
    eventually("what was applied is seen", || caught_up(&db)).await;
    db.store_document("c", document("b"))
        .level(Level::All)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_parked_until_a_newer_version_clears_it() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Graph).set(Mode::Refuse);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    eventually("the graph parks it", || {
        db.health()
            .stores
            .iter()
            .any(|s| s.role == Role::Graph && s.parked == 1)
    })
    .await;
    assert_eq!(
        db.status(receipt.operation_id).await.unwrap(),
        OperationStatus::Parked(receipt.version)
    );
    let error = db
        .wait_for(&receipt, Level::All, Duration::from_secs(5))
        .await
        .unwrap_err();
    let Some(WriteOutcome::Pending(now)) = error.write_outcome() else {
        panic!("{error:?}")
    };
    assert!(now.unreachable);
    rig.switch(Role::Graph).set(Mode::Up);
    db.close(Duration::from_secs(10)).await.unwrap();

    let db = rig.open().await;
    eventually("the mark outlives the manager", || {
        db.health()
            .stores
            .iter()
            .any(|s| s.role == Role::Graph && s.parked == 1)
    })
    .await;
    db.store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    assert!(db.health().stores.iter().all(|s| s.parked == 0));
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_retry_what_is_parked() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Graph).set(Mode::Refuse);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    eventually("parked", || {
        db.health().stores.iter().any(|s| s.parked == 1)
    })
    .await;
    rig.switch(Role::Graph).set(Mode::Up);
    db.retry_parked(Role::Graph, receipt.version).await.unwrap();
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    let again = db
        .retry_parked(Role::Graph, receipt.version)
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_repeated_without_a_second_effect() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::LoseAnswers);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    assert_eq!(
        receipt.pending().map(|s| s.role).collect::<Vec<_>>(),
        [Role::Vector]
    );
    rig.switch(Role::Vector).set(Mode::Up);
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_store_does_not_hold_up_the_quorum() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Hang);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    assert_eq!(
        receipt.pending().map(|s| s.role).collect::<Vec<_>>(),
        [Role::Vector]
    );
}

#[tokio::test(start_paused = true)]
async fn preconditions_see_the_journal_and_the_authority() {
    let rig = Rig::new();
    let db = rig.open().await;
    let first = db
        .store_document("c", document("a"))
        .precondition(Precondition::Absent)
        .await
        .unwrap();
    let again = db
        .store_document("c", document("a"))
        .precondition(Precondition::Absent)
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::PreconditionFailed);
    assert_eq!(again.write_outcome(), Some(&WriteOutcome::Rejected));
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    let stale = db
        .store_document("c", document("a"))
        .precondition(Precondition::Absent)
        .await
        .unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::PreconditionFailed);
    let second = db
        .store_document("c", document("a"))
        .precondition(Precondition::Version(first.version))
        .await
        .unwrap();
    let old = db
        .delete_document("c", "a")
        .precondition(Precondition::Version(first.version))
        .await
        .unwrap_err();
    assert_eq!(old.kind(), ErrorKind::PreconditionFailed);
    db.delete_document("c", "a")
        .precondition(Precondition::Version(second.version))
        .await
        .unwrap();
    db.store_document("c", document("a"))
        .precondition(Precondition::Absent)
        .await
        .unwrap();
}

/// A truncation takes what every store has confirmed, makes the stores durable and only then lets go:
/// who looks at a document in between still sees its entry, which is gone when the append comes.
#[tokio::test]
async fn a_precondition_holds_while_the_journal_lets_go_of_its_history() {
    let rig = Rig::new();
    let storage = GatedStorage::new(Arc::clone(&rig.storage));
    let db = rig
        .builder()
        .journal(JournalSource::Storage(Arc::clone(&storage) as _))
        .open()
        .await
        .unwrap();
    db.store_document("c", document("before")).await.unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    let gate = Arc::clone(&storage);
    rig.switch(Role::Relational)
        .on_durable(move || gate.close_once());
    let write = db.store_document("c", document("a")).level(Level::All);
    let first = write.await.unwrap();
    eventually("the truncation commits", || storage.is_waited_for()).await;
    let delete = db
        .delete_document("c", "a")
        .precondition(Precondition::Version(first.version));
    let delete = tokio::spawn(delete.into_future());
    for _ in 0..100 {
        // Until it waits for the journal, behind the truncation.
        tokio::task::yield_now().await;
    }
    storage.open_for_good();
    let second = delete.await.unwrap().unwrap();
    assert!(second.version > first.version);
    db.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_precondition_without_the_authority_is_refused_never_guessed() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    rig.switch(Role::Relational).set(Mode::Down);
    let error = db
        .store_document("c", document("a"))
        .precondition(Precondition::Absent)
        .await
        .unwrap_err();
    assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
    assert!(error.is_retryable(), "{error}");
    let unread = db.get_document("c", "a").await.unwrap_err();
    assert_eq!(
        unread.kind(),
        ErrorKind::Unavailable,
        "never `None` while nobody can tell"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_has_one_effect() {
    let rig = Rig::new();
    let db = rig.open().await;
    let store = |text: &str| {
        db.store_document("c", Document::new("a").text(text))
            .idempotency_key("k")
    };
    let first = store("one").await.unwrap();
    let again = store("one").await.unwrap();
    assert_eq!(
        (again.version, again.operation_id),
        (first.version, first.operation_id)
    );
    let other = store("two").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::IdempotencyConflict);
    assert_eq!(other.write_outcome(), Some(&WriteOutcome::Rejected));
    db.store_document("c", Document::new("a").text("newer"))
        .await
        .unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    assert_eq!(store("one").await.unwrap().version, first.version);
    assert_eq!(get_text(&db, "a").await.as_deref(), Some("newer"));
    rig.switch(Role::Relational).set(Mode::Down);
    rig.switch(Role::Graph).set(Mode::Down);
    assert_eq!(
        store("one").await.unwrap().version,
        first.version,
        "answered from its record"
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_an_outcome_per_document() {
    let rig = Rig::new();
    let db = rig.open().await;
    let batch = [document("a"), document(""), document("b"), document("a")];
    let answers = db.store_documents("c", batch).await.unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    for index in [1, 3] {
        let error = answers[index].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
    }
    let deleted = db
        .delete_documents("c", ["a", "b"])
        .level(Level::All)
        .await
        .unwrap();
    assert!(deleted.iter().all(Result::is_ok));
    assert_eq!(db.count("c", None).await.unwrap().documents, 0);
    assert!(db.store_documents("c", []).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_a_version_and_nothing_brings_the_document_back() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    rig.switch(Role::Vector).set(Mode::Down);
    db.delete_document("c", "a").await.unwrap();
    assert_eq!(get_text(&db, "a").await, None);
    rig.switch(Role::Vector).set(Mode::Up);
    eventually("caught up", || caught_up(&db)).await;
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert!(
        report
            .stores
            .iter()
            .all(|s| (s.documents, s.tombstones) == (0, 1))
    );
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_was_never_written_to_is_found_empty() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.create_collection("c", CollectionOptions::default())
        .await
        .unwrap();
    for query in [Query::hybrid("words"), Query::metadata("words")] {
        let found = db.search_documents("c", query.clone()).await.unwrap();
        assert!(found.hits.is_empty() && !found.degraded(), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_collection_is_gone_at_once_and_its_successor_is_empty() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    rig.switch(Role::Graph).set(Mode::Down);
    let dropped = db.drop_collection("c").await.unwrap();
    assert!(db.collections().is_empty());
    assert_eq!(db.get_document("c", "a").await.unwrap(), None);
    db.store_document("c", document("b")).await.unwrap();
    assert_eq!(db.get_document("c", "a").await.unwrap(), None);
    rig.switch(Role::Graph).set(Mode::Up);
    eventually("caught up", || caught_up(&db)).await;
    assert_eq!(
        db.status(dropped.operation_id).await.unwrap(),
        OperationStatus::Done(dropped.version)
    );
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert!(report.stores.iter().all(|s| s.documents == 1));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_gives_up_the_answer_never_the_operation() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Hang);
    rig.switch(Role::Graph).set(Mode::Hang);
    {
        let write = std::future::IntoFuture::into_future(db.store_document("c", document("a")));
        let mut write = std::pin::pin!(write);
        // Polled once: submitted.
        assert!(futures_util::poll!(&mut write).is_pending());
    }
    eventually("it is journaled all the same", || {
        db.health().journal.entries == 1
    })
    .await;
    rig.switch(Role::Vector).set(Mode::Up);
    rig.switch(Role::Graph).set(Mode::Up);
    eventually("and applied", || caught_up(&db)).await;
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_the_manager() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    drop(db);
    rig.switch(Role::Vector).set(Mode::Up);
    let db = loop {
        match rig.builder().open().await {
            Ok(db) => break db,
            Err(error) if error.kind() == ErrorKind::Locked => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    db.wait_for(&receipt, Level::All, Duration::from_secs(60))
        .await
        .unwrap();
    assert!(db.check_consistency().await.unwrap().is_consistent());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_operation_is_recorded_as_never_accepted() {
    let rig = Rig::new();
    let db = rig.open().await;
    let receipt = db.store_document("c", document("a")).await.unwrap();
    let bits = receipt.operation_id.as_u128() ^ 1;
    let unknown = dbmanager_core::model::OperationId::from_u128(bits);
    assert_eq!(
        db.status(unknown).await.unwrap(),
        OperationStatus::NeverAccepted
    );
    let late = db
        .store_document("c", document("b"))
        .operation_id(unknown)
        .await
        .unwrap_err();
    assert_eq!(late.write_outcome(), Some(&WriteOutcome::Rejected));
    assert_eq!(
        db.status(unknown).await.unwrap(),
        OperationStatus::NeverAccepted
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_manager_refuses_writes() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", document("a")).await.unwrap();
    db.close(Duration::from_secs(10)).await.unwrap();
    db.close(Duration::from_secs(10)).await.unwrap();
    let error = db.store_document("c", document("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
}

#[tokio::test(start_paused = true)]
async fn what_is_parked_can_be_given_up_but_never_by_the_authority() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Graph).set(Mode::Refuse);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    eventually("parked", || {
        db.health().stores.iter().any(|s| s.parked == 1)
    })
    .await;
    let error = db
        .give_up_parked(Role::Relational, receipt.version)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    db.give_up_parked(Role::Graph, receipt.version)
        .await
        .unwrap();
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    let report = db.check_consistency().await.unwrap();
    assert_eq!(
        report.differences.len(),
        1,
        "it is still reported: {report:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_vectors_decide_the_space_of_a_collection_that_has_none() {
    let rig = Rig::new();
    let config = rig.config().embedding("none", Default::default());
    let db = rig.builder_with(config).open().await.unwrap();
    db.store_document("c", document("a"))
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(db.collections()[0].options.embedding_space, None);
    let with_vector = document("b").vector([1.0, 0.0]);
    db.store_document("c", with_vector)
        .level(Level::All)
        .await
        .unwrap();
    let space = db.collections()[0].options.embedding_space.clone().unwrap();
    assert_eq!((space.model.as_str(), space.dimension), ("caller", 2));
    let query = dbmanager_core::model::Query::semantic_vector([1.0, 0.0]);
    let found = db.search_documents("c", query).await.unwrap();
    assert_eq!(found.hits.iter().map(|h| &*h.id).collect::<Vec<_>>(), ["b"]);
    let error = db
        .store_document("c", document("d").vector([1.0]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("wrong dimension"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn another_model_is_refused_even_at_the_same_dimension() {
    use dbmanager_core::model::{CollectionOptions, Metric};
    let rig = Rig::new();
    let db = rig.open().await;
    let other = CollectionOptions::new().embedding_space("another", 384, Metric::Cosine);
    db.create_collection("c", other).await.unwrap();
    let error = db.store_document("c", document("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EmbeddingSpaceMismatch);
    assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_as_a_whole_parks_only_the_document_to_blame() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::RefuseBatch);
    let ids = ["a", "b", "poison", "c", "d"];
    let answers = db.store_documents("c", ids.map(document)).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    eventually("the others arrive", || {
        let health = db.health();
        let vector = health
            .stores
            .iter()
            .find(|s| s.role == Role::Vector)
            .unwrap();
        (vector.backlog, vector.parked) == (1, 1)
    })
    .await;
    let poison = answers[2].as_ref().unwrap();
    assert_eq!(
        db.status(poison.operation_id).await.unwrap(),
        OperationStatus::Parked(poison.version)
    );
}

/// Without a circuit that opens, the sender's own back-off alone decides when it asks again.
#[tokio::test(start_paused = true)]
async fn attempts_become_rare_and_frequent_again_after_a_success() {
    let rig = Rig::new();
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let vector = rig.switch(Role::Vector);
    let calls_within = async |seconds| {
        let before = vector.calls();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        vector.calls() - before
    };
    for id in ["a", "b"] {
        vector.set(Mode::Down);
        db.store_document("c", document(id)).await.unwrap();
        let at_first = calls_within(1).await;
        calls_within(60).await;
        let later = calls_within(60).await;
        assert!((3..=6).contains(&at_first), "{at_first} calls at first");
        assert!((20..=40).contains(&later), "{later} calls in a minute");
        vector.set(Mode::Up);
        eventually("it catches up", || caught_up(&db)).await;
    }
}

/// As a server does that sheds load: it takes a part of what it is sent.
#[tokio::test(start_paused = true)]
async fn a_store_that_takes_a_part_of_every_batch_is_given_a_moment_and_gets_the_rest() {
    let rig = Rig::new();
    let config = rig.bare_config();
    let config = config.adjust(|settings| settings.performance.batch_size = 10);
    let db = rig.builder_with(config).open().await.unwrap();
    let vector = rig.switch(Role::Vector);
    vector.set(Mode::Down);
    let ids = (0..300).map(|n| n.to_string()).chain(["poison".to_owned()]);
    let documents: Vec<_> = ids.map(|id| document(&id)).collect();
    for batch in documents.chunks(100) {
        db.store_documents("c", batch.to_vec()).await.unwrap();
    }
    vector.set(Mode::FailPoison);
    let before = vector.applies();
    eventually("it is tried again", || vector.applies() > before).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let applies = vector.applies() - before;
    assert!((8..=20).contains(&applies), "{applies} batches in a second");
    // What it never takes holds up nothing else.
    eventually("the others arrive", || {
        let stores = db.health().stores;
        let vector = stores.iter().find(|store| store.role == Role::Vector);
        vector.unwrap().backlog == 1
    })
    .await;
    vector.set(Mode::Up);
    eventually("it catches up", || caught_up(&db)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_a_collection_gets_it_again_with_the_next_write() {
    let rig = Rig::new();
    let db = rig.open().await;
    let empty = rig.place(Role::Graph).copy();
    let write = |id| db.store_document("c", document(id)).level(Level::All);
    write("a").await.unwrap();
    rig.place(Role::Graph).restore(&empty);
    let receipt = write("b").await;
    assert!(receipt.is_ok(), "{receipt:?}");
}

#[tokio::test(start_paused = true)]
async fn closing_lets_go_of_all_that_every_store_holds() {
    let rig = Rig::new();
    let db = rig.open().await;
    for id in ["a", "b", "c"] {
        let write = db.store_document("c", document(id)).level(Level::All);
        write.await.unwrap();
    }
    db.close(Duration::from_secs(10)).await.unwrap();
    rig.switch(Role::Graph).set(Mode::Down);
    let db = rig.open().await;
    assert_eq!(db.health().journal.entries, 0);
}
