//! The service `qdrant`: vectors in a Qdrant server, over gRPC.

mod client;
mod collections;
mod config;
mod convert;
mod facts;
mod filter;
mod layout;
mod read;
mod search;
mod stamp;
mod store;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, Capabilities, OpenContext, ServiceConfig,
        VectorBackend,
    },
    model::Role,
};

use client::Client;
use collections::check_format;
use config::{Config, wrong};
use store::Qdrant;

const SERVICE: &str = "qdrant";
/// The first release with all that is used here: conditional and insert-only upserts, metadata of
/// collections, and vectors added to a collection that is there.
const NEEDED: (u64, u64) = (1, 18);

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.durable = false;
    capabilities.durable_on_apply = false;
    capabilities.epoch_checked = false;
    capabilities.exact_vectors = false;
    capabilities
}

/// Opens vector stores of the service `qdrant`; the module's page lists its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct QdrantFactory {}

impl QdrantFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

async fn open(config: &ServiceConfig, context: &OpenContext) -> BackendResult<Qdrant> {
    let config = Config::parse(config)?;
    let store = Qdrant::new(
        Client::new(&config, context)?,
        config.prefix(),
        config.placement(),
    );
    check_version(&store.client.version().await?)?;
    // The first call that needs the key: the server answers the one before without.
    let mut names = store.physical_names().await?;
    names.push(layout::stamp_name(&store.prefix));
    for name in names {
        if let Some(info) = store.client.collection(&name).await? {
            check_format(&name, &info)?;
        }
    }
    Ok(store)
}

fn check_version(found: &str) -> BackendResult<()> {
    let mut parts = found.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        return Err(wrong(format!(
            "the server does not say its version but {found:?}"
        )));
    };
    if major != NEEDED.0 || minor < NEEDED.1 {
        return Err(wrong(format!(
            "the server has version {found}; needed is {}.{} or a later {}.x",
            NEEDED.0, NEEDED.1, NEEDED.0
        )));
    }
    Ok(())
}

#[async_trait]
impl BackendFactory for QdrantFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Config::parse(config)?.location()
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let store = open(config, context).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::BackendErrorKind;

    use super::*;

    #[test]
    fn old_and_unknown_versions_are_refused_by_name() {
        for version in ["1.18.0", "1.18.3", "1.20.1-dev", "1.19"] {
            check_version(version).unwrap();
        }
        for version in ["1.17.1", "0.99.0", "2.0.0", "", "dev"] {
            let error = check_version(version).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains(version), "{error}");
        }
        let message = check_version("1.17.1").unwrap_err().to_string();
        assert!(message.contains("1.18"), "{message}");
    }
}
