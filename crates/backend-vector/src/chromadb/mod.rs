//! The service `chromadb`: vectors on a ChromaDB server.

mod api;
mod catalogue;
mod config;
mod convert;
mod facts;
mod filter;
mod heads;
mod identity;
mod keys;
mod names;
mod ranges;
mod read;
mod search;
mod store;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::http::{HttpClient, HttpOptions};
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig, VectorBackend,
    },
    model::Role,
};

use api::Api;
use config::Config;
use store::Chromadb;

const SERVICE: &str = "chromadb";

/// Opens vector stores of the service `chromadb`; see the [module](self) for its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChromadbFactory {}

impl ChromadbFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl BackendFactory for ChromadbFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _: &OpenContext) -> BackendResult<String> {
        Config::parse(config)?.location()
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config = Config::parse(config)?;
        let options = HttpOptions::new(context)
            .authorization(config.authorization())
            .ca_file(config.ca_file());
        let http = HttpClient::new(config.endpoint()?, options, &context.runtime).await?;
        let api = Api::connect(http, &config).await?;
        let store = Chromadb::open(api, &config).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}
