//! Slow servers, busy pools, abandoned calls, bad items.

use std::{sync::Arc, time::Duration};

use dbmanager_core::{
    Runtime,
    backend::{ApplyRequest, BackendErrorKind, Effect, GraphBackend, OpenContext, StampRequest},
    model::{Document, Reference},
};
use neo4rs::{Query, Txn};

use super::{
    data::{self, edges, head, ids, key, persist, prepare, refused, upsert, write},
    server::{Server, open_with},
};

async fn prepared(
    server: &Server,
    pool_size: usize,
    attempt: Duration,
) -> (String, Arc<dyn GraphBackend>) {
    let namespace = server.namespace();
    prepare(&*server.open(&namespace).await.unwrap())
        .await
        .unwrap();
    let context = OpenContext::new(Runtime::tokio())
        .pool_size(pool_size)
        .attempt_timeout(attempt);
    let store = open_with(&server.config(&namespace), context)
        .await
        .unwrap();
    (namespace, store)
}

/// Holds the lock of a document until the transaction is ended.
async fn lock(server: &Server, namespace: &str, id: &str) -> Txn {
    let mut transaction = server.client().start_txn().await.unwrap();
    let statement = format!("MATCH (d:{namespace}_Document {{id: $id}}) SET d.lock = 0");
    let query = Query::new(statement).param("id", id);
    transaction.run(query).await.unwrap();
    transaction
}

/// Statements of ours that the server is still running.
async fn running(server: &Server, namespace: &str) -> usize {
    let query = Query::new(
        "SHOW TRANSACTIONS YIELD currentQuery WHERE currentQuery CONTAINS $namespace
         AND NOT currentQuery STARTS WITH 'SHOW' RETURN currentQuery"
            .to_owned(),
    )
    .param("namespace", namespace);
    let mut answer = server.client().execute_read(query).await.unwrap();
    let mut count = 0;
    while answer.next().await.unwrap().is_some() {
        count += 1;
    }
    count
}

/// Waits until the server runs nothing of ours any more.
async fn wait_until_idle(server: &Server, namespace: &str) {
    let idle = async {
        while running(server, namespace).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), idle)
        .await
        .expect("the server ends what nobody waits for");
}

#[tokio::test]
async fn neo4j_keeps_the_deadline_and_ends_what_nobody_waits_for() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (namespace, store) = prepared(&server, 4, Duration::from_secs(2)).await;
    persist(&*store, &[upsert(1, Document::new("a"))])
        .await
        .unwrap();
    let held = lock(&server, &namespace, "a").await;
    let start = std::time::Instant::now();
    let error = refused(write(&*store, &[upsert(2, Document::new("a"))]).await);
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert_eq!(error.effect(), Effect::Unknown);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    // The lock is still held: it is the server that gives the statement up.
    wait_until_idle(&server, &namespace).await;
    held.rollback().await.unwrap();
    assert_eq!(
        head(&*store, "a").await.unwrap().unwrap().version.as_u64(),
        1
    );
    persist(&*store, &[upsert(3, Document::new("a"))])
        .await
        .unwrap();
    assert_eq!(
        head(&*store, "a").await.unwrap().unwrap().version.as_u64(),
        3
    );
    server.clean().await;
}

#[tokio::test]
async fn neo4j_says_when_every_connection_is_in_use_and_recovers() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (namespace, store) = prepared(&server, 1, Duration::from_secs(4)).await;
    persist(&*store, &[upsert(1, Document::new("a"))])
        .await
        .unwrap();
    let held = lock(&server, &namespace, "a").await;
    let document = [upsert(2, Document::new("a"))];
    let (slow, other) = tokio::join!(write(&*store, &document), head(&*store, "a"));
    assert_eq!(refused(slow).kind(), BackendErrorKind::Timeout);
    let error = refused(other);
    assert_eq!(error.kind(), BackendErrorKind::Overloaded, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("connection_pool_size"), "{error}");
    held.rollback().await.unwrap();
    persist(&*store, &document).await.unwrap();
    assert_eq!(
        head(&*store, "a").await.unwrap().unwrap().version.as_u64(),
        2
    );
    server.clean().await;
}

/// Calls given up at any point leave no connection that answers a later call with their answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_survives_calls_that_are_given_up() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (namespace, store) = prepared(&server, 3, Duration::from_secs(10)).await;
    let many = |number: u64| {
        let references = (0..300).map(|i| format!("target {i}"));
        upsert(number, Document::new("hub").references(references))
    };
    persist(&*store, &[many(1)]).await.unwrap();
    for number in 2..120_u64 {
        let patience = Duration::from_micros(97 * number);
        let mutations = [many(number)];
        if number % 2 == 0 {
            // Given up or not, both are right.
            let _ = tokio::time::timeout(patience, write(&*store, &mutations)).await;
        } else {
            let _ = tokio::time::timeout(patience, edges(&*store, "hub")).await;
        }
        let missing = store.heads(ids(["nobody"])).await.unwrap();
        assert_eq!(missing, [None], "after {patience:?}");
    }
    wait_until_idle(&server, &namespace).await;
    persist(&*store, &[many(1_000)]).await.unwrap();
    let found = edges(&*store, "hub").await.unwrap().unwrap();
    assert_eq!(found.version.as_u64(), 1_000);
    assert_eq!(found.references.len(), 300);
    server.clean().await;
}

