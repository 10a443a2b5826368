//! How many documents there are, and how many have a word: what BM25 weighs words by.
//!
//! Small numbers are counted with every search. Large ones, where a few more or less change no
//! weight, are kept for a while, and in large collections they are estimated from a sample.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use dbmanager_core::Runtime;
use sqlx::{AssertSqlSafe, Row as _, postgres::PgConnection};

use super::{catalogue::StoredCollection, convert::JobResult, search::quoted, words};

/// Up to so many documents are counted with every search.
const SMALL: i64 = 2_000;
/// From so many rows on a sample is looked at in place of all.
const LARGE: f64 = 20_000.0;
/// About so many rows are a sample.
const SAMPLE: f64 = 5_000.0;
/// What was counted is kept for at least this time,
const KEPT_FOR: Duration = Duration::from_secs(5);
/// or for so many times as long as counting took, so that it is one part in a hundred of the work.
const KEPT_TIMES: u32 = 100;

/// A term of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// As the server has folded and stemmed it.
    pub(super) lexeme: String,
    /// How often the query has it.
    pub(super) repetitions: u32,
    /// How many documents have it.
    pub(super) documents: i64,
}

/// What a query's terms are weighed by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frequencies {
    /// Live documents.
    pub(super) documents: i64,
    /// Words of a document, on average.
    pub(super) average_length: f64,
    /// The query's distinct terms.
    pub(super) terms: Vec<Term>,
}

/// What is known of large collections, by table.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    large: Mutex<HashMap<String, Large>>,
}

/// What was found out about a large collection.
#[derive(Clone, Debug, Default)]
struct Large {
    until: Duration,
    documents: i64,
    average_length: f64,
    /// Which part of the documents has a word.
    shares: HashMap<String, f64>,
}

impl Statistics {
    /// The terms of a query's words with what they are weighed by.
    pub(super) async fn frequencies(
        &self,
        connection: &mut PgConnection,
        collection: &StoredCollection,
        query: &str,
        runtime: &Runtime,
    ) -> JobResult<Frequencies> {
        let known_large = self.known(collection, runtime.monotonic()).is_some();
        let mut found = counted(connection, collection, query, known_large).await?;
        if found.documents <= SMALL {
            return Ok(found);
        }
        let common = |term: &&mut Term| term.documents > SMALL;
        let wanted: Vec<String> = found
            .terms
            .iter_mut()
            .filter(common)
            .map(|term| term.lexeme.clone())
            .collect();
        let large = self.large(connection, collection, &wanted, runtime).await?;
        found.documents = large.documents.max(found.documents);
        found.average_length = large.average_length;
        for term in found.terms.iter_mut().filter(common) {
            let share = large.shares.get(&term.lexeme).copied().unwrap_or(0.0);
            term.documents = term.documents.max((share * found.documents as f64) as i64);
        }
        Ok(found)
    }

    async fn large(
        &self,
        connection: &mut PgConnection,
        collection: &StoredCollection,
        wanted: &[String],
        runtime: &Runtime,
    ) -> JobResult<Large> {
        let start = runtime.monotonic();
        let mut known = self.known(collection, start).unwrap_or_default();
        let missing: Vec<&String> = wanted
            .iter()
            .filter(|lexeme| !known.shares.contains_key(*lexeme))
            .collect();
        if known.documents > 0 && missing.is_empty() {
            return Ok(known);
        }
        let looked_at = look(connection, collection, &missing).await?;
        let now = runtime.monotonic();
        let until = now + KEPT_FOR.max((now - start) * KEPT_TIMES);
        if known.documents == 0 {
            known = Large { until, ..looked_at };
        } else {
            known.shares.extend(looked_at.shares);
        }
        let mut all = self.all();
        // What is out of date is of no use, least of all for tables that were dropped.
        all.retain(|_, large| large.until > now);
        all.insert(collection.table.clone(), known.clone());
        Ok(known)
    }

