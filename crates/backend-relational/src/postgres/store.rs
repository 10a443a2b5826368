//! The factory and the store.

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendError, BackendErrorKind, BackendFactory,
        BackendResult, Capabilities, CreateCollectionRequest, DropCollectionRequest, Fingerprint,
        Head, Identity, IdsRequest, ListDocumentsRequest, ListRequest, OpenContext, Page,
        RelationalBackend, ServiceConfig, Stamp, StampRequest, StoredRecord, TextHit,
        TextSearchRequest, parse_service_config,
    },
    model::{CollectionKey, Filter, Role},
};
use futures_util::future::BoxFuture;
use sqlx::{Connection, postgres::PgConnection};

use super::{
    apply::Batch,
    catalogue::{self, Catalogue, StoredCollection},
    check,
    config::{ConnectionConfig, SessionSettings},
    connect,
    convert::{JobError, JobResult},
    pool::{Pool, end},
    read,
    schema::LAYOUT,
    search, stamp,
    statistics::Statistics,
    words,
};

const SERVICE: &str = "postgres";
const ALIASES: &[&str] = &["postgresql"];
const BEGIN: &str = "BEGIN";
/// Texts of this many bytes are cut into words where the caller is; larger ones elsewhere.
const CUT_AT_ONCE: usize = 256 * 1024;
/// How often a store is looked at whose collections are dropped meanwhile.
const MOST_LOOKS: usize = 10;
/// What is read together is of one moment.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Opens relational stores on PostgreSQL, as the service `postgres`. The options are on the
/// module's page.
#[derive(Clone, Copy, Debug, Default)]
pub struct PostgresFactory;

impl PostgresFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

fn parse(config: &ServiceConfig) -> BackendResult<ConnectionConfig> {
    parse_service_config(Role::Relational, SERVICE, config)
}

#[async_trait]
impl BackendFactory for PostgresFactory {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn aliases(&self) -> &[&str] {
        ALIASES
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Ok(parse(config)?.target()?.location())
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let target = parse(config)?.target()?;
        let session = SessionSettings::new(context);
        let opened = connect::open(&target, &session, &LAYOUT, context).await?;
        let mut capabilities = Capabilities::new();
        capabilities.durable = opened.server.durable;
        capabilities.durable_on_apply = opened.server.durable;
        Ok(AnyBackend::Relational(Arc::new(PostgresStore {
            pool: opened.pool,
            schema: target.schema().to_owned(),
            runtime: context.runtime.clone(),
            catalogue: Catalogue::default(),
            statistics: Arc::default(),
            capabilities,
        })))
    }
}

#[derive(Debug)]
struct PostgresStore {
    pool: Pool,
    schema: String,
    runtime: Runtime,
    catalogue: Catalogue,
    statistics: Arc<Statistics>,
    capabilities: Capabilities,
}

/// Work on a connection.
type Job<'c, T> = BoxFuture<'c, JobResult<T>>;

