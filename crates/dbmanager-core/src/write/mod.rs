//! The write route: validate → embed → append → fan out → decide → receipt, and what follows from
//! it: senders that bring every store up to date, and the truncation of the journal.

mod admission;
mod appends;
mod backlog;
mod catalogue;
mod decide;
mod pace;
mod prepare;
mod reconcile;
mod route;
mod sender;
mod sharing;
mod stage;
mod truncation;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::Shared};
use tokio::sync::watch;

use admission::Admission;
use appends::Appends;
pub(crate) use backlog::{Backlog, DocumentKey, Participation, Revision, slot};
use catalogue::Catalogue;
pub(crate) use decide::{Acknowledgement, Answer};
pub(crate) use prepare::validate_collection_name;
pub(crate) use route::{ItemChange, WriteItem, WriteOptions};
use sharing::{Sharing, run_following, run_lease, run_publishing};
pub(crate) use truncation::truncate_all;

use crate::{
    Error, ErrorKind, Result, Runtime, TaskHandle,
    backend::{BackendError, Capabilities, DocumentState, Limits},
    cache::Cache,
    embed::Embedder,
    journal::{Journal, JournalError, JournalErrorKind, JournalResult, RosterRecord, RosterState},
    model::{EmbeddingSpace, Level, OperationId, Role, Version},
    roster::{Store, StoreStatus, close_stores},
};

/// Live entries read from the journal at once when it is opened.
const RECOVERY_PAGE: usize = 2_000;
/// When a write that found the journal full is worth another try: two rounds of truncation later.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);
/// How far the clock of whoever chooses operation ids may be ahead.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// The knobs of the write route.
#[derive(Clone, Debug)]
pub(crate) struct WriteSettings {
    pub(crate) level: Level,
    pub(crate) timeout: Duration,
    /// Documents sent to a store at once.
    pub(crate) batch_size: usize,
    /// Live entries from which on a disabled store (never the authority) is given up for a rebuild.
    pub(crate) disabled_backlog: u64,
    /// Documents whose writes may be under way at once.
    pub(crate) max_in_flight: usize,
}

/// Everything the write route shares.
pub(crate) struct WriteRoom {
    pub(crate) runtime: Runtime,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) backlog: Backlog,
    pub(crate) stores: Vec<Arc<Store>>,
    pub(crate) settings: WriteSettings,
    pub(crate) embedder: Option<Arc<dyn Embedder>>,
    pub(crate) cache: Option<Cache>,
    admission: Admission,
    disabled: Mutex<Vec<RosterRecord>>,
    /// Absent if the journal is this manager's own.
    sharing: Option<Sharing>,
    catalogue: RwLock<Catalogue>,
    appends: Appends,
    closing: watch::Sender<bool>,
    fenced: Mutex<Option<Error>>,
    /// Shared, so that a closing that is given up leaves them to the next one.
    tasks: Mutex<Vec<Shared<TaskHandle<()>>>>,
    /// The stores are closed or being closed.
    closed: AtomicBool,
}

impl std::fmt::Debug for WriteRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteRoom")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

/// What the write route is made of.
pub(crate) struct WriteParts {
    pub(crate) runtime: Runtime,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) stores: Vec<Arc<Store>>,
    /// Stores that are on the roster but not enabled.
    pub(crate) disabled: Vec<RosterRecord>,
    pub(crate) settings: WriteSettings,
    pub(crate) embedder: Option<Arc<dyn Embedder>>,
    pub(crate) cache: Option<Cache>,
    /// Whether this manager sends to the stores; it does unless another one shares its journal.
    pub(crate) sends: bool,
}

