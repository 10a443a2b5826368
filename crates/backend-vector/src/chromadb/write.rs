//! Writing: chunks, then heads, then the removal of what no longer counts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Mutation},
    model::{ChunkVector, Version},
};

use super::{
    api::{Api, MAX_REQUEST_BYTES, Record, Selection},
    catalogue::Place,
    facts,
    heads::{self, Heads},
    keys::{ChunkKey, HeadKey},
};

fn refused(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, message).not_applied()
}

/// Applies each mutation that is above the version held.
///
/// # Errors
/// The heads could not be read: nothing was written.
pub(super) async fn apply(
    api: &Api,
    place: &Place,
    mutations: &[Mutation],
) -> BackendResult<Vec<BackendResult<()>>> {
    let mut answers: Vec<BackendResult<()>> = mutations
        .iter()
        .map(|mutation| check(place, mutation))
        .collect();
    let held = heads::of_ids(api, &place.heads, mutations.iter().map(|m| &m.id))
        .await
        .map_err(BackendError::not_applied)?;
    let newer = |mutation: &Mutation| {
        held.get(&mutation.id)
            .is_none_or(|heads| mutation.version > heads.newest.version)
    };
    let mut writing: Vec<usize> = (0..mutations.len())
        .filter(|index| answers[*index].is_ok() && newer(&mutations[*index]))
        .collect();
    write_chunks(api, place, mutations, &writing, &mut answers).await;
    writing.retain(|index| answers[*index].is_ok());
    write_heads(api, place, mutations, &writing, &mut answers).await;
    writing.retain(|index| answers[*index].is_ok());
    // The writes are applied, whatever becomes of this: what counts is what the heads say. The
    // next write of the document, or the next listing, removes what is left.
    let _ = clean_up(
        api,
        place,
        writing.iter().map(|index| &mutations[*index]),
        held,
    )
    .await;
    Ok(answers)
}

/// Whether the collection can hold the mutation's vectors.
fn check(place: &Place, mutation: &Mutation) -> BackendResult<()> {
    let vectors: &[ChunkVector] = match mutation.state.record() {
        Some(record) => &record.vectors().vectors,
        None => return Ok(()),
    };
    if vectors.is_empty() {
        return Ok(());
    }
    let Some(held) = &place.vectors else {
        return Err(refused("the collection has no embedding space".to_owned()));
    };
    let mut chunks = HashSet::with_capacity(vectors.len());
    for vector in vectors {
        let (chunk, numbers) = (vector.chunk, vector.values.len());
        if numbers != held.space.dimension as usize {
            return Err(refused(format!(
                "a vector has {numbers} numbers, the collection's have {}",
                held.space.dimension
            )));
        }
        if !vector.values.iter().all(|value| value.is_finite()) {
            return Err(refused(format!(
                "the vector of chunk {chunk} has a number that is not finite"
            )));
        }
        if !chunks.insert(chunk) {
            return Err(refused(format!("chunk {chunk} is there twice")));
        }
    }
    Ok(())
}

/// # Errors
/// `Refused`: the metadata takes more than `max_metadata` bytes.
fn chunk_records(mutation: &Mutation, max_metadata: usize) -> BackendResult<Vec<Record>> {
    let Some(record) = mutation.state.record() else {
        return Ok(Vec::new());
    };
    if record.vectors().vectors.is_empty() {
        return Ok(Vec::new());
    }
    let metadata = facts::metadata(record.document(), max_metadata).ok_or_else(|| {
        refused(format!(
            "what filters ask of the document takes more than {max_metadata} bytes beside each of \
             its vectors"
        ))
    })?;
    let metadata = Arc::new(metadata);
    let vectors = record.vectors().vectors.iter();
    Ok(vectors
        .map(|vector| Record {
            id: ChunkKey::new(mutation, vector).write(),
            embedding: vector.values.clone(),
            metadata: Arc::clone(&metadata),
        })
        .collect())
}

/// Writes the chunks. A document of which one is not written is not applied: it gets no head.
async fn write_chunks(
    api: &Api,
    place: &Place,
    mutations: &[Mutation],
    writing: &[usize],
    answers: &mut [BackendResult<()>],
) {
    let Some(vectors) = &place.vectors else {
        return;
    };
    let (mut owners, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (position, index) in writing.iter().enumerate() {
        match chunk_records(&mutations[*index], api.max_metadata()) {
            Ok(chunks) => {
                bytes += chunks.iter().map(Record::weight).sum::<usize>();
                owners.extend(chunks.iter().map(|_| *index));
                records.extend(chunks);
            }
            Err(error) => answers[*index] = Err(error),
        }
        // The metadata of a whole batch may be many times as large as its documents.
        if bytes < MAX_REQUEST_BYTES && position + 1 < writing.len() {
            continue;
        }
        let written = api.upsert(&vectors.id, &records).await;
        for (owner, written) in owners.drain(..).zip(written) {
            if let (Ok(()), Err(error)) = (&answers[owner], written) {
                answers[owner] = Err(error.not_applied());
            }
        }
        records.clear();
        bytes = 0;
    }
}

async fn write_heads(
    api: &Api,
    place: &Place,
    mutations: &[Mutation],
    writing: &[usize],
    answers: &mut [BackendResult<()>],
) {
    let records: Vec<Record> = writing
        .iter()
        .map(|index| heads::record(&HeadKey::of(&mutations[*index])))
        .collect();
    let written = api.upsert(&place.heads, &records).await;
    for (index, written) in writing.iter().zip(written) {
        answers[*index] = written;
    }
}

/// Removes what the new heads have made old.
async fn clean_up(
    api: &Api,
    place: &Place,
    written: impl Iterator<Item = &Mutation>,
    held: HashMap<Arc<str>, Heads>,
) -> BackendResult<()> {
    let mut replaced: HashMap<&str, Version> = HashMap::new();
    let mut old_heads = Vec::new();
    for mutation in written {
        if let Some(Heads { newest, older }) = held.get(&mutation.id) {
            replaced.insert(&mutation.id, mutation.version);
            old_heads.push(newest.write());
            old_heads.extend(older.iter().map(HeadKey::write));
        }
    }
    if replaced.is_empty() {
        return Ok(());
    }
    // In any order: the next write lists all chunks of a document that has a head.
    tokio::try_join!(
        remove_chunks(api, place, &replaced),
        api.delete(&place.heads, &old_heads),
    )?;
    Ok(())
}

/// Removes the chunks of these documents below these versions.
async fn remove_chunks(
    api: &Api,
    place: &Place,
    replaced: &HashMap<&str, Version>,
) -> BackendResult<()> {
    let Some(vectors) = &place.vectors else {
        return Ok(());
    };
    let ids: Vec<&str> = replaced.keys().copied().collect();
    let mut old = Vec::new();
    for some in ids.chunks(heads::SLOTS) {
        let slots = heads::slots_of(some.iter().copied());
        let records = api.get(&vectors.id, Selection::all(&slots), &[]).await?;
        old.extend(records.ids.into_iter().filter(|id| {
            ChunkKey::read(id).is_some_and(|key| {
                replaced
                    .get(&*key.id)
                    .is_some_and(|version| key.version < *version)
            })
        }));
    }
    api.delete(&vectors.id, &old).await
}
