//! Calls a backend as the manager would: repeats what failed for a transient reason, and checks
//! what is claimed about the failed attempt.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use super::{
    data::{self, MOST_ATTEMPTS, pause, persist},
    suite::ids,
    trial::{CaseResult, Doubtful, Failure},
};
use crate::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult,
        CreateCollectionRequest, DropCollectionRequest, Effect, Fingerprint, GraphBackend, Head,
        Identity, IdsRequest, ListRequest, Mutation, RelationalBackend, Stamp, StampRequest,
        VectorBackend,
    },
    model::{Collection, CollectionKey, DocumentRecord},
};

/// A backend in the hands of a case.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) backend: AnyBackend,
    pub(super) shared: Arc<dyn Backend>,
    pub(super) runtime: Runtime,
    /// The collection that is written and read.
    pub(super) collection: CollectionKey,
    doubtful: Doubtful,
}

impl Client {
    pub(super) fn new(backend: AnyBackend, runtime: Runtime, doubtful: Doubtful) -> Self {
        Self {
            shared: backend.as_backend(),
            backend,
            runtime,
            collection: data::collection().key,
            doubtful,
        }
    }

    /// The same backend, on another collection.
    pub(super) fn on(&self, collection: &CollectionKey) -> Self {
        Self {
            collection: collection.clone(),
            ..self.clone()
        }
    }

    pub(super) fn vector(&self) -> CaseResult<&dyn VectorBackend> {
        match &self.backend {
            AnyBackend::Vector(backend) => Ok(&**backend),
            other => Err(wrong_role(other)),
        }
    }

    pub(super) fn graph(&self) -> CaseResult<&dyn GraphBackend> {
        match &self.backend {
            AnyBackend::Graph(backend) => Ok(&**backend),
            other => Err(wrong_role(other)),
        }
    }

    pub(super) fn relational(&self) -> CaseResult<&dyn RelationalBackend> {
        match &self.backend {
            AnyBackend::Relational(backend) => Ok(&**backend),
            other => Err(wrong_role(other)),
        }
    }

