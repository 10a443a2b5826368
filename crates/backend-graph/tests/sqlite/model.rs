//! Random graphs, walked by the store and by a model in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use dbmanager_core::{
    backend::{GraphBackend, Neighbour, PathsRequest},
    model::{Document, Reference, TraversalDirection},
};
use proptest::prelude::*;

use super::{apply, delete, live, near, opened, paper, papers, upsert};

/// A small random graph: the outgoing edges of each document, and which documents are live.
#[derive(Clone, Debug)]
struct Model {
    edges: Vec<Vec<(usize, &'static str)>>,
    live: Vec<bool>,
}

fn model() -> impl Strategy<Value = Model> {
    (2_usize..7).prop_flat_map(|count| {
        let kind = prop_oneof![Just("x"), Just("y")];
        let edges = proptest::collection::vec((0..count, kind), 0..4);
        (
            proptest::collection::vec(edges, count),
            proptest::collection::vec(proptest::bool::weighted(0.85), count),
        )
            .prop_map(|(edges, live)| Model { edges, live })
    })
}

impl Model {
    /// Visible steps as (from, to, kind).
    fn steps(&self, direction: TraversalDirection) -> BTreeSet<(usize, usize, &'static str)> {
        let mut steps = BTreeSet::new();
        for (from, edges) in self.edges.iter().enumerate() {
            for (to, kind) in edges {
                if !self.live[from] || !self.live[*to] {
                    continue;
                }
                if direction != TraversalDirection::Incoming {
                    steps.insert((from, *to, *kind));
                }
                if direction != TraversalDirection::Outgoing {
                    steps.insert((*to, from, *kind));
                }
            }
        }
        steps
    }

    /// (distance, seeds) of each document within `depth`, one seed after the other.
    fn near(
        &self,
        seeds: &[usize],
        depth: usize,
        direction: TraversalDirection,
        kind: Option<&str>,
    ) -> BTreeMap<usize, (usize, Vec<usize>)> {
        let steps = self.steps(direction);
        let mut best: BTreeMap<usize, (usize, Vec<usize>)> = BTreeMap::new();
        for (index, seed) in seeds.iter().enumerate().filter(|(_, s)| self.live[**s]) {
            let mut level = BTreeSet::from([*seed]);
            let mut seen = level.clone();
            for distance in 1..=depth {
                let next: BTreeSet<_> = steps
                    .iter()
                    .filter(|(from, _, k)| {
                        level.contains(from) && kind.is_none_or(|kind| kind == *k)
                    })
                    .map(|(_, to, _)| *to)
                    .filter(|to| !seen.contains(to))
                    .collect();
                seen.extend(&next);
                for node in next.iter().filter(|node| !seeds.contains(node)) {
                    let entry = best.entry(*node).or_insert((distance, Vec::new()));
                    if distance < entry.0 {
                        *entry = (distance, vec![index]);
                    } else if distance == entry.0 {
                        entry.1.push(index);
                    }
                }
                level = next;
            }
        }
        best
    }

    fn paths(
        &self,
        from: usize,
        to: usize,
        depth: usize,
        direction: TraversalDirection,
    ) -> Vec<(Vec<usize>, Vec<&'static str>)> {
        let steps = self.steps(direction);
        let mut found = Vec::new();
        let mut open = vec![(vec![from], Vec::new())];
        for _ in 0..depth {
            let mut next = Vec::new();
            for (nodes, kinds) in &open {
                for (_, step_to, kind) in steps.iter().filter(|s| Some(&s.0) == nodes.last()) {
                    if nodes.contains(step_to) {
                        continue;
                    }
                    let nodes: Vec<_> = nodes.iter().copied().chain([*step_to]).collect();
                    let kinds: Vec<_> = kinds.iter().copied().chain([*kind]).collect();
                    if *step_to == to {
                        found.push((nodes, kinds));
                    } else {
                        next.push((nodes, kinds));
                    }
                }
            }
            open = next;
        }
        if from == to || !self.live[from] || !self.live[to] {
            return Vec::new();
        }
        found
    }
}

fn direction() -> impl Strategy<Value = TraversalDirection> {
    prop_oneof![
        Just(TraversalDirection::Outgoing),
        Just(TraversalDirection::Incoming),
        Just(TraversalDirection::Both),
    ]
}

fn number(id: &str) -> usize {
    id[1..].parse().unwrap()
}

async fn load(directory: &FilePath, model: &Model) -> Arc<dyn GraphBackend> {
    let store = opened(directory).await;
    let documents = model.edges.iter().enumerate().map(|(n, edges)| {
        let edges = edges
            .iter()
            .map(|(to, kind)| Reference::new(format!("n{to}")).kind(*kind));
        upsert(1, Document::new(format!("n{n}")).references(edges))
    });
    apply(&store, papers(), documents.collect()).await;
    let dead = model.live.iter().enumerate().filter(|(_, live)| !**live);
    let deletes = dead.map(|(n, _)| delete(2, &format!("n{n}"))).collect();
    apply(&store, papers(), deletes).await;
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn traversals_agree_with_a_simple_model(
        model in model(),
        directions in proptest::collection::vec(direction(), 3),
        seeds in proptest::collection::vec(0_usize..6, 0..4),
        depth in 1_usize..6,
        limit in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let store = load(directory.path(), &model).await;
            let seeds: Vec<usize> = seeds.iter().map(|s| s % model.live.len()).collect();
            for direction in directions {
                for kind in [None, Some("x")] {
                    check_neighbourhood(&store, &model, &seeds, depth, direction, kind, limit).await;
                }
                check_paths(&store, &model, depth, direction, limit).await;
            }
        });
    }
}

