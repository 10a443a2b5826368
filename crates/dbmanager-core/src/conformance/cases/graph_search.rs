//! Neighbourhoods, paths and titles.

use std::collections::{BTreeMap, BTreeSet};

use super::{GRAPH, cases};
use crate::{
    backend::{
        Backend, BackendErrorKind, CreateCollectionRequest, GraphBackend, Mutation, Neighbour,
        NeighbourhoodRequest, NodeKey, Path, PathsRequest, TextSearchRequest,
    },
    conformance::{
        client::{Client, expect_kind},
        data::{self, Seeded, persist, record, version},
        trial::{CaseResult, Trial},
    },
    memory::{MemoryGraph, MemoryPlace},
    model::{CollectionKey, Document, Reference, TraversalDirection},
};

cases!(GRAPH;
    a_neighbourhood_has_direction,
    a_neighbourhood_follows_only_the_kinds_asked_for,
    a_neighbourhood_is_ordered_by_distance,
    a_neighbourhood_is_ordered_by_seeds_then_key,
    a_neighbourhood_keeps_its_limit,
    unknown_and_deleted_seeds_bring_nothing,
    a_neighbour_says_by_which_edge,
    a_neighbour_has_the_version_held,
    random_neighbourhoods_agree_with_the_model,
    paths_are_shortest_first needs |c| c.paths,
    paths_keep_depth_limit_and_direction needs |c| c.paths,
    paths_need_two_live_documents needs |c| c.paths,
    random_paths_agree_with_the_model needs |c| c.paths,
    paths_without_the_capability_are_unsupported needs |c| !c.paths,
    titles_match_by_word,
    titles_match_the_newest_version,
    titles_rank_more_and_rarer_words_first,
    title_words_are_no_query_language,
);

pub(super) async fn neighbours(
    client: &Client,
    request: &NeighbourhoodRequest,
) -> CaseResult<Vec<Neighbour>> {
    let graph = client.graph()?;
    Ok(persist(&client.runtime, || graph.neighbourhood(request.clone())).await?)
}

/// Id, distance and seeds of each neighbour.
pub(super) fn seen(found: &[Neighbour]) -> Vec<(String, usize, Vec<usize>)> {
    found
        .iter()
        .map(|n| (n.node.id.to_string(), n.distance, n.seeds.clone()))
        .collect()
}

fn node(client: &Client, id: &str) -> NodeKey {
    NodeKey::new(client.collection.clone(), id)
}

fn from(client: &Client, seeds: &[&str]) -> NeighbourhoodRequest {
    let seeds: Vec<_> = seeds.iter().map(|id| node(client, id)).collect();
    NeighbourhoodRequest::new(seeds, [client.collection.clone()])
}

/// Writes documents with references of a kind: `("a", &[("cites", "b")])`.
async fn put_graph(client: &Client, nodes: &[(&str, &[(&str, &str)])]) -> CaseResult {
    let documents: Vec<_> = nodes
        .iter()
        .map(|(id, edges)| {
            let references = edges
                .iter()
                .map(|(kind, target)| Reference::new(*target).kind(*kind));
            record(Document::new(*id).references(references))
        })
        .collect();
    client.put_all(&documents).await
}

async fn ids_found(client: &Client, request: NeighbourhoodRequest) -> CaseResult<Vec<String>> {
    let found = neighbours(client, &request).await?;
    Ok(found.into_iter().map(|n| n.node.id.to_string()).collect())
}

async fn a_neighbourhood_has_direction(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] =
        &[("in", &[("r", "a")]), ("a", &[("r", "out")]), ("out", &[])];
    put_graph(&client, graph).await?;
    for (direction, expected) in [
        (TraversalDirection::Outgoing, &["out"][..]),
        (TraversalDirection::Incoming, &["in"]),
        (TraversalDirection::Both, &["in", "out"]),
    ] {
        let request = from(&client, &["a"]).direction(direction);
        ensure_eq!(
            ids_found(&client, request).await?,
            expected,
            "{direction:?}"
        );
    }
    Ok(())
}

