//! The server under test, and stores of one's own on it.

use std::sync::{Arc, Mutex, PoisonError};

use dbmanager_backend_graph::neo4j::Neo4jFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, BackendFactory, BackendResult, GraphBackend, OpenContext, ServiceConfig,
    },
    conformance::Instance,
};
use neo4rs::{Graph, Query};

use crate::environment::{NEO4J, unique};

/// A server by its address, `bolt://user:password@host:port`.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) uri: String,
    pub(super) user: String,
    pub(super) password: String,
    namespaces: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Option<Self> {
        NEO4J.address().map(|address| Self::at(&address))
    }

    pub(super) fn at(address: &str) -> Self {
        let (scheme, rest) = address.split_once("://").expect("an address has a scheme");
        let (credentials, place) = rest.split_once('@').expect("an address has credentials");
        let (user, password) = credentials.split_once(':').expect("user and password");
        Self {
            uri: format!("{scheme}://{}", place.trim_end_matches('/')),
            user: user.to_owned(),
            password: password.to_owned(),
            namespaces: Arc::default(),
        }
    }

    /// A namespace that goes with [`Server::clean`].
    pub(super) fn namespace(&self) -> String {
        let namespace = unique("neo4j");
        let namespaces = self.namespaces.lock();
        let mut namespaces = namespaces.unwrap_or_else(PoisonError::into_inner);
        namespaces.push(namespace.clone());
        namespace
    }

    pub(super) fn config(&self, namespace: &str) -> ServiceConfig {
        let mut config = ServiceConfig::new();
        for (key, value) in [
            ("uri", &*self.uri),
            ("username", &self.user),
            ("password", &self.password),
            ("namespace", namespace),
        ] {
            config.insert(key.to_owned(), value.into());
        }
        config
    }

    /// An empty store of its own.
    pub(super) fn instance(&self) -> Instance {
        let config = self.config(&self.namespace());
        config.into_iter().fold(
            Instance::new(Neo4jFactory::new()),
            |instance, (key, value)| instance.setting(&key, value),
        )
    }

    pub(super) async fn open(&self, namespace: &str) -> BackendResult<Arc<dyn GraphBackend>> {
        open(&self.config(namespace)).await
    }

    /// The client itself, for looking and for tampering behind the adapter's back.
    pub(super) fn client(&self) -> Graph {
        Graph::new(&*self.uri, &*self.user, &*self.password).expect("the address is right")
    }

    /// Runs a statement behind the adapter's back.
    pub(super) async fn run(&self, statement: &str) {
        let client = self.client();
        let mut answer = client.execute(statement).await.expect("the statement runs");
        while answer.next().await.expect("the statement runs").is_some() {}
    }

    /// Removes every namespace that was handed out, with its constraints and indexes.
    pub(super) async fn clean(&self) {
        let namespaces = std::mem::take(
            &mut *self
                .namespaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for namespace in namespaces {
            self.remove(&namespace).await;
        }
    }

    async fn remove(&self, namespace: &str) {
        let client = self.client();
        let query = Query::new(
            "SHOW CONSTRAINTS YIELD name WHERE name STARTS WITH $prefix RETURN name AS constraint,
             null AS index"
                .to_owned(),
        );
        let constraints = names(&client, query, namespace, "constraint").await;
        for name in constraints {
            self.run(&format!("DROP CONSTRAINT {name} IF EXISTS")).await;
        }
        let query = Query::new(
            "SHOW INDEXES YIELD name WHERE name STARTS WITH $prefix RETURN name AS index"
                .to_owned(),
        );
        for name in names(&client, query, namespace, "index").await {
            self.run(&format!("DROP INDEX {name} IF EXISTS")).await;
        }
        for label in ["Document", "Target", "Collection", "Lane", "Store"] {
            self.run(&format!(
                "MATCH (n:{namespace}_{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
            ))
            .await;
        }
    }
}

async fn names(client: &Graph, query: Query, namespace: &str, column: &str) -> Vec<String> {
    let query = query.param("prefix", format!("{namespace}_"));
    let mut answer = client.execute_read(query).await.unwrap();
    let mut names = Vec::new();
    while let Some(row) = answer.next().await.unwrap() {
        names.push(row.get(column).unwrap());
    }
    names
}

pub(super) async fn open(config: &ServiceConfig) -> BackendResult<Arc<dyn GraphBackend>> {
    open_with(config, OpenContext::new(Runtime::tokio())).await
}

pub(super) async fn open_with(
    config: &ServiceConfig,
    context: OpenContext,
) -> BackendResult<Arc<dyn GraphBackend>> {
    match Neo4jFactory::new().open(config, &context).await? {
        AnyBackend::Graph(graph) => Ok(graph),
        other => panic!("opened as {}", other.role()),
    }
}
