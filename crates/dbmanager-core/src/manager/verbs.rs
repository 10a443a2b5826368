//! The builders that writing verbs return, and verbs with more than a line of their own.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use super::{DatabaseManager, Inner};
use crate::{
    BoxFuture, Error, ErrorKind, Result, WriteOutcome,
    journal::RosterState,
    model::{
        Document, Level, OnTimeout, OperationId, Precondition, Receipt, Role, Version, WaitFor,
    },
    write::{
        Answer, DocumentKey, ItemChange, Participation, WriteItem, WriteOptions, WriteRoom,
        journal_error,
    },
};

/// A task of the manager's own carries the operation: dropping this future gives up the answer.
fn submit<T: Send + 'static>(
    room: Arc<WriteRoom>,
    operation_id: OperationId,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> BoxFuture<'static, Result<T>> {
    Box::pin(async move {
        match room.runtime.spawn(work).await {
            Ok(result) => result,
            Err(lost) => Err(
                Error::new(ErrorKind::Internal, "the write's task ended early")
                    .with_source(lost)
                    .with_outcome(WriteOutcome::Indeterminate(operation_id)),
            ),
        }
    })
}

macro_rules! write_options {
    () => {
        /// How many stores must hold the write before it is acknowledged.
        pub fn level(mut self, level: Level) -> Self {
            self.options.level = level;
            self
        }

        /// Demands the relational store among those that hold the write.
        pub fn with_authority(mut self) -> Self {
            self.options.with_authority = true;
            self
        }

        /// How long to wait for the level, from when the write is journaled. Embedding is done
        /// before that and takes none of it.
        pub fn timeout(mut self, timeout: Duration) -> Self {
            self.options.timeout = timeout;
            self
        }

        /// What to answer when the level is not reached in time.
        pub fn on_timeout(mut self, on_timeout: OnTimeout) -> Self {
            self.options.on_timeout = on_timeout;
            self
        }
    };
}

macro_rules! single_write_options {
    () => {
        write_options!();

        /// Repeating the same input under the same key has one effect and the same receipt, for at
        /// least 24 hours after the write has reached every store.
        pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
            self.item.idempotency_key = Some(Arc::from(key.into()));
            self
        }

        /// Accepts the write only if this holds.
        pub fn precondition(mut self, precondition: Precondition) -> Self {
            self.item.precondition = Some(precondition);
            self
        }

        /// Uses this operation id, so that `status` can be asked whatever happens to the answer. A
        /// UUID version 7: one whose time is more than a day ahead is refused.
        pub fn operation_id(mut self, operation_id: OperationId) -> Self {
            self.item.operation_id = operation_id;
            self
        }
    };
}

/// A document to store; does nothing until it is awaited.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct StoreDocument {
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    item: WriteItem,
    options: WriteOptions,
}

/// A document to delete; does nothing until it is awaited.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct DeleteDocument {
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    item: WriteItem,
    options: WriteOptions,
}

/// Documents to store; does nothing until it is awaited.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct StoreDocuments {
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    items: Vec<WriteItem>,
    options: WriteOptions,
}

/// Documents to delete; does nothing until it is awaited.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct DeleteDocuments {
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    items: Vec<WriteItem>,
    options: WriteOptions,
}

/// A collection to drop; does nothing until it is awaited.
#[derive(Debug)]
#[must_use = "a write does nothing until it is awaited"]
pub struct DropCollection {
    room: Arc<WriteRoom>,
    name: Arc<str>,
    options: WriteOptions,
}

fn item(room: &WriteRoom, id: Arc<str>, change: ItemChange) -> WriteItem {
    WriteItem {
        operation_id: room.new_operation_id(),
        idempotency_key: None,
        id,
        change,
        precondition: None,
    }
}

/// Keys each item of a batch by the batch's key and its id.
fn key_items(items: &mut [WriteItem], key: &str) {
    for item in items {
        item.idempotency_key = Some(Arc::from(format!("{key}/{}", item.id)));
    }
}

impl StoreDocument {
    pub(super) fn new(manager: &DatabaseManager, collection: String, document: Document) -> Self {
        let (id, change) = DatabaseManager::upsert(document);
        Self {
            item: item(manager.room(), id, change),
            options: manager.default_options(),
            room: Arc::clone(manager.room()),
            collection: Arc::from(collection),
        }
    }

