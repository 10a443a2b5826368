//! What is particular to the graph on SQLite.
#![cfg(feature = "sqlite")]
// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

#[path = "sqlite/model.rs"]
mod model;

use std::{path::Path as FilePath, sync::Arc};

use dbmanager_backend_graph::sqlite::SqliteFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, BackendFactory, CreateCollectionRequest,
        DropCollectionRequest, Effect, Fingerprint, GraphBackend, IdsRequest, ListRequest,
        Mutation, NeighbourhoodRequest, NodeKey, OpenContext, PathsRequest, ServiceConfig, Stamp,
        StampRequest, TextSearchRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, ContentHash, Document, DocumentRecord,
        JournalId, Reference, Role, StoreId, VectorSet, Version,
    },
};
use rusqlite::Connection;
use serde_json::json;

const FILE: &str = "graph.db";

async fn open(directory: &FilePath) -> Arc<dyn GraphBackend> {
    let context = OpenContext::new(Runtime::tokio()).data_directory(directory);
    match SqliteFactory::new()
        .open(&ServiceConfig::new(), &context)
        .await
        .unwrap()
    {
        AnyBackend::Graph(backend) => backend,
        other => panic!("{other:?}"),
    }
}

fn papers() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

fn people() -> CollectionKey {
    CollectionKey::new("people", 2)
}

fn live() -> [CollectionKey; 2] {
    [papers(), people()]
}

async fn create(store: &Arc<dyn GraphBackend>, key: CollectionKey) {
    let options = CollectionOptions::new();
    let collection = Collection { key, options };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
        .unwrap();
}

async fn opened(directory: &FilePath) -> Arc<dyn GraphBackend> {
    let store = open(directory).await;
    create(&store, papers()).await;
    create(&store, people()).await;
    store
}

fn upsert(version: u64, document: Document) -> Mutation {
    let id = document.id.clone();
    let record = DocumentRecord::new(document, VectorSet::empty()).unwrap();
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}

fn delete(version: u64, id: &str) -> Mutation {
    Mutation::delete(id, Version::from_u64(version))
}

async fn apply(store: &Arc<dyn GraphBackend>, key: CollectionKey, mutations: Vec<Mutation>) {
    let results = store.apply(ApplyRequest::new(key, 1, mutations)).await;
    results
        .unwrap()
        .into_iter()
        .for_each(|result| result.unwrap());
}

fn ids(ids: &[&str]) -> IdsRequest {
    let ids: Vec<Arc<str>> = ids.iter().map(|id| Arc::from(*id)).collect();
    IdsRequest::new(papers(), ids)
}

fn paper(id: &str) -> NodeKey {
    NodeKey::new(papers(), id)
}

fn near(seeds: &[&str]) -> NeighbourhoodRequest {
    let seeds: Vec<_> = seeds.iter().map(|id| paper(id)).collect();
    NeighbourhoodRequest::new(seeds, live())
}

async fn names(store: &Arc<dyn GraphBackend>, request: NeighbourhoodRequest) -> Vec<String> {
    let found = store.neighbourhood(request).await.unwrap();
    found.iter().map(|n| n.node.id.to_string()).collect()
}

async fn fingerprints(store: &Arc<dyn GraphBackend>) -> Vec<Fingerprint> {
    let page = store
        .fingerprints(ListRequest::new(papers(), 100))
        .await
        .unwrap();
    let ids: Vec<Arc<str>> = page.items.iter().map(|f| Arc::clone(&f.id)).collect();
    let by_id = store.fingerprints_of(IdsRequest::new(papers(), ids)).await;
    let by_id: Vec<_> = by_id.unwrap().into_iter().flatten().collect();
    assert_eq!(by_id, page.items);
    page.items
}

fn rich() -> Document {
    Document::new("a")
        .title("Crash recovery")
        .document_type("paper")
        .references([
            Reference::new("b").kind("cites").property("page", 0.1),
            Reference::new("b").kind("cites").property("page", 2),
            Reference::new("a"),
            Reference::new("\"}]|..🦀").kind("'; DROP TABLE edge; --"),
            Reference::new("ann").collection("people").kind("author"),
            Reference::new("b").collection("papers"),
            Reference::new("x").collection("nowhere"),
        ])
}

