//! Collections, stores and parked entries.

use std::sync::Arc;

use dbmanager_core::{
    journal::{JournalError, JournalErrorKind, JournalResult, ParkedEntry, RosterRecord},
    model::{Collection, CollectionKey, CollectionOptions, EmbeddingSpace, StoreId, Version},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::postgres::{PgConnection, PgRow};

use super::{
    codec::{self, column, damaged, identifier, version, version_number, without_nul},
    engine::Engine,
    expiry::full,
    transaction::{Catalogue, ChangeKind, Transaction, run},
};

/// The live collections.
pub(super) async fn read(connection: &mut PgConnection) -> JournalResult<Catalogue> {
    let query = sqlx::query("SELECT content FROM journal_collection");
    let rows = run(query.fetch_all(connection)).await?;
    rows.iter()
        .map(|row| {
            let collection: Collection = from_json(column(row, "content")?)?;
            Ok((Arc::clone(&collection.key.name), collection))
        })
        .collect()
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> JournalResult<T> {
    serde_json::from_str(text).map_err(|error| damaged(format!("a record: {error}")))
}

fn to_json<T: Serialize>(value: &T) -> JournalResult<String> {
    serde_json::to_string(value).map_err(|error| damaged(format!("a record: {error}")))
}

fn store(row: &PgRow) -> JournalResult<RosterRecord> {
    let record: RosterRecord = from_json(column(row, "content")?)?;
    Ok(RosterRecord {
        progress: version(row, "progress")?,
        ..record
    })
}

impl Transaction<'_> {
    /// Creates the collection, or finds one that has all that is asked for.
    pub(super) async fn create_collection(
        &mut self,
        name: &str,
        options: CollectionOptions,
    ) -> JournalResult<JournalResult<(Collection, bool)>> {
        if let Some(found) = self.catalogue.get(name) {
            let has_space = options.embedding_space.is_none()
                || options.embedding_space == found.options.embedding_space;
            return Ok(
                if has_space && options.tokenizer == found.options.tokenizer {
                    Ok((found.clone(), false))
                } else {
                    Err(JournalError::new(
                        JournalErrorKind::CollectionConflict,
                        format!(
                            "collection {name:?} exists with {:?}, not with {options:?}",
                            found.options
                        ),
                    ))
                },
            );
        }
        self.facts.generation += 1;
        let collection = Collection {
            key: CollectionKey::new(name, self.facts.generation),
            options,
        };
        self.put_collection(&collection).await?;
        Ok(Ok((collection, true)))
    }

    /// Records the embedding space of a collection that has none.
    pub(super) async fn set_embedding_space(
        &mut self,
        key: &CollectionKey,
        space: EmbeddingSpace,
    ) -> JournalResult<JournalResult<Collection>> {
        if let Err(error) = self.check_collection(key) {
            return Ok(Err(error));
        }
        let mut collection = self.catalogue[&key.name].clone();
        if collection.options.embedding_space.is_none() {
            collection.options.embedding_space = Some(space);
            self.put_collection(&collection).await?;
        }
        Ok(Ok(collection))
    }

    async fn put_collection(&mut self, collection: &Collection) -> JournalResult<()> {
        let content = to_json(collection)?;
        let insert = sqlx::query(
            "INSERT INTO journal_collection (name, content) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET content = excluded.content",
        )
        .bind(&*collection.key.name)
        .bind(content.as_str());
        run(insert.execute(self.connection())).await?;
        self.facts.catalogue += 1;
        Arc::make_mut(&mut self.catalogue)
            .insert(Arc::clone(&collection.key.name), collection.clone());
        self.publish(ChangeKind::Collection, None, Vec::new(), Some(content));
        Ok(())
    }

    pub(super) async fn remove_collection(&mut self, name: &str) -> JournalResult<()> {
        let delete = sqlx::query("DELETE FROM journal_collection WHERE name = $1").bind(name);
        run(delete.execute(self.connection())).await?;
        self.facts.catalogue += 1;
        Arc::make_mut(&mut self.catalogue).remove(name);
        Ok(())
    }

    /// Writes one store's record, of which the progress never goes back.
    pub(super) async fn put_store(&mut self, record: &RosterRecord) -> JournalResult<()> {
        self.check_sender()?;
        let content = to_json(record)?;
        let insert = sqlx::query(
            "INSERT INTO journal_store (store_id, content, progress) VALUES ($1::uuid, $2, $3)
             ON CONFLICT (store_id)
             DO UPDATE SET content = excluded.content,
                           progress = GREATEST(journal_store.progress, excluded.progress)",
        )
        .bind(record.store_id.to_string())
        .bind(content.as_str())
        .bind(version_number(record.progress));
        run(insert.execute(self.connection())).await?;
        let store_id = Some(record.store_id);
        self.publish(ChangeKind::Roster, store_id, Vec::new(), Some(content));
        Ok(())
    }

    /// Marks a live entry as refused by a store; one that is no longer live is passed over.
    pub(super) async fn park(&mut self, entry: &ParkedEntry) -> JournalResult<JournalResult<()>> {
        self.check_sender()?;
        let query = sqlx::query(
            "SELECT EXISTS (SELECT FROM journal_entry WHERE version = $1) AS live,
                    EXISTS (SELECT FROM journal_parked
                            WHERE version = $1 AND store_id = $2::uuid) AS known",
        )
        .bind(version_number(entry.version))
        .bind(entry.store_id.to_string());
        let row = run(query.fetch_one(self.connection())).await?;
        let (live, known): (bool, bool) = (column(&row, "live")?, column(&row, "known")?);
        if !live {
            return Ok(Ok(()));
        }
        let limit = self.engine().options.max_parked;
        if !known && self.facts.parked >= limit {
            return Ok(Err(full(format!(
                "max_parked ({limit}) entries are parked"
            ))));
        }
        let error = without_nul(&entry.error);
        let insert = sqlx::query(
            "INSERT INTO journal_parked (version, store_id, error) VALUES ($1, $2::uuid, $3)
             ON CONFLICT (version, store_id) DO UPDATE SET error = excluded.error",
        )
        .bind(version_number(entry.version))
        .bind(entry.store_id.to_string())
        .bind(error.as_str());
        run(insert.execute(self.connection())).await?;
        self.facts.parked += u64::from(!known);
        let (store_id, versions) = (Some(entry.store_id), vec![entry.version]);
        self.publish(ChangeKind::Parked, store_id, versions, Some(error));
        Ok(Ok(()))
    }

    /// Removes the mark of a parked entry, if there is one.
    pub(super) async fn unpark(
        &mut self,
        version: Version,
        store_id: StoreId,
    ) -> JournalResult<()> {
        self.check_sender()?;
        let delete =
            sqlx::query("DELETE FROM journal_parked WHERE version = $1 AND store_id = $2::uuid")
                .bind(version_number(version))
                .bind(store_id.to_string());
        let removed = run(delete.execute(self.connection()))
            .await?
            .rows_affected();
        if removed > 0 {
            self.facts.parked = self.facts.parked.saturating_sub(removed);
            self.publish(ChangeKind::Unparked, Some(store_id), vec![version], None);
        }
        Ok(())
    }
}

impl Engine {
    /// The live collections, by name.
    pub(super) async fn collections(&self) -> JournalResult<Vec<Collection>> {
        let mut connection = self.connection().await?;
        let found = read(&mut connection).await?;
        connection.release();
        Ok(found.into_values().collect())
    }

    /// The roster, by id.
    pub(super) async fn stores(&self) -> JournalResult<Vec<RosterRecord>> {
        let mut connection = self.connection().await?;
        let query = sqlx::query("SELECT content, progress FROM journal_store ORDER BY store_id");
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        rows.iter().map(store).collect()
    }

    /// Parked entries, by version.
    pub(super) async fn parked_entries(&self) -> JournalResult<Vec<ParkedEntry>> {
        let mut connection = self.connection().await?;
        let query = sqlx::query(
            "SELECT version, store_id::text AS store, error
             FROM journal_parked ORDER BY version, store_id",
        );
        let rows = run(query.fetch_all(&mut *connection)).await?;
        connection.release();
        rows.iter()
            .map(|row| {
                Ok(ParkedEntry {
                    version: version(row, "version")?,
                    store_id: identifier(row, "store")?,
                    error: codec::column(row, "error")?,
                })
            })
            .collect()
    }
}
