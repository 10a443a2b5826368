//! Collections, stores and parked entries.

use super::{
    super::{JournalError, JournalErrorKind, JournalResult, ParkedEntry, RosterRecord},
    append::check_generation,
    codec,
    failure::Failure,
    group::{Group, full},
    tables::{self, meta},
};
use crate::model::{
    Collection, CollectionKey, CollectionOptions, EmbeddingSpace, StoreId, Version,
};

impl Group<'_, '_> {
    /// Creates the collection, or finds one that has all that is asked for.
    pub(super) fn create_collection(
        &mut self,
        name: &str,
        options: CollectionOptions,
    ) -> Result<JournalResult<(Collection, bool)>, Failure> {
        if let Some(found) = self.tables.collection(name)? {
            let has_space = options.embedding_space.is_none()
                || options.embedding_space == found.options.embedding_space;
            return Ok(
                if has_space && options.tokenizer == found.options.tokenizer {
                    Ok((found, false))
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
        let generation = self.tables.number(meta::GENERATION)? + 1;
        self.tables.set_number(meta::GENERATION, generation)?;
        let collection = Collection {
            key: CollectionKey::new(name, generation),
            options,
        };
        self.put_collection(&collection)?;
        Ok(Ok((collection, true)))
    }

    /// Records the embedding space of a collection that has none.
    pub(super) fn set_embedding_space(
        &mut self,
        key: &CollectionKey,
        space: EmbeddingSpace,
    ) -> Result<JournalResult<Collection>, Failure> {
        let found = self.tables.collection(&key.name)?;
        if let Err(error) = check_generation(key, found.as_ref().map(|found| &found.key)) {
            return Ok(Err(error));
        }
        let mut collection = found.expect("a collection that is not there fails the check above");
        if collection.options.embedding_space.is_none() {
            collection.options.embedding_space = Some(space);
            self.put_collection(&collection)?;
        }
        Ok(Ok(collection))
    }

    fn put_collection(&mut self, collection: &Collection) -> Result<(), Failure> {
        let content = codec::encode_json(collection)?;
        self.tables
            .collections
            .put(collection.key.name.as_bytes(), &content)?;
        self.changed = true;
        Ok(())
    }

    /// Writes one store's record, of which the progress never goes back.
    pub(super) fn put_store(&mut self, record: &RosterRecord) -> Result<(), Failure> {
        let key = tables::store_key(record.store_id);
        let mut record = record.clone();
        if let Some(content) = self.tables.roster.get(&key)? {
            let name = self.tables.roster.name();
            let known: RosterRecord = codec::decode_json(name, &key, &content)?;
            record.progress = record.progress.max(known.progress);
        }
        let content = codec::encode_json(&record)?;
        self.tables.roster.put(&key, &content)?;
        self.changed = true;
        Ok(())
    }

    /// Marks a live entry as refused by a store; one that is no longer live is passed over.
    pub(super) fn park(&mut self, entry: &ParkedEntry) -> Result<JournalResult<()>, Failure> {
        let version_key = tables::version_key(entry.version);
        if !self.tables.headers.contains(&version_key)? {
            return Ok(Ok(()));
        }
        let mark = (entry.version, entry.store_id);
        let parked = &self.state.parked;
        if !parked.contains(&mark) && parked.len() as u64 >= self.options.max_parked {
            return Ok(Err(full(format!(
                "max_parked ({}) entries are parked",
                self.options.max_parked
            ))));
        }
        let key = tables::parked_key(entry.version, entry.store_id);
        self.tables.parked.put(&key, &codec::encode(entry)?)?;
        self.state.parked.insert(mark);
        self.changed = true;
        Ok(Ok(()))
    }

    /// Removes the mark of a parked entry, if there is one.
    pub(super) fn unpark(&mut self, version: Version, store_id: StoreId) -> Result<(), Failure> {
        if self.state.parked.remove(&(version, store_id)) {
            let key = tables::parked_key(version, store_id);
            self.tables.parked.remove(&key)?;
            self.changed = true;
        }
        Ok(())
    }
}
