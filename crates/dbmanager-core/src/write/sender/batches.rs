//! Batch after batch to one store. While the store applies one, the next is got ready and what the
//! journal holds of the one after it is read: a store with a long backlog never waits for its sender.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join;

use super::{Results, Sender, Step};
use crate::{
    TaskHandle, TaskLost,
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult, DocumentState,
        Mutation,
    },
    journal::JournalResult,
    model::{CollectionKey, Version},
    write::{
        backlog::{DocumentKey, Sending, Sent},
        reconcile::unreadable_journal,
    },
};

/// How long a sender goes on before it lets a rebuild have the store, and looks again at how the
/// store stands. The first batch of a turn is read while the store has nothing to do.
const TURN: Duration = Duration::from_millis(500);

type Contents = HashMap<Version, DocumentState>;

/// A batch that was taken from the backlog.
pub(super) struct Taken {
    pub(super) batch: Vec<Sending>,
    /// What is not in memory, on its way from the journal.
    contents: Option<TaskHandle<JournalResult<Contents>>>,
}

impl Taken {
    /// Whether it is drops of collections, and no documents.
    pub(super) fn is_drop(&self) -> bool {
        let first = self.batch.first();
        first.is_some_and(|sending| sending.document.is_drop())
    }
}

/// A batch of documents that needs only be sent.
struct Ready {
    collection: CollectionKey,
    sent: Vec<(DocumentKey, Version)>,
    /// Whether enough other stores had acknowledged most of it when it was taken.
    acknowledged: bool,
    /// An error if the journal could not be read: it is met when the batch is sent.
    mutations: BackendResult<Vec<Mutation>>,
}

/// What is sent after a batch.
#[derive(Default)]
struct Ahead {
    documents: Option<Ready>,
    /// Instead of documents.
    drops: Vec<Sending>,
    after: Option<Taken>,
}

/// A batch that the store has answered.
#[derive(Default)]
struct Answered {
    results: Results,
    mutations: Arc<[Mutation]>,
}

impl Sender {
    /// Takes a batch from the backlog, and begins to read what it lacks.
    pub(super) fn take(&self, limit: usize) -> Option<Taken> {
        let batch = self.room.backlog.take_batch(self.store.role, limit);
        let mut taken = Taken {
            contents: None,
            batch,
        };
        taken.batch.first()?;
        let lacking = |sending: &&Sending| sending.newest.content.is_none();
        let lacking = taken.batch.iter().filter(lacking);
        let versions: Vec<Version> = lacking.map(|sending| sending.newest.version).collect();
        if !versions.is_empty() && !taken.is_drop() {
            let room = Arc::clone(&self.room);
            let load = async move { room.load(&versions).await };
            taken.contents = Some(self.room.runtime.spawn(load));
        }
        Some(taken)
    }

    /// Sends batch after batch for a while, with at most `further` documents after the first.
    pub(super) async fn send_batches(
        &mut self,
        backend: &dyn Backend,
        first: Taken,
        further: Option<usize>,
    ) -> BackendResult<Step> {
        let until = self.room.runtime.monotonic() + TURN;
        let mut batch = self.get_ready(first).await;
        let mut answered = Answered::default();
        let mut after = None;
        loop {
            let started = self.room.runtime.monotonic();
            // A store that fails is tried with one batch, and nothing is read in vain.
            let goes_on = self.failures == 0 && started < until && !self.has_unparked();
            let further = further.filter(|_| goes_on);
            let request = self
                .request(backend, &batch.collection, batch.mutations)
                .await;
            let mutations = match &request {
                Ok(request) => Arc::clone(&request.mutations),
                Err(_) => Arc::default(),
            };
            let (outcome, ahead) = self.send(backend, request, answered, after, further).await;
            let (mut results, failure) = match outcome {
                Ok(results) => {
                    // It works: what it does not take of a batch must not slow down all others
                    // more and more.
                    if results.iter().any(Result::is_ok) {
                        self.failures = 0;
                    }
                    received(batch.sent, results)
                }
                Err(error) => self.refused(&batch.collection, batch.sent, error),
            };
            if let Some(error) = failure {
                self.give_back(ahead, &error);
                self.record(results).await;
                return Err(error);
            }
            if batch.acknowledged {
                let took = self.room.runtime.monotonic().saturating_sub(started);
                results = self.give_way(results, took).await;
            }
            if !self.may_send() {
                self.give_back(ahead, &interrupted());
                self.record(results).await;
                return Ok(Step::Progress);
            }
            let Some(next) = ahead.documents else {
                self.record(results).await;
                return self.send_drops(backend, ahead.drops).await;
            };
            (batch, after) = (next, ahead.after);
            answered = Answered { results, mutations };
        }
    }

