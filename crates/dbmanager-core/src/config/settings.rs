//! The settings that a configuration comes to.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::{error, redact, value};
use crate::{
    Result,
    backend::ServiceConfig,
    model::{CollectionOptions, DEFAULT_WRITE_TIMEOUT, Level, Role},
};

/// A checked configuration. `Debug` prints secrets as `***`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// Key `data_directory`: where embedded stores and the journal keep their data unless their
    /// own section names a path.
    pub data_directory: Option<PathBuf>,
    /// Key `vector`; absent: not configured.
    pub vector: Option<StoreSettings>,
    /// Key `graph`; absent: not configured.
    pub graph: Option<StoreSettings>,
    /// Key `relational`; absent: not configured.
    pub relational: Option<StoreSettings>,
    /// Key `performance`.
    pub performance: PerformanceSettings,
    /// Key `journal`.
    pub journal: JournalSettings,
    /// Key `write`.
    pub write: WriteSettings,
    /// Key `search`.
    pub search: SearchSettings,
    /// Key `embedding`.
    pub embedding: EmbeddingSettings,
    /// Key `health`.
    pub health: HealthSettings,
    /// Key `collections`: the options with which a collection of that name is created.
    pub collections: BTreeMap<String, CollectionOptions>,
}

impl Settings {
    /// The store of a role, if it is enabled.
    pub fn store(&self, role: Role) -> Option<&StoreSettings> {
        let store = match role {
            Role::Vector => &self.vector,
            Role::Graph => &self.graph,
            Role::Relational => &self.relational,
        };
        store.as_ref().filter(|store| store.enabled)
    }

    /// The section of a role, for changes in code.
    pub fn store_mut(&mut self, role: Role) -> &mut Option<StoreSettings> {
        match role {
            Role::Vector => &mut self.vector,
            Role::Graph => &mut self.graph,
            Role::Relational => &mut self.relational,
        }
    }

    /// Where the embedded journal lies: its own path, or `journal` in the data directory, or
    /// `./dbmanager/journal`.
    pub fn journal_path(&self) -> PathBuf {
        match (&self.journal.path, &self.data_directory) {
            (Some(path), _) => path.clone(),
            (None, Some(directory)) => directory.join("journal"),
            (None, None) => PathBuf::from("./dbmanager/journal"),
        }
    }

    /// Checks what no single key shows. Ranges are checked again here: code may have changed them.
    pub(super) fn validate(&self) -> Result<()> {
        if Role::ALL.iter().all(|role| self.store(*role).is_none()) {
            let configured = [&self.vector, &self.graph, &self.relational];
            let what = if configured.iter().any(|store| store.is_some()) {
                "every store is disabled"
            } else {
                "no store is configured"
            };
            return Err(error(format!(
                "{what}: enable at least one of vector, graph, relational"
            )));
        }
        for (key, duration) in [
            ("performance.query_timeout", self.performance.query_timeout),
            ("write.timeout", self.write.timeout),
            ("search.timeout", self.search.timeout),
            ("health.interval", self.health.interval),
            ("health.timeout", self.health.timeout),
            (
                "journal.config.lease",
                self.journal.lease.unwrap_or(Duration::MAX),
            ),
            (
                "journal.config.poll_interval",
                self.journal.poll_interval.unwrap_or(Duration::MAX),
            ),
        ] {
            if duration.is_zero() {
                return Err(error(format!("{key:?} must be more than zero")));
            }
        }
        for (key, number) in [
            (
                "performance.connection_pool_size",
                self.performance.connection_pool_size as u64,
            ),
            ("performance.batch_size", self.performance.batch_size as u64),
            ("write.max_in_flight", self.write.max_in_flight as u64),
            (
                "health.failure_threshold",
                u64::from(self.health.failure_threshold),
            ),
            (
                "health.success_threshold",
                u64::from(self.health.success_threshold),
            ),
            (
                "journal.config.max_entries",
                self.journal.max_entries.unwrap_or(1),
            ),
            (
                "journal.config.max_bytes",
                self.journal.max_bytes.unwrap_or(1),
            ),
            (
                "journal.config.max_operations",
                self.journal.max_operations.unwrap_or(1),
            ),
        ] {
            if number == 0 {
                return Err(error(format!("{key:?} must be at least 1")));
            }
        }
        if self.journal.record_lifetime < JournalSettings::SHORTEST_RECORD_LIFETIME {
            return Err(error(
                "\"journal.config.record_lifetime\" must be at least 24 hours",
            ));
        }
        self.collections
            .keys()
            .try_for_each(|name| value::collection_name(name))
    }
}

