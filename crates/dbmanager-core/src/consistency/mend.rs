//! Mending a difference: the same content again, under a new version.

use std::sync::Arc;

use super::{judge::Truth, walk::StoreCheck};
use crate::{
    Result,
    backend::{DocumentState, Head},
    journal::{AppendRequest, Appended, Change, JournalErrorKind, PreconditionRequest},
    model::{CollectionKey, Precondition},
    write::{DocumentKey, journal_error},
};

impl StoreCheck<'_> {
    /// Appends the same content as a new version, unless a newer one has come meanwhile: then that
    /// one mends the store. Answers whether it was appended.
    pub(super) async fn write_again(
        &self,
        collection: &CollectionKey,
        id: &Arc<str>,
        truth: Truth,
    ) -> Result<bool> {
        let backlog = &self.room().backlog;
        let document = DocumentKey::new(collection.clone(), Arc::clone(id));
        // From here on nothing newer can be truncated unseen between the reading and the append.
        backlog.pin(&document);
        let appended = self.append_again(&document, truth).await;
        backlog.unpin(&document);
        appended
    }

    async fn append_again(&self, document: &DocumentKey, truth: Truth) -> Result<bool> {
        let room = self.room();
        let newest = match room.backlog.newest(document) {
            Some(newest) => Some(newest.version),
            None => {
                let ids = std::slice::from_ref(&document.id);
                let heads = room.authority_heads(&document.collection, ids).await?;
                heads.into_iter().next().flatten().map(|head| head.version)
            }
        };
        if newest != Some(truth.version) {
            return Ok(false);
        }
        let deleted = truth.state == DocumentState::Deleted;
        let request = AppendRequest {
            operation_id: room.new_operation_id(),
            idempotency_key: None,
            collection: document.collection.clone(),
            id: Arc::clone(&document.id),
            change: match &truth.state {
                DocumentState::Live(record) => Change::Upsert(Arc::clone(record)),
                DocumentState::Deleted => Change::Delete,
            },
            precondition: Some(PreconditionRequest {
                precondition: if deleted {
                    Precondition::Absent
                } else {
                    Precondition::Version(truth.version)
                },
                known: Some(Head {
                    version: truth.version,
                    deleted,
                }),
            }),
        };
        match room.journal.append(vec![request]).await.into_iter().next() {
            Some(Ok(Appended::New(header))) => {
                room.backlog.insert(header, Some(truth.state));
                Ok(true)
            }
            Some(Err(error))
                if matches!(
                    error.kind(),
                    JournalErrorKind::PreconditionFailed(_)
                        | JournalErrorKind::CollectionChanged
                        | JournalErrorKind::CollectionNotFound
                ) =>
            {
                Ok(false)
            }
            Some(Err(error)) => Err(journal_error(error)),
            Some(Ok(Appended::Repeated(_))) | None => Ok(false),
        }
    }
}
