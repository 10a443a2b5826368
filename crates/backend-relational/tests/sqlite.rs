//! What is particular to the relational store on SQLite.
#![cfg(feature = "sqlite")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

#[path = "sqlite/belonging.rs"]
mod belonging;
#[path = "sqlite/text.rs"]
mod text;

use std::{path::Path, sync::Arc};

use dbmanager_backend_relational::sqlite::SqliteFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, BackendFactory, BackendResult,
        CreateCollectionRequest, DocumentState, Effect, Fingerprint, IdsRequest,
        ListDocumentsRequest, ListRequest, Mutation, OpenContext, RelationalBackend, ServiceConfig,
        TextSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, ContentHash, Document,
        DocumentRecord, Filter, Role, Timestamp, VectorOrigin, VectorSet, Version, field,
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
