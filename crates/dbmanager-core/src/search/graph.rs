//! The graph leg: documents whose title matches, and documents near those that a search starts
//! from.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use futures_util::future::join;

use super::{
    fuse::{self, LEGS, LegHit, LegList, Ranked},
    hydrate::{self, Ranking},
    leg::{Failure, Leg, MAX_CANDIDATES},
    legs::{ask, ready},
    reached::{GraphDetail, Reached},
    under_way::Search,
};
use crate::{
    backend::{
        BackendResult, Edges, GraphBackend, IdsRequest, Neighbour, NeighbourhoodRequest, NodeKey,
        TextSearchRequest,
    },
    model::{LegName, LegOutcome},
};

/// How many of the best documents the graph is expanded from.
const MAX_SEEDS: usize = 10;

/// A document the expansion starts from.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    /// The document.
    pub(super) key: NodeKey,
    /// How good it is; the best is 1.
    pub(super) score: f64,
}

/// Where the expansion starts.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    all: Vec<Seed>,
    /// Whether the query named them: then they are not looked for and no hits themselves.
    named: bool,
}

/// The title matches of every collection; the graph leg so far. Beside the metadata leg they are
/// only asked for where that found nothing.
pub(super) async fn match_titles(search: &Search<'_>, size: usize) -> Leg {
    if !search.has_words || !search.query.seeds.is_empty() {
        return Leg::new(LegName::Graph);
    }
    let (backend, caught_up) = match ready(&search.stores.graph) {
        Ok(store) => store,
        Err(failure) => return Leg::failed(LegName::Graph, failure),
    };
    let requests = (0..).zip(search.scope).map(|(index, collection)| {
        let request =
            TextSearchRequest::new(collection.key.clone(), Arc::clone(&search.text), size);
        (index, backend.match_titles(request))
    });
    let answers = ask(search, requests.collect()).await;
    let mut leg = Leg::new(LegName::Graph);
    leg.take(answers, caught_up, size, search, |collection, hit| LegHit {
        collection,
        id: hit.id,
        version: hit.version,
        score: hit.score,
        passage: None,
        detail: Some(Arc::new(GraphDetail::Title)),
    });
    let best = leg.hits.iter().map(|hit| hit.score).fold(0.0, f64::max);
    for hit in &mut leg.hits {
        hit.score = if best > 0.0 { hit.score / best } else { 1.0 };
    }
    leg
}

/// Where to expand from: the query's seeds, else the best hits of the other legs, else the best
/// title matches.
pub(super) async fn choose_seeds(search: &Search<'_>, others: &[&Leg], titles: &Leg) -> Seeds {
    if !search.query.seeds.is_empty() {
        let named = search.scope.iter().flat_map(|collection| {
            search.query.seeds.iter().map(|id| Seed {
                key: NodeKey::new(collection.key.clone(), id.as_str()),
                score: 1.0,
            })
        });
        return Seeds {
            all: named.collect(),
            named: true,
        };
    }
    let best = best_hits(search, others, titles).await;
    let highest = best.first().map_or(0.0, |ranked| ranked.score);
    let seeds = best
        .into_iter()
        .filter(|ranked| ranked.score > 0.0)
        .map(|ranked| Seed {
            score: ranked.score / highest,
            key: NodeKey::new(
                search.scope[ranked.collection as usize].key.clone(),
                ranked.id,
            ),
        });
    Seeds {
        all: seeds.collect(),
        named: false,
    }
}

/// The best hits of the other legs, else the best title matches: only what the query may show.
async fn best_hits(search: &Search<'_>, others: &[&Leg], titles: &Leg) -> Vec<Ranked> {
    let legs = if others.iter().any(|leg| !leg.hits.is_empty()) {
        others
    } else {
        &[titles][..]
    };
    let lists: Vec<LegList<'_>> = legs
        .iter()
        .map(|leg| LegList {
            weight: if leg.name == LegName::Graph {
                1.0
            } else {
                search.plan.weight(leg.name)
            },
            ..search.list(leg)
        })
        .collect();
    // What a store that has caught up has filtered fulfils the filter.
    let fulfilled =
        |leg: &&Leg| leg.hits.is_empty() || leg.filtered && leg.outcome() == LegOutcome::Answered;
    if search.filter.is_none() || legs.iter().all(fulfilled) {
        return fuse::fuse(search.query.fusion, &lists, MAX_SEEDS);
    }
    let shown = fulfilling(search, legs, &lists).await;
    let shows = |hit: &&LegHit| shown.contains(&(hit.collection, Arc::clone(&hit.id)));
    let hits: Vec<Vec<LegHit>> = legs
        .iter()
        .map(|leg| leg.hits.iter().filter(shows).cloned().collect())
        .collect();
    let lists: Vec<LegList<'_>> = lists
        .iter()
        .zip(&hits)
        .map(|(list, hits)| LegList { hits, ..*list })
        .collect();
    fuse::fuse(search.query.fusion, &lists, MAX_SEEDS)
}

