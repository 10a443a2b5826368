//! What the graph leg starts from, and what it tells.

use super::world::*;
use crate::model::*;

fn of_tenant(id: &str, tenant: &str) -> Document {
    Document::new(id).metadata("tenant", tenant)
}

fn details(found: &SearchResponse) -> Vec<&str> {
    let parts = found.hits.iter().flat_map(|hit| &hit.contributions);
    parts.filter_map(|part| part.detail.as_deref()).collect()
}

/// The id, that its title matches and what it refers to are not for another tenant's eyes.
#[tokio::test(start_paused = true)]
async fn nothing_is_reached_from_what_does_not_fulfil_the_filter() {
    let world = World::new(&["papers"]).await;
    world.write("papers", of_tenant("mine", "a")).await;
    let secret = of_tenant("their secret", "b").title("lighthouse");
    world.write("papers", secret.references(["mine"])).await;
    let own = of_tenant("own", "a").title("the lighthouse");
    world.write("papers", own.references(["beside"])).await;
    world.write("papers", of_tenant("beside", "a")).await;
    let of = |tenant| field("tenant").eq(tenant);

    let found = world
        .search(Query::graph("lighthouse").filter(of("a")))
        .await;
    assert_eq!(ids(&found), ["own", "beside"]);
    assert_eq!(
        details(&found),
        ["title match", "via references from own"],
        "the title match of another tenant"
    );
    let found = world.search(Query::graph("lighthouse")).await;
    assert!(
        ids(&found).contains(&"mine"),
        "without a filter there is no tenant"
    );
}

/// A store that cannot filter, or lags, brings hits of which nobody has said that they fulfil it.
#[tokio::test(start_paused = true)]
async fn nothing_is_reached_from_hits_that_no_store_has_filtered() {
    let world = World::new(&["papers"]).await;
    world.write("papers", of_tenant("mine", "a")).await;
    let secret = of_tenant("their secret", "b").text("north");
    world.write("papers", secret.references(["mine"])).await;
    world.vector.cannot_filter();
    world.without(Role::Relational);
    let query = Query::hybrid("north").filter(field("tenant").eq("a"));
    assert_eq!(details(&world.search(query).await), Vec::<&str>::new());
}

/// What a store that has caught up has filtered is not read a second time.
#[tokio::test(start_paused = true)]
async fn what_the_stores_have_filtered_is_started_from_without_a_read() {
    let world = World::new(&["papers"]).await;
    let document = of_tenant("mine", "a").text("north").references(["ice"]);
    world.write("papers", document).await;
    world.write("papers", of_tenant("ice", "a")).await;
    let query = Query::hybrid("north").filter(field("tenant").eq("a"));
    assert_eq!(ids(&world.search(query).await), ["mine", "ice"]);
    assert_eq!(world.reads(), 1);
}

/// 600 title matches and 600 neighbours are more than a ranking holds.
#[tokio::test(start_paused = true)]
async fn a_ranking_that_was_cut_off_is_not_called_exhausted() {
    let world = World::new(&["papers"]).await;
    for n in 0..600 {
        let matching = Document::new(format!("match {n}")).title("lighthouse");
        let other = format!("other {n}");
        world
            .write("papers", matching.references([other.clone()]))
            .await;
        world.write("papers", Document::new(other)).await;
    }
    // Ten title matches are expanded: their neighbours are too few, so named seeds bring the rest.
    for seed in 0..10 {
        let others = (0..600).map(|n| format!("other {n}"));
        let hub = Document::new(format!("hub {seed}")).title("lighthouse lighthouse lighthouse");
        world.write("papers", hub.references(others)).await;
    }
    let query = Query::graph("lighthouse").limit(500);
    let mut found = world.search(query.clone()).await;
    let mut hits = found.hits.len();
    while let Some(cursor) = found.cursor.clone() {
        found = world.search(query.clone().after(cursor)).await;
        hits += found.hits.len();
    }
    assert_eq!((hits, found.page_end), (1_000, PageEnd::Budget));
}
