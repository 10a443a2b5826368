//! What is stored, by whom, and what another hand has changed.

use std::sync::Arc;

use dbmanager_core::{
    backend::{
        BackendErrorKind, BackendFactory, CreateCollectionRequest, Effect, ListDocumentsRequest,
        Mutation, StampRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, Timestamp, Tokenizer, Version,
    },
};

use super::place::{
    Place, config, context, fingerprint, ids, key, open, prepare, request, run, stamp, upsert,
    write,
};

#[tokio::test]
async fn one_poison_item_leaves_the_other_99_stored() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::English).await;
    let document = |index: u64| Document::new(format!("id {index}")).title("title");
    for (round, poison) in [
        // None of these is let through by the manager; the store has to stand them all the same.
        document(41).metadata("key", "nul \0 within"),
        document(41).metadata("nul \0 key", 1),
        document(41).title("nul \0 within"),
    ]
    .into_iter()
    .enumerate()
    {
        let version = 1 + round as u64;
        let mut mutations: Vec<_> = (0..100)
            .map(|index| upsert(version, document(index)))
            .collect();
        mutations[41] = upsert(version, poison);
        let answers = store.apply(request(mutations)).await.unwrap();
        for (index, answer) in answers.iter().enumerate() {
            match answer {
                Err(error) if index == 41 => {
                    assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
                    assert_eq!(error.effect(), Effect::NotApplied);
                    assert!(!error.message().contains("within"), "{error}");
                }
                answer => assert!(answer.is_ok() && index != 41, "{index}: {answer:?}"),
            }
        }
        let mut all = ListDocumentsRequest::new(key(), 1_000);
        all.include_deleted = true;
        let held = store.list(all).await.unwrap();
        assert_eq!(held.len(), 99);
        assert!(held.iter().all(|held| held.version.as_u64() == version));
    }
}

#[tokio::test]
async fn a_batch_larger_than_a_statement_is_stored_whole() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    let text = "several words of a long text ".repeat(100_000);
    let mutations = (0..8)
        .map(|index| upsert(1, Document::new(format!("id {index}")).text(text.clone())))
        .collect();
    write(&*store, mutations).await;
    let held = store.get(ids(["id 0", "id 7"])).await.unwrap();
    for held in held {
        let held = held.unwrap();
        assert_eq!(held.state.record().unwrap().document().text, text);
    }
    assert_eq!(store.count(key(), None).await.unwrap(), 8);
}

/// Each copy of a part of a document counts in its hash.
#[tokio::test]
async fn whatever_another_hand_changes_changes_the_fingerprint() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::English).await;
    let document = Document::new("a")
        .title("Title")
        .text("some words")
        .document_type("note")
        .file_path("/a")
        .created_at(Timestamp::from_unix_milliseconds(1))
        .metadata("year", 1990);
    let table = place.table().await;
    let mut other = place.connect().await;
    for (version, change) in [
        "title = 'title'",
        "document_type = NULL",
        "document_type = 'Note'",
        "created_at = '1970-01-01T00:00:00.002Z'",
        "file_path = ''",
        "metadata = '{\"year\": 1991}'",
        "metadata = NULL",
        "length = length + 1",
        "words = to_tsvector('simple', 'other words')",
        "words = NULL",
        "vectors = ''",
        "canonical = canonical || ' '",
        "canonical = NULL",
        "deleted = true",
    ]
    .into_iter()
    .enumerate()
    {
        let version = 1 + version as u64;
        write(&*store, vec![upsert(version, document.clone())]).await;
        let before = fingerprint(&*store, "a").await;
        run(&mut other, &format!("UPDATE {table} SET {change}")).await;
        let after = fingerprint(&*store, "a").await;
        assert_ne!(before.content_hash, after.content_hash, "{change}");
    }
    write(&*store, vec![Mutation::delete("a", Version::from_u64(90))]).await;
    let before = fingerprint(&*store, "a").await;
    run(
        &mut other,
        &format!("UPDATE {table} SET title = 'still here'"),
    )
    .await;
    assert_ne!(before, fingerprint(&*store, "a").await);
}

#[tokio::test]
async fn a_damaged_document_is_named() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::English).await;
    write(&*store, vec![upsert(1, Document::new("the one"))]).await;
    let table = place.table().await;
    place
        .run(&format!("UPDATE {table} SET canonical = 'x'"))
        .await;
    let error = store.get(ids(["the one"])).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged);
    assert!(error.message().contains("the one"), "{error}");
}

#[tokio::test]
async fn a_store_wiped_behind_our_back_is_empty_and_unstamped_and_can_be_built_anew() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    write(&*store, vec![upsert(1, Document::new("a"))]).await;
    place
        .run(&format!("DROP SCHEMA {} CASCADE", place.schema()))
        .await;
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.stamp, None);
    assert!(identity.empty);
    let answer = store.apply(request(vec![upsert(2, Document::new("a"))]));
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::CollectionMissing, "{error}");
    prepare(&*store, Tokenizer::Unicode).await;
    write(&*store, vec![upsert(3, Document::new("a"))]).await;
    assert_eq!(store.identity().await.unwrap().stamp, Some(stamp(1)));
}

