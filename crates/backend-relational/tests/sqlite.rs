//! What is particular to the relational store on SQLite.
#![cfg(feature = "sqlite")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use std::{path::Path, sync::Arc};

use dbmanager_backend_relational::sqlite::SqliteFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, BackendFactory, BackendResult,
        CreateCollectionRequest, DocumentState, DropCollectionRequest, Effect, Fingerprint,
        IdsRequest, ListDocumentsRequest, ListRequest, Mutation, OpenContext, RelationalBackend,
        ServiceConfig, Stamp, StampRequest, TextSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, ContentHash, Document,
        DocumentRecord, Filter, JournalId, Role, StoreId, Timestamp, Tokenizer, VectorOrigin,
        VectorSet, Version, field,
    },
};
use rusqlite::Connection;
use serde_json::json;

const FILE: &str = "relational.db";

async fn open(directory: &Path) -> BackendResult<Arc<dyn RelationalBackend>> {
    open_with(directory, json!({})).await
}

async fn open_with(
    directory: &Path,
    config: serde_json::Value,
) -> BackendResult<Arc<dyn RelationalBackend>> {
    let context = OpenContext::new(Runtime::tokio()).data_directory(directory);
    let config: ServiceConfig = serde_json::from_value(config).unwrap();
    match SqliteFactory::new().open(&config, &context).await? {
        AnyBackend::Relational(backend) => Ok(backend),
        other => panic!("{other:?}"),
    }
}

fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

async fn create(store: &Arc<dyn RelationalBackend>, options: CollectionOptions) {
    let collection = Collection {
        key: key(),
        options,
    };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
        .unwrap();
}

fn record(document: Document) -> Arc<DocumentRecord> {
    let vectors = VectorSet {
        origin: VectorOrigin::Embedder,
        text_hash: Some([7; 32]),
        vectors: vec![ChunkVector {
            chunk: 0,
            passage: None,
            values: vec![0.1, -0.0, f32::MIN_POSITIVE],
        }],
    };
    Arc::new(DocumentRecord::new(document, vectors).unwrap())
}

fn upsert(version: u64, document: Document) -> Mutation {
    let id = document.id.clone();
    Mutation::upsert(id, Version::from_u64(version), record(document))
}

fn delete(version: u64, id: &str) -> Mutation {
    Mutation::delete(id, Version::from_u64(version))
}

async fn apply(store: &Arc<dyn RelationalBackend>, mutations: Vec<Mutation>) {
    let results = store
        .apply(ApplyRequest::new(key(), 1, mutations))
        .await
        .unwrap();
    for result in results {
        result.unwrap();
    }
}