    single_write_options!();
}

impl DeleteDocument {
    pub(super) fn new(manager: &DatabaseManager, collection: String, id: String) -> Self {
        Self {
            item: item(manager.room(), Arc::from(id), ItemChange::Delete),
            options: manager.default_options(),
            room: Arc::clone(manager.room()),
            collection: Arc::from(collection),
        }
    }

    single_write_options!();
}

impl StoreDocuments {
    pub(super) fn new(
        manager: &DatabaseManager,
        collection: String,
        documents: Vec<Document>,
    ) -> Self {
        let room = Arc::clone(manager.room());
        let items = documents
            .into_iter()
            .map(|document| {
                let (id, change) = DatabaseManager::upsert(document);
                item(&room, id, change)
            })
            .collect();
        Self {
            items,
            options: manager.default_options(),
            room,
            collection: Arc::from(collection),
        }
    }

    write_options!();

    /// Gives every document of the batch the idempotency key `key/id`.
    pub fn idempotency_key(mut self, key: impl AsRef<str>) -> Self {
        key_items(&mut self.items, key.as_ref());
        self
    }
}

impl DeleteDocuments {
    pub(super) fn new(manager: &DatabaseManager, collection: String, ids: Vec<Arc<str>>) -> Self {
        let room = Arc::clone(manager.room());
        let items = ids
            .into_iter()
            .map(|id| item(&room, id, ItemChange::Delete))
            .collect();
        Self {
            items,
            options: manager.default_options(),
            room,
            collection: Arc::from(collection),
        }
    }

    write_options!();

    /// Gives every deletion of the batch the idempotency key `key/id`.
    pub fn idempotency_key(mut self, key: impl AsRef<str>) -> Self {
        key_items(&mut self.items, key.as_ref());
        self
    }
}

impl DropCollection {
    pub(super) fn new(manager: &DatabaseManager, name: String) -> Self {
        Self {
            room: Arc::clone(manager.room()),
            name: Arc::from(name),
            options: manager.default_options(),
        }
    }

    write_options!();
}

fn submit_single(
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    item: WriteItem,
    options: WriteOptions,
) -> BoxFuture<'static, Result<Receipt>> {
    let operation_id = item.operation_id;
    let work = {
        let room = Arc::clone(&room);
        async move {
            let answers = room.write(collection, vec![item], options).await?;
            answers.into_iter().next().unwrap_or_else(|| {
                Err(Error::new(ErrorKind::Internal, "a write was not answered")
                    .with_outcome(WriteOutcome::Indeterminate(operation_id)))
            })
        }
    };
    submit(room, operation_id, work)
}

fn submit_batch(
    room: Arc<WriteRoom>,
    collection: Arc<str>,
    items: Vec<WriteItem>,
    options: WriteOptions,
) -> BoxFuture<'static, Result<Vec<Result<Receipt>>>> {
    let Some(operation_id) = items.first().map(|item| item.operation_id) else {
        return Box::pin(async { Ok(Vec::new()) });
    };
    let work = {
        let room = Arc::clone(&room);
        async move { room.write(collection, items, options).await }
    };
    submit(room, operation_id, work)
}

macro_rules! into_future {
    ($builder:ty, $output:ty, |$self:ident| $submit:expr) => {
        impl IntoFuture for $builder {
            type Output = $output;
            type IntoFuture = BoxFuture<'static, $output>;

            fn into_future(self) -> Self::IntoFuture {
                let $self = self;
                $submit
            }
        }
    };
}

into_future!(StoreDocument, Result<Receipt>, |w| submit_single(
    w.room,
    w.collection,
    w.item,
    w.options
));
into_future!(DeleteDocument, Result<Receipt>, |w| submit_single(
    w.room,
    w.collection,
    w.item,
    w.options
));
into_future!(StoreDocuments, Result<Vec<Result<Receipt>>>, |w| {
    submit_batch(w.room, w.collection, w.items, w.options)
});
into_future!(DeleteDocuments, Result<Vec<Result<Receipt>>>, |w| {
    submit_batch(w.room, w.collection, w.items, w.options)
});
into_future!(DropCollection, Result<Receipt>, |w| {
    let operation_id = w.room.new_operation_id();
    let work = Arc::clone(&w.room).drop_collection(w.name, w.options, operation_id);
    submit(w.room, operation_id, work)
});