    fn known(&self, collection: &StoredCollection, now: Duration) -> Option<Large> {
        let all = self.all();
        all.get(&collection.table)
            .filter(|large| large.until > now)
            .cloned()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Large>> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The terms of a query; all numbers right up to [`SMALL`], and above it if they are more, as those
/// of the collection are known to be if it is `known_large`.
async fn counted(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    query: &str,
    known_large: bool,
) -> JobResult<Frequencies> {
    let table = &collection.table;
    let whole = match known_large {
        true => "SELECT $2::int8 AS documents, 0::float8 AS length".to_owned(),
        false => format!(
            "SELECT count(*) AS documents, coalesce(avg(length), 0)::float8 AS length
             FROM (SELECT length FROM {table} WHERE NOT deleted LIMIT $2) AS counted"
        ),
    };
    let configuration = words::configuration(collection.tokenizer)?;
    let vector = words::vector_sql(configuration, "$1");
    let sql = format!(
        "SELECT documents, length, term.lexeme, term.repetitions, term.documents_with
         FROM ({whole}) AS collection
         LEFT JOIN (
             SELECT lexeme, cardinality(positions) AS repetitions,
                    (SELECT count(*)
                     FROM (SELECT FROM {table}
                           WHERE words @@ ('''' || replace(replace(lexeme, '\\', '\\\\'),
                                                           '''', '''''') || '''')::tsquery
                           LIMIT $2) AS matching) AS documents_with
             FROM unnest({vector})
         ) AS term ON true"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(query)
        .bind(SMALL + 1)
        .fetch_all(connection)
        .await?;
    let mut found = Frequencies {
        documents: 0,
        average_length: 0.0,
        terms: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        found.documents = row.try_get(0)?;
        found.average_length = row.try_get(1)?;
        let lexeme: Option<String> = row.try_get(2)?;
        if let Some(lexeme) = lexeme {
            let repetitions: Option<i32> = row.try_get(3)?;
            found.terms.push(Term {
                lexeme,
                repetitions: repetitions.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
                documents: row.try_get(4)?,
            });
        }
    }
    Ok(found)
}

/// Counts in the whole table, or in a sample of a large one.
async fn look(
    connection: &mut PgConnection,
    collection: &StoredCollection,
    lexemes: &[&String],
) -> JobResult<Large> {
    let table = &collection.table;
    // As the planner does: rows per page when they were last counted, times the pages of today.
    let rows: f64 = sqlx::query_scalar(
        "SELECT coalesce(max(reltuples::float8 / greatest(relpages, 1) * pg_relation_size(oid)
                             / current_setting('block_size')::float8), 0)
         FROM pg_class WHERE oid = to_regclass($1)",
    )
    .bind(table)
    .fetch_one(&mut *connection)
    .await?;
    let sampled = rows > LARGE;
    let sample = match sampled {
        true => format!(
            "TABLESAMPLE SYSTEM ({}) REPEATABLE (0)",
            100.0 * SAMPLE / rows
        ),
        false => String::new(),
    };
    let having: String = (1..=lexemes.len())
        .map(|parameter| format!(", count(*) FILTER (WHERE words @@ ${parameter}::tsquery)"))
        .collect();
    let sql = format!(
        "SELECT count(*), count(*) FILTER (WHERE NOT deleted), coalesce(avg(length), 0)::float8 \
         {having} FROM {table} {sample}"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    let row = lexemes
        .iter()
        .fold(query, |query, lexeme| query.bind(quoted(lexeme)))
        .fetch_one(connection)
        .await?;
    let (all, live): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let documents = match sampled {
        true => (rows * live as f64 / all.max(1) as f64) as i64,
        false => live,
    };
    let mut shares = HashMap::with_capacity(lexemes.len());
    for (index, lexeme) in lexemes.iter().enumerate() {
        let having: i64 = row.try_get(3 + index)?;
        shares.insert((*lexeme).clone(), having as f64 / live.max(1) as f64);
    }
    Ok(Large {
        until: Duration::ZERO,
        documents: documents.max(1),
        average_length: row.try_get(2)?,
        shares,
    })
}
