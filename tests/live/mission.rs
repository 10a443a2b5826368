//! The configuration that the library was made for, as it stands: ChromaDB, Neo4j and SQLite.

use std::time::Duration;

use dbmanager::prelude::*;

use crate::environment::{CHROMADB, NEO4J, report, unique};

const CONFIGURATION: &str = r#"{
    "vector": {"enabled": true, "type": "chromadb", "config": {"host": "localhost", "port": 8000, "collection_prefix": "veritas_"}},
    "graph": {"enabled": true, "type": "neo4j", "config": {"uri": "bolt://localhost:7687", "username": "neo4j", "password": "secret"}},
    "relational": {"enabled": true, "type": "sqlite", "config": {"database_path": "databases/veritas.db", "enable_wal": true}},
    "performance": {"connection_pool_size": 20, "query_timeout": 30, "retry_attempts": 3, "circuit_breaker_threshold": 5, "cache_ttl": 300, "batch_size": 100}}"#;

/// `scheme://user:password@host:port` in parts.
fn parts(address: &str) -> (String, String, String) {
    let (scheme, rest) = address.split_once("://").expect("a URL");
    let (user, server) = rest.rsplit_once('@').unwrap_or(("", rest));
    let password = user.split_once(':').map_or("", |(_, password)| password);
    let port = server
        .rsplit_once(':')
        .expect("a port")
        .1
        .trim_end_matches('/');
    (scheme.to_owned(), password.to_owned(), port.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_works_as_it_stands_but_for_ports_and_passwords() {
    let (Some(chromadb), Some(neo4j)) = (CHROMADB.address(), NEO4J.address()) else {
        return;
    };
    let (_, _, chromadb_port) = parts(&chromadb);
    let (_, neo4j_password, neo4j_port) = parts(&neo4j);
    let directory = tempfile::tempdir().unwrap();
    let under = |path: &str| directory.path().join(path).display().to_string();
    let namespace = unique("veritas");
    // Besides ports and passwords: what keeps this run apart from others on the same servers.
    let environment = [
        ("VECTOR__CONFIG__PORT", chromadb_port),
        ("VECTOR__CONFIG__COLLECTION_PREFIX", format!("{namespace}_")),
        (
            "GRAPH__CONFIG__URI",
            format!("bolt://localhost:{neo4j_port}"),
        ),
        ("GRAPH__CONFIG__PASSWORD", neo4j_password),
        ("GRAPH__CONFIG__NAMESPACE", namespace),
        (
            "RELATIONAL__CONFIG__DATABASE_PATH",
            under("databases/veritas.db"),
        ),
        ("JOURNAL__CONFIG__PATH", under("journal")),
    ];
    let environment = environment.map(|(key, value)| (format!("DBMANAGER__{key}"), value));
    let config = Config::from_json(CONFIGURATION)
        .unwrap()
        .with_environment(environment);
    let db = DatabaseManager::open(config).await.unwrap();

    let documents = [
        Document::new("a")
            .title("Invoices")
            .text("An invoice is due in thirty days.")
            .references(["b"]),
        Document::new("b")
            .title("Reminders")
            .text("A reminder follows an unpaid bill."),
        Document::new("c")
            .title("Holidays")
            .text("The office is closed in August."),
    ];
    let stored = db
        .store_documents("erp", documents)
        .level(Level::All)
        .await
        .unwrap();
    for receipt in stored {
        let receipt = receipt.unwrap();
        db.wait_for(&receipt, WaitFor::Searchable, Duration::from_secs(30))
            .await
            .unwrap();
    }
    let found = db
        .search_documents("erp", Query::hybrid("unpaid invoice"))
        .await
        .unwrap();
    assert!(!found.degraded(), "{:?}", found.legs());
    assert_eq!(&*found.hits[0].id, "a");
    let graph = db
        .search_documents("erp", Query::related_to(["a"]))
        .await
        .unwrap();
    assert_eq!(
        graph.hits.iter().map(|hit| &*hit.id).collect::<Vec<_>>(),
        ["b"]
    );
    assert!(db.check_consistency().await.unwrap().is_consistent());
    db.drop_collection("erp").await.unwrap();
    db.close(Duration::from_secs(30)).await.unwrap();
    report("mission configuration: ChromaDB, Neo4j and SQLite hold the same");
}
