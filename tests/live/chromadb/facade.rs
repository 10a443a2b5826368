//! The whole library with this server as its vector store.

use std::time::Duration;

use dbmanager::{config::Config, prelude::*};

use super::server::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_keeps_the_server_in_step() {
    let Some(site) = Site::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let config = Config::embedded(directory.path())
        .store(
            Role::Vector,
            "chromadb",
            super::server::object(site.config()),
        )
        .write(Level::All, Duration::from_secs(60));
    let db = DatabaseManager::open(config).await.unwrap();
    let documents = (0..40).map(|number| {
        Document::new(format!("{number:02}"))
            .title(format!("paper {number}"))
            .text(match number % 2 {
                0 => "crash recovery with a write ahead log",
                _ => "pictures of cats and dogs",
            })
            .metadata("year", 1980 + number)
    });
    for stored in db.store_documents("papers", documents).await.unwrap() {
        assert!(stored.unwrap().level_reached());
    }
    let query = Query::semantic("crash recovery")
        .filter(field("year").ge(2010))
        .limit(10);
    let found = db.search_documents("papers", query).await.unwrap();
    assert!(!found.degraded(), "{found:?}");
    for hit in &found.hits {
        let year = hit.document.as_ref().unwrap().metadata["year"].as_i64();
        assert!(year >= Some(2010), "{hit:?}");
    }
    assert_eq!(found.hits.len(), 10);
    for (name, number) in [("10", 0), ("12", 1)] {
        let document = Document::new(name).text(format!("something else {number}"));
        db.store_document("papers", document).await.unwrap();
    }
    db.delete_document("papers", "14").await.unwrap();
    let report = db.check_consistency().await.unwrap();
    assert!(report.is_consistent(), "{report:?}");
    db.close(Duration::from_secs(30)).await.unwrap();
}
