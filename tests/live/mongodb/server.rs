//! The servers under test, and databases of one's own on them.

use std::{future::Future, sync::Arc, time::Duration};

use dbmanager_backend_relational::mongodb::MongodbFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendFactory, BackendResult, CreateCollectionRequest,
        IdsRequest, Mutation, OpenContext, RelationalBackend, ServiceConfig, Stamp, StampRequest,
    },
    conformance::Instance,
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, JournalId, StoreId,
        Tokenizer, VectorSet, Version,
    },
};
use mongodb::{Client, bson};

use crate::environment::{self, FERRETDB, MONGODB, unique};

/// A server that speaks MongoDB's protocol.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) uri: String,
}

impl Server {
    /// Those that are named.
    pub(super) fn all() -> Vec<Self> {
        let named = |server: environment::Server| {
            let uri = server.address()?;
            Some(Self {
                name: server.name,
                uri,
            })
        };
        [FERRETDB, MONGODB].into_iter().filter_map(named).collect()
    }

    /// What a report calls it.
    pub(super) fn subject(&self, what: &str) -> String {
        format!("mongodb on {}: {what}", self.name)
    }

    /// A new database of one's own.
    pub(super) fn database(&self) -> Database {
        Database {
            server: self.clone(),
            name: unique("dbmanager_test"),
        }
    }
}

/// A database of one's own.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) server: Server,
    pub(super) name: String,
}

impl Database {
    /// The configuration of a store in it, apart from others by its prefix.
    pub(super) fn config(&self, prefix: &str) -> ServiceConfig {
        let mut config = ServiceConfig::new();
        config.insert("uri".to_owned(), self.server.uri.clone().into());
        config.insert("database".to_owned(), self.name.clone().into());
        config.insert("collection_prefix".to_owned(), prefix.into());
        config
    }

    /// A store that no other test uses.
    pub(super) fn instance(&self) -> Instance {
        let config = self.config(&unique("s"));
        config.into_iter().fold(
            Instance::new(MongodbFactory::new()),
            |instance, (key, value)| instance.setting(&key, value),
        )
    }

    /// Opens the store under this prefix.
    pub(super) async fn open(&self, prefix: &str) -> BackendResult<Arc<dyn RelationalBackend>> {
        let context = OpenContext::new(Runtime::tokio());
        open(&self.config(prefix), &context).await
    }

    /// The driver, to do things behind the adapter's back.
    pub(super) async fn behind_its_back(&self) -> mongodb::Database {
        let client = Client::with_uri_str(&self.server.uri).await.unwrap();
        client.database(&self.name)
    }

    /// A physical collection behind the adapter's back.
    pub(super) async fn collection(&self, name: &str) -> mongodb::Collection<bson::Document> {
        self.behind_its_back().await.collection(name)
    }

    /// Runs a test, and removes the database whether or not it passed.
    pub(super) async fn clean_up_after(&self, test: impl Future<Output = ()> + Send + 'static) {
        let ended = tokio::spawn(test).await;
        self.behind_its_back().await.drop().await.unwrap();
        if let Err(failed) = ended {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

/// Opens a store of this configuration.
pub(super) async fn open(
    config: &ServiceConfig,
    context: &OpenContext,
) -> BackendResult<Arc<dyn RelationalBackend>> {
    match MongodbFactory::new().open(config, context).await? {
        AnyBackend::Relational(store) => Ok(store),
        other => panic!("{other:?} is not relational"),
    }
}

/// A context whose attempts end after this time.
pub(super) fn context(milliseconds: u64) -> OpenContext {
    OpenContext::new(Runtime::tokio()).attempt_timeout(Duration::from_millis(milliseconds))
}

/// The collection that tests write.
pub(super) fn papers() -> Collection {
    Collection {
        key: CollectionKey::new("papers", 1),
        options: CollectionOptions::new().tokenizer(Tokenizer::Unicode),
    }
}

/// Stamps the store and creates [`papers`].
pub(super) async fn prepare(store: &dyn RelationalBackend) {
    store
        .write_stamp(StampRequest::new(stamp(1)))
        .await
        .unwrap();
    store
        .create_collection(CreateCollectionRequest::new(papers(), 1))
        .await
        .unwrap();
}

/// The stamp of this epoch.
pub(super) fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    }
}

/// A write of a document without vectors.
pub(super) fn put(version: u64, document: Document) -> Mutation {
    let record = DocumentRecord::new(document, VectorSet::empty()).unwrap();
    let id = record.document().id.clone();
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}

/// Writes to [`papers`].
pub(super) async fn apply(
    store: &dyn RelationalBackend,
    mutations: impl Into<Arc<[Mutation]>>,
) -> BackendResult<Vec<BackendResult<()>>> {
    let request = ApplyRequest::new(papers().key, 1, mutations);
    store.apply(request).await
}

/// Writes to [`papers`] what the store must take.
pub(super) async fn write(store: &dyn RelationalBackend, mutations: impl Into<Arc<[Mutation]>>) {
    for answer in apply(store, mutations).await.unwrap() {
        answer.unwrap();
    }
}

/// These ids of [`papers`].
pub(super) fn ids<const N: usize>(ids: [&str; N]) -> IdsRequest {
    IdsRequest::new(papers().key, ids.map(Arc::from))
}

/// The version held of an id of [`papers`].
pub(super) async fn version_of(store: &dyn RelationalBackend, id: &str) -> Option<u64> {
    let heads = store.heads(ids([id])).await.unwrap();
    heads[0].map(|head| head.version.as_u64())
}

/// The record held of an id of [`papers`].
pub(super) async fn record_of(store: &dyn RelationalBackend, id: &str) -> Arc<DocumentRecord> {
    let found = store.get(ids([id])).await.unwrap().remove(0).unwrap();
    Arc::clone(found.state.record().unwrap())
}
