//! Every hit is checked against the current document.

use std::{sync::atomic::Ordering, time::Duration};

use super::world::*;
use crate::{model::*, search::CurrentDocument};

fn paper(id: &str, text: &str) -> Document {
    Document::new(id).text(text).metadata("tenant", "a")
}

#[tokio::test(start_paused = true)]
async fn a_deleted_document_is_no_hit_whatever_the_stores_hold() {
    let world = World::new(&["papers"]).await;
    world.write("papers", paper("gone", "north journal")).await;
    world.write("papers", paper("here", "north journal")).await;
    world.delete_from("papers", "gone", &[]).await;
    let found = world.search(Query::hybrid("north journal")).await;
    assert_eq!(ids(&found), ["here"]);
    assert_eq!(found.unverified, 0);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_changed_its_tenant_does_not_leak() {
    let world = World::new(&["papers"]).await;
    world.write("papers", paper("p", "north journal")).await;
    let moved = paper("p", "north journal").metadata("tenant", "b");
    world.write_to("papers", moved, &[Role::Relational]).await;
    let query = Query::hybrid("north journal").filter(field("tenant").eq("a"));
    assert!(world.search(query.clone()).await.hits.is_empty());
    assert!(world.search(query.allow_unverified()).await.hits.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_older_version_is_stale_until_its_store_has_confirmed_the_current_one() {
    let world = World::new(&["papers"]).await;
    world.write("papers", paper("p", "north journal")).await;
    let current = world
        .write_to(
            "papers",
            paper("p", "south journal"),
            &[Role::Relational, Role::Graph],
        )
        .await;
    let found = world.search(Query::semantic("north")).await;
    let stale = hit(&found, "p");
    assert_eq!(stale.verification, Verification::Stale);
    assert_eq!(stale.version, current);
    assert_eq!(
        stale.document.as_ref().unwrap().text,
        "south journal",
        "the content is current"
    );

    world.confirm("papers", "p");
    let found = world.search(Query::semantic("north")).await;
    assert!(
        found.hits.is_empty(),
        "the store has found something it no longer holds"
    );
    let found = world.search(Query::hybrid("journal north")).await;
    let whole = hit(&found, "p");
    assert_eq!(whole.verification, Verification::Current);
    let legs: Vec<LegName> = whole.contributions.iter().map(|c| c.leg).collect();
    assert_eq!(
        legs,
        [LegName::Metadata],
        "the part of the old version is gone, with its score"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_checked_is_dropped_counted_and_degraded() {
    let world = World::new(&["papers"]).await;
    for n in 0..30 {
        world
            .write("papers", paper(&format!("p{n:02}"), "north"))
            .await;
    }
    world.view_is_down.store(true, Ordering::SeqCst);
    let found = world.search(Query::semantic("north")).await;
    assert!(found.hits.is_empty() && found.degraded());
    assert_eq!(found.unverified, 30);
    assert_eq!(
        world.vector.requests(),
        1,
        "more candidates could not be checked either"
    );

    let found = world
        .search(Query::semantic("north").allow_unverified())
        .await;
    assert_eq!(found.hits.len(), 10);
    assert!(
        found
            .hits
            .iter()
            .all(|hit| hit.verification == Verification::Unverified)
    );
    assert!(found.hits.iter().all(|hit| hit.document.is_none()));
}

#[tokio::test(start_paused = true)]
async fn an_unverified_hit_must_have_passed_the_filter_somewhere() {
    let world = World::new(&["papers"]).await;
    world
        .write(
            "papers",
            paper("mine", "north journal").references(["theirs"]),
        )
        .await;
    let theirs = paper("theirs", "north journal").metadata("tenant", "b");
    world.write("papers", theirs).await;
    world.view_is_down.store(true, Ordering::SeqCst);
    let query = Query::hybrid("north journal").filter(field("tenant").eq("a"));
    let found = world.search(query.allow_unverified()).await;
    assert_eq!(ids(&found), ["mine"]);
    assert_eq!(found.unverified, 1, "the graph knows no filter");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_ends_with_the_deadline() {
    let world = World::new(&["papers"]).await;
    world.write("papers", paper("p", "north")).await;
    world.view_hangs.store(true, Ordering::SeqCst);
    let query = Query::semantic("north").timeout(Duration::from_secs(1));
    let found = world.search(query).await;
    assert_eq!(found.unverified, 1);
    assert_eq!(found.elapsed, Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_store_ahead_of_the_view_cannot_be_checked() {
    let world = World::new(&["papers"]).await;
    world.write("papers", paper("p", "south")).await;
    let known = world.view.lock().unwrap().clone();
    world.write("papers", paper("p", "north")).await;
    *world.view.lock().unwrap() = known;
    let found = world.search(Query::semantic("north")).await;
    assert!(found.hits.is_empty());
    assert_eq!(found.unverified, 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_authority_a_hit_has_no_content_and_the_filter_must_have_been_evaluated() {
    let world = World::new(&["papers"]).await;
    world
        .write("papers", paper("p", "north").references(["q"]))
        .await;
    world.write("papers", paper("q", "cold")).await;
    for current in world.view.lock().unwrap().values_mut() {
        if let CurrentDocument::Live { record, .. } = current {
            *record = None;
        }
    }
    world.without(Role::Relational);
    let found = world.search(Query::hybrid("north")).await;
    assert_eq!(ids(&found), ["p", "q"]);
    assert!(
        found
            .hits
            .iter()
            .all(|hit| hit.verification == Verification::Current)
    );
    assert!(found.hits.iter().all(|hit| hit.document.is_none()));
    let filtered = Query::hybrid("north").filter(field("tenant").eq("a"));
    let found = world.search(filtered).await;
    assert_eq!(ids(&found), ["p"], "the vector store has evaluated it");
    assert_eq!(found.unverified, 1, "the graph has not");
}
