//! The collections a store holds, each with a table of its own.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::{Collection, CollectionKey, CollectionOptions, Tokenizer},
};
use sqlx::{AssertSqlSafe, postgres::PgConnection};

use super::{
    convert::{JobError, JobResult},
    schema,
};

/// Where a collection lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredCollection {
    /// Its table.
    pub(super) table: String,
    /// How its text is cut into words; never changes.
    pub(super) tokenizer: Tokenizer,
}

/// What is known of where collections lie. An entry is right as long as its table is there: tables
/// are never used again for another collection.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    known: RwLock<HashMap<CollectionKey, Arc<StoredCollection>>>,
}

impl Catalogue {
    /// The collection.
    ///
    /// # Errors
    /// `CollectionMissing` if it was never created here, or was dropped.
    pub(super) async fn get(
        &self,
        connection: &mut PgConnection,
        key: &CollectionKey,
    ) -> JobResult<Arc<StoredCollection>> {
        if let Some(stored) = self.known(key) {
            return Ok(stored);
        }
        let Some((number, options)) = find(connection, key).await? else {
            return Err(missing(key).into());
        };
        let (_, generation) = parts(key)?;
        let stored = Arc::new(StoredCollection {
            table: schema::documents_table(number, generation),
            tokenizer: options.tokenizer,
        });
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), Arc::clone(&stored));
        Ok(stored)
    }

    fn known(&self, key: &CollectionKey) -> Option<Arc<StoredCollection>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }

    /// Looks the collection up again next time.
    pub(super) fn forget(&self, key: &CollectionKey) {
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

/// What a request for a collection that is not there is told.
pub(super) fn missing(key: &CollectionKey) -> BackendError {
    BackendError::new(
        BackendErrorKind::CollectionMissing,
        format!("collection {key} was not created here"),
    )
    .not_applied()
}

/// Makes the collection known and its table, within a transaction. With the options it has already
/// nothing changes; an embedding space is filled in if it has none, and one that is not repeated
/// stays.
///
/// # Errors
/// `Refused` for other options than those it has, or for what cannot be stored.
pub(super) async fn create(
    transaction: &mut PgConnection,
    collection: &Collection,
) -> JobResult<()> {
    lock(transaction).await?;
    let (name, generation) = parts(&collection.key)?;
    if name.contains('\0') {
        return Err(refused("a collection's name contains NUL"));
    }
    // Before anything is made: a tokenizer that is not known has no words.
    super::words::configuration(collection.options.tokenizer)?;
    let Some((number, held)) = find(transaction, &collection.key).await? else {
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO collection (name, generation, options) VALUES ($1, $2, $3) RETURNING key",
        )
        .bind(name)
        .bind(generation)
        .bind(to_json(&collection.options)?)
        .fetch_one(&mut *transaction)
        .await?;
        let table = schema::documents_table(number, generation);
        sqlx::raw_sql(AssertSqlSafe(schema::create_documents(&table)))
            .execute(transaction)
            .await?;
        return Ok(());
    };
    let Some(merged) = held.filled_in(&collection.options) else {
        return Err(refused(format!(
            "collection {} exists with other options",
            collection.key
        )));
    };
    if merged != held {
        sqlx::query("UPDATE collection SET options = $2 WHERE key = $1")
            .bind(number)
            .bind(to_json(&merged)?)
            .execute(transaction)
            .await?;
    }
    Ok(())
}

/// Removes the collection and its table, within a transaction, if it is there.
pub(super) async fn remove(transaction: &mut PgConnection, key: &CollectionKey) -> JobResult<()> {
    lock(transaction).await?;
    let (name, generation) = parts(key)?;
    let number: Option<i64> = sqlx::query_scalar(
        "DELETE FROM collection WHERE name = $1 AND generation = $2 RETURNING key",
    )
    .bind(name)
    .bind(generation)
    .fetch_optional(&mut *transaction)
    .await?;
    if let Some(number) = number {
        let table = schema::documents_table(number, generation);
        sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE IF EXISTS {table}")))
            .execute(transaction)
            .await?;
    }
    Ok(())
}

/// Every collection.
pub(super) async fn list(connection: &mut PgConnection) -> JobResult<Vec<CollectionKey>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT name, generation FROM collection ORDER BY key")
            .fetch_all(connection)
            .await?;
    rows.into_iter()
        .map(|(name, generation)| {
            let generation = u64::try_from(generation)
                .map_err(|_| damaged("the generation of a collection is damaged"))?;
            Ok(CollectionKey::new(name, generation))
        })
        .collect()
}

/// The table of every collection.
pub(super) async fn tables(connection: &mut PgConnection) -> JobResult<Vec<String>> {
    let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT key, generation FROM collection")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(key, generation)| schema::documents_table(key, generation))
        .collect())
}

/// One creation or removal at a time; readers are not held up.
async fn lock(transaction: &mut PgConnection) -> JobResult<()> {
    sqlx::query("LOCK TABLE collection IN SHARE ROW EXCLUSIVE MODE")
        .execute(transaction)
        .await?;
    Ok(())
}

async fn find(
    connection: &mut PgConnection,
    key: &CollectionKey,
) -> JobResult<Option<(i64, CollectionOptions)>> {
    let (name, generation) = parts(key)?;
    if name.contains('\0') {
        return Ok(None);
    }
    let row: Option<(i64, String)> =
        sqlx::query_as("SELECT key, options FROM collection WHERE name = $1 AND generation = $2")
            .bind(name)
            .bind(generation)
            .fetch_optional(connection)
            .await?;
    row.map(|(number, options)| {
        let options = serde_json::from_str(&options)
            .map_err(|_| damaged("the options of a collection are damaged"))?;
        Ok((number, options))
    })
    .transpose()
}

fn parts(key: &CollectionKey) -> JobResult<(&str, i64)> {
    let generation = i64::try_from(key.generation)
        .map_err(|_| refused("a generation above 2^63 - 1 cannot be stored"))?;
    Ok((&key.name, generation))
}

fn to_json(options: &CollectionOptions) -> JobResult<String> {
    serde_json::to_string(options)
        .map_err(|_| refused("the collection's options cannot be written as JSON"))
}

fn refused(why: impl Into<String>) -> JobError {
    BackendError::new(BackendErrorKind::Refused, why)
        .not_applied()
        .into()
}

fn damaged(what: &str) -> JobError {
    BackendError::new(BackendErrorKind::Damaged, what).into()
}
