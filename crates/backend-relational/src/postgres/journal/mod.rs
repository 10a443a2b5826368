//! The journal in PostgreSQL: one journal for several instances of a service.
//!
//! ```toml
//! [journal]
//! type = "postgres"
//! config = { host = "db", username = "app", password = { env = "PASSWORD" }, database = "app", tls = true }
//! ```
//!
//! # Settings
//! Under `journal.config`, besides those of every journal (`max_entries`, `max_bytes`,
//! `max_operations`, `max_keys`, `record_lifetime`) and of those that instances share (`lease`,
//! `poll_interval`): `url` or `host`, `port`, `username`, `password`, `database`; `schema`
//! (`dbmanager`); `tls`, `tls_ca_file`, `allow_plain_text`, `application_name`. Two journals in one
//! database need two schemas.
//!
//! # What it needs
//! PostgreSQL 14 or newer, encoding UTF8, and the right to create and alter tables in the schema
//! (and to create the schema, if it is not there). `performance.connection_pool_size` connections
//! and one more that listens. A pooler in transaction mode between delivers no notifications; then
//! changes are seen after `poll_interval`.
//!
//! # How it works
//! Every transaction that writes locks the one row of the table `journal` first. So they have an
//! order, which is that of versions, of changes and of commits; a reader of changes above a number
//! misses none. Many writers of a process share a transaction. `synchronous_commit` is set in each
//! of them, whatever the database or the role has; a server that runs with `fsync = off` is warned
//! of at opening.
//!
//! The sender holds a lease in that row, by the server's clock; taking it raises the epoch, which is
//! the fencing number that all that only a sender may do is checked with inside its transaction.
//!
//! # What happens when the server is away
//! Calls fail with `Unavailable` (nothing was written). A commit that was cut in the middle is
//! looked up under the row's lock as soon as the server answers within the time of a call, and only
//! if it does not answer the outcome is `Indeterminate`. Nothing has to be opened again.
//!
//! # Clocks
//! Versions and the times that records are kept go by the clock of the writing instance, as with
//! any journal: versions rise whatever clocks do, and clocks that disagree by less than the margin
//! of the retention (an hour) forget nothing early. The lease goes by the server's clock alone.
//!
//! # Tables
//! `journal` (one row: mark, epoch, counts, lease), `journal_entry` (live entries),
//! `journal_operation` and `journal_key` (what was accepted or refused, for the retention),
//! `journal_collection`, `journal_store`, `journal_parked`, and `journal_change` (what others
//! follow; the oldest are pruned).

mod append;
mod catalogue;
mod changes;
mod codec;
mod engine;
mod expiry;
mod factory;
mod layout;
mod lease;
mod lookup;
mod queue;
mod rows;
mod transaction;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    journal::{
        AppendRequest, Appended, Changes, Confirmation, Entry, EntryHeader, Journal, JournalError,
        JournalErrorKind, JournalHealth, JournalResult, Lease, OperationLookup, ParkedEntry,
        RosterRecord, SharedJournal, SharedState, TruncateRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, EmbeddingSpace, JournalId, OperationId,
        StoreId, Version,
    },
};
use tokio::sync::oneshot;

use self::{engine::Engine, transaction::Transaction};
pub use factory::PostgresJournalFactory;

/// A journal in PostgreSQL; opened by [`PostgresJournalFactory`].
pub(super) struct PostgresJournal {
    engine: Arc<Engine>,
    /// Ends the listening when it goes.
    listening: Mutex<Option<oneshot::Sender<()>>>,
}

impl fmt::Debug for PostgresJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresJournal")
            .field("journal_id", &self.engine.journal_id)
            .field("epoch", &self.engine.own_epoch())
            .finish_non_exhaustive()
    }
}

impl Drop for PostgresJournal {
    /// A lease that nobody will renew is given up in the background, so that others need not wait
    /// for its end.
    fn drop(&mut self) {
        if self.engine.is_closed() || self.engine.own_epoch() == 0 {
            return;
        }
        let engine = Arc::clone(&self.engine);
        drop(self.engine.runtime.spawn(async move {
            if let Err(error) = engine.release().await {
                tracing::debug!(%error, "the lease was not given up");
            }
        }));
    }
}

/// Whether the server refused the content of a statement.
fn is_refused(error: &JournalError) -> bool {
    use std::error::Error as _;
    error
        .source()
        .and_then(|source| source.downcast_ref::<BackendError>())
        .is_some_and(|error| error.kind() == BackendErrorKind::Refused)
}

impl Engine {
    /// Commits, and takes note of whether the server answers.
    async fn commit(&self, transaction: Transaction<'_>) -> JournalResult<()> {
        let outcome = transaction.finish().await;
        self.note(outcome.as_ref().err());
        outcome
    }
}

/// One call in one transaction: what it answers is told only after the commit.
macro_rules! transact {
    ($self:ident, |$transaction:ident| $work:expr) => {{
        let engine = &$self.engine;
        let attempt = engine.bounded(async {
            let mut $transaction = Transaction::begin(engine).await?;
            let answer = $work.await?;
            Ok(($transaction, answer))
        });
        let (transaction, answer) = attempt.await?;
        engine.commit(transaction).await?;
        answer
    }};
}

#[async_trait]
impl Journal for PostgresJournal {
    fn journal_id(&self) -> JournalId {
        self.engine.journal_id
    }