    pub(super) fn ids<'a>(&self, list: impl IntoIterator<Item = &'a str>) -> IdsRequest {
        IdsRequest::new(self.collection.clone(), ids(list))
    }

    pub(super) async fn identity(&self) -> CaseResult<Identity> {
        Ok(persist(&self.runtime, || self.shared.identity()).await?)
    }

    pub(super) async fn held_stamp(&self) -> CaseResult<Option<Stamp>> {
        Ok(persist(&self.runtime, || self.shared.read_stamp()).await?)
    }

    pub(super) async fn stamp(&self, request: StampRequest) -> BackendResult<()> {
        persist(&self.runtime, || self.shared.write_stamp(request.clone())).await
    }

    pub(super) async fn create(&self, collection: &Collection) -> BackendResult<()> {
        persist(&self.runtime, || {
            let request = CreateCollectionRequest::new(collection.clone(), 1);
            self.shared.create_collection(request)
        })
        .await
    }

    pub(super) async fn drop_collection(&self, key: &CollectionKey) -> BackendResult<()> {
        persist(&self.runtime, || {
            self.shared
                .drop_collection(DropCollectionRequest::new(key.clone(), 1))
        })
        .await
    }

    pub(super) async fn sync(&self) -> CaseResult {
        Ok(persist(&self.runtime, || self.shared.sync()).await?)
    }

    pub(super) async fn close(&self) -> CaseResult {
        Ok(persist(&self.runtime, || self.shared.close()).await?)
    }

    /// Waits until searches find what was applied.
    pub(super) async fn settle(&self) -> CaseResult {
        if !self.shared.capabilities().searchable_on_apply {
            persist(&self.runtime, || self.shared.refresh()).await?;
        }
        Ok(())
    }

    pub(super) async fn heads(&self, list: &[&str]) -> CaseResult<Vec<Option<Head>>> {
        let request = self.ids(list.iter().copied());
        Ok(persist(&self.runtime, || self.shared.heads(request.clone())).await?)
    }

    pub(super) async fn fingerprints_of(
        &self,
        list: &[&str],
    ) -> CaseResult<Vec<Option<Fingerprint>>> {
        let request = self.ids(list.iter().copied());
        let answer = persist(&self.runtime, || {
            self.shared.fingerprints_of(request.clone())
        });
        Ok(answer.await?)
    }

    /// Every page of the fingerprints, `limit` at a time.
    pub(super) async fn fingerprints(&self, limit: usize) -> CaseResult<Vec<Fingerprint>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let request = ListRequest::new(self.collection.clone(), limit).after(after);
            let page = persist(&self.runtime, || self.shared.fingerprints(request.clone())).await?;
            ensure!(
                page.items.len() <= limit,
                "a page of {} where at most {limit} were asked for",
                page.items.len()
            );
            all.extend(page.items);
            ensure!(all.len() <= 100_000, "the pages do not end");
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Writes as repair does: repeats what failed for a transient reason until every mutation has
    /// a final answer, and checks each claim that nothing changed.
    ///
    /// # Errors
    /// The call as a whole was refused, or a claim was false.
    pub(super) async fn apply(&self, mutations: &[Mutation]) -> CaseResult<Vec<BackendResult<()>>> {
        let mut answers: Vec<Option<BackendResult<()>>> = vec![None; mutations.len()];
        for attempt in 0..MOST_ATTEMPTS {
            let open: Vec<usize> = (0..mutations.len())
                .filter(|i| answers[*i].is_none())
                .collect();
            if open.is_empty() && attempt > 0 {
                break;
            }
            let sent: Arc<[Mutation]> = open.iter().map(|i| mutations[*i].clone()).collect();
            let request = ApplyRequest::new(self.collection.clone(), 1, Arc::clone(&sent));
            let answer = match self.shared.apply(request).await {
                Ok(items) => items,
                Err(error) if error.is_transient() => vec![Err(error); sent.len()],
                Err(error) => return Err(Failure::from(error).during("apply")),
            };
            ensure_eq!(answer.len(), sent.len(), "answers to a batch");
            self.check_claims(&sent, &answer).await?;
            let again = answer.iter().any(is_transient);
            for (index, answer) in open.into_iter().zip(answer) {
                if !is_transient(&answer) {
                    answers[index] = Some(answer);
                }
            }
            if again {
                pause(&self.runtime, attempt).await;
            }
        }
        answers
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Failure::new(format!("apply: {MOST_ATTEMPTS} attempts failed")))
    }

    /// These writes may have taken effect, whatever is said of a later attempt.
    pub(super) fn doubt(&self, mutations: &[Mutation]) {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.extend(mutations.iter().map(|mutation| {
            let id = Arc::clone(&mutation.id);
            (self.collection.clone(), id, mutation.version)
        }));
    }

    /// An error that says `NotApplied` must not have been applied.
    async fn check_claims(&self, sent: &[Mutation], answers: &[BackendResult<()>]) -> CaseResult {
        let mut claimed = Vec::new();
        {
            let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
            for (mutation, answer) in sent.iter().zip(answers) {
                let key = (
                    self.collection.clone(),
                    Arc::clone(&mutation.id),
                    mutation.version,
                );
                match answer {
                    Err(error) if error.effect() == Effect::NotApplied => {
                        if !doubtful.contains(&key) {
                            claimed.push(mutation);
                        }
                    }
                    _ => {
                        doubtful.insert(key);
                    }
                }
            }
        }
        if claimed.is_empty() {
            return Ok(());
        }
        let list: Vec<&str> = claimed.iter().map(|m| &*m.id).collect();
        for (mutation, head) in claimed.iter().zip(self.heads(&list).await?) {
            ensure!(
                head.is_none_or(|head| head.version != mutation.version),
                "the error said that nothing changed, but {:?} is at {}",
                mutation.id,
                mutation.version
            );
        }
        Ok(())
    }

    /// Writes mutations that a store must take.
    pub(super) async fn write(&self, mutations: &[Mutation]) -> CaseResult {
        for (mutation, answer) in mutations.iter().zip(self.apply(mutations).await?) {
            answer.map_err(|error| {
                Failure::from(error).during(format_args!("write of {:?}", mutation.id))
            })?;
        }
        Ok(())
    }

    /// Writes a document at the `number`th version.
    pub(super) async fn put(&self, number: u64, record: &Arc<DocumentRecord>) -> CaseResult {
        let id = record.document().id.as_str();
        let mutation = Mutation::upsert(id, data::version(number), Arc::clone(record));
        self.write(&[mutation]).await
    }

    /// Writes documents at the versions from 1 on, in one batch.
    pub(super) async fn put_all(&self, records: &[Arc<DocumentRecord>]) -> CaseResult {
        let mutations: Vec<_> = (1..)
            .zip(records)
            .map(|(number, record)| {
                let id = record.document().id.as_str();
                Mutation::upsert(id, data::version(number), Arc::clone(record))
            })
            .collect();
        for batch in mutations.chunks(self.shared.capabilities().max_batch.max(1)) {
            self.write(batch).await?;
        }
        Ok(())
    }

    /// Deletes a document at the `number`th version.
    pub(super) async fn delete(&self, number: u64, id: &str) -> CaseResult {
        self.write(&[Mutation::delete(id, data::version(number))])
            .await
    }
}

fn wrong_role(backend: &AnyBackend) -> Failure {
    Failure::new(format!("the backend opened as {}", backend.role()))
}

fn is_transient(answer: &BackendResult<()>) -> bool {
    answer.as_ref().is_err_and(BackendError::is_transient)
}

/// The call must have failed with this kind.
pub(super) fn expect_kind<T: fmt::Debug>(
    answer: BackendResult<T>,
    kind: BackendErrorKind,
    what: &str,
) -> CaseResult {
    match answer {
        Ok(value) => Err(Failure::new(format!(
            "{what}: found {value:?}, expected the error {kind}"
        ))),
        Err(error) => {
            ensure_eq!(error.kind(), kind, "{what} answered {error}");
            Ok(())
        }
    }
}
