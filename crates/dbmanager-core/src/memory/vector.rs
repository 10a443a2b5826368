//! Exact nearest neighbours by full scan.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryVector;
use crate::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, IdsRequest, StoredVectors, VectorBackend,
        VectorHit, VectorSearchRequest,
    },
    model::{DocumentRecord, Metric, Version},
};

/// The hit of a document's nearest chunk, the lowest of equally near ones; `None` without vectors.
fn best_chunk(
    metric: Metric,
    query: &[f32],
    id: &Arc<str>,
    version: Version,
    record: &DocumentRecord,
) -> Option<VectorHit> {
    record
        .vectors()
        .vectors
        .iter()
        .map(|chunk| (metric.score(query, &chunk.values), chunk))
        .min_by(|(a_score, a), (b_score, b)| b_score.total_cmp(a_score).then(a.chunk.cmp(&b.chunk)))
        .map(|(score, chunk)| {
            VectorHit::new(Arc::clone(id), version, score, chunk.chunk, chunk.passage)
        })
}

#[async_trait]
impl VectorBackend for MemoryVector {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        let data = self.data()?;
        let collection = data.collection(&request.collection)?;
        let Some(space) = &collection.options.embedding_space else {
            return Ok(Vec::new());
        };
        if request.vector.len() != space.dimension as usize {
            return Err(BackendError::new(
                BackendErrorKind::Refused,
                format!(
                    "the query's vector has {} numbers, the collection's have {}",
                    request.vector.len(),
                    space.dimension
                ),
            )
            .not_applied());
        }
        let mut hits: Vec<_> = collection
            .live(request.filter.as_deref(), request.restrict_to.as_deref())
            .filter_map(|(id, version, record)| {
                best_chunk(space.metric, &request.vector, id, version, record)
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(hits)
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        let held = self.by_id(&request, |_, held| {
            held.state.record().map(|record| StoredVectors {
                version: held.version,
                vectors: record.vectors().vectors.clone(),
            })
        })?;
        Ok(held.into_iter().map(Option::flatten).collect())
    }
}
