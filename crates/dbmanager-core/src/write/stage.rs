//! The items of a write on their way into the journal: keys, validation, vectors, preconditions,
//! append.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{
    WriteRoom,
    backlog::DocumentKey,
    journal_error,
    prepare::{Draft, repeated_ids, validate_depth, validate_document, validate_id},
    route::{ItemChange, WriteItem, rejected, turn_away},
};
use crate::{
    Error, ErrorKind, Result, WriteOutcome,
    backend::{DocumentState, Head},
    journal::{
        AppendRequest, Appended, Change, EntryKind, IdempotencyKey, JournalErrorKind,
        OperationLookup, PreconditionRequest,
    },
    model::{Collection, CollectionKey, OperationId, Receipt, Version},
};

/// An item on its way through the route.
pub(super) enum Stage {
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

impl WriteRoom {
    /// Looks up keys and validates.
    pub(super) async fn stage(&self, collection: &Arc<str>, items: Vec<WriteItem>) -> Vec<Stage> {
        let repeated = repeated_ids(items.iter().map(|item| &*item.id));
        let limits = self.limits();
        let mut stages = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            if let ItemChange::Upsert(document) = &item.change
                && let Err(error) = validate_depth(document, &limits)
            {
                item.discard();
                stages.push(Stage::Answered(Err(rejected(error))));
                continue;
            }
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
            let valid = if let Err(error) = self.check_operation_id(item.operation_id) {
                Err(error)
            } else if repeated.contains(&index) {
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
                Err(error) => Stage::Answered(Err(rejected(error))),
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
    pub(super) async fn append_stages(
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
        let collection = match self.prepare_collection(collection, stages).await {
            Ok(collection) => collection,
            Err(error) => {
                let repeated = |stage: &Stage| matches!(stage, Stage::Repeated(..));
                let error = rejected(error);
                if !stages.iter().any(repeated) {
                    return Err(error);
                }
                turn_away(stages, &error);
                return Ok(Vec::new());
            }
        };
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
        let append = self.appends.begin();
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
        drop(append);
        let refused = |(_, result): &(usize, Result<Appended>)| {
            let error = result.as_ref().err();
            error.is_some_and(|error| error.kind() == ErrorKind::PreconditionFailed)
        };
        if results.iter().any(refused) {
            // For what another write under way has done: the caller may read next.
            self.appends.shown().await;
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

    /// What is known of the document now. A live entry is named as well: a truncation that began
    /// before the id was pinned may be letting go of it.
    async fn precondition(
        &self,
        collection: &CollectionKey,
        item: &WriteItem,
    ) -> Result<Option<PreconditionRequest>> {
        let Some(precondition) = item.precondition else {
            return Ok(None);
        };
        let document = DocumentKey::new(collection.clone(), Arc::clone(&item.id));
        let known = match self.backlog.newest(&document) {
            Some(newest) => Some(Head {
                version: newest.version,
                deleted: newest.kind != EntryKind::Upsert,
            }),
            None => self.authority_head(collection, &item.id).await?,
        };
        Ok(Some(PreconditionRequest {
            precondition,
            known,
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

pub(super) fn append_error(error: crate::journal::JournalError, operation: OperationId) -> Error {
    let outcome = match error.kind() {
        JournalErrorKind::Indeterminate => WriteOutcome::Indeterminate(operation),
        _ => WriteOutcome::Rejected,
    };
    journal_error(error).with_outcome(outcome)
}

/// The hash of what the caller handed in, for idempotency keys.
fn input_hash(item: &WriteItem) -> [u8; 32] {
    if item.idempotency_key.is_none() {
        return [0; 32];
    }
    let mut hash = Sha256::new();
    hash.update((item.id.len() as u64).to_le_bytes());
    hash.update(item.id.as_bytes());
    // Never fails for a document of a bounded depth, which was checked before.
    let content = match &item.change {
        ItemChange::Upsert(document) => serde_json::to_vec(document).unwrap_or_default(),
        ItemChange::Delete => b"delete".to_vec(),
    };
    hash.update((content.len() as u64).to_le_bytes());
    hash.update(content);
    hash.update(format!("{:?}", item.precondition));
    hash.finalize().into()
}
