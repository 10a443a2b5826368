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
    backend::{BackendErrorKind, BackendFactory, OpenContext},
    conformance::{Instance, Subject, Suite, guarded},
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

/// Content that the server refuses and the adapter did not foresee.
#[tokio::test(flavor = "multi_thread")]
async fn one_document_that_the_server_refuses_leaves_its_neighbours() {
    use dbmanager_core::{
        backend::{AnyBackend, ApplyRequest, CreateCollectionRequest, IdsRequest, Mutation},
        model::{
            ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
            EmbeddingSpace, Metric, VectorOrigin, VectorSet, Version,
        },
    };

    let served = Served::start(Model {
        refuses: Some("poison"),
        ..Model::default()
    });
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
    let id = |n: u64| match n {
        42 => "poison".to_owned(),
        n => format!("{n}"),
    };
    let batch: Vec<Mutation> = (0..100)
        .map(|n| {
            let set = VectorSet {
                origin: VectorOrigin::Caller,
                text_hash: None,
                vectors: vec![ChunkVector {
                    chunk: 0,
                    passage: None,
                    values: vec![1.0],
                }],
            };
            let record = DocumentRecord::new(Document::new(id(n)), set).unwrap();
            Mutation::upsert(id(n), Version::from_u64(n + 1), Arc::new(record))
        })
        .collect();
    let answers = store
        .apply(ApplyRequest::new(key.clone(), 1, batch))
        .await
        .unwrap();
    let ids: Arc<[Arc<str>]> = (0..100).map(|n| Arc::from(id(n))).collect();
    let heads = store.heads(IdsRequest::new(key, ids)).await.unwrap();
    for (n, (answer, head)) in answers.iter().zip(heads).enumerate() {
        let kind = answer.as_ref().err().map(|error| error.kind());
        let expected = (n == 42).then_some(BackendErrorKind::Refused);
        assert_eq!((kind, head.is_none()), (expected, n == 42), "{n}");
    }
}
