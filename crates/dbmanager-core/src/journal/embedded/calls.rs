//! The journal's calls: changes go into the queue, reads to the blocking pool.

use async_trait::async_trait;

use super::{
    super::{
        AppendRequest, Appended, Change, Entry, EntryHeader, Journal, JournalError,
        JournalErrorKind, JournalHealth, JournalResult, OperationLookup, ParkedEntry, RosterRecord,
        TruncateRequest,
    },
    EmbeddedJournal, codec,
    engine::Engine,
    failure::Failure,
    group::lookup_horizon,
    load::load,
    queue::Size,
    tables::{self, ReadTable, Tables, meta, version_key},
};
use crate::model::{
    Collection, CollectionKey, CollectionOptions, EmbeddingSpace, JournalId, OperationId, StoreId,
    Version,
};

/// How much of a group an append takes.
fn append_size(requests: &[AppendRequest]) -> Size {
    let bytes = requests.iter().map(|request| match &request.change {
        Change::Upsert(record) => {
            let vectors = &record.vectors().vectors;
            let numbers: usize = vectors.iter().map(|vector| vector.values.len()).sum();
            (record.canonical().len() + 4 * numbers) as u64
        }
        Change::Delete | Change::DropCollection => Size::SMALL.bytes,
    });
    Size {
        entries: requests.len(),
        bytes: bytes.sum(),
        alone: false,
    }
}

#[async_trait]
impl Journal for EmbeddedJournal {
    fn journal_id(&self) -> JournalId {
        self.engine.journal_id
    }

    fn epoch(&self) -> u64 {
        self.engine.epoch()
    }

    async fn raise_epoch(&self, above: u64) -> JournalResult<u64> {
        let raised = self
            .engine
            .submit(Size::SMALL, move |group| group.raise_epoch(above))
            .await?;
        self.engine.note_epoch(raised);
        Ok(raised)
    }

    fn mark(&self) -> Version {
        self.engine.mark()
    }

    async fn lift_mark(&self, version: Version) -> JournalResult<()> {
        self.engine
            .submit(Size::SMALL, move |group| Ok(group.lift_mark(version)))
            .await
    }

    fn health(&self) -> JournalHealth {
        self.engine.health()
    }

    async fn collections(&self) -> JournalResult<Vec<Collection>> {
        self.engine
            .read(|tables| {
                let mut found = Vec::new();
                tables.collections.scan(&[], |key, content| {
                    let table = tables.collections.name();
                    found.push(codec::decode_json(table, key, content)?);
                    Ok(true)
                })?;
                Ok(found)
            })
            .await
    }

    async fn create_collection(
        &self,
        name: &str,
        options: CollectionOptions,
    ) -> JournalResult<(Collection, bool)> {
        let name = name.to_owned();
        self.engine
            .submit(Size::SMALL, move |group| {
                group.create_collection(&name, options)
            })
            .await
    }

    async fn set_embedding_space(
        &self,
        collection: &CollectionKey,
        space: EmbeddingSpace,
    ) -> JournalResult<Collection> {
        let collection = collection.clone();
        self.engine
            .submit(Size::SMALL, move |group| {
                group.set_embedding_space(&collection, space)
            })
            .await
    }

    async fn roster(&self) -> JournalResult<Vec<RosterRecord>> {
        self.engine
            .read(|tables| {
                let mut found = Vec::new();
                tables.roster.scan(&[], |key, content| {
                    found.push(codec::decode_json(tables.roster.name(), key, content)?);
                    Ok(true)
                })?;
                Ok(found)
            })
            .await
    }

    async fn put_store(&self, record: RosterRecord) -> JournalResult<()> {
        self.engine
            .submit(Size::SMALL, move |group| group.put_store(&record).map(Ok))
            .await
    }

    async fn append(&self, requests: Vec<AppendRequest>) -> Vec<JournalResult<Appended>> {
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        let answers = self
            .engine
            .submit(append_size(&requests), move |group| {
                let answers = requests.iter().map(|request| group.append(request));
                answers.collect::<Result<Vec<_>, _>>().map(Ok)
            })
            .await;
        answers.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn live_entries(&self, after: Version, limit: usize) -> JournalResult<Vec<EntryHeader>> {
        self.engine
            .read(move |tables| {
                let mut found = Vec::new();
                if after >= Version::MAX || limit == 0 {
                    return Ok(found);
                }
                let from = version_key(Version::from_u64(after.as_u64() + 1));
                tables.headers.scan(&from, |key, content| {
                    let version = tables::key_version(tables.headers.name(), key)?;
                    let header = tables::decode_header(tables.headers.name(), version, content)?;
                    found.push(header);
                    Ok(found.len() < limit)
                })?;
                Ok(found)
            })
            .await
    }

    async fn load(&self, versions: &[Version]) -> JournalResult<Vec<Option<Entry>>> {
        let versions = versions.to_vec();
        self.engine
            .read(move |tables| load(tables, &versions))
            .await
    }

    async fn truncate(&self, request: TruncateRequest) -> JournalResult<()> {
        let size = Size {
            entries: request.versions.len().max(1),
            alone: true,
            ..Size::SMALL
        };
        self.engine
            .submit(size, move |group| group.truncate(&request).map(Ok))
            .await
    }

    async fn park(&self, entry: ParkedEntry) -> JournalResult<()> {
        self.engine
            .submit(Size::SMALL, move |group| group.park(&entry))
            .await
    }

    async fn unpark(&self, version: Version, store_id: StoreId) -> JournalResult<()> {
        self.engine
            .submit(Size::SMALL, move |group| {
                group.unpark(version, store_id).map(Ok)
            })
            .await
    }

    async fn parked(&self) -> JournalResult<Vec<ParkedEntry>> {
        self.engine
            .read(|tables| {
                let mut found = Vec::new();
                tables.parked.scan(&[], |key, content| {
                    found.push(codec::decode(tables.parked.name(), key, content)?);
                    Ok(true)
                })?;
                Ok(found)
            })
            .await
    }

    async fn operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup> {
        let reader = self.engine.clone();
        self.engine
            .read(move |tables| reader.lookup(tables, operation_id))
            .await
    }

    async fn refuse_operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup> {
        self.engine
            .submit(Size::SMALL, move |group| {
                group.refuse_operation(operation_id)
            })
            .await
    }

    async fn idempotency_key(
        &self,
        collection: &str,
        key: &str,
    ) -> JournalResult<Option<([u8; 32], OperationLookup)>> {
        let place = codec::idempotency_place(collection, key);
        let reader = self.engine.clone();
        self.engine
            .read(move |tables| match tables.stored_key(&place)? {
                None => Ok(None),
                Some(known) => {
                    let lookup = reader.lookup(tables, known.operation_id)?;
                    Ok(Some((known.input_hash, lookup)))
                }
            })
            .await
    }

    async fn close(&self) -> JournalResult<()> {
        // On its own, so that giving up the wait does not leave the journal half closed.
        let closing = self.engine.runtime.spawn(self.engine.clone().close());
        closing.await.unwrap_or_else(|lost| {
            Err(JournalError::new(
                JournalErrorKind::Closed,
                lost.to_string(),
            ))
        })
    }
}

impl Engine {
    /// What is recorded of an operation, as of these tables.
    pub(super) fn lookup(
        &self,
        tables: &Tables<ReadTable>,
        operation_id: OperationId,
    ) -> Result<OperationLookup, Failure> {
        let horizon = lookup_horizon(
            self.runtime.unix_milliseconds(),
            &self.options,
            tables.number(meta::HORIZON)?,
        );
        tables.lookup(operation_id, horizon)
    }
}
