//! The service `qdrant` against a model of the server.
//!
//! The model speaks the server's protocol over a real connection and behaves as the source of
//! server 1.18 says (conditional and insert-only upserts, ranges over `f64`, order of a scroll). It
//! shows that the adapter keeps its contract *if* the server behaves so; it is no evidence about
//! the server itself, which the live tests are for.
#![cfg(feature = "qdrant")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conditions;
mod model;
mod services;

use std::sync::Arc;

use dbmanager_backend_vector::qdrant::QdrantFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendErrorKind, BackendFactory, BackendResult,
        CreateCollectionRequest, IdsRequest, Mutation, OpenContext, StoredVectors, VectorBackend,
    },
    conformance::{Instance, Subject, Suite, guarded},
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        EmbeddingSpace, Metric, VectorOrigin, VectorSet, Version,
    },
};
use serde_json::json;

use model::Model;
use services::Served;

fn fresh(model: Model) -> Instance {
    let served = Served::start(model);
    Instance::new(QdrantFactory::new())
        .setting("url", served.url())
        .setting("collection_prefix", "conformance")
        .keep(served)
}

async fn conforms(subject: Subject, rounds: usize) {
    let suite = Suite::new(Runtime::tokio()).rounds(rounds);
    let found = suite.run(&subject).await;
    found.assert_ok();
    let mut ruled_out = found.refused_by_capability.clone();
    ruled_out.sort_unstable();
    let expected = [
        "a_filter_without_the_capability_is_unsupported",
        "a_metric_without_the_capability_is_unsupported",
        "applied_is_durable_without_sync",
        "reopening_keeps_everything",
    ];
    assert_eq!(ruled_out, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_the_model() {
    conforms(Subject::new("model", || fresh(Model::default())), 20).await;
}

/// An index that misses every fifth chunk, and answers that come in the least helpful order.
#[tokio::test(flavor = "multi_thread")]
async fn conforms_on_a_model_whose_index_misses_chunks() {
    let lossy = || {
        fresh(Model {
            lossy_index: true,
            ..Model::default()
        })
    };
    let subject = Subject::new("lossy model", lossy).wrapped("resilience", guarded);
    conforms(subject, 5).await;
}

async fn open_error(model: Model, settings: serde_json::Value) -> (BackendErrorKind, String) {
    let served = Served::start(model);
    let mut config = settings.as_object().unwrap().clone();
    config.insert("url".to_owned(), json!(served.url()));
    let context = OpenContext::new(Runtime::tokio());
    let error = QdrantFactory::new().open(&config, &context).await;
    let error = error.unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_an_old_version_is_refused() {
    let old = Model {
        version: "1.17.1",
        ..Model::default()
    };
    let (kind, message) = open_error(old, json!({})).await;
    assert_eq!(kind, BackendErrorKind::Config);
    assert!(message.contains("1.17.1") && message.contains("1.18"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_denied_and_not_shown() {
    let locked = || Model {
        api_key: Some("right"),
        ..Model::default()
    };
    for wrong in [json!({}), json!({"api_key": "hunter2"})] {
        let (kind, message) = open_error(locked(), wrong).await;
        assert_eq!(kind, BackendErrorKind::Denied);
        assert!(!message.contains("hunter2"), "{message}");
    }
    let served = Served::start(locked());
    let config = json!({"url": served.url(), "api_key": "right"});
    let context = OpenContext::new(Runtime::tokio());
    let config = config.as_object().unwrap();
    let store = QdrantFactory::new().open(config, &context).await.unwrap();
    assert!(!format!("{store:?}").contains("right"));
}

struct Papers {
    store: Arc<dyn VectorBackend>,
    key: CollectionKey,
    _served: Served,
}

impl Papers {
    /// A store with a collection of vectors of one number.
    async fn on(model: Model) -> Self {
        let served = Served::start(model);
        let config = json!({"url": served.url()});
        let context = OpenContext::new(Runtime::tokio());
        let config = config.as_object().unwrap();
        let opened = QdrantFactory::new().open(config, &context).await.unwrap();
        let AnyBackend::Vector(store) = opened else {
            panic!("a vector store");
        };
        let key = CollectionKey::new("papers", 1);
        let options = CollectionOptions::new();
        let collection = Collection {
            key: key.clone(),
            options: options.embedding_space(EmbeddingSpace::CALLER, 1, Metric::Dot),
        };
        let request = CreateCollectionRequest::new(collection, 1);
        store.create_collection(request).await.unwrap();
        Self {
            store,
            key,
            _served: served,
        }
    }

    /// What became of each.
    async fn apply(&self, batch: Vec<Mutation>) -> Vec<Option<BackendErrorKind>> {
        let request = ApplyRequest::new(self.key.clone(), 1, batch);
        let answers = self.store.apply(request).await.unwrap();
        let kind = |answer: &BackendResult<()>| answer.as_ref().err().map(|error| error.kind());
        answers.iter().map(kind).collect()
    }

    /// How many documents have the vectors that were written.
    async fn whole(&self, ids: impl Iterator<Item = String>) -> usize {
        let ids: Arc<[Arc<str>]> = ids.map(Arc::from).collect();
        let request = IdsRequest::new(self.key.clone(), ids);
        let sets = self.store.vectors(request).await.unwrap();
        let whole = |set: &&StoredVectors| set.vectors.len() == 1;
        sets.iter().flatten().filter(whole).count()
    }
}

fn paper(id: &str, version: u64, values: &[f32]) -> Mutation {
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: vec![ChunkVector {
            chunk: 0,
            passage: None,
            values: values.to_vec(),
        }],
    };
    let record = DocumentRecord::new(Document::new(id), set).unwrap();
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}

/// Content that the server refuses and the adapter did not foresee.
#[tokio::test(flavor = "multi_thread")]
async fn one_document_that_the_server_refuses_leaves_its_neighbours() {
    let papers = Papers::on(Model {
        refuses: Some("poison"),
        ..Model::default()
    })
    .await;
    let id = |n: u64| match n {
        42 => "poison".to_owned(),
        n => format!("{n}"),
    };
    let batch = (0..100).map(|n| paper(&id(n), n + 1, &[1.0])).collect();
    let kinds = papers.apply(batch).await;
    let ids: Arc<[Arc<str>]> = (0..100).map(|n| Arc::from(id(n))).collect();
    let request = IdsRequest::new(papers.key.clone(), ids);
    let heads = papers.store.heads(request).await.unwrap();
    for (n, (kind, head)) in kinds.into_iter().zip(heads).enumerate() {
        let expected = (n == 42).then_some(BackendErrorKind::Refused);
        assert_eq!((kind, head.is_none()), (expected, n == 42), "{n}");
    }
}

/// The adapter refuses what does not fit the collection; then there may be nothing left to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_last_documents_are_all_refused_leaves_the_others_whole() {
    let papers = Papers::on(Model::default()).await;
    let id = |n: u64| format!("{n}");
    let before = (0..10).map(|n| paper(&id(n), n + 1, &[1.0])).collect();
    assert_eq!(papers.apply(before).await, [None; 10]);

    // The first ones fill one request's worth of documents.
    let fitting = (10..42).map(|n| paper(&id(n), n + 1, &[1.0]));
    let refused = (42..45).map(|n| paper(&id(n), n + 1, &[1.0, 2.0]));
    let kinds = papers.apply(fitting.chain(refused).collect()).await;
    assert_eq!(kinds[..32], [None; 32]);
    assert_eq!(kinds[32..], [Some(BackendErrorKind::Refused); 3]);
    assert_eq!(papers.whole((0..45).map(id)).await, 42);

    let kinds = papers.apply(vec![paper("45", 46, &[])]).await;
    assert_eq!(kinds, [Some(BackendErrorKind::Refused)]);
    assert_eq!(papers.whole((0..46).map(id)).await, 42);
}
