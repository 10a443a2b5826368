//! The relational store in MongoDB, or in a server that speaks its protocol.

mod apply;
mod catalogue;
mod check;
mod config;
mod convert;
mod fields;
mod filter;
mod layout;
mod read;
mod search;
mod server;
mod store;
mod terms;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListDocumentsRequest, ListRequest, OpenContext, Page, RelationalBackend, ServiceConfig,
        StampRequest, StoredRecord, TextHit, TextSearchRequest, parse_service_config,
    },
    model::{CollectionKey, Filter, Role},
};

use self::{catalogue::Catalogue, config::MongodbConfig, search::Figures, server::Server};

const SERVICE: &str = "mongodb";

/// Opens relational stores in MongoDB, as the service `mongodb`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MongodbFactory;

impl MongodbFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl BackendFactory for MongodbFactory {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        let config: MongodbConfig = parse_service_config(Role::Relational, SERVICE, config)?;
        Ok(config.target()?.location)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config: MongodbConfig = parse_service_config(Role::Relational, SERVICE, config)?;
        let target = config.target()?;
        let server = Server::connect(&target, context).await?;
        let store = MongodbRelational {
            catalogue_name: format!("{}catalogue", target.prefix),
            prefix: target.prefix,
            schema_validation: target.schema_validation,
            server,
            figures: Figures::default(),
            capabilities: capabilities(),
        };
        store::check_layout(&store.server, &store.catalogue_name).await?;
        Ok(AnyBackend::Relational(Arc::new(store)))
    }
}

/// Without transactions across documents the epoch's document cannot be a part of the statement that
/// writes another.
fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.durable_on_apply = true;
    capabilities.epoch_checked = false;
    capabilities
}

#[derive(Debug)]
struct MongodbRelational {
    server: Server,
    catalogue_name: String,
    prefix: String,
    schema_validation: bool,
    figures: Figures,
    capabilities: Capabilities,
}

impl MongodbRelational {
    fn catalogue(&self) -> Catalogue<'_> {
        Catalogue {
            server: &self.server,
            name: &self.catalogue_name,
            prefix: &self.prefix,
            schema_validation: self.schema_validation,
        }
    }
}

#[async_trait]
impl Backend for MongodbRelational {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn can_filter(&self, filter: &Filter) -> bool {
        filter::compile(filter).is_ok()
    }

    async fn probe(&self) -> BackendResult<()> {
        store::read_stamp(&self.server, &self.catalogue_name)
            .await
            .map(drop)
    }

    async fn identity(&self) -> BackendResult<Identity> {
        let stamp = store::read_stamp(&self.server, &self.catalogue_name).await?;
        let highest = self.catalogue().highest_version().await?;
        Ok(Identity::new(stamp, highest, highest.is_none()))
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        store::write_stamp(&self.server, &self.catalogue_name, &request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.catalogue()
            .create(&request.collection, request.epoch)
            .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.catalogue()
            .drop_collection(&request.collection, request.epoch)
            .await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        let entries = self.catalogue().list().await?;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        apply::apply(self.catalogue(), &request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        read::heads(self.catalogue(), &request).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        check::fingerprints(self.catalogue(), &request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        check::fingerprints_of(self.catalogue(), &request).await
    }

    /// Every write was acknowledged by the journals of a majority.
    async fn sync(&self) -> BackendResult<()> {
        self.server.check_open()
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.server.check_open()
    }

    async fn close(&self) -> BackendResult<()> {
        self.server.close().await;
        Ok(())
    }
}

#[async_trait]
impl RelationalBackend for MongodbRelational {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        read::get(self.catalogue(), &request).await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        search::search(self.catalogue(), &self.figures, &request).await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        read::list(self.catalogue(), &request).await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        read::count(self.catalogue(), &collection, filter.as_deref()).await
    }
}
