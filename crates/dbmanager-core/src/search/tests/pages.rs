//! Pages are cut from the ranking that the first page fixed.

use std::{collections::BTreeSet, time::Duration};

use super::world::*;
use crate::{ErrorKind, model::*};

async fn many(count: usize) -> World {
    let world = World::new(&["papers"]).await;
    for n in 0..count {
        let text = format!("{} journal", "north ".repeat(n % 7 + 1));
        world
            .write("papers", Document::new(format!("p{n:03}")).text(text))
            .await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn pages_repeat_nothing_and_end() {
    let world = many(45).await;
    let query = Query::hybrid("north journal").limit(10);
    let mut seen = BTreeSet::new();
    let mut sizes = Vec::new();
    let mut scores = Vec::new();
    let mut page = world.search(query.clone()).await;
    loop {
        sizes.push(page.hits.len());
        scores.extend(page.hits.iter().map(|hit| hit.score));
        for hit in &page.hits {
            assert!(seen.insert(hit.id.clone()), "{} came twice", hit.id);
        }
        assert_eq!(page.cursor.is_some(), page.page_end == PageEnd::Full);
        let Some(cursor) = page.cursor else { break };
        page = world.search(query.clone().after(cursor)).await;
        assert_eq!(page.legs.len(), 3);
    }
    assert_eq!(sizes, [10, 10, 10, 10, 5]);
    assert!(scores.is_sorted_by(|left, right| left >= right));
    assert_eq!(page.page_end, PageEnd::Exhausted);
    assert_eq!(world.relational.requests(), 1, "the legs ran once");
}

#[tokio::test(start_paused = true)]
async fn each_page_is_checked_anew_and_stands_still_while_documents_come() {
    let world = many(30).await;
    let query = Query::metadata("journal").limit(10);
    let first = world.search(query.clone()).await;
    let later = Query::metadata("journal").limit(1_000);
    let all = world.search(later).await;
    let gone = all.hits[12].id.to_string();
    world.delete_from("papers", &gone, &Role::ALL).await;
    world
        .write("papers", Document::new("a-new").text("journal"))
        .await;
    let second = world.search(query.after(first.cursor.unwrap())).await;
    assert_eq!(second.hits.len(), 10, "the gap is filled from behind");
    assert!(!ids(&second).contains(&gone.as_str()));
    assert!(!ids(&second).contains(&"a-new"));
}

#[tokio::test(start_paused = true)]
async fn a_cursor_expires() {
    let world = many(30).await;
    let query = Query::metadata("journal");
    let cursor = world.search(query.clone()).await.cursor.unwrap();
    tokio::time::advance(Duration::from_secs(299)).await;
    world.search(query.clone().after(cursor.clone())).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let error = world.try_search(query.after(cursor)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorExpired);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_belongs_to_its_query_and_its_collections() {
    let world = World::new(&["papers", "notes"]).await;
    for n in 0..30 {
        world
            .write("papers", Document::new(format!("p{n}")).text("journal"))
            .await;
    }
    let query = Query::metadata("journal");
    let cursor = world.search(query.clone()).await.cursor.unwrap();
    for other in [
        Query::metadata("journals"),
        Query::hybrid("journal"),
        query.clone().limit(11),
        query.clone().filter(field("a").exists()),
        query.clone().allow_unverified(),
        query.clone().vector([1.0, 0.0]),
    ] {
        let error = world
            .try_search(other.after(cursor.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CursorExpired);
    }
    let elsewhere = query.clone().after(cursor.clone());
    let error = world
        .search_in(&world.scope[1..], elsewhere)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorExpired);
    let quicker = query
        .clone()
        .timeout(Duration::from_secs(1))
        .after(cursor.clone());
    assert_eq!(
        world.search(quicker).await.hits.len(),
        10,
        "the time is each page's own"
    );
    for text in [
        "",
        "nonsense",
        &cursor[1..],
        &cursor.to_uppercase().replace('0', "G"),
    ] {
        let error = world
            .try_search(query.clone().after(text))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}");
    }
    let beyond = format!("{}ffffffff", &cursor[..32]);
    let error = world.try_search(query.after(beyond)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_ranking_goes_first() {
    let mut world = many(30).await;
    world.route = crate::search::SearchRoute::keeping(70);
    let query = Query::metadata("journal");
    let cursors = [
        world.search(query.clone()).await.cursor.unwrap(),
        world.search(query.clone()).await.cursor.unwrap(),
    ];
    // The first is used again, so the second goes when a third comes.
    world.search(query.clone().after(cursors[0].clone())).await;
    world.search(query.clone()).await;
    world.search(query.clone().after(cursors[0].clone())).await;
    let error = world
        .try_search(query.after(cursors[1].clone()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CursorExpired);
}
