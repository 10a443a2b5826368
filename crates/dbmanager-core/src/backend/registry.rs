//! Factories of backends, in an explicit registry: no globals.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::{
    Backend, BackendError, BackendErrorKind, BackendResult, GraphBackend, RelationalBackend,
    VectorBackend,
};
use crate::{
    Error, ErrorKind, Result, Runtime, config::read_service_config, journal::JournalFactory,
    model::Role,
};

/// The service's own part of the configuration, as it stands under `config`.
pub type ServiceConfig = serde_json::Map<String, serde_json::Value>;

/// What a factory is handed besides its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenContext {
    /// Clock, randomness, spawning and blocking pool.
    pub runtime: Runtime,
    /// The directory of an embedded set of stores; a relative path in the configuration is *not*
    /// resolved against it, only the default path is.
    pub data_directory: Option<PathBuf>,
    /// Connections per store.
    pub pool_size: usize,
    /// After this time the caller gives an attempt up. Adapters of servers hand it on as the
    /// server's own limit for a statement, so that what nobody waits for ends there too, and as
    /// their time limit for connecting.
    pub attempt_timeout: Duration,
}

impl OpenContext {
    /// A context with a pool of 4, attempts of 10 s and no data directory.
    pub fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            data_directory: None,
            pool_size: 4,
            attempt_timeout: Duration::from_secs(10),
        }
    }

    /// Sets the directory of embedded stores.
    pub fn data_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_directory = Some(directory.into());
        self
    }

    /// Sets the number of connections per store.
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.pool_size = pool_size;
        self
    }

    /// Sets after which time an attempt is given up.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }
}

/// A backend in its role.
#[derive(Clone, Debug)]
pub enum AnyBackend {
    /// A vector store.
    Vector(Arc<dyn VectorBackend>),
    /// A graph store.
    Graph(Arc<dyn GraphBackend>),
    /// A relational store.
    Relational(Arc<dyn RelationalBackend>),
}

impl AnyBackend {
    /// The part every role shares.
    pub fn as_backend(&self) -> Arc<dyn Backend> {
        match self {
            AnyBackend::Vector(backend) => Arc::clone(backend) as Arc<dyn Backend>,
            AnyBackend::Graph(backend) => Arc::clone(backend) as Arc<dyn Backend>,
            AnyBackend::Relational(backend) => Arc::clone(backend) as Arc<dyn Backend>,
        }
    }

    /// The role.
    pub fn role(&self) -> Role {
        match self {
            AnyBackend::Vector(_) => Role::Vector,
            AnyBackend::Graph(_) => Role::Graph,
            AnyBackend::Relational(_) => Role::Relational,
        }
    }
}

/// Opens backends of one service in one role.
#[async_trait]
pub trait BackendFactory: Send + Sync {
    /// The role.
    fn role(&self) -> Role;

    /// The name under `type` in the configuration.
    fn service(&self) -> &str;

    /// Other names for the same service.
    fn aliases(&self) -> &[&str] {
        &[]
    }

    /// What identifies the place where this configuration keeps its data (a path, a server with a
    /// namespace), so that the same place given twice is found. No secrets.
    ///
    /// # Errors
    /// `Config`, naming the key.
    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String>;

    /// Opens the store. Called again after a failure, and after the store was lost.
    ///
    /// # Errors
    /// `Config` for a wrong configuration (never retried); otherwise why it cannot be opened now.
    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend>;
}

impl fmt::Debug for dyn BackendFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BackendFactory({} {})", self.role(), self.service())
    }
}

/// The services this program can open.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    factories: BTreeMap<(Role, String), Arc<dyn BackendFactory>>,
    compiled_out: BTreeMap<(Role, String), &'static str>,
    journals: BTreeMap<String, Arc<dyn JournalFactory>>,
    journals_compiled_out: BTreeMap<String, &'static str>,
}

impl Registry {
    /// A registry without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service; one of the same role and name is replaced.
    pub fn register(&mut self, factory: impl BackendFactory + 'static) -> &mut Self {
        let factory: Arc<dyn BackendFactory> = Arc::new(factory);
        let role = factory.role();
        for name in factory.aliases().iter().copied().chain([factory.service()]) {
            self.compiled_out.remove(&(role, name.to_owned()));
            self.factories
                .insert((role, name.to_owned()), Arc::clone(&factory));
        }
        self
    }

    /// Adds everything another registry has; where both have a service, the other's counts.
    pub fn merge(&mut self, other: Registry) -> &mut Self {
        self.compiled_out.extend(other.compiled_out);
        self.factories.extend(other.factories);
        let factories = &self.factories;
        self.compiled_out
            .retain(|key, _| !factories.contains_key(key));
        self.journals_compiled_out
            .extend(other.journals_compiled_out);
        self.journals.extend(other.journals);
        let journals = &self.journals;
        self.journals_compiled_out
            .retain(|name, _| !journals.contains_key(name));
        self
    }