async fn texts(store: &Arc<dyn RelationalBackend>, text: &str) -> Vec<String> {
    let hits = store
        .search_text(TextSearchRequest::new(key(), text, 100))
        .await
        .unwrap();
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

fn ids(ids: &[&str]) -> IdsRequest {
    IdsRequest::new(
        key(),
        ids.iter().map(|id| Arc::from(*id)).collect::<Vec<_>>(),
    )
}

async fn fingerprints(store: &Arc<dyn RelationalBackend>) -> Vec<Fingerprint> {
    let page = store
        .fingerprints(ListRequest::new(key(), 100))
        .await
        .unwrap();
    assert_eq!(page.next, None);
    let ids: Vec<Arc<str>> = page.items.iter().map(|f| Arc::clone(&f.id)).collect();
    let by_id = store
        .fingerprints_of(IdsRequest::new(key(), ids))
        .await
        .unwrap();
    assert_eq!(by_id.into_iter().flatten().collect::<Vec<_>>(), page.items);
    page.items
}

fn sample() -> Document {
    Document::new("a")
        .title("The title")
        .text("crash recovery of a journal")
        .document_type("paper")
        .created_at(Timestamp::from_unix_milliseconds(1_700_000_000_123))
        .file_path("/tmp/a.txt")
        .metadata("year", 1990)
        .metadata("tags", json!(["x", "y"]))
        .references(["b"])
}

#[tokio::test]
async fn everything_is_there_bit_for_bit_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let hostile = [
        "a",
        "A",
        "a ",
        "é",
        "e\u{301}",
        "'; DROP TABLE document; --",
        "\"}]|..",
        "🦀",
        "%_*",
    ];
    let mutations: Vec<_> = hostile
        .iter()
        .enumerate()
        .map(|(n, id)| {
            let mut document = sample();
            document.id = (*id).to_owned();
            document.metadata.insert((*id).to_owned(), json!(id));
            upsert(n as u64 + 1, document)
        })
        .collect();
    apply(&store, mutations.clone()).await;
    store.close().await.unwrap();

    let store = open(directory.path()).await.unwrap();
    let found = store.get(ids(&hostile)).await.unwrap();
    for (mutation, found) in mutations.iter().zip(found) {
        let found = found.unwrap();
        assert_eq!(found.id, mutation.id);
        assert_eq!(found.version, mutation.version);
        let DocumentState::Live(read) = found.state else {
            panic!("deleted");
        };
        let written = mutation.state.record().unwrap();
        assert_eq!(read.canonical(), written.canonical());
        assert_eq!(
            read.vectors().to_bytes().unwrap(),
            written.vectors().to_bytes().unwrap()
        );
        let only: Filter = field(&*mutation.id).eq(&*mutation.id);
        assert_eq!(store.count(key(), Some(Arc::new(only))).await.unwrap(), 1);
    }
    let mut sorted = hostile.map(str::to_owned);
    sorted.sort();
    let listed = store
        .list(ListDocumentsRequest::new(key(), 4))
        .await
        .unwrap();
    let rest = store
        .list(ListDocumentsRequest::new(key(), 100).after_id(Some(Arc::clone(&listed[3].id))))
        .await
        .unwrap();
    let listed: Vec<_> = listed
        .iter()
        .chain(&rest)
        .map(|r| r.id.to_string())
        .collect();
    assert_eq!(listed, sorted);
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.highest_version, Some(Version::from_u64(9)));
    assert!(!identity.empty);
}

#[tokio::test]
async fn a_bad_item_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let batch = vec![
        upsert(1, Document::new("a")),
        upsert(2, Document::new("n\0l")),
        upsert(3, Document::new("x".repeat(513))),
        upsert(4, Document::new("b").text("y".repeat(33 * 1024 * 1024))),
        upsert(5, Document::new("c")),
    ];
    let results = store
        .apply(ApplyRequest::new(key(), 1, batch))
        .await
        .unwrap();
    let refused: Vec<_> = results
        .iter()
        .map(|result| {
            result.as_ref().err().map(|error| {
                assert_eq!(error.effect(), Effect::NotApplied);
                error.kind()
            })
        })
        .collect();
    let no = Some(BackendErrorKind::Refused);
    assert_eq!(refused, [None, no, no, no, None]);
    assert_eq!(store.count(key(), None).await.unwrap(), 2);
}

#[tokio::test]
async fn a_write_replaces_whole_and_a_tombstone_leaves_nothing_to_find() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    apply(&store, vec![upsert(2, sample())]).await;
    apply(&store, vec![upsert(1, Document::new("a").text("older"))]).await;
    assert_eq!(texts(&store, "older").await, Vec::<String>::new());
    assert_eq!(texts(&store, "recovery").await, ["a"]);

    apply(&store, vec![upsert(3, Document::new("a").text("newer"))]).await;
    assert_eq!(texts(&store, "recovery title").await, Vec::<String>::new());
    assert_eq!(texts(&store, "newer").await, ["a"]);
    let year = Some(Arc::new(field("year").exists()));
    assert_eq!(store.count(key(), year.clone()).await.unwrap(), 0);

    apply(&store, vec![delete(5, "a")]).await;
    apply(&store, vec![upsert(4, sample())]).await;
    assert_eq!(texts(&store, "newer recovery").await, Vec::<String>::new());
    assert_eq!(texts(&store, "").await, Vec::<String>::new());
    assert_eq!(store.count(key(), None).await.unwrap(), 0);
    let all = fingerprints(&store).await;
    assert_eq!(all.len(), 1);
    assert!(all[0].head.deleted);
    assert_eq!(all[0].content_hash, ContentHash::TOMBSTONE);
    let with_deleted = ListDocumentsRequest::new(key(), 10).include_deleted();
    assert_eq!(store.list(with_deleted.clone()).await.unwrap().len(), 1);
    let filtered = with_deleted.filter(Some(Arc::new(!field("year").exists())));
    assert_eq!(store.list(filtered).await.unwrap().len(), 0);

    apply(&store, vec![upsert(6, sample())]).await;
    assert_eq!(texts(&store, "recovery").await, ["a"]);
    assert_eq!(store.count(key(), year).await.unwrap(), 1);
}

