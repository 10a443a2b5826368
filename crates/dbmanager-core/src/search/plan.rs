//! Which legs a query runs, with which weights, and which collections' vectors it can compare.

use super::{
    context::{SearchStore, SearchStores},
    fuse::{LEGS, slot},
    validate::has_words,
};
use crate::{
    Error, ErrorKind, Result,
    embed::{Embedder, EmbedderKind},
    model::{Collection, EmbeddingSpace, LegName, LegOutcome, Query, SearchType, Weights},
};

/// The default weights. The semantic share of semantic and metadata together follows judged data:
/// with a language model ½ is best on three collections, with hashed words ½ harms on all three
/// and ⅕ never does. The graph's share of the whole stays low: as an equal voter it harms, and with
/// a fifth of the whole it still does where every document is linked with a hundred others.
pub(super) mod shares {
    /// The semantic leg's share beside the metadata leg, with a language model.
    pub(in super::super) const SEMANTIC: f64 = 0.5;
    /// The semantic leg's share beside the metadata leg, with counted or hashed words.
    pub(in super::super) const LEXICAL: f64 = 0.2;
    /// The graph leg's share of the whole.
    pub(in super::super) const GRAPH: f64 = 0.1;
}

/// The weights of a query that names none.
pub(super) fn default_weights(kind: EmbedderKind) -> Weights {
    let share = match kind {
        EmbedderKind::Semantic => shares::SEMANTIC,
        EmbedderKind::Lexical => shares::LEXICAL,
    };
    let others = 1.0 - shares::GRAPH;
    Weights {
        semantic: others * share,
        metadata: others * (1.0 - share),
        graph: shares::GRAPH,
    }
}

/// What becomes of a leg.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LegPlan {
    /// It is asked, with this weight; the weights of the legs that are asked sum to 1.
    Run { weight: f64 },
    /// It is not.
    Skip {
        /// Why, as the report says it.
        outcome: LegOutcome,
        /// Why, in words.
        note: &'static str,
    },
}

/// Whether a collection's vectors can be compared with the query's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VectorTarget {
    /// They can.
    Ask,
    /// It has none yet: nothing is missed.
    Empty,
    /// The caller made them without naming a model, and the query brings no vector.
    CallerVectors,
    /// They have another dimension than the query's vector.
    OtherDimension,
    /// Another model than the embedder's made them.
    OtherModel,
}

/// What a query does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What becomes of each leg, in the order of [`LEGS`].
    pub(super) legs: [LegPlan; 3],
    /// For each collection of the scope.
    pub(super) targets: Vec<VectorTarget>,
}

impl Plan {
    /// Whether the leg is asked.
    pub(super) fn runs(&self, leg: LegName) -> bool {
        matches!(self.legs[slot(leg)], LegPlan::Run { .. })
    }

    /// The leg's weight; 0 if it is not asked.
    pub(super) fn weight(&self, leg: LegName) -> f64 {
        match self.legs[slot(leg)] {
            LegPlan::Run { weight } => weight,
            LegPlan::Skip { .. } => 0.0,
        }
    }
}

/// Plans a valid query.
///
/// # Errors
/// The query's vector fits no collection (`InvalidInput`), or no leg that the query wants has a
/// store (`Unsupported`).
pub(super) fn plan(
    query: &Query,
    scope: &[Collection],
    stores: &SearchStores,
    embedder: Option<&dyn Embedder>,
) -> Result<Plan> {
    let targets = targets(query, scope, embedder)?;
    let weights = match (query.search_type, query.weights) {
        (SearchType::Hybrid, Some(weights)) => weights,
        (SearchType::Hybrid, None) => default_weights(kind(scope, &targets, embedder)),
        _ => Weights {
            semantic: 1.0,
            metadata: 1.0,
            graph: 1.0,
        },
    };
    let skips = [
        skip_semantic(query, stores, &targets, embedder),
        skip_metadata(query, stores),
        skip_graph(query, stores),
    ];
    let mut legs = LEGS.map(|leg| {
        let weight = match leg {
            LegName::Semantic => weights.semantic,
            LegName::Metadata => weights.metadata,
            LegName::Graph => weights.graph,
        };
        match (wanted(query.search_type, leg), skips[slot(leg)].clone()) {
            (false, _) => not_asked("not part of this search type"),
            (true, Some(skip)) => skip,
            (true, None) if weight == 0.0 => not_asked("its weight is 0"),
            (true, None) => LegPlan::Run { weight },
        }
    });
    let sum: f64 = legs
        .iter()
        .map(|leg| match leg {
            LegPlan::Run { weight } => *weight,
            LegPlan::Skip { .. } => 0.0,
        })
        .sum();
    for leg in &mut legs {
        if let LegPlan::Run { weight } = leg {
            *weight /= sum;
        }
    }
    if sum == 0.0 {
        return Err(nothing_to_ask(query, &legs));
    }
    Ok(Plan { legs, targets })
}

