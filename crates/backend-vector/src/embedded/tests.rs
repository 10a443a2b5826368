//! The store as a whole.

use std::{path::Path, sync::Arc};

use dbmanager_core::{
    Runtime,
    backend::{
        ApplyRequest, Backend, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest, Effect, IdsRequest, ListRequest, Mutation, OpenContext, Stamp,
        StampRequest, VectorBackend, VectorHit, VectorSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, ContentHash, Document,
        DocumentRecord, Filter, JournalId, Metric, Passage, StoreId, VectorOrigin, VectorSet,
        Version, field,
    },
};
use proptest::prelude::*;
use serde_json::json;

use super::store::Embedded;

mod basics;
#[cfg(feature = "hnsw")]
mod hnsw;
mod model;

fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

async fn open_with(directory: &Path, config: serde_json::Value) -> BackendResult<Embedded> {
    let context = OpenContext::new(Runtime::tokio()).data_directory(directory);
    super::open(config.as_object().unwrap(), &context).await
}

async fn open(directory: &Path) -> Embedded {
    open_with(directory, json!({})).await.unwrap()
}

async fn create(store: &Embedded, options: CollectionOptions) -> BackendResult<()> {
    let collection = Collection {
        key: key(),
        options,
    };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
}

async fn new_store(directory: &Path) -> Embedded {
    let store = open(directory).await;
    create(&store, CollectionOptions::new()).await.unwrap();
    store
}

fn upsert(document: Document, version: u64, sets: &[Vec<f32>]) -> Mutation {
    let vectors = (0..)
        .zip(sets)
        .map(|(chunk, values)| ChunkVector {
            chunk,
            passage: Some(Passage {
                start: chunk * 10,
                end: chunk * 10 + 10,
            }),
            values: values.clone(),
        })
        .collect();
    let id = document.id.clone();
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors,
    };
    let record = DocumentRecord::new(document, set).unwrap();
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}

fn plain(id: &str, version: u64, sets: &[Vec<f32>]) -> Mutation {
    upsert(Document::new(id), version, sets)
}

fn delete(id: &str, version: u64) -> Mutation {
    Mutation::delete(id, Version::from_u64(version))
}

async fn try_apply(
    store: &Embedded,
    mutations: Vec<Mutation>,
) -> BackendResult<Vec<BackendResult<()>>> {
    store.apply(ApplyRequest::new(key(), 1, mutations)).await
}

async fn apply(store: &Embedded, mutations: Vec<Mutation>) {
    for answer in try_apply(store, mutations).await.unwrap() {
        answer.unwrap();
    }
}

async fn search(store: &Embedded, vector: &[f32], limit: usize) -> Vec<VectorHit> {
    store
        .search_vectors(VectorSearchRequest::new(key(), vector.to_vec(), limit))
        .await
        .unwrap()
}

fn ids(hits: &[VectorHit]) -> Vec<&str> {
    hits.iter().map(|hit| &*hit.id).collect()
}

fn ids_request(ids: &[&str]) -> IdsRequest {
    let ids: Vec<Arc<str>> = ids.iter().map(|id| Arc::from(*id)).collect();
    IdsRequest::new(key(), ids)
}

/// A second connection to the file, as another program has one.
fn other_program(directory: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(directory.join("vector.db")).unwrap()
}
