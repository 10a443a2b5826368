//! What an acknowledgement promises, and what becomes of a write without one.

use std::{sync::Arc, time::Duration};

use dbmanager_core::{
    ErrorKind, WriteOutcome,
    embed::{EmbedError, Embedder, EmbedderKind},
    model::{Level, OnTimeout, OperationStatus, Query, Role, StoreWriteState},
};

use crate::{
    common::{Mode, Rig, caught_up, eventually},
    document, get_text,
};

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
    assert_eq!(db.health().store(Role::Vector).unwrap().backlog, 5);
    rig.switch(Role::Vector).set(Mode::Up);
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

/// A random UUID, say. Its record would be kept for thousands of years.
#[tokio::test(start_paused = true)]
async fn an_operation_id_from_the_future_is_refused_and_leaves_nothing() {
    let rig = Rig::new();
    let db = rig.open().await;
    let receipt = db.store_document("c", document("a")).await.unwrap();
    let in_days = |days: u128| {
        let bits = receipt.operation_id.as_u128() + ((days * 24 * 3_600_000) << 80);
        dbmanager_core::model::OperationId::from_u128(bits)
    };
    for id in [
        in_days(2),
        dbmanager_core::model::OperationId::from_u128(u128::MAX),
    ] {
        let store = db.store_document("c", document("b")).operation_id(id);
        let error = store.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
        let error = db.status(id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let soon = db
        .store_document("c", document("b"))
        .operation_id(in_days(0));
    soon.await.unwrap_err();
    let ahead = in_days(1);
    let soon = dbmanager_core::model::OperationId::from_u128(ahead.as_u128() - (3_600_000 << 80));
    db.store_document("c", document("b"))
        .operation_id(soon)
        .await
        .unwrap();
    assert!(matches!(
        db.status(soon).await.unwrap(),
        OperationStatus::Done(_) | OperationStatus::Pending(_)
    ));
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

/// A handler or a probe of liveness may come late; a store that it opened would be locked.
#[tokio::test(start_paused = true)]
async fn nothing_opens_the_stores_of_a_closed_manager_again() {
    let rig = Rig::new();
    let db = rig.open().await;
    db.store_document("c", document("a")).await.unwrap();
    db.close(Duration::from_secs(10)).await.unwrap();
    let calls = || Role::ALL.map(|role| rig.switch(role).calls());
    let before = calls();
    let read = db.get_document("c", "a").await.unwrap_err();
    let listed = db.list_documents("c", None, None, 10).await.unwrap_err();
    let search = db.search_documents("c", Query::metadata("words")).await;
    let compared = db.check_consistency().await.unwrap_err();
    for error in [read, listed, search.unwrap_err(), compared] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    }
    let health = db.health_check().await;
    assert!(!health.writes(Level::One), "{health:?}");
    assert!(db.verify_backends().await.iter().all(|v| v.error.is_some()));
    assert_eq!(calls(), before);
}

/// A store that does not answer holds up a closing; the next one does not pass it by.
#[tokio::test(start_paused = true)]
async fn a_closing_that_ran_out_of_time_is_gone_on_with() {
    let rig = Rig::new();
    let db = rig.builder_with(rig.bare_config()).open().await.unwrap();
    let frozen = rig.switch(Role::Vector).freeze().await;
    db.store_document("c", document("a")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let error = db.close(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    drop(frozen);
    db.close(Duration::from_secs(60)).await.unwrap();
    rig.open().await;
}

/// What could be let go of stays in the journal; the rest is closed.
#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_does_not_keep_the_others_open() {
    let rig = Rig::new();
    let db = rig.open().await;
    for id in ["a", "b"] {
        let write = db.store_document("c", document(id));
        write.level(Level::All).await.unwrap();
    }
    assert!(db.health().journal.entries > 0);
    rig.switch(Role::Vector).set(Mode::Hang);
    db.close(Duration::from_secs(5)).await.unwrap();
    rig.switch(Role::Vector).set(Mode::Up);
    let db = rig.open().await;
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
}

/// The usual way to say "no limit".
#[tokio::test(start_paused = true)]
async fn the_longest_time_there_is_may_be_waited() {
    let rig = Rig::new();
    let db = rig.open().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let write = db.store_document("c", document("a")).timeout(Duration::MAX);
    let receipt = write.level(Level::All).await.unwrap();
    assert!(receipt.level_reached());
    let waited = db.wait_for(&receipt, Level::All, Duration::MAX).await;
    assert!(waited.unwrap().level_reached());
    db.at_least(&receipt, Duration::MAX).await.unwrap();
    let dropped = db.drop_collection("c").timeout(Duration::MAX);
    dropped.level(Level::All).await.unwrap();
}
