//! Reading the authority document by document where one row cannot be read: it is one finding and
//! keeps nobody from comparing the others.

use std::sync::Arc;

use crate::{
    Result,
    backend::{BackendError, BackendErrorKind, IdsRequest, ListDocumentsRequest, StoredRecord},
    model::CollectionKey,
    write::WriteRoom,
};

/// What the authority lists above an id.
pub(super) enum Listed {
    /// Readable rows in the order of their ids; none at the end.
    Records(Vec<StoredRecord>),
    /// The next row, which cannot be read.
    Unreadable(Arc<str>),
}

/// What the authority holds of one id.
#[derive(Clone)]
pub(super) enum Row {
    Absent,
    Record(StoredRecord),
    Unreadable,
}

/// The one document that cannot be read.
fn unreadable(error: &BackendError) -> Option<&Arc<str>> {
    let damaged = error.kind() == BackendErrorKind::Damaged;
    error.document().filter(|_| damaged)
}

/// The next rows above an id, tombstones included. Before a row that cannot be read the pages get
/// shorter until it is the only one.
pub(super) async fn next_rows(
    room: &WriteRoom,
    collection: &CollectionKey,
    after: Option<&Arc<str>>,
    mut limit: usize,
) -> Result<Listed> {
    loop {
        let request = ListDocumentsRequest::new(collection.clone(), limit)
            .after_id(after.cloned())
            .include_deleted();
        let error = match room.authority().await?.list(request).await {
            Ok(page) => return Ok(Listed::Records(page)),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                return Ok(Listed::Records(Vec::new()));
            }
            Err(error) => error,
        };
        match unreadable(&error) {
            Some(id) if after.is_none_or(|after| id > after) => {
                if limit == 1 {
                    tracing::error!(%error, "a row of the authority cannot be read");
                    return Ok(Listed::Unreadable(Arc::clone(id)));
                }
                limit /= 2;
            }
            _ => return Err(room.failed_read(error)),
        }
    }
}

/// What the authority holds of each id, in the order given.
pub(super) async fn rows(
    room: &WriteRoom,
    collection: &CollectionKey,
    ids: &[Arc<str>],
) -> Result<Vec<Row>> {
    let mut rows = vec![Row::Absent; ids.len()];
    let mut asked: Vec<usize> = (0..ids.len()).collect();
    loop {
        let wanted: Vec<Arc<str>> = asked.iter().map(|at| Arc::clone(&ids[*at])).collect();
        let request = IdsRequest::new(collection.clone(), wanted);
        let error = match room.authority().await?.get(request).await {
            Ok(found) => {
                for (at, record) in asked.into_iter().zip(found) {
                    if let Some(record) = record {
                        rows[at] = Row::Record(record);
                    }
                }
                return Ok(rows);
            }
            // Created in the journal, never written here.
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => return Ok(rows),
            Err(error) => error,
        };
        let named = unreadable(&error).and_then(|id| asked.iter().position(|at| ids[*at] == *id));
        match named {
            Some(position) => rows[asked.remove(position)] = Row::Unreadable,
            None => return Err(room.failed_read(error)),
        }
    }
}
