//! What opening finds, refuses and says.

use dbmanager_core::backend::{BackendErrorKind, StampRequest};

use super::{
    data::{self, head, prepare, refused, upsert, write},
    server::{Server, open},
};
use crate::environment::report;
use dbmanager_core::model::Document;

#[tokio::test]
async fn neo4j_refuses_a_wrong_password_without_showing_it() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let mut config = server.config("neo4j_unused");
    config.insert("password".to_owned(), "hunter2hunter2".into());
    let error = refused(open(&config).await);
    assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains(&server.password), "{shown}");
}

#[tokio::test]
async fn neo4j_names_a_database_that_is_not_there() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let mut config = server.config("neo4j_unused");
    config.insert("database".to_owned(), "nowhere".into());
    let error = refused(open(&config).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn neo4j_takes_the_database_by_its_name_and_hides_secrets() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let mut config = server.config(&namespace);
    config.insert("database".to_owned(), "neo4j".into());
    let store = open(&config).await.unwrap();
    prepare(&*store).await.unwrap();
    let shown = format!("{store:?}");
    assert!(!shown.contains(&server.password), "{shown}");
    assert!(shown.contains(&namespace), "{shown}");
    // The database that has no name in the configuration is the same one.
    let other = server.open(&namespace).await.unwrap();
    assert_eq!(other.identity().await.unwrap().stamp, Some(data::stamp(1)));
    server.clean().await;
}

#[tokio::test]
async fn neo4j_is_unavailable_where_nothing_listens() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut config = server.config("neo4j_unused");
    config.insert("uri".to_owned(), format!("bolt://127.0.0.1:{port}").into());
    let error = refused(open(&config).await);
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn neo4j_refuses_layouts_it_does_not_know() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let newer = server.namespace();
    drop(server.open(&newer).await.unwrap());
    server
        .run(&format!("MATCH (s:{newer}_Store) SET s.format = 2"))
        .await;
    let error = refused(server.open(&newer).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("layout 2"), "{error}");
    assert!(error.message().contains("knows 1"), "{error}");

    let foreign = server.namespace();
    server
        .run(&format!("CREATE (:{foreign}_Document {{name: 'mine'}})"))
        .await;
    let error = refused(server.open(&foreign).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains(&foreign), "{error}");

    let index = server.namespace();
    server
        .run(&format!(
            "CREATE FULLTEXT INDEX {index}_titles FOR (n:{index}_Document) ON EACH [n.title_terms]
             OPTIONS {{indexConfig: {{`fulltext.analyzer`: 'english'}}}}"
        ))
        .await;
    let error = refused(server.open(&index).await);
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("_titles"), "{error}");
    server.clean().await;
}

#[tokio::test]
async fn neo4j_opened_twice_fences_the_older_manager() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    // Both at once, on a namespace that is not there yet.
    let (first, second) = tokio::join!(server.open(&namespace), server.open(&namespace));
    let first = match first {
        Err(error) if error.is_transient() => server.open(&namespace).await,
        answer => answer,
    };
    let second = match second {
        Err(error) if error.is_transient() => server.open(&namespace).await,
        answer => answer,
    };
    let (first, second) = (first.unwrap(), second.unwrap());
    prepare(&*first).await.unwrap();
    write(&*first, &[upsert(1, Document::new("a"))])
        .await
        .unwrap();
    second
        .write_stamp(StampRequest::new(data::stamp(2)))
        .await
        .unwrap();
    let error = refused(write(&*first, &[upsert(2, Document::new("a"))]).await);
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch, "{error}");
    let held = head(&*second, "a").await.unwrap().unwrap();
    assert_eq!(held.version.as_u64(), 1);
    server.clean().await;
}

/// A cluster's address works on a single server too: it is its own routing table.
#[tokio::test]
async fn neo4j_finds_the_writer_of_a_cluster() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let namespace = server.namespace();
    let mut config = server.config(&namespace);
    let routed = server.uri.replacen("bolt", "neo4j", 1);
    config.insert("uri".to_owned(), routed.into());
    let store = open(&config).await.unwrap();
    prepare(&*store).await.unwrap();
    for number in 1..=5 {
        write(&*store, &[upsert(number, Document::new("a"))])
            .await
            .unwrap();
        let held = head(&*store, "a").await.unwrap().unwrap();
        assert_eq!(held.version.as_u64(), number);
    }
    store.close().await.unwrap();
    server.clean().await;
    report("neo4j: routing tested against a single server; a cluster of several: not tested");
}
