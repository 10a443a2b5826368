//! Neighbours and paths by breadth-first search over edges read anew for each request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;

use super::{MemoryGraph, place::Data, text};
use crate::{
    backend::{
        BackendResult, Edges, GraphBackend, IdsRequest, Neighbour, NeighbourhoodRequest, NodeKey,
        Path, PathsRequest, TextHit, TextSearchRequest,
    },
    model::{CollectionKey, Reference, TraversalDirection, Version},
};

/// One step from a node: the kind of the edge, whether against its direction, and where it leads.
type Step = (String, Reverse<bool>, NodeKey);

/// The live nodes of some collections and the visible edges between them.
#[derive(Default)]
struct VisibleGraph {
    nodes: BTreeMap<NodeKey, Version>,
    steps: BTreeMap<NodeKey, BTreeSet<Step>>,
}

impl VisibleGraph {
    fn new(
        data: &Data,
        collections: &[CollectionKey],
        direction: TraversalDirection,
        kinds: &[String],
    ) -> Self {
        let mut graph = Self::default();
        let live = || {
            collections
                .iter()
                .filter_map(|key| Some((key, data.collections.get(key)?)))
                .flat_map(|(key, held)| held.live(None, None).map(move |live| (key, live)))
        };
        for (key, (id, version, _)) in live() {
            graph
                .nodes
                .insert(NodeKey::new(key.clone(), Arc::clone(id)), version);
        }
        for (key, (id, _, record)) in live() {
            let source = NodeKey::new(key.clone(), Arc::clone(id));
            for reference in &record.document().references {
                let Some(collection) = target_collection(collections, key, reference) else {
                    continue;
                };
                let target = NodeKey::new(collection.clone(), reference.target.as_str());
                let wanted = kinds.is_empty() || kinds.contains(&reference.kind);
                if wanted && graph.nodes.contains_key(&target) {
                    graph.add_edge(&source, &reference.kind, &target, direction);
                }
            }
        }
        graph
    }

    fn add_edge(
        &mut self,
        source: &NodeKey,
        kind: &str,
        target: &NodeKey,
        direction: TraversalDirection,
    ) {
        let mut step = |from: &NodeKey, forward: bool, to: &NodeKey| {
            let step = (kind.to_owned(), Reverse(forward), to.clone());
            self.steps.entry(from.clone()).or_default().insert(step);
        };
        if direction != TraversalDirection::Incoming {
            step(source, true, target);
        }
        if direction != TraversalDirection::Outgoing {
            step(target, false, source);
        }
    }

    fn steps_from(&self, node: &NodeKey) -> impl Iterator<Item = &Step> {
        self.steps.get(node).into_iter().flatten()
    }

    /// Every node within `depth` steps of a live `start`, itself at distance 0, with the first of
    /// the last steps of the shortest ways to it.
    fn reachable(&self, start: &NodeKey, depth: usize) -> BTreeMap<NodeKey, (usize, Via)> {
        let mut reached = BTreeMap::new();
        if !self.nodes.contains_key(start) {
            return reached;
        }
        reached.insert(start.clone(), (0, (String::new(), true)));
        let mut edge_of_search = vec![start.clone()];
        for distance in 1..=depth {
            let mut found: BTreeMap<NodeKey, Via> = BTreeMap::new();
            for (kind, Reverse(forward), to) in
                edge_of_search.iter().flat_map(|node| self.steps_from(node))
            {
                if !reached.contains_key(to) {
                    found
                        .entry(to.clone())
                        .or_insert_with(|| (kind.clone(), *forward));
                }
            }
            if found.is_empty() {
                break;
            }
            edge_of_search = found.keys().cloned().collect();
            reached.extend(found.into_iter().map(|(node, via)| (node, (distance, via))));
        }
        reached
    }

    /// Adds the paths that go on from `path` and have exactly `left` more steps to `to`.
    fn extend_paths(&self, path: &mut Path, to: &NodeKey, left: usize, found: &mut Found<'_>) {
        let last = path.nodes.last().cloned();
        for next in last.iter().flat_map(|node| self.next_of(node)) {
            if found.paths.len() >= found.limit {
                return;
            }
            let (kind, node) = next;
            let arrives = *node == *to;
            // Nodes too far from the end are left out before they are walked.
            let near = found.distances.get(node).is_some_and(|d| *d < left);
            if !near || arrives != (left == 1) || path.nodes.contains(node) {
                continue;
            }
            path.nodes.push(node.clone());
            path.kinds.push(kind.clone());
            if arrives {
                found.paths.push(path.clone());
            } else {
                self.extend_paths(path, to, left - 1, found);
            }
            path.nodes.pop();
            path.kinds.pop();
        }
    }

