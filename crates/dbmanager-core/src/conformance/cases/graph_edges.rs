//! Edges belong to their source and its version.

use super::{
    GRAPH, cases,
    graph_search::{neighbours, seen},
};
use crate::{
    backend::{NeighbourhoodRequest, NodeKey},
    conformance::{
        client::Client,
        data::{self, record, version},
        expect::Expected,
        trial::{CaseResult, Trial},
    },
    model::{CollectionKey, Document, Reference, TraversalDirection},
};

cases!(GRAPH;
    edges_keep_kind_and_properties,
    equal_references_do_no_harm,
    edges_to_the_unknown_are_held_and_show_when_it_comes,
    a_deleted_target_hides_its_edges_and_revival_shows_them,
    a_deleted_source_loses_its_edges,
    an_upsert_of_the_target_leaves_incoming_edges,
    a_reference_to_itself_is_held_and_leads_nowhere,
    cycles_end,
    edges_lead_into_other_collections,
    edges_follow_the_live_generation,
    ten_thousand_references_are_held,
);

fn key(client: &Client) -> CollectionKey {
    client.collection.clone()
}

/// What is one reference away from `id`, both ways, by id.
async fn around(client: &Client, id: &str) -> CaseResult<Vec<String>> {
    let seeds = [NodeKey::new(key(client), id)];
    let request = NeighbourhoodRequest::new(seeds, [key(client)]);
    let found = neighbours(client, &request).await?;
    let mut ids: Vec<_> = found.iter().map(|n| n.node.id.to_string()).collect();
    ids.sort();
    Ok(ids)
}

async fn edges_keep_kind_and_properties(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let hostile = data::hostile_document("a").metadata;
    let mut rich = Reference::new("b").kind("it's \"a\" kind | \u{1f980}");
    rich.properties = hostile;
    let document = record(
        Document::new("a").references([
            Reference::new("z"),
            rich,
            Reference::new("b").kind("Kind"),
            Reference::new("b").kind("kind"),
            Reference::new("b").kind(""),
            Reference::new("b").kind("kind").property("weight", 0.1),
            Reference::new("b")
                .kind("kind")
                .property("weight", i64::MAX),
            Reference::new("B").collection("another one"),
            Reference::new("b").collection("another one"),
        ]),
    );
    client.put(1, &document).await?;
    client.expect_live(1, &document).await
}

async fn equal_references_do_no_harm(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let own = client.collection.name.to_string();
    let document = record(Document::new("a").references([
        Reference::new("b"),
        Reference::new("b"),
        Reference::new("b").collection(own),
    ]));
    client.put(1, &document).await?;
    client.put(2, &record(Document::new("b"))).await?;
    let hash = client.content_hash(&Expected::Live(version(1), document));
    let found = client.fingerprints_of(&["a"]).await?;
    let found = found
        .first()
        .and_then(|f| f.as_ref())
        .map(|f| f.content_hash);
    ensure_eq!(found, hash, "content hash");
    ensure_eq!(around(&client, "a").await?, ["b"], "neighbours");
    Ok(())
}

async fn edges_to_the_unknown_are_held_and_show_when_it_comes(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let source = record(Document::new("a").references(["b"]));
    client.put(5, &source).await?;
    client.expect_live(5, &source).await?;
    // A target that was never written is no document.
    client.expect(&[("b", Expected::Never)]).await?;
    ensure_eq!(client.fingerprints(10).await?.len(), 1, "documents listed");
    ensure_eq!(around(&client, "a").await?, [""; 0], "neighbours");
    ensure_eq!(around(&client, "b").await?, [""; 0], "neighbours");
    // Nor does the reference to it count as a version of it.
    client.put(1, &record(Document::new("b"))).await?;
    client.expect_live(1, &record(Document::new("b"))).await?;
    ensure_eq!(around(&client, "a").await?, ["b"], "neighbours");
    ensure_eq!(around(&client, "b").await?, ["a"], "neighbours");
    Ok(())
}

async fn a_deleted_target_hides_its_edges_and_revival_shows_them(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let source = record(Document::new("a").references(["b", "c"]));
    let target = record(Document::new("b").references(["c"]));
    client.put(1, &source).await?;
    client.put(2, &target).await?;
    client.put(3, &record(Document::new("c"))).await?;
    ensure_eq!(around(&client, "a").await?, ["b", "c"], "neighbours");
    client.delete(4, "b").await?;
    ensure_eq!(around(&client, "a").await?, ["c"], "neighbours");
    ensure_eq!(
        around(&client, "b").await?,
        [""; 0],
        "neighbours of a tombstone"
    );
    // The source's edges, version and hash are what they were.
    client.expect_live(1, &source).await?;
    client.expect_deleted(4, "b").await?;
    client.put(5, &record(Document::new("b"))).await?;
    ensure_eq!(around(&client, "a").await?, ["b", "c"], "neighbours");
    ensure_eq!(around(&client, "b").await?, ["a"], "neighbours");
    client.expect_live(1, &source).await
}