impl WriteRoom {
    /// Reads the live entries of the journal, compares the stores with them and starts the senders.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) async fn start(parts: WriteParts) -> JournalResult<Arc<Self>> {
        let shared = parts.journal.shared().is_some();
        let room = Arc::new(Self {
            runtime: parts.runtime,
            journal: parts.journal,
            backlog: Backlog::new(shared),
            stores: parts.stores,
            admission: Admission::new(parts.settings.max_in_flight),
            settings: parts.settings,
            embedder: parts.embedder,
            cache: parts.cache,
            disabled: Mutex::new(parts.disabled),
            sharing: shared.then(|| Sharing::new(parts.sends)),
            catalogue: RwLock::default(),
            appends: Appends::default(),
            closing: watch::Sender::new(false),
            fenced: Mutex::new(None),
            tasks: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        });
        for record in room.disabled() {
            room.backlog
                .set_participation(record.role, disabled_participation(record.state));
        }
        for store in &room.stores {
            room.refresh_participation(store);
        }
        match room.journal.shared() {
            None => room.recover().await?,
            Some(_) => room.recover_shared().await?,
        }
        if room.is_sender() {
            reconcile::reconcile_at_opening(&room).await;
        }
        for store in &room.stores {
            room.keep(
                room.runtime
                    .spawn(sender::run_sender(Arc::clone(&room), Arc::clone(store))),
            );
        }
        room.keep(
            room.runtime
                .spawn(truncation::run_truncation(Arc::clone(&room))),
        );
        if shared {
            let tasks = [
                room.runtime.spawn(run_lease(Arc::clone(&room))),
                room.runtime.spawn(run_following(Arc::clone(&room))),
                room.runtime.spawn(run_publishing(Arc::clone(&room))),
            ];
            tasks.into_iter().for_each(|task| room.keep(task));
        }
        Ok(room)
    }

    async fn recover(&self) -> JournalResult<()> {
        self.refresh_catalogue().await?;
        let mut after = Version::ZERO;
        loop {
            let page = self.journal.live_entries(after, RECOVERY_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.version;
            for header in page {
                self.backlog.insert(header, None);
            }
        }
        let roles: HashMap<_, _> = self
            .stores
            .iter()
            .map(|store| (store.store_id(), store.role))
            .collect();
        for parked in self.journal.parked().await? {
            if let Some(role) = roles.get(&parked.store_id) {
                self.backlog.mark_parked(*role, &parked);
            }
        }
        Ok(())
    }

    pub(crate) fn keep(&self, task: TaskHandle<()>) {
        self.tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task.shared());
    }

    pub(crate) fn store(&self, role: Role) -> Option<&Arc<Store>> {
        self.stores.iter().find(|store| store.role == role)
    }

    /// Brings the backlog's view of a store in line with its standing.
    pub(crate) fn refresh_participation(&self, store: &Store) {
        let StoreStatus {
            record, rebuilding, ..
        } = store.status();
        let participation = match record.state {
            _ if rebuilding => Participation::Rebuilding,
            RosterState::Active | RosterState::CatchingUp => Participation::Full,
            RosterState::NeedsRebuild => Participation::Skipped,
            RosterState::NeedsRestore => Participation::NeedsRestore,
            RosterState::Removed => Participation::Absent,
        };
        if self.backlog.participation(store.role) != participation {
            self.backlog.set_participation(store.role, participation);
        }
    }

    fn disabled(&self) -> Vec<RosterRecord> {
        self.disabled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The content of live entries.
    pub(crate) async fn load(
        &self,
        versions: &[Version],
    ) -> JournalResult<HashMap<Version, DocumentState>> {
        if versions.is_empty() {
            return Ok(HashMap::new());
        }
        let entries = self.journal.load(versions).await?;
        Ok(entries
            .into_iter()
            .flatten()
            .map(|e| (e.header.version, e.state))
            .collect())
    }

    /// A new operation id, above every time that the journal has seen: records of operations are
    /// forgotten by the time in their ids, and a clock that was set right after having been ahead
    /// must not make new ids look forgotten.
    pub(crate) fn new_operation_id(&self) -> OperationId {
        self.runtime
            .new_operation_id_from(self.journal.mark().milliseconds() + 1)
    }

    /// Refuses an id from the future: what is recorded under it would be kept until then.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn check_operation_id(&self, id: OperationId) -> Result<()> {
        let now = self.runtime.unix_milliseconds();
        let newest = now.max(self.journal.mark().milliseconds());
        let latest = newest.saturating_add(MOST_AHEAD.as_millis() as u64);
        if id.unix_milliseconds() <= latest {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            "the operation id is not a UUID version 7 of a time up to now",
        )
        .with("operation_id", id))
    }

    /// Whether a store holds every acknowledged write.
    pub(crate) fn holds_all(&self, store: &Store) -> bool {
        !self.in_doubt(store) && self.backlog.is_caught_up(store.role)
    }

    /// Whether a store that was opened anew may have lost what it had confirmed: until whoever sends
    /// to it has compared that.
    pub(crate) fn in_doubt(&self, store: &Store) -> bool {
        self.is_sender() && store.trusted_opening().is_none()
    }

    /// The limits that every store known so far keeps.
    pub(crate) fn limits(&self) -> Limits {
        self.stores
            .iter()
            .filter_map(|store| store.capabilities())
            .fold(Limits::default(), |limits, c| limits.intersect(&c.limits))
    }

    /// # Errors
    /// `Unsupported`: a store known so far cannot compare vectors by this metric.
    pub(crate) fn check_metric(&self, space: Option<&EmbeddingSpace>) -> Result<()> {
        let Some(space) = space else { return Ok(()) };
        let knows = |c: &Capabilities| c.metrics.contains(&space.metric);
        let mut capabilities = self.stores.iter().filter_map(|store| store.capabilities());
        if capabilities.all(|c| knows(&c)) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "a store cannot compare vectors by the metric of the embedding space",
        )
        .with("metric", format!("{:?}", space.metric)))
    }

    /// Gives up disabled stores whose backlog has outgrown the setting: they no longer hold
    /// truncation and need a rebuild when they come back. Never the authority: what only it lacks
    /// would be lost.
    pub(crate) async fn give_up_disabled(&self) -> JournalResult<()> {
        if self.journal.health().entries <= self.settings.disabled_backlog {
            return Ok(());
        }
        for record in self.disabled() {
            let holds = self.backlog.participation(record.role) == Participation::Disabled;
            if !holds || record.role == Role::Relational {
                continue;
            }
            tracing::warn!(role = %record.role, "the backlog of a disabled store was given up: it needs a rebuild");
            let record = RosterRecord {
                state: RosterState::NeedsRebuild,
                ..record.clone()
            };
            self.journal.put_store(record.clone()).await?;
            self.backlog
                .set_participation(record.role, Participation::Absent);
        }
        Ok(())
    }

    /// Reads the view of a journal that others have open as well.
    async fn recover_shared(&self) -> JournalResult<()> {
        self.load_first_view().await?;
        if self.is_made_sender() {
            self.backlog.set_sending(true);
        }
        Ok(())
    }

    /// Refuses further use after another manager has taken over the stores; if they share the
    /// journal, leaves the stores to the other one.
    pub(crate) fn fence(&self, error: &BackendError) {
        if self.sharing.is_some() {
            self.stand_down(error.message());
            return;
        }
        let mut fenced = self.fenced.lock().unwrap_or_else(PoisonError::into_inner);
        fenced.get_or_insert_with(|| {
            tracing::error!(%error, "another manager has opened the stores: this one stops");
            Error::new(ErrorKind::ForeignStore, error.message().to_owned())
        });
        drop(fenced);
        self.begin_close();
    }

    /// # Errors
    /// `Closed`, or `ForeignStore` after another manager has taken over.
    pub(crate) fn check_open(&self) -> Result<()> {
        if let Some(error) = &*self.fenced.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.clone());
        }
        if self.is_closing() {
            return Err(closed());
        }
        Ok(())
    }

    /// Reads go on until the stores are closed.
    ///
    /// # Errors
    /// `Closed`.
    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(())
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Completes when the room begins to close.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.closing.subscribe();
        async move {
            // An error means that the room is gone, which is closed too.
            let _ = receiver.wait_for(|closing| *closing).await;
        }
    }

    /// Sleeps for so long, or until the room closes.
    pub(crate) async fn rest(&self, duration: Duration) {
        let closing = self.closing();
        tokio::select! {
            biased;
            () = self.runtime.sleep(duration) => {}
            () = closing => {}
        }
    }

    /// Stops taking writes and starting attempts.
    pub(crate) fn begin_close(&self) {
        self.closing.send_replace(true);
        for role in Role::ALL {
            self.backlog.wake(role);
        }
        self.backlog.truncatable.notify_one();
        self.backlog.changed.notify_waiters();
    }

    /// Closes every store for good; the first error, and of which store it is.
    pub(crate) async fn close_stores(&self) -> Option<(Role, BackendError)> {
        self.closed.store(true, Ordering::Release);
        close_stores(&self.stores).await
    }

    /// Waits for the tasks of the room to end.
    pub(crate) async fn join(&self) {
        let tasks = {
            let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.clone()
        };
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of the write room ended without a result");
            }
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the manager is closed")
}

