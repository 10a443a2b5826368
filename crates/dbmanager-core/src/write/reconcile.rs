//! What a store really holds of the live entries, compared before it is sent anything.

use std::{collections::BTreeMap, sync::Arc};

use super::{WriteRoom, backlog::DocumentKey};
use crate::{
    backend::{Backend, BackendError, BackendErrorKind, BackendResult, IdsRequest},
    journal::JournalError,
    model::CollectionKey,
    roster::Store,
};

/// Ids compared with a store at once.
const BATCH: usize = 500;

/// Compares the live entries with what the store really holds: confirmations of an earlier
/// session, or from before a failure, are not believed.
pub(super) async fn reconcile(
    room: &WriteRoom,
    store: &Store,
    backend: &dyn Backend,
) -> BackendResult<()> {
    let mut by_collection: BTreeMap<CollectionKey, Vec<Arc<str>>> = BTreeMap::new();
    for document in room.backlog.live_documents() {
        by_collection
            .entry(document.collection)
            .or_default()
            .push(document.id);
    }
    for (collection, ids) in by_collection {
        for chunk in ids.chunks(BATCH) {
            reconcile_chunk(room, store, backend, &collection, chunk).await?;
        }
    }
    Ok(())
}

async fn reconcile_chunk(
    room: &WriteRoom,
    store: &Store,
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
    let mark = room.current_mark().await.map_err(unreadable_journal)?;
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
    room.backlog.confirm_held(store.role, confirmed);
    Ok(())
}

pub(super) fn unreadable_journal(error: JournalError) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the journal cannot be read")
        .not_applied()
        .with_source(error)
}
