//! PostgreSQL through the whole facade against the same work by hand-written SQL: same server, same
//! rows, one run. The facade has this one store, so that what it adds is seen.
//!
//! ```text
//! eval "$(scripts/servers env)"
//! cargo bench -p dbmanager-backend-relational --features postgres --bench postgres
//! ```
//!
//! Both stem English words. Besides the statements a write costs a commit of the journal, which is
//! measured alone (level `Journaled`, while the store is not written to).

#[path = "../../../benches/support/measure.rs"]
mod measure;

use std::time::Duration;

use dbmanager_backend_relational::postgres::PostgresFactory;
use dbmanager_core::{
    DatabaseManager, Runtime,
    backend::ServiceConfig,
    config::Config,
    model::{Document, Level, Query, Role},
};
use measure::{criterion, is_trial, measure, measure_after, ratio};
use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgPoolOptions, PgRow},
};

const DOCUMENTS: usize = 5_000;
const BATCH: usize = 1_000;
/// The words of the texts; how many differ decides how much a search finds.
const WORDS: usize = 2_000;

fn title(number: usize) -> String {
    format!("title {} {}", word(number), word(number * 7))
}

fn word(number: usize) -> String {
    format!("word{}", number % WORDS)
}

fn text(number: usize) -> String {
    let words = (0..80).map(|at| word(number * 31 + at * at));
    words.collect::<Vec<_>>().join(" ")
}

fn document(number: usize) -> Document {
    Document::new(format!("document-{number:08}"))
        .title(title(number))
        .text(text(number))
        .metadata("year", 1900 + number % 100)
        .metadata("author", word(number))
}

/// The same by hand: one table with what the adapter keeps of a document.
struct Raw {
    pool: PgPool,
    table: String,
}

