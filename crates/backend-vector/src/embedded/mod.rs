//! The service `embedded`: vectors in a SQLite file, searched in memory.
//!
//! The file is the truth. Each collection that is searched is held in memory besides: its vectors
//! (4 bytes a number), scanned exactly; and with the feature `hnsw`, from `hnsw_threshold` vectors
//! on, an approximate index (as much again), asked by searches that are not `exact`, restricted or
//! filtered down to few documents.
//!
//! A document whose metadata has different paths (the keys that lead to a value) of more than
//! 64 MiB together is refused: each is kept for filters with all its keys.

mod config;
#[cfg(feature = "hnsw")]
mod hnsw;
#[cfg(feature = "hnsw")]
mod index;
#[cfg(feature = "hnsw")]
mod index_file;
mod kernel;
mod matrix;
mod memory;
mod read;
mod scan;
mod search;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::sqlite::{Database, DatabaseOptions};
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, Limits, OpenContext, ServiceConfig,
        VectorBackend,
    },
    model::Role,
};

use config::Config;
use store::{Embedded, Shared};

const SERVICE: &str = "embedded";

fn limits() -> Limits {
    Limits::default()
}

/// Opens vector stores of the service `embedded`.
///
/// Configuration: `database_path` (default: `vector.db` in the data directory), `busy_timeout`
/// (how long a write waits for another program's lock on the file, default 5 seconds), and with
/// the feature `hnsw`: `hnsw_threshold` (vectors of a collection from which on it has an
/// approximate index, 20,000), `hnsw_connectivity` (links per vector, 16), `hnsw_expansion_add`
/// (candidates looked at when a vector is added, 128) and `hnsw_expansion_search` (in a search,
/// 64).
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbeddedFactory {}

impl EmbeddedFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

async fn open(config: &ServiceConfig, context: &OpenContext) -> BackendResult<Embedded> {
    let config = Config::parse(config)?;
    let options = DatabaseOptions::new()
        .readers(context.pool_size)
        .busy_timeout(config.busy_timeout());
    let path = config.path(context)?;
    let database = Database::open(path, options, &context.runtime, &tables::SCHEMA).await?;
    let shared = Shared {
        database,
        memory: memory::Memory::default(),
        #[cfg(feature = "hnsw")]
        keeper: index::Keeper::new(config.hnsw(), context.runtime.clone()),
    };
    #[cfg(feature = "hnsw")]
    index_file::sweep(&shared).await?;
    Ok(Embedded::new(shared))
}

#[async_trait]
impl BackendFactory for EmbeddedFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        let path = Config::parse(config)?.path(context)?;
        Ok(path.to_string_lossy().into_owned())
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
