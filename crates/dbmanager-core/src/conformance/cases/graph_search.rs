//! Neighbourhoods.

use super::{GRAPH, cases};
use crate::{
    backend::{Neighbour, NeighbourhoodRequest, NodeKey},
    conformance::{
        client::Client,
        data::{persist, record, version},
        trial::{CaseResult, Trial},
    },
    model::{Document, Reference, TraversalDirection},
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

pub(super) fn node(client: &Client, id: &str) -> NodeKey {
    NodeKey::new(client.collection.clone(), id)
}

fn from(client: &Client, seeds: &[&str]) -> NeighbourhoodRequest {
    let seeds: Vec<_> = seeds.iter().map(|id| node(client, id)).collect();
    NeighbourhoodRequest::new(seeds, [client.collection.clone()])
}

/// Writes documents with references of a kind: `("a", &[("cites", "b")])`.
pub(super) async fn put_graph(client: &Client, nodes: &[(&str, &[(&str, &str)])]) -> CaseResult {
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
