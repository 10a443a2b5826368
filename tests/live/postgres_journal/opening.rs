//! What is refused at opening.

use std::time::Duration;

use dbmanager::{
    ErrorKind,
    config::Config,
    model::{Document, Level, Precondition},
};
use serde_json::json;

use super::world::{SOON, World};

const LEASE: Duration = Duration::from_secs(10);

fn with_journal(journal: serde_json::Value) -> Config {
    let stores = json!({"type": "memory"});
    let config = json!({
        "vector": stores, "graph": stores, "relational": stores,
        "journal": {"type": "postgres", "config": journal},
    });
    Config::from_json(&config.to_string()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_settings_are_named_and_secrets_are_not_shown() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let url = world.place.url();
    let (rest, address) = url.split_once('@').unwrap();
    let password = rest.rsplit(':').next().unwrap();
    let (host, _) = address.split_once('/').unwrap();
    for (journal, kind, named) in [
        (
            json!({"url": format!("postgres://postgres:hunter2@{address}")}),
            ErrorKind::Config,
            "password",
        ),
        (
            json!({"url": format!("{rest}@{host}/nowhere")}),
            ErrorKind::Config,
            "nowhere",
        ),
        (
            json!({"url": "postgres://127.0.0.1:1/postgres"}),
            ErrorKind::Unavailable,
            "reached",
        ),
        (json!({"hots": "x"}), ErrorKind::Config, "hots"),
        (json!({"path": "x"}), ErrorKind::Config, "path"),
        (
            json!({"host": "db.example.org"}),
            ErrorKind::Config,
            "allow_plain_text",
        ),
    ] {
        let error = world.try_open(with_journal(journal.clone())).await;
        let error = error.unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), kind, "{journal}: {text}");
        assert!(text.contains(named), "{journal}: {text}");
        assert!(
            !text.contains("hunter2") && !text.contains(password),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused_with_both_numbers() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    world.open().await.close(SOON).await.unwrap();
    world
        .place
        .run("UPDATE format SET number = 99 WHERE component = 'journal'")
        .await;
    let error = world.try_open(world.config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("99") && text.contains("up to 2"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_format_is_brought_up_to_date() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let db = world.open().await;
    let stored = db.store_document("papers", Document::new("p"));
    let version = stored.level(Level::All).await.unwrap().version;
    db.close(SOON).await.unwrap();
    for table in ["journal", "journal_operation"] {
        let first_format = format!("ALTER TABLE {table} DROP COLUMN adoptions");
        world.place.run(&first_format).await;
    }
    let older = "UPDATE format SET number = 1 WHERE component = 'journal'";
    world.place.run(older).await;
    let db = world.open().await;
    let again = db
        .store_document("papers", Document::new("p"))
        .precondition(Precondition::Version(version));
    again.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_journals_in_one_database_have_nothing_to_do_with_each_other() {
    let (Some(one), Some(other)) = (World::new(LEASE), World::new(LEASE)) else {
        return;
    };
    let (a, b) = (one.open().await, other.open().await);
    for db in [&a, &b] {
        assert!(db.health().journal.sharing.unwrap().sends);
    }
    a.store_document("papers", Document::new("p"))
        .await
        .unwrap();
    assert!(b.collections().is_empty());
    // Its stores belong to the other journal.
    a.close(SOON).await.unwrap();
    let mut config = serde_json::Map::new();
    config.insert("url".to_owned(), one.place.url().into());
    config.insert("schema".to_owned(), other.place.schema().into());
    b.close(SOON).await.unwrap();
    let wrong = one.config().adjust(move |settings| {
        settings.journal.config = config.clone();
    });
    let error = one.try_open(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
}

/// Refused for one that does not send, just as for the sender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_another_journal_are_refused_beside_a_living_sender() {
    let (Some(one), Some(other)) = (World::new(LEASE), World::new(LEASE)) else {
        return;
    };
    let a = one.open().await;
    a.store_document("papers", Document::new("p"))
        .await
        .unwrap();
    let b = other.open().await;
    b.store_document("papers", Document::new("q"))
        .await
        .unwrap();
    let schema = other.place.schema().to_owned();
    let wrong = one.config().adjust(move |settings| {
        let config = &mut settings.journal.config;
        config.insert("schema".to_owned(), schema.as_str().into());
    });
    let error = one.try_open(wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignStore, "{error}");
}
