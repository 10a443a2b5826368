//! Opening a manager: configuration → journal → roster → write room → monitor.

use std::sync::Arc;

use super::{DatabaseManager, Inner};
use crate::{
    Error, ErrorKind, Result, Runtime,
    backend::{BackendFactory, OpenContext, Registry},
    cache::Cache,
    config::{Config, JournalSettings, JournalType, Settings},
    embed::{CheckedEmbedder, Embedder, EmbedderFactory, EmbedderRegistry},
    health::{Monitor, MonitorSettings},
    journal::{
        EmbeddedJournal, Journal, JournalError, JournalErrorKind, JournalFactory, JournalOptions,
        JournalSource, MemoryStorage,
    },
    memory::MemoryFactory,
    model::Role,
    resilience::ResilienceSettings,
    roster::{RoleSetting, RosterOpening, open_roster},
    search::SearchRoute,
    write::{WriteParts, WriteRoom, WriteSettings, journal_error},
};

/// Live entries from which on a disabled store (never the authority) is given up for a rebuild.
const DISABLED_BACKLOG: u64 = 100_000;

/// Opens a manager.
#[must_use = "nothing is opened until `open` is awaited"]
pub struct ManagerBuilder {
    config: Config,
    registry: Registry,
    runtime: Option<Runtime>,
    embedder: Option<Arc<dyn Embedder>>,
    embedders: EmbedderRegistry,
    journal: Option<JournalSource>,
    adopt: bool,
    /// [`DISABLED_BACKLOG`], unless a test wants less.
    pub(super) disabled_backlog: u64,
}

impl std::fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl ManagerBuilder {
    pub(super) fn new(config: Config) -> Self {
        let mut registry = Registry::new();
        for role in Role::ALL {
            registry.register(MemoryFactory::of(role));
        }
        Self {
            config,
            registry,
            runtime: None,
            embedder: None,
            embedders: EmbedderRegistry::new(),
            journal: None,
            adopt: false,
            disabled_backlog: DISABLED_BACKLOG,
        }
    }

