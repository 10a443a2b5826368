//! One store: its connection, opened when it is needed and verified after every doubt.

mod record;
mod verify;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::stamp::Moment;
use crate::{
    BoxFuture, Runtime,
    backend::{
        AnyBackend, Backend, BackendError, BackendErrorKind, BackendFactory, BackendResult,
        Capabilities, OpenContext, RelationalBackend, ServiceConfig,
    },
    journal::{Journal, RosterRecord},
    model::{Role, StoreId, Version},
    resilience::{CallClass, CircuitState, Guard, guard_backend},
};

/// What is known of a store without asking it.
#[derive(Clone, Debug)]
pub(crate) struct StoreStatus {
    pub(crate) record: RosterRecord,
    pub(crate) rebuilding: bool,
    pub(crate) circuit: CircuitState,
    pub(crate) error: Option<Arc<str>>,
}

#[derive(Debug)]
struct State {
    record: RosterRecord,
    backend: Option<AnyBackend>,
    /// The stamp was checked since the last doubt.
    verified: bool,
    /// The identity that a rebuild under way has given it.
    rebuilding: Option<StoreId>,
    /// The highest progress that was sent to it in a stamp. The record may be behind: a stamp is
    /// written first, and what else belongs to it may fail.
    stamped: Version,
    error: Option<Arc<str>>,
    /// Kept over a lost connection, for validation of writes.
    capabilities: Option<Capabilities>,
}

/// A store in its role. The connection is opened through the factory, and its stamp is checked at
/// every opening and again after every failure that could hide a restart.
pub(crate) struct Store {
    pub(crate) role: Role,
    pub(crate) service: Arc<str>,
    factory: Arc<dyn BackendFactory>,
    config: ServiceConfig,
    context: OpenContext,
    guard: Arc<Guard>,
    journal: Arc<dyn Journal>,
    state: Mutex<State>,
    connecting: AsyncMutex<()>,
    /// Held by whoever writes to the store: its sender, or a rebuild that empties it.
    turn: AsyncMutex<()>,
    /// Held while the record is changed.
    recording: AsyncMutex<()>,
    /// Held by a rebuild from its beginning to its end.
    rebuilds: AsyncMutex<()>,
    /// It was closed for good.
    closed: AtomicBool,
    /// Confirmations of this session can no longer be trusted: compare with what the store holds.
    reconcile: AtomicBool,
    /// How often the store was opened or verified anew.
    openings: AtomicU64,
    /// Tells the sender of an opening, whoever it was that opened.
    opened: Notify,
    /// Whether this manager is the one that stamps the store and writes its record.
    sends: AtomicBool,
    /// Told when the store was seen to answer, to whoever waits before trying again.
    answers: Notify,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("role", &self.role)
            .field("service", &self.service)
            .finish()
    }
}

/// What a store is opened from.
pub(crate) struct StoreParts {
    pub(crate) factory: Arc<dyn BackendFactory>,
    pub(crate) config: ServiceConfig,
    pub(crate) context: OpenContext,
    pub(crate) guard: Arc<Guard>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) record: RosterRecord,
    /// Whether this manager sends to the stores.
    pub(crate) sends: bool,
}