/// Waits for a level, or for searches to find the write.
pub(super) async fn wait_for(
    inner: &Inner,
    receipt: &Receipt,
    what: WaitFor,
    timeout: Duration,
) -> Result<Receipt> {
    let room = &inner.room;
    let deadline = room.runtime.monotonic().saturating_add(timeout);
    room.until_shown(receipt.operation_id, receipt.version, deadline)
        .await?;
    let level = match what {
        WaitFor::Level(level) => level,
        WaitFor::Searchable => Level::All,
    };
    let document = match receipt.id.is_empty() {
        // A drop of the collection, which may have been created again.
        true => room.backlog.document_of(receipt.version),
        false => {
            let collection = room.collection(&receipt.collection);
            collection.map(|c| DocumentKey::new(c.key, Arc::clone(&receipt.id)))
        }
    };
    let Some(document) = document else {
        // Dropped, or the drop is in every store: there is nothing left to wait for.
        return Ok(Receipt {
            level,
            reached: true,
            unreachable: false,
            ..receipt.clone()
        });
    };
    let options = WriteOptions {
        level,
        with_authority: false,
        timeout,
        on_timeout: OnTimeout::Error,
    };
    let answer = room
        .settle(&document, receipt.version, options, deadline, true)
        .await;
    let now = room.receipt(
        &document,
        receipt.operation_id,
        receipt.version,
        level,
        answer,
    );
    if answer != Answer::Reached {
        return Err(Error::new(
            ErrorKind::LevelNotReached,
            "the level was not reached in time",
        )
        .with("id", &receipt.id)
        .with_outcome(WriteOutcome::Pending(Box::new(now))));
    }
    if what == WaitFor::Searchable {
        let left = deadline.saturating_sub(room.runtime.monotonic());
        match room.runtime.timeout(left, refresh(room)).await {
            Ok(refreshed) => refreshed?,
            Err(elapsed) => {
                return Err(
                    Error::new(ErrorKind::Timeout, "the stores did not refresh in time")
                        .with_source(elapsed)
                        .with_outcome(WriteOutcome::Pending(Box::new(now))),
                );
            }
        }
    }
    Ok(now)
}

async fn refresh(room: &WriteRoom) -> Result<()> {
    for store in &room.stores {
        let backend = store
            .connect()
            .await
            .map_err(|error| crate::read::read_error(store.role, error))?;
        let backend = backend.as_backend();
        if !backend.capabilities().searchable_on_apply {
            backend
                .refresh()
                .await
                .map_err(|error| crate::read::read_error(store.role, error))?;
        }
    }
    Ok(())
}

/// What becomes of a parked write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clearing {
    Retry,
    GiveUp,
}

pub(super) async fn clear_parked(
    inner: &Inner,
    role: Role,
    version: Version,
    clearing: Clearing,
) -> Result<()> {
    let room = &inner.room;
    let not_parked = || {
        Error::new(
            ErrorKind::InvalidInput,
            "nothing is parked under this version",
        )
        .with_role(role)
        .with("version", version)
    };
    let store = room.store(role).ok_or_else(not_parked)?;
    room.check_sender()?;
    room.journal
        .unpark(version, store.store_id())
        .await
        .map_err(journal_error)?;
    let found = match clearing {
        Clearing::Retry => room.backlog.unpark(role, version),
        Clearing::GiveUp => room.backlog.give_up(role, version),
    };
    if found { Ok(()) } else { Err(not_parked()) }
}

pub(super) async fn remove_store(inner: &Inner, role: Role) -> Result<()> {
    let room = &inner.room;
    room.check_sender()?;
    let roster = room.journal.roster().await.map_err(journal_error)?;
    let record = roster
        .into_iter()
        .find(|record| {
            record.role == role && !record.enabled && record.state != RosterState::Removed
        })
        .ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the role has no disabled store").with_role(role)
        })?;
    let removed = crate::journal::RosterRecord {
        state: RosterState::Removed,
        ..record
    };
    room.journal
        .put_store(removed)
        .await
        .map_err(journal_error)?;
    room.backlog.set_participation(role, Participation::Absent);
    Ok(())
}
