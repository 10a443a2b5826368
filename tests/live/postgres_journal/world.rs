//! One journal, one set of stores, and the managers that share them.

use std::time::Duration;

use dbmanager::{DatabaseManager, Result, config::Config, model::Role};
use dbmanager_core::{
    backend::ServiceConfig,
    memory::{MemoryFactory, MemoryPlace},
};
use serde_json::json;

use crate::{environment::POSTGRES, postgres::place::Place};

/// How long anything may take that must happen.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) fn journal_config(url: &str, schema: &str) -> ServiceConfig {
    let config = json!({"url": url, "schema": schema});
    config.as_object().cloned().unwrap()
}

/// What several managers open.
pub(super) struct World {
    pub(super) place: Place,
    stores: [MemoryPlace; 3],
    pub(super) lease: Duration,
    relational_on_server: bool,
}

impl World {
    /// Stores in memory; `None`, with a line in the report, without a server.
    pub(super) fn new(lease: Duration) -> Option<Self> {
        Some(Self::at(&POSTGRES.address()?, lease))
    }

    pub(super) fn at(url: &str, lease: Duration) -> Self {
        Self {
            place: Place::at(url),
            stores: Default::default(),
            lease,
            relational_on_server: false,
        }
    }

    /// With the relational store in the journal's schema.
    pub(super) fn with_relational_on_server(mut self) -> Self {
        self.relational_on_server = true;
        self
    }

    pub(super) fn config(&self) -> Config {
        let relational = if self.relational_on_server {
            json!({"type": "postgres", "config": {
                "url": self.place.url(), "schema": self.place.schema()
            }})
        } else {
            json!({"type": "memory"})
        };
        let config = json!({
            "vector": {"type": "memory"},
            "graph": {"type": "memory"},
            "relational": relational,
            "journal": {"type": "postgres", "config": {
                "url": self.place.url(),
                "schema": self.place.schema(),
                "lease": self.lease.as_secs_f64(),
            }},
            // So that what a stopped server leaves behind is noticed soon.
            "performance": {"query_timeout": "6s"},
        });
        Config::from_json(&config.to_string()).unwrap()
    }

    pub(super) fn builder(&self, config: Config) -> dbmanager::ManagerBuilder {
        let mut builder = dbmanager::builder(config);
        for (role, place) in Role::ALL.into_iter().zip(&self.stores) {
            builder = builder.register(MemoryFactory::of(role).at(place));
        }
        builder
    }

    /// Where the store in memory is kept.
    pub(super) fn store(&self, role: Role) -> &MemoryPlace {
        let place = Role::ALL.into_iter().zip(&self.stores);
        place.into_iter().find(|(of, _)| *of == role).unwrap().1
    }

    /// Puts another store in memory in the place of one.
    pub(super) fn set_store(&mut self, role: Role, place: MemoryPlace) {
        let at = Role::ALL.iter().position(|of| *of == role).unwrap();
        self.stores[at] = place;
    }

    pub(super) async fn open(&self) -> DatabaseManager {
        self.try_open(self.config()).await.unwrap()
    }

    pub(super) async fn try_open(&self, config: Config) -> Result<DatabaseManager> {
        self.builder(config).open().await
    }
}

pub(super) fn sends(db: &DatabaseManager) -> bool {
    db.health().journal.sharing.unwrap().sends
}

/// Waits until the condition holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Waits until no store has anything left to receive, and compares them all.
pub(super) async fn assert_all_equal(db: &DatabaseManager, documents: u64) {
    until("every store has caught up", async || {
        db.health().stores.iter().all(|store| store.backlog == 0)
    })
    .await;
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    assert_eq!(report.stores.len(), 3);
    for store in &report.stores {
        assert_eq!(
            (store.documents, store.pending),
            (documents, 0),
            "{report:?}"
        );
    }
}

/// A manager in a runtime of its own, which can be killed as a process can.
pub(super) struct Instance {
    runtime: Option<tokio::runtime::Runtime>,
    db: Option<DatabaseManager>,
}

impl Instance {
    pub(super) async fn open(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let builder = world.builder(world.config());
        let db = runtime.spawn(builder.open()).await.unwrap().unwrap();
        Self {
            runtime: Some(runtime),
            db: Some(db),
        }
    }

    pub(super) fn db(&self) -> &DatabaseManager {
        self.db.as_ref().unwrap()
    }

    /// Stands still for so long, as a machine does that is suspended.
    pub(super) fn pause(&self, time: Duration) {
        if let Some(runtime) = &self.runtime {
            // Its only thread.
            runtime.spawn(async move { std::thread::sleep(time) });
        }
    }

    /// Ends everything at once: nothing is finished, nothing is given up.
    pub(super) fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // Forgotten: its drop would begin to close.
        std::mem::forget(self.db.take());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
