//! The adapter `redis` on servers with the query engine, and with vector sets only.

mod access;
mod cluster;
mod facade;
mod faults;
mod layout;
mod own;
mod search;
mod stamps;
mod wire;

use std::{ops::Deref, sync::Arc, time::Duration};

use dbmanager_backend_vector::redis::RedisFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendFactory, BackendResult, CreateCollectionRequest,
        IdsRequest, Mutation, OpenContext, ServiceConfig, Stamp, StampRequest, VectorBackend,
        VectorHit, VectorSearchRequest,
    },
    conformance::{Instance, Subject},
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        EmbeddingSpace, JournalId, Metric, StoreId, VectorOrigin, VectorSet, Version,
    },
};
use serde_json::{Value, json};

use crate::{
    environment::{REDIS, REDIS_VECTOR_SETS, unique},
    suite,
};
use wire::Sweeper;

/// A namespace of its own on this server, removed when it is no longer used.
fn fresh(url: &str) -> Instance {
    let namespace = unique("conformance");
    Instance::new(RedisFactory::new())
        .setting("url", url)
        .setting("namespace", namespace.as_str())
        .keep(Sweeper::new(url, &namespace))
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_the_query_engine_conforms() {
    let Some(url) = REDIS.address() else { return };
    suite::conforms(Subject::new("redis, query engine", move || fresh(&url))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_an_index_without_approximation_conforms() {
    let Some(url) = REDIS.address() else { return };
    let flat = move || fresh(&url).setting("index", "flat");
    suite::conforms(Subject::new("redis, query engine, flat index", flat)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_vector_sets_conforms() {
    let Some(url) = REDIS_VECTOR_SETS.address() else {
        return;
    };
    suite::conforms(Subject::new("redis, vector sets", move || fresh(&url))).await;
}

/// A place on a server: its address, a namespace of its own, and further settings.
#[derive(Clone)]
struct Place {
    settings: ServiceConfig,
    timeout: Duration,
    pool_size: usize,
    _sweeper: Arc<Sweeper>,
}

impl Place {
    fn new(url: &str) -> Self {
        let namespace = unique("named");
        let place = Self {
            settings: ServiceConfig::new(),
            timeout: Duration::from_secs(10),
            pool_size: 4,
            _sweeper: Arc::new(Sweeper::new(url, &namespace)),
        };
        place.with("url", url).with("namespace", namespace)
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(key.to_owned(), value.into());
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.settings.remove(key);
        self
    }

    fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn pool_size(mut self, pool_size: usize) -> Self {
        self.pool_size = pool_size;
        self
    }

    fn namespace(&self) -> &str {
        self.settings["namespace"].as_str().unwrap()
    }

    /// A key of the namespace.
    fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.namespace())
    }

    async fn try_open(&self) -> BackendResult<Arc<dyn VectorBackend>> {
        let context = OpenContext::new(Runtime::tokio())
            .pool_size(self.pool_size)
            .attempt_timeout(self.timeout);
        let opened = RedisFactory::new().open(&self.settings, &context).await?;
        match opened {
            AnyBackend::Vector(backend) => Ok(backend),
            other => panic!("{other:?} is no vector store"),
        }
    }

    async fn open(&self) -> Store {
        Store {
            backend: self.try_open().await.unwrap(),
            _place: self.clone(),
        }
    }

    /// Opened, stamped, and with the collection.
    async fn store(&self) -> Store {
        let store = self.open().await;
        store
            .write_stamp(StampRequest::new(stamp(1)))
            .await
            .unwrap();
        create(&store, 3).await.unwrap();
        store
    }
}

/// An open store; its namespace is removed when neither it nor its place is used any more.
struct Store {
    backend: Arc<dyn VectorBackend>,
    _place: Place,
}

impl Deref for Store {
    type Target = Arc<dyn VectorBackend>;

    fn deref(&self) -> &Self::Target {
        &self.backend
    }
}

/// The servers there are, each with its name.
fn both() -> Vec<(&'static str, String)> {
    [("query engine", REDIS), ("vector sets", REDIS_VECTOR_SETS)]
        .into_iter()
        .filter_map(|(name, server)| Some((name, server.address()?)))
        .collect()
}

fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    }
}

fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

async fn create(store: &Arc<dyn VectorBackend>, dimension: u32) -> BackendResult<()> {
    let options =
        CollectionOptions::new().embedding_space(EmbeddingSpace::CALLER, dimension, Metric::Cosine);
    let collection = Collection {
        key: key(),
        options,
    };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
}

fn record(document: Document) -> Arc<DocumentRecord> {
    let vectors = document
        .vectors
        .iter()
        .zip(0..)
        .map(|(vector, chunk)| ChunkVector {
            chunk,
            passage: vector.passage,
            values: vector.values.clone(),
        })
        .collect();
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors,
    };
    Arc::new(DocumentRecord::new(document, set).unwrap())
}

fn version(number: u64) -> Version {
    Version::from_u64(Version::from_parts(1_760_000_000_000, 0).as_u64() + number)
}

/// A document with one vector that depends on the number.
fn upsert(id: &str, number: u64) -> Mutation {
    let document =
        Document::new(id)
            .metadata("number", json!(number))
            .vector([1.0, number as f32, 0.5]);
    Mutation::upsert(id, version(number), record(document))
}

async fn apply(
    store: &Arc<dyn VectorBackend>,
    mutations: Vec<Mutation>,
) -> BackendResult<Vec<BackendResult<()>>> {
    store.apply(ApplyRequest::new(key(), 1, mutations)).await
}

async fn put(store: &Arc<dyn VectorBackend>, id: &str, number: u64) {
    for answer in apply(store, vec![upsert(id, number)]).await.unwrap() {
        answer.unwrap();
    }
}

fn ids(list: &[&str]) -> IdsRequest {
    let ids: Vec<Arc<str>> = list.iter().map(|id| Arc::from(*id)).collect();
    IdsRequest::new(key(), ids)
}

async fn held(store: &Arc<dyn VectorBackend>, id: &str) -> Option<Version> {
    let heads = store.heads(ids(&[id])).await.unwrap();
    heads[0].map(|head| head.version)
}

async fn nearest(
    store: &Arc<dyn VectorBackend>,
    vector: impl Into<Arc<[f32]>>,
    limit: usize,
) -> BackendResult<Vec<VectorHit>> {
    let request = VectorSearchRequest::new(key(), vector, limit);
    store.search_vectors(request.exact()).await
}

/// Repeats the call until it is answered, as long as the failure may pass.
async fn eventually<T, F: Future<Output = BackendResult<T>>>(call: impl Fn() -> F) -> T {
    let runtime = Runtime::tokio();
    let begin = runtime.monotonic();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                let waited = runtime.monotonic() - begin;
                assert!(waited < Duration::from_secs(60), "{error}");
            }
        }
        runtime.sleep(Duration::from_millis(20)).await;
    }
}
