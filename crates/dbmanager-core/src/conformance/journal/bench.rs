//! What a case is handed: a journal of its own, and the clock that drives it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use super::{
    super::trial::{CaseResult, Failure},
    JournalInstance,
};
use crate::{
    BoxFuture, Runtime, RuntimeServices,
    journal::{
        AppendRequest, Appended, Change, EntryHeader, IdempotencyKey, Journal, JournalErrorKind,
        JournalOptions, JournalResult, OperationLookup, PreconditionRequest, SharedJournal,
        TruncateRequest,
    },
    model::{
        ChunkVector, CollectionKey, CollectionOptions, Document, DocumentRecord, OperationId,
        Precondition, Timestamp, VectorOrigin, VectorSet, Version,
    },
};

/// The time that cases start at, in milliseconds since the Unix epoch.
pub(super) const START: i64 = 1_800_000_000_000;
pub(super) const HOUR: i64 = 60 * 60 * 1_000;

/// A wall clock that the case sets; everything else is the suite's runtime.
pub(super) struct Clock {
    now: AtomicI64,
    inner: Runtime,
}

impl Clock {
    pub(super) fn set(&self, milliseconds: i64) {
        self.now.store(milliseconds, Ordering::SeqCst);
    }

    pub(super) fn advance(&self, milliseconds: i64) {
        self.now.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl RuntimeServices for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_milliseconds(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(duration)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.inner.random_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        drop(self.inner.spawn(future));
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(self.inner.blocking(work));
    }
}

/// How to open the journal of a case.
pub(super) struct Bench {
    instance: JournalInstance,
    pub(super) clock: Arc<Clock>,
    pub(super) options: JournalOptions,
}

impl Bench {
    pub(super) fn new(instance: JournalInstance, inner: Runtime) -> Self {
        Self {
            instance,
            clock: Arc::new(Clock {
                now: AtomicI64::new(START),
                inner,
            }),
            options: JournalOptions::default(),
        }
    }

    pub(super) fn runtime(&self) -> Runtime {
        Runtime::new(Arc::clone(&self.clock) as Arc<dyn RuntimeServices>)
    }

    /// Opens the journal and nothing more.
    pub(super) async fn open_bare(&self) -> JournalResult<Arc<dyn Journal>> {
        (self.instance.open)(self.options.clone(), self.runtime()).await
    }

    /// Opens the journal, if it is shared as the sender.
    pub(super) async fn open(&self) -> CaseResult<Arc<dyn Journal>> {
        let journal = self.open_bare().await?;
        if let Some(shared) = journal.shared() {
            ensure!(shared.acquire().await?.is_some(), "the lease is not free");
        }
        Ok(journal)
    }

    /// Opens the journal with one collection.
    pub(super) async fn fixture(self) -> CaseResult<Fixture> {
        let journal = self.open().await?;
        let (collection, _) = journal
            .create_collection("papers", CollectionOptions::new())
            .await?;
        Ok(Fixture {
            bench: self,
            journal,
            collection: collection.key,
        })
    }
}

/// A journal with one collection.
pub(super) struct Fixture {
    pub(super) bench: Bench,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) collection: CollectionKey,
}

impl Fixture {
    pub(super) fn clock(&self) -> &Clock {
        &self.bench.clock
    }

    /// Closes the journal and opens it again.
    pub(super) async fn reopen(&mut self) -> CaseResult {
        self.journal.close().await?;
        self.journal = self.bench.open().await?;
        Ok(())
    }

    /// Another opening at the same time.
    pub(super) async fn another(&self) -> CaseResult<Arc<dyn Journal>> {
        Ok(self.bench.open_bare().await?)
    }

    pub(super) fn request(&self, id: &str, change: Change) -> AppendRequest {
        AppendRequest {
            operation_id: self.bench.runtime().new_operation_id(),
            idempotency_key: None,
            collection: self.collection.clone(),
            id: id.into(),
            change,
            precondition: None,
        }
    }

    pub(super) fn upsert(&self, id: &str) -> AppendRequest {
        self.request(id, Change::Upsert(record(id, "text")))
    }

    pub(super) fn keyed(&self, id: &str, key: &str, input: u8) -> AppendRequest {
        AppendRequest {
            idempotency_key: Some(IdempotencyKey {
                key: key.into(),
                input_hash: [input; 32],
            }),
            ..self.upsert(id)
        }
    }

    pub(super) fn conditional(&self, id: &str, precondition: Precondition) -> AppendRequest {
        AppendRequest {
            precondition: Some(PreconditionRequest {
                precondition,
                known: None,
            }),
            ..self.upsert(id)
        }
    }

    pub(super) async fn append_one(&self, request: AppendRequest) -> JournalResult<Appended> {
        append_one(self.journal.as_ref(), request).await
    }

    /// Appends what must be accepted as new.
    pub(super) async fn accepted(&self, request: AppendRequest) -> CaseResult<EntryHeader> {
        new_entry(self.append_one(request).await)
    }

    pub(super) async fn live_versions(&self) -> CaseResult<Vec<Version>> {
        let headers = self.journal.live_entries(Version::ZERO, 100_000).await?;
        Ok(headers.iter().map(|header| header.version).collect())
    }

    pub(super) async fn truncate(&self, versions: &[Version]) -> CaseResult {
        Ok(self.journal.truncate(truncation(versions)).await?)
    }

    /// The retention time and a millisecond, so that everything that ended before is due.
    pub(super) fn retention(&self) -> i64 {
        i64::try_from(self.bench.options.retention.as_millis()).unwrap_or(i64::MAX) + 1
    }
}

pub(super) async fn append_one(
    journal: &dyn Journal,
    request: AppendRequest,
) -> JournalResult<Appended> {
    let mut answers = journal.append(vec![request]).await;
    answers.pop().unwrap_or_else(|| {
        Err(crate::journal::JournalError::new(
            JournalErrorKind::Indeterminate,
            "the append was not answered",
        ))
    })
}

pub(super) fn new_entry(answer: JournalResult<Appended>) -> CaseResult<EntryHeader> {
    match answer {
        Ok(Appended::New(header)) => Ok(header),
        other => Err(Failure::new(format!("not a new entry: {other:?}"))),
    }
}

pub(super) fn truncation(versions: &[Version]) -> TruncateRequest {
    TruncateRequest {
        versions: versions.to_vec(),
        progress: Vec::new(),
    }
}

pub(super) fn shared(journal: &Arc<dyn Journal>) -> CaseResult<&dyn SharedJournal> {
    journal
        .shared()
        .ok_or_else(|| Failure::new("the journal is not shared any more".to_owned()))
}

pub(super) fn accepted_as(header: &EntryHeader, live: bool) -> OperationLookup {
    OperationLookup::Accepted {
        operation_id: header.operation_id,
        version: header.version,
        collection: header.collection.clone(),
        id: header.id.clone(),
        live,
    }
}

pub(super) fn record(id: &str, text: &str) -> Arc<DocumentRecord> {
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
    Arc::new(DocumentRecord::new(document, vectors).expect("a document built in memory is JSON"))
}

/// The kind of error; `None` for a success.
pub(super) fn kind<T>(result: JournalResult<T>) -> Option<JournalErrorKind> {
    result.err().map(|error| error.kind().clone())
}

pub(super) fn operation_at(milliseconds: i64, number: u8) -> OperationId {
    OperationId::new_v7(u64::try_from(milliseconds).unwrap_or(0), [number; 10])
}
