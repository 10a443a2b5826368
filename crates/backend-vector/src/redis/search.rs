//! The documents nearest to a vector.
//!
//! The server finds chunks; a document is as near as its nearest chunk and fulfils the filter or
//! does not. So chunks are asked for until enough documents are certain, each time more; where
//! that would be too many, or the server cannot compare, every document is read and compared here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendResult, VectorHit, VectorSearchRequest},
    model::{EmbeddingSpace, Filter, Metric},
};

use super::{
    convert::refused,
    document::{Held, is_odd, to_bytes},
    filter::{self, Query},
    nearest::{Answer, Ask, Candidate},
    store::{Known, Redis, missing},
};

/// By how much the number of chunks grows.
const GROWTH: usize = 4;
/// Chunks above which documents are read instead.
const MOST_CHUNKS: usize = 16_384;
/// The most that the query engine returns by default (MAXSEARCHRESULTS).
const MOST_RESULTS: usize = 1_000_000;
/// Documents of a page when all are read.
const PAGE: usize = 500;
/// How often a search is repeated because the collection was changed meanwhile.
const MOST_REPEATS: usize = 4;

impl Redis {
    pub(super) async fn search(
        &self,
        request: &VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let mut known = self.known(&request.collection).await?;
        for _ in 0..MOST_REPEATS {
            let Some(space) = &known.options.embedding_space else {
                // It may have been filled in by another manager.
                known = self.look_up(&request.collection).await?;
                if known.options.embedding_space.is_none() {
                    return Ok(Vec::new());
                }
                continue;
            };
            let search = Search {
                store: self,
                request,
                known: &known,
                space,
                filter: request.filter.as_deref(),
            };
            if let Some(hits) = search.run().await? {
                return Ok(hits);
            }
            known = self.look_up(&request.collection).await?;
        }
        Err(missing(&request.collection))
    }
}

struct Search<'a> {
    store: &'a Redis,
    request: &'a VectorSearchRequest,
    known: &'a Known,
    space: &'a EmbeddingSpace,
    filter: Option<&'a Filter>,
}

impl Search<'_> {
    /// The hits; `None` if the collection is no longer as it was known.
    async fn run(&self) -> BackendResult<Option<Vec<VectorHit>>> {
        let numbers = self.request.vector.len();
        if numbers != self.space.dimension as usize {
            return Err(refused(format!(
                "the query's vector has {numbers} numbers, the collection's have {}",
                self.space.dimension
            )));
        }
        if let Some(only) = &self.request.restrict_to {
            let distinct: HashSet<Arc<str>> = only.iter().cloned().collect();
            let ids: Vec<Arc<str>> = distinct.into_iter().collect();
            return self.compare(&ids).await.map(|hits| Some(self.best(hits)));
        }
        if is_odd(self.space.metric, &self.request.vector) {
            return self.read_all().await.map(Some);
        }
        self.ask().await
    }

    /// Asks for more and more chunks until enough documents are certain.
    async fn ask(&self) -> BackendResult<Option<Vec<VectorHit>>> {
        let query = self.filter.map_or(Query::Every, filter::superset);
        let odd = self.odd_documents().await?;
        let wanted = self.request.limit;
        let most = MOST_CHUNKS
            .max(wanted.saturating_mul(GROWTH))
            .min(MOST_RESULTS);
        let mut limit = wanted.saturating_mul(2).saturating_add(8);
        let vector = to_bytes(&self.request.vector);
        while limit <= most {
            let ask = Ask {
                vector: &vector,
                space: self.space,
                query: &query,
                limit,
                exact: self.request.exact,
            };
            let found = match &query {
                Query::Nothing => Vec::new(),
                _ => match self
                    .store
                    .nearest(&self.request.collection, self.known, ask)
                    .await?
                {
                    Answer::Found(found) => found,
                    Answer::Changed => return Ok(None),
                },
            };
            let complete = found.len() < limit;
            let boundary = found.last().map(|candidate| candidate.score);
            let mut hits = self.verify(found).await?;
            merge(&mut hits, odd.clone());
            // A document at the boundary may have an equal before it by id that was not returned.
            let certain = |hit: &VectorHit| {
                complete || !self.request.exact || boundary.is_some_and(|least| hit.score > least)
            };
            if complete || hits.iter().filter(|hit| certain(hit)).count() >= wanted {
                return Ok(Some(self.best(hits)));
            }
            limit = limit.saturating_mul(GROWTH);
        }
        self.read_all().await.map(Some)
    }

    /// The documents of the chunks, each with its best one, that fulfil the filter. One that was
    /// written since it was found is compared anew.
    async fn verify(&self, found: Vec<Candidate>) -> BackendResult<Vec<VectorHit>> {
        let best = best_chunks(found);
        let needs_passage = best.iter().any(|candidate| candidate.passage.is_none());
        if self.filter.is_none() && !needs_passage {
            return Ok(best.into_iter().map(|c| hit(&c, None)).collect());
        }
        let ids: Vec<Arc<str>> = best.iter().map(|c| Arc::clone(&c.id)).collect();
        let parts = match (self.filter, needs_passage) {
            (Some(_), true) => "fs",
            (Some(_), false) => "f",
            (None, _) => "s",
        };
        let held = self
            .store
            .read(&self.request.collection, &ids, parts)
            .await?;
        let (mut hits, mut changed) = (Vec::new(), Vec::new());
        for (candidate, held) in best.into_iter().zip(held) {
            match held {
                Some(held) if held.head.version != candidate.version => changed.push(candidate.id),
                Some(held) if self.fulfils(&held) => hits.push(hit(&candidate, Some(&held))),
                Some(_) | None => {}
            }
        }
        merge(&mut hits, self.compare(&changed).await?);
        Ok(hits)
    }

    fn fulfils(&self, held: &Held) -> bool {
        match (self.filter, &held.facts) {
            (None, _) => true,
            (Some(filter), Some(facts)) => filter.matches(facts),
            (Some(_), None) => false,
        }
    }

    /// Reads these documents and compares them here.
    async fn compare(&self, ids: &[Arc<str>]) -> BackendResult<Vec<VectorHit>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let parts = if self.filter.is_some() { "fse" } else { "se" };
        let held = self
            .store
            .read(&self.request.collection, ids, parts)
            .await?;
        let compared = ids.iter().zip(held).filter_map(|(id, held)| {
            let held = held.filter(|held| !held.head.deleted && self.fulfils(held))?;
            nearest_chunk(self.space.metric, &self.request.vector, id, &held)
        });
        Ok(compared.collect())
    }

    /// The documents with vectors that no index holds.
    async fn odd_documents(&self) -> BackendResult<Vec<VectorHit>> {
        self.pages(&self.known.keys.odd, false).await
    }

    async fn read_all(&self) -> BackendResult<Vec<VectorHit>> {
        // Every document is as near to a vector without direction, so the first ones by id win.
        let equally_near = self.space.metric == Metric::Cosine
            && self.request.vector.iter().all(|value| *value == 0.0);
        let ids = &self.known.keys.ids;
        self.pages(ids, equally_near)
            .await
            .map(|hits| self.best(hits))
    }

    /// Compares every document of a sorted set, keeping the best.
    async fn pages(&self, key: &str, first_are_best: bool) -> BackendResult<Vec<VectorHit>> {
        let mut best = Vec::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let ids = self.store.page_of(key, after.as_deref(), PAGE).await?;
            best.extend(self.compare(&ids).await?);
            best = self.best(best);
            let enough = first_are_best && best.len() >= self.request.limit;
            if ids.len() < PAGE || enough {
                return Ok(best);
            }
            after = ids.last().cloned();
        }
    }

    /// The best ones, by score and then by id.
    fn best(&self, mut hits: Vec<VectorHit>) -> Vec<VectorHit> {
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(self.request.limit);
        hits
    }
}

