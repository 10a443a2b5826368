//! Near vectors: the server finds chunks, the heads say which of them count.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, VectorHit, VectorSearchRequest},
    model::{EmbeddingSpace, Metric},
};
use qdrant_client::qdrant::{
    Condition, DenseVector, Filter as Conditions, Query, QueryPoints, RepeatedStrings, ScoredPoint,
    SearchParams, VectorInput, r#match::MatchValue, query, vector_input,
};

use super::{
    client::Selection,
    collections::Held,
    filter::{Clause, compile, matches},
    layout::{
        self, FoundChunk, HIT_FIELDS, ID, Payload, StoredHead, VECTOR, of_document, of_version,
    },
    read::on,
    store::Qdrant,
};

/// Chunks asked for at first, for each document wanted: some will be of the same document.
const CHUNKS_A_DOCUMENT: usize = 2;
/// By how much more is asked for when too few documents came.
const GROWTH: usize = 4;
/// Chunks from which on equal scores are no longer followed to their end: beyond it which of the
/// documents with the last score are returned is the server's choice.
const MOST_FOR_TIES: usize = 10_000;
/// How often documents that changed during the search are looked up.
const MOST_LOOKUPS: usize = 5;

/// A search in the server's terms.
struct Search<'a> {
    held: &'a Held,
    metric: Metric,
    vector: Vec<f32>,
    must: Vec<Condition>,
    limit: usize,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    heads: HashMap<Arc<str>, StoredHead>,
    /// The best chunk of each document that counts.
    best: HashMap<Arc<str>, VectorHit>,
    /// Documents of which chunks of an older version than the head's were found.
    overtaken: HashSet<Arc<str>>,
}

impl Found {
    fn take(&mut self, id: &Arc<str>, chunk: &FoundChunk, score: f64) {
        let hit = VectorHit::new(
            Arc::clone(id),
            chunk.version,
            score,
            chunk.number,
            chunk.passage,
        );
        let better = self.best.get(id).is_none_or(|held| {
            hit.version > held.version
                || (hit.version == held.version
                    && (hit.score > held.score
                        || (hit.score == held.score && hit.chunk < held.chunk)))
        });
        if better {
            self.best.insert(Arc::clone(id), hit);
        }
    }

    /// By score descending, then id ascending.
    fn ranked(&self) -> Vec<VectorHit> {
        let mut hits: Vec<VectorHit> = self.best.values().cloned().collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits
    }

    /// Whether nothing that was not found yet can stand among the first `limit`, when every chunk
    /// with a score above `last` has been found.
    fn suffices(&self, limit: usize, last: f64) -> bool {
        let ranked = self.ranked();
        ranked.get(limit - 1).is_some_and(|hit| hit.score > last)
    }
}

fn refused(query: usize, space: &EmbeddingSpace) -> BackendError {
    BackendError::new(
        BackendErrorKind::Refused,
        format!(
            "the query's vector has {query} numbers, the collection's have {}",
            space.dimension
        ),
    )
    .not_applied()
}

impl Search<'_> {
    fn points(&self, more: Vec<Condition>, limit: usize, exact: bool) -> QueryPoints {
        let selection = Selection {
            fields: &HIT_FIELDS,
            vectors: false,
        };
        let nearest = VectorInput {
            variant: Some(vector_input::Variant::Dense(DenseVector {
                data: self.vector.clone(),
            })),
        };
        QueryPoints {
            collection_name: self.held.name.clone(),
            query: Some(Query {
                variant: Some(query::Variant::Nearest(nearest)),
            }),
            using: Some(VECTOR.to_owned()),
            filter: Some(Conditions {
                must: self.must.iter().cloned().chain(more).collect(),
                ..Conditions::default()
            }),
            params: Some(SearchParams {
                exact: Some(exact),
                ..SearchParams::default()
            }),
            limit: Some(limit as u64),
            with_payload: Some(selection.payload()),
            with_vectors: Some(selection.vectors()),
            ..QueryPoints::default()
        }
    }
}

impl Qdrant {
    pub(super) async fn search(
        &self,
        request: &VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let filter = request.filter.as_deref().map(compile).transpose()?;
        let held = self.held(&request.collection).await?;
        let Some(space) = held.space() else {
            return Ok(Vec::new());
        };
        if request.vector.len() != space.dimension as usize {
            return Err(refused(request.vector.len(), space));
        }
        let mut must = Vec::new();
        let mut nothing = request.limit == 0;
        match filter {
            None | Some(Clause::Always) => {}
            Some(Clause::Never) => nothing = true,
            Some(Clause::When(condition)) => must.push(condition),
        }
        if let Some(only) = &request.restrict_to {
            nothing |= only.is_empty();
            let strings = only.iter().map(|id| id.to_string()).collect();
            must.push(matches(
                ID,
                MatchValue::Keywords(RepeatedStrings { strings }),
            ));
        }
        if nothing {
            // Found without the server, but only in a collection that is there.
            return self.fresh(&request.collection).await.map(|_| Vec::new());
        }
        let search = Search {
            held: &held,
            metric: space.metric,
            vector: layout::comparable(space.metric, &request.vector),
            must,
            limit: request.limit,
        };
        let mut found = Found::default();
        self.fill(&search, request.exact, &mut found).await?;
        self.look_up_overtaken(&search, &mut found).await?;
        let mut hits = found.ranked();
        hits.truncate(request.limit);
        Ok(hits)
    }