    /// The distinct (kind, node) steps, whichever way the edge points.
    fn next_of(&self, node: &NodeKey) -> BTreeSet<(&String, &NodeKey)> {
        self.steps_from(node)
            .map(|(kind, _, to)| (kind, to))
            .collect()
    }
}

/// The kind of an edge and whether it was followed from source to target.
type Via = (String, bool);

/// What a search for paths has found and needs to know.
struct Found<'a> {
    paths: Vec<Path>,
    limit: usize,
    /// Steps from each node to the end.
    distances: &'a BTreeMap<NodeKey, usize>,
}

/// The live collection a reference points into: its source's, or the one of the name.
fn target_collection<'a>(
    collections: &'a [CollectionKey],
    source: &'a CollectionKey,
    reference: &Reference,
) -> Option<&'a CollectionKey> {
    match reference.collection.as_deref() {
        None => Some(source),
        Some(name) => collections.iter().find(|key| *key.name == *name),
    }
}

fn reverse(direction: TraversalDirection) -> TraversalDirection {
    match direction {
        TraversalDirection::Outgoing => TraversalDirection::Incoming,
        TraversalDirection::Incoming => TraversalDirection::Outgoing,
        TraversalDirection::Both => TraversalDirection::Both,
    }
}

#[async_trait]
impl GraphBackend for MemoryGraph {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        let data = self.data()?;
        let graph = VisibleGraph::new(
            &data,
            &request.collections,
            request.direction,
            &request.edge_kinds,
        );
        let mut nearest: BTreeMap<NodeKey, Neighbour> = BTreeMap::new();
        for (index, seed) in request.seeds.iter().enumerate() {
            for (node, (distance, via)) in graph.reachable(seed, request.depth) {
                if request.seeds.contains(&node) {
                    continue;
                }
                let Some(version) = graph.nodes.get(&node).copied() else {
                    continue;
                };
                let reached = Neighbour::new(node.clone(), version, distance, vec![index], via);
                match nearest.get_mut(&node) {
                    Some(known) if known.distance < distance => {}
                    Some(known) if known.distance == distance => known.seeds.push(index),
                    _ => {
                        nearest.insert(node, reached);
                    }
                }
            }
        }
        let mut neighbours: Vec<_> = nearest.into_values().collect();
        // Stable: what is equal stays in order of its key.
        neighbours.sort_by_key(|n| (n.distance, Reverse(n.seeds.len())));
        neighbours.truncate(request.limit);
        Ok(neighbours)
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        let data = self.data()?;
        let graph_of = |direction| VisibleGraph::new(&data, &request.collections, direction, &[]);
        let graph = graph_of(request.direction);
        if request.from == request.to || !graph.nodes.contains_key(&request.from) {
            return Ok(Vec::new());
        }
        let distances: BTreeMap<_, _> = graph_of(reverse(request.direction))
            .reachable(&request.to, request.max_depth)
            .into_iter()
            .map(|(node, (distance, _))| (node, distance))
            .collect();
        let mut found = Found {
            paths: Vec::new(),
            limit: request.limit,
            distances: &distances,
        };
        for length in 1..=request.max_depth {
            let mut start = Path {
                nodes: vec![request.from.clone()],
                kinds: Vec::new(),
            };
            graph.extend_paths(&mut start, &request.to, length, &mut found);
        }
        Ok(found.paths)
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        let data = self.data()?;
        let collection = data.collection(&request.collection)?;
        let tokenizer = collection.options.tokenizer;
        let titles = collection
            .live(None, None)
            .map(|(id, version, record)| ((id, version), [record.document().title.as_str()]));
        let corpus = text::Corpus::new(tokenizer, titles);
        let mut hits: Vec<_> = corpus
            .scores(&text::terms(tokenizer, &request.text))
            .into_iter()
            .map(|((id, version), score)| TextHit::new(Arc::clone(id), version, score))
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(hits)
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        let held = self.by_id(&request, |_, held| {
            held.state.record().map(|record| Edges {
                version: held.version,
                references: record.document().references.clone(),
            })
        })?;
        Ok(held.into_iter().map(Option::flatten).collect())
    }
}
