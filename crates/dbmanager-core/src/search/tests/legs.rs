//! Which legs a query runs, what they bring, and how they are weighed.

use std::sync::atomic::Ordering;

use super::world::*;
use crate::{ErrorKind, embed::EmbedderKind, model::*};

fn tenant(id: &str, tenant: &str, text: &str) -> Document {
    Document::new(id).text(text).metadata("tenant", tenant)
}

async fn small() -> World {
    let world = World::new(&["papers"]).await;
    world
        .write(
            "papers",
            Document::new("north")
                .title("the pole")
                .text("north north journal")
                .references(["ice"]),
        )
        .await;
    world
        .write("papers", Document::new("ice").text("cold water"))
        .await;
    world
        .write(
            "papers",
            Document::new("east").text("east journal recovery"),
        )
        .await;
    world
        .write("papers", Document::new("south").text("south"))
        .await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_hybrid_search_fuses_all_three_legs_and_explains_each_hit() {
    let world = small().await;
    let found = world.search(Query::hybrid("north journal")).await;
    assert!(!found.degraded());
    assert_eq!(found.hits[0].id.as_ref(), "north");
    assert_eq!(found.page_end, PageEnd::Exhausted);
    let weights: f64 = found.legs.iter().map(|leg| leg.weight).sum();
    assert!((weights - 1.0).abs() < 1e-12);

    let best = hit(&found, "north");
    assert_eq!(best.verification, Verification::Current);
    assert_eq!(best.document.as_ref().unwrap().title, "the pole");
    let roles: Vec<Role> = best.matched_stores().collect();
    assert_eq!(roles, [Role::Vector, Role::Relational]);
    let semantic = &best.contributions[0];
    assert_eq!((semantic.leg, semantic.rank), (LegName::Semantic, Some(1)));
    assert_eq!(semantic.passage, Some(Passage { start: 0, end: 19 }));

    let related = hit(&found, "ice");
    assert_eq!(related.contributions.len(), 1);
    let detail = related.contributions[0].detail.as_deref();
    assert_eq!(detail, Some("via references from north"));
}

#[tokio::test(start_paused = true)]
async fn one_read_fetches_the_documents_and_no_leg_is_asked_per_hit() {
    let world = small().await;
    world.search(Query::hybrid("north journal")).await;
    assert_eq!(world.reads(), 1);
    assert_eq!(world.vector.requests(), 1);
    assert_eq!(world.relational.requests(), 1);
    // Neighbours, links between the seeds.
    assert_eq!(world.graph.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn titles_stand_in_where_full_text_finds_nothing() {
    let world = small().await;
    let titles = |found: &SearchResponse| {
        let best = hit(found, "north");
        let of_graph = best.contributions.iter().find(|c| c.leg == LegName::Graph);
        of_graph.and_then(|part| part.detail.clone())
    };
    let with_text = world.search(Query::hybrid("pole")).await;
    assert_eq!(titles(&with_text), None, "counted once");

    world.goes_down(Role::Relational);
    let without = world.search(Query::hybrid("pole")).await;
    assert!(leg(&without, LegName::Metadata).degraded());
    assert_eq!(titles(&without).as_deref(), Some("title match"));
}

#[tokio::test(start_paused = true)]
async fn a_search_of_one_type_asks_one_store() {
    let world = small().await;
    let found = world.search(Query::semantic("east")).await;
    assert_eq!(ids(&found), ["east", "north", "south"]);
    assert_eq!(leg(&found, LegName::Metadata).outcome, LegOutcome::NotAsked);
    assert_eq!(leg(&found, LegName::Graph).outcome, LegOutcome::NotAsked);
    assert_eq!(
        (world.relational.requests(), world.graph.requests()),
        (0, 0)
    );

    let found = world.search(Query::metadata("journal recovery")).await;
    assert_eq!(ids(&found), ["east", "north"]);
    assert!((leg(&found, LegName::Metadata).weight - 1.0).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn a_graph_search_starts_from_titles_or_from_seeds() {
    let world = small().await;
    let found = world.search(Query::graph("pole")).await;
    assert_eq!(ids(&found), ["north", "ice"]);
    let detail = hit(&found, "north").contributions[0].detail.as_deref();
    assert_eq!(detail, Some("title match"));

    let found = world.search(Query::related_to(["north"])).await;
    assert_eq!(ids(&found), ["ice"], "a seed is no hit");
    let found = world.search(Query::related_to(["ice"])).await;
    let detail = hit(&found, "north").contributions[0].detail.as_deref();
    assert_eq!(detail, Some("via references to ice"));
    let one_way = Query::related_to(["ice"]).direction(TraversalDirection::Outgoing);
    assert!(world.search(one_way).await.hits.is_empty());
    assert!(
        world
            .search(Query::related_to(["unknown"]))
            .await
            .hits
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn nearer_documents_and_those_of_several_seeds_rank_higher() {
    let world = World::new(&["papers"]).await;
    for (id, targets) in [
        ("a", vec!["near", "shared"]),
        ("b", vec!["shared"]),
        ("near", vec!["far"]),
        ("shared", vec![]),
        ("far", vec![]),
    ] {
        world
            .write("papers", Document::new(id).references(targets))
            .await;
    }
    let found = world.search(Query::related_to(["a", "b"]).depth(2)).await;
    assert_eq!(ids(&found), ["shared", "near", "far"]);
    let detail = |id| hit(&found, id).contributions[0].detail.clone().unwrap();
    assert!(
        detail("shared").ends_with("and from 1 other"),
        "{}",
        detail("shared")
    );
    assert!(
        detail("far").starts_with("2 references from a"),
        "{}",
        detail("far")
    );
    let found = world.search(Query::related_to(["a", "b"])).await;
    assert_eq!(
        ids(&found),
        ["shared", "near"],
        "one reference deep by default"
    );
}

#[tokio::test(start_paused = true)]
async fn a_document_does_not_lose_to_its_neighbour_by_being_a_seed() {
    let world = World::new(&["papers"]).await;
    world
        .write(
            "papers",
            Document::new("a").text("north journal").references(["b"]),
        )
        .await;
    world
        .write("papers", Document::new("b").text("north journal"))
        .await;
    world
        .write("papers", Document::new("c").text("north journal"))
        .await;
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(ids(&found), ["a", "b", "c"]);
    for linked in ["a", "b"] {
        let graph = hit(&found, linked)
            .contributions
            .iter()
            .find(|c| c.leg == LegName::Graph);
        assert!(
            graph.is_some_and(|c| c.contribution > 0.0),
            "{linked} is linked to another seed"
        );
    }
    let kinds = Query::hybrid("north journal").edge_kind("contradicts");
    let found = world.search(kinds).await;
    assert_eq!(leg(&found, LegName::Graph).candidates, 0, "no such edges");
}

#[tokio::test(start_paused = true)]
async fn default_weights_follow_the_kind_of_the_embedder() {
    let world = small().await;
    let weights = async |query: Query| {
        let found = world.search(query).await;
        LegWeights(
            found
                .legs
                .iter()
                .map(|leg| (leg.weight * 1_000.0).round())
                .collect(),
        )
    };
    #[derive(Debug, PartialEq)]
    struct LegWeights(Vec<f64>);
    let given = |weights: [f64; 3]| LegWeights(weights.to_vec());
    assert_eq!(
        weights(Query::hybrid("north")).await,
        given([450.0, 450.0, 100.0])
    );
    world.set_embedder(Some(Compass {
        kind: EmbedderKind::Lexical,
        broken: false,
    }));
    assert_eq!(
        weights(Query::hybrid("north")).await,
        given([180.0, 720.0, 100.0])
    );
    let own = Query::hybrid("north").weights(1.0, 1.0, 2.0);
    assert_eq!(weights(own).await, given([250.0, 250.0, 500.0]));
    let two = Query::hybrid("north").weights(3.0, 1.0, 0.0);
    assert_eq!(weights(two).await, given([750.0, 250.0, 0.0]));
}

#[tokio::test(start_paused = true)]
async fn a_leg_without_store_or_vector_is_not_configured_and_not_degraded() {
    let world = small().await;
    world.without(Role::Graph);
    world.set_embedder(None);
    let found = world.search(Query::hybrid("north journal")).await;
    assert!(!found.degraded());
    assert_eq!(
        leg(&found, LegName::Semantic).outcome,
        LegOutcome::NotConfigured
    );
    assert_eq!(
        leg(&found, LegName::Graph).outcome,
        LegOutcome::NotConfigured
    );
    assert!((leg(&found, LegName::Metadata).weight - 1.0).abs() < 1e-12);
    assert_eq!(ids(&found), ["north", "east"]);

    let error = world
        .try_search(Query::semantic("north"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("no embedder"), "{error}");
    let error = world
        .try_search(Query::related_to(["north"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let found = world.search(Query::semantic_vector([0.0, 1.0])).await;
    assert_eq!(found.hits[0].id.as_ref(), "north");
}

#[tokio::test(start_paused = true)]
async fn the_filter_is_pushed_down_and_holds_for_graph_hits_too() {
    let world = World::new(&["papers"]).await;
    world
        .write(
            "papers",
            tenant("mine", "a", "north journal").references(["theirs"]),
        )
        .await;
    world
        .write("papers", tenant("theirs", "b", "north journal"))
        .await;
    let query = Query::hybrid("north journal").filter(field("tenant").eq("a"));
    let found = world.search(query).await;
    assert_eq!(ids(&found), ["mine"]);
    assert_eq!((world.vector.filters(), world.relational.filters()), (1, 1));
    let graph = Query::related_to(["mine"]).filter(field("tenant").eq("a"));
    assert!(
        world.search(graph).await.hits.is_empty(),
        "the neighbour is another tenant's"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_filter_is_asked_for_more_and_says_so() {
    let world = World::new(&["papers"]).await;
    world.vector.cannot_filter();
    for n in 0..300 {
        let owner = if n < 290 { "b" } else { "a" };
        world
            .write("papers", tenant(&format!("p{n:03}"), owner, "north"))
            .await;
    }
    let query = Query::semantic("north")
        .filter(field("tenant").eq("a"))
        .limit(10);
    let found = world.search(query).await;
    assert_eq!(
        found.hits.len(),
        10,
        "all of them are behind 290 of another tenant"
    );
    assert_eq!(world.vector.filters(), 0);
    let notes = &leg(&found, LegName::Semantic).notes;
    assert!(
        notes.iter().any(|note| note.contains("its best 500")),
        "{notes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_dropped_hits_are_refilled_within_a_bound() {
    let world = World::new(&["papers"]).await;
    for n in 0..1_200 {
        world
            .write("papers", Document::new(format!("p{n:04}")).text("north"))
            .await;
    }
    // The first 110 are gone, but the vector store does not know it yet.
    for n in 0..110 {
        world
            .delete_from("papers", &format!("p{n:04}"), &[Role::Relational])
            .await;
    }
    let found = world.search(Query::semantic("north").limit(10)).await;
    assert_eq!(found.hits.len(), 10);
    assert_eq!(
        world.vector.requests(),
        2,
        "the second time for more candidates"
    );
    for n in 110..1_100 {
        world
            .delete_from("papers", &format!("p{n:04}"), &[Role::Relational])
            .await;
    }
    let found = world.search(Query::semantic("north").limit(10)).await;
    assert!(found.hits.is_empty());
    assert_eq!(
        found.page_end,
        PageEnd::Budget,
        "not exhausted: 1,000 of 1,200 were looked at"
    );
    assert!(found.cursor.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_filter_field_is_missing_for_every_document() {
    let world = small().await;
    let found = world
        .search(Query::metadata("").filter(field("colour").eq("red")))
        .await;
    assert!(found.hits.is_empty() && !found.degraded());
    let found = world
        .search(Query::metadata("").filter(field("colour").ne("red")))
        .await;
    assert_eq!(
        ids(&found),
        ["east", "ice", "north", "south"],
        "by id, with equal scores"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vector_of_zeros_is_equally_far_from_everything() {
    let world = small().await;
    let found = world.search(Query::semantic_vector([0.0, 0.0])).await;
    assert_eq!(ids(&found), ["east", "north", "south"]);
    assert!(
        found
            .hits
            .iter()
            .all(|hit| hit.contributions[0].raw_score == 0.0)
    );
}

#[tokio::test(start_paused = true)]
async fn words_that_give_no_vector_find_nothing_by_meaning() {
    let world = small().await;
    let found = world.search(Query::hybrid("journal")).await;
    let semantic = leg(&found, LegName::Semantic);
    assert_eq!(
        (&semantic.outcome, semantic.candidates),
        (&LegOutcome::Answered, 0)
    );
    assert!(semantic.notes.iter().any(|note| note.contains("no vector")));
    assert_eq!(ids(&found)[..2], ["east", "north"]);
}

#[tokio::test(start_paused = true)]
async fn a_vector_of_another_dimension_is_refused_by_name() {
    let world = small().await;
    for query in [
        Query::semantic_vector([1.0, 0.0, 0.0]),
        Query::hybrid("north").vector([1.0]),
    ] {
        let error = world.try_search(query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("expected: 2"), "{error}");
    }
    assert_eq!(world.vector.requests(), 0, "nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn several_collections_are_searched_as_one() {
    let world = World::new(&["papers", "notes", "empty"]).await;
    world
        .write("papers", Document::new("p").text("north journal"))
        .await;
    world
        .write("papers", Document::new("other").text("cold"))
        .await;
    world
        .write("notes", Document::new("p").text("north east journal"))
        .await;
    let reference = Reference::new("p").collection("papers");
    world
        .write(
            "notes",
            Document::new("q").text("west").references([reference]),
        )
        .await;
    let found = world.search(Query::hybrid("north journal")).await;
    let keys: Vec<_> = found
        .hits
        .iter()
        .map(|hit| (hit.collection.as_ref(), hit.id.as_ref()))
        .collect();
    assert_eq!(
        keys[..2],
        [("papers", "p"), ("notes", "p")],
        "the same id twice is two documents"
    );
    assert!(
        keys.contains(&("notes", "q")),
        "over a reference between collections"
    );
    let one = world
        .search_in(&world.scope[..1], Query::hybrid("north journal"))
        .await
        .unwrap();
    assert_eq!(
        ids(&one),
        ["p"],
        "what is linked from outside the scope is no hit"
    );
}

#[tokio::test(start_paused = true)]
async fn no_collection_at_all_is_an_empty_answer() {
    let world = World::new(&[]).await;
    let found = world.search(Query::hybrid("north")).await;
    assert!(found.hits.is_empty() && !found.degraded());
    assert_eq!(found.page_end, PageEnd::Exhausted);
    assert_eq!(world.reads.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn vectors_of_another_model_are_never_compared() {
    let mut world = small().await;
    world.scope[0]
        .options
        .embedding_space
        .as_mut()
        .unwrap()
        .model = "another".to_owned();
    let error = world
        .try_search(Query::semantic("north"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EmbeddingSpaceMismatch);
    let found = world.search(Query::hybrid("north journal")).await;
    assert!(found.degraded());
    assert_eq!(leg(&found, LegName::Semantic).outcome, LegOutcome::Failed);
    assert_eq!(world.vector.requests(), 0);

    let space = world.scope[0].options.embedding_space.as_mut().unwrap();
    space.model = EmbeddingSpace::CALLER.to_owned();
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(
        leg(&found, LegName::Semantic).outcome,
        LegOutcome::NotConfigured
    );
    let found = world.search(Query::semantic_vector([0.0, 1.0])).await;
    assert_eq!(found.hits[0].id.as_ref(), "north");
}