    /// Asks for more chunks until the first `limit` documents are known, or there are no more.
    async fn fill(
        &self,
        search: &Search<'_>,
        mut exact: bool,
        found: &mut Found,
    ) -> BackendResult<()> {
        let mut chunks = search.limit.saturating_mul(CHUNKS_A_DOCUMENT).max(16);
        loop {
            let hits = self.ask(search, vec![search.points(Vec::new(), chunks, exact)]);
            let hits = hits.await?.pop().unwrap_or_default();
            let last = hits
                .last()
                .map(|hit| layout::score(search.metric, hit.score));
            let exhausted = hits.len() < chunks;
            self.count(search, found, hits).await?;
            let enough = found.best.len() >= search.limit;
            if exhausted && (exact || enough) {
                return Ok(());
            }
            if exhausted {
                // An index may have missed some of what is there; a scan does not.
                exact = true;
                continue;
            }
            let tied = last.is_some_and(|last| !found.suffices(search.limit, last));
            if enough && (!tied || chunks >= MOST_FOR_TIES) {
                return Ok(());
            }
            chunks = chunks.saturating_mul(GROWTH);
        }
    }

    async fn ask(
        &self,
        search: &Search<'_>,
        queries: Vec<QueryPoints>,
    ) -> BackendResult<Vec<Vec<ScoredPoint>>> {
        let answer = self.client.query(&search.held.name, queries).await;
        let answer = on(search.held, answer);
        if let Err(error) = &answer
            && error.kind() == BackendErrorKind::CollectionMissing
        {
            self.forget(&search.held.key);
        }
        answer
    }

    /// Takes the hits that are chunks of the version their document's head has.
    async fn count(
        &self,
        search: &Search<'_>,
        found: &mut Found,
        hits: Vec<ScoredPoint>,
    ) -> BackendResult<()> {
        let mut chunks = Vec::with_capacity(hits.len());
        for hit in &hits {
            let chunk = Payload(&hit.payload).chunk()?;
            let score = layout::score(search.metric, hit.score);
            chunks.push((Arc::<str>::from(chunk.id.as_str()), chunk, score));
        }
        // Chunks read now are held against heads read after them: an older head would hide a set
        // that is newer and complete.
        let ids: HashSet<&Arc<str>> = chunks.iter().map(|(id, ..)| id).collect();
        let heads = self.read_heads(search.held, ids).await?;
        found.heads.extend(heads);
        for (id, chunk, score) in &chunks {
            let Some(head) = found.heads.get(id) else {
                continue;
            };
            if head.head.deleted || chunk.version > head.head.version {
                continue;
            }
            if chunk.version < head.head.version {
                found.overtaken.insert(Arc::clone(id));
            } else if chunk.ordinal < head.chunks {
                found.take(id, chunk, *score);
            }
        }
        let heads = &found.heads;
        found
            .best
            .retain(|id, hit| heads.get(id).is_some_and(|h| h.head.version == hit.version));
        Ok(())
    }

    /// Documents that were found in an older version than they have now by the time their heads
    /// were read may be just as near in the newer one.
    async fn look_up_overtaken(&self, search: &Search<'_>, found: &mut Found) -> BackendResult<()> {
        for _ in 0..MOST_LOOKUPS {
            let best = &found.best;
            found.overtaken.retain(|id| !best.contains_key(id));
            let open: Vec<Arc<str>> = found.overtaken.drain().collect();
            if open.is_empty() {
                return Ok(());
            }
            let queries = open.iter().filter_map(|id| {
                let head = found.heads.get(id)?;
                let mut only = vec![of_document(id)];
                only.extend(of_version(head.head.version));
                Some(search.points(only, 1, true))
            });
            let answers = self.ask(search, queries.collect()).await?;
            let hits: Vec<ScoredPoint> = answers.into_iter().flatten().collect();
            let answered: HashSet<String> = hits
                .iter()
                .map(|hit| Payload(&hit.payload).text(ID).map(str::to_owned))
                .collect::<BackendResult<_>>()?;
            self.count(search, found, hits).await?;
            // Nothing of the version it had: it does not fulfil the request in that version, or
            // it has changed once more.
            let silent: Vec<&Arc<str>> = open
                .iter()
                .filter(|id| !answered.contains(&***id))
                .collect();
            let now = self.read_heads(search.held, silent.iter().copied()).await?;
            for id in silent {
                if now.get(id) != found.heads.get(id) {
                    found.overtaken.insert(Arc::clone(id));
                }
            }
            found.heads.extend(now);
        }
        Ok(())
    }
}
