//! One sender per store: takes what the store has yet to confirm from the backlog, sends it in
//! batches through the resilience of the store, and records what became of it. First attempts and
//! repair are the same road.

mod batches;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::Instrument;

use super::{
    WriteRoom,
    backlog::{DocumentKey, Participation, Sending, Sent},
    pace::Pace,
    reconcile::reconcile,
};
use crate::{
    backend::{
        Backend, BackendError, BackendErrorKind, BackendResult, CreateCollectionRequest,
        DropCollectionRequest,
    },
    journal::{ParkedEntry, RosterState},
    model::{CollectionKey, CollectionOptions, Version},
    roster::Store,
};

/// The wait after the first failure; doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// What became of each document of a batch.
type Results = Vec<(DocumentKey, Version, BackendResult<()>)>;

/// Sends to one store until the room closes.
pub(crate) async fn run_sender(room: Arc<WriteRoom>, store: Arc<Store>) {
    let mut sender = Sender {
        room,
        store,
        ready: HashMap::new(),
        epoch: 0,
        failures: 0,
        alone: 0,
        pace: Pace::default(),
        unparked: Mutex::default(),
    };
    while !sender.room.is_closing() {
        if !sender.room.is_sender() {
            // A last failure may have been noted since it stopped sending.
            let (backlog, role) = (&sender.room.backlog, sender.store.role);
            backlog.set_reachability(role, false, None);
            sender.room.wait_until_sender().await;
            continue;
        }
        let span = tracing::debug_span!(
            "dbmanager.repair",
            "db.system.name" = &*sender.store.service,
            role = sender.store.role.as_str(),
        );
        match sender.step().instrument(span).await {
            Ok(Step::Progress) => match sender.take_unparked() {
                Some(error) => sender.back_off(&error).await,
                None => sender.succeeded(),
            },
            Ok(Step::Idle) => {
                // Also if somebody else has opened the store again: what it had confirmed is to be
                // compared with it, or its entries could never go.
                tokio::select! {
                    biased;
                    () = sender.room.backlog.work(sender.store.role) => {}
                    () = sender.store.opened() => {}
                }
            }
            Err(error) => sender.back_off(&error).await,
        }
    }
}

enum Step {
    Progress,
    Idle,
}

struct Sender {
    room: Arc<WriteRoom>,
    store: Arc<Store>,
    /// Collections that were made ready in this store since it was last opened, as they were then:
    /// one whose embedding space is decided later is made ready again.
    ready: HashMap<CollectionKey, CollectionOptions>,
    /// The epoch at the beginning of the step.
    epoch: u64,
    failures: u32,
    /// Documents still to be sent one by one, since the store refused a batch as a whole and only
    /// so the one to blame is found.
    alone: usize,
    pace: Pace,
    /// Why a refusal could not be recorded. What it was about is sent again, but not at once.
    unparked: Mutex<Option<BackendError>>,
}

impl Sender {
    async fn step(&mut self) -> BackendResult<Step> {
        let role = self.store.role;
        self.epoch = self.room.journal.epoch();
        // Of the record too: a read may have found the right store in its place.
        if self.room.backlog.participation(role) == Participation::NeedsRestore
            && self.store.record().state == RosterState::NeedsRestore
        {
            return Ok(Step::Idle);
        }
        let store = Arc::clone(&self.store);
        let _turn = store.turn().await;
        let backend = self.store.connect().await?.as_backend();
        self.room.refresh_participation(&self.store);
        if self.store.in_doubt() {
            self.ready.clear();
            reconcile(&self.room, &self.store, backend.as_ref()).await?;
        }
        let limit = self.room.settings.batch_size;
        let limit = limit.min(backend.capabilities().max_batch).max(1);
        // With one alone nothing else is sent: it may be the one to blame.
        let goes_on = self.alone == 0;
        self.alone = self.alone.saturating_sub(1);
        let first = if goes_on { limit } else { 1 };
        let Some(first) = self.take(first) else {
            // It is back, and has all: what it applied without our hearing of it counts.
            if self.failures > 0 {
                self.succeeded();
            }
            return Ok(Step::Idle);
        };
        if first.is_drop() {
            self.send_drops(backend.as_ref(), first.batch).await
        } else {
            let further = goes_on.then_some(limit);
            self.send_batches(backend.as_ref(), first, further).await
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
        }
        self.store.note_success();
        self.room
            .backlog
            .set_reachability(self.store.role, false, None);
    }