#[tokio::test]
async fn neo4j_stores_99_of_100_when_one_cannot_be_held() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (_, store) = prepared(&server, 4, Duration::from_secs(20)).await;
    // The server's index takes no key above some 8 kB; no limit of ours is broken.
    let poison = Document::new("id 57").references([Reference::new("x".repeat(9_000))]);
    let mutations: Vec<_> = (0..100)
        .map(|number| match number {
            57 => upsert(1, poison.clone()),
            _ => upsert(
                1,
                Document::new(format!("id {number}")).references(["shared"]),
            ),
        })
        .collect();
    let request = ApplyRequest::new(key(), 1, mutations);
    let answers = store.apply(request).await.unwrap();
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Err(error) if number == 57 => {
                assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
            }
            answer => assert!(answer.is_ok() && number != 57, "{number}: {answer:?}"),
        }
    }
    let all: Vec<String> = (0..100).map(|number| format!("id {number}")).collect();
    let heads = store
        .heads(ids(all.iter().map(String::as_str)))
        .await
        .unwrap();
    for (number, head) in heads.iter().enumerate() {
        assert_eq!(head.is_some(), number != 57, "{number}");
    }
    server.clean().await;
}

#[tokio::test]
async fn neo4j_refuses_more_than_it_can_hold_before_it_is_sent() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (_, store) = prepared(&server, 4, Duration::from_secs(20)).await;
    let limits = store.capabilities().limits.clone();
    let too_many = (0..=limits.max_references).map(|i| format!("t{i}"));
    for document in [
        Document::new("a").references(too_many),
        Document::new("x".repeat(limits.max_id_bytes + 1)),
        Document::new("nul\0"),
    ] {
        let error = refused(write(&*store, &[upsert(1, document)]).await);
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
        assert_eq!(error.effect(), Effect::NotApplied, "{error}");
    }
    server.clean().await;
}

/// As many references as are allowed, in one document.
#[tokio::test]
async fn neo4j_holds_as_many_references_as_it_says() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (_, store) = prepared(&server, 4, Duration::from_secs(60)).await;
    let most = store.capabilities().limits.max_references;
    let targets = (0..most).map(|i| format!("target {i}"));
    let document = Document::new("hub").references(targets);
    write(&*store, &[upsert(1, document.clone())])
        .await
        .unwrap();
    write(&*store, &[upsert(2, document)]).await.unwrap();
    let found = edges(&*store, "hub").await.unwrap().unwrap();
    assert_eq!(found.references.len(), most);
    // The targets that are left go with the same statement.
    let others = (0..most).map(|i| format!("other {i}"));
    write(
        &*store,
        &[upsert(3, Document::new("hub").references(others))],
    )
    .await
    .unwrap();
    let found = edges(&*store, "hub").await.unwrap().unwrap();
    assert_eq!(
        &*found.references[most - 1].target,
        format!("other {}", most - 1)
    );
    server.clean().await;
}

/// Managers of the old epoch write while a new one stamps: what they hold then, they hold for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neo4j_lets_no_write_of_an_older_epoch_through_after_a_stamp() {
    let Some(server) = Server::from_environment() else {
        return;
    };
    let (_, store) = prepared(&server, 8, Duration::from_secs(20)).await;
    let names: Vec<String> = (0..4).map(|i| format!("id {i}")).collect();
    for round in 1..=20_u64 {
        let writers: Vec<_> = names
            .iter()
            .map(|id| {
                let (store, id) = (Arc::clone(&store), id.clone());
                tokio::spawn(async move {
                    for number in 1.. {
                        let version = round * 1_000_000 + number;
                        let mutations = [upsert(version, Document::new(id.as_str()))];
                        let request = ApplyRequest::new(key(), round, mutations);
                        let answer: Result<Vec<()>, _> = match store.apply(request).await {
                            Ok(items) => items.into_iter().collect(),
                            Err(error) => Err(error),
                        };
                        match answer {
                            Ok(_) => {}
                            Err(error) if error.is_transient() => {}
                            Err(error) => return error.kind(),
                        }
                    }
                    unreachable!("the loop ends with an error")
                })
            })
            .collect();
        let newer = StampRequest::new(data::stamp(round + 1));
        while let Err(error) = store.write_stamp(newer.clone()).await {
            assert!(error.is_transient(), "{error}");
        }
        let at_the_stamp = store
            .heads(ids(names.iter().map(String::as_str)))
            .await
            .unwrap();
        for writer in writers {
            assert_eq!(writer.await.unwrap(), BackendErrorKind::StaleEpoch);
        }
        let afterwards = store
            .heads(ids(names.iter().map(String::as_str)))
            .await
            .unwrap();
        assert_eq!(afterwards, at_the_stamp, "round {round}");
    }
    server.clean().await;
}
