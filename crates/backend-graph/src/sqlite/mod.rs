//! The graph in one SQLite file.
//!
//! | table | holds |
//! |---|---|
//! | `document` | a small row per id: version, tombstone. Ids are compared byte for byte |
//! | `node` | a live document's title and type |
//! | `edge` | a live document's outgoing references, in order of their source; an index has them in order of their target |
//! | `title_<collection>` | titles in FTS5, with the collection's tokenizer |
//!
//! A target is kept as (collection, id), not as a row of `document`: it need not exist yet, and
//! may come and go without the edge being touched.
//!
//! A write is one transaction per batch. It survives a crash of the process at once, a power loss
//! from the next `sync`.

mod apply;
mod check;
mod neighbourhood;
mod paths;
mod read;
mod schema;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::sqlite::{Database, FileConfig, batch, collections, stamp};
use dbmanager_core::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Edges, Fingerprint, GraphBackend, Head,
        Identity, IdsRequest, ListRequest, Neighbour, NeighbourhoodRequest, OpenContext, Page,
        Path, PathsRequest, ServiceConfig, StampRequest, TextHit, TextSearchRequest,
        parse_service_config,
    },
    model::{CollectionKey, Role},
};

const SERVICE: &str = "sqlite";
const DEFAULT_FILE: &str = "graph.db";

/// Opens graphs in SQLite files, as the service `sqlite`. Configuration: `database_path`
/// (default: `graph.db` in the data directory), `enable_wal` (default true), `busy_timeout`
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
        Role::Graph
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        parse_service_config::<FileConfig>(Role::Graph, SERVICE, config)?
            .location(context, DEFAULT_FILE)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config: FileConfig = parse_service_config(Role::Graph, SERVICE, config)?;
        let database = Database::open(
            config.path(context, DEFAULT_FILE)?,
            config.options(context),
            &context.runtime,
            &schema::SCHEMA,
        )
        .await?;
        Ok(AnyBackend::Graph(Arc::new(SqliteGraph {
            database,
            capabilities: Capabilities::new(),
        })))
    }
}

#[derive(Debug)]
struct SqliteGraph {
    database: Database,
    capabilities: Capabilities,
}

#[async_trait]
impl Backend for SqliteGraph {
    fn role(&self) -> Role {
        Role::Graph
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
                        schema::create_titles(transaction, &collection)
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
            full_text: schema::titles,
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
impl GraphBackend for SqliteGraph {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.database
            .read(move |connection| neighbourhood::neighbourhood(connection, &request))
            .await
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.database
            .read(move |connection| paths::paths(connection, &request))
            .await
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.database
            .read(move |connection| read::match_titles(connection, &request))
            .await
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.database
            .read(move |connection| read::edges(connection, &request))
            .await
    }
}