async fn a_neighbourhood_follows_only_the_kinds_asked_for(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] = &[
        (
            "a",
            &[
                ("cites", "b"),
                ("Cites", "c"),
                ("refutes", "d"),
                ("cites", "d"),
            ],
        ),
        ("b", &[("refutes", "e")]),
        ("c", &[]),
        ("d", &[]),
        ("e", &[]),
    ];
    put_graph(&client, graph).await?;
    for (kinds, expected) in [
        (&["cites"][..], &["b", "d"][..]),
        (&["refutes"], &["d"]),
        (&["Cites", "refutes"], &["c", "d"]),
        (&["refutes", "cites"], &["b", "d", "e"]),
        (&["cit", ""], &[]),
        (&[], &["b", "c", "d", "e"]),
    ] {
        let kinds: Vec<String> = kinds.iter().map(|k| (*k).to_owned()).collect();
        let request = from(&client, &["a"]).edge_kinds(kinds.clone()).depth(2);
        ensure_eq!(
            ids_found(&client, request).await?,
            expected,
            "kinds {kinds:?}"
        );
    }
    Ok(())
}

async fn a_neighbourhood_is_ordered_by_distance(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] = &[
        ("a", &[("r", "z"), ("r", "m")]),
        ("z", &[("r", "y")]),
        ("m", &[("r", "b")]),
        ("y", &[("r", "c")]),
        // A longer way to what is already near.
        ("b", &[("r", "z"), ("r", "c")]),
        ("c", &[("r", "d")]),
        ("d", &[]),
    ];
    put_graph(&client, graph).await?;
    let out = |depth| {
        from(&client, &["a"])
            .direction(TraversalDirection::Outgoing)
            .depth(depth)
    };
    let all = ["m", "z", "b", "y", "c", "d"];
    for (depth, count) in [(1, 2), (2, 4), (3, 5), (4, 6), (9, 6)] {
        let found = ids_found(&client, out(depth)).await?;
        ensure_eq!(found, &all[..count], "depth {depth}");
    }
    let distances: Vec<_> = neighbours(&client, &out(9))
        .await?
        .iter()
        .map(|n| n.distance)
        .collect();
    ensure_eq!(distances, [1, 1, 2, 2, 3, 4], "distances");
    Ok(())
}

async fn a_neighbourhood_is_ordered_by_seeds_then_key(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] = &[
        ("s1", &[("r", "x"), ("r", "b"), ("r", "B"), ("r", "s2")]),
        ("s2", &[("r", "x"), ("r", "b ")]),
        ("s3", &[("r", "x"), ("r", "y")]),
        ("b", &[]),
        ("B", &[]),
        ("b ", &[("r", "far")]),
        ("x", &[]),
        ("y", &[]),
        ("far", &[]),
    ];
    put_graph(&client, graph).await?;
    let request = from(&client, &["s3", "s1", "gone", "s2", "s1"])
        .direction(TraversalDirection::Outgoing)
        .depth(2);
    let found = neighbours(&client, &request).await?;
    let expected = [
        ("x", 1, vec![0, 1, 3, 4]),
        ("B", 1, vec![1, 4]),
        ("b", 1, vec![1, 4]),
        ("b ", 1, vec![3]),
        ("y", 1, vec![0]),
        ("far", 2, vec![3]),
    ]
    .map(|(id, distance, seeds)| (id.to_owned(), distance, seeds));
    ensure_eq!(seen(&found), expected, "neighbours");
    Ok(())
}

async fn a_neighbourhood_keeps_its_limit(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let ids: Vec<String> = (0..9).map(|i| format!("n{i}")).collect();
    let hub = record(Document::new("hub").references(ids.clone()));
    let others = ids.iter().map(|id| record(Document::new(id.as_str())));
    let documents: Vec<_> = std::iter::once(hub).chain(others).collect();
    client.put_all(&documents).await?;
    for limit in [1, 4, 9, 10, 100] {
        let request = from(&client, &["hub"]).limit(limit);
        let found = ids_found(&client, request).await?;
        ensure_eq!(found, &ids[..limit.min(9)], "at most {limit}");
    }
    Ok(())
}

async fn unknown_and_deleted_seeds_bring_nothing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] = &[
        ("a", &[("r", "gone"), ("r", "b"), ("r", "unknown")]),
        ("gone", &[("r", "b")]),
        ("b", &[]),
    ];
    put_graph(&client, graph).await?;
    client.delete(9, "gone").await?;
    for seeds in [&["gone"][..], &["unknown"], &[], &["gone", "unknown"]] {
        let request = from(&client, seeds).depth(3);
        ensure_eq!(
            ids_found(&client, request).await?,
            [""; 0],
            "neighbours of {seeds:?}"
        );
    }
    // Nor is there a way through a deleted document.
    let found = neighbours(&client, &from(&client, &["gone", "a"]).depth(3)).await?;
    ensure_eq!(seen(&found), [("b".to_owned(), 1, vec![1])], "neighbours");
    Ok(())
}

