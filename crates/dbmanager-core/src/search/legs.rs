//! The semantic and the metadata leg, and how a leg asks its store about every collection.

use std::{collections::HashSet, pin::Pin, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{
    context::SearchStore,
    fuse::LegHit,
    leg::{Failure, Leg},
    plan::VectorTarget,
    under_way::Search,
};
use crate::{
    Error, ErrorKind,
    backend::{
        BackendErrorKind, BackendResult, TextHit, TextSearchRequest, VectorHit, VectorSearchRequest,
    },
    model::{CollectionKey, LegName, LegOutcome},
};

/// The most collections asked at the same time by one leg.
const CONCURRENT_COLLECTIONS: usize = 8;
/// What each collection answered, by its place in the scope.
pub(super) type Answers<T> = Vec<(u32, BackendResult<Vec<T>>)>;

/// A request to a store that is under way.
pub(super) type Asked<'a, T> = Pin<Box<dyn Future<Output = BackendResult<Vec<T>>> + Send + 'a>>;

/// Asks every collection, a bounded number at a time. One that no store has is empty: stores get a
/// collection with its first document.
pub(super) async fn ask<'a, T: Send + 'a>(
    search: &Search<'_>,
    requests: Vec<(u32, Asked<'a, T>)>,
) -> Answers<T> {
    let (places, requests): (Vec<u32>, Vec<Asked<'a, T>>) = requests.into_iter().unzip();
    let answers: Vec<_> = stream::iter(requests)
        .buffered(CONCURRENT_COLLECTIONS)
        .collect()
        .await;
    let mut answers: Answers<T> = places.into_iter().zip(answers).collect();
    for (place, answer) in &mut answers {
        if let Err(error) = answer
            && error.kind() == BackendErrorKind::CollectionMissing
            && search.stores.lack(&search.scope[*place as usize].key).await
        {
            *answer = Ok(Vec::new());
        }
    }
    answers
}

/// The store to ask and whether it has caught up; or why it cannot be asked.
pub(super) fn ready<B: ?Sized>(store: &SearchStore<B>) -> Result<(&Arc<B>, bool), Failure> {
    match store {
        SearchStore::Ready { backend, caught_up } => Ok((backend, *caught_up)),
        SearchStore::Unavailable(error) => Err(Failure::from(error)),
        SearchStore::NotConfigured => Err(Failure {
            outcome: LegOutcome::NotConfigured,
            kind: ErrorKind::Unsupported,
            message: "no store is configured".to_owned(),
            retryable: false,
        }),
    }
}

pub(super) fn of_vector(collection: u32, hit: VectorHit) -> LegHit {
    LegHit {
        collection,
        id: hit.id,
        version: hit.version,
        score: hit.score,
        passage: hit.passage,
        detail: None,
    }
}

pub(super) fn of_text(collection: u32, hit: TextHit) -> LegHit {
    LegHit {
        collection,
        id: hit.id,
        version: hit.version,
        score: hit.score,
        passage: None,
        detail: None,
    }
}

/// The semantic leg: nearest neighbours of the query's vector.
pub(super) async fn semantic(search: &Search<'_>, size: usize) -> Leg {
    let mut leg = Leg::new(LegName::Semantic);
    let (backend, caught_up) = match ready(&search.stores.vector) {
        Ok(store) => store,
        Err(failure) => return Leg::failed(LegName::Semantic, failure),
    };
    note_targets(search, &mut leg);
    if !search.plan.targets.contains(&VectorTarget::Ask) {
        if leg.failure.is_none() {
            leg.answer(caught_up);
        }
        return leg;
    }
    let vector = match search.query_vector().await {
        Ok(vector) => vector,
        Err(error) => {
            leg.fail(Failure::from(&error));
            return leg;
        }
    };
    if vector.is_empty() {
        leg.note("the query's words give no vector");
        leg.answer(caught_up);
        return leg;
    }
    let (filter, size) = leg.push_down(search, |filter| backend.can_filter(filter), size);
    let requests = asked_collections(search).map(|(index, key)| {
        let request =
            VectorSearchRequest::new(key.clone(), Arc::clone(&vector), size).filter(filter.clone());
        (index, backend.search_vectors(request))
    });
    let answers = ask(search, requests.collect()).await;
    leg.take(answers, caught_up, size, search, of_vector);
    leg
}

fn asked_collections<'s>(search: &'s Search<'_>) -> impl Iterator<Item = (u32, &'s CollectionKey)> {
    (0..)
        .zip(search.scope.iter().zip(&search.plan.targets))
        .filter(|(_, (_, target))| **target == VectorTarget::Ask)
        .map(|(index, (collection, _))| (index, &collection.key))
}

/// Says which collections are left out, and fails the part of those that should not be.
fn note_targets(search: &Search<'_>, leg: &mut Leg) {
    let mut metrics = HashSet::new();
    for (collection, target) in search.scope.iter().zip(&search.plan.targets) {
        let name = &collection.key.name;
        match target {
            VectorTarget::Ask => {
                metrics.extend(
                    collection
                        .options
                        .embedding_space
                        .as_ref()
                        .map(|s| s.metric),
                );
            }
            VectorTarget::Empty => {}
            VectorTarget::CallerVectors => leg.note(format!(
                "collection {name:?} is left out: its vectors are the caller's"
            )),
            VectorTarget::OtherDimension => leg.note(format!(
                "collection {name:?} is left out: its vectors have another dimension"
            )),
            VectorTarget::OtherModel => leg.fail(Failure::from(
                &Error::new(
                    ErrorKind::EmbeddingSpaceMismatch,
                    "the embedder is not the model that made the collection's vectors",
                )
                .with("collection", name),
            )),
        }
    }
    if metrics.len() > 1 {
        leg.note("the collections use different metrics: their scores are not comparable");
    }
}

/// The metadata leg: full text under the filter; without words, what fulfils the filter.
pub(super) async fn metadata(search: &Search<'_>, size: usize) -> Leg {
    let mut leg = Leg::new(LegName::Metadata);
    let (backend, caught_up) = match ready(&search.stores.relational) {
        Ok(store) => store,
        Err(failure) => return Leg::failed(LegName::Metadata, failure),
    };
    let (filter, size) = leg.push_down(search, |filter| backend.can_filter(filter), size);
    let requests = (0..).zip(search.scope).map(|(index, collection)| {
        let request =
            TextSearchRequest::new(collection.key.clone(), Arc::clone(&search.text), size)
                .filter(filter.clone());
        (index, backend.search_text(request))
    });
    let mut answers = ask(search, requests.collect()).await;
    if search.has_words {
        for (index, answer) in &mut answers {
            if keep_matches(answer) {
                let name = &search.scope[*index as usize].key.name;
                leg.note(format!(
                    "the text has no term to look for in collection {name:?}"
                ));
            }
        }
    }
    leg.take(answers, caught_up, size, search, of_text);
    leg
}

/// Leaves only what has matched a term, and says whether there was anything else: a text without
/// any term (signs alone, a word too short for trigrams) has a store list everything, with score 0.
pub(super) fn keep_matches(answer: &mut BackendResult<Vec<TextHit>>) -> bool {
    let Ok(hits) = answer else { return false };
    let before = hits.len();
    hits.retain(|hit| hit.score != 0.0);
    hits.len() < before
}
