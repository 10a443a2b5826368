//! One write from submission to answer. It runs in a task of the manager's own: dropping the
//! caller's future gives up the answer, never the operation.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};

use super::{
    WriteRoom,
    backlog::DocumentKey,
    decide::{Answer, Demand, decide},
    journal_error,
    prepare::{Draft, drop_deep, repeated_ids, validate_document, validate_id},
};
use crate::{
    Error, ErrorKind, Result, WriteOutcome,
    backend::{DocumentState, Head},
    journal::{
        AppendRequest, Appended, Change, EntryHeader, IdempotencyKey, JournalErrorKind,
        OperationLookup, PreconditionRequest,
    },
    model::{
        Collection, CollectionKey, Document, Level, OnTimeout, OperationId, Precondition, Receipt,
        StoreReceipt, Version,
    },
};

/// What a write does to its document.
#[derive(Clone, Debug)]
pub(crate) enum ItemChange {
    /// Stores this document.
    Upsert(Box<Document>),
    /// Deletes the document.
    Delete,
}

/// One write as the caller gave it.
#[derive(Clone, Debug)]
pub(crate) struct WriteItem {
    pub(crate) operation_id: OperationId,
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) id: Arc<str>,
    pub(crate) change: ItemChange,
    pub(crate) precondition: Option<Precondition>,
}

/// What the caller asked for, for all items of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) level: Level,
    pub(crate) with_authority: bool,
    pub(crate) timeout: Duration,
    pub(crate) on_timeout: OnTimeout,
}

/// An item on its way through the route.
enum Stage {
    /// Answered without being appended.
    Answered(Result<Receipt>),
    /// Waiting for the level of what an earlier use of its key did.
    Repeated(DocumentKey, OperationId, Version),
    /// To be appended.
    Ready {
        item: WriteItem,
        draft: Option<Box<Draft>>,
        input_hash: [u8; 32],
    },
}

fn rejected(error: Error) -> Error {
    error.with_outcome(WriteOutcome::Rejected)
}

