//! What the journal's handle and its tasks share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    journal::{
        JournalError, JournalErrorKind, JournalHealth, JournalOptions, JournalResult, JournalState,
        Lease,
    },
    model::{JournalId, Version},
};
use tokio::sync::Notify;

use super::{
    super::pool::{self, Pool},
    codec::unavailable,
    queue::Queue,
    transaction::{Catalogue, Facts},
};

/// How many times an attempt's time a call may take, waiting for the row included.
const ATTEMPTS_TO_WAIT: u32 = 2;

/// The journal without its handle.
pub(super) struct Engine {
    pub(super) runtime: Runtime,
    pub(super) options: JournalOptions,
    pub(super) pool: Pool,
    pub(super) attempt_timeout: Duration,
    pub(super) journal_id: JournalId,
    /// This opening, as the lease names its holder.
    pub(super) instance: String,
    pub(super) instance_name: String,
    /// The channel of notifications.
    pub(super) channel: String,
    pub(super) queue: Mutex<Queue>,
    /// Held by the leader of a group.
    pub(super) leading: tokio::sync::Mutex<()>,
    /// There may be changes.
    pub(super) changed: Notify,
    closed: AtomicBool,
    /// The fencing number of the last lease of this opening; 0: none yet.
    epoch: AtomicU64,
    /// The last number that this opening was about to raise it to; 0: none yet. Whether it came to
    /// that, the row tells.
    raising: AtomicU64,
    mark: AtomicU64,
    shown: Mutex<Shown>,
}

/// What is told without asking the server.
#[derive(Default)]
struct Shown {
    entries: u64,
    bytes: u64,
    /// Whether a write was refused for want of room since the last truncation.
    refused_for_room: bool,
    unavailable: Option<String>,
    /// Until when this opening may count on its lease.
    lease_counts_until: Option<Duration>,
    catalogue: Option<(u64, Arc<Catalogue>)>,
}

impl Engine {
    pub(super) fn new(
        runtime: Runtime,
        options: JournalOptions,
        pool: Pool,
        attempt_timeout: Duration,
        journal_id: JournalId,
        channel: String,
    ) -> Arc<Self> {
        let instance = runtime.new_store_id().to_string();
        Arc::new(Self {
            instance_name: format!("process {}, opening {instance}", std::process::id()),
            runtime,
            options,
            pool,
            attempt_timeout,
            journal_id,
            instance,
            channel,
            queue: Mutex::default(),
            leading: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            raising: AtomicU64::new(0),
            mark: AtomicU64::new(0),
            shown: Mutex::default(),
        })
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock halfway through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn check_open(&self) -> JournalResult<()> {
        if self.is_closed() {
            return Err(JournalError::new(
                JournalErrorKind::Closed,
                "the journal is closed",
            ));
        }
        Ok(())
    }

    /// Does the work of one call within its time, and takes note of whether the server answers.
    /// What is given up half-way is rolled back: its connection is closed.
    pub(super) async fn bounded<T>(
        &self,
        work: impl Future<Output = JournalResult<T>>,
    ) -> JournalResult<T> {
        self.check_open()?;
        let limit = self.attempt_timeout * ATTEMPTS_TO_WAIT;
        let outcome = match self.runtime.timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(JournalError::new(
                // The commit has a limit of its own, so that the work was given up before it.
                JournalErrorKind::Unavailable,
                "the journal's server did not answer in time",
            )),
        };
        self.note(outcome.as_ref().err());
        outcome
    }

    /// A connection for a statement outside a transaction.
    pub(super) async fn connection(&self) -> JournalResult<pool::Lease> {
        self.pool.acquire().await.map_err(unavailable)
    }

    /// Takes note of whether the server answers.
    pub(super) fn note(&self, error: Option<&JournalError>) {
        let reason = error
            .filter(|error| {
                matches!(
                    error.kind(),
                    JournalErrorKind::Unavailable | JournalErrorKind::Indeterminate
                )
            })
            .map(|error| error.message().to_owned());
        let mut shown = self.shown();
        match (&shown.unavailable, &reason) {
            (None, Some(reason)) => tracing::warn!(%reason, "the journal's server does not answer"),
            (Some(_), None) => tracing::info!("the journal's server answers again"),
            _ => {}
        }
        shown.unavailable = reason;
    }