    /// Sends one batch and meanwhile sees to the one before and those after it.
    async fn send(
        &self,
        backend: &dyn Backend,
        request: BackendResult<ApplyRequest>,
        answered: Answered,
        after: Option<Taken>,
        further: Option<usize>,
    ) -> (BackendResult<Vec<BackendResult<()>>>, Ahead) {
        match request {
            Ok(request) => {
                let meanwhile = self.meanwhile(answered, after, further);
                join(apply(backend, request), meanwhile).await
            }
            Err(error) => {
                self.record(answered.results).await;
                let ahead = Ahead {
                    after,
                    ..Ahead::default()
                };
                // Here, because a batch of one may be to blame, and then nothing has failed.
                self.give_back(ahead, &error);
                (Err(error), Ahead::default())
            }
        }
    }

    /// Whether the store may still be sent to as it was when the turn began.
    fn may_send(&self) -> bool {
        let stands = self.store.ready().is_some() && !self.store.in_doubt();
        stands && self.room.is_sender() && !self.room.is_closing()
    }

    /// Rests if others write and nobody of them waits for this store, with everything recorded; what
    /// is left to be recorded.
    async fn give_way(&mut self, results: Results, took: Duration) -> Results {
        let (backlog, role) = (&self.room.backlog, self.store.role);
        // What is written now needs the others, unless its writer says otherwise.
        if backlog.working_others(role) < backlog.required(self.room.settings.level) {
            return results;
        }
        let mark = self.room.journal.mark();
        let lag = backlog.lag(role).saturating_sub(results.len());
        let Some(rest) = self.pace.rest(results.len(), took, mark, lag) else {
            return results;
        };
        self.record(results).await;
        self.room.rest(rest).await;
        Results::new()
    }

    /// Records what became of a batch and lets go of its documents, which takes a while too; gets
    /// the next one ready, and takes the one after it.
    async fn meanwhile(
        &self,
        answered: Answered,
        taken: Option<Taken>,
        limit: Option<usize>,
    ) -> Ahead {
        self.record(answered.results).await;
        drop(answered.mutations);
        let limit = limit.filter(|_| self.may_send());
        let Some(next) = taken.or_else(|| self.take(limit?)) else {
            return Ahead::default();
        };
        if next.is_drop() {
            return Ahead {
                drops: next.batch,
                ..Ahead::default()
            };
        }
        // After a batch with few documents either nothing waits, and what comes until it is sent goes
        // together, or they are large, and no more of them are to be held.
        let full = limit.filter(|limit| next.batch.len() >= *limit);
        let after = full.and_then(|limit| self.take(limit));
        Ahead {
            documents: Some(self.get_ready(next).await),
            drops: Vec::new(),
            after,
        }
    }

    async fn get_ready(&self, taken: Taken) -> Ready {
        let Taken { batch, contents } = taken;
        let required = self.room.backlog.required(self.room.settings.level);
        let held = batch
            .iter()
            .filter(|sending| sending.held_by_others >= required);
        let acknowledged = held.count() * 2 >= batch.len();
        let sent = batch
            .iter()
            .map(|sending| (sending.document.clone(), sending.newest.version));
        let contents = match contents {
            None => Ok(Contents::new()),
            Some(contents) => match contents.await {
                Ok(contents) => contents.map_err(unreadable_journal),
                Err(lost) => Err(lost_in_reading(lost)),
            },
        };
        Ready {
            collection: batch[0].document.collection.clone(),
            sent: sent.collect(),
            acknowledged,
            mutations: contents.and_then(|contents| mutations(batch, contents)),
        }
    }

