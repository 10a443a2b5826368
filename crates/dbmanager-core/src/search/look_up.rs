//! Scores of documents that only other legs found, asked of a leg's own store.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    fuse::LegHit,
    leg::Leg,
    legs::{Answers, ask, keep_matches, of_text, of_vector, ready},
    plan::VectorTarget,
    under_way::Search,
};
use crate::{
    backend::{BackendError, TextSearchRequest, VectorSearchRequest},
    model::Fusion,
};

/// Whether documents that only another leg found are scored in the vector store too, which is a
/// few hundred comparisons of vectors.
const LOOK_UP_SEMANTIC: bool = true;
/// Whether documents that only another leg found are scored by full text too.
const LOOK_UP_METADATA: bool = true;

/// The ids of `others` that `own` may know but did not rank, by collection. A list that came short
/// holds everything its store has to say.
fn missing(own: &Leg, others: &[&Leg]) -> BTreeMap<u32, Vec<Arc<str>>> {
    let mut missing: BTreeMap<u32, Vec<Arc<str>>> = BTreeMap::new();
    if !own.saturated {
        return missing;
    }
    let mut known: HashSet<(u32, &str)> = own
        .hits
        .iter()
        .map(|hit| (hit.collection, &*hit.id))
        .collect();
    for hit in others.iter().flat_map(|leg| &leg.hits) {
        if known.insert((hit.collection, &hit.id)) {
            missing
                .entry(hit.collection)
                .or_default()
                .push(Arc::clone(&hit.id));
        }
    }
    missing
}

/// Whether looking scores up in other legs can change the ranking.
fn looks_up(search: &Search<'_>) -> bool {
    !matches!(search.query.fusion, Fusion::Rrf { .. })
}

/// What the vector store says of documents that only other legs found.
pub(super) async fn semantic(search: &Search<'_>, own: &Leg, others: &[&Leg]) -> Answers<LegHit> {
    let Ok((backend, _)) = ready(&search.stores.vector) else {
        return Vec::new();
    };
    let Some(vector) = search
        .known_vector()
        .filter(|_| LOOK_UP_SEMANTIC && looks_up(search))
    else {
        return Vec::new();
    };
    let filter = search.filter.clone().filter(|_| own.filtered);
    let requests = missing(own, others).into_iter().filter_map(|(index, ids)| {
        if search.plan.targets[index as usize] != VectorTarget::Ask {
            return None;
        }
        let key = search.scope[index as usize].key.clone();
        let request = VectorSearchRequest::new(key, Arc::clone(vector), ids.len())
            .filter(filter.clone())
            .restrict_to(ids);
        Some((index, backend.search_vectors(request)))
    });
    converted(ask(search, requests.collect()).await, of_vector)
}

/// What full text says of documents that only other legs found.
pub(super) async fn metadata(search: &Search<'_>, own: &Leg, others: &[&Leg]) -> Answers<LegHit> {
    let Ok((backend, _)) = ready(&search.stores.relational) else {
        return Vec::new();
    };
    if !(LOOK_UP_METADATA && looks_up(search) && search.has_words) {
        return Vec::new();
    }
    let filter = search.filter.clone().filter(|_| own.filtered);
    let requests = missing(own, others).into_iter().map(|(index, ids)| {
        let key = search.scope[index as usize].key.clone();
        let request = TextSearchRequest::new(key, Arc::clone(&search.text), ids.len())
            .filter(filter.clone())
            .restrict_to(ids);
        (index, backend.search_text(request))
    });
    let mut answers = ask(search, requests.collect()).await;
    for (_, answer) in &mut answers {
        keep_matches(answer);
    }
    converted(answers, of_text)
}

fn converted<T>(answers: Answers<T>, convert: impl Fn(u32, T) -> LegHit) -> Answers<LegHit> {
    answers
        .into_iter()
        .map(|(index, answer)| {
            (
                index,
                answer.map(|hits| hits.into_iter().map(|hit| convert(index, hit)).collect()),
            )
        })
        .collect()
}

impl Leg {
    /// Takes in scores that were looked up. Their failure costs no hit, so the leg has answered.
    pub(super) fn take_looked_up(&mut self, answers: Result<Answers<LegHit>, BackendError>) {
        let answers = answers.unwrap_or_else(|error| vec![(0, Err(error))]);
        for (_, answer) in answers {
            match answer {
                Ok(hits) => self
                    .looked_up
                    .extend(hits.into_iter().filter(|hit| hit.score.is_finite())),
                Err(error) => {
                    self.note(format!("scores of other legs' hits not looked up: {error}"));
                }
            }
        }
    }
}
