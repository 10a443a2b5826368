//! Whose the store is, what it keeps of its collections, and where it may be.

use std::path::Path;

use dbmanager_backend_relational::sqlite::SqliteFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        ApplyRequest, BackendErrorKind, BackendFactory, CreateCollectionRequest,
        DropCollectionRequest, Effect, OpenContext, ServiceConfig, Stamp, StampRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, JournalId, StoreId, Tokenizer,
        Version,
    },
};
use rusqlite::Connection;
use serde_json::json;

use super::{FILE, apply, create, key, open, open_with, sample, texts, upsert};

fn stamp(journal: u128, store: u128, epoch: u64, progress: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(store),
        journal_id: JournalId::from_u128(journal),
        epoch,
        progress: Version::from_u64(progress),
    }
}

#[tokio::test]
async fn the_stamp_keeps_its_rule_and_fences_older_managers() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    let identity = store.identity().await.unwrap();
    assert_eq!((identity.stamp, identity.empty), (None, true));
    let held = stamp(1, u128::MAX, 5, 10);
    store
        .write_stamp(StampRequest::new(held.clone()))
        .await
        .unwrap();
    for (other, kind) in [
        (stamp(2, u128::MAX, 5, 10), BackendErrorKind::Foreign),
        (stamp(1, 3, 5, 10), BackendErrorKind::Foreign),
        (stamp(1, u128::MAX, 4, 10), BackendErrorKind::StaleEpoch),
        (stamp(1, u128::MAX, 5, 9), BackendErrorKind::Foreign),
    ] {
        let error = store
            .write_stamp(StampRequest::new(other))
            .await
            .unwrap_err();
        assert_eq!((error.kind(), error.effect()), (kind, Effect::NotApplied));
    }
    store.close().await.unwrap();
    let store = open(directory.path()).await.unwrap();
    assert_eq!(store.identity().await.unwrap().stamp, Some(held));

    let collection = Collection {
        key: key(),
        options: CollectionOptions::new(),
    };
    let create =
        |epoch| store.create_collection(CreateCollectionRequest::new(collection.clone(), epoch));
    let stale = create(4).await.unwrap_err();
    assert_eq!(stale.kind(), BackendErrorKind::StaleEpoch);
    create(5).await.unwrap();
    let batch = |epoch| ApplyRequest::new(key(), epoch, vec![upsert(1, sample())]);
    let stale = store.apply(batch(4)).await.unwrap_err();
    assert_eq!(stale.kind(), BackendErrorKind::StaleEpoch);
    assert_eq!(stale.effect(), Effect::NotApplied);
    store.apply(batch(5)).await.unwrap();
    let drop = |epoch| store.drop_collection(DropCollectionRequest::new(key(), epoch));
    assert_eq!(
        drop(4).await.unwrap_err().kind(),
        BackendErrorKind::StaleEpoch
    );

    store
        .write_stamp(StampRequest::new(stamp(9, 9, 1, 0)).replace())
        .await
        .unwrap();
    assert_eq!(
        store.identity().await.unwrap().stamp,
        Some(stamp(9, 9, 1, 0))
    );
}

#[tokio::test]
async fn collections_keep_their_options_and_their_generations_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    let create = |generation, options: CollectionOptions| {
        let collection = Collection {
            key: CollectionKey::new("papers", generation),
            options,
        };
        store.create_collection(CreateCollectionRequest::new(collection, 1))
    };
    let plain = CollectionOptions::new();
    let spaced = plain.clone().embedding_space("m", 3, Default::default());
    create(1, plain.clone()).await.unwrap();
    create(1, plain.clone()).await.unwrap();
    create(1, spaced.clone()).await.unwrap();
    create(1, spaced).await.unwrap();
    let other_space = plain.clone().embedding_space("m", 4, Default::default());
    let other_tokenizer = plain.clone().tokenizer(Tokenizer::Unicode);
    for other in [other_space, other_tokenizer] {
        let error = create(1, other).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused);
    }
    create(2, plain).await.unwrap();
    apply(&store, vec![upsert(1, sample())]).await;
    let second = CollectionKey::new("papers", 2);
    let batch = ApplyRequest::new(second.clone(), 1, vec![upsert(7, sample())]);
    store.apply(batch).await.unwrap();
    store
        .drop_collection(DropCollectionRequest::new(second.clone(), 1))
        .await
        .unwrap();
    store
        .drop_collection(DropCollectionRequest::new(second.clone(), 1))
        .await
        .unwrap();
    assert_eq!(store.collections().await.unwrap(), [key()]);
    let missing = store.count(second, None).await.unwrap_err();
    assert_eq!(missing.kind(), BackendErrorKind::CollectionMissing);
    assert_eq!(texts(&store, "recovery").await, ["a"]);
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.highest_version, Some(Version::from_u64(1)));
    let raw = Connection::open(directory.path().join(FILE)).unwrap();
    let rows: i64 = raw
        .query_row(
            "SELECT (SELECT count(*) FROM document) + (SELECT count(*) FROM content)
             + (SELECT count(DISTINCT document) FROM field)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn a_foreign_lock_is_unavailable_and_passes() {
    for wal in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let config = json!({"enable_wal": wal, "busy_timeout": "10ms"});
        let store = open_with(directory.path(), config).await.unwrap();
        create(&store, CollectionOptions::new()).await;
        let raw = Connection::open(directory.path().join(FILE)).unwrap();
        raw.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let batch = || ApplyRequest::new(key(), 1, vec![upsert(1, sample())]);
        let error = store.apply(batch()).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert_eq!(error.effect(), Effect::NotApplied);
        assert!(error.is_transient());
        raw.execute_batch("ROLLBACK").unwrap();
        store.apply(batch()).await.unwrap();
        assert_eq!(texts(&store, "recovery").await, ["a"], "wal: {wal}");

        if !wal {
            // A reader of another program keeps a rollback journal from being committed.
            raw.execute_batch("BEGIN; SELECT count(*) FROM document")
                .unwrap();
            let newer = || ApplyRequest::new(key(), 1, vec![upsert(2, Document::new("a"))]);
            let error = store.apply(newer()).await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Unavailable);
            assert_eq!(error.effect(), Effect::NotApplied);
            raw.execute_batch("ROLLBACK").unwrap();
            assert_eq!(texts(&store, "recovery").await, ["a"]);
            store.apply(newer()).await.unwrap();
            assert_eq!(texts(&store, "recovery").await, Vec::<String>::new());
        }
        store.sync().await.unwrap();
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn configuration_is_checked_and_places_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let context = OpenContext::new(Runtime::tokio()).data_directory(directory.path());
    let config = |value| -> ServiceConfig { serde_json::from_value(value).unwrap() };
    let factory = SqliteFactory::new();
    let error = factory
        .location(&config(json!({"databse_path": "x"})), &context)
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert!(error.message().contains("databse_path"), "{error}");
    let nowhere = OpenContext::new(Runtime::tokio());
    let error = factory.location(&config(json!({})), &nowhere).unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    let default = factory.location(&config(json!({})), &context).unwrap();
    let same = directory.path().join(".").join("relational.db");
    let named = |path: &Path| {
        factory
            .location(&config(json!({"database_path": path})), &context)
            .unwrap()
    };
    assert_eq!(named(&same), default);
    assert_ne!(named(&directory.path().join("other.db")), default);
}