async fn a_neighbour_says_by_which_edge(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph: &[(&str, &[(&str, &str)])] = &[
        ("a", &[("cites", "b")]),
        ("b", &[("quotes", "c")]),
        ("c", &[]),
    ];
    put_graph(&client, graph).await?;
    let via = |found: Vec<Neighbour>| -> Vec<_> { found.into_iter().map(|n| n.via).collect() };
    let found = neighbours(&client, &from(&client, &["a"]).depth(2)).await?;
    let forward = [("cites".to_owned(), true), ("quotes".to_owned(), true)];
    ensure_eq!(via(found), forward, "last edges");
    let found = neighbours(&client, &from(&client, &["c"]).depth(2)).await?;
    let backward = [("quotes".to_owned(), false), ("cites".to_owned(), false)];
    ensure_eq!(via(found), backward, "last edges against their direction");
    Ok(())
}

async fn a_neighbour_has_the_version_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put(1, &record(Document::new("a").references(["b"])))
        .await?;
    for number in [5, 9] {
        client.put(number, &record(Document::new("b"))).await?;
        client
            .put(3, &record(Document::new("b").title("old")))
            .await?;
        let found = neighbours(&client, &from(&client, &["a"])).await?;
        let versions: Vec<_> = found.iter().map(|n| n.version).collect();
        ensure_eq!(versions, [version(number)], "versions");
    }
    Ok(())
}

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
            let request = crate::backend::ApplyRequest::new(key.clone(), 1, mutations);
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

async fn paths(client: &Client, request: &PathsRequest) -> CaseResult<Vec<Path>> {
    let graph = client.graph()?;
    Ok(persist(&client.runtime, || graph.paths(request.clone())).await?)
}

/// Paths as text, `a-cites-b`.
fn spelt(paths: &[Path]) -> Vec<String> {
    let spell = |path: &Path| {
        let mut text = String::new();
        for (index, node) in path.nodes.iter().enumerate() {
            text.push_str(&node.id);
            if let Some(kind) = path.kinds.get(index) {
                text.push_str(&format!("-{kind}-"));
            }
        }
        text
    };
    paths.iter().map(spell).collect()
}

async fn put_diamond(client: &Client) -> CaseResult {
    let graph: &[(&str, &[(&str, &str)])] = &[
        ("a", &[("r", "b"), ("r", "c"), ("r", "a"), ("r", "dead")]),
        ("b", &[("r", "c"), ("s", "d"), ("r", "a")]),
        ("c", &[("r", "d"), ("r", "d"), ("s", "d")]),
        ("d", &[("r", "e"), ("r", "a")]),
        ("e", &[]),
        ("dead", &[("r", "d")]),
    ];
    put_graph(client, graph).await?;
    client.delete(9, "dead").await
}

async fn paths_are_shortest_first(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    put_diamond(&client).await?;
    let request = PathsRequest::new(
        node(&client, "a"),
        node(&client, "d"),
        [client.collection.clone()],
    )
    .direction(TraversalDirection::Outgoing);
    let found = spelt(&paths(&client, &request).await?);
    let (mut two, mut three) = (found.clone(), Vec::new());
    if found.len() > 3 {
        three = two.split_off(3);
    }
    two.sort();
    three.sort();
    ensure_eq!(
        two,
        ["a-r-b-s-d", "a-r-c-r-d", "a-r-c-s-d"],
        "paths of two references, in {found:?}"
    );
    ensure_eq!(
        three,
        ["a-r-b-r-c-r-d", "a-r-b-r-c-s-d"],
        "paths of three references, in {found:?}"
    );
    Ok(())
}

async fn paths_keep_depth_limit_and_direction(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    put_diamond(&client).await?;
    let (a, d) = (node(&client, "a"), node(&client, "d"));
    let all = [client.collection.clone()];
    let there = PathsRequest::new(a.clone(), d.clone(), all.clone())
        .direction(TraversalDirection::Outgoing);
    for (depth, count) in [(1, 0), (2, 3), (3, 5), (9, 5)] {
        let found = paths(&client, &there.clone().max_depth(depth)).await?;
        ensure_eq!(found.len(), count, "paths of at most {depth} references");
    }
    for limit in [1, 3, 4, 5, 6] {
        let found = paths(&client, &there.clone().limit(limit)).await?;
        ensure_eq!(found.len(), limit.min(5), "at most {limit} paths");
    }
    let back = PathsRequest::new(d.clone(), a.clone(), all.clone());
    let outgoing = back.clone().direction(TraversalDirection::Outgoing);
    ensure_eq!(
        spelt(&paths(&client, &outgoing).await?),
        ["d-r-a"],
        "outgoing paths"
    );
    let incoming = back.clone().direction(TraversalDirection::Incoming);
    ensure_eq!(paths(&client, &incoming).await?.len(), 5, "incoming paths");
    let both = back.max_depth(1);
    ensure_eq!(
        spelt(&paths(&client, &both).await?),
        ["d-r-a"],
        "paths both ways"
    );
    Ok(())
}

