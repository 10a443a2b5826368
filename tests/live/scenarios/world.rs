//! A manager's surroundings: a namespace on a server behind a proxy, a directory, a journal.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dbmanager::{ManagerBuilder, prelude::*};
use dbmanager_core::{
    backend::{AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig},
    config::Settings,
};
use tokio::sync::watch;

use super::waiting::{PATIENCE, settled};
use crate::{
    environment::unique,
    proxy::{Fault, Proxy},
    stores::LiveStore,
};

/// Of most servers; see [`World::query_timeout`].
const QUERY_TIMEOUT: Duration = Duration::from_secs(6);

/// What outlives the managers of a scenario.
pub(super) struct World {
    pub(super) store: LiveStore,
    pub(super) proxy: Proxy,
    /// The server's own address.
    address: String,
    /// The address that leads through the proxy.
    through_proxy: String,
    namespace: String,
    place: Place,
    home: tempfile::TempDir,
    query_timeout: Duration,
}

/// Where the store is the next time it is opened.
#[derive(Clone)]
struct Place {
    config: Arc<Mutex<ServiceConfig>>,
    /// Whether it was opened since it was moved there.
    reached: watch::Sender<bool>,
}

impl Place {
    fn new(config: ServiceConfig) -> Self {
        Self {
            config: Arc::new(Mutex::new(config)),
            reached: watch::Sender::new(false),
        }
    }

    fn config(&self) -> ServiceConfig {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.clone()
    }

    fn set(&self, config: ServiceConfig) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.reached.send_replace(false);
    }
}

impl World {
    pub(super) async fn new(store: LiveStore, address: &str) -> Self {
        let (proxy, through_proxy) = Proxy::before(address).await.unwrap();
        let namespace = unique("scenario");
        let place = Place::new(store.config(&through_proxy, &namespace));
        Self {
            store,
            proxy,
            address: address.to_owned(),
            through_proxy,
            namespace,
            place,
            home: tempfile::tempdir().unwrap(),
            query_timeout: PATIENCE,
        }
    }

    /// For scenarios in which the wire misbehaves: attempts that nobody answers end soon.
    pub(super) fn impatient(mut self) -> Self {
        self.query_timeout = self.query_timeout();
        self
    }

    /// The longest a read may take while the wire misbehaves; an attempt gets a third of it.
    pub(super) fn query_timeout(&self) -> Duration {
        QUERY_TIMEOUT * self.store.patience
    }

    pub(super) fn role(&self) -> Role {
        self.store.role
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where the journal is while no other place is named.
    pub(super) fn journal(&self) -> PathBuf {
        self.home().join("journal")
    }

    /// From the next opening of the store on, it is reached past the proxy.
    pub(super) fn go_past_the_proxy(&self) {
        self.place
            .set(self.store.config(&self.address, &self.namespace));
    }

    /// From the next opening of the store on, its namespace is another, empty one: as after
    /// somebody has wiped it.
    pub(super) fn go_to_an_empty_namespace(&self) {
        let empty = unique("scenario");
        self.place
            .set(self.store.config(&self.through_proxy, &empty));
    }

    /// Waits until the store is being opened where it was moved to.
    pub(super) async fn until_moved(&self) {
        let mut reached = self.place.reached.subscribe();
        let moved = tokio::time::timeout(PATIENCE, reached.wait_for(|reached| *reached)).await;
        moved
            .expect("a store that does not answer is opened anew")
            .expect("the sender is kept here");
    }

    /// The embedded stores alone.
    pub(super) fn embedded(&self) -> Config {
        let query_timeout = self.query_timeout;
        Config::embedded(self.home())
            .write(Level::Quorum, PATIENCE)
            .adjust(move |settings| adjust(settings, query_timeout))
    }

    /// The server in its role, embedded stores in the others.
    pub(super) fn config(&self) -> Config {
        let place = self.place.config();
        self.embedded()
            .store(self.role(), self.store.service, place)
    }

    /// With a store that follows the world's place whenever it is opened.
    pub(super) fn builder(&self, config: Config) -> ManagerBuilder {
        let inner = dbmanager::registry()
            .factory(self.role(), self.store.service)
            .unwrap();
        dbmanager::builder(config).register(Moving {
            inner,
            place: self.place.clone(),
        })
    }

    pub(super) async fn open(&self) -> DatabaseManager {
        self.open_with(self.config()).await
    }

    pub(super) async fn open_with(&self, config: Config) -> DatabaseManager {
        self.builder(config).open().await.unwrap()
    }

    /// Ends what the scenario did to the wire, and the manager; nothing stays in the namespace but
    /// its stamp.
    pub(super) async fn finish(self, db: DatabaseManager) {
        self.proxy.set(Fault::None).await;
        settled(&db).await;
        for collection in db.collections() {
            let name = collection.key.name;
            db.drop_collection(&*name).level(Level::All).await.unwrap();
        }
        close(db).await;
    }
}

/// Times that suit a test: a slow server is waited for, and one that is back is seen soon.
fn adjust(settings: &mut Settings, query_timeout: Duration) {
    settings.performance.query_timeout = query_timeout;
    settings.search.timeout = PATIENCE;
    settings.health.interval = Duration::from_millis(200);
    settings.health.timeout = Duration::from_secs(2);
    settings.health.failure_threshold = 2;
}

pub(super) async fn close(db: DatabaseManager) {
    db.close(PATIENCE).await.unwrap();
}

/// The service, at the place that the world names when the store is opened.
struct Moving {
    inner: Arc<dyn BackendFactory>,
    place: Place,
}

#[async_trait]
impl BackendFactory for Moving {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn service(&self) -> &str {
        self.inner.service()
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        self.inner.location(config, context)
    }

    async fn open(&self, _: &ServiceConfig, context: &OpenContext) -> BackendResult<AnyBackend> {
        self.place.reached.send_replace(true);
        self.inner.open(&self.place.config(), context).await
    }
}