/// How a store that is on the roster but not enabled takes part.
fn disabled_participation(state: RosterState) -> Participation {
    match state {
        RosterState::NeedsRebuild | RosterState::Removed => Participation::Absent,
        RosterState::Active | RosterState::CatchingUp | RosterState::NeedsRestore => {
            Participation::Disabled
        }
    }
}

/// The public error of a journal that does not do what it should.
pub(crate) fn journal_error(error: JournalError) -> Error {
    let kind = match error.kind() {
        JournalErrorKind::CollectionNotFound => ErrorKind::CollectionNotFound,
        JournalErrorKind::CollectionChanged => ErrorKind::CollectionChanged,
        JournalErrorKind::CollectionConflict => ErrorKind::InvalidInput,
        JournalErrorKind::PreconditionFailed(_) => ErrorKind::PreconditionFailed,
        JournalErrorKind::IdempotencyConflict => ErrorKind::IdempotencyConflict,
        JournalErrorKind::OperationIdUsed => ErrorKind::InvalidInput,
        JournalErrorKind::Full => ErrorKind::Overloaded,
        JournalErrorKind::ReadOnly => ErrorKind::Unavailable,
        JournalErrorKind::Closed => ErrorKind::Closed,
        JournalErrorKind::Indeterminate => ErrorKind::Indeterminate,
        JournalErrorKind::Damaged => ErrorKind::Damaged,
        JournalErrorKind::Locked => ErrorKind::Locked,
        JournalErrorKind::UnsupportedFormat | JournalErrorKind::Open => ErrorKind::Config,
        JournalErrorKind::Unavailable => ErrorKind::Unavailable,
        JournalErrorKind::NotSender => ErrorKind::NotSender,
    };
    let message = error.message().to_owned();
    // A read-only journal stays so until the manager is opened again.
    let retryable = !matches!(error.kind(), JournalErrorKind::ReadOnly);
    let full = *error.kind() == JournalErrorKind::Full;
    let public = Error::new(kind, message).with_source(error);
    match (retryable, full) {
        (false, _) => public.with_retryable(false),
        (true, true) => public.with_retry_after(RETRY_WHEN_FULL),
        (true, false) => public,
    }
}
