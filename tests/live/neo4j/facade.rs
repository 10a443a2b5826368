//! The whole facade with its graph in Neo4j.

use std::time::Duration;

use dbmanager::prelude::*;

use super::server::Server;

const BOUND: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_is_the_graph_of_a_manager() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let namespace = server.namespace();
    let opened = || {
        let config = Config::embedded(directory.path()).store(
            Role::Graph,
            "neo4j",
            server.config(&namespace),
        );
        DatabaseManager::open(config)
    };
    let db = opened().await.unwrap();
    let documents: Vec<Document> = (0..50)
        .map(|number: u32| {
            Document::new(format!("d{number}"))
                .title(format!("Paper number {number}"))
                .text(format!("text of paper {number}"))
                .references([format!("d{}", number + 1)])
        })
        .collect();
    for receipt in db.store_documents("papers", documents).await.unwrap() {
        let receipt = db
            .wait_for(&receipt.unwrap(), Level::All, BOUND)
            .await
            .unwrap();
        assert_eq!(receipt.pending().count(), 0, "{receipt:?}");
    }
    let receipt = db.delete_document("papers", "d7").await.unwrap();
    db.wait_for(&receipt, Level::All, BOUND).await.unwrap();
    let found = db
        .search_documents("papers", Query::graph("number 12"))
        .await
        .unwrap();
    assert!(!found.degraded(), "{:?}", found.legs);
    assert!(
        found.hits.iter().any(|hit| &*hit.id == "d12"),
        "{:?}",
        found.hits
    );
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    db.close(BOUND).await.unwrap();

    // What was stored is found again by the next opening.
    let db = opened().await.unwrap();
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    db.close(BOUND).await.unwrap();
    server.clean().await;
}
