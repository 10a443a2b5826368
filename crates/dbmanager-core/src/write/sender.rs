//! One sender per store: takes what the store has yet to confirm from the backlog, sends it in
//! batches through the resilience of the store, and records what became of it. First attempts and
//! repair are the same road.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join;
use tracing::Instrument;

use super::{
    WriteRoom,
    backlog::{DocumentKey, Participation, Sending, Sent},
    pace::Pace,
    reconcile::{reconcile, unreadable_journal},
};
use crate::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult,
        CreateCollectionRequest, DocumentState, DropCollectionRequest, Mutation,
    },
    journal::{ParkedEntry, RosterState},
    model::{CollectionKey, CollectionOptions, Version},
    roster::Store,
};

/// The wait after the first failure; doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// How long a sender goes on before it lets others have the store, such as a rebuild, and looks
/// again at how the store stands.
const TURN: Duration = Duration::from_millis(100);

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
        loaded: HashMap::new(),
        pace: Pace::default(),
    };
    while !sender.room.is_closing() {
        if !sender.room.is_sender() {
            sender.room.wait_until_sender().await;
            continue;
        }
        let span = tracing::debug_span!(
            "dbmanager.repair",
            "db.system.name" = &*sender.store.service,
            role = sender.store.role.as_str(),
        );
        match sender.step().instrument(span).await {
            Ok(Step::Progress) => sender.succeeded(),
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
    /// Contents of the batch that is sent next, as far as the journal was read for them.
    loaded: HashMap<Version, DocumentState>,
    pace: Pace,
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
        let batch = self.room.backlog.take_batch(role, first);
        let Some(first) = batch.first() else {
            // It is back, and has all: what it applied without our hearing of it counts.
            if self.failures > 0 {
                self.succeeded();
            }
            return Ok(Step::Idle);
        };
        if first.document.is_drop() {
            self.send_drop(backend.as_ref(), batch).await
        } else {
            let further = goes_on.then_some(limit);
            self.send_batches(backend.as_ref(), batch, further).await
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
        let text = Arc::from(error.to_string());
        self.room.backlog.set_reachability(
            self.store.role,
            self.store.circuit_is_open(),
            Some(text),
        );
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

    async fn send_drop(
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

    /// Sends batch after batch for a while. While the store applies one, what became of the one
    /// before is recorded and the next is got ready: a store with a long backlog is kept busy.
    async fn send_batches(
        &mut self,
        backend: &dyn Backend,
        first: Vec<Sending>,
        further: Option<usize>,
    ) -> BackendResult<Step> {
        let until = self.room.runtime.monotonic() + TURN;
        let mut batch = first;
        let mut before = Results::new();
        loop {
            let started = self.room.runtime.monotonic();
            let collection = batch[0].document.collection.clone();
            let spared = self.is_spared(&batch);
            let sent: Vec<(DocumentKey, Version)> = batch
                .iter()
                .map(|sending| (sending.document.clone(), sending.newest.version))
                .collect();
            // A store that fails is tried with one batch, and nothing is loaded in vain.
            let goes_on = self.failures == 0 && self.room.runtime.monotonic() < until;
            let (outcome, next) = match self.request(backend, &collection, batch).await {
                Ok(request) => {
                    let next = self.meanwhile(before, further.filter(|_| goes_on));
                    join(apply(backend, request), next).await
                }
                Err(error) => {
                    self.record(before).await;
                    (Err(error), Vec::new())
                }
            };
            let (mut results, failure) = match outcome {
                Ok(results) => {
                    // It works: what it does not take of a batch must not slow down all others
                    // more and more.
                    if results.iter().any(Result::is_ok) {
                        self.failures = 0;
                    }
                    received(sent, results)
                }
                Err(error) => self.refused(&collection, sent, error),
            };
            if let Some(error) = failure {
                self.give_back(next, &error);
                self.record(results).await;
                return Err(error);
            }
            if spared {
                let took = self.room.runtime.monotonic().saturating_sub(started);
                results = self.give_way(results, took).await;
            }
            match next.first() {
                Some(first) if !first.document.is_drop() => (batch, before) = (next, results),
                Some(_) => {
                    self.record(results).await;
                    return self.send_drop(backend, next).await;
                }
                None => {
                    self.record(results).await;
                    return Ok(Step::Progress);
                }
            }
        }
    }

    /// Whether nobody waits for this store to take the batch, nor for what is written now: the
    /// others reach the level that writes have unless they say otherwise.
    fn is_spared(&self, batch: &[Sending]) -> bool {
        let backlog = &self.room.backlog;
        let required = backlog.required(self.room.settings.level);
        let acknowledged = batch
            .iter()
            .filter(|sending| sending.held_by_others >= required);
        acknowledged.count() * 2 >= batch.len()
            && backlog.working_others(self.store.role) >= required
    }

    /// Rests if others write, with everything recorded that they may wait for; what is left to be
    /// recorded.
    async fn give_way(&mut self, results: Results, took: Duration) -> Results {
        let role = self.store.role;
        let mark = self.room.journal.mark();
        let lag = self.room.backlog.lag(role).saturating_sub(results.len());
        let Some(rest) = self.pace.rest(results.len(), took, mark, lag) else {
            return results;
        };
        self.record(results).await;
        self.room.rest(rest).await;
        Results::new()
    }

    /// Records what became of a batch, and takes and loads the next one, if one is wanted.
    async fn meanwhile(&mut self, before: Results, limit: Option<usize>) -> Vec<Sending> {
        self.record(before).await;
        let Some(limit) = limit.filter(|_| !self.room.is_closing() && !self.store.in_doubt())
        else {
            return Vec::new();
        };
        let next = self.room.backlog.take_batch(self.store.role, limit);
        let loaded = self.room.load(&self.missing(&next)).await;
        // What could not be read is read when it is sent, and fails then.
        self.loaded = loaded.unwrap_or_default();
        next
    }

    /// What was taken and is not sent now waits again.
    fn give_back(&self, batch: Vec<Sending>, error: &BackendError) {
        let text: Arc<str> = Arc::from(error.to_string());
        let failed = batch.into_iter().map(|sending| {
            let failed = Sent::Failed(Arc::clone(&text));
            (sending.document, sending.newest.version, failed)
        });
        self.room.backlog.record(self.store.role, failed.collect());
    }

    /// What becomes of a batch that failed as a whole, and the error to wait after.
    fn refused(
        &mut self,
        collection: &CollectionKey,
        sent: Vec<(DocumentKey, Version)>,
        error: BackendError,
    ) -> (Results, Option<BackendError>) {
        if error.kind() == BackendErrorKind::CollectionMissing {
            self.ready.remove(collection);
        }
        // Only a single item can be blamed for it.
        let blamed = error.is_permanent() && sent.len() == 1;
        if error.is_permanent() && !blamed {
            // They will stand at the newer end of the queue, from which every second one is taken.
            self.alone = sent.len().saturating_mul(2);
        }
        let of_each = match blamed {
            true => error.clone(),
            false => BackendError::new(BackendErrorKind::Unavailable, error.message()),
        };
        let results = sent
            .into_iter()
            .map(|(document, version)| (document, version, Err(of_each.clone())))
            .collect();
        (results, (!blamed).then_some(error))
    }

    async fn request(
        &mut self,
        backend: &dyn Backend,
        collection: &CollectionKey,
        batch: Vec<Sending>,
    ) -> BackendResult<ApplyRequest> {
        self.make_ready(backend, collection).await?;
        let mutations = self.mutations(batch).await?;
        let epoch = self.room.journal.epoch();
        Ok(ApplyRequest::new(collection.clone(), epoch, mutations))
    }

    /// Versions whose content is neither in memory nor loaded yet.
    fn missing(&self, batch: &[Sending]) -> Vec<Version> {
        let missing = batch.iter().filter(|sending| {
            let newest = &sending.newest;
            newest.content.is_none() && !self.loaded.contains_key(&newest.version)
        });
        missing.map(|sending| sending.newest.version).collect()
    }

    async fn mutations(&mut self, batch: Vec<Sending>) -> BackendResult<Vec<Mutation>> {
        let loaded = self.room.load(&self.missing(&batch)).await;
        let loaded = loaded.map_err(unreadable_journal)?;
        let mut known = std::mem::take(&mut self.loaded);
        known.extend(loaded);
        let mut mutations = Vec::with_capacity(batch.len());
        for sending in batch {
            let (id, version) = (sending.document.id, sending.newest.version);
            let content = sending.newest.content.or_else(|| known.remove(&version));
            mutations.push(match content {
                Some(DocumentState::Live(record)) => Mutation::upsert(id, version, record),
                Some(DocumentState::Deleted) => Mutation::delete(id, version),
                // Somebody has seen to it that it need not be sent.
                None => return Err(gone(version)),
            });
        }
        Ok(mutations)
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
            Err(journal_error) => Sent::Failed(Arc::from(journal_error.to_string())),
        }
    }
}

async fn apply(
    backend: &dyn Backend,
    request: ApplyRequest,
) -> BackendResult<Vec<BackendResult<()>>> {
    let expected = request.mutations.len();
    let results = backend.apply(request).await?;
    if results.len() == expected {
        return Ok(results);
    }
    Err(BackendError::new(
        BackendErrorKind::Protocol,
        format!("{} answers to a batch of {expected}", results.len()),
    ))
}

fn gone(version: Version) -> BackendError {
    let message = format!("the journal has let go of version {version} meanwhile");
    BackendError::new(BackendErrorKind::Unavailable, message).not_applied()
}

/// What became of each item, and the error to wait after.
fn received(
    sent: Vec<(DocumentKey, Version)>,
    results: Vec<BackendResult<()>>,
) -> (Results, Option<BackendError>) {
    let failed = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .find(|error| !error.is_permanent())
        .cloned();
    let results = sent
        .into_iter()
        .zip(results)
        .map(|((document, version), result)| (document, version, result))
        .collect();
    (results, failed)
}
