//! Writing: collections and mutations, each in one transaction.

use std::{borrow::Cow, collections::HashSet};

use dbmanager_backend_support::sqlite::{
    JobError, JobResult,
    collections::{self, Created},
    fields, stamp,
};
use dbmanager_core::{
    backend::{
        ApplyRequest, BackendResult, CreateCollectionRequest, DocumentState, DropCollectionRequest,
        Head, Mutation,
    },
    model::{ChunkVector, Version},
};
use rusqlite::{Connection, Transaction};

use super::{
    limits,
    tables::{self, State},
};

/// Makes a collection ready, or fills in its embedding space.
pub(super) fn create_collection(
    transaction: &Transaction<'_>,
    request: &CreateCollectionRequest,
) -> JobResult<()> {
    stamp::check_epoch(transaction, request.epoch)?;
    let space = request.collection.options.embedding_space.as_ref();
    if let Some(space) = space
        && !(1..=limits().max_dimension).contains(&(space.dimension as usize))
    {
        return Err(JobError::refused(format!(
            "a dimension of {} is not in 1 to {}",
            space.dimension,
            limits().max_dimension
        )));
    }
    match collections::create(transaction, &request.collection)? {
        Created::New(stored) => tables::insert_state(transaction, stored.key),
        Created::Present(_) => {
            let state = tables::state(transaction, &request.collection.key)?;
            match space {
                Some(space) if space.dimension as usize != state.dimension => {
                    Err(JobError::refused(format!(
                        "collection {} holds vectors of dimension {}, not {}",
                        request.collection.key, state.dimension, space.dimension
                    )))
                }
                _ => Ok(()),
            }
        }
    }
}

/// Removes a collection with everything in it.
pub(super) fn drop_collection(
    transaction: &Transaction<'_>,
    request: &DropCollectionRequest,
) -> JobResult<()> {
    stamp::check_epoch(transaction, request.epoch)?;
    match collections::remove(transaction, &request.collection)? {
        Some(key) => tables::drop_collection(transaction, key),
        None => Ok(()),
    }
}

/// Applies a batch; an item that is refused leaves no trace.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    request: &ApplyRequest,
) -> JobResult<Vec<BackendResult<()>>> {
    stamp::check_epoch(transaction, request.epoch)?;
    let before = tables::state(transaction, &request.collection)?;
    let mut state = before;
    let mut highest = Version::ZERO;
    let mut answers = Vec::with_capacity(request.mutations.len());
    for mutation in request.mutations.iter() {
        match apply_one(transaction, &mut state, mutation) {
            Ok(Applied::Written) => {
                highest = highest.max(mutation.version);
                answers.push(Ok(()));
            }
            Ok(Applied::HeldAlready) => answers.push(Ok(())),
            // Judged before anything of the item was written.
            Err(JobError::Backend(error)) if error.is_permanent() => answers.push(Err(error)),
            Err(error) => return Err(error),
        }
    }
    if state != before {
        tables::update_state(transaction, &state)?;
        collections::record_version(transaction, state.collection, highest)?;
    }
    Ok(answers)
}

enum Applied {
    Written,
    HeldAlready,
}

fn apply_one(
    connection: &Connection,
    state: &mut State,
    mutation: &Mutation,
) -> JobResult<Applied> {
    let held = tables::document(connection, state.collection, &mutation.id)?;
    if held
        .as_ref()
        .is_some_and(|held| held.head.version >= mutation.version)
    {
        return Ok(Applied::HeldAlready);
    }
    if mutation.version > Version::MAX {
        return Err(JobError::refused(
            "a version above 2^63 - 1 cannot be stored",
        ));
    }
    let record = mutation.state.record();
    let vectors = match record {
        Some(record) => {
            fields::check(record.document())?;
            checked(&record.vectors().vectors, state.dimension)?
        }
        None => Cow::Borrowed(&[][..]),
    };
    let head = Head {
        version: mutation.version,
        deleted: matches!(mutation.state, DocumentState::Deleted),
    };
    state.change += 1;
    let key = tables::put_document(connection, state, held.as_ref(), &mutation.id, head)?;
    if let Some(record) = record {
        fields::insert(connection, state.collection, key, record.document())?;
    }
    for vector in vectors.iter() {
        state.dimension = vector.values.len();
        tables::insert_vector(connection, key, vector)?;
    }
    Ok(Applied::Written)
}

/// The set in the order of its chunk numbers, if it can be stored. A `dimension` of 0 takes any.
fn checked(vectors: &[ChunkVector], dimension: usize) -> JobResult<Cow<'_, [ChunkVector]>> {
    let refuse = |why: String| Err(JobError::refused(why));
    if vectors.len() > limits().max_vectors {
        return refuse(format!(
            "{} vectors are more than {}",
            vectors.len(),
            limits().max_vectors
        ));
    }
    let mut dimension = dimension;
    let mut chunks = HashSet::with_capacity(vectors.len());
    for vector in vectors {
        let length = vector.values.len();
        if !(1..=limits().max_dimension).contains(&length) {
            return refuse(format!(
                "a vector of {length} numbers has not 1 to {}",
                limits().max_dimension
            ));
        }
        if dimension != 0 && length != dimension {
            return refuse(format!(
                "a vector of dimension {length} does not belong to those of dimension {dimension}"
            ));
        }
        dimension = length;
        if !vector.values.iter().all(|value| value.is_finite()) {
            return refuse(format!(
                "the vector of chunk {} has a number that is not finite",
                vector.chunk
            ));
        }
        if !chunks.insert(vector.chunk) {
            return refuse(format!("chunk {} is there twice", vector.chunk));
        }
    }
    Ok(if vectors.is_sorted_by_key(|vector| vector.chunk) {
        Cow::Borrowed(vectors)
    } else {
        let mut sorted = vectors.to_vec();
        sorted.sort_by_key(|vector| vector.chunk);
        Cow::Owned(sorted)
    })
}
