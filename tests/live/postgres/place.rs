//! A schema of a test's own, removed when the test is over, and what tests do in it.

use std::{sync::Arc, time::Duration};

use dbmanager_backend_relational::postgres::PostgresFactory;
use dbmanager_core::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, BackendFactory, BackendResult, CreateCollectionRequest,
        Fingerprint, IdsRequest, Mutation, OpenContext, RelationalBackend, ServiceConfig, Stamp,
        StampRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, JournalId, StoreId,
        Tokenizer, VectorSet, Version,
    },
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::environment::{self, report, unique};

/// A schema that nobody else uses.
#[derive(Debug)]
pub(crate) struct Place {
    url: String,
    schema: String,
}

impl Place {
    /// On the server that the environment names; `None`, with a line in the report, without one.
    pub(crate) fn new() -> Option<Self> {
        Some(Self::at(&environment::POSTGRES.address()?))
    }

    pub(crate) fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            schema: unique("live"),
        }
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn config(&self) -> ServiceConfig {
        config(json!({"url": self.url, "schema": self.schema}))
    }

    /// Opens the store.
    pub(super) async fn open(&self) -> Arc<dyn RelationalBackend> {
        self.open_with(&context()).await
    }

    pub(super) async fn open_with(&self, context: &OpenContext) -> Arc<dyn RelationalBackend> {
        open(&self.config(), context).await.unwrap()
    }

    /// A connection past the adapter, in this schema.
    pub(crate) async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        run(
            &mut connection,
            &format!("SET search_path = {}", self.schema),
        )
        .await;
        connection
    }

    /// Statements past the adapter.
    pub(crate) async fn run(&self, sql: &str) {
        run(&mut self.connect().await, sql).await;
    }

    /// The only collection's table.
    pub(super) async fn table(&self) -> String {
        sqlx::query_scalar(
            "SELECT tablename::text FROM pg_tables
             WHERE schemaname = $1 AND tablename LIKE 'document_%'",
        )
        .bind(&self.schema)
        .fetch_one(&mut self.connect().await)
        .await
        .unwrap()
    }
}

pub(super) fn config(value: Value) -> ServiceConfig {
    value.as_object().unwrap().clone()
}

pub(super) fn context() -> OpenContext {
    OpenContext::new(Runtime::tokio())
}

/// A context whose attempts take little.
pub(super) fn impatient() -> OpenContext {
    context().attempt_timeout(Duration::from_millis(600))
}

pub(super) async fn open(
    config: &ServiceConfig,
    context: &OpenContext,
) -> BackendResult<Arc<dyn RelationalBackend>> {
    match PostgresFactory::new().open(config, context).await? {
        AnyBackend::Relational(backend) => Ok(backend),
        other => panic!("opened as {}", other.role()),
    }
}

/// Runs statements past the adapter.
pub(super) async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

pub(super) fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    }
}

pub(super) fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

/// Stamps the store and makes the collection.
pub(super) async fn prepare(store: &dyn RelationalBackend, tokenizer: Tokenizer) {
    store
        .write_stamp(StampRequest::new(stamp(1)))
        .await
        .unwrap();
    let collection = Collection {
        key: key(),
        options: CollectionOptions::new().tokenizer(tokenizer),
    };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
        .unwrap();
}

pub(super) fn upsert(version: u64, document: Document) -> Mutation {
    let id = document.id.clone();
    let record = DocumentRecord::new(document, VectorSet::empty()).unwrap();
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}

pub(super) fn request(mutations: Vec<Mutation>) -> ApplyRequest {
    ApplyRequest::new(key(), 1, mutations)
}

/// Writes what the store must take.
pub(super) async fn write(store: &dyn RelationalBackend, mutations: Vec<Mutation>) {
    for answer in store.apply(request(mutations)).await.unwrap() {
        answer.unwrap();
    }
}

pub(super) fn ids<const N: usize>(ids: [&str; N]) -> IdsRequest {
    IdsRequest::new(key(), ids.map(Arc::from).to_vec())
}

/// The only document's fingerprint.
pub(super) async fn fingerprint(store: &dyn RelationalBackend, id: &str) -> Fingerprint {
    let mut found = store.fingerprints_of(ids([id])).await.unwrap();
    found.remove(0).unwrap()
}

impl Drop for Place {
    fn drop(&mut self) {
        let (url, schema) = (self.url.clone(), self.schema.clone());
        // On a thread and a runtime of its own: the test's runtime may be ending.
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await.unwrap();
                let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                run(&mut connection, &drop).await;
            });
        });
        if removed.join().is_err() {
            report(&format!("postgres: schema {} is left behind", self.schema));
        }
    }
}