impl PostgresStore {
    /// Runs work that needs no collection.
    async fn run<T: Send>(
        &self,
        job: impl for<'c> FnOnce(&'c mut PgConnection) -> Job<'c, T> + Send,
    ) -> JobResult<T> {
        let mut lease = self.pool.acquire().await?;
        let result = job(&mut lease).await;
        lease.finish(result)
    }

    /// Runs work in a transaction, which is committed if the work succeeds.
    async fn transact<T: Send>(
        &self,
        begin: &'static str,
        job: impl for<'c> FnOnce(&'c mut PgConnection) -> Job<'c, T> + Send,
    ) -> JobResult<T> {
        let mut lease = self.pool.acquire().await?;
        let result = within(&mut lease, begin, job).await;
        lease.finish(result)
    }

    /// Makes the tables that every store has, if they are gone.
    async fn lay_out(&self) -> BackendResult<()> {
        let mut lease = self.pool.acquire().await?;
        LAYOUT.migrate(&mut lease, &self.schema).await?;
        lease.release();
        Ok(())
    }

    /// Runs work on a collection, in a transaction of its own if `begin` opens one. If the table
    /// is gone although it was known, it is looked up once more: another manager may have made it
    /// anew.
    async fn on<T: Send>(
        &self,
        key: &CollectionKey,
        begin: Option<&'static str>,
        job: impl for<'c> Fn(&'c mut PgConnection, Arc<StoredCollection>) -> Job<'c, T> + Send + Sync,
    ) -> BackendResult<T> {
        for _ in 0..2 {
            let mut lease = self.pool.acquire().await?;
            let result = match self.catalogue.get(&mut lease, key).await {
                Ok(collection) => match begin {
                    None => job(&mut lease, collection).await,
                    Some(begin) => within(&mut lease, begin, |c| job(c, collection)).await,
                },
                Err(error) => Err(error),
            };
            match lease.finish(result) {
                Err(error) if error.is_missing_table() => self.catalogue.forget(key),
                result => return result.map_err(JobError::translate),
            }
        }
        Err(catalogue::missing(key))
    }

    /// Cuts large texts into words where that holds nobody up.
    async fn batch(
        &self,
        request: &ApplyRequest,
        collection: &StoredCollection,
    ) -> BackendResult<Batch> {
        let bytes: usize = request
            .mutations
            .iter()
            .filter_map(|mutation| mutation.state.record())
            .map(|record| record.canonical().len())
            .sum();
        let request = request.clone();
        let tokenizer = collection.tokenizer;
        let limits = self.capabilities.limits.clone();
        let make = move || Batch::new(&request, tokenizer, &limits);
        if bytes <= CUT_AT_ONCE {
            return Ok(make());
        }
        self.runtime.blocking(make).await.map_err(|lost| {
            BackendError::new(BackendErrorKind::Unavailable, lost.to_string()).not_applied()
        })
    }
}

/// Runs work in a transaction, which is committed if the work succeeds.
async fn within<T>(
    connection: &mut PgConnection,
    begin: &'static str,
    job: impl for<'c> FnOnce(&'c mut PgConnection) -> Job<'c, T>,
) -> JobResult<T> {
    let mut transaction = connection.begin_with(begin).await?;
    let result = job(&mut transaction).await;
    end(transaction, result).await
}