#[tokio::test]
async fn words_are_words_whatever_they_look_like() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let documents = [
        ("1", "running dogs"),
        ("2", "a near miss"),
        ("3", "Café society"),
    ];
    let mutations = documents
        .iter()
        .map(|(id, text)| upsert(1, Document::new(*id).text(*text)))
        .collect();
    apply(&store, mutations).await;
    assert_eq!(texts(&store, "run").await, ["1"]);
    assert_eq!(texts(&store, "cafe").await, ["3"]);
    assert_eq!(texts(&store, "cafe\u{301}").await, ["3"]);
    for hostile in [
        "dog*",
        "\"dog",
        "dog\"",
        "text:dog",
        "dog NOT dog",
        "(dog",
        "dog)",
        "dog AND zebra",
        "^dog",
        "-dog",
        "dog + 7",
        "'dog'",
        "{text}: dog",
        "dog NEAR/0 zebra",
    ] {
        assert!(
            texts(&store, hostile).await.contains(&"1".to_owned()),
            "{hostile}"
        );
    }
    assert_eq!(texts(&store, "NEAR").await, ["2"]);
    assert_eq!(texts(&store, "zebra").await, Vec::<String>::new());
    assert_eq!(texts(&store, " * \" ").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn scores_rank_repeated_and_rare_words_higher_and_ties_by_id() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    let documents = [
        ("z", "rare common filler"),
        ("c", "common filler filler"),
        ("b", "common filler filler"),
        ("a", "other filler filler"),
        ("d", "nothing like it here"),
        ("e", "still nothing like it"),
        ("f", "and nothing once more"),
    ];
    let mutations = documents
        .iter()
        .map(|(id, text)| upsert(1, Document::new(*id).text(*text)))
        .collect();
    apply(&store, mutations).await;
    assert_eq!(texts(&store, "common rare").await, ["z", "b", "c"]);
    let search = |text: &str, limit| store.search_text(TextSearchRequest::new(key(), text, limit));
    let once = search("common other", 10).await.unwrap();
    let twice = search("common common other", 10).await.unwrap();
    let score = |hits: &[dbmanager_core::backend::TextHit], id: &str| {
        hits.iter().find(|hit| &*hit.id == id).unwrap().score
    };
    assert!(score(&once, "b") > 0.0);
    assert!(score(&twice, "b") > 1.9 * score(&once, "b"));
    assert!((score(&twice, "a") - score(&once, "a")).abs() < 1e-12);
    let cut = search("common", 2).await.unwrap();
    assert_eq!(
        cut.iter().map(|hit| &*hit.id).collect::<Vec<_>>(),
        ["b", "c"]
    );

    let restricted = TextSearchRequest::new(key(), "common", 10)
        .restrict_to([Arc::from("c"), Arc::from("a"), Arc::from("absent")])
        .filter(Some(Arc::new(!field("year").exists())));
    let hits = store.search_text(restricted.clone()).await.unwrap();
    assert_eq!(hits.len(), 1);
    assert_eq!(
        hits[0].score,
        score(&search("common", 10).await.unwrap(), "c")
    );
    let excluded = restricted.filter(Some(Arc::new(field("year").exists())));
    assert_eq!(store.search_text(excluded).await.unwrap(), []);
    let listed =
        TextSearchRequest::new(key(), "", 10).restrict_to([Arc::from("c"), Arc::from("a")]);
    let hits = store.search_text(listed).await.unwrap();
    assert_eq!(
        hits.iter().map(|hit| &*hit.id).collect::<Vec<_>>(),
        ["a", "c"]
    );
    assert!(hits.iter().all(|hit| hit.score == 0.0));
}

