//! What a store really holds of the live entries, compared before it is sent anything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{WriteRoom, backlog::DocumentKey};
use crate::{
    backend::{Backend, BackendError, BackendErrorKind, BackendResult, IdsRequest},
    journal::JournalError,
    model::CollectionKey,
    roster::Store,
};

/// Ids compared with a store at once.
const BATCH: usize = 500;
/// How long an opening waits for the stores to be compared: some hundred thousand entries in embedded
/// stores.
const OPENING: Duration = Duration::from_secs(2);

/// Compares the stores that are open, so that whoever opens a manager and reads at once is not told
/// that something may be missing. What fails or takes too long is left to the senders, which
/// compare again and report.
pub(super) async fn reconcile_at_opening(room: &WriteRoom) {
    let compare = async |store: &Arc<Store>| {
        let Some(backend) = store.ready().map(|open| open.as_backend()) else {
            return;
        };
        let reconciling = reconcile(room, store, backend.as_ref());
        if room.runtime.timeout(OPENING, reconciling).await.is_err() {
            store.want_reconcile();
        }
    };
    join_all(room.stores.iter().map(compare)).await;
}

/// Compares the live entries with what the store really holds: confirmations of an earlier
/// session, or from before a failure, are not believed. The store is in doubt again if this fails,
/// and for its caller to say so if this is given up.
pub(super) async fn reconcile(
    room: &WriteRoom,
    store: &Store,
    backend: &dyn Backend,
) -> BackendResult<()> {
    // Before the doubt is cleared: truncation must never take what was confirmed before it for
    // something that the store still holds.
    room.backlog.forget_confirmations(store.role);
    store.clear_doubt();
    let result = compare(room, store, backend).await;
    if result.is_err() {
        store.want_reconcile();
    }
    result
}

async fn compare(room: &WriteRoom, store: &Store, backend: &dyn Backend) -> BackendResult<()> {
    let mut by_collection: BTreeMap<CollectionKey, Vec<Arc<str>>> = BTreeMap::new();
    for document in room.backlog.live_documents() {
        by_collection
            .entry(document.collection)
            .or_default()
            .push(document.id);
    }
    for (collection, ids) in by_collection {
        for chunk in ids.chunks(BATCH) {
            if room.is_closing() || !room.is_sender() {
                return Err(given_up());
            }
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

fn given_up() -> BackendError {
    let message = "the manager is closed, or another one sends to the store";
    BackendError::new(BackendErrorKind::Unavailable, message).not_applied()
}

pub(super) fn unreadable_journal(error: JournalError) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the journal cannot be read")
        .not_applied()
        .with_source(error)
}
