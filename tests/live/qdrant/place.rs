//! A prefix of a test's own on a server, removed in the end, and what tests do there.

use std::sync::Arc;

use dbmanager_backend_vector::qdrant::QdrantFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendFactory, BackendResult, CreateCollectionRequest, Head,
        IdsRequest, Mutation, OpenContext, ServiceConfig, Stamp, StampRequest, VectorBackend,
        VectorHit, VectorSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        EmbeddingSpace, JournalId, Metric, StoreId, VectorOrigin, VectorSet, Version,
    },
};
use serde_json::{Value, json};

use super::rest::{Rest, api_key};
use crate::environment::{QDRANT, report, unique};

pub(super) struct Place {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) rest: Rest,
    key: Option<String>,
}

impl Place {
    /// A place on the server that the environment names, if it does.
    pub(super) fn on_the_server() -> Option<Self> {
        QDRANT.address().map(|url| Self::new(&url, api_key()))
    }

    pub(super) fn new(url: &str, key: Option<String>) -> Self {
        Self {
            url: url.to_owned(),
            prefix: unique("qdrant_test"),
            rest: Rest::new(url, key.clone()),
            key,
        }
    }

    pub(super) fn config(&self) -> ServiceConfig {
        let mut config = json!({"url": self.url, "collection_prefix": self.prefix});
        if let Some(key) = &self.key {
            config["api_key"] = json!(key);
        }
        config.as_object().unwrap().clone()
    }

    pub(super) async fn open(&self) -> BackendResult<Arc<dyn VectorBackend>> {
        open(&self.config(), &context()).await
    }

    /// An open store with the collection [`papers`] and the stamp of epoch 1.
    pub(super) async fn filled(&self) -> Arc<dyn VectorBackend> {
        let store = self.open().await.unwrap();
        store
            .write_stamp(StampRequest::new(stamp(1)))
            .await
            .unwrap();
        create(&*store, papers()).await.unwrap();
        store
    }

    /// The server's name of the only collection that is not the stamp's.
    pub(super) fn physical_name(&self) -> String {
        let prefix = format!("{}.", self.prefix);
        let mut names = self.rest.collections(&prefix).unwrap();
        names.retain(|name| !name.ends_with(".stamp"));
        assert_eq!(names.len(), 1, "{names:?}");
        names.remove(0)
    }

    /// Removes everything, as an operator would.
    pub(super) fn wipe(&self) -> Result<(), String> {
        for name in self.rest.collections(&format!("{}.", self.prefix))? {
            self.rest.delete(&name)?;
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.wipe() {
            report(&format!("qdrant: {} is left behind: {error}", self.prefix));
        }
    }
}

pub(super) fn context() -> OpenContext {
    OpenContext::new(Runtime::tokio())
}

pub(super) async fn open(
    config: &ServiceConfig,
    context: &OpenContext,
) -> BackendResult<Arc<dyn VectorBackend>> {
    match QdrantFactory::new().open(config, context).await? {
        AnyBackend::Vector(store) => Ok(store),
        other => panic!("a vector store, not {other:?}"),
    }
}

pub(super) fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    }
}

pub(super) fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

pub(super) fn with_dimension(dimension: u32) -> Collection {
    Collection {
        key: key(),
        options: CollectionOptions::new().embedding_space(
            EmbeddingSpace::CALLER,
            dimension,
            Metric::Cosine,
        ),
    }
}

pub(super) fn papers() -> Collection {
    with_dimension(3)
}

pub(super) async fn create(store: &dyn VectorBackend, collection: Collection) -> BackendResult<()> {
    let request = CreateCollectionRequest::new(collection, 1);
    store.create_collection(request).await
}

pub(super) fn version(number: u64) -> Version {
    Version::from_u64(Version::from_parts(1_760_000_000_000, 0).as_u64() + number)
}

pub(super) fn upsert(number: u64, document: Document) -> Mutation {
    let vectors = document.vectors.iter().zip(0..);
    let vectors = vectors.map(|(vector, chunk)| ChunkVector {
        chunk,
        passage: vector.passage,
        values: vector.values.clone(),
    });
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: vectors.collect(),
    };
    let id = document.id.clone();
    let record = DocumentRecord::new(document, set).unwrap();
    Mutation::upsert(id, version(number), Arc::new(record))
}

pub(super) async fn apply(
    store: &dyn VectorBackend,
    epoch: u64,
    mutations: Vec<Mutation>,
) -> BackendResult<Vec<BackendResult<()>>> {
    store
        .apply(ApplyRequest::new(key(), epoch, mutations))
        .await
}

/// Applies a batch of which every item succeeds.
pub(super) async fn put(store: &dyn VectorBackend, mutations: Vec<Mutation>) -> BackendResult<()> {
    apply(store, 1, mutations).await?.into_iter().collect()
}

pub(super) async fn heads(store: &dyn VectorBackend, ids: &[&str]) -> Vec<Option<Head>> {
    let ids: Arc<[Arc<str>]> = ids.iter().map(|id| Arc::from(*id)).collect();
    store.heads(IdsRequest::new(key(), ids)).await.unwrap()
}

pub(super) async fn search(
    store: &dyn VectorBackend,
    vector: &[f32],
    limit: usize,
) -> BackendResult<Vec<VectorHit>> {
    let request = VectorSearchRequest::new(key(), vector, limit);
    store.search_vectors(request).await
}

/// The payloads of the server's points of this kind.
pub(super) fn points(place: &Place, kind: &str) -> Vec<Value> {
    let path = format!("/collections/{}/points/scroll", place.physical_name());
    let filter = json!({"must": [{"key": "kind", "match": {"value": kind}}]});
    let body = json!({"filter": filter, "limit": 10_000, "with_vector": true});
    let result = place.rest.call("POST", &path, &body).unwrap();
    result["points"].as_array().unwrap().clone()
}