async fn a_deleted_source_loses_its_edges(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &record(Document::new("b"))).await?;
    let source = record(Document::new("a").references(["b"]));
    client.put(2, &source).await?;
    client.delete(3, "a").await?;
    ensure_eq!(around(&client, "b").await?, [""; 0], "neighbours");
    client.put(4, &record(Document::new("a"))).await?;
    ensure_eq!(around(&client, "b").await?, [""; 0], "neighbours");
    client.expect_live(4, &record(Document::new("a"))).await?;
    client.put(2, &source).await?;
    ensure_eq!(around(&client, "b").await?, [""; 0], "neighbours");
    client.put(5, &source).await?;
    ensure_eq!(around(&client, "b").await?, ["a"], "neighbours");
    Ok(())
}

async fn an_upsert_of_the_target_leaves_incoming_edges(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let source = record(
        Document::new("a").references([Reference::new("b").kind("cites").property("page", 7)]),
    );
    client.put(1, &source).await?;
    for number in 2..5 {
        let target = record(Document::new("b").title(format!("{number}")));
        client.put(number, &target).await?;
        ensure_eq!(around(&client, "b").await?, ["a"], "neighbours");
        client.expect_live(1, &source).await?;
    }
    Ok(())
}

async fn a_reference_to_itself_is_held_and_leads_nowhere(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let document = record(Document::new("a").references(["a", "b"]));
    client.put(1, &document).await?;
    client.put(2, &record(Document::new("b"))).await?;
    client.expect_live(1, &document).await?;
    ensure_eq!(around(&client, "a").await?, ["b"], "neighbours");
    client.delete(3, "a").await?;
    client.expect_deleted(3, "a").await?;
    ensure_eq!(around(&client, "b").await?, [""; 0], "neighbours");
    Ok(())
}

async fn cycles_end(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    for (number, id, target) in [(1, "a", "b"), (2, "b", "c"), (3, "c", "a")] {
        let document = record(Document::new(id).references([target]));
        client.put(number, &document).await?;
    }
    let request = NeighbourhoodRequest::new([NodeKey::new(key(&client), "a")], [key(&client)])
        .direction(TraversalDirection::Outgoing)
        .depth(50);
    let found = neighbours(&client, &request).await?;
    ensure_eq!(
        seen(&found),
        [("b".to_owned(), 1, vec![0]), ("c".to_owned(), 2, vec![0])],
        "neighbours"
    );
    Ok(())
}

async fn edges_lead_into_other_collections(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let other = data::named("people", 1);
    client.create(&other).await?;
    let people = client.on(&other.key);
    let source = record(Document::new("a").references([
        Reference::new("b").collection("people"),
        Reference::new("c"),
    ]));
    client.put(1, &source).await?;
    client.put(2, &record(Document::new("b"))).await?;
    people.put(3, &record(Document::new("c"))).await?;
    ensure_eq!(around(&client, "a").await?, [""; 0], "neighbours");
    people
        .put(4, &record(Document::new("b").references(["c"])))
        .await?;
    let all = [key(&client), other.key.clone()];
    let seeds = [NodeKey::new(key(&client), "a")];
    let request = NeighbourhoodRequest::new(seeds.clone(), all).depth(2);
    let found = neighbours(&client, &request).await?;
    let found: Vec<_> = found.iter().map(|n| (n.node.clone(), n.distance)).collect();
    let expected = [
        (NodeKey::new(other.key.clone(), "b"), 1),
        (NodeKey::new(other.key.clone(), "c"), 2),
    ];
    ensure_eq!(found, expected, "neighbours in both collections");
    // Nodes of a collection that is not asked for are not shown.
    let request = NeighbourhoodRequest::new(seeds, [key(&client)]).depth(2);
    ensure_eq!(neighbours(&client, &request).await?, [], "neighbours");
    client.expect_live(1, &source).await
}

/// A reference names a collection, not a generation of it.
async fn edges_follow_the_live_generation(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let (first, second) = (data::named("people", 1), data::named("people", 2));
    client.create(&first).await?;
    let source = record(Document::new("a").references([Reference::new("b").collection("people")]));
    client.put(1, &source).await?;
    let old = client.on(&first.key);
    old.put(2, &record(Document::new("b"))).await?;
    client.drop_collection(&first.key).await?;
    client.create(&second).await?;
    let request = NeighbourhoodRequest::new(
        [NodeKey::new(key(&client), "a")],
        [key(&client), second.key.clone()],
    );
    ensure_eq!(neighbours(&client, &request).await?, [], "neighbours");
    let new = client.on(&second.key);
    new.put(1, &record(Document::new("b"))).await?;
    let found = neighbours(&client, &request).await?;
    let nodes: Vec<_> = found.into_iter().map(|n| n.node).collect();
    ensure_eq!(nodes, [NodeKey::new(second.key, "b")], "neighbours");
    client.expect_live(1, &source).await
}

async fn ten_thousand_references_are_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let most = client.shared.capabilities().limits.max_references;
    let count = most.min(10_000);
    let targets = |count: usize| {
        let ids = (0..count).map(|i| format!("target {i}"));
        record(Document::new("hub").references(ids))
    };
    let hub = targets(count);
    client.put(1, &hub).await?;
    client.expect_live(1, &hub).await?;
    for (number, target) in [(2, 0), (3, count / 2), (4, count - 1)] {
        let document = record(Document::new(format!("target {target}")));
        client.put(number, &document).await?;
    }
    ensure_eq!(around(&client, "hub").await?.len(), 3, "neighbours");
    client.put(5, &targets(1)).await?;
    client.expect_live(5, &targets(1)).await?;
    ensure_eq!(around(&client, "hub").await?, ["target 0"], "neighbours");
    Ok(())
}