#[tokio::test]
async fn references_come_back_in_order_and_as_written_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    apply(&store, papers(), vec![upsert(1, rich()), delete(2, "gone")]).await;
    store.close().await.unwrap();
    let store = open(directory.path()).await;
    let edges = store
        .edges(ids(&["a", "gone", "absent", "a"]))
        .await
        .unwrap();
    let first = edges[0].as_ref().unwrap();
    assert_eq!(first.version, Version::from_u64(1));
    assert_eq!(first.references, rich().references);
    assert_eq!(edges[1..3], [None, None]);
    assert_eq!(edges[3], edges[0]);
    let record = DocumentRecord::new(rich(), VectorSet::empty()).unwrap();
    let found = fingerprints(&store).await;
    assert_eq!(
        found[0].content_hash,
        record.content_hash("papers", Role::Graph)
    );
    assert_eq!(found[1].content_hash, ContentHash::TOMBSTONE);
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.highest_version, Some(Version::from_u64(2)));
}

#[tokio::test]
async fn edges_hide_with_their_target_and_show_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let a = Document::new("a").references(["b"]);
    apply(&store, papers(), vec![upsert(1, a.clone())]).await;
    assert_eq!(names(&store, near(&["a"])).await, Vec::<String>::new());
    apply(&store, papers(), vec![upsert(2, Document::new("b"))]).await;
    assert_eq!(names(&store, near(&["a"])).await, ["b"]);
    assert_eq!(names(&store, near(&["b"])).await, ["a"]);
    apply(&store, papers(), vec![delete(3, "b")]).await;
    assert_eq!(names(&store, near(&["a"])).await, Vec::<String>::new());
    assert_eq!(names(&store, near(&["b"])).await, Vec::<String>::new());
    let stored = store.edges(ids(&["a"])).await.unwrap();
    assert_eq!(stored[0].as_ref().unwrap().references, a.references);
    apply(&store, papers(), vec![upsert(4, Document::new("b"))]).await;
    assert_eq!(names(&store, near(&["a"])).await, ["b"]);

    // An upsert of the source replaces its edges, a delete removes them for good.
    let other = Document::new("a").references(["c"]);
    apply(
        &store,
        papers(),
        vec![upsert(5, other), upsert(6, Document::new("c"))],
    )
    .await;
    assert_eq!(names(&store, near(&["a"])).await, ["c"]);
    apply(&store, papers(), vec![upsert(3, a)]).await;
    assert_eq!(names(&store, near(&["a"])).await, ["c"]);
    apply(&store, papers(), vec![delete(7, "a")]).await;
    apply(&store, papers(), vec![upsert(8, Document::new("a"))]).await;
    assert_eq!(names(&store, near(&["a"])).await, Vec::<String>::new());
}

#[tokio::test]
async fn collections_are_passed_through_only_while_they_live() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let by_ann = |id: &str| {
        Document::new(id).references([Reference::new("ann").collection("people").kind("author")])
    };
    apply(
        &store,
        papers(),
        vec![upsert(1, by_ann("a")), upsert(2, by_ann("b"))],
    )
    .await;
    apply(&store, people(), vec![upsert(3, Document::new("ann"))]).await;
    let two = near(&["a"]).depth(2);
    assert_eq!(names(&store, two.clone()).await, ["ann", "b"]);
    let mut without = two.clone();
    without.collections = Arc::from([papers()]);
    assert_eq!(names(&store, without.clone()).await, Vec::<String>::new());
    let newer = CollectionKey::new("people", 3);
    without.collections = Arc::from([papers(), newer.clone()]);
    assert_eq!(names(&store, without.clone()).await, Vec::<String>::new());
    create(&store, newer.clone()).await;
    apply(&store, newer.clone(), vec![upsert(4, Document::new("ann"))]).await;
    let found = store.neighbourhood(without).await.unwrap();
    assert_eq!(found[0].node, NodeKey::new(newer, "ann"));
    store
        .drop_collection(DropCollectionRequest::new(people(), 1))
        .await
        .unwrap();
    assert_eq!(names(&store, two).await, Vec::<String>::new());
    let missing = store
        .edges(IdsRequest::new(people(), [Arc::from("ann")]))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), BackendErrorKind::CollectionMissing);
}

#[tokio::test]
async fn ten_thousand_references_both_ways() {
    const MANY: usize = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let id = |n: usize| format!("n{n:05}");
    let hub = Document::new("hub").references((0..MANY).map(id));
    apply(&store, papers(), vec![upsert(1, hub)]).await;
    let leaves = (0..MANY).map(|n| upsert(2, Document::new(id(n)))).collect();
    apply(&store, papers(), leaves).await;
    let edges = store.edges(ids(&["hub"])).await.unwrap();
    assert_eq!(edges[0].as_ref().unwrap().references.len(), MANY);
    let found = names(&store, near(&["hub"]).limit(3)).await;
    assert_eq!(found, [id(0), id(1), id(2)]);
    let through = near(&[&id(7)]).depth(2).limit(MANY);
    let found = names(&store, through).await;
    assert_eq!(found.len(), MANY);
    assert_eq!(found[..2], ["hub".to_owned(), id(0)]);
    let request = PathsRequest::new(paper(&id(0)), paper(&id(1)), live());
    assert_eq!(store.paths(request).await.unwrap().len(), 1);
}