async fn check_neighbourhood(
    store: &Arc<dyn GraphBackend>,
    model: &Model,
    seeds: &[usize],
    depth: usize,
    direction: TraversalDirection,
    kind: Option<&str>,
    limit: usize,
) {
    let seed_ids: Vec<String> = seeds.iter().map(|s| format!("n{s}")).collect();
    let seed_ids: Vec<&str> = seed_ids.iter().map(String::as_str).collect();
    let kinds: Vec<String> = kind.into_iter().map(str::to_owned).collect();
    let request = near(&seed_ids)
        .depth(depth)
        .direction(direction)
        .edge_kinds(kinds);
    let found: Vec<Neighbour> = store
        .neighbourhood(request.clone().limit(100))
        .await
        .unwrap();
    let as_model: BTreeMap<_, _> = found
        .iter()
        .map(|n| (number(&n.node.id), (n.distance, n.seeds.clone())))
        .collect();
    assert_eq!(as_model, model.near(seeds, depth, direction, kind));
    let order = |n: &Neighbour| (n.distance, usize::MAX - n.seeds.len(), n.node.clone());
    assert!(found.is_sorted_by_key(order));
    for neighbour in &found {
        // The last edge leads from a document one step nearer to this one.
        let (to, (last_kind, forward)) = (number(&neighbour.node.id), &neighbour.via);
        let from_nearer = model.edges.iter().enumerate().any(|(source, edges)| {
            edges.iter().any(|(target, kind)| {
                let (from, reached) = if *forward {
                    (source, *target)
                } else {
                    (*target, source)
                };
                let distance = as_model.get(&from).map_or(0, |(distance, _)| *distance);
                let known = as_model.contains_key(&from) || seeds.contains(&from);
                reached == to && kind == last_kind && known && distance + 1 == neighbour.distance
            })
        });
        assert!(from_nearer, "{neighbour:?}");
    }
    let cut = store.neighbourhood(request.limit(limit)).await.unwrap();
    assert_eq!(cut, found[..limit.min(found.len())]);
}

async fn check_paths(
    store: &Arc<dyn GraphBackend>,
    model: &Model,
    depth: usize,
    direction: TraversalDirection,
    limit: usize,
) {
    for (from, to) in [(0, 1), (1, 0), (0, 0), (0, model.live.len() - 1)] {
        let ends = (paper(&format!("n{from}")), paper(&format!("n{to}")));
        let request = PathsRequest::new(ends.0, ends.1, live())
            .max_depth(depth)
            .direction(direction);
        let found = store.paths(request.clone().limit(100_000)).await.unwrap();
        let mut as_model: Vec<_> = found
            .iter()
            .map(|path| {
                let nodes: Vec<_> = path.nodes.iter().map(|node| number(&node.id)).collect();
                (nodes, path.kinds.iter().map(String::as_str).collect())
            })
            .collect();
        assert!(found.is_sorted_by_key(|path| path.kinds.len()));
        let mut expected: Vec<(Vec<usize>, Vec<&str>)> = model.paths(from, to, depth, direction);
        as_model.sort();
        expected.sort();
        assert_eq!(as_model, expected);
        let cut = store.paths(request.limit(limit)).await.unwrap();
        assert_eq!(cut, found[..limit.min(found.len())]);
    }
}
