//! Tests of the embedded journal through its public surface, on storage that can fail.

mod append;
#[cfg(feature = "conformance")]
mod contract;
mod crash;
mod crashes;
mod damage;
mod disk;
mod every_error;
mod every_io;
mod faults;
mod files;
mod operations;
mod records;
mod script;
mod snapshot;
mod world;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{EmbeddedJournal, JournalOptions, JournalSource, MemoryStorage};
use crate::{
    BoxFuture, Runtime, RuntimeServices,
    journal::{
        AppendRequest, Appended, Change, EntryHeader, IdempotencyKey, Journal, JournalErrorKind,
        JournalResult, PreconditionRequest,
    },
    model::{
        ChunkVector, CollectionKey, CollectionOptions, Document, DocumentRecord, OperationId,
        Precondition, Timestamp, VectorOrigin, VectorSet, Version,
    },
};

/// The time the tests start at, in milliseconds since the Unix epoch.
const START: i64 = 1_800_000_000_000;

/// A wall clock that the test sets; everything else is tokio's.
#[derive(Clone)]
struct Clock(Arc<ClockServices>);

struct ClockServices {
    now: AtomicI64,
    drawn: AtomicU64,
    handle: tokio::runtime::Handle,
}

impl Clock {
    fn start() -> Self {
        Self::at(START, 1)
    }

    /// A clock that shows `now`; two with the same `drawn` make the same ids.
    fn at(now: i64, drawn: u64) -> Self {
        Self(Arc::new(ClockServices {
            now: AtomicI64::new(now),
            drawn: AtomicU64::new(drawn),
            handle: tokio::runtime::Handle::current(),
        }))
    }

    fn advance(&self, milliseconds: i64) {
        self.0.now.fetch_add(milliseconds, Ordering::SeqCst);
    }

    fn runtime(&self) -> Runtime {
        Runtime::new(self.0.clone())
    }
}

impl RuntimeServices for ClockServices {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let drawn = self.drawn.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        for (byte, drawn) in bytes.iter_mut().rev().zip(drawn) {
            *byte = drawn;
        }
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.handle.spawn(future);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.handle.spawn_blocking(work);
    }
}

/// A journal in memory with one collection, and the clock that drives it.
struct Fixture {
    storage: MemoryStorage,
    clock: Clock,
    options: JournalOptions,
    journal: Arc<EmbeddedJournal>,
    collection: CollectionKey,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(JournalOptions::default()).await
    }

    async fn with(options: JournalOptions) -> Self {
        Self::on(MemoryStorage::crashable(), options).await
    }

    async fn on(storage: MemoryStorage, options: JournalOptions) -> Self {
        let clock = Clock::start();
        let journal = open(&storage, &options, &clock).await.unwrap();
        let (collection, _) = journal
            .create_collection("papers", CollectionOptions::new())
            .await
            .unwrap();
        Self {
            storage,
            clock,
            options,
            journal,
            collection: collection.key,
        }
    }

    /// Closes the journal and opens it again.
    async fn reopen(&mut self) {
        self.journal.close().await.unwrap();
        self.journal = open(&self.storage, &self.options, &self.clock)
            .await
            .unwrap();
    }

    fn request(&self, id: &str, change: Change) -> AppendRequest {
        AppendRequest {
            operation_id: self.clock.runtime().new_operation_id(),
            idempotency_key: None,
            collection: self.collection.clone(),
            id: id.into(),
            change,
            precondition: None,
        }
    }

    fn upsert(&self, id: &str) -> AppendRequest {
        self.request(id, Change::Upsert(record(id, "text")))
    }

    fn keyed(&self, id: &str, key: &str, input: u8) -> AppendRequest {
        AppendRequest {
            idempotency_key: Some(IdempotencyKey {
                key: key.into(),
                input_hash: [input; 32],
            }),
            ..self.upsert(id)
        }
    }

    fn conditional(&self, id: &str, precondition: Precondition) -> AppendRequest {
        AppendRequest {
            precondition: Some(PreconditionRequest {
                precondition,
                known: None,
            }),
            ..self.upsert(id)
        }
    }

    async fn append_one(&self, request: AppendRequest) -> JournalResult<Appended> {
        let mut answers = self.journal.append(vec![request]).await;
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Appends what must be accepted as new.
    async fn accepted(&self, request: AppendRequest) -> EntryHeader {
        match self.append_one(request).await {
            Ok(Appended::New(header)) => header,
            other => panic!("not a new entry: {other:?}"),
        }
    }

    async fn live_versions(&self) -> Vec<Version> {
        live_versions(&self.journal).await
    }
}

async fn open(
    storage: &MemoryStorage,
    options: &JournalOptions,
    clock: &Clock,
) -> JournalResult<Arc<EmbeddedJournal>> {
    EmbeddedJournal::open(
        JournalSource::Storage(Arc::new(storage.clone())),
        options.clone(),
        clock.runtime(),
    )
    .await
}

async fn live_versions(journal: &EmbeddedJournal) -> Vec<Version> {
    let headers = journal.live_entries(Version::ZERO, usize::MAX).await;
    headers.unwrap().iter().map(|h| h.version).collect()
}

fn record(id: &str, text: &str) -> Arc<DocumentRecord> {
    let vectors = VectorSet {
        origin: VectorOrigin::Embedder,
        text_hash: Some([7; 32]),
        vectors: vec![ChunkVector {
            chunk: 0,
            passage: None,
            values: vec![0.25, -1.0, f32::MIN_POSITIVE],
        }],
    };
    let document = Document::new(id).title("Title").text(text);
    Arc::new(DocumentRecord::new(document, vectors).unwrap())
}

fn kind_of<T: std::fmt::Debug>(result: JournalResult<T>) -> JournalErrorKind {
    result.unwrap_err().kind().clone()
}
