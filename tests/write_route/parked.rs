//! What a store refuses for good.

use std::time::Duration;

use dbmanager_core::{
    ErrorKind, WriteOutcome,
    model::{Level, OperationStatus, Role},
};

use crate::{
    common::{Mode, Rig, eventually},
    document,
};

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_parked_until_a_newer_version_clears_it() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Graph).set(Mode::Refuse);
    let receipt = db.store_document("c", document("a")).await.unwrap();
    eventually("the graph parks it", || {
        db.health().store(Role::Graph).unwrap().parked == 1
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
        db.health().store(Role::Graph).unwrap().parked == 1
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
    eventually("parked", || !db.parked_writes().is_empty()).await;
    db.store_document("d", document("b")).await.unwrap();
    eventually("parked too", || db.parked_writes().len() == 2).await;
    db.close(Duration::from_secs(10)).await.unwrap();

    let db = rig.open().await;
    let parked = db.parked_writes();
    let written: Vec<_> = parked
        .iter()
        .map(|write| (write.role, &*write.collection, write.id.as_deref()))
        .collect();
    let expected = [("c", Some("a")), ("d", Some("b"))];
    assert_eq!(written, expected.map(|(c, id)| (Role::Graph, c, id)));
    assert_eq!(parked[0].version, receipt.version);
    assert!(parked[0].error.contains("refused"), "{parked:?}");
    assert!(parked[0].written_at <= parked[1].written_at);
    rig.switch(Role::Graph).set(Mode::Up);
    for write in parked {
        db.retry_parked(write.role, write.version).await.unwrap();
    }
    assert_eq!(db.parked_writes(), []);
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
async fn a_batch_that_is_refused_as_a_whole_parks_only_the_document_to_blame() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::RefuseBatch);
    let ids = ["a", "b", "poison", "c", "d"];
    let answers = db.store_documents("c", ids.map(document)).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    eventually("the others arrive", || {
        let health = db.health();
        let vector = health.store(Role::Vector).unwrap();
        (vector.backlog, vector.parked) == (1, 1)
    })
    .await;
    let poison = answers[2].as_ref().unwrap();
    assert_eq!(
        db.status(poison.operation_id).await.unwrap(),
        OperationStatus::Parked(poison.version)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_after_a_refused_document_is_sent_nevertheless() {
    let rig = Rig::new();
    let config = rig.bare_config();
    let config = config.adjust(|settings| settings.performance.batch_size = 1);
    let db = rig.builder_with(config).open().await.unwrap();
    let vector = rig.switch(Role::Vector);
    vector.set(Mode::Down);
    for collection in ["taken", "refused", "taken too"] {
        for number in 0..4 {
            let write = db.store_document(collection, document(&number.to_string()));
            write.level(Level::Quorum).await.unwrap();
        }
    }
    vector.set(Mode::RefuseCollection);
    eventually("the others arrive", || {
        let health = db.health();
        let vector = health.store(Role::Vector).unwrap();
        (vector.backlog, vector.parked) == (4, 4)
    })
    .await;
}

/// The journal takes no writes any more, so the refusal cannot be recorded.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_parked_is_not_sent_again_and_again_without_a_rest() {
    let rig = Rig::new();
    let db = rig.open().await;
    rig.switch(Role::Vector).set(Mode::Down);
    db.store_document("c", document("a")).await.unwrap();
    rig.storage.fail_writes_after(0);
    db.store_document("c", document("b")).await.unwrap_err();
    rig.switch(Role::Vector).set(Mode::Refuse);
    let before = rig.switch(Role::Vector).applies();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let sent = rig.switch(Role::Vector).applies() - before;
    assert!((1..=40).contains(&sent), "sent {sent} times in a minute");
    let health = db.health();
    let error = health.store(Role::Vector).unwrap().error.clone();
    assert!(error.unwrap().contains("cannot be parked"));
}
