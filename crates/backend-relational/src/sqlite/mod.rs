//! The relational store in one SQLite file.
//!
//! | table | holds |
//! |---|---|
//! | `document` | a small row per id: version, tombstone. Ids are compared byte for byte |
//! | `content` | a live document's exact bytes, its vectors, and facts as columns |
//! | `full_text_<collection>` | title and text in FTS5, with the collection's tokenizer |
//! | `field` | each single value, for filters |
//!
//! A write is one transaction per batch. It survives a crash of the process at once, a power loss
//! from the next `sync`.
//!
//! A document whose metadata has different paths (the keys that lead to a value) of more than
//! 64 MiB together is refused: each is kept for filters with all its keys.

mod apply;
mod check;
mod read;
mod schema;
mod search;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::sqlite::{Database, FileConfig, batch, collections, stamp};
use dbmanager_core::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListDocumentsRequest, ListRequest, OpenContext, Page, RelationalBackend, ServiceConfig,
        StampRequest, StoredRecord, TextHit, TextSearchRequest, parse_service_config,
    },
    model::{CollectionKey, Filter, Role},
};

const SERVICE: &str = "sqlite";
const DEFAULT_FILE: &str = "relational.db";

/// Opens relational stores in SQLite files, as the service `sqlite`. Configuration: `database_path`
/// (default: `relational.db` in the data directory), `enable_wal` (default true), `busy_timeout`
/// (default 250 ms).
#[derive(Clone, Copy, Debug, Default)]
pub struct SqliteFactory;

impl SqliteFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl BackendFactory for SqliteFactory {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        parse_service_config::<FileConfig>(Role::Relational, SERVICE, config)?
            .location(context, DEFAULT_FILE)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config: FileConfig = parse_service_config(Role::Relational, SERVICE, config)?;
        let database = Database::open(
            config.path(context, DEFAULT_FILE)?,
            config.options(context),
            &context.runtime,
            &schema::SCHEMA,
        )
        .await?;
        Ok(AnyBackend::Relational(Arc::new(SqliteRelational {
            database,
            capabilities: Capabilities::new(),
        })))
    }
}

#[derive(Debug)]
struct SqliteRelational {
    database: Database,
    capabilities: Capabilities,
}

#[async_trait]
impl Backend for SqliteRelational {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.database.probe().await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.database.read(stamp::identity).await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.database
            .write_durable(move |transaction| stamp::write(transaction, &request))
            .await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.database
            .write(move |transaction| {
                stamp::check_epoch(transaction, request.epoch)?;
                match collections::create(transaction, &request.collection)? {
                    collections::Created::New(collection) => {
                        schema::create_full_text(transaction, &collection)
                    }
                    collections::Created::Present(_) => Ok(()),
                }
            })
            .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.database
            .write(move |transaction| {
                stamp::check_epoch(transaction, request.epoch)?;
                let Some(collection) = collections::remove(transaction, &request.collection)?
                else {
                    return Ok(());
                };
                apply::drop_collection(transaction, collection)
            })
            .await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.database.read(collections::list).await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        let limits = &self.capabilities.limits;
        let content = batch::Content {
            full_text: schema::full_text,
            replace: apply::replace,
        };
        batch::apply(&self.database, request, limits, content).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.database
            .read(move |connection| read::heads(connection, &request))
            .await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.database
            .read(move |connection| check::fingerprints(connection, &request))
            .await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.database
            .read(move |connection| check::fingerprints_of(connection, &request))
            .await
    }

    async fn sync(&self) -> BackendResult<()> {
        self.database.sync().await
    }

    async fn close(&self) -> BackendResult<()> {
        self.database.close().await
    }
}

#[async_trait]
impl RelationalBackend for SqliteRelational {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.database
            .read(move |connection| read::get(connection, &request))
            .await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.database
            .read(move |connection| search::search(connection, &request))
            .await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.database
            .read(move |connection| read::list(connection, &request))
            .await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.database
            .read(move |connection| read::count(connection, &collection, filter.as_deref()))
            .await
    }
}
