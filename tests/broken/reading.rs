//! Flaws in what a store finds.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use dbmanager_core::{backend::*, model::*};

use super::{Applied, Flaw, Inner, writing::changed};

#[derive(Debug, Default)]
pub(crate) struct FilterIgnored;

#[async_trait]
impl Flaw for FilterIgnored {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        inner.vector().search_vectors(request.filter(None)).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct FilterAfterLimit;

#[async_trait]
impl Flaw for FilterAfterLimit {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let open = request.clone().filter(None);
        let mut hits = inner.vector().search_vectors(open).await?;
        let fulfil = inner.vector().search_vectors(request).await?;
        hits.retain(|hit| fulfil.contains(hit));
        Ok(hits)
    }
}

#[derive(Debug, Default)]
pub(crate) struct NeWantsField;

#[async_trait]
impl Flaw for NeWantsField {
    async fn list(
        &self,
        inner: &Inner,
        mut request: ListDocumentsRequest,
    ) -> BackendResult<Vec<StoredRecord>> {
        if let Some(filter) = &request.filter
            && let Filter::Compare {
                field,
                comparison: Comparison::Ne,
                ..
            } = &**filter
        {
            let there = Filter::Exists {
                field: field.clone(),
            };
            request.filter = Some(Arc::new(there.and((**filter).clone())));
        }
        inner.relational().list(request).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct OrderedById;

#[async_trait]
impl Flaw for OrderedById {
    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        let mut hits = inner.vector().search_vectors(request).await?;
        hits.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(hits)
    }
}

#[derive(Debug, Default)]
pub(crate) struct LimitPlusOne;

#[async_trait]
impl Flaw for LimitPlusOne {
    async fn search_vectors(
        &self,
        inner: &Inner,
        mut request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        request.limit += 1;
        inner.vector().search_vectors(request).await
    }
}

/// Replaces chunks by their number and leaves those that the new set no longer has.
#[derive(Debug, Default)]
pub(crate) struct StaleChunk;

#[async_trait]
impl Flaw for StaleChunk {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        let ids: Arc<[Arc<str>]> = request.mutations.iter().map(|m| m.id.clone()).collect();
        let asked = IdsRequest::new(request.collection.clone(), ids.clone());
        let held = inner.vector().vectors(asked).await?;
        let held: HashMap<_, _> = ids.iter().zip(held).collect();
        let merged = changed(&request, |mutation| {
            let (Some(Some(old)), Some(new)) = (held.get(&mutation.id), mutation.state.record())
            else {
                return mutation.clone();
            };
            let mut vectors = new.vectors().vectors.clone();
            vectors.extend(old.vectors.iter().skip(vectors.len()).cloned());
            let set = VectorSet {
                vectors,
                ..new.vectors().clone()
            };
            let record = DocumentRecord::new(new.document().clone(), set).unwrap();
            Mutation::upsert(mutation.id.clone(), mutation.version, Arc::new(record))
        });
        inner.shared.apply(merged).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct RestrictIgnored;

#[async_trait]
impl Flaw for RestrictIgnored {
    async fn search_vectors(
        &self,
        inner: &Inner,
        mut request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        request.restrict_to = None;
        inner.vector().search_vectors(request).await
    }
}

/// Deletes with a document the references that others hold to it.
#[derive(Debug, Default)]
pub(crate) struct EdgesRemoved(Mutex<HashSet<String>>);

#[async_trait]
impl Flaw for EdgesRemoved {
    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        for mutation in request.mutations.iter() {
            if mutation.state == DocumentState::Deleted {
                self.0.lock().unwrap().insert(mutation.id.to_string());
            }
        }
        inner.shared.apply(request).await
    }

    async fn edges(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        let mut found = inner.graph().edges(request).await?;
        let removed = self.0.lock().unwrap();
        for edges in found.iter_mut().flatten() {
            edges
                .references
                .retain(|edge| !removed.contains(&edge.target));
        }
        Ok(found)
    }
}

#[derive(Debug, Default)]
pub(crate) struct DirectionIgnored;

#[async_trait]
impl Flaw for DirectionIgnored {
    async fn neighbourhood(
        &self,
        inner: &Inner,
        request: NeighbourhoodRequest,
    ) -> BackendResult<Vec<Neighbour>> {
        let request = request.direction(TraversalDirection::Both);
        inner.graph().neighbourhood(request).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct DistinctWords;

#[async_trait]
impl Flaw for DistinctWords {
    async fn search_text(
        &self,
        inner: &Inner,
        mut request: TextSearchRequest,
    ) -> BackendResult<Vec<TextHit>> {
        let mut seen = HashSet::new();
        let words: Vec<&str> = request
            .text
            .split(' ')
            .filter(|word| seen.insert(*word))
            .collect();
        request.text = words.join(" ").into();
        inner.relational().search_text(request).await
    }
}

#[derive(Debug, Default)]
pub(crate) struct MinusExcludes;

#[async_trait]
impl Flaw for MinusExcludes {
    async fn search_text(
        &self,
        inner: &Inner,
        mut request: TextSearchRequest,
    ) -> BackendResult<Vec<TextHit>> {
        let words = request.text.split(' ');
        let wanted: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
        request.text = wanted.join(" ").into();
        inner.relational().search_text(request).await
    }
}
