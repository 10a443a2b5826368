//! The graph leg: documents whose title matches, and documents near those that a search starts
//! from.
//!
//! A document's score is `t · title + Σ seed · DECAY^distance ÷ √fan-out` over the seeds that
//! reach it: a seed counts by how good it is itself (best 1), less the further away it is, and
//! less the more documents it reaches, for a reference shared with a hundred others says little.
//! `t` is 1 for a graph search and [`HYBRID_TITLE_SHARE`] beside the other legs, where full text
//! has counted the title already.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::join;

use super::{
    fuse::{self, LegHit, LegList},
    legs::{Failure, Leg, Search, ask, ready},
};
use crate::{
    backend::{
        BackendResult, Edges, GraphBackend, IdsRequest, Neighbour, NeighbourhoodRequest, NodeKey,
        TextSearchRequest,
    },
    model::{LegName, SearchType, TraversalDirection, Version},
};

/// What each reference on the way leaves of a seed's score.
const DECAY: f64 = 0.5;
/// The weight of a title match beside the other legs.
const HYBRID_TITLE_SHARE: f64 = 0.5;
/// How many of the best documents the graph is expanded from.
const MAX_SEEDS: usize = 10;

/// How the graph found a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GraphDetail {
    /// By its title.
    Title,
    /// From a seed.
    Reached {
        /// The id of the best seed that reaches it.
        seed: Arc<str>,
        /// The kind of the last reference on the way.
        kind: String,
        /// Whether that reference was followed from its source to its target.
        forward: bool,
        /// References on the way.
        distance: usize,
        /// How many other seeds reach it.
        others: usize,
    },
}

impl std::fmt::Display for GraphDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Reached {
            seed,
            kind,
            forward,
            distance,
            others,
        } = self
        else {
            return f.write_str("title match");
        };
        let side = if *forward { "from" } else { "to" };
        if *distance == 1 {
            write!(f, "via {kind} {side} {seed}")?;
        } else {
            let way = if *forward { "forward" } else { "backward" };
            write!(
                f,
                "{distance} references from {seed}, the last via {kind} {way}"
            )?;
        }
        match others {
            0 => Ok(()),
            1 => f.write_str(" and from 1 other"),
            _ => write!(f, " and from {others} others"),
        }
    }
}

/// A document the expansion starts from.
#[derive(Clone, Debug)]
pub(super) struct Seed {
    /// The document.
    key: NodeKey,
    /// How good it is; the best is 1.
    score: f64,
}

/// Where the expansion starts.
#[derive(Debug, Default)]
pub(super) struct Seeds {
    all: Vec<Seed>,
    /// Whether the query named them: then they are not looked for and no hits themselves.
    named: bool,
}

/// The title matches of every collection; the graph leg so far.
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
    let answers = ask(requests.collect()).await;
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
pub(super) fn choose_seeds(search: &Search<'_>, others: &[&Leg], titles: &Leg) -> Seeds {
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
    let lists: Vec<LegList<'_>> = if others.iter().any(|leg| !leg.hits.is_empty()) {
        others.iter().map(|leg| search.list(leg)).collect()
    } else {
        vec![LegList {
            weight: 1.0,
            ..search.list(titles)
        }]
    };
    let best = fuse::fuse(search.query.fusion, &lists, MAX_SEEDS);
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

/// The title matches together with what the seeds reach.
pub(super) async fn expand(search: &Search<'_>, titles: Leg, seeds: &Seeds, size: usize) -> Leg {
    let mut leg = titles;
    let Ok((backend, caught_up)) = ready(&search.stores.graph) else {
        // The title matches have said so, unless the query names seeds and they were not asked.
        if let (Err(failure), true) = (ready(&search.stores.graph), seeds.named) {
            leg.fail(failure);
        }
        return leg;
    };
    let mut reached = Reached::new(search, &seeds.all);
    if !seeds.all.is_empty() {
        let start = search.context.runtime().monotonic();
        let (neighbours, links) = join(
            search.until(
                search.deadlines.expansion,
                ask_neighbours(search, &**backend, seeds, size),
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
                leg.saturated |= neighbours.len() >= size;
                reached.add_neighbours(&neighbours);
            }
            Err(error) => leg.fail(Failure::from(&error)),
        }
        leg.elapsed += search.context.runtime().monotonic().saturating_sub(start);
    }
    reached.merge_into(&mut leg, size);
    leg
}

async fn ask_neighbours(
    search: &Search<'_>,
    backend: &dyn GraphBackend,
    seeds: &Seeds,
    size: usize,
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
        .limit(size);
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
    for (index, answer) in ask(requests.collect()).await {
        let key = &search.scope[index as usize].key;
        for (id, edges) in by_collection[&index].iter().zip(answer?) {
            links.extend(edges.map(|edges| (NodeKey::new(key.clone(), Arc::clone(id)), edges)));
        }
    }
    Ok(links)
}

/// What is reached from the seeds, while it is put together.
struct Reached<'a> {
    search: &'a Search<'a>,
    seeds: &'a [Seed],
    found: HashMap<(u32, Arc<str>), Found>,
    /// How many documents each seed reaches.
    fan_out: Vec<usize>,
}