impl WriteRoom {
    /// Writes each item to the collection, and answers for each in the order given.
    ///
    /// # Errors
    /// Only if nothing was journaled.
    pub(crate) async fn write(
        self: Arc<Self>,
        collection: Arc<str>,
        items: Vec<WriteItem>,
        options: WriteOptions,
    ) -> Result<Vec<Result<Receipt>>> {
        self.check_open().map_err(rejected)?;
        let deadline = self.runtime.monotonic() + options.timeout;
        let mut stages = self.stage(&collection, items).await;
        let appended = self.append_stages(&collection, &mut stages).await?;
        let mut answers: Vec<Option<Result<Receipt>>> = Vec::with_capacity(stages.len());
        let mut waiting = Vec::new();
        let mut appended = appended.into_iter().peekable();
        for (index, stage) in stages.into_iter().enumerate() {
            let accepted = match stage {
                Stage::Answered(answer) => {
                    answers.push(Some(answer));
                    continue;
                }
                Stage::Repeated(document, operation, version) => Ok((document, operation, version)),
                Stage::Ready { item, .. } => match appended.next_if(|(at, _)| *at == index) {
                    Some((_, result)) => result.and_then(|a| accepted(a, item.operation_id)),
                    None => Err(rejected(Error::new(
                        ErrorKind::Internal,
                        "a write was not appended",
                    ))),
                },
            };
            answers.push(match accepted {
                Ok(accepted) => {
                    waiting.push((index, accepted));
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        for (index, (document, operation_id, version)) in waiting {
            let answer = self
                .settle(&document, version, options, deadline, false)
                .await;
            let receipt = self.receipt(&document, operation_id, version, options.level, answer);
            answers[index] = Some(conclude(receipt, answer, options));
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Looks up keys and validates.
    async fn stage(&self, collection: &Arc<str>, items: Vec<WriteItem>) -> Vec<Stage> {
        let repeated = repeated_ids(items.iter().map(|item| &*item.id));
        let limits = self.limits();
        let mut stages = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let input_hash = input_hash(&item);
            if let Some(key) = &item.idempotency_key {
                match self.known_key(collection, key, input_hash).await {
                    Ok(None) => {}
                    Ok(Some(stage)) => {
                        stages.push(stage);
                        continue;
                    }
                    Err(error) => {
                        stages.push(Stage::Answered(Err(rejected(error))));
                        continue;
                    }
                }
            }
            let valid = if repeated.contains(&index) {
                Err(
                    Error::new(ErrorKind::InvalidInput, "the id stands twice in one batch")
                        .with("id", &item.id),
                )
            } else {
                match &item.change {
                    ItemChange::Upsert(document) => validate_document(document, &limits),
                    ItemChange::Delete => validate_id(&item.id, &limits),
                }
            };
            stages.push(match valid {
                Err(error) => {
                    if let ItemChange::Upsert(document) = item.change {
                        drop_deep(document.metadata);
                    }
                    Stage::Answered(Err(rejected(error)))
                }
                Ok(()) => stage_of(item, input_hash),
            });
        }
        stages
    }

    async fn known_key(
        &self,
        collection: &str,
        key: &str,
        input_hash: [u8; 32],
    ) -> Result<Option<Stage>> {
        let known = self
            .journal
            .idempotency_key(collection, key)
            .await
            .map_err(journal_error)?;
        match known {
            None => Ok(None),
            Some((hash, lookup)) if hash == input_hash => Ok(repeated_stage(lookup)),
            Some(_) => Err(Error::new(
                ErrorKind::IdempotencyConflict,
                "the idempotency key was used with another input",
            )
            .with("collection", collection)),
        }
    }

    /// Embeds, decides what the journal needs to know, and appends what is ready. Answers with the
    /// index of each appended stage and the journal's answer.
    async fn append_stages(
        &self,
        collection: &Arc<str>,
        stages: &mut [Stage],
    ) -> Result<Vec<(usize, Result<Appended>)>> {
        if !stages
            .iter()
            .any(|stage| matches!(stage, Stage::Ready { .. }))
        {
            return Ok(Vec::new());
        }
        let collection = self
            .prepare_collection(collection, stages)
            .await
            .map_err(rejected)?;
        self.prepare_vectors(&collection, stages).await;
        let pinned = self.pin_preconditions(&collection.key, stages);
        let requests = self.requests(&collection.key, stages).await;
        let indices: Vec<usize> = requests.iter().map(|(index, _)| *index).collect();
        let contents: Vec<DocumentState> = requests
            .iter()
            .map(|(_, request)| state_of(&request.change))
            .collect();
        let operations: Vec<OperationId> = requests
            .iter()
            .map(|(_, request)| request.operation_id)
            .collect();
        let answers = self
            .journal
            .append(requests.into_iter().map(|(_, request)| request).collect())
            .await;
        let mut results = Vec::with_capacity(answers.len());
        for (((index, answer), content), operation) in indices
            .into_iter()
            .zip(answers)
            .zip(contents)
            .zip(operations)
        {
            if let Ok(Appended::New(header)) = &answer {
                self.backlog.insert(header.clone(), Some(content));
            }
            results.push((
                index,
                answer.map_err(|error| append_error(error, operation)),
            ));
        }
        for document in pinned {
            self.backlog.unpin(&document);
        }
        Ok(results)
    }

    async fn prepare_collection(&self, name: &Arc<str>, stages: &[Stage]) -> Result<Collection> {
        let drafts: Vec<&Draft> = stages
            .iter()
            .filter_map(|stage| match stage {
                Stage::Ready { draft, .. } => draft.as_deref(),
                _ => None,
            })
            .collect();
        if drafts.is_empty() {
            // A delete creates no collection.
            return self.collection(name).ok_or_else(|| {
                Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                    .with("collection", name)
            });
        }
        let with_vectors = drafts.iter().copied().find(|draft| draft.vectors.is_some());
        let collection = self
            .writable_collection(name, with_vectors.or(drafts.first().copied()))
            .await?;
        self.with_space(collection, &drafts).await
    }

    async fn prepare_vectors(&self, collection: &Collection, stages: &mut [Stage]) {
        let mut failed = Vec::new();
        let mut drafts = Vec::new();
        for (index, stage) in stages.iter_mut().enumerate() {
            let Stage::Ready {
                draft: Some(draft), ..
            } = stage
            else {
                continue;
            };
            match self.check_vectors(collection, draft) {
                Ok(()) => drafts.push((index, &mut **draft)),
                Err(error) => failed.push((index, error)),
            }
        }
        failed.extend(self.embed(collection, &mut drafts).await);
        for (index, error) in failed {
            stages[index] = Stage::Answered(Err(rejected(error)));
        }
    }

    fn pin_preconditions(&self, collection: &CollectionKey, stages: &[Stage]) -> Vec<DocumentKey> {
        let documents: Vec<DocumentKey> = stages
            .iter()
            .filter_map(|stage| match stage {
                Stage::Ready { item, .. } if item.precondition.is_some() => {
                    Some(DocumentKey::new(collection.clone(), Arc::clone(&item.id)))
                }
                _ => None,
            })
            .collect();
        for document in &documents {
            self.backlog.pin(document);
        }
        documents
    }

    async fn requests(
        &self,
        collection: &CollectionKey,
        stages: &mut [Stage],
    ) -> Vec<(usize, AppendRequest)> {
        let limits = self.limits();
        let mut requests = Vec::with_capacity(stages.len());
        for (index, stage) in stages.iter_mut().enumerate() {
            let Stage::Ready {
                item,
                draft,
                input_hash,
            } = stage
            else {
                continue;
            };
            let change = match draft.take() {
                None => Ok(Change::Delete),
                Some(draft) => draft.into_record(&limits).map(Change::Upsert),
            };
            let precondition = self.precondition(collection, item).await;
            match change.and_then(|change| Ok((change, precondition?))) {
                Err(error) => *stage = Stage::Answered(Err(rejected(error))),
                Ok((change, precondition)) => requests.push((
                    index,
                    AppendRequest {
                        operation_id: item.operation_id,
                        idempotency_key: item.idempotency_key.as_ref().map(|key| IdempotencyKey {
                            key: Arc::clone(key),
                            input_hash: *input_hash,
                        }),
                        collection: collection.clone(),
                        id: Arc::clone(&item.id),
                        change,
                        precondition,
                    },
                )),
            }
        }
        requests
    }

    /// What the authority holds of an id whose history the journal has let go of.
    async fn precondition(
        &self,
        collection: &CollectionKey,
        item: &WriteItem,
    ) -> Result<Option<PreconditionRequest>> {
        let Some(precondition) = item.precondition else {
            return Ok(None);
        };
        let document = DocumentKey::new(collection.clone(), Arc::clone(&item.id));
        let authority = if self.backlog.newest(&document).is_some() {
            None
        } else {
            self.authority_head(collection, &item.id).await?
        };
        Ok(Some(PreconditionRequest {
            precondition,
            authority,
        }))
    }

    async fn authority_head(
        &self,
        collection: &CollectionKey,
        id: &Arc<str>,
    ) -> Result<Option<Head>> {
        let heads = self
            .authority_heads(collection, std::slice::from_ref(id))
            .await?;
        Ok(heads.into_iter().next().flatten())
    }

    /// Drops a collection: everything in it is gone at once for readers, and is removed from every
    /// store like any write.
    pub(crate) async fn drop_collection(
        self: Arc<Self>,
        name: Arc<str>,
        options: WriteOptions,
        operation_id: OperationId,
    ) -> Result<Receipt> {
        self.check_open().map_err(rejected)?;
        let collection = self.collection(&name).ok_or_else(|| {
            rejected(
                Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                    .with("collection", &name),
            )
        })?;
        let deadline = self.runtime.monotonic() + options.timeout;
        let request = AppendRequest {
            operation_id,
            idempotency_key: None,
            collection: collection.key.clone(),
            id: Arc::from(""),
            change: Change::DropCollection,
            precondition: None,
        };
        let answer = self.journal.append(vec![request]).await.into_iter().next();
        let appended = answer
            .ok_or_else(|| rejected(Error::new(ErrorKind::Internal, "the drop was not appended")))?
            .map_err(|error| append_error(error, operation_id))?;
        self.forget_collection(&collection.key);
        if let Appended::New(header) = &appended {
            self.backlog.insert(header.clone(), None);
        }
        let (document, operation_id, version) = accepted(appended, operation_id)?;
        let answer = self
            .settle(&document, version, options, deadline, false)
            .await;
        let receipt = self.receipt(&document, operation_id, version, options.level, answer);
        conclude(receipt, answer, options)
    }

    /// Waits until the level is reached, cannot be reached now (or, if `patient`, cannot be reached
    /// before someone acts), or the time runs out.
    pub(crate) async fn settle(
        &self,
        document: &DocumentKey,
        version: Version,
        options: WriteOptions,
        deadline: Duration,
        patient: bool,
    ) -> Answer {
        let demand = Demand {
            level: options.level,
            with_authority: options.with_authority,
        };
        let changed = self.backlog.subscribe(document);
        loop {
            let standing = self.backlog.standing(document, version);
            let stores: Vec<_> = standing
                .iter()
                .map(|s| (s.role, s.acknowledgement))
                .collect();
            let answer = decide(demand, &stores);
            let left = deadline.saturating_sub(self.runtime.monotonic());
            let hopeful = answer == Answer::Wait
                || patient && answer == Answer::Pending { unreachable: false };
            if !hopeful || self.is_closing() || left.is_zero() {
                return answer;
            }
            tokio::select! {
                () = changed.notified() => {}
                () = self.runtime.sleep(left) => {}
                () = self.closing() => {}
            }
        }
    }

    /// The receipt of a journaled write as it stands now.
    pub(crate) fn receipt(
        &self,
        document: &DocumentKey,
        operation_id: OperationId,
        version: Version,
        level: Level,
        answer: Answer,
    ) -> Receipt {
        let stores = self
            .backlog
            .standing(document, version)
            .into_iter()
            .filter_map(|standing| {
                let store = self.store(standing.role)?;
                Some(StoreReceipt {
                    store_id: store.store_id(),
                    role: standing.role,
                    service: Arc::clone(&store.service),
                    state: standing.acknowledgement.receipt_state(),
                    error: standing.error.as_deref().map(str::to_owned),
                })
            })
            .collect();
        Receipt {
            operation_id,
            collection: Arc::clone(&document.collection.name),
            id: Arc::clone(&document.id),
            version,
            level,
            reached: answer == Answer::Reached,
            unreachable: answer == Answer::Pending { unreachable: true },
            stores,
        }
    }
}

fn stage_of(mut item: WriteItem, input_hash: [u8; 32]) -> Stage {
    let change = std::mem::replace(&mut item.change, ItemChange::Delete);
    let draft = match change {
        ItemChange::Upsert(document) => Some(Box::new(Draft::new(*document))),
        ItemChange::Delete => None,
    };
    Stage::Ready {
        item,
        draft,
        input_hash,
    }
}

fn repeated_stage(lookup: OperationLookup) -> Option<Stage> {
    match lookup {
        OperationLookup::Accepted {
            operation_id,
            version,
            collection,
            id,
            ..
        } => Some(Stage::Repeated(
            DocumentKey::new(collection, id),
            operation_id,
            version,
        )),
        OperationLookup::Refused | OperationLookup::Unknown | OperationLookup::Expired => None,
    }
}

fn state_of(change: &Change) -> DocumentState {
    match change {
        Change::Upsert(record) => DocumentState::Live(Arc::clone(record)),
        Change::Delete | Change::DropCollection => DocumentState::Deleted,
    }
}

/// The document, operation and version of an accepted append.
fn accepted(
    appended: Appended,
    operation: OperationId,
) -> Result<(DocumentKey, OperationId, Version)> {
    match appended {
        Appended::New(EntryHeader {
            collection,
            id,
            version,
            operation_id,
            ..
        }) => Ok((DocumentKey::new(collection, id), operation_id, version)),
        Appended::Repeated(OperationLookup::Accepted {
            operation_id,
            version,
            collection,
            id,
            ..
        }) => Ok((DocumentKey::new(collection, id), operation_id, version)),
        Appended::Repeated(_) => Err(Error::new(
            ErrorKind::Internal,
            "the idempotency key names an operation that is not recorded",
        )
        .with_outcome(WriteOutcome::Indeterminate(operation))),
    }
}

fn append_error(error: crate::journal::JournalError, operation: OperationId) -> Error {
    let outcome = match error.kind() {
        JournalErrorKind::Indeterminate => WriteOutcome::Indeterminate(operation),
        _ => WriteOutcome::Rejected,
    };
    journal_error(error).with_outcome(outcome)
}

/// Turns a receipt into the call's answer.
fn conclude(receipt: Receipt, answer: Answer, options: WriteOptions) -> Result<Receipt> {
    match answer {
        Answer::Reached => Ok(receipt),
        _ if options.on_timeout == OnTimeout::ReturnPending => Ok(receipt),
        _ => {
            let missing: Vec<String> = receipt
                .pending()
                .map(|s| match &s.error {
                    Some(error) => format!("{} ({error})", s.role),
                    None => s.role.to_string(),
                })
                .collect();
            let message = format!(
                "the write is journaled and will reach every store, but these do not hold it yet: {}",
                missing.join(", ")
            );
            Err(Error::new(ErrorKind::LevelNotReached, message)
                .with("id", &receipt.id)
                .with("version", receipt.version)
                .with_outcome(WriteOutcome::Pending(Box::new(receipt))))
        }
    }
}

/// The hash of what the caller handed in, for idempotency keys.
fn input_hash(item: &WriteItem) -> [u8; 32] {
    if item.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut hash = Sha256::new();
    hash.update((item.id.len() as u64).to_le_bytes());
    hash.update(item.id.as_bytes());
    // A document that cannot be written as JSON (nested too deeply) is rejected by validation.
    let content = match &item.change {
        ItemChange::Upsert(document) => serde_json::to_vec(document).unwrap_or_default(),
        ItemChange::Delete => b"delete".to_vec(),
    };
    hash.update((content.len() as u64).to_le_bytes());
    hash.update(content);
    hash.update(format!("{:?}", item.precondition));
    hash.finalize().into()
}