async fn paths_need_two_live_documents(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    put_diamond(&client).await?;
    for (from, to) in [
        ("a", "a"),
        ("a", "dead"),
        ("dead", "d"),
        ("a", "unknown"),
        ("unknown", "a"),
        ("unknown", "unknown"),
    ] {
        let all = [client.collection.clone()];
        let request = PathsRequest::new(node(&client, from), node(&client, to), all);
        let found = paths(&client, &request).await?;
        ensure_eq!(found, [], "paths from {from} to {to}");
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

async fn paths_without_the_capability_are_unsupported(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph = client.graph()?;
    let all = [client.collection.clone()];
    let request = PathsRequest::new(node(&client, "a"), node(&client, "b"), all);
    let found = persist(&client.runtime, || graph.paths(request.clone()));
    expect_kind(found.await, BackendErrorKind::Unsupported, "paths")
}

/// The ids whose title matches, best first; equally good ones by id.
async fn titled(client: &Client, text: &str, limit: usize) -> CaseResult<Vec<String>> {
    client.settle().await?;
    let graph = client.graph()?;
    let request = TextSearchRequest::new(client.collection.clone(), text, limit);
    let mut hits = persist(&client.runtime, || graph.match_titles(request.clone())).await?;
    ensure!(
        hits.is_sorted_by(|a, b| a.score >= b.score),
        "title matches are not best first: {hits:?}"
    );
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
    Ok(hits.into_iter().map(|hit| hit.id.to_string()).collect())
}

fn title(id: &str, title: &str) -> std::sync::Arc<crate::model::DocumentRecord> {
    record(Document::new(id).title(title).text("zebra"))
}

async fn titles_match_by_word(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client
        .put_all(&[
            title("a", "Crash recovery"),
            title("b", "Recovering from loss"),
            title("c", ""),
            title("d", "Gone recovery"),
        ])
        .await?;
    client.delete(9, "d").await?;
    ensure_eq!(titled(&client, "recovery", 10).await?, ["a"], "matches");
    ensure_eq!(titled(&client, "CRASH", 10).await?, ["a"], "matches");
    ensure_eq!(
        titled(&client, "loss crash", 1).await?.len(),
        1,
        "matches of at most 1"
    );
    for nothing in ["zebra", "absent", "", "   ", "?!"] {
        ensure_eq!(
            titled(&client, nothing, 10).await?,
            [""; 0],
            "matches of {nothing:?}"
        );
    }
    Ok(())
}

async fn titles_match_the_newest_version(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &title("a", "alpha")).await?;
    client.put(5, &title("a", "beta")).await?;
    client.put(3, &title("a", "gamma")).await?;
    for (word, expected) in [("alpha", &[][..]), ("gamma", &[]), ("beta", &["a"])] {
        ensure_eq!(titled(&client, word, 10).await?, expected, "{word}");
    }
    client.delete(6, "a").await?;
    ensure_eq!(titled(&client, "beta", 10).await?, [""; 0], "deleted");
    client.put(7, &title("a", "delta")).await?;
    ensure_eq!(titled(&client, "delta", 10).await?, ["a"], "revived");
    ensure_eq!(titled(&client, "beta", 10).await?, [""; 0], "old words");
    Ok(())
}

async fn titles_rank_more_and_rarer_words_first(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let common = (0..6).map(|i| title(&format!("common {i}"), "storage engines"));
    let documents: Vec<_> = common
        .chain([
            title("both", "storage recovery"),
            title("rare", "recovery engines"),
        ])
        .collect();
    client.put_all(&documents).await?;
    let found = titled(&client, "storage recovery", 3).await?;
    ensure_eq!(
        found[..2.min(found.len())],
        ["both", "rare"],
        "best matches"
    );
    ensure_eq!(found.len(), 3, "matches of at most 3");
    Ok(())
}

async fn title_words_are_no_query_language(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &title("a", "alpha beta")).await?;
    for text in super::text_search::QUERY_SYNTAX {
        ensure_eq!(
            titled(&client, text, 10).await?,
            ["a"],
            "matches of {text:?}"
        );
    }
    Ok(())
}