#[tokio::test]
async fn titles_are_found_by_plain_words() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let titled = |id: &str, title: &str| upsert(1, Document::new(id).title(title));
    let batch = vec![
        titled("1", "Recovering from crashes"),
        titled("2", "Crash"),
        titled("3", "Something else"),
        titled("4", ""),
    ];
    apply(&store, papers(), batch).await;
    let find = async |text: &str| -> Vec<String> {
        let request = TextSearchRequest::new(papers(), text, 10);
        let hits = store.match_titles(request).await.unwrap();
        hits.iter().map(|hit| hit.id.to_string()).collect()
    };
    assert_eq!(find("crash recover").await, ["1", "2"]);
    assert_eq!(find("crash* NOT (crash").await, ["2", "1"]);
    assert_eq!(find("").await, Vec::<String>::new());
    assert_eq!(find("\"*").await, Vec::<String>::new());
    apply(&store, papers(), vec![delete(2, "1")]).await;
    assert_eq!(find("crash recover").await, ["2"]);
}

#[tokio::test]
async fn an_edit_behind_the_stores_back_changes_the_hash_of_that_document_only() {
    for edit in [
        "UPDATE node SET title = 'Trash recovery' WHERE document = 1",
        "UPDATE node SET document_type = NULL WHERE document = 1",
        "DELETE FROM node WHERE document = 1",
        "UPDATE title_1 SET title = 'Trash recovery' WHERE rowid = 1",
        "UPDATE title_1_content SET c0 = NULL WHERE id = 1",
        "DELETE FROM title_1 WHERE rowid = 1",
        "DELETE FROM edge WHERE source = 1 AND ordinal = 4",
        "UPDATE edge SET kind = 'cite' WHERE source = 1 AND ordinal = 0",
        "UPDATE edge SET target_collection = 'papers' WHERE source = 1 AND ordinal = 4",
        "UPDATE edge SET properties = '{' WHERE source = 1 AND ordinal = 0",
        "UPDATE document SET deleted = 1 WHERE key = 1",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let store = opened(directory.path()).await;
        let other = Document::new("b").references(["a"]);
        apply(&store, papers(), vec![upsert(1, rich()), upsert(2, other)]).await;
        let before = fingerprints(&store).await;
        let raw = Connection::open(directory.path().join(FILE)).unwrap();
        assert_eq!(raw.execute(edit, []).unwrap(), 1, "{edit}");
        let after = fingerprints(&store).await;
        assert_ne!(after[0].content_hash, before[0].content_hash, "{edit}");
        assert_ne!(after[0].content_hash, ContentHash::TOMBSTONE, "{edit}");
        assert_eq!(after[1], before[1], "{edit}");
        apply(&store, papers(), vec![upsert(3, rich())]).await;
        if edit.contains("title_1_content") {
            // FTS5 no longer knows which words of the old title are in its index.
            let damaged = store.fingerprints(ListRequest::new(papers(), 10)).await;
            let message = damaged.unwrap_err().message().to_owned();
            let (_, cure) = message.split_once("; to build it anew: ").unwrap();
            raw.execute_batch(cure).unwrap();
        }
        let healed = fingerprints(&store).await;
        assert_eq!(healed[0].content_hash, before[0].content_hash, "{edit}");
    }
}

#[tokio::test]
async fn an_older_manager_is_fenced() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path()).await;
    let stamp = Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch: 5,
        progress: Version::ZERO,
    };
    store.write_stamp(StampRequest::new(stamp)).await.unwrap();
    let batch = |epoch| ApplyRequest::new(papers(), epoch, vec![upsert(1, rich())]);
    let error = store.apply(batch(4)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch);
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(store.identity().await.unwrap().empty);
    store.apply(batch(5)).await.unwrap();
    let results = store
        .apply(ApplyRequest::new(
            papers(),
            5,
            vec![
                upsert(9, Document::new("n\0l")),
                upsert(9, Document::new("b")),
            ],
        ))
        .await
        .unwrap();
    assert_eq!(
        results[0].as_ref().unwrap_err().kind(),
        BackendErrorKind::Refused
    );
    assert!(results[1].is_ok());
}

#[tokio::test]
async fn configuration_names_what_is_wrong() {
    let context = OpenContext::new(Runtime::tokio()).data_directory("/nowhere");
    let config: ServiceConfig = serde_json::from_value(json!({"enable_wall": true})).unwrap();
    let error = SqliteFactory::new()
        .open(&config, &context)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert!(error.message().contains("enable_wall"));
}
