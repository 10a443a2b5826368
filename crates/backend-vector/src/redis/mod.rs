//! The service `redis`.

mod collections;
mod config;
mod connection;
mod convert;
mod document;
mod filter;
mod keys;
mod nearest;
mod read;
mod script;
mod search;
mod server;
mod store;
mod tls;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig, VectorBackend,
    },
    model::Role,
};

use config::Config;
use store::Redis;

const SERVICE: &str = "redis";

/// Opens vector stores of the service `redis`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisFactory {}

impl RedisFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl BackendFactory for RedisFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Ok(Config::parse(config)?.location())
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let store = Redis::open(&Config::parse(config)?, context).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}
