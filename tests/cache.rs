//! The cache in front of `get` and `search`: it never serves what the read-your-writes view knows
//! to be old.
#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Mode, Rig, caught_up, eventually};
use dbmanager_core::{
    DatabaseManager, ErrorKind,
    config::Config,
    model::{Document, Level, Query, Role, SearchResponse, Version},
};

const LIFETIME: Duration = Duration::from_secs(60);

fn config(rig: &Rig) -> Config {
    rig.config()
        .adjust(|settings| settings.performance.cache_ttl = LIFETIME)
}

async fn open(rig: &Rig) -> DatabaseManager {
    rig.builder_with(config(rig)).open().await.unwrap()
}

async fn put(db: &DatabaseManager, collection: &str, id: &str, text: &str) -> Version {
    let document = Document::new(id).title(text).text(text);
    let stored = db.store_document(collection, document).level(Level::All);
    stored.await.unwrap().version
}

/// Lets the journal go of everything, so that reads no longer see its entries.
async fn settle(db: &DatabaseManager) {
    eventually("the journal lets go", || db.health().journal.entries == 0).await;
}

async fn text(db: &DatabaseManager, id: &str) -> Option<String> {
    let found = db.get_document("c", id).await.unwrap();
    found.map(|stored| stored.document.text)
}

async fn search(db: &DatabaseManager, collection: &str, words: &str) -> SearchResponse {
    let found = db
        .search_documents(collection, Query::metadata(words))
        .await;
    found.unwrap()
}