/// One store: which service and how to reach it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct StoreSettings {
    /// Key `enabled`; a section without it is enabled. A disabled store stays on the journal's
    /// roster and keeps what it has yet to get.
    pub enabled: bool,
    /// Key `type`: the service, by any of its names (`postgresql` is `postgres`); whether there
    /// is such a service is for the registry to say.
    pub service: String,
    /// Key `config`: the service's own settings, passed on as they are.
    pub config: ServiceConfig,
}

impl StoreSettings {
    /// An enabled store.
    pub fn new(service: impl Into<String>, config: ServiceConfig) -> Self {
        Self {
            enabled: true,
            service: service.into(),
            config,
        }
    }
}

impl fmt::Debug for StoreSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("enabled", &self.enabled)
            .field("service", &self.service)
            .field("config", &redact::redacted(&self.config))
            .finish()
    }
}

/// How the stores are used.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PerformanceSettings {
    /// Connections per store; 4 by default.
    pub connection_pool_size: usize,
    /// The longest one operation on a store may take, with its retries; an attempt gets a third of
    /// it. 30 s by default.
    pub query_timeout: Duration,
    /// Attempts after the first; 3 by default, 0 for none.
    pub retry_attempts: u32,
    /// Consecutive failures after which a store is left alone for a while; 5 by default, 0 for
    /// never.
    pub circuit_breaker_threshold: u32,
    /// How long a document or a search result that was read before is served again, unless
    /// something was written meanwhile; 0, the default, for no cache. Needs the Cargo feature
    /// `cache`; without it the setting has no effect, and opening says so in a warning.
    pub cache_ttl: Duration,
    /// Bytes that the cache may take, about; 64 MiB by default.
    pub cache_size: u64,
    /// Documents sent to a store at once; 100 by default. Fewer where they have 16 MiB together.
    pub batch_size: usize,
}

impl Default for PerformanceSettings {
    fn default() -> Self {
        Self {
            connection_pool_size: 4,
            query_timeout: Duration::from_secs(30),
            retry_attempts: 3,
            circuit_breaker_threshold: 5,
            cache_ttl: Duration::ZERO,
            cache_size: 64 * 1024 * 1024,
            batch_size: 100,
        }
    }
}

/// What keeps the journal.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum JournalType {
    /// `embedded`: files of this process.
    #[default]
    Embedded,
    /// `memory`: nothing outlives the manager; for tests.
    Memory,
    /// Any other name: a journal that is registered under it, which several instances of a service
    /// may share. Whether there is one is for the registry to say.
    Service(String),
}

