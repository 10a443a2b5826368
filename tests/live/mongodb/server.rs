//! The servers under test, and databases of one's own on them.

use std::{future::Future, sync::Arc};

use dbmanager_backend_relational::mongodb::MongodbFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, RelationalBackend, ServiceConfig,
    },
    conformance::Instance,
};
use mongodb::{Client, bson::Document};

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
    pub(super) async fn collection(&self, name: &str) -> mongodb::Collection<Document> {
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