    /// Adds a journal; one of the same name is replaced. The names `embedded` and `memory` are the
    /// library's own and never looked up here.
    pub fn register_journal(&mut self, factory: impl JournalFactory + 'static) -> &mut Self {
        let factory: Arc<dyn JournalFactory> = Arc::new(factory);
        for name in factory.aliases().iter().copied().chain([factory.service()]) {
            self.journals_compiled_out.remove(name);
            self.journals.insert(name.to_owned(), Arc::clone(&factory));
        }
        self
    }

    /// Names a journal that exists but is not compiled in, with the Cargo feature that brings it.
    pub fn register_journal_compiled_out(
        &mut self,
        service: &str,
        feature: &'static str,
    ) -> &mut Self {
        if !self.journals.contains_key(service) {
            self.journals_compiled_out
                .insert(service.to_owned(), feature);
        }
        self
    }

    /// The factory of a journal.
    ///
    /// # Errors
    /// `Config`: the journal is unknown (the message lists the known ones) or compiled out (it
    /// names the feature).
    pub fn journal(&self, service: &str) -> Result<Arc<dyn JournalFactory>> {
        if let Some(factory) = self.journals.get(service) {
            return Ok(Arc::clone(factory));
        }
        if let Some(feature) = self.journals_compiled_out.get(service) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the journal {service:?} needs the Cargo feature {feature:?}"),
            ));
        }
        let known = ["embedded", "memory"].into_iter();
        let known: Vec<_> = known
            .chain(self.journals.keys().map(String::as_str))
            .collect();
        Err(Error::new(
            ErrorKind::Config,
            format!("unknown journal {service:?}; known: {}", known.join(", ")),
        ))
    }

    /// Names a service that exists but is not compiled in, with the Cargo feature that brings it.
    pub fn register_compiled_out(
        &mut self,
        role: Role,
        service: &str,
        feature: &'static str,
    ) -> &mut Self {
        let key = (role, service.to_owned());
        if !self.factories.contains_key(&key) {
            self.compiled_out.insert(key, feature);
        }
        self
    }

    /// The factory of a service.
    ///
    /// # Errors
    /// `Config`: the service is unknown (the message lists the known ones) or compiled out (it
    /// names the feature).
    pub fn factory(&self, role: Role, service: &str) -> Result<Arc<dyn BackendFactory>> {
        let key = (role, service.to_owned());
        if let Some(factory) = self.factories.get(&key) {
            return Ok(Arc::clone(factory));
        }
        if let Some(feature) = self.compiled_out.get(&key) {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the {role} service {service:?} needs the Cargo feature {feature:?}"),
            ));
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "unknown {role} service {service:?}; known: {}",
                self.services(role).collect::<Vec<_>>().join(", ")
            ),
        ))
    }

    /// The services of a role that are compiled in, aliases included, by name.
    pub fn services(&self, role: Role) -> impl Iterator<Item = &str> {
        self.factories
            .keys()
            .filter(move |key| key.0 == role)
            .map(|key| key.1.as_str())
    }
}

/// Reads a service's configuration into its own type. Use `#[serde(deny_unknown_fields)]` on the
/// type, so that a misspelt key is found.
///
/// # Errors
/// `Config`: serde's message, which names the key and no secret.
pub fn parse_service_config<T: DeserializeOwned>(
    role: Role,
    service: &str,
    config: &ServiceConfig,
) -> BackendResult<T> {
    read_service_config(config).map_err(|error| {
        BackendError::new(
            BackendErrorKind::Config,
            format!("{role}.config of the service {service:?}: {error}"),
        )
        .not_applied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_services_list_the_known_and_compiled_out_ones_name_their_feature() {
        let mut registry = Registry::new();
        registry.register_compiled_out(Role::Graph, "neo4j", "neo4j");
        let error = registry.factory(Role::Graph, "neo4j").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid configuration: the graph service \"neo4j\" needs the Cargo feature \"neo4j\""
        );
        let error = registry.factory(Role::Vector, "nothing").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("unknown vector service \"nothing\"; known: ")
        );
    }

    #[test]
    fn unknown_journals_list_the_known_and_compiled_out_ones_name_their_feature() {
        let mut registry = Registry::new();
        registry.register_journal_compiled_out("postgres", "postgres");
        for (service, message) in [
            (
                "postgres",
                "invalid configuration: the journal \"postgres\" needs the Cargo feature \"postgres\"",
            ),
            (
                "nothing",
                "invalid configuration: unknown journal \"nothing\"; known: embedded, memory",
            ),
        ] {
            assert_eq!(registry.journal(service).unwrap_err().to_string(), message);
        }
    }
}
