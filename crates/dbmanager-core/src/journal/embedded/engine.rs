//! What the journal's handle and its tasks share.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use redb::{Database, ReadableDatabase};
use tokio::sync::RwLock;

use super::{
    super::{JournalError, JournalErrorKind, JournalHealth, JournalResult, JournalState},
    JournalOptions, JournalStorage,
    failure::{Failure, caught},
    group::State,
    open::Opened,
    queue::Queue,
    tables::{ReadTable, Tables},
};
use crate::{
    model::{JournalId, Version},
    runtime::Runtime,
};

/// The journal without its handle.
pub(super) struct Engine {
    pub(super) runtime: Runtime,
    pub(super) options: JournalOptions,
    pub(super) storage: Arc<dyn JournalStorage>,
    pub(super) journal_id: JournalId,
    epoch: AtomicU64,
    /// Held for reading by every job; taken out when the journal closes, after the last of them.
    pub(super) database: Arc<RwLock<Option<Database>>>,
    pub(super) queue: Mutex<Queue>,
    /// Only the leader's job takes it.
    pub(super) state: Mutex<State>,
    /// Set by the storage when it refuses for want of room.
    out_of_room: Arc<AtomicBool>,
    mark: AtomicU64,
    published: Mutex<Published>,
}

/// What health tells, as of the last commit.
#[derive(Default)]
struct Published {
    entries: u64,
    bytes: u64,
    full: bool,
    read_only: Option<String>,
}

impl Engine {
    pub(super) fn new(opened: Opened, options: JournalOptions, runtime: Runtime) -> Arc<Self> {
        let engine = Self {
            runtime,
            options,
            storage: opened.storage,
            journal_id: opened.journal_id,
            epoch: AtomicU64::new(opened.epoch),
            database: Arc::new(RwLock::new(Some(opened.database))),
            queue: Mutex::default(),
            state: Mutex::default(),
            out_of_room: opened.out_of_room,
            mark: AtomicU64::new(0),
            published: Mutex::default(),
        };
        engine.publish(&opened.state);
        *engine.state.lock().unwrap_or_else(PoisonError::into_inner) = opened.state;
        Arc::new(engine)
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        // Nothing panics while it holds the lock halfway through a change.
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what was committed.
    pub(super) fn publish(&self, state: &State) {
        self.mark.store(state.mark.as_u64(), Ordering::Release);
        let index = &state.index;
        let mut published = self.published();
        published.entries = index.entries();
        published.bytes = index.bytes();
        published.full = !state.has_reserve
            || state.refused_for_room
            || index.entries() >= self.options.max_entries
            || index.bytes() >= self.options.max_bytes;
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Takes note of an epoch that was committed.
    pub(super) fn note_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The highest version issued and committed.
    pub(super) fn mark(&self) -> Version {
        Version::from_u64(self.mark.load(Ordering::Acquire))
    }

    /// Why nothing is written any more.
    pub(super) fn read_only(&self) -> Option<String> {
        self.published().read_only.clone()
    }

    /// Makes the journal read-only. With the disk full, the reserve is given up, so that the next
    /// opening can truncate. Blocks.
    pub(super) fn fail(&self, failure: &Failure) {
        self.published()
            .read_only
            .get_or_insert_with(|| failure.message.clone());
        tracing::error!(reason = %failure.message, "the journal is read-only until it is opened again");
        if (failure.out_of_room || self.out_of_room.load(Ordering::Acquire))
            && let Err(error) = self.storage.release_reserve()
        {
            tracing::warn!(%error, "the journal's reserve could not be given up");
        }
    }

    pub(super) fn health(&self) -> JournalHealth {
        let closed = self.queue().closed;
        let published = self.published();
        let state = if closed {
            JournalState::Closed
        } else if let Some(message) = &published.read_only {
            JournalState::ReadOnly(message.clone())
        } else if published.full {
            JournalState::Full
        } else {
            JournalState::Writable
        };
        JournalHealth {
            state,
            entries: published.entries,
            bytes: published.bytes,
            max_entries: self.options.max_entries,
            max_bytes: self.options.max_bytes,
            retention: self.options.retention,
        }
    }

    /// Reads what is committed, on the blocking pool.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Tables<ReadTable>) -> Result<T, Failure> + Send + 'static,
    ) -> JournalResult<T> {
        let closed = || JournalError::new(JournalErrorKind::Closed, "the journal is closed");
        if self.queue().closed {
            return Err(closed());
        }
        let database = self.database.clone().read_owned().await;
        let engine = self.clone();
        let job = self.runtime.blocking(move || {
            let database = database.as_ref().ok_or_else(closed)?;
            caught(|| work(&Tables::read(&database.begin_read()?)?)).map_err(|failure| {
                engine.fail(&failure);
                failure.into_error(JournalErrorKind::ReadOnly)
            })
        });
        job.await.unwrap_or_else(|lost| {
            Err(JournalError::new(
                JournalErrorKind::Closed,
                lost.to_string(),
            ))
        })
    }

    /// Refuses new calls, waits for those under way, and releases the storage.
    pub(super) async fn close(self: Arc<Self>) -> JournalResult<()> {
        self.queue().closed = true;
        let mut database = self.database.clone().write_owned().await;
        let Some(open) = database.take() else {
            return Ok(());
        };
        let job = self.runtime.blocking(move || {
            caught(|| {
                drop(open);
                Ok(())
            })
        });
        let outcome = job
            .await
            .unwrap_or_else(|lost| Err(Failure::storage(lost.to_string())));
        outcome.map_err(|failure| failure.into_error(JournalErrorKind::ReadOnly))
    }
}
