//! Preconditions, idempotency keys, batches and deletes.

use std::{sync::Arc, time::Duration};

use dbmanager_core::{
    ErrorKind, WriteOutcome,
    journal::JournalSource,
    model::{Document, Level, Precondition, Role},
};

use crate::{
    common::{Mode, Rig, caught_up, eventually, gated_storage::GatedStorage},
    document, get_text,
};

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

/// What was journaled the first time is told, though the rest of the batch cannot be written now.
#[tokio::test(start_paused = true)]
async fn a_known_key_is_answered_beside_an_item_that_cannot_be_prepared() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", Document::new("a")).await.unwrap();
    let delete = |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        db.delete_documents("c", ids).idempotency_key("k")
    };
    let first = delete(&["a"]).await.unwrap();
    db.drop_collection("c").await.unwrap();
    let again = delete(&["a", "b"]).await.unwrap();
    assert_eq!(
        again[0].as_ref().unwrap().version,
        first[0].as_ref().unwrap().version
    );
    let refused = again[1].as_ref().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::CollectionNotFound);
    assert_eq!(refused.write_outcome(), Some(&WriteOutcome::Rejected));
}