    /// Waits before the next attempt. A wake-up does not shorten the wait, or new writes would
    /// hammer a failing store; a health check that sees it answer does, at most once per check.
    async fn back_off(&mut self, error: &BackendError) {
        self.store.note_failure(error);
        // If the epoch was raised meanwhile, it was this manager that the request came too late for.
        let own = self.room.journal.epoch() > self.epoch;
        if error.kind() == BackendErrorKind::StaleEpoch && !own {
            self.room.fence(error);
        }
        if self.room.is_sender() {
            self.room.backlog.set_reachability(
                self.store.role,
                self.store.circuit_is_open(),
                Some(Arc::from(error.to_string())),
            );
        }
        let exponent = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let bound = FIRST_BACK_OFF
            .saturating_mul(1 << exponent)
            .min(LONGEST_BACK_OFF);
        let runtime = self.store.runtime();
        let jitter = bound.mul_f64((runtime.random_u64() % 1_000) as f64 / 2_000.0);
        let own = bound / 2 + jitter;
        let wait = match error.retry_after() {
            // When the next trial is due.
            Some(after) if error.kind() == BackendErrorKind::CircuitOpen => {
                after.max(FIRST_BACK_OFF / 2)
            }
            // A store that asks for a second of peace may be given more, never less.
            after => own.max(after.unwrap_or_default()),
        }
        .min(LONGEST_BACK_OFF);
        let closing = self.room.closing();
        tokio::select! {
            biased;
            () = runtime.sleep(wait) => {}
            () = self.store.seen_to_answer() => {}
            () = closing => {}
        }
    }

    async fn make_ready(
        &mut self,
        backend: &dyn Backend,
        collection: &CollectionKey,
    ) -> BackendResult<()> {
        let known = self.room.collection(&collection.name);
        let Some(known) = known.filter(|known| known.key == *collection) else {
            // Dropped meanwhile: what it held is void.
            return Ok(());
        };
        if self.ready.get(collection) == Some(&known.options) {
            return Ok(());
        }
        let options = known.options.clone();
        let request = CreateCollectionRequest::new(known, self.room.journal.epoch());
        backend.create_collection(request).await?;
        self.ready.insert(collection.clone(), options);
        Ok(())
    }

    async fn send_drops(
        &mut self,
        backend: &dyn Backend,
        batch: Vec<Sending>,
    ) -> BackendResult<Step> {
        for sending in batch {
            let collection = sending.document.collection.clone();
            self.ready.remove(&collection);
            let request = DropCollectionRequest::new(collection, self.room.journal.epoch());
            let result = backend.drop_collection(request).await;
            let failure = result.as_ref().err().cloned();
            self.record(vec![(sending.document, sending.newest.version, result)])
                .await;
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(Step::Progress)
    }

    /// Records results; a permanent refusal is parked in the journal before it is shown.
    async fn record(&self, results: Results) {
        if results.is_empty() {
            return;
        }
        let mut recorded = Vec::with_capacity(results.len());
        for (document, version, result) in results {
            let sent = match result {
                Ok(()) => Sent::Confirmed,
                Err(error) if error.is_permanent() => self.park(version, &error).await,
                Err(error) => Sent::Failed(Arc::from(error.to_string())),
            };
            recorded.push((document, version, sent));
        }
        self.room.backlog.record(self.store.role, recorded);
    }

    async fn park(&self, version: Version, error: &BackendError) -> Sent {
        let text = error.to_string();
        let entry = ParkedEntry {
            version,
            store_id: self.store.store_id(),
            error: text.clone(),
        };
        match self.room.journal.park(entry).await {
            Ok(()) => {
                tracing::error!(role = %self.store.role, service = %self.store.service, %error, "write parked");
                Sent::Parked(Arc::from(text))
            }
            // Sent again, refused again, parked then.
            Err(journal_error) => {
                let unparked = BackendError::new(
                    BackendErrorKind::Overloaded,
                    "a refused write cannot be parked in the journal",
                );
                let unparked = unparked.not_applied().with_source(journal_error);
                let text = Arc::from(unparked.to_string());
                *self.unparked.lock().unwrap_or_else(PoisonError::into_inner) = Some(unparked);
                Sent::Failed(text)
            }
        }
    }

    fn take_unparked(&self) -> Option<BackendError> {
        let mut unparked = self.unparked.lock().unwrap_or_else(PoisonError::into_inner);
        unparked.take()
    }

    fn has_unparked(&self) -> bool {
        let unparked = self.unparked.lock();
        unparked.unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