fn ids(response: &SearchResponse) -> Vec<&str> {
    response.hits.iter().map(|hit| &*hit.id).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_read_is_served_without_the_authority_and_what_was_not_is_an_error() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "read", "one").await;
    put(&db, "c", "unread", "two").await;
    settle(&db).await;
    assert_eq!(text(&db, "read").await.as_deref(), Some("one"));
    assert_eq!(text(&db, "absent").await, None);
    rig.switch(Role::Relational).set(Mode::Down);
    assert_eq!(text(&db, "read").await.as_deref(), Some("one"));
    for id in ["unread", "absent"] {
        let error = db.get_document("c", id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_and_a_delete_are_seen_at_once_and_after_the_journal_has_let_go() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "a", "one").await;
    settle(&db).await;
    assert_eq!(text(&db, "a").await.as_deref(), Some("one"));
    put(&db, "c", "a", "two").await;
    assert_eq!(text(&db, "a").await.as_deref(), Some("two"));
    settle(&db).await;
    assert_eq!(text(&db, "a").await.as_deref(), Some("two"));
    db.delete_document("c", "a")
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(text(&db, "a").await, None);
    settle(&db).await;
    assert_eq!(text(&db, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_gets_old() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "a", "one").await;
    settle(&db).await;
    text(&db, "a").await.unwrap();
    search(&db, "c", "one").await;
    tokio::time::advance(LIFETIME - Duration::from_secs(1)).await;
    assert!(search(&db, "c", "one").await.cached);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!search(&db, "c", "one").await.cached);
    tokio::time::advance(LIFETIME).await;
    rig.switch(Role::Relational).set(Mode::Down);
    db.get_document("c", "a").await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_result_is_served_until_something_it_may_hold_is_written() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "a", "apple").await;
    put(&db, "other", "x", "apple").await;
    settle(&db).await;
    let first = search(&db, "c", "apple").await;
    let again = search(&db, "c", "apple").await;
    assert!(!first.cached && again.cached);
    assert_eq!(ids(&again), ids(&first));
    assert!(
        !search(&db, "c", "apples and").await.cached,
        "another query"
    );
    assert!(!search(&db, "other", "apple").await.cached, "another scope");

    // Another collection: not for a search that looks at this one alone.
    put(&db, "other", "y", "apple").await;
    assert!(search(&db, "c", "apple").await.cached);
    put(&db, "c", "b", "apple").await;
    settle(&db).await;
    let found = search(&db, "c", "apple").await;
    assert!(!found.cached);
    assert_eq!(found.hits.len(), 2);
    db.delete_document("c", "a")
        .level(Level::All)
        .await
        .unwrap();
    settle(&db).await;
    assert_eq!(ids(&search(&db, "c", "apple").await), ["b"]);

    // The graph leg passes through every collection.
    let hybrid = || db.search_documents("c", Query::hybrid("apple"));
    hybrid().await.unwrap();
    assert!(hybrid().await.unwrap().cached);
    put(&db, "other", "z", "pear").await;
    settle(&db).await;
    assert!(!hybrid().await.unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn a_collection_that_was_dropped_and_made_again_shows_nothing_of_the_old_one() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "a", "apple").await;
    settle(&db).await;
    text(&db, "a").await.unwrap();
    search(&db, "c", "apple").await;
    db.drop_collection("c").await.unwrap();
    assert_eq!(text(&db, "a").await, None);
    put(&db, "c", "b", "apple").await;
    settle(&db).await;
    assert_eq!(text(&db, "a").await, None);
    assert_eq!(ids(&search(&db, "c", "apple").await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_degraded_answer_and_one_of_a_store_that_lags_are_not_kept() {
    let rig = Rig::new();
    let db = open(&rig).await;
    put(&db, "c", "a", "apple").await;
    settle(&db).await;
    let hybrid = || db.search_documents("c", Query::hybrid("apple"));
    rig.switch(Role::Vector).set(Mode::Down);
    assert!(hybrid().await.unwrap().degraded());
    assert!(!hybrid().await.unwrap().cached);
    // Taken by a quorum; the vector store has yet to get it.
    let late = Document::new("late").text("apple");
    db.store_document("c", late).await.unwrap();
    rig.switch(Role::Vector).set(Mode::Up);
    eventually("it catches up", || caught_up(&db)).await;
    settle(&db).await;
    let found = hybrid().await.unwrap();
    assert!(!found.cached && !found.degraded());
    assert_eq!(found.hits.len(), 2);
    assert!(hybrid().await.unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn the_pages_after_a_kept_one_go_on_from_it() {
    let rig = Rig::new();
    let db = open(&rig).await;
    for id in 0..30 {
        put(&db, "c", &format!("{id:02}"), "apple").await;
    }
    settle(&db).await;
    let query = || Query::metadata("apple").limit(10);
    let first = db.search_documents("c", query()).await.unwrap();
    let again = db.search_documents("c", query()).await.unwrap();
    assert!(again.cached);
    let mut seen: Vec<String> = ids(&first).into_iter().map(str::to_owned).collect();
    for page in [&first, &again] {
        let next = query().after(page.cursor.clone().unwrap());
        let next = db.search_documents("c", next).await.unwrap();
        assert_eq!(next.hits.len(), 10);
        assert!(ids(&next).iter().all(|id| !seen.iter().any(|s| s == id)));
    }
    seen.dedup();
    assert_eq!(seen.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_nothing_is_kept() {
    let rig = Rig::new();
    let db = rig.open().await;
    put(&db, "c", "a", "one").await;
    settle(&db).await;
    text(&db, "a").await.unwrap();
    search(&db, "c", "one").await;
    assert!(!search(&db, "c", "one").await.cached);
    rig.switch(Role::Relational).set(Mode::Down);
    db.get_document("c", "a").await.unwrap_err();
}

/// Readers and writers of a few documents at the same time: nobody reads a version below one that
/// was acknowledged before the read began, or that was read before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_no_read_goes_back() {
    let rig = Rig::new();
    let db = open(&rig).await;
    let known: Arc<Mutex<HashMap<String, Version>>> = Arc::default();
    let id = |n: usize| format!("d{}", n % 5);
    let mut tasks = Vec::new();
    for task in 0..4 {
        let (db, known) = (db.clone(), Arc::clone(&known));
        tasks.push(tokio::spawn(async move {
            for n in 0..200 {
                let id = id(n + task);
                let version = put(&db, "c", &id, &format!("apple {n}")).await;
                let mut known = known.lock().unwrap();
                let newest = known.entry(id).or_insert(version);
                *newest = version.max(*newest);
            }
        }));
    }
    for task in 0..4 {
        let (db, known) = (db.clone(), Arc::clone(&known));
        tasks.push(tokio::spawn(async move {
            for n in 0..1_000 {
                let id = id(n + task);
                let before = known.lock().unwrap().get(&id).copied();
                let Some(before) = before else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let found = db.get_document("c", &id).await.unwrap().unwrap();
                assert!(
                    found.version >= before,
                    "{id}: {:?} < {before:?}",
                    found.version
                );
                let mut known = known.lock().unwrap();
                let newest = known.entry(id).or_insert(found.version);
                *newest = found.version.max(*newest);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    settle(&db).await;
    let last = known.lock().unwrap().clone();
    for (id, version) in last {
        for _ in 0..2 {
            let found = db.get_document("c", &id).await.unwrap().unwrap();
            assert_eq!(found.version, version);
        }
    }
}