    fn epoch(&self) -> u64 {
        self.engine.own_epoch()
    }

    fn mark(&self) -> Version {
        self.engine.mark()
    }

    fn shared(&self) -> Option<&dyn SharedJournal> {
        Some(self)
    }

    async fn raise_epoch(&self, above: u64) -> JournalResult<u64> {
        self.engine.raise_epoch(above).await
    }

    async fn lift_mark(&self, version: Version) -> JournalResult<()> {
        if version > Version::MAX {
            return Err(JournalError::new(
                JournalErrorKind::Open,
                format!("version {version} is above the highest there can be"),
            ));
        }
        transact!(self, |transaction| async {
            transaction.facts.mark = transaction.facts.mark.max(version);
            JournalResult::Ok(())
        });
        Ok(())
    }

    fn health(&self) -> JournalHealth {
        self.engine.health()
    }

    async fn collections(&self) -> JournalResult<Vec<Collection>> {
        self.engine.bounded(self.engine.collections()).await
    }

    async fn create_collection(
        &self,
        name: &str,
        options: CollectionOptions,
    ) -> JournalResult<(Collection, bool)> {
        transact!(self, |transaction| transaction
            .create_collection(name, options))
    }

    async fn set_embedding_space(
        &self,
        collection: &CollectionKey,
        space: EmbeddingSpace,
    ) -> JournalResult<Collection> {
        transact!(self, |transaction| transaction
            .set_embedding_space(collection, space))
    }

    async fn roster(&self) -> JournalResult<Vec<RosterRecord>> {
        self.engine.bounded(self.engine.stores()).await
    }

    async fn put_store(&self, record: RosterRecord) -> JournalResult<()> {
        transact!(self, |transaction| transaction.put_store(&record));
        Ok(())
    }

    async fn append(&self, requests: Vec<AppendRequest>) -> Vec<JournalResult<Appended>> {
        if requests.is_empty() {
            return Vec::new();
        }
        self.engine.submit(requests).await
    }

    async fn live_entries(&self, after: Version, limit: usize) -> JournalResult<Vec<EntryHeader>> {
        self.engine
            .bounded(self.engine.headers_above(after, limit))
            .await
    }

    async fn load(&self, versions: &[Version]) -> JournalResult<Vec<Option<Entry>>> {
        self.engine.bounded(self.engine.entries(versions)).await
    }

    async fn truncate(&self, request: TruncateRequest) -> JournalResult<()> {
        transact!(self, |transaction| transaction.truncate(&request));
        Ok(())
    }

    async fn park(&self, entry: ParkedEntry) -> JournalResult<()> {
        transact!(self, |transaction| transaction.park(&entry))
    }

    async fn unpark(&self, version: Version, store_id: StoreId) -> JournalResult<()> {
        transact!(self, |transaction| transaction.unpark(version, store_id));
        Ok(())
    }

    async fn parked(&self) -> JournalResult<Vec<ParkedEntry>> {
        self.engine.bounded(self.engine.parked_entries()).await
    }

    async fn operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup> {
        self.engine
            .bounded(self.engine.operation(operation_id))
            .await
    }

    async fn refuse_operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup> {
        transact!(self, |transaction| transaction
            .refuse_operation(operation_id))
    }

    async fn idempotency_key(
        &self,
        collection: &str,
        key: &str,
    ) -> JournalResult<Option<([u8; 32], OperationLookup)>> {
        self.engine.bounded(self.engine.key(collection, key)).await
    }

    async fn close(&self) -> JournalResult<()> {
        // Each step can be repeated: whoever closes again waits for what the first one waits for.
        let released = match self.engine.is_closed() {
            true => Ok(()),
            false => self.engine.release().await,
        };
        self.engine.set_closed();
        let _last_group = self.engine.leading.lock().await;
        drop(
            self.listening
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.engine.pool.close().await;
        if let Err(error) = released {
            // It runs out by itself.
            tracing::warn!(%error, "the lease was not given up");
        }
        Ok(())
    }
}

#[async_trait]
impl SharedJournal for PostgresJournal {
    fn lease(&self) -> Option<Lease> {
        self.engine.lease()
    }

    fn lease_time(&self) -> Duration {
        self.engine.options.lease
    }

    async fn acquire(&self) -> JournalResult<Option<Lease>> {
        self.engine.acquire().await
    }

    async fn renew(&self) -> JournalResult<Lease> {
        self.engine.renew().await
    }

    async fn release(&self) -> JournalResult<()> {
        self.engine.release().await
    }

    async fn state(&self) -> JournalResult<SharedState> {
        self.engine.bounded(self.engine.shared_state()).await
    }

    async fn changes(&self, after: u64, limit: usize) -> JournalResult<Changes> {
        self.engine
            .bounded(self.engine.changes_above(after, limit))
            .await
    }

    async fn wait_for_changes(&self) {
        self.engine.wait_for_changes().await;
    }

    async fn confirm(&self, confirmations: Vec<Confirmation>) -> JournalResult<()> {
        self.engine.confirm(confirmations).await
    }

    async fn authority_adopted(&self) -> JournalResult<()> {
        transact!(self, |transaction| async {
            transaction.check_sender()?;
            transaction.facts.adoptions += 1;
            JournalResult::Ok(())
        });
        Ok(())
    }
}