    /// What was taken and is not sent now waits again.
    fn give_back(&self, ahead: Ahead, error: &BackendError) {
        let text: Arc<str> = Arc::from(error.to_string());
        let documents = ahead.documents.into_iter().flat_map(|ready| ready.sent);
        let after = ahead.after.into_iter().flat_map(|taken| taken.batch);
        let unsent = ahead.drops.into_iter().chain(after);
        let unsent = unsent.map(|sending| (sending.document, sending.newest.version));
        let failed = documents
            .chain(unsent)
            .map(|(document, version)| (document, version, Sent::Failed(Arc::clone(&text))));
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
            if self.room.is_live(collection) {
                // It was made ready, so the store was wiped.
                self.store.want_verification();
            }
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
        mutations: BackendResult<Vec<Mutation>>,
    ) -> BackendResult<ApplyRequest> {
        let mutations = mutations?;
        self.make_ready(backend, collection).await?;
        let epoch = self.room.journal.epoch();
        Ok(ApplyRequest::new(collection.clone(), epoch, mutations))
    }
}

fn mutations(batch: Vec<Sending>, mut contents: Contents) -> BackendResult<Vec<Mutation>> {
    let mutation = |sending: Sending| {
        let (id, version) = (sending.document.id, sending.newest.version);
        let content = sending.newest.content;
        match content.or_else(|| contents.remove(&version)) {
            Some(DocumentState::Live(record)) => Ok(Mutation::upsert(id, version, record)),
            Some(DocumentState::Deleted) => Ok(Mutation::delete(id, version)),
            // Somebody has seen to it that it need not be sent.
            None => Err(gone(version)),
        }
    };
    batch.into_iter().map(mutation).collect()
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

fn interrupted() -> BackendError {
    let message = "nothing is sent until it is known how the store stands";
    BackendError::new(BackendErrorKind::Unavailable, message).not_applied()
}

fn lost_in_reading(lost: TaskLost) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, lost.to_string()).not_applied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Effect,
        journal::EntryKind,
        model::{Document, DocumentRecord, VectorOrigin, VectorSet},
        write::backlog::Newest,
    };

    fn sending(number: u64, content: Option<DocumentState>) -> Sending {
        let collection = CollectionKey {
            name: "c".into(),
            generation: 1,
        };
        Sending {
            document: DocumentKey::new(collection, number.to_string().into()),
            newest: Newest {
                version: Version::from_u64(number),
                kind: EntryKind::Upsert,
                content,
            },
            held_by_others: 0,
        }
    }

    fn live(text: &str) -> DocumentState {
        let document = Document::new("d").text(text);
        let vectors = VectorSet {
            origin: VectorOrigin::Caller,
            text_hash: None,
            vectors: Vec::new(),
        };
        let record = DocumentRecord::new(document, vectors).unwrap();
        DocumentState::Live(Arc::new(record))
    }

    #[test]
    fn contents_come_from_memory_or_from_the_journal() {
        let batch = vec![
            sending(1, Some(live("memory"))),
            sending(2, None),
            sending(3, None),
        ];
        let contents = [(2, live("journal")), (3, DocumentState::Deleted)];
        let contents = contents.map(|(number, state)| (Version::from_u64(number), state));
        let mutations = mutations(batch, contents.into()).unwrap();
        let states: Vec<_> = mutations.into_iter().map(|m| m.state).collect();
        let expected = [live("memory"), live("journal"), DocumentState::Deleted];
        assert_eq!(states, expected);
    }

    /// It was truncated between the taking and the reading: nothing may be sent in its place.
    #[test]
    fn a_batch_of_which_the_journal_has_let_go_is_not_sent() {
        let batch = vec![sending(1, Some(live("memory"))), sending(2, None)];
        let error = mutations(batch, Contents::new()).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert_eq!(error.effect(), Effect::NotApplied);
    }
}
