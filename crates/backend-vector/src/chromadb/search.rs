//! Nearest neighbours.
//!
//! The server's index is approximate and knows nothing of heads. So a search asks it for more
//! records than documents are wanted, drops those whose version is not the head's, reads what has
//! changed meanwhile, and asks for more until there are enough. An exact search, one among given
//! documents, and one for which the index gives too few, reads the vectors themselves.

use std::{collections::HashMap, sync::Arc};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, VectorHit, VectorSearchRequest},
    model::{ChunkVector, Metric, Version},
};

use super::{
    api::Api,
    catalogue::{Place, Vectors},
    convert,
    filter::{self, Where},
    heads,
    keys::ChunkKey,
    ranges::{self, Range},
    read,
};

/// One search on one collection.
struct Search<'a> {
    api: &'a Api,
    place: &'a Place,
    vectors: &'a Vectors,
    condition: &'a Where,
    query: &'a [f32],
    limit: usize,
}

/// Runs the search.
pub(super) async fn run(
    api: &Api,
    place: &Place,
    request: &VectorSearchRequest,
) -> BackendResult<Vec<VectorHit>> {
    let condition = match &request.filter {
        None => Where::All,
        Some(filter) => filter::translate(filter)
            .ok_or_else(|| BackendError::unsupported("this filter in ChromaDB's language"))?,
    };
    let Some(vectors) = &place.vectors else {
        return Ok(Vec::new());
    };
    check(vectors, &request.vector)?;
    if condition == Where::Nothing {
        return Ok(Vec::new());
    }
    let search = Search {
        api,
        place,
        vectors,
        condition: &condition,
        query: &request.vector,
        limit: request.limit.max(1),
    };
    let mut hits = match &request.restrict_to {
        Some(ids) => search.among(ids.iter()).await?,
        None if request.exact => search.scan().await?,
        None => match search.ask_index().await? {
            Some(hits) => hits,
            None => search.scan().await?,
        },
    };
    rank(&mut hits, search.limit);
    Ok(hits)
}

fn check(vectors: &Vectors, query: &[f32]) -> BackendResult<()> {
    let refused =
        |message: String| Err(BackendError::new(BackendErrorKind::Refused, message).not_applied());
    if query.len() != vectors.space.dimension as usize {
        return refused(format!(
            "the query's vector has {} numbers, the collection's have {}",
            query.len(),
            vectors.space.dimension
        ));
    }
    if !query.iter().all(|value| value.is_finite()) {
        return refused("the query's vector has a number that is not finite".to_owned());
    }
    Ok(())
}

/// Best first, no more than wanted.
fn rank(hits: &mut Vec<VectorHit>, limit: usize) {
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    hits.truncate(limit);
}

