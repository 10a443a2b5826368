//! What is recorded of operations, keys and documents.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::Head,
    journal::{AppendRequest, EntryKind, JournalResult, OperationLookup},
    model::OperationId,
};
use sqlx::postgres::{PgConnection, PgRow};

use super::{
    append::Group,
    codec::{self, collection_key, column, damaged, identifier, signed, unsigned, version},
    engine::Engine,
    transaction::{Transaction, run},
};

/// The record of an operation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    Accepted { lookup: OperationLookup },
    Refused,
}

impl Known {
    pub(super) fn into_lookup(self) -> OperationLookup {
        match self {
            Known::Accepted { lookup } => lookup,
            Known::Refused => OperationLookup::Refused,
        }
    }
}

const KNOWN_COLUMNS: &str = "o.operation_id::text AS operation, o.version, o.collection,
    o.generation, o.id,
    EXISTS (SELECT FROM journal_entry AS e WHERE e.version = o.version) AS live";

fn known(row: &PgRow) -> JournalResult<(OperationId, Known)> {
    let operation_id = identifier(row, "operation")?;
    let accepted: Option<i64> = column(row, "version")?;
    if accepted.is_none() {
        return Ok((operation_id, Known::Refused));
    }
    let lookup = OperationLookup::Accepted {
        operation_id,
        version: version(row, "version")?,
        collection: collection_key(row)?,
        id: Arc::from(column::<&str>(row, "id")?),
        live: column(row, "live")?,
    };
    Ok((operation_id, Known::Accepted { lookup }))
}

/// The records of these operations.
async fn operations(
    connection: &mut PgConnection,
    wanted: Vec<String>,
) -> JournalResult<HashMap<OperationId, Known>> {
    let sql = format!(
        "SELECT {KNOWN_COLUMNS} FROM journal_operation AS o
         WHERE o.operation_id = ANY ($1::text[]::uuid[])"
    );
    let rows = run(sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(wanted)
        .fetch_all(connection))
    .await?;
    rows.iter().map(known).collect()
}

/// The input hash and the operation of each of these keys.
async fn keys(
    connection: &mut PgConnection,
    places: Vec<Vec<u8>>,
) -> JournalResult<HashMap<[u8; 32], ([u8; 32], OperationLookup)>> {
    let sql = format!(
        "SELECT k.place, k.input_hash, {KNOWN_COLUMNS}
         FROM journal_key AS k JOIN journal_operation AS o USING (operation_id)
         WHERE k.place = ANY ($1)"
    );
    let rows = run(sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(places)
        .fetch_all(connection))
    .await?;
    let hash = |row: &PgRow, name: &str| -> JournalResult<[u8; 32]> {
        let bytes: &[u8] = column(row, name)?;
        bytes
            .try_into()
            .map_err(|_| damaged(format!("column {name} is no hash")))
    };
    rows.iter()
        .map(|row| {
            let (_, known) = known(row)?;
            let used = (hash(row, "input_hash")?, known.into_lookup());
            Ok((hash(row, "place")?, used))
        })
        .collect()
}

impl Transaction<'_> {
    /// Reads what the group's requests need to know, all at once.
    pub(super) async fn prefetch<'r>(
        &mut self,
        requests: impl Iterator<Item = &'r AppendRequest>,
    ) -> JournalResult<Group> {
        let mut wanted = Vec::new();
        let mut places = HashSet::new();
        let mut documents = HashSet::new();
        for request in requests {
            wanted.push(request.operation_id.to_string());
            if let Some(key) = &request.idempotency_key {
                places.insert(codec::key_place(&request.collection.name, &key.key));
            }
            if request.precondition.is_some() {
                documents.insert((request.collection.generation, Arc::clone(&request.id)));
            }
        }
        let mut group = Group {
            operations: operations(self.connection(), wanted).await?,
            ..Group::default()
        };
        if !places.is_empty() {
            let places = places.into_iter().map(|place| place.to_vec()).collect();
            group.keys = keys(self.connection(), places).await?;
        }
        if !documents.is_empty() {
            group.heads = self.heads(documents).await?;
        }
        Ok(group)
    }

    /// The newest accepted version of each document, whether its entry is live or let go of: a
    /// record is kept for longer than anyone can act on what the authority held before. What was
    /// let go of before another authority was adopted is not counted.
    async fn heads(
        &mut self,
        documents: HashSet<(u64, Arc<str>)>,
    ) -> JournalResult<HashMap<(u64, Arc<str>), Head>> {
        let generations: Vec<i64> = documents.iter().map(|d| signed(d.0)).collect();
        let ids: Vec<String> = documents.iter().map(|d| d.1.to_string()).collect();
        let query = sqlx::query(
            "SELECT d.generation, d.id, newest.version, newest.kind
             FROM unnest($1::bigint[], $2::text[]) AS d (generation, id)
             CROSS JOIN LATERAL (
                 SELECT o.version, o.kind FROM journal_operation AS o
                 WHERE o.generation = d.generation AND o.id = d.id AND o.version IS NOT NULL
                   AND (o.ended IS NULL OR o.adoptions = $3)
                 ORDER BY o.version DESC LIMIT 1
             ) AS newest",
        )
        .bind(generations)
        .bind(ids)
        .bind(signed(self.facts.adoptions));
        let rows = run(query.fetch_all(self.connection())).await?;
        rows.iter()
            .map(|row| {
                let document = (
                    unsigned(row, "generation")?,
                    Arc::from(column::<&str>(row, "id")?),
                );
                let kind = codec::kind_of(column(row, "kind")?)?;
                let head = Head {
                    version: version(row, "version")?,
                    deleted: kind != EntryKind::Upsert,
                };
                Ok((document, head))
            })
            .collect()
    }

    pub(super) async fn known_operation(
        &mut self,
        operation_id: OperationId,
    ) -> JournalResult<Option<Known>> {
        let found = self.known_operations([operation_id]).await?;
        Ok(found.into_values().next())
    }

    pub(super) async fn known_operations(
        &mut self,
        wanted: impl IntoIterator<Item = OperationId>,
    ) -> JournalResult<HashMap<OperationId, Known>> {
        let wanted = wanted.into_iter().map(|id| id.to_string()).collect();
        operations(self.connection(), wanted).await
    }
}

impl Engine {
    /// What is recorded of an operation.
    pub(super) async fn operation(
        &self,
        operation_id: OperationId,
    ) -> JournalResult<OperationLookup> {
        let mut connection = self.connection().await?;
        let found = operations(&mut connection, vec![operation_id.to_string()]).await?;
        let horizon = sqlx::query("SELECT horizon FROM journal");
        let row = run(horizon.fetch_one(&mut *connection)).await?;
        connection.release();
        let horizon = unsigned(&row, "horizon")?;
        let now = self.runtime.unix_milliseconds();
        Ok(match found.into_values().next() {
            Some(known) => known.into_lookup(),
            None => absent(operation_id, self.lookup_horizon(now, horizon)),
        })
    }

    /// What an idempotency key was used for.
    pub(super) async fn key(
        &self,
        collection: &str,
        key: &str,
    ) -> JournalResult<Option<([u8; 32], OperationLookup)>> {
        let place = codec::key_place(collection, key).to_vec();
        let mut connection = self.connection().await?;
        let found = keys(&mut connection, vec![place]).await?;
        connection.release();
        Ok(found.into_values().next())
    }
}

/// What it means that nothing is recorded.
pub(super) fn absent(operation_id: OperationId, horizon: u64) -> OperationLookup {
    if operation_id.unix_milliseconds() < horizon {
        OperationLookup::Expired
    } else {
        OperationLookup::Unknown
    }
}
