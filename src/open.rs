//! The services that are compiled in, and opening a manager with them.

use dbmanager_core::{
    DatabaseManager, ManagerBuilder, Result, backend::Registry, config::Config,
    embed::EmbedderRegistry,
};

/// The services that are compiled in; those that are not are listed with the Cargo feature that
/// brings them. The in-memory services need no entry: every manager has them.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    register_sqlite(&mut registry);
    register_servers(&mut registry);
    registry
}

#[cfg(feature = "sqlite")]
fn register_sqlite(registry: &mut Registry) {
    registry.register(dbmanager_backend_relational::sqlite::SqliteFactory::new());
    registry.register(dbmanager_backend_graph::sqlite::SqliteFactory::new());
    registry.register(dbmanager_backend_vector::embedded::EmbeddedFactory::new());
}

#[cfg(not(feature = "sqlite"))]
fn register_sqlite(registry: &mut Registry) {
    use dbmanager_core::model::Role;

    registry.register_compiled_out(Role::Relational, "sqlite", "sqlite");
    registry.register_compiled_out(Role::Graph, "sqlite", "sqlite");
    registry.register_compiled_out(Role::Vector, "embedded", "sqlite");
}

/// The services behind a network, each behind a feature of its own name.
fn register_servers(registry: &mut Registry) {
    use dbmanager_core::model::Role;

    #[cfg(feature = "redis")]
    registry.register(dbmanager_backend_vector::redis::RedisFactory::new());
    registry.register_compiled_out(Role::Vector, "chromadb", "chromadb");
    registry.register_compiled_out(Role::Vector, "qdrant", "qdrant");
    registry.register_compiled_out(Role::Vector, "redis", "redis");
    registry.register_compiled_out(Role::Graph, "neo4j", "neo4j");
    registry.register_compiled_out(Role::Relational, "mongodb", "mongodb");
    registry.register_compiled_out(Role::Relational, "postgres", "postgres");
    registry.register_compiled_out(Role::Relational, "postgresql", "postgres");
}

/// The embedders that are compiled in; `hashing` always is.
pub fn embedders() -> EmbedderRegistry {
    let mut embedders = EmbedderRegistry::new();
    #[cfg(feature = "fastembed")]
    embedders.register(dbmanager_embed_fastembed::FastembedFactory);
    #[cfg(not(feature = "fastembed"))]
    embedders.register_compiled_out("fastembed", "fastembed");
    embedders
}

/// Starts a manager with every service that is compiled in, for programs that add services,
/// embedders or a journal of their own before [`ManagerBuilder::open`].
///
/// [`DatabaseManager::builder`] does the same with the in-memory services only.
pub fn builder(config: Config) -> ManagerBuilder {
    DatabaseManager::builder(config)
        .registry(registry())
        .embedders(embedders())
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for dbmanager_core::DatabaseManager {}
}

/// Opens a [`DatabaseManager`] with the services that are compiled in.
pub trait OpenDatabase: sealed::Sealed + Sized {
    /// Opens the journal and the stores of this configuration, and starts catching up.
    ///
    /// A store that does not answer is no error: it is opened as soon as it does.
    ///
    /// # Errors
    /// As for [`ManagerBuilder::open`]; a service that is not compiled in is `Config` and named
    /// with its Cargo feature.
    fn open(config: Config) -> impl Future<Output = Result<Self>> + Send;
}

impl OpenDatabase for DatabaseManager {
    async fn open(config: Config) -> Result<Self> {
        builder(config).open().await
    }
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::Role;

    use super::*;

    #[test]
    fn every_service_of_the_embedded_configuration_is_known() {
        let settings = Config::embedded("unused").settings().unwrap();
        for role in Role::ALL {
            let service = &settings.store(role).unwrap().service;
            let found = registry()
                .factory(role, service)
                .map(|factory| factory.role());
            if cfg!(feature = "sqlite") {
                assert_eq!(found.unwrap(), role);
            } else {
                let message = found.unwrap_err().to_string();
                assert!(message.contains(r#"Cargo feature "sqlite""#), "{message}");
            }
        }
    }

    #[test]
    fn an_unknown_service_is_refused_by_name() {
        let message = registry()
            .factory(Role::Vector, "nowhere")
            .unwrap_err()
            .to_string();
        assert!(message.contains("nowhere"), "{message}");
    }
}