/// The journal.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct JournalSettings {
    /// Key `type`.
    pub journal_type: JournalType,
    /// Key `config.path`: the journal's directory; see [`Settings::journal_path`].
    pub path: Option<PathBuf>,
    /// Key `config.max_entries`: live entries at which writes are rejected; absent: the journal's
    /// own limit.
    pub max_entries: Option<u64>,
    /// Key `config.max_bytes`: bytes at which writes are rejected; absent: the journal's own
    /// limit.
    pub max_bytes: Option<u64>,
    /// Key `config.max_operations`: outcomes of writes, one each, at which writes are rejected, kept
    /// for `record_lifetime`; absent: the journal's own limit, 20,000,000.
    pub max_operations: Option<u64>,
    /// Key `config.max_keys`: idempotency keys, kept as long, at which writes with a key are
    /// rejected; absent: the journal's own limit, 1,000,000. With 0 no write may have one.
    pub max_keys: Option<u64>,
    /// Key `config.record_lifetime`: how long idempotency keys and outcomes are kept after an
    /// operation is complete; at least 24 h, which is the default. They are kept for 25 h at least,
    /// for clocks that disagree.
    pub record_lifetime: Duration,
    /// Key `config.lease`, for journals that instances share: how long after the death of the
    /// sending instance another one takes over; absent: 5 s.
    pub lease: Option<Duration>,
    /// Key `config.poll_interval`, for journals that instances share: how long a change may go
    /// unnoticed where the server cannot notify; absent: 100 ms.
    pub poll_interval: Option<Duration>,
    /// The other keys of `config`: a registered journal's own settings, passed on as they are.
    pub config: ServiceConfig,
}

impl fmt::Debug for JournalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalSettings")
            .field("journal_type", &self.journal_type)
            .field("path", &self.path)
            .field("max_entries", &self.max_entries)
            .field("max_bytes", &self.max_bytes)
            .field("max_operations", &self.max_operations)
            .field("max_keys", &self.max_keys)
            .field("record_lifetime", &self.record_lifetime)
            .field("lease", &self.lease)
            .field("poll_interval", &self.poll_interval)
            .field("config", &redact::redacted(&self.config))
            .finish()
    }
}

impl JournalSettings {
    /// Idempotency keys are promised for this long.
    pub const SHORTEST_RECORD_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            journal_type: JournalType::default(),
            path: None,
            max_entries: None,
            max_bytes: None,
            max_operations: None,
            max_keys: None,
            record_lifetime: Self::SHORTEST_RECORD_LIFETIME,
            lease: None,
            poll_interval: None,
            config: ServiceConfig::new(),
        }
    }
}

/// Writes that do not say otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WriteSettings {
    /// How many stores must hold a write; `quorum` by default.
    pub level: Level,
    /// How long a write waits for them, once it is journaled; 10 s by default.
    pub timeout: Duration,
    /// Documents whose writes may be under way at once; above that further ones are rejected as
    /// `Overloaded`, with the time after which to try again. 10,000 by default. They wait in
    /// memory, so large documents call for a lower number; a single batch above it is admitted
    /// when nothing else is under way.
    pub max_in_flight: usize,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            level: Level::default(),
            timeout: DEFAULT_WRITE_TIMEOUT,
            max_in_flight: 10_000,
        }
    }
}

/// Searches that do not say otherwise.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SearchSettings {
    /// Time for a whole search; 10 s by default.
    pub timeout: Duration,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
        }
    }
}

/// What makes vectors of texts.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct EmbeddingSettings {
    /// Key `type`: `hashing` (the default, built in), `none`, or an embedder that is compiled in.
    pub embedding_type: String,
    /// Key `config`: the embedder's own settings.
    pub config: ServiceConfig,
}

impl Default for EmbeddingSettings {
    fn default() -> Self {
        Self {
            embedding_type: "hashing".to_owned(),
            config: ServiceConfig::new(),
        }
    }
}

impl fmt::Debug for EmbeddingSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddingSettings")
            .field("embedding_type", &self.embedding_type)
            .field("config", &redact::redacted(&self.config))
            .finish()
    }
}

/// The health monitor.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HealthSettings {
    /// Time between two rounds of probes; 5 s by default.
    pub interval: Duration,
    /// The longest a probe may take; 3 s by default.
    pub timeout: Duration,
    /// Failed probes in a row until a store counts as down; 3 by default.
    pub failure_threshold: u32,
    /// Answered probes in a row until it counts as up; 1 by default.
    pub success_threshold: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(3),
            failure_threshold: 3,
            success_threshold: 1,
        }
    }
}
