//! Paths.

use super::{
    GRAPH, cases,
    graph_search::{node, put_graph},
};
use crate::{
    backend::{BackendErrorKind, Path, PathsRequest},
    conformance::{
        client::{Client, expect_kind},
        data::persist,
        trial::{CaseResult, Trial},
    },
    model::TraversalDirection,
};

cases!(GRAPH;
    paths_are_shortest_first needs |c| c.paths,
    paths_keep_depth_limit_and_direction needs |c| c.paths,
    paths_need_two_live_documents needs |c| c.paths,
    paths_without_the_capability_are_unsupported needs |c| !c.paths,
);

pub(super) async fn paths(client: &Client, request: &PathsRequest) -> CaseResult<Vec<Path>> {
    let graph = client.graph()?;
    Ok(persist(&client.runtime, || graph.paths(request.clone())).await?)
}

/// Paths as text, `a-cites-b`.
pub(super) fn spelt(paths: &[Path]) -> Vec<String> {
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

async fn paths_without_the_capability_are_unsupported(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let graph = client.graph()?;
    let all = [client.collection.clone()];
    let request = PathsRequest::new(node(&client, "a"), node(&client, "b"), all);
    let found = persist(&client.runtime, || graph.paths(request.clone()));
    expect_kind(found.await, BackendErrorKind::Unsupported, "paths")
}