struct Found {
    version: Version,
    distance: usize,
    via: (String, bool),
    seeds: Vec<usize>,
}

impl<'a> Reached<'a> {
    fn new(search: &'a Search<'a>, seeds: &'a [Seed]) -> Self {
        Self {
            search,
            seeds,
            found: HashMap::new(),
            fan_out: vec![0; seeds.len()],
        }
    }

    fn add_neighbours(&mut self, neighbours: &[Neighbour]) {
        for neighbour in neighbours {
            for seed in &neighbour.seeds {
                self.add(
                    &neighbour.node,
                    neighbour.version,
                    neighbour.distance,
                    (&neighbour.via.0, neighbour.via.1),
                    *seed,
                );
            }
        }
    }

    fn add_links(&mut self, links: &[(NodeKey, Edges)]) {
        // By name: a reference names no generation. Only what the graph holds live is linked.
        let ends: HashMap<(&str, &str), (usize, Version)> = links
            .iter()
            .filter_map(|(key, edges)| {
                let place = self.seeds.iter().position(|seed| seed.key == *key)?;
                Some(((&*key.collection.name, &*key.id), (place, edges.version)))
            })
            .collect();
        let query = self.search.query;
        for (source, edges) in links {
            for reference in &edges.references {
                let collection = reference.collection.as_deref();
                let target = (
                    collection.unwrap_or(&source.collection.name),
                    reference.target.as_str(),
                );
                let (Some(from), Some(to)) = (
                    ends.get(&(&*source.collection.name, &*source.id)),
                    ends.get(&target),
                ) else {
                    continue;
                };
                let followed =
                    query.edge_kinds.is_empty() || query.edge_kinds.contains(&reference.kind);
                if !followed || from == to {
                    continue;
                }
                let seeds = self.seeds;
                let mut link = |(target, version): (usize, Version), seed: usize, forward| {
                    self.add(
                        &seeds[target].key,
                        version,
                        1,
                        (&reference.kind, forward),
                        seed,
                    );
                };
                if query.direction != TraversalDirection::Incoming {
                    link(*to, from.0, true);
                }
                if query.direction != TraversalDirection::Outgoing {
                    link(*from, to.0, false);
                }
            }
        }
    }

    fn add(
        &mut self,
        node: &NodeKey,
        version: Version,
        distance: usize,
        (kind, forward): (&str, bool),
        seed: usize,
    ) {
        let (Some(collection), Some(fan_out)) = (
            self.search.index_of(&node.collection),
            self.fan_out.get_mut(seed),
        ) else {
            return;
        };
        let found = self
            .found
            .entry((collection, Arc::clone(&node.id)))
            .or_insert_with(|| Found {
                version,
                distance,
                via: (kind.to_owned(), forward),
                seeds: Vec::new(),
            });
        if !found.seeds.contains(&seed) {
            found.seeds.push(seed);
            *fan_out += 1;
        }
    }

    fn score(&self, found: &Found) -> f64 {
        let decay = DECAY.powi(i32::try_from(found.distance).unwrap_or(i32::MAX));
        found
            .seeds
            .iter()
            .map(|seed| self.seeds[*seed].score * decay / (self.fan_out[*seed] as f64).sqrt())
            .sum()
    }

    /// Adds what was reached to the title matches.
    fn merge_into(mut self, leg: &mut Leg, size: usize) {
        let share = match self.search.query.search_type {
            SearchType::Hybrid => HYBRID_TITLE_SHARE,
            SearchType::Graph | SearchType::Semantic | SearchType::Metadata => 1.0,
        };
        for found in self.found.values_mut() {
            found.seeds.sort_unstable();
        }
        for hit in &mut leg.hits {
            hit.score *= share;
            let key = (hit.collection, Arc::clone(&hit.id));
            if let Some(found) = self.found.get(&key) {
                hit.score += self.score(found);
                hit.detail = Some(self.detail(found));
                self.found.remove(&key);
            }
        }
        let reached = self.found.iter().map(|((collection, id), found)| LegHit {
            collection: *collection,
            id: Arc::clone(id),
            version: found.version,
            score: self.score(found),
            passage: None,
            detail: Some(self.detail(found)),
        });
        leg.hits.extend(reached);
        fuse::sort_hits(&mut leg.hits);
        leg.hits.truncate(size);
    }

    fn detail(&self, found: &Found) -> Arc<GraphDetail> {
        let best = found
            .seeds
            .iter()
            .max_by(|left, right| {
                self.seeds[**left]
                    .score
                    .total_cmp(&self.seeds[**right].score)
            })
            .map(|seed| Arc::clone(&self.seeds[*seed].key.id))
            .unwrap_or_default();
        Arc::new(GraphDetail::Reached {
            seed: best,
            kind: found.via.0.clone(),
            forward: found.via.1,
            distance: found.distance,
            others: found.seeds.len().saturating_sub(1),
        })
    }
}