/// Whether a search of this type has this leg.
pub(super) fn wanted(search_type: SearchType, leg: LegName) -> bool {
    match search_type {
        SearchType::Hybrid => true,
        SearchType::Semantic => leg == LegName::Semantic,
        SearchType::Metadata => leg == LegName::Metadata,
        SearchType::Graph => leg == LegName::Graph,
    }
}

fn not_asked(note: &'static str) -> LegPlan {
    LegPlan::Skip {
        outcome: LegOutcome::NotAsked,
        note,
    }
}

fn not_configured(note: &'static str) -> LegPlan {
    LegPlan::Skip {
        outcome: LegOutcome::NotConfigured,
        note,
    }
}

fn nothing_to_ask(query: &Query, legs: &[LegPlan; 3]) -> Error {
    let mut error = Error::new(
        ErrorKind::Unsupported,
        "no configured store can answer this search",
    );
    for (leg, plan) in LEGS.iter().zip(legs) {
        if let (true, LegPlan::Skip { note, .. }) = (wanted(query.search_type, *leg), plan) {
            error = error.with(leg.as_str(), note);
        }
    }
    error
}

fn skip_semantic(
    query: &Query,
    stores: &SearchStores,
    targets: &[VectorTarget],
    embedder: Option<&dyn Embedder>,
) -> Option<LegPlan> {
    if matches!(stores.vector, SearchStore::NotConfigured) {
        return Some(not_configured("no vector store is configured"));
    }
    if query.vector.is_some() {
        return None;
    }
    if !has_words(query) {
        return Some(not_asked("the query has neither words nor a vector"));
    }
    if embedder.is_none() {
        return Some(not_configured(
            "no embedder is configured and the query brings no vector",
        ));
    }
    let callers = |target: &VectorTarget| *target == VectorTarget::CallerVectors;
    (!targets.is_empty() && targets.iter().all(callers)).then(|| {
        not_configured("the caller made the collection's vectors and the query brings none")
    })
}

fn skip_metadata(query: &Query, stores: &SearchStores) -> Option<LegPlan> {
    let others = query.vector.is_some() || !query.seeds.is_empty();
    match &stores.relational {
        SearchStore::NotConfigured => Some(not_configured("no relational store is configured")),
        SearchStore::Ready { backend, .. }
            if has_words(query) && !backend.capabilities().full_text =>
        {
            Some(not_configured("the relational store has no full text"))
        }
        // Beside another leg, a list of all that fulfils the filter would say nothing.
        _ if !has_words(query) && (query.filter.is_none() || others) => {
            Some(not_asked("the query has no words"))
        }
        _ => None,
    }
}

fn skip_graph(query: &Query, stores: &SearchStores) -> Option<LegPlan> {
    if matches!(stores.graph, SearchStore::NotConfigured) {
        return Some(not_configured("no graph store is configured"));
    }
    let start = has_words(query) || !query.seeds.is_empty() || query.vector.is_some();
    (!start).then(|| not_asked("the query has nothing to start from"))
}

fn targets(
    query: &Query,
    scope: &[Collection],
    embedder: Option<&dyn Embedder>,
) -> Result<Vec<VectorTarget>> {
    let target = |collection: &Collection| {
        let Some(space) = &collection.options.embedding_space else {
            return VectorTarget::Empty;
        };
        match (&query.vector, embedder) {
            (Some(vector), _) if vector.len() == space.dimension as usize => VectorTarget::Ask,
            (Some(_), _) => VectorTarget::OtherDimension,
            (None, Some(embedder)) if embedder.model() == space.model => VectorTarget::Ask,
            (None, _) if space.model == EmbeddingSpace::CALLER => VectorTarget::CallerVectors,
            (None, _) => VectorTarget::OtherModel,
        }
    };
    let targets: Vec<VectorTarget> = scope.iter().map(target).collect();
    let wrong = targets
        .iter()
        .position(|t| *t == VectorTarget::OtherDimension);
    match (wrong, &query.vector) {
        (Some(index), Some(vector)) if !targets.contains(&VectorTarget::Ask) => {
            let space = scope[index].options.embedding_space.as_ref();
            Err(Error::new(
                ErrorKind::InvalidInput,
                "vector has another dimension than the collection's",
            )
            .with("dimension", vector.len())
            .with("expected", space.map_or(0, |space| space.dimension))
            .with("collection", &scope[index].key.name))
        }
        _ => Ok(targets),
    }
}

/// The kind of the vectors that will be compared; vectors that the caller made are taken to come
/// from a language model.
fn kind(
    scope: &[Collection],
    targets: &[VectorTarget],
    embedder: Option<&dyn Embedder>,
) -> EmbedderKind {
    let of_embedder = |embedder: &dyn Embedder| {
        scope.iter().zip(targets).any(|(collection, target)| {
            let space = collection.options.embedding_space.as_ref();
            *target == VectorTarget::Ask && space.is_some_and(|s| s.model == embedder.model())
        })
    };
    match embedder {
        Some(embedder) if of_embedder(embedder) => embedder.kind(),
        _ => EmbedderKind::Semantic,
    }
}
