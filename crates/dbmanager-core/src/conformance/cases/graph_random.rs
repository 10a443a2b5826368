//! Random graphs, compared with the in-memory store.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    GRAPH, cases,
    graph_paths::{paths, spelt},
    graph_search::neighbours,
};
use crate::{
    backend::{
        ApplyRequest, Backend, CreateCollectionRequest, GraphBackend, Mutation, Neighbour,
        NeighbourhoodRequest, NodeKey, PathsRequest,
    },
    conformance::{
        client::Client,
        data::{self, Seeded, record, version},
        trial::{CaseResult, Trial},
    },
    memory::{MemoryGraph, MemoryPlace},
    model::{CollectionKey, Document, Reference, TraversalDirection},
};

cases!(GRAPH;
    random_neighbourhoods_agree_with_the_model,
    random_paths_agree_with_the_model needs |c| c.paths,
);

/// A random graph over two collections, in the store and in the model. Some documents are
/// deleted, some references lead to nothing.
struct RandomGraph {
    client: Client,
    model: MemoryGraph,
    collections: Vec<CollectionKey>,
    edges: BTreeSet<(NodeKey, String, NodeKey)>,
}

const IDS: usize = 8;

impl RandomGraph {
    async fn new(trial: &Trial, seeded: &mut Seeded) -> CaseResult<Self> {
        let client = trial.store().await?;
        let model = MemoryGraph::open(&MemoryPlace::new())?;
        let collections = [data::collection(), data::named("people", 3)];
        for collection in &collections {
            client.create(collection).await?;
            let request = CreateCollectionRequest::new(collection.clone(), 1);
            model.create_collection(request).await?;
        }
        let keys: Vec<_> = collections.iter().map(|c| c.key.clone()).collect();
        let mut edges = BTreeSet::new();
        for (key, number) in keys.iter().flat_map(|key| (0..IDS).map(move |n| (key, n))) {
            let id = format!("n{number}");
            let mutation = if seeded.below(8) == 0 {
                Mutation::delete(id, version(number as u64))
            } else {
                let mut references = Vec::new();
                for _ in 0..seeded.below(4) {
                    let other = seeded.pick(&keys).clone();
                    let target = format!("n{}", seeded.below(IDS + 1));
                    let kind = *seeded.pick(&["cites", "quotes"]);
                    let mut reference = Reference::new(target.as_str()).kind(kind);
                    if other != *key || seeded.below(2) == 0 {
                        reference = reference.collection(other.name.to_string());
                    }
                    references.push(reference);
                    let source = NodeKey::new(key.clone(), id.as_str());
                    edges.insert((source, kind.to_owned(), NodeKey::new(other, target)));
                }
                let document = record(Document::new(id.as_str()).references(references));
                Mutation::upsert(id, version(number as u64), document)
            };
            let mutations = [mutation];
            client.on(key).write(&mutations).await?;
            let request = ApplyRequest::new(key.clone(), 1, mutations);
            model.apply(request).await?;
        }
        Ok(Self {
            client,
            model,
            collections: keys,
            edges,
        })
    }

    fn pick_node(&self, seeded: &mut Seeded) -> NodeKey {
        let key = seeded.pick(&self.collections).clone();
        NodeKey::new(key, format!("n{}", seeded.below(IDS + 1)))
    }

    /// One of the two collections, or mostly both.
    fn pick_collections(&self, seeded: &mut Seeded) -> Vec<CollectionKey> {
        match seeded.below(4) {
            0 => vec![seeded.pick(&self.collections).clone()],
            _ => self.collections.clone(),
        }
    }

    /// Whether the neighbour's last edge exists and comes from one step nearer to its seed.
    fn last_edge_exists(
        &self,
        request: &NeighbourhoodRequest,
        distances: &BTreeMap<NodeKey, usize>,
        neighbour: &Neighbour,
    ) -> bool {
        let (kind, forward) = &neighbour.via;
        self.edges.iter().any(|(source, edge_kind, target)| {
            let (near, far) = match forward {
                true => (source, target),
                false => (target, source),
            };
            let allowed = match request.direction {
                TraversalDirection::Outgoing => *forward,
                TraversalDirection::Incoming => !*forward,
                TraversalDirection::Both => true,
            };
            // Seeds are not among the neighbours: a way of one step starts at one, and a longer
            // one may pass through one.
            let before = match distances.get(near) {
                Some(distance) => *distance == neighbour.distance - 1,
                None => request.seeds.contains(near),
            };
            edge_kind == kind && *far == neighbour.node && allowed && before
        })
    }
}

const DIRECTIONS: [TraversalDirection; 3] = [
    TraversalDirection::Outgoing,
    TraversalDirection::Incoming,
    TraversalDirection::Both,
];

async fn random_neighbourhoods_agree_with_the_model(trial: Trial) -> CaseResult {
    let mut seeded = Seeded::new(trial.seed);
    let graph = RandomGraph::new(&trial, &mut seeded).await?;
    for _ in 0..100 {
        let seeds: Vec<_> = (0..=seeded.below(3))
            .map(|_| graph.pick_node(&mut seeded))
            .collect();
        let kinds: Vec<String> = match seeded.below(3) {
            0 => vec!["cites".to_owned()],
            _ => Vec::new(),
        };
        let collections = graph.pick_collections(&mut seeded);
        let request = NeighbourhoodRequest::new(seeds, collections)
            .depth(1 + seeded.below(4))
            .direction(*seeded.pick(&DIRECTIONS))
            .edge_kinds(kinds)
            .limit(1 + seeded.below(20));
        let found = neighbours(&graph.client, &request).await?;
        let expected = graph.model.neighbourhood(request.clone()).await?;
        let facts = |found: &[Neighbour]| -> Vec<_> {
            found
                .iter()
                .map(|n| (n.node.clone(), n.version, n.distance, n.seeds.clone()))
                .collect()
        };
        ensure_eq!(
            facts(&found),
            facts(&expected),
            "neighbours for {request:?}"
        );
        let distances: BTreeMap<_, _> =
            found.iter().map(|n| (n.node.clone(), n.distance)).collect();
        for neighbour in &found {
            ensure!(
                graph.last_edge_exists(&request, &distances, neighbour),
                "no such last edge: {neighbour:?} for {request:?}"
            );
        }
    }
    Ok(())
}

async fn random_paths_agree_with_the_model(trial: Trial) -> CaseResult {
    let mut seeded = Seeded::new(trial.seed);
    let graph = RandomGraph::new(&trial, &mut seeded).await?;
    for _ in 0..60 {
        let (from, to) = (graph.pick_node(&mut seeded), graph.pick_node(&mut seeded));
        let collections = graph.pick_collections(&mut seeded);
        let request = PathsRequest::new(from, to, collections)
            .max_depth(1 + seeded.below(4))
            .direction(*seeded.pick(&DIRECTIONS))
            .limit(100_000);
        let found = paths(&graph.client, &request).await?;
        let lengths: Vec<_> = found.iter().map(|path| path.kinds.len()).collect();
        ensure!(
            lengths.is_sorted(),
            "paths are not shortest first: {lengths:?} for {request:?}"
        );
        let mut found = spelt(&found);
        let mut expected = spelt(&graph.model.paths(request.clone()).await?);
        found.sort();
        expected.sort();
        ensure_eq!(found, expected, "paths for {request:?}");
    }
    Ok(())
}