    pub(super) fn publish_facts(&self, facts: &Facts, catalogue: &Arc<Catalogue>) {
        self.raise_mark(facts.mark);
        let mut shown = self.shown();
        shown.entries = facts.entries;
        shown.bytes = facts.bytes;
        shown.catalogue = Some((facts.catalogue, Arc::clone(catalogue)));
    }

    /// What another reading of the row has shown.
    pub(super) fn publish_size(&self, mark: Version, entries: u64, bytes: u64) {
        self.raise_mark(mark);
        let mut shown = self.shown();
        shown.entries = entries;
        shown.bytes = bytes;
    }

    fn raise_mark(&self, mark: Version) {
        self.mark.fetch_max(mark.as_u64(), Ordering::AcqRel);
    }

    pub(super) fn mark(&self) -> Version {
        Version::from_u64(self.mark.load(Ordering::Acquire))
    }

    pub(super) fn cached_catalogue(&self, number: u64) -> Option<Arc<Catalogue>> {
        match &self.shown().catalogue {
            Some((known, catalogue)) if *known == number => Some(Arc::clone(catalogue)),
            _ => None,
        }
    }

    pub(super) fn set_refused_for_room(&self, refused: bool) {
        self.shown().refused_for_room = refused;
    }

    pub(super) fn own_epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Takes note of a number of its own that was committed. It never goes back: what tells of a
    /// lower one was under way when it was raised.
    pub(super) fn note_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// To be called before a higher number is committed.
    pub(super) fn announce_epoch(&self, epoch: u64) {
        self.raising.store(epoch, Ordering::Release);
    }

    /// Whether the number in the row, whose holder is this opening, is its own. One that it has
    /// raised is its own as soon as the row has it; the answer to the commit comes later, or never.
    pub(super) fn is_own_epoch(&self, in_row: u64) -> bool {
        if in_row == self.raising.load(Ordering::Acquire) {
            self.note_epoch(in_row);
        }
        in_row == self.own_epoch()
    }

    pub(super) fn take_lease(&self, counts_until: Duration) -> Lease {
        self.shown().lease_counts_until = Some(counts_until);
        Lease {
            epoch: self.own_epoch(),
            counts_until,
        }
    }

    pub(super) fn lose_lease(&self) {
        self.shown().lease_counts_until = None;
    }

    /// The lease, as long as it counts.
    pub(super) fn lease(&self) -> Option<Lease> {
        let now = self.runtime.monotonic();
        let counts_until = self.shown().lease_counts_until;
        counts_until
            .filter(|counts_until| now < *counts_until)
            .map(|counts_until| Lease {
                epoch: self.own_epoch(),
                counts_until,
            })
    }

    pub(super) fn health(&self) -> JournalHealth {
        let shown = self.shown();
        let full = shown.refused_for_room
            || shown.entries >= self.options.max_entries
            || shown.bytes >= self.options.max_bytes;
        let state = if self.is_closed() {
            JournalState::Closed
        } else if let Some(reason) = &shown.unavailable {
            JournalState::Unavailable(reason.clone())
        } else if full {
            JournalState::Full
        } else {
            JournalState::Writable
        };
        JournalHealth {
            state,
            entries: shown.entries,
            bytes: shown.bytes,
            max_entries: self.options.max_entries,
            max_bytes: self.options.max_bytes,
            retention: self.options.retention,
        }
    }

    /// The retention time in milliseconds.
    pub(super) fn retention(&self) -> u64 {
        u64::try_from(self.options.retention.as_millis()).unwrap_or(u64::MAX)
    }

    /// Below this time of its own, nothing recorded of an operation means nothing.
    pub(super) fn lookup_horizon(&self, now: u64, forgotten_below: u64) -> u64 {
        now.saturating_sub(self.retention()).max(forgotten_below)
    }
}

/// What a call answers when nobody will ever answer it.
pub(super) fn lost() -> JournalError {
    JournalError::new(
        JournalErrorKind::Indeterminate,
        "the group ended without an answer: the runtime is shutting down",
    )
}
