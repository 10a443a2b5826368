//! Writing a group's entries, and reading entries back.

use dbmanager_core::{
    journal::{Entry, EntryHeader, JournalResult},
    model::Version,
};
use sqlx::AssertSqlSafe;
use std::collections::HashMap;

use super::{
    append::Row,
    codec::{self, HEADER_COLUMNS, header, signed, version_number},
    engine::Engine,
    transaction::{Transaction, run},
};

impl Transaction<'_> {
    /// Writes entries with the records of their operations and keys.
    pub(super) async fn write_rows(&mut self, rows: &[Row]) -> JournalResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let texts = |of: fn(&EntryHeader) -> String| -> Vec<String> {
            rows.iter().map(|row| of(&row.header)).collect()
        };
        let numbers = |of: fn(&EntryHeader) -> i64| -> Vec<i64> {
            rows.iter().map(|row| of(&row.header)).collect()
        };
        let kinds: Vec<i16> = rows
            .iter()
            .map(|row| codec::kind_number(row.header.kind))
            .collect();
        let canonical: Vec<Option<&[u8]>> = rows
            .iter()
            .map(|row| {
                row.content
                    .as_ref()
                    .map(|(canonical, _)| canonical.as_slice())
            })
            .collect();
        let vectors: Vec<Option<&[u8]>> = rows
            .iter()
            .map(|row| row.content.as_ref().map(|(_, vectors)| vectors.as_slice()))
            .collect();
        let places: Vec<Option<&[u8]>> = rows
            .iter()
            .map(|row| row.key.as_ref().map(|(place, _)| place.as_slice()))
            .collect();
        let hashes: Vec<Option<&[u8]>> = rows
            .iter()
            .map(|row| row.key.as_ref().map(|(_, hash)| hash.as_slice()))
            .collect();
        let insert = sqlx::query(
            "WITH given AS MATERIALIZED (
                 SELECT version, operation::uuid AS operation_id, collection, generation, id, kind,
                        bytes, appended_at, claimed, canonical, vectors, place, input_hash
                 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[],
                             $6::smallint[], $7::bigint[], $8::bigint[], $9::bigint[],
                             $10::bytea[], $11::bytea[], $12::bytea[], $13::bytea[])
                     AS g (version, operation, collection, generation, id, kind, bytes,
                           appended_at, claimed, canonical, vectors, place, input_hash)
             ), operations AS (
                 INSERT INTO journal_operation
                     (operation_id, claimed, version, collection, generation, id, kind, key)
                 SELECT operation_id, claimed, version, collection, generation, id, kind, place
                 FROM given
             ), keys AS (
                 INSERT INTO journal_key (place, input_hash, operation_id)
                 SELECT place, input_hash, operation_id FROM given WHERE place IS NOT NULL
             )
             INSERT INTO journal_entry
                 (version, operation_id, collection, generation, id, kind, bytes, appended_at,
                  canonical, vectors)
             SELECT version, operation_id, collection, generation, id, kind, bytes, appended_at,
                    canonical, vectors
             FROM given",
        )
        .bind(numbers(|h| version_number(h.version)))
        .bind(texts(|h| h.operation_id.to_string()))
        .bind(texts(|h| h.collection.name.to_string()))
        .bind(numbers(|h| signed(h.collection.generation)))
        .bind(texts(|h| h.id.to_string()))
        .bind(kinds)
        .bind(numbers(|h| signed(h.bytes)))
        .bind(numbers(|h| h.appended_at.as_unix_milliseconds()))
        .bind(numbers(|h| signed(h.operation_id.unix_milliseconds())))
        .bind(canonical)
        .bind(vectors)
        .bind(places)
        .bind(hashes);
        run(insert.execute(self.connection())).await?;
        self.changed = true;
        Ok(())
    }
}

impl Engine {
    /// Headers of live entries above a version, in order.
    pub(super) async fn headers_above(
        &self,
        after: Version,
        limit: usize,
    ) -> JournalResult<Vec<EntryHeader>> {
        let mut connection = self.connection().await?;
        let sql = format!(
            "SELECT {HEADER_COLUMNS} FROM journal_entry WHERE version > $1 ORDER BY version LIMIT $2"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(version_number(after))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        rows.iter().map(header).collect()
    }

    /// Headers of those of these entries that are live.
    pub(super) async fn headers_of(
        &self,
        versions: &[Version],
    ) -> JournalResult<HashMap<Version, EntryHeader>> {
        if versions.is_empty() {
            return Ok(HashMap::new());
        }
        let numbers: Vec<i64> = versions.iter().copied().map(version_number).collect();
        let mut connection = self.connection().await?;
        let sql = format!("SELECT {HEADER_COLUMNS} FROM journal_entry WHERE version = ANY ($1)");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(numbers);
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        let headers = rows.iter().map(header);
        headers
            .map(|header| header.map(|header| (header.version, header)))
            .collect()
    }

    /// Entries with their content, in the order given.
    pub(super) async fn entries(&self, versions: &[Version]) -> JournalResult<Vec<Option<Entry>>> {
        let numbers: Vec<i64> = versions.iter().copied().map(version_number).collect();
        let mut connection = self.connection().await?;
        let sql = format!(
            "SELECT {HEADER_COLUMNS}, canonical, vectors
             FROM journal_entry WHERE version = ANY ($1)"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(numbers);
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let header = header(row)?;
            let state = codec::state(row, &header)?;
            found.insert(header.version, Entry { header, state });
        }
        Ok(versions
            .iter()
            .map(|version| found.get(version).cloned())
            .collect())
    }
}
