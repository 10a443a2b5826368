//! A failed leg is never an empty result.

use std::time::Duration;

use super::world::*;
use crate::{ErrorKind, backend::BackendErrorKind, embed::EmbedderKind, model::*};

async fn small() -> World {
    let world = World::new(&["papers"]).await;
    world
        .write(
            "papers",
            Document::new("a").title("pole").text("north journal"),
        )
        .await;
    world
        .write("papers", Document::new("b").text("north").references(["a"]))
        .await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_hangs_has_timed_out_and_the_others_hits_are_there() {
    let world = small().await;
    world.vector.behave(Behaviour::Hang);
    let query = Query::hybrid("north journal").timeout(Duration::from_secs(2));
    let found = world.search(query).await;
    assert!(found.degraded());
    let semantic = leg(&found, LegName::Semantic);
    assert_eq!(semantic.outcome, LegOutcome::TimedOut);
    assert_eq!(
        semantic.elapsed,
        Duration::from_millis(1_500),
        "its share of the time"
    );
    assert!(semantic.error.is_some());
    assert_eq!(ids(&found), ["a", "b"]);
    assert_eq!(leg(&found, LegName::Metadata).outcome, LegOutcome::Answered);
    assert_eq!(leg(&found, LegName::Graph).outcome, LegOutcome::Answered);
    assert!(found.elapsed < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_told_apart() {
    let world = small().await;
    for (kind, outcome) in [
        (BackendErrorKind::CircuitOpen, LegOutcome::CircuitOpen),
        (BackendErrorKind::Timeout, LegOutcome::TimedOut),
        (BackendErrorKind::Unavailable, LegOutcome::Failed),
        (BackendErrorKind::Protocol, LegOutcome::Failed),
        (BackendErrorKind::CollectionMissing, LegOutcome::Failed),
    ] {
        world.relational.behave(Behaviour::Fail(kind));
        let found = world.search(Query::hybrid("north journal")).await;
        assert!(found.degraded());
        let metadata = leg(&found, LegName::Metadata);
        assert_eq!(metadata.outcome, outcome);
        assert!(metadata.error.as_ref().unwrap().contains("made to fail"));
        assert!(!found.hits.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_graph_costs_only_its_own_hits() {
    let world = small().await;
    world
        .graph
        .behave(Behaviour::Fail(BackendErrorKind::Unavailable));
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(leg(&found, LegName::Graph).outcome, LegOutcome::Failed);
    assert_eq!(ids(&found), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn no_leg_at_all_is_an_error_that_names_each() {
    let world = small().await;
    world
        .vector
        .behave(Behaviour::Fail(BackendErrorKind::CircuitOpen));
    world.relational.behave(Behaviour::Hang);
    world
        .graph
        .behave(Behaviour::Fail(BackendErrorKind::Unavailable));
    let error = world.try_search(Query::hybrid("north")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    let named: Vec<&str> = error.context().map(|(name, _)| name).collect();
    assert_eq!(named, ["semantic", "metadata", "graph"]);

    let error = world
        .try_search(Query::metadata("north"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    world
        .relational
        .behave(Behaviour::Fail(BackendErrorKind::Protocol));
    let error = world
        .try_search(Query::metadata("north"))
        .await
        .unwrap_err();
    assert!(
        !error.is_retryable(),
        "an answer nobody understands comes again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_behind_makes_its_leg_incomplete() {
    let world = small().await;
    world.falls_behind(Role::Vector);
    let found = world.search(Query::hybrid("north journal")).await;
    assert!(found.degraded());
    assert_eq!(
        leg(&found, LegName::Semantic).outcome,
        LegOutcome::Incomplete
    );
    assert_eq!(ids(&found), ["a", "b"], "what it has counts");
    world
        .vector
        .behave(Behaviour::Fail(BackendErrorKind::CollectionMissing));
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(
        leg(&found, LegName::Semantic).outcome,
        LegOutcome::Incomplete,
        "the collection's creation is among what it lacks"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_embedder_fails_the_semantic_leg_only() {
    let world = small().await;
    world.set_embedder(Some(Compass {
        kind: EmbedderKind::Semantic,
        broken: true,
    }));
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(leg(&found, LegName::Semantic).outcome, LegOutcome::Failed);
    assert_eq!(ids(&found), ["a", "b"]);
    let error = world
        .try_search(Query::semantic("north"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Embedding);
}

#[tokio::test(start_paused = true)]
async fn legs_run_at_the_same_time() {
    let world = small().await;
    let delay = Duration::from_millis(100);
    world.vector.behave(Behaviour::AnswerAfter(delay));
    world.relational.behave(Behaviour::AnswerAfter(delay));
    let found = world.search(Query::hybrid("north journal")).await;
    assert!(!found.degraded());
    assert!(found.elapsed <= delay.mul_f64(1.1), "{:?}", found.elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_asked_is_reported_like_one_that_fails() {
    let world = small().await;
    world.goes_down(Role::Vector);
    world.goes_down(Role::Graph);
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(
        leg(&found, LegName::Semantic).outcome,
        LegOutcome::CircuitOpen
    );
    assert_eq!(leg(&found, LegName::Graph).outcome, LegOutcome::CircuitOpen);
    assert_eq!(ids(&found), ["a", "b"]);
    let error = world
        .try_search(Query::related_to(["a"]))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("circuit open"), "{error}");
}

async fn one_document_by_words_only() -> World {
    let world = World::new(&["papers"]).await;
    for n in 0..150 {
        let document = Document::new(format!("n{n:03}")).text("north");
        world.write("papers", document).await;
    }
    let document = Document::new("word").text("south journal");
    world.write("papers", document).await;
    world
}

#[tokio::test(start_paused = true)]
async fn what_only_another_leg_found_is_looked_up() {
    let world = one_document_by_words_only().await;
    let query = || Query::hybrid("north journal").weights(0.1, 0.9, 0.0);
    let found = world.search(query()).await;
    let score = |found: &SearchResponse| {
        let parts = &hit(found, "word").contributions;
        parts
            .iter()
            .find(|c| c.leg == LegName::Semantic)
            .map(|c| (c.rank, c.raw_score))
    };
    assert_eq!(score(&found), Some((None, -1.0)));
    assert!(hit(&found, "word").matched_stores().eq([Role::Relational]));

    world
        .vector
        .behave(Behaviour::AnswerOnly(world.vector.requests() + 1));
    let found = world.search(query()).await;
    assert_eq!(score(&found), None);
    let semantic = leg(&found, LegName::Semantic);
    assert_eq!(semantic.outcome, LegOutcome::Answered, "no hit is missing");
    assert!(
        semantic
            .notes
            .iter()
            .any(|note| note.contains("not looked up"))
    );

    world.vector.behave(Behaviour::Answer);
    let asked = world.vector.requests();
    world.search(query().fusion(Fusion::RRF)).await;
    assert_eq!(
        world.vector.requests(),
        asked + 1,
        "ranks are not looked up"
    );
}

/// The vector store is behind and has hits; asked once more for more of them it fails.
#[tokio::test(start_paused = true)]
async fn a_leg_that_fails_when_asked_again_keeps_what_it_has_brought() {
    let world = World::new(&["papers"]).await;
    for n in 0..300 {
        let paper = Document::new(format!("p{n:03}")).text("north");
        world.write("papers", paper).await;
    }
    for n in 0..140 {
        let gone = format!("p{n:03}");
        world.delete_from("papers", &gone, &[Role::Graph]).await;
    }
    world.falls_behind(Role::Vector);
    let once = world.vector.requests() + 1;
    world.vector.behave(Behaviour::AnswerOnly(once));
    let found = world.search(Query::hybrid("north").limit(50)).await;
    assert!(world.vector.requests() > once, "it was asked again");
    let semantic = leg(&found, LegName::Semantic);
    assert_eq!(semantic.outcome, LegOutcome::Incomplete);
    assert!(semantic.candidates > 0);
}
