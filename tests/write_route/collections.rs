//! Collections that are empty, dropped, or have an embedding space.

use std::time::Duration;

use dbmanager_core::{
    ErrorKind, WriteOutcome,
    model::{CollectionOptions, Level, OperationStatus, Query, Role},
};

use crate::{
    common::{Mode, Rig, caught_up, eventually},
    document,
};

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

/// The catalogue does not know it any more, but a store has yet to hear of it.
#[tokio::test(start_paused = true)]
async fn a_drop_is_waited_for_like_any_write() {
    let rig = Rig::new();
    let db = rig.open().await;
    let write = db.store_document("c", document("a"));
    write.level(Level::All).await.unwrap();
    rig.switch(Role::Graph).set(Mode::Down);
    let dropped = db.drop_collection("c").level(Level::Journaled).await;
    let dropped = dropped.unwrap();
    let second = Duration::from_secs(1);
    // Also when there is another one of its name.
    for _ in 0..2 {
        let waited = db.wait_for(&dropped, Level::All, second).await;
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::LevelNotReached);
        db.store_document("c", document("b")).await.unwrap();
    }
    rig.switch(Role::Graph).set(Mode::Up);
    let waited = db.wait_for(&dropped, Level::All, Duration::MAX).await;
    assert!(waited.unwrap().level_reached());
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
    let waited = db.wait_for(&dropped, Level::All, second).await;
    assert!(waited.unwrap().level_reached());
}

#[tokio::test(start_paused = true)]
async fn a_collection_named_twice_is_searched_once() {
    let rig = Rig::new();
    let db = rig.open().await;
    let write = db.store_document("c", document("a"));
    write.level(Level::All).await.unwrap();
    let found = db.search_documents(["c", "c"], Query::metadata("words"));
    assert_eq!(found.await.unwrap().hits.len(), 1);
}
