//! The server under test, and stores of one's own on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbmanager_backend_graph::neo4j::Neo4jFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, BackendFactory, BackendResult, GraphBackend, OpenContext, ServiceConfig,
    },
    conformance::Instance,
};
use neo4rs::{Graph, Query};
use tokio::task::JoinHandle;

use crate::environment::{NEO4J, unique};

/// A server by its address, `bolt://user:password@host:port`.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) uri: String,
    pub(super) user: String,
    pub(super) password: String,
    namespaces: Arc<Mutex<Vec<String>>>,
    removals: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Removes a namespace when the last user of an [`Instance`] is gone: hundreds of namespaces with
/// their indexes slow a server down.
struct Removal {
    server: Server,
    namespace: String,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let (server, namespace) = (self.server.clone(), self.namespace.clone());
        let removal = tokio::spawn(async move { server.remove(&namespace).await });
        locked(&self.server.removals).push(removal);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            removals: Arc::default(),
        }
    }

    /// A namespace that goes with [`Server::clean`].
    pub(super) fn namespace(&self) -> String {
        let namespace = unique("neo4j");
        locked(&self.namespaces).push(namespace.clone());
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

    /// An empty store of its own, which goes with the last user.
    pub(super) fn instance(&self) -> Instance {
        let namespace = unique("neo4j");
        let config = self.config(&namespace);
        let removal = Removal {
            server: self.clone(),
            namespace,
        };
        config.into_iter().fold(
            Instance::new(Neo4jFactory::new()).keep(removal),
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
        run(&self.client(), statement).await;
    }

    /// Removes every namespace that was handed out, with its constraints and indexes, and waits for
    /// the removals that are under way.
    pub(super) async fn clean(&self) {
        let namespaces = std::mem::take(&mut *locked(&self.namespaces));
        for namespace in namespaces {
            self.remove(&namespace).await;
        }
        let removals = std::mem::take(&mut *locked(&self.removals));
        for removal in removals {
            removal.await.expect("a namespace can be removed");
        }
    }

    async fn remove(&self, namespace: &str) {
        let client = self.client();
        for (what, list) in [("CONSTRAINT", "CONSTRAINTS"), ("INDEX", "INDEXES")] {
            let list = format!("SHOW {list} YIELD name WHERE name STARTS WITH $prefix RETURN name");
            for name in names(&client, Query::new(list), namespace).await {
                run(&client, &format!("DROP {what} {name} IF EXISTS")).await;
            }
        }
        for label in ["Document", "Target", "Collection", "Lane", "Store"] {
            let statement = format!(
                "MATCH (n:{namespace}_{label})
                 CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS"
            );
            run(&client, &statement).await;
        }
    }
}

async fn run(client: &Graph, statement: &str) {
    let mut answer = client.execute(statement).await.expect("the statement runs");
    while answer.next().await.expect("the statement runs").is_some() {}
}

async fn names(client: &Graph, query: Query, namespace: &str) -> Vec<String> {
    let query = query.param("prefix", format!("{namespace}_"));
    let mut answer = client.execute_read(query).await.unwrap();
    let mut names = Vec::new();
    while let Some(row) = answer.next().await.unwrap() {
        names.push(row.get("name").unwrap());
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
