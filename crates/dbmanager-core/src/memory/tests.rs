use std::sync::Arc;

use super::*;
use crate::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendErrorKind, BackendFactory,
        CreateCollectionRequest, GraphBackend, IdsRequest, Mutation, NeighbourhoodRequest, NodeKey,
        OpenContext, PathsRequest, ServiceConfig,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, Reference, Role,
        TraversalDirection, VectorSet, Version,
    },
};

fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

async fn write(backend: &dyn Backend, version: u64, document: Document) {
    let created = Collection {
        key: key(),
        options: CollectionOptions::new(),
    };
    let request = CreateCollectionRequest::new(created, 1);
    backend.create_collection(request).await.unwrap();
    let id = document.id.clone();
    let record = Arc::new(DocumentRecord::new(document, VectorSet::empty()).unwrap());
    let mutation = Mutation::upsert(id, Version::from_u64(version), record);
    let answers = backend
        .apply(ApplyRequest::new(key(), 1, [mutation]))
        .await
        .unwrap();
    assert!(answers.iter().all(Result::is_ok));
}

async fn graph(documents: impl IntoIterator<Item = Document>) -> MemoryGraph {
    let graph = MemoryGraph::open(&MemoryPlace::new()).unwrap();
    for (version, document) in (1..).zip(documents) {
        write(&graph, version, document).await;
    }
    graph
}

fn node(id: &str) -> NodeKey {
    NodeKey::new(key(), id)
}

#[tokio::test]
async fn a_factory_finds_its_place_again_and_refuses_another_role_there() {
    let place = MemoryPlace::new();
    let factory = MemoryFactory::relational().at(&place);
    let context = OpenContext::new(Runtime::tokio());
    let empty = ServiceConfig::new();
    let first = factory.open(&empty, &context).await.unwrap().as_backend();
    write(&*first, 7, Document::new("a")).await;
    first.close().await.unwrap();
    assert_eq!(
        first.probe().await.unwrap_err().kind(),
        BackendErrorKind::Unavailable
    );

    let again = factory.open(&empty, &context).await.unwrap();
    assert!(matches!(again, AnyBackend::Relational(_)));
    let ids = IdsRequest::new(key(), [Arc::from("a")]);
    let heads = again.as_backend().heads(ids).await.unwrap();
    assert_eq!(heads[0].unwrap().version, Version::from_u64(7));

    let other_role = MemoryFactory::of(Role::Graph).at(&place);
    let error = other_role.open(&empty, &context).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert_eq!(
        factory.location(&empty, &context).unwrap(),
        other_role.location(&empty, &context).unwrap()
    );
    assert_ne!(
        factory.location(&empty, &context).unwrap(),
        MemoryFactory::relational()
            .location(&empty, &context)
            .unwrap()
    );
}

#[tokio::test]
async fn a_setting_is_refused_by_its_name() {
    let config = serde_json::from_str(r#"{"speed": 11}"#).unwrap();
    let context = OpenContext::new(Runtime::tokio());
    let error = MemoryFactory::vector()
        .open(&config, &context)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config);
    assert!(error.message().contains("speed"));
}

#[tokio::test]
async fn a_neighbour_names_every_seed_that_is_nearest_and_one_last_edge() {
    let graph = graph([
        Document::new("a").references([Reference::new("x").kind("cites")]),
        Document::new("b").references([Reference::new("x").kind("refutes")]),
        Document::new("c").references(["b"]),
        Document::new("x").references(["y"]),
        Document::new("y"),
    ])
    .await;
    let request = NeighbourhoodRequest::new([node("a"), node("b"), node("c")], [key()])
        .direction(TraversalDirection::Outgoing)
        .depth(2);
    let found = graph.neighbourhood(request).await.unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|n| (&*n.node.id, n.distance, n.seeds.as_slice()))
        .collect();
    assert_eq!(seen, [("x", 1, &[0, 1][..]), ("y", 2, &[0, 1][..])]);
    assert_eq!(found[0].via, ("cites".to_owned(), true));
}

#[tokio::test]
async fn paths_come_shortest_first_and_never_pass_a_document_twice() {
    let graph = graph([
        Document::new("a").references(["b", "c"]),
        Document::new("b").references(["a", "c", "d"]),
        Document::new("c").references(["d"]),
        Document::new("d").references(["a"]),
    ])
    .await;
    let request =
        PathsRequest::new(node("a"), node("d"), [key()]).direction(TraversalDirection::Outgoing);
    let found = graph.paths(request.clone()).await.unwrap();
    let seen: Vec<String> = found
        .iter()
        .map(|path| path.nodes.iter().map(|n| &*n.id).collect())
        .collect();
    assert_eq!(seen, ["abd", "acd", "abcd"]);
    assert_eq!(
        graph.paths(request.clone().limit(2)).await.unwrap().len(),
        2
    );
    assert_eq!(graph.paths(request.max_depth(1)).await.unwrap(), []);
}
