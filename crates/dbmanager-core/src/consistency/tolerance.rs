//! Vectors of stores that do not give them back bit for bit.

use std::{collections::HashMap, sync::Arc};

use crate::{
    backend::{BackendResult, DocumentState, Fingerprint, IdsRequest, VectorBackend},
    model::{ChunkVector, CollectionKey, ContentHash, DocumentRecord, Role, Version, nearly_same},
};

/// What a document should be.
pub(super) type Wanted<'a> = (&'a Arc<str>, Version, &'a DocumentState);

/// Gives each fingerprint whose vectors have the right shape, and numbers within the tolerance,
/// the hash of the exact vectors, so that it compares like that of any other store.
///
/// Documents are matched by id; `direction_only` if the collection's metric does not see lengths.
pub(super) async fn settle_vectors(
    backend: &Arc<dyn VectorBackend>,
    collection: &CollectionKey,
    direction_only: bool,
    wanted: &[Wanted<'_>],
    held: &mut [Option<Fingerprint>],
) -> BackendResult<()> {
    let wanted: HashMap<_, _> = wanted
        .iter()
        .map(|(id, version, state)| (Arc::clone(id), (*version, *state)))
        .collect();
    let mut shaped: Vec<(&mut Fingerprint, &Arc<DocumentRecord>)> = held
        .iter_mut()
        .flatten()
        .filter_map(|held| {
            let (version, state) = wanted.get(&held.id)?;
            let record = state.record()?;
            let shape = ContentHash::of_vector_shapes(record.vectors().vectors.iter());
            let same = held.head.version == *version && held.content_hash == shape;
            (same && !held.head.deleted).then_some((held, record))
        })
        .collect();
    let ids: Vec<Arc<str>> = shaped
        .iter()
        .map(|(held, _)| Arc::clone(&held.id))
        .collect();
    if ids.is_empty() {
        return Ok(());
    }
    let found = backend
        .vectors(IdsRequest::new(collection.clone(), ids))
        .await?;
    for ((held, record), found) in shaped.iter_mut().zip(found) {
        let expected: &[ChunkVector] = &record.vectors().vectors;
        let near = found.is_some_and(|found| {
            found.version == held.head.version
                && nearly_same(expected, &found.vectors, direction_only)
        });
        if near {
            held.content_hash = record.content_hash(&collection.name, Role::Vector);
        }
    }
    Ok(())
}