#[async_trait]
impl Backend for PostgresStore {
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
        self.run(|connection| {
            Box::pin(async move {
                sqlx::query("SELECT epoch FROM stamp")
                    .fetch_optional(connection)
                    .await?;
                Ok(())
            })
        })
        .await
        .map_err(JobError::translate)
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        match self
            .run(|connection| Box::pin(stamp::read(connection)))
            .await
        {
            // Somebody has wiped the schema.
            Err(error) if error.is_missing_table() => Ok(None),
            read => read.map_err(JobError::translate),
        }
    }

    async fn identity(&self) -> BackendResult<Identity> {
        for _ in 0..MOST_LOOKS {
            let looked = self.transact(ONE_MOMENT, |transaction| {
                Box::pin(stamp::identity(transaction))
            });
            match looked.await {
                // A collection was dropped under our eyes, or somebody has wiped the schema.
                Err(error) if error.is_missing_table() => {}
                looked => return looked.map_err(JobError::translate),
            }
            let present = self.run(|connection| Box::pin(stamp::is_there(connection)));
            if !present.await.map_err(JobError::translate)? {
                return Ok(Identity::new(None, None, true));
            }
        }
        Err(BackendError::new(
            BackendErrorKind::Unavailable,
            "collections are dropped faster than they can be looked at",
        ))
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        for _ in 0..2 {
            let wanted = request.clone();
            let written = self.transact(BEGIN, move |transaction| {
                Box::pin(async move { stamp::write(transaction, &wanted).await })
            });
            match written.await {
                Err(error) if error.is_missing_table() => self.lay_out().await?,
                written => return written.map_err(JobError::translate),
            }
        }
        Err(BackendError::new(
            BackendErrorKind::Unavailable,
            "the table of the stamp was removed again",
        ))
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.transact(BEGIN, move |transaction| {
            Box::pin(async move {
                stamp::check_epoch(transaction, request.epoch).await?;
                catalogue::create(transaction, &request.collection).await
            })
        })
        .await
        .map_err(JobError::translate)
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        let key = request.collection.clone();
        let dropped = self
            .transact(BEGIN, move |transaction| {
                Box::pin(async move {
                    stamp::check_epoch(transaction, request.epoch).await?;
                    catalogue::remove(transaction, &request.collection).await
                })
            })
            .await;
        self.catalogue.forget(&key);
        dropped.map_err(JobError::translate)
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.run(|connection| Box::pin(catalogue::list(connection)))
            .await
            .map_err(JobError::translate)
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        for _ in 0..2 {
            let mut lease = self.pool.acquire().await?;
            let found = self.catalogue.get(&mut lease, &request.collection).await;
            let collection = match found {
                Ok(collection) => collection,
                Err(error) => {
                    return lease.finish(Err(error)).map_err(JobError::translate);
                }
            };
            let mut batch = self.batch(&request, &collection).await?;
            let sent = batch.send(&mut lease, &collection).await;
            match lease.finish(sent) {
                Err(error) if error.is_missing_table() && !batch.answered_any() => {
                    self.catalogue.forget(&request.collection);
                }
                ended => return batch.answers(ended.map_err(JobError::translate)),
            }
        }
        Err(catalogue::missing(&request.collection))
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let ids = request.ids;
        self.on(&request.collection, None, move |connection, collection| {
            let ids = Arc::clone(&ids);
            Box::pin(async move { read::heads(connection, &collection, &ids).await })
        })
        .await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        let key = request.collection.clone();
        self.on(&key, Some(ONE_MOMENT), move |transaction, collection| {
            let request = request.clone();
            Box::pin(async move { check::page(transaction, &collection, &request).await })
        })
        .await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        let ids = request.ids;
        let moment = Some(ONE_MOMENT);
        self.on(
            &request.collection,
            moment,
            move |transaction, collection| {
                let ids = Arc::clone(&ids);
                Box::pin(async move { check::some(transaction, &collection, &ids).await })
            },
        )
        .await
    }

    /// Every commit is durable already; that the server still answers is asked.
    async fn sync(&self) -> BackendResult<()> {
        self.probe().await
    }

    async fn close(&self) -> BackendResult<()> {
        self.pool.close().await;
        Ok(())
    }
}

#[async_trait]
impl RelationalBackend for PostgresStore {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        let ids = request.ids;
        self.on(&request.collection, None, move |connection, collection| {
            let ids = Arc::clone(&ids);
            Box::pin(async move { read::get(connection, &collection, &ids).await })
        })
        .await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        let key = request.collection.clone();
        let statistics = Arc::clone(&self.statistics);
        let runtime = self.runtime.clone();
        self.on(&key, None, move |connection, collection| {
            let (request, statistics, runtime) =
                (request.clone(), Arc::clone(&statistics), runtime.clone());
            Box::pin(async move {
                match words::of_query(collection.tokenizer, &request.text) {
                    None => search::everything(connection, &collection, &request).await,
                    Some(query) => {
                        let frequencies = statistics
                            .frequencies(connection, &collection, &query, &runtime)
                            .await?;
                        search::best(connection, &collection, &request, &frequencies).await
                    }
                }
            })
        })
        .await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        let key = request.collection.clone();
        self.on(&key, None, move |connection, collection| {
            let request = request.clone();
            Box::pin(async move { read::list(connection, &collection, &request).await })
        })
        .await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.on(&collection, None, move |connection, collection| {
            let filter = filter.clone();
            Box::pin(async move { read::count(connection, &collection, filter.as_deref()).await })
        })
        .await
    }
}
