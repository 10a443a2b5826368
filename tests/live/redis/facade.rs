//! The service through the manager, by configuration alone.

use std::time::Duration;

use super::{Place, both};
use dbmanager::OpenDatabase;
use dbmanager_core::{
    DatabaseManager, ErrorKind,
    config::Config,
    model::{CollectionOptions, Document, Level, Metric, Query, Role, field},
};

fn config(place: &Place) -> Config {
    Config::in_memory().store(Role::Vector, "redis", place.settings.clone())
}

/// Stored, searched with and without a filter, deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_keeps_its_vectors_in_redis() {
    for (name, url) in both() {
        let place = Place::new(&url);
        let db = DatabaseManager::open(config(&place)).await.unwrap();
        for (id, text, year) in [
            ("p1", "crash recovery of journals", 1990),
            ("p2", "growing tomatoes on a balcony", 2001),
            ("p3", "journals and the recovery from a crash", 2010),
        ] {
            let document = Document::new(id).text(text).metadata("year", year);
            let receipt = db.store_document("papers", document).level(Level::All);
            assert!(receipt.await.unwrap().level_reached(), "{name}");
        }
        let search = async |query: Query| -> Vec<String> {
            let found = db.search_documents("papers", query).await.unwrap();
            assert!(!found.degraded(), "{name}: {:?}", found.legs());
            found.hits.iter().map(|hit| hit.id.to_string()).collect()
        };
        let mut found = search(Query::semantic("crash recovery").limit(2)).await;
        found.sort();
        assert_eq!(found, ["p1", "p3"], "{name}");
        let recent = field("year").ge(2000);
        let query = Query::semantic("crash recovery").filter(recent).limit(1);
        assert_eq!(search(query).await, ["p3"], "{name}");
        db.delete_document("papers", "p3")
            .level(Level::All)
            .await
            .unwrap();
        assert_eq!(
            search(Query::semantic("crash recovery").limit(1)).await,
            ["p1"]
        );
        let health = db.health_check().await;
        assert!(
            health.stores.iter().all(|store| store.error.is_none()),
            "{name}"
        );
        db.close(Duration::from_secs(10)).await.unwrap();
    }
}

/// A metric that a store lacks is refused before anything is written anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_metric_that_the_store_lacks_is_refused_beforehand() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "vector sets") else {
        return;
    };
    let place = Place::new(&url);
    let db = DatabaseManager::open(config(&place)).await.unwrap();
    for metric in [Metric::Dot, Metric::Euclidean] {
        let options = CollectionOptions::new().embedding_space("model", 3, metric);
        let error = db.create_collection("papers", options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert!(db.collections().is_empty());
    let options = CollectionOptions::new().embedding_space("model", 3, Metric::Cosine);
    db.create_collection("papers", options).await.unwrap();
    db.close(Duration::from_secs(10)).await.unwrap();
}