impl Store {
    pub(crate) fn new(parts: StoreParts) -> Self {
        Self {
            role: parts.record.role,
            service: Arc::from(parts.record.service.as_str()),
            factory: parts.factory,
            config: parts.config,
            context: parts.context,
            guard: parts.guard,
            journal: parts.journal,
            state: Mutex::new(State {
                record: parts.record,
                backend: None,
                verified: false,
                rebuilding: None,
                stamped: Version::ZERO,
                error: None,
                capabilities: None,
            }),
            connecting: AsyncMutex::new(()),
            turn: AsyncMutex::new(()),
            recording: AsyncMutex::new(()),
            rebuilds: AsyncMutex::new(()),
            closed: AtomicBool::new(false),
            reconcile: AtomicBool::new(true),
            openings: AtomicU64::new(0),
            opened: Notify::new(),
            sends: AtomicBool::new(parts.sends),
            answers: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn store_id(&self) -> StoreId {
        self.lock().record.store_id
    }

    /// Waits for the turn to write to the store.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(crate) fn record(&self) -> RosterRecord {
        self.lock().record.clone()
    }

    pub(crate) fn capabilities(&self) -> Option<Capabilities> {
        self.lock().capabilities.clone()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.context.runtime
    }

    pub(crate) fn status(&self) -> StoreStatus {
        let circuit = self.guard.circuit();
        let state = self.lock();
        StoreStatus {
            record: state.record.clone(),
            rebuilding: state.rebuilding.is_some(),
            circuit,
            error: state.error.clone(),
        }
    }

    pub(crate) fn circuit_is_open(&self) -> bool {
        matches!(self.guard.circuit(), CircuitState::Open { .. })
    }

    /// Whether confirmations must be compared with the store before they are trusted.
    pub(crate) fn in_doubt(&self) -> bool {
        self.reconcile.load(Ordering::Acquire)
    }

    /// Ends the doubt; confirmations from before it must have been forgotten.
    pub(crate) fn clear_doubt(&self) {
        self.reconcile.store(false, Ordering::Release);
    }

    /// A number that changes with every opening; `None` while confirmations are in doubt.
    pub(crate) fn trusted_opening(&self) -> Option<u64> {
        let doubt = self.in_doubt() || !self.lock().verified;
        (!doubt).then(|| self.openings.load(Ordering::Acquire))
    }

    /// Waits until the store was opened since this was last asked.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }

    /// A number that changes with every opening.
    pub(crate) fn opening(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Completes when a health check sees the store answer.
    pub(crate) async fn seen_to_answer(&self) {
        self.answers.notified().await;
    }

    pub(crate) fn note_answer(&self) {
        self.answers.notify_waiters();
    }

    /// Asks for another comparison, since the last one did not come to its end.
    pub(crate) fn want_reconcile(&self) {
        self.reconcile.store(true, Ordering::Release);
    }

    /// Has the stamp read again before the next use.
    pub(crate) fn want_verification(&self) {
        self.lock().verified = false;
    }

    /// Takes note of a failure: after one that may hide a restart or a replacement of the store,
    /// its stamp is read again before the next use.
    pub(crate) fn note_failure(&self, error: &BackendError) {
        let mut state = self.lock();
        state.error = Some(Arc::from(error.to_string()));
        if matches!(
            error.kind(),
            BackendErrorKind::Unavailable
                | BackendErrorKind::Timeout
                | BackendErrorKind::StaleEpoch
                | BackendErrorKind::Foreign
                | BackendErrorKind::Damaged
        ) {
            state.verified = false;
        }
    }

    pub(crate) fn note_success(&self) {
        self.lock().error = None;
    }

    /// The store, opened and with its stamp checked.
    ///
    /// # Errors
    /// Why it cannot be used now; `Foreign` if it does not belong to the journal.
    pub(crate) async fn connect(&self) -> BackendResult<AnyBackend> {
        if let Some(backend) = self.ready() {
            return Ok(backend);
        }
        let _one_at_a_time = match self.connecting.try_lock() {
            Ok(alone) => alone,
            // Whoever looks whether it is back may wait for a store that never answers.
            Err(_) => match self.guard.refusal() {
                Some(refused) => return Err(refused),
                None => self.connecting.lock().await,
            },
        };
        if let Some(backend) = self.ready() {
            return Ok(backend);
        }
        let result = self.open_and_verify(Moment::Reconnecting).await;
        if let Err(error) = &result {
            self.lock().error = Some(Arc::from(error.to_string()));
        }
        result
    }

    /// The store, if it is open and its stamp is checked.
    pub(crate) fn ready(&self) -> Option<AnyBackend> {
        let state = self.lock();
        state.backend.clone().filter(|_| state.verified)
    }

    /// Opens the store at the manager's opening. The record may be replaced first: see
    /// [`super::open`].
    pub(crate) async fn open(&self) -> BackendResult<Arc<dyn Backend>> {
        let backend = self.open_backend().await?;
        Ok(backend.as_backend())
    }

    async fn open_backend(&self) -> BackendResult<AnyBackend> {
        if let Some(backend) = self.lock().backend.clone() {
            return Ok(backend);
        }
        self.check_open()?;
        let opened = self
            .guard
            .run("open", CallClass::Read, || {
                self.factory.open(&self.config, &self.context)
            })
            .await?;
        Ok(self.keep(opened))
    }

    /// Keeps a store that was opened, its stamp not yet checked.
    fn keep(&self, opened: AnyBackend) -> AnyBackend {
        let backend = guard_backend(opened, &self.guard);
        let mut state = self.lock();
        state.capabilities = Some(backend.as_backend().capabilities().clone());
        state.backend = Some(backend.clone());
        state.verified = false;
        backend
    }

    /// Asks a store whose circuit is open whether it answers. One that was lost is opened for this
    /// past the circuit: nobody else would see before the end of the cool-down that it is back.
    /// An answer makes the next call a trial; the stamp is checked by that.
    pub(crate) async fn look_for(&self) -> BackendResult<()> {
        let _one_at_a_time = self.connecting.lock().await;
        let held = self.lock().backend.clone();
        if let Some(backend) = held {
            return backend.as_backend().probe().await;
        }
        self.check_open()?;
        let open_and_probe = || -> BoxFuture<'_, BackendResult<AnyBackend>> {
            Box::pin(async {
                let opened = self.factory.open(&self.config, &self.context).await?;
                match opened.as_backend().probe().await {
                    Ok(()) => Ok(opened),
                    Err(error) => {
                        if let Err(cause) = opened.as_backend().close().await {
                            tracing::warn!(role = %self.role, error = %cause, "a store that does not answer did not close");
                        }
                        Err(error)
                    }
                }
            })
        };
        let opened = self.guard.probe("probe", open_and_probe).await?;
        self.keep(opened);
        Ok(())
    }

    /// Checks the stamp and writes this epoch into it.
    pub(crate) async fn open_and_verify(&self, moment: Moment) -> BackendResult<AnyBackend> {
        let backend = self.open_backend().await?;
        let verified = self.verify(&backend, moment).await;
        match verified {
            Ok(()) => {
                self.openings.fetch_add(1, Ordering::AcqRel);
                self.reconcile.store(true, Ordering::Release);
                self.opened.notify_one();
                let mut state = self.lock();
                state.verified = true;
                state.error = None;
                Ok(backend)
            }
            Err(error) => {
                // A connection that cannot even tell its stamp may be stale: open another one.
                if !matches!(error.kind(), BackendErrorKind::CircuitOpen) {
                    self.disconnect(&backend).await;
                }
                Err(error)
            }
        }
    }

    async fn disconnect(&self, backend: &AnyBackend) {
        {
            let mut state = self.lock();
            state.backend = None;
            state.verified = false;
        }
        if let Err(error) = backend.as_backend().close().await {
            tracing::warn!(role = %self.role, service = %self.service, %error, "a lost store did not close");
        }
    }

    /// The store as the authority.
    ///
    /// # Errors
    /// Why it cannot be used now.
    pub(crate) async fn relational(&self) -> BackendResult<Arc<dyn RelationalBackend>> {
        match self.connect().await? {
            AnyBackend::Relational(backend) => Ok(backend),
            _ => Err(wrong_role(self.role)),
        }
    }

    /// Closes the store for good: it is not opened again, whoever asks for it. An opening that is
    /// under way ends first.
    pub(crate) async fn close(&self) -> BackendResult<()> {
        self.closed.store(true, Ordering::Release);
        let _one_at_a_time = self.connecting.lock().await;
        let backend = {
            let mut state = self.lock();
            state.verified = false;
            state.backend.take()
        };
        match backend {
            Some(backend) => backend.as_backend().close().await,
            None => Ok(()),
        }
    }

    /// Asked under `connecting`.
    fn check_open(&self) -> BackendResult<()> {
        if self.closed.load(Ordering::Acquire) {
            let message = "the store was closed with its manager";
            return Err(BackendError::new(BackendErrorKind::Unavailable, message).not_applied());
        }
        Ok(())
    }
}

fn wrong_role(role: Role) -> BackendError {
    BackendError::new(
        BackendErrorKind::Config,
        format!("the factory of the {role} service opened a store of another role"),
    )
    .not_applied()
}