#[tokio::test]
async fn a_store_restored_from_an_older_copy_shows_its_older_stamp() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    place.run("CREATE TABLE copy AS SELECT * FROM stamp").await;
    let mut newer = stamp(4);
    newer.progress = Version::from_u64(9);
    store
        .write_stamp(StampRequest::new(newer.clone()))
        .await
        .unwrap();
    assert_eq!(store.identity().await.unwrap().stamp, Some(newer));
    place
        .run("TRUNCATE stamp; INSERT INTO stamp SELECT * FROM copy; DROP TABLE copy")
        .await;
    assert_eq!(store.identity().await.unwrap().stamp, Some(stamp(1)));
}

/// The second opening fences the first; the same place is recognised.
#[tokio::test]
async fn of_two_openings_the_older_is_stale() {
    let Some(place) = Place::new() else { return };
    let (first, second) = (place.open().await, place.open().await);
    prepare(&*first, Tokenizer::Unicode).await;
    second
        .write_stamp(StampRequest::new(stamp(2)))
        .await
        .unwrap();
    let answer = first.apply(request(vec![upsert(1, Document::new("a"))]));
    let error = answer.await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch);
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(second.identity().await.unwrap().empty);

    let factory = dbmanager_backend_relational::postgres::PostgresFactory::new();
    let spelt = place.url().replace("127.0.0.1", "LOCALHOST");
    let again = config(serde_json::json!({"url": spelt, "schema": place.schema()}));
    assert_eq!(
        factory.location(&place.config(), &context()).unwrap(),
        factory.location(&again, &context()).unwrap()
    );
}

/// A write that has read the old epoch is through before the new stamp is answered.
#[tokio::test(flavor = "multi_thread")]
async fn no_write_of_an_older_epoch_lands_after_the_stamp() {
    let Some(place) = Place::new() else { return };
    let (writer, next) = (place.open().await, place.open().await);
    prepare(&*writer, Tokenizer::Unicode).await;
    let writing = Arc::clone(&writer);
    let task = tokio::spawn(async move {
        for version in 1.. {
            let mutation = upsert(version, Document::new("a").text("words"));
            match writing.apply(request(vec![mutation])).await {
                Ok(_) => {}
                Err(error) => return (version, error),
            }
        }
        unreachable!("versions do not end")
    });
    while writer.heads(ids(["a"])).await.unwrap()[0].is_none() {}
    next.write_stamp(StampRequest::new(stamp(2))).await.unwrap();
    let held = next.heads(ids(["a"])).await.unwrap().remove(0).unwrap();
    let (refused, error) = task.await.unwrap();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch, "{error}");
    let last = next.heads(ids(["a"])).await.unwrap().remove(0).unwrap();
    assert_eq!(
        last, held,
        "a write of the older epoch landed after the stamp"
    );
    assert_eq!(last.version.as_u64() + 1, refused);
}

/// A collection that another manager has dropped and made anew is found again.
#[tokio::test]
async fn what_another_manager_made_anew_is_found() {
    let Some(place) = Place::new() else { return };
    let (first, second) = (place.open().await, place.open().await);
    prepare(&*first, Tokenizer::Unicode).await;
    write(&*first, vec![upsert(9, Document::new("a"))]).await;
    let drop = dbmanager_core::backend::DropCollectionRequest::new(key(), 1);
    second.drop_collection(drop).await.unwrap();
    let error = first.heads(ids(["a"])).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::CollectionMissing);
    prepare(&*second, Tokenizer::Unicode).await;
    assert_eq!(first.heads(ids(["a"])).await.unwrap(), [None]);
    write(&*first, vec![upsert(1, Document::new("a"))]).await;
    assert_eq!(second.count(key(), None).await.unwrap(), 1);
}

#[tokio::test]
async fn many_collections_are_asked_for_their_highest_version() {
    let Some(place) = Place::new() else { return };
    let store = place.open().await;
    prepare(&*store, Tokenizer::Unicode).await;
    for number in 0..120 {
        let collection = Collection {
            key: CollectionKey::new(format!("c {number}"), 1),
            options: CollectionOptions::new(),
        };
        let create = CreateCollectionRequest::new(collection, 1);
        store.create_collection(create).await.unwrap();
    }
    assert!(store.identity().await.unwrap().empty);
    write(&*store, vec![upsert(7, Document::new("a"))]).await;
    let highest = store.identity().await.unwrap().highest_version;
    assert_eq!(highest, Some(Version::from_u64(7)));
}

/// A name that the server's own limit would cut is refused, not shortened.
#[tokio::test]
async fn a_schema_name_that_the_server_would_cut_is_refused() {
    let Some(place) = Place::new() else { return };
    let long = "s".repeat(64);
    let wrong = config(serde_json::json!({"url": place.url(), "schema": long}));
    let error = open(&wrong, &context()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert!(error.message().contains("schema"), "{error}");
}