    /// Adds every service of another registry.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry.merge(registry);
        self
    }

    /// Adds a service of one's own; one of the same role and name is replaced.
    pub fn register(mut self, factory: impl BackendFactory + 'static) -> Self {
        self.registry.register(factory);
        self
    }

    /// Adds a journal of one's own, which the configuration names; one of the same name is
    /// replaced.
    pub fn register_journal(mut self, factory: impl JournalFactory + 'static) -> Self {
        self.registry.register_journal(factory);
        self
    }

    /// Uses this clock, randomness and executor instead of tokio's.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Uses these embedders to choose from by configuration.
    pub fn embedders(mut self, embedders: EmbedderRegistry) -> Self {
        self.embedders = embedders;
        self
    }

    /// Adds an embedder that the configuration can name; one of the same name is replaced.
    pub fn register_embedder(mut self, factory: impl EmbedderFactory + 'static) -> Self {
        self.embedders.register(factory);
        self
    }

    /// Uses this embedder, whatever the configuration says.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// Keeps the journal there, whatever the configuration says.
    pub fn journal(mut self, source: JournalSource) -> Self {
        self.journal = Some(source);
        self
    }

    /// Takes over stores that belong to another journal or carry no stamp, instead of refusing
    /// them: the journal's clock is lifted above every version they hold, and nothing is
    /// discarded. Run `check_consistency` afterwards: what the stores hold was never compared.
    ///
    /// Also takes a relational store for the authority again that was restored from a backup older
    /// than what the journal has let go of. What was written and deleted between the two is lost;
    /// `check_consistency` shows where another store still knows better. A backup that lacks
    /// nothing is recognised without this.
    pub fn adopt(mut self) -> Self {
        self.adopt = true;
        self
    }

    /// Opens the journal and the stores, and starts catching up.
    ///
    /// A store that does not answer is no error: it is opened as soon as it does. The others are
    /// compared with what the journal still holds, which takes two seconds at most; whatever is not
    /// compared by then is so soon after, and reads until then say that they may lack something.
    ///
    /// # Errors
    /// `Config` for a wrong configuration; `Locked` if another process holds the journal or a
    /// store; `Damaged` if the journal or a store is; `ForeignStore` if a store does not belong to
    /// the journal.
    pub async fn open(self) -> Result<DatabaseManager> {
        let mut settings = self.config.settings()?;
        settings.resolve_secrets()?;
        let runtime = self.runtime.clone().unwrap_or_else(Runtime::tokio);
        let embedder = match &self.embedder {
            Some(embedder) => Some(Arc::clone(embedder)),
            None => self.embedders.open(&settings.embedding, &runtime).await?,
        };
        let embedder = embedder.map(|embedder| {
            let checked: Arc<dyn Embedder> = Arc::new(CheckedEmbedder::new(embedder));
            checked
        });
        let (journal, journal_location) = self
            .open_journal(&settings, &open_context(&settings, &runtime))
            .await?;
        tracing::info!(journal = %journal_location, epoch = journal.epoch(), "journal opened");
        match self
            .open_on(
                settings,
                runtime,
                embedder,
                Arc::clone(&journal),
                journal_location,
            )
            .await
        {
            Ok(manager) => Ok(manager),
            Err(error) => {
                // Without this the journal would be released a moment after the error is seen.
                if let Err(cause) = journal.close().await {
                    tracing::warn!(error = %cause, "the journal did not close cleanly");
                }
                Err(error)
            }
        }
    }

    async fn open_on(
        self,
        settings: Settings,
        runtime: Runtime,
        embedder: Option<Arc<dyn Embedder>>,
        journal: Arc<dyn Journal>,
        journal_location: String,
    ) -> Result<DatabaseManager> {
        let sends = match journal.shared() {
            None => true,
            Some(shared) => {
                let lease = shared.acquire().await.map_err(journal_error)?;
                if lease.is_none() && self.adopt {
                    return Err(Error::new(
                        ErrorKind::NotSender,
                        "stores are adopted by the instance that sends, and another one does",
                    ));
                }
                lease.is_some()
            }
        };
        let keeping = Arc::clone(&journal);
        let renewing = keep_lease(keeping.as_ref(), &runtime, sends);
        let opening = self.open_stores(
            settings,
            runtime.clone(),
            embedder,
            journal,
            journal_location,
            sends,
        );
        tokio::select! {
            biased;
            opened = opening => opened,
            error = renewing => Err(journal_error(error)),
        }
    }

    async fn open_stores(
        self,
        settings: Settings,
        runtime: Runtime,
        embedder: Option<Arc<dyn Embedder>>,
        journal: Arc<dyn Journal>,
        journal_location: String,
        sends: bool,
    ) -> Result<DatabaseManager> {
        let context = open_context(&settings, &runtime);
        let resilience = ResilienceSettings::from(&settings.performance);
        let roster = open_roster(
            RosterOpening {
                registry: &self.registry,
                journal: Arc::clone(&journal),
                journal_location: journal_location.clone(),
                context,
                resilience,
                adopt: self.adopt,
                sends,
            },
            roles(&settings),
        )
        .await?;
        let room = WriteRoom::start(WriteParts {
            runtime: runtime.clone(),
            journal,
            stores: roster.stores,
            disabled: roster.disabled,
            settings: WriteSettings {
                level: settings.write.level,
                timeout: settings.write.timeout,
                batch_size: settings.performance.batch_size,
                disabled_backlog: self.disabled_backlog,
                max_in_flight: settings.write.max_in_flight,
            },
            embedder,
            cache: Cache::new(&runtime, &settings.performance),
            sends,
        })
        .await
        .map_err(journal_error)?;
        let monitor = Arc::new(Monitor::new(MonitorSettings {
            interval: settings.health.interval,
            timeout: settings.health.timeout,
            failure_threshold: settings.health.failure_threshold,
            success_threshold: settings.health.success_threshold,
        }));
        room.keep(runtime.spawn(Arc::clone(&monitor).run(Arc::clone(&room))));
        let search = SearchRoute::new();
        let inner = Inner {
            room,
            search,
            monitor,
            settings,
            journal_location,
        };
        // From here on dropping it, also with this future, ends its tasks.
        let opened = DatabaseManager {
            inner: Arc::new(inner),
        };
        let room = &opened.inner.room;
        if let Err(error) = create_collections(room, &opened.inner.settings).await {
            // So that whoever tries again does not find the stores locked.
            room.begin_close();
            room.join().await;
            room.close_stores().await;
            return Err(error);
        }
        Ok(opened)
    }

    async fn open_journal(
        &self,
        settings: &Settings,
        context: &OpenContext,
    ) -> Result<(Arc<dyn Journal>, String)> {
        let options = journal_options(&settings.journal);
        let (source, location) = match (&self.journal, &settings.journal.journal_type) {
            (Some(source), _) => (source.clone(), "given in code".to_owned()),
            (None, JournalType::Memory) => (
                JournalSource::Storage(Arc::new(MemoryStorage::new())),
                "memory".to_owned(),
            ),
            (None, JournalType::Embedded) => {
                let path = settings.journal_path();
                let location = path.display().to_string();
                (JournalSource::Directory(path), location)
            }
            (None, JournalType::Service(service)) => {
                let factory = self.registry.journal(service)?;
                let config = &settings.journal.config;
                let location = factory.location(config, context).map_err(journal_error)?;
                let journal = factory
                    .open(config, context, &options)
                    .await
                    .map_err(|error| journal_error(error).with("journal", &location))?;
                return Ok((journal, location));
            }
        };
        let journal = EmbeddedJournal::open(source, options, context.runtime.clone())
            .await
            .map_err(|error| journal_error(error).with("journal", &location))?;
        Ok((journal, location))
    }
}

