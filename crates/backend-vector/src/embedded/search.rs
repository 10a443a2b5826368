//! One search: which documents it may find, and by which way it finds them.

use std::sync::Arc;

use dbmanager_backend_support::sqlite::{JobError, JobResult};
use dbmanager_core::backend::{VectorHit, VectorSearchRequest};
use rusqlite::Connection;

#[cfg(feature = "hnsw")]
use super::matrix::Matrix;
use super::{
    kernel::Query,
    memory::Slot,
    scan::{KeySet, Selector},
    tables::{self, State},
};

/// An index is asked for filtered searches only if at least one of so many documents fulfils the
/// filter: below that scanning those is faster than finding enough of them among the nearest.
#[cfg(feature = "hnsw")]
const WEAKEST_FILTER: usize = 4;

/// How an approximate index is consulted; see `index`.
#[cfg(feature = "hnsw")]
pub(super) type Consult<'a> = dyn Fn(&State, &Matrix) -> Option<Arc<super::hnsw::HnswIndex>> + 'a;

/// Runs the search on a connection that has not read yet in its transaction.
///
/// # Errors
/// `Refused` for a vector that does not belong to the collection.
pub(super) fn run(
    connection: &Connection,
    slot: &Slot,
    request: &VectorSearchRequest,
    #[cfg(feature = "hnsw")] consult: &Consult<'_>,
) -> JobResult<Vec<VectorHit>> {
    let (state, matrix) = slot.catch_up(connection, &request.collection)?;
    check(request, &state)?;
    if matrix.live_documents() == 0 || request.limit == 0 {
        return Ok(Vec::new());
    }
    let keys = allowed(connection, slot, &state, request)?;
    if keys.as_ref().is_some_and(|keys| keys.len() == 0) {
        return Ok(Vec::new());
    }
    let query = Query::new(matrix.metric(), Arc::clone(&request.vector));
    #[cfg(feature = "hnsw")]
    if !request.exact
        && request.restrict_to.is_none()
        && let Some(index) = consult(&state, &matrix)
        && keys
            .as_ref()
            .is_none_or(|keys| keys.len() * WEAKEST_FILTER >= matrix.live_documents())
        && let Some(hits) =
            super::index::search(&index, &matrix, &query, request.limit, keys.as_deref())
    {
        return Ok(hits);
    }
    let mut selector = Selector::new(&matrix, &query, request.limit);
    selector.scan(0..matrix.rows(), keys.as_deref());
    Ok(selector.finish())
}

fn check(request: &VectorSearchRequest, state: &State) -> JobResult<()> {
    let length = request.vector.len();
    if state.dimension != 0 && length != state.dimension {
        return Err(JobError::refused(format!(
            "the query's vector has dimension {length}, the collection's have {}",
            state.dimension
        )));
    }
    if !request.vector.iter().all(|value| value.is_finite()) {
        return Err(JobError::refused(
            "the query's vector has a number that is not finite",
        ));
    }
    Ok(())
}

/// The keys of the documents the request allows; `None`: all.
fn allowed(
    connection: &Connection,
    slot: &Slot,
    state: &State,
    request: &VectorSearchRequest,
) -> JobResult<Option<Arc<KeySet>>> {
    let matching = match &request.filter {
        Some(filter) => Some(slot.matching(state, filter, || {
            let keys = tables::matching(connection, state.collection, filter)?;
            Ok(keys.into_iter().collect())
        })?),
        None => None,
    };
    let Some(ids) = &request.restrict_to else {
        return Ok(matching);
    };
    let mut keys = Vec::with_capacity(ids.len());
    for id in ids.iter() {
        if let Some(document) = tables::document(connection, state.collection, id)? {
            keys.push(document.key);
        }
    }
    keys.retain(|key| matching.as_ref().is_none_or(|set| set.contains(*key)));
    Ok(Some(Arc::new(keys.into_iter().collect())))
}