impl Search<'_> {
    fn metric(&self) -> Metric {
        self.vectors.space.metric
    }

    /// The hit of a document's nearest chunk, the lowest of equally near ones.
    fn best(&self, id: &Arc<str>, version: Version, chunks: &[ChunkVector]) -> Option<VectorHit> {
        let scored = chunks
            .iter()
            .map(|chunk| (self.metric().score(self.query, &chunk.values), chunk));
        scored
            .min_by(|(a, one), (b, other)| b.total_cmp(a).then(one.chunk.cmp(&other.chunk)))
            .map(|(score, chunk)| {
                VectorHit::new(Arc::clone(id), version, score, chunk.chunk, chunk.passage)
            })
    }

    /// The hits of these documents, from their vectors.
    async fn among(&self, ids: impl Iterator<Item = &Arc<str>>) -> BackendResult<Vec<VectorHit>> {
        let reading = read::current(self.api, self.place, ids, self.condition).await?;
        let documents = reading.documents.values();
        Ok(documents
            .filter_map(|current| {
                self.best(&current.head.id, current.head.version, &current.vectors)
            })
            .collect())
    }

    /// Asks the index; `None` if it does not give as many documents as wanted, which an
    /// approximate index may do although there are more.
    async fn ask_index(&self) -> BackendResult<Option<Vec<VectorHit>>> {
        let mut wanted = self.limit.saturating_add(self.limit / 2).saturating_add(8);
        loop {
            let (api, id) = (self.api, &self.vectors.id);
            let found = api.query(id, self.query, wanted, self.condition).await?;
            let exhausted = found.len() < wanted;
            let Some(hits) = self.check_hits(found).await? else {
                return Ok(None);
            };
            if hits.len() >= self.limit {
                return Ok(Some(hits));
            }
            if exhausted {
                return Ok(None);
            }
            wanted = wanted.saturating_mul(4);
        }
    }

    /// The documents behind records that the index found, each at the version that counts; `None`
    /// if a distance is no number (products beyond the range of 32 bits).
    async fn check_hits(
        &self,
        found: Vec<(String, Option<f32>)>,
    ) -> BackendResult<Option<Vec<VectorHit>>> {
        let mut scored: HashMap<Arc<str>, Vec<(ChunkKey, f64)>> = HashMap::new();
        for (id, distance) in found {
            let key = ChunkKey::read(&id).ok_or_else(|| heads::damaged("chunk", &id))?;
            let Some(score) = convert::score(self.metric(), distance) else {
                return Ok(None);
            };
            let chunks = scored.entry(Arc::clone(&key.id)).or_default();
            chunks.push((key, score));
        }
        let held = heads::of_ids(self.api, &self.place.heads, scored.keys()).await?;
        let (mut hits, mut changed) = (Vec::new(), Vec::new());
        for (id, chunks) in scored {
            // Without a head: its first write is under way, or was given up.
            let Some(head) = held.get(&id).map(|heads| &heads.newest) else {
                continue;
            };
            let current = chunks
                .into_iter()
                .filter(|(key, _)| key.version == head.version)
                .min_by(|(one, a), (other, b)| b.total_cmp(a).then(one.chunk.cmp(&other.chunk)));
            match current {
                Some((key, score)) => {
                    hits.push(VectorHit::new(
                        id,
                        key.version,
                        score,
                        key.chunk,
                        key.passage,
                    ));
                }
                None if head.chunks > Some(0) => changed.push(id),
                None => {}
            }
        }
        if !changed.is_empty() {
            hits.extend(self.among(changed.iter()).await?);
        }
        Ok(Some(hits))
    }

    /// Looks at every vector of which the condition holds.
    async fn scan(&self) -> BackendResult<Vec<VectorHit>> {
        let most = read::records_at_once(self.vectors);
        let pieces = match self.condition {
            Where::All => self.api.count(&self.vectors.id).await? / (most / 2) + 1,
            _ => 1,
        };
        let mut ranges: Vec<Range> = Range::pieces(pieces).collect();
        let mut hits = Vec::new();
        while let Some(range) = ranges.pop() {
            let (id, include) = (&self.vectors.id, &["embeddings"]);
            let read = ranges::read(self.api, id, range, self.condition, include, most).await?;
            match (read, range.halves()) {
                (Some(records), _) => hits.extend(self.score_page(read::chunks(records)?).await?),
                (None, Some(halves)) => ranges.extend(halves),
                (None, None) => {}
            }
            if hits.len() > self.limit.saturating_mul(2) {
                rank(&mut hits, self.limit);
            }
        }
        Ok(hits)
    }

    /// The hits of documents whose chunks were all read.
    async fn score_page(&self, chunks: Vec<(ChunkKey, Vec<f32>)>) -> BackendResult<Vec<VectorHit>> {
        let mut documents: HashMap<Arc<str>, Vec<(Version, ChunkVector)>> = HashMap::new();
        for (key, values) in chunks {
            let chunk = ChunkVector {
                chunk: key.chunk,
                passage: key.passage,
                values,
            };
            let document = documents.entry(key.id).or_default();
            document.push((key.version, chunk));
        }
        let held = heads::of_ids(self.api, &self.place.heads, documents.keys()).await?;
        let (mut hits, mut changed) = (Vec::new(), Vec::new());
        for (id, chunks) in documents {
            let Some(head) = held.get(&id).map(|heads| &heads.newest) else {
                continue;
            };
            let current: Vec<ChunkVector> = chunks
                .into_iter()
                .filter(|(version, _)| *version == head.version)
                .map(|(_, chunk)| chunk)
                .collect();
            match head.chunks {
                None | Some(0) => {}
                Some(count) if count == current.len() => {
                    hits.extend(self.best(&id, head.version, &current));
                }
                Some(_) => changed.push(id),
            }
        }
        if !changed.is_empty() {
            hits.extend(self.among(changed.iter()).await?);
        }
        Ok(hits)
    }
}