fn journal_options(settings: &JournalSettings) -> JournalOptions {
    let default = JournalOptions::default();
    JournalOptions {
        max_entries: settings.max_entries.unwrap_or(default.max_entries),
        max_bytes: settings.max_bytes.unwrap_or(default.max_bytes),
        max_operations: settings.max_operations.unwrap_or(default.max_operations),
        max_keys: settings.max_keys.unwrap_or(default.max_keys),
        retention: default.retention.max(settings.record_lifetime),
        lease: settings.lease.unwrap_or(default.lease),
        poll_interval: settings.poll_interval.unwrap_or(default.poll_interval),
        ..default
    }
}

fn open_context(settings: &Settings, runtime: &Runtime) -> OpenContext {
    let mut context =
        OpenContext::new(runtime.clone()).pool_size(settings.performance.connection_pool_size);
    context.data_directory = settings.data_directory.clone();
    context.attempt_timeout = ResilienceSettings::from(&settings.performance).attempt_timeout;
    context
}

/// Renews the lease while the stores are opened, which may take longer than it lasts. Completes
/// only when it is lost.
async fn keep_lease(journal: &dyn Journal, runtime: &Runtime, held: bool) -> JournalError {
    let Some(shared) = journal.shared().filter(|_| held) else {
        return std::future::pending().await;
    };
    loop {
        runtime.sleep(shared.lease_time() / 4).await;
        match shared.renew().await {
            Err(error) if *error.kind() == JournalErrorKind::NotSender => return error,
            Err(error) => tracing::warn!(%error, "the lease was not renewed"),
            Ok(_) => {}
        }
    }
}

fn roles(settings: &Settings) -> Vec<RoleSetting> {
    Role::ALL
        .into_iter()
        .filter_map(|role| {
            settings.store(role).map(|store| RoleSetting {
                role,
                service: store.service.clone(),
                config: store.config.clone(),
            })
        })
        .collect()
}

/// Creates the configured collections that do not exist yet.
async fn create_collections(room: &WriteRoom, settings: &Settings) -> Result<()> {
    for (name, options) in &settings.collections {
        let (collection, _) = room
            .journal
            .create_collection(name, options.clone())
            .await
            .map_err(|error| journal_error(error).with("collection", name))?;
        room.remember_collection(collection);
    }
    Ok(())
}