/// The first chunk of each document, in the order found; of equally near ones the lowest.
fn best_chunks(found: Vec<Candidate>) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::new();
    let mut at: HashMap<Arc<str>, usize> = HashMap::new();
    for candidate in found {
        match at.get(&candidate.id) {
            None => {
                at.insert(Arc::clone(&candidate.id), best.len());
                best.push(candidate);
            }
            Some(index) => {
                let held = &mut best[*index];
                let nearer = candidate.score > held.score
                    || (candidate.score == held.score && candidate.chunk < held.chunk);
                if nearer {
                    *held = candidate;
                }
            }
        }
    }
    best
}

/// Adds hits; of a document that is in both, the newer one stays, then the better one.
fn merge(hits: &mut Vec<VectorHit>, more: Vec<VectorHit>) {
    for new in more {
        match hits.iter_mut().find(|held| held.id == new.id) {
            None => hits.push(new),
            Some(held) if (held.version, held.score) < (new.version, new.score) => *held = new,
            Some(_) => {}
        }
    }
}

fn hit(candidate: &Candidate, held: Option<&Held>) -> VectorHit {
    let passage = candidate.passage.unwrap_or_else(|| {
        let vectors = held.map_or(&[][..], |held| &held.vectors);
        let own = vectors
            .iter()
            .find(|vector| vector.chunk == candidate.chunk);
        own.and_then(|vector| vector.passage)
    });
    VectorHit::new(
        Arc::clone(&candidate.id),
        candidate.version,
        candidate.score,
        candidate.chunk,
        passage,
    )
}

/// The hit of a document's nearest chunk, the lowest of equally near ones.
fn nearest_chunk(metric: Metric, query: &[f32], id: &Arc<str>, held: &Held) -> Option<VectorHit> {
    held.vectors
        .iter()
        .map(|vector| (metric.score(query, &vector.values), vector))
        .min_by(|(a_score, a), (b_score, b)| b_score.total_cmp(a_score).then(a.chunk.cmp(&b.chunk)))
        .map(|(score, vector)| {
            VectorHit::new(
                Arc::clone(id),
                held.head.version,
                score,
                vector.chunk,
                vector.passage,
            )
        })
}
