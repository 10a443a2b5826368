//! One sender per store: takes what the store has yet to confirm from the backlog, sends it in
//! batches through the resilience of the store, and records what became of it. First attempts and
//! repair are the same road.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join;
use tracing::Instrument;

use super::{
    WriteRoom,
    backlog::{DocumentKey, Participation, Sending, Sent},
};
use crate::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult,
        CreateCollectionRequest, DocumentState, DropCollectionRequest, IdsRequest, Mutation,
    },
    journal::{EntryKind, ParkedEntry, RosterState},
    model::{CollectionKey, CollectionOptions, Version},
    roster::Store,
};

/// The wait after the first failure; doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// Ids compared with a store at once when its confirmations are checked.
const RECONCILE_BATCH: usize = 500;

/// Sends to one store until the room closes.
pub(crate) async fn run_sender(room: Arc<WriteRoom>, store: Arc<Store>) {
    let mut sender = Sender {
        room,
        store,
        ready: HashMap::new(),
        epoch: 0,
        failures: 0,
        alone: 0,
        ahead: HashMap::new(),
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
    /// Contents of what is probably sent next, read from the journal during the last sending.
    ahead: HashMap<Version, DocumentState>,
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
            // Before the doubt is cleared: truncation must never take what was confirmed before it
            // for something that the store still holds.
            self.room.backlog.forget_confirmations(role);
            self.store.clear_doubt();
            if let Err(error) = self.reconcile(backend.as_ref()).await {
                self.store.want_reconcile();
                return Err(error);
            }
        }
        let limit = match self.alone {
            0 => self.room.settings.batch_size,
            _ => 1,
        };
        self.alone = self.alone.saturating_sub(1);
        let limit = limit.min(backend.capabilities().max_batch).max(1);
        let batch = self.room.backlog.take_batch(role, limit);
        let Some(first) = batch.first() else {
            // It is back, and has all: what it applied without our hearing of it counts.
            if self.failures > 0 {
                self.succeeded();
            }
            return Ok(Step::Idle);
        };
        if first.newest.kind == EntryKind::DropCollection {
            self.send_drop(backend.as_ref(), batch).await
        } else {
            self.send_batch(backend.as_ref(), batch).await
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

    async fn send_batch(
        &mut self,
        backend: &dyn Backend,
        batch: Vec<Sending>,
    ) -> BackendResult<Step> {
        let collection = batch[0].document.collection.clone();
        let sent: Vec<(DocumentKey, Version)> = batch
            .iter()
            .map(|s| (s.document.clone(), s.newest.version))
            .collect();
        let outcome = self.apply(backend, &collection, batch).await;
        match outcome {
            Ok(results) => {
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
                self.record(results).await;
                failed.map_or(Ok(Step::Progress), Err)
            }
            Err(error) => {
                if error.kind() == BackendErrorKind::CollectionMissing {
                    self.ready.remove(&collection);
                }
                // The store refuses the call as a whole: only a single item can be blamed for it.
                let blamed = error.is_permanent() && sent.len() == 1;
                if error.is_permanent() && !blamed {
                    // They stand at the newer end of the queue, from which every second one is
                    // taken.
                    self.alone = sent.len().saturating_mul(2);
                }
                let results = sent
                    .into_iter()
                    .map(|(document, version)| {
                        let sent = if blamed {
                            error.clone()
                        } else {
                            BackendError::new(BackendErrorKind::Unavailable, error.message())
                        };
                        (document, version, Err(sent))
                    })
                    .collect();
                self.record(results).await;
                if blamed {
                    Ok(Step::Progress)
                } else {
                    Err(error)
                }
            }
        }
    }

    async fn apply(
        &mut self,
        backend: &dyn Backend,
        collection: &CollectionKey,
        batch: Vec<Sending>,
    ) -> BackendResult<Vec<BackendResult<()>>> {
        self.make_ready(backend, collection).await?;
        let mutations = self.mutations(batch).await?;
        let expected = mutations.len();
        let request = ApplyRequest::new(collection.clone(), self.room.journal.epoch(), mutations);
        let next = self.room.backlog.next_to_load(self.store.role, expected);
        let (results, ahead) = join(backend.apply(request), self.room.load(&next)).await;
        // What could not be read is read when it is sent, and fails then.
        self.ahead = ahead.unwrap_or_default();
        let results = results?;
        if results.len() == expected {
            return Ok(results);
        }
        Err(BackendError::new(
            BackendErrorKind::Protocol,
            format!("{} answers to a batch of {expected}", results.len()),
        ))
    }

    async fn mutations(&mut self, batch: Vec<Sending>) -> BackendResult<Vec<Mutation>> {
        let mut known = std::mem::take(&mut self.ahead);
        let missing: Vec<Version> = batch
            .iter()
            .filter(|s| s.newest.content.is_none() && !known.contains_key(&s.newest.version))
            .map(|s| s.newest.version)
            .collect();
        let loaded = self.room.load(&missing).await.map_err(|error| {
            BackendError::new(BackendErrorKind::Unavailable, "the journal cannot be read")
                .not_applied()
                .with_source(error)
        })?;
        known.extend(loaded);
        Ok(batch
            .into_iter()
            .map(|sending| {
                let content = sending
                    .newest
                    .content
                    .or_else(|| known.remove(&sending.newest.version));
                match content {
                    Some(DocumentState::Live(record)) => {
                        Mutation::upsert(sending.document.id, sending.newest.version, record)
                    }
                    _ => Mutation::delete(sending.document.id, sending.newest.version),
                }
            })
            .collect())
    }

    /// Records results; a permanent refusal is parked in the journal before it is shown.
    async fn record(&self, results: Vec<(DocumentKey, Version, BackendResult<()>)>) {
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

    /// Compares the live entries with what the store really holds: confirmations of an earlier
    /// session, or from before a failure, are not believed.
    async fn reconcile(&self, backend: &dyn Backend) -> BackendResult<()> {
        let mut by_collection: std::collections::BTreeMap<CollectionKey, Vec<Arc<str>>> =
            std::collections::BTreeMap::new();
        for document in self.room.backlog.live_documents() {
            by_collection
                .entry(document.collection)
                .or_default()
                .push(document.id);
        }
        for (collection, ids) in by_collection {
            for chunk in ids.chunks(RECONCILE_BATCH) {
                self.reconcile_chunk(backend, &collection, chunk).await?;
            }
        }
        Ok(())
    }

    async fn reconcile_chunk(
        &self,
        backend: &dyn Backend,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> BackendResult<()> {
        // The drop of a collection is simply sent again: it can be repeated.
        let ids: Vec<Arc<str>> = ids.iter().filter(|id| !id.is_empty()).cloned().collect();
        let heads = match backend
            .heads(IdsRequest::new(collection.clone(), ids.clone()))
            .await
        {
            Ok(heads) => heads,
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => return Ok(()),
            Err(error) => return Err(error),
        };
        let mark = self.room.current_mark().await.map_err(|error| {
            BackendError::new(BackendErrorKind::Unavailable, "the journal cannot be read")
                .not_applied()
                .with_source(error)
        })?;
        let mut confirmed = Vec::new();
        for (id, head) in ids.into_iter().zip(heads) {
            let Some(head) = head else { continue };
            if head.version > mark {
                return Err(BackendError::new(
                    BackendErrorKind::Foreign,
                    format!(
                        "the store holds version {} that this journal never issued",
                        head.version
                    ),
                ));
            }
            let document = DocumentKey::new(collection.clone(), id);
            confirmed.push((document, head.version));
        }
        self.room.backlog.confirm_held(self.store.role, confirmed);
        Ok(())
    }
}