/// The best documents that fulfil the filter. A filter may separate tenants: what a document refers
/// to, and that its title matches, is not to be told to who may not find it.
async fn fulfilling(
    search: &Search<'_>,
    legs: &[&Leg],
    lists: &[LegList<'_>],
) -> HashSet<(u32, Arc<str>)> {
    let filtered = LEGS.map(|name| {
        let mut legs = legs.iter().filter(|leg| leg.name == name);
        legs.all(|leg| leg.filtered || leg.hits.is_empty())
    });
    let ranking = Ranking {
        collections: search.scope.iter().map(|c| c.key.clone()).collect(),
        items: fuse::fuse(search.query.fusion, lists, MAX_CANDIDATES),
        weights: [1.0; 3],
        filtered,
    };
    let until = search.deadlines.expansion;
    hydrate::holding(search.context, &ranking, search.query, MAX_SEEDS, until).await
}

/// The title matches together with what the seeds reach.
pub(super) async fn expand(search: &Search<'_>, titles: Leg, seeds: &Seeds) -> Leg {
    let mut leg = titles;
    let (backend, caught_up) = match ready(&search.stores.graph) {
        Ok(store) => store,
        Err(failure) => {
            leg.fail(failure);
            return leg;
        }
    };
    let mut reached = Reached::new(search, &seeds.all);
    if !seeds.all.is_empty() {
        let start = search.context.runtime().monotonic();
        let (neighbours, links) = join(
            search.until(
                search.deadlines.expansion,
                ask_neighbours(search, &**backend, seeds),
            ),
            search.until(
                search.deadlines.expansion,
                ask_links(search, &**backend, seeds),
            ),
        )
        .await;
        match links.and_then(|answer| answer) {
            Ok(links) => reached.add_links(&links),
            Err(error) => leg.fail(Failure::from(&error)),
        }
        match neighbours.and_then(|answer| answer) {
            Ok(neighbours) => {
                leg.answer(caught_up);
                leg.saturated |= neighbours.len() >= MAX_CANDIDATES;
                reached.add_neighbours(&neighbours);
            }
            Err(error) => leg.fail(Failure::from(&error)),
        }
        leg.elapsed += search.context.runtime().monotonic().saturating_sub(start);
    }
    reached.merge_into(&mut leg);
    leg
}

async fn ask_neighbours(
    search: &Search<'_>,
    backend: &dyn GraphBackend,
    seeds: &Seeds,
) -> BackendResult<Vec<Neighbour>> {
    let keys: Vec<NodeKey> = seeds.all.iter().map(|seed| seed.key.clone()).collect();
    // The ends of one reference lie in the scope; a longer way may pass through any collection.
    let collections = if search.query.depth == 1 {
        search.scope.iter().map(|c| c.key.clone()).collect()
    } else {
        search.context.collections()
    };
    let request = NeighbourhoodRequest::new(keys, collections)
        .depth(search.query.depth)
        .direction(search.query.direction)
        .edge_kinds(search.query.edge_kinds.clone())
        // All of them as a rule: a score says how good a document is among what the seeds reach.
        .limit(MAX_CANDIDATES);
    backend.neighbourhood(request).await
}

/// The references of the seeds, which say how the seeds are linked with each other: a
/// neighbourhood never names a seed, and a document must not lose against its neighbours by being
/// a seed itself.
async fn ask_links(
    search: &Search<'_>,
    backend: &dyn GraphBackend,
    seeds: &Seeds,
) -> BackendResult<Vec<(NodeKey, Edges)>> {
    if seeds.named || seeds.all.len() < 2 {
        return Ok(Vec::new());
    }
    let mut by_collection: BTreeMap<u32, Vec<Arc<str>>> = BTreeMap::new();
    for seed in &seeds.all {
        if let Some(index) = search.index_of(&seed.key.collection) {
            by_collection
                .entry(index)
                .or_default()
                .push(Arc::clone(&seed.key.id));
        }
    }
    let requests = by_collection.iter().map(|(index, ids)| {
        let key = search.scope[*index as usize].key.clone();
        (*index, backend.edges(IdsRequest::new(key, ids.clone())))
    });
    let mut links = Vec::new();
    for (index, answer) in ask(search, requests.collect()).await {
        let key = &search.scope[index as usize].key;
        for (id, edges) in by_collection[&index].iter().zip(answer?) {
            links.extend(edges.map(|edges| (NodeKey::new(key.clone(), Arc::clone(id)), edges)));
        }
    }
    Ok(links)
}