#[tokio::test]
async fn each_tokenizer_finds_what_it_is_for() {
    for (tokenizer, text, found, absent) in [
        (Tokenizer::Unicode, "Die Häuser rannten", "hauser", "rannte"),
        (Tokenizer::Trigram, "数据库的恢复测试", "恢复测", "恢测试"),
        (Tokenizer::Trigram, "crash-recovery", "cover", "carv"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        create(&store, CollectionOptions::new().tokenizer(tokenizer)).await;
        apply(&store, vec![upsert(1, Document::new("a").text(text))]).await;
        assert_eq!(texts(&store, found).await, ["a"], "{found}");
        assert_eq!(
            texts(&store, absent).await,
            Vec::<String>::new(),
            "{absent}"
        );
    }
}

#[tokio::test]
async fn an_edit_behind_the_stores_back_changes_the_hash_of_that_document_only() {
    let edits = [
        "UPDATE content SET canonical = CAST(replace(canonical, 'crash', 'trash') AS BLOB)
         WHERE document = 1",
        "UPDATE content SET vectors = zeroblob(length(vectors)) WHERE document = 1",
        "UPDATE content SET vectors = CAST(vectors || x'00' AS BLOB) WHERE document = 1",
        "UPDATE content SET file_path = '/tmp/b.txt' WHERE document = 1",
        "UPDATE content SET created_at = NULL WHERE document = 1",
        "DELETE FROM content WHERE document = 1",
        "UPDATE full_text_1 SET text = 'trash recovery of a journal' WHERE rowid = 1",
        "UPDATE full_text_1 SET title = NULL WHERE rowid = 1",
        "UPDATE full_text_1_content SET c1 = 'trash' WHERE id = 1",
        "DELETE FROM full_text_1 WHERE rowid = 1",
        "UPDATE field SET value = 1991 WHERE document = 1 AND value = 1990",
        "DELETE FROM field WHERE document = 1 AND value = 'x'",
        "INSERT INTO field SELECT document, path, kind, 'z' FROM field
         WHERE document = 1 AND value = 'x'",
        "UPDATE document SET deleted = 1 WHERE key = 1",
    ];
    for edit in edits {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path()).await.unwrap();
        create(&store, CollectionOptions::new()).await;
        let mut other = sample();
        other.id = "b".to_owned();
        apply(&store, vec![upsert(1, sample()), upsert(2, other.clone())]).await;
        let before = fingerprints(&store).await;
        let expected = record(sample()).content_hash("papers", Role::Relational);
        assert_eq!(before[0].content_hash, expected);

        let raw = Connection::open(directory.path().join(FILE)).unwrap();
        let changed = raw.execute(edit, []).unwrap();
        assert_eq!(changed, 1, "{edit}");
        let after = fingerprints(&store).await;
        assert_ne!(after[0].content_hash, before[0].content_hash, "{edit}");
        assert_ne!(after[0].content_hash, ContentHash::TOMBSTONE, "{edit}");
        assert_eq!(after[1], before[1], "{edit}");
        assert_eq!(after, fingerprints(&store).await, "{edit}");

        // Writing it again makes it whole; only words that FTS5 no longer knows to be in its index
        // need the index built anew, as the error says.
        apply(&store, vec![upsert(3, sample())]).await;
        if edit.contains("full_text_1_content") {
            let damaged = store.fingerprints(ListRequest::new(key(), 10)).await;
            let message = damaged.unwrap_err().message().to_owned();
            let (_, cure) = message.split_once("; to build it anew: ").unwrap();
            raw.execute_batch(cure).unwrap();
        }
        let healed = fingerprints(&store).await;
        assert_eq!(healed[0].content_hash, expected, "{edit}");
    }
}

#[tokio::test]
async fn a_damaged_full_text_index_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    create(&store, CollectionOptions::new()).await;
    apply(&store, vec![upsert(1, sample())]).await;
    let raw = Connection::open(directory.path().join(FILE)).unwrap();
    let changed = raw
        .execute("DELETE FROM full_text_1_data WHERE id > 10", [])
        .unwrap();
    assert!(changed > 0);
    let error = store
        .fingerprints(ListRequest::new(key(), 10))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged);
    assert_eq!(
        error.message(),
        "the full-text index full_text_1 does not hold the words of its documents; to build it \
         anew: INSERT INTO full_text_1 (full_text_1) VALUES ('rebuild')"
    );
}

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