impl Raw {
    async fn new(url: &str, schema: &str) -> sqlx::Result<Self> {
        // As fast as the client is: its pool would ask for a sign of life before every statement.
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .test_before_acquire(false);
        let pool = pool.connect(url).await?;
        let table = format!("{schema}.raw");
        let create = format!(
            "CREATE SCHEMA {schema}; CREATE TABLE {table} (id text COLLATE \"C\" PRIMARY KEY,
                 version bigint NOT NULL, title text, metadata jsonb, words tsvector,
                 canonical bytea);
             CREATE INDEX ON {table} (version); CREATE INDEX ON {table} USING gin (words);
             CREATE INDEX ON {table} USING gin (metadata jsonb_path_ops)"
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&pool).await?;
        Ok(Self { pool, table })
    }

    async fn write(&self, documents: &[Document], version: i64) -> sqlx::Result<()> {
        let json = |document: &Document| serde_json::to_vec(document).expect("a document is JSON");
        let metadata =
            |document: &Document| serde_json::to_string(&document.metadata).expect("JSON");
        let statement = format!(
            "INSERT INTO {} (id, version, title, metadata, words, canonical)
             SELECT id, $1, title, metadata::jsonb, to_tsvector('english', title || ' ' || text), canonical
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
                  AS row (id, title, metadata, text, canonical)
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, title = excluded.title,
                 metadata = excluded.metadata, words = excluded.words,
                 canonical = excluded.canonical
             WHERE raw.version < excluded.version",
            self.table
        );
        let column =
            |of: &dyn Fn(&Document) -> String| documents.iter().map(of).collect::<Vec<_>>();
        sqlx::query(AssertSqlSafe(statement))
            .bind(version)
            .bind(column(&|d| d.id.clone()))
            .bind(column(&|d| d.title.clone()))
            .bind(column(&metadata))
            .bind(column(&|d| d.text.clone()))
            .bind(documents.iter().map(json).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn read(&self, id: &str) -> sqlx::Result<Document> {
        let statement = format!(
            "SELECT id, version, canonical FROM {} WHERE id = $1",
            self.table
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(id)
            .fetch_one(&self.pool)
            .await?;
        content(&row)
    }

    /// The ten best by the server's own ranking, with their content.
    async fn search(&self, words: &str) -> sqlx::Result<Vec<Document>> {
        let statement = format!(
            "SELECT id, version, canonical FROM {0}, to_tsquery('english', $1) AS query
             WHERE words @@ query ORDER BY ts_rank(words, query) DESC, id LIMIT 10",
            self.table
        );
        let any = words.split(' ').collect::<Vec<_>>().join(" | ");
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(any)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(content).collect()
    }
}

/// What a caller is given of a row: id and version stand in it, and the document.
fn content(row: &PgRow) -> sqlx::Result<Document> {
    let (_id, _version): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let bytes: &[u8] = row.try_get(2)?;
    Ok(serde_json::from_slice(bytes).expect("what was written"))
}

async fn facade(url: &str, schema: &str, directory: &std::path::Path) -> DatabaseManager {
    let mut config = ServiceConfig::new();
    config.insert("url".to_owned(), url.into());
    config.insert("schema".to_owned(), schema.into());
    let config = Config::embedded(directory)
        .disable(Role::Vector)
        .disable(Role::Graph)
        .store(Role::Relational, "postgres", config)
        .embedding("none", ServiceConfig::new())
        .adjust(|settings| settings.performance.batch_size = BATCH);
    DatabaseManager::builder(config)
        .register(PostgresFactory::new())
        .open()
        .await
        .expect("the server answers")
}

fn main() {
    let Ok(url) = std::env::var("DBMANAGER_TEST_POSTGRES_URL") else {
        println!("not measured: DBMANAGER_TEST_POSTGRES_URL names no server");
        return;
    };
    let count = if is_trial() { 200 } else { DOCUMENTS };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let schema = runtime.block_on(async { Runtime::tokio().random_u64() });
    let schema = format!("bench_{schema:016x}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let raw = runtime
        .block_on(Raw::new(&url, &format!("{schema}_raw")))
        .expect("tables");
    let db = runtime.block_on(facade(&url, &schema, directory.path()));
    let documents: Vec<Document> = (0..count).map(document).collect();
    runtime.block_on(async {
        for batch in documents.chunks(BATCH) {
            raw.write(batch, 1).await.expect("written");
            let stored = db
                .store_documents("bench", batch.to_vec())
                .level(Level::All)
                .await;
            stored
                .expect("journaled")
                .into_iter()
                .for_each(|receipt| drop(receipt.expect("stored")));
        }
    });
    let mut criterion = criterion();
    let mut number = 0;
    let mut next = || {
        number += 1;
        number
    };

    let by_hand = measure(&mut criterion, "read/raw", || {
        let id = &documents[next() % count].id;
        runtime.block_on(raw.read(id)).expect("read");
    });
    let through = measure(&mut criterion, "read/facade", || {
        let id = &documents[next() % count].id;
        let found = runtime
            .block_on(db.get_document("bench", id))
            .expect("read");
        assert!(found.is_some());
    });
    ratio("read one, facade ÷ raw", through, by_hand);

    let words = |number: usize| format!("{} {}", word(number), word(number * 3 + 1));
    let by_hand = measure(&mut criterion, "search/raw", || {
        runtime
            .block_on(raw.search(&words(next())))
            .expect("searched");
    });
    let through = measure(&mut criterion, "search/facade", || {
        let query = Query::metadata(words(next()));
        let found = runtime
            .block_on(db.search_documents("bench", query))
            .expect("searched");
        assert!(!found.degraded());
    });
    ratio("search, facade (BM25) ÷ raw (ts_rank)", through, by_hand);

    let mut version = 1;
    let mut write_raw = |documents: Vec<Document>| {
        version += 1;
        runtime
            .block_on(raw.write(&documents, version))
            .expect("written");
    };
    let write = |documents: Vec<Document>, level: Level| {
        let stored =
            runtime.block_on(async { db.store_documents("bench", documents).level(level).await });
        stored
            .expect("journaled")
            .into_iter()
            .for_each(|receipt| drop(receipt.expect("stored")));
    };
    let one = |number: usize| vec![document(number % count)];
    // What is journaled is sent to the store all the same, which must not go on meanwhile.
    let settled = || {
        runtime.block_on(async {
            while db.health().stores.iter().any(|store| store.backlog > 0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    };
    let journal = measure_after(&mut criterion, "write one/journal alone", settled, || {
        write(one(next()), Level::Journaled);
    });
    settled();
    let by_hand = measure(&mut criterion, "write one/raw", || write_raw(one(next())));
    let through = measure(&mut criterion, "write one/facade", || {
        write(one(next()), Level::All)
    });
    let sum = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
    ratio(
        "write one, facade ÷ (raw + a journal commit)",
        through,
        sum(by_hand, journal),
    );

    let size = BATCH.min(count);
    let batch = |number: usize| -> Vec<Document> {
        (0..size)
            .map(|at| document((number * size + at) % count))
            .collect()
    };
    let journal = measure_after(&mut criterion, "write 1,000/journal alone", settled, || {
        write(batch(next()), Level::Journaled);
    });
    settled();
    let by_hand = measure(&mut criterion, "write 1,000/raw", || {
        write_raw(batch(next()))
    });
    let through = measure(&mut criterion, "write 1,000/facade", || {
        write(batch(next()), Level::All)
    });
    ratio(
        "write 1,000, facade ÷ (raw + a journal commit)",
        through,
        sum(by_hand, journal),
    );

    runtime.block_on(async {
        db.close(Duration::from_secs(60)).await.expect("closed");
        for schema in [schema.clone(), format!("{schema}_raw")] {
            let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
            sqlx::raw_sql(AssertSqlSafe(drop))
                .execute(&raw.pool)
                .await
                .expect("dropped");
        }
    });
}
