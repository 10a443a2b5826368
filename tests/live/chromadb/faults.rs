//! Servers that refuse, fall silent, stop and lose.

use std::time::{Duration, Instant};

use dbmanager_core::{
    backend::{BackendErrorKind, Effect},
    model::{Document, Metric},
};
use serde_json::{Value, json};

use super::server::{
    Gate, OwnServer, Site, answer, apply, context, create, gate, ids, open, open_in, prepare,
    program, search, stamp, upsert, version, write,
};

#[tokio::test]
async fn a_wrong_token_is_denied_and_not_shown() {
    let Some(site) = Site::new() else { return };
    for (header, name) in [
        ("authorization: Bearer hunter2", "authorization"),
        ("x-chroma-token: hunter2", "x-chroma-token"),
    ] {
        let guarded = Gate::Guarded(header);
        let (url, _gate) = gate("127.0.0.1", &site.url, guarded).await;
        let config = |token: &str| {
            json!({"url": url, "collection_prefix": site.prefix, "token": token,
                   "token_header": name})
        };
        let store = open(config("hunter2")).await.unwrap();
        assert!(store.probe().await.is_ok());
        assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
        let error = open(config("hunter3")).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied);
        assert_eq!(error.effect(), Effect::NotApplied);
        assert!(!format!("{error:?}").contains("hunter3"), "{error:?}");
    }
    let guarded = Gate::Guarded("authorization: Basic bWU6aHVudGVyMg==");
    let (url, _gate) = gate("127.0.0.1", &site.url, guarded).await;
    let config = |password: &str| json!({"url": url, "username": "me", "password": password});
    assert!(open(config("hunter2")).await.is_ok());
    let error = open(config("hunter3")).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Denied);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let Some(site) = Site::new() else { return };
    for (key, name) in [
        ("tenant", "no such tenant"),
        ("database", "no such database"),
    ] {
        let mut config = site.config();
        config[key] = name.into();
        let error = open(config).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(error.message().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_version_2_of_the_api_is_refused() {
    let Some(site) = Site::new() else { return };
    for (status, body, kind) in [
        (
            "404 Not Found",
            r#"{"detail":"Not Found"}"#,
            BackendErrorKind::Config,
        ),
        ("410 Gone", "{}", BackendErrorKind::Config),
        (
            "200 OK",
            "<html>starting</html>",
            BackendErrorKind::Protocol,
        ),
        ("502 Bad Gateway", "<html>", BackendErrorKind::Unavailable),
        ("503 Service Unavailable", "", BackendErrorKind::Unavailable),
    ] {
        let (url, _gate) = gate(
            "127.0.0.1",
            &site.url,
            Gate::Answering(answer(status, body)),
        )
        .await;
        let error = open(json!({"url": url})).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        if kind == BackendErrorKind::Config {
            assert!(
                error.message().contains("ChromaDB 1.5 is needed"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_silent_server_does_not_hold_calls_and_the_pool_recovers() {
    let Some(site) = Site::new() else { return };
    let (url, gate) = gate("127.0.0.1", &site.url, Gate::Open).await;
    let context = context()
        .attempt_timeout(Duration::from_secs(3))
        .pool_size(2);
    let config = json!({"url": url, "collection_prefix": site.prefix});
    let store = open_in(config, &context).await.unwrap();
    gate.send(Gate::Silent).unwrap();
    let start = Instant::now();
    let calls = (0..8).map(|_| store.probe());
    let failed = futures_util::future::join_all(calls).await;
    let kinds: Vec<_> = failed.into_iter().map(|f| f.unwrap_err().kind()).collect();
    // Each waits for a connection and then for the answer, no longer.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    assert!(kinds.contains(&BackendErrorKind::Timeout), "{kinds:?}");
    assert!(kinds.contains(&BackendErrorKind::Overloaded), "{kinds:?}");
    gate.send(Gate::Open).unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_server_that_forbids_writing_denies_and_changes_nothing() {
    let Some(site) = Site::new() else { return };
    let (url, gate) = gate("127.0.0.1", &site.url, Gate::Open).await;
    let store = open(json!({"url": url, "collection_prefix": site.prefix}))
        .await
        .unwrap();
    prepare(&store).await;
    write(&store, vec![upsert(1, Document::new("a"), &[[1.0, 0.0]])]).await;
    let denied = answer(
        "403 Forbidden",
        r#"{"error":"Forbidden","message":"read only"}"#,
    );
    gate.send(Gate::Answering(denied)).unwrap();
    let error = loop {
        let write = vec![upsert(2, Document::new("a"), &[[0.0, 1.0]])];
        let error = apply(&store, write).await.unwrap_err();
        // The connection that was open has to be given up first.
        if error.kind() != BackendErrorKind::Unavailable {
            break error;
        }
    };
    assert_eq!(error.kind(), BackendErrorKind::Denied);
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("read only"), "{error}");
    gate.send(Gate::Open).unwrap();
    let held = open(site.config()).await.unwrap();
    assert_eq!(search(&held, 1).await[0].version, version(1));
}

#[tokio::test]
async fn a_server_restarted_in_mid_batch_keeps_what_it_answered() {
    let Some(program) = program() else { return };
    let mut server = OwnServer::new(program);
    server.start().await;
    let site = Site::on(&server.url());
    let store = site.open().await;
    prepare(&store).await;
    let document = |number: u64| {
        let vectors = [[1.0, number as f32], [0.5, 1.0]];
        upsert(number, Document::new(format!("{number}")), &vectors)
    };
    let mut taken = Vec::new();
    let mut next = 1;
    let writing = {
        let store = store.clone();
        async move {
            loop {
                let batch: Vec<_> = (next..next + 10).map(document).collect();
                match apply(&store, batch).await {
                    Ok(answers) => taken.extend(
                        (next..)
                            .zip(answers)
                            .filter(|(_, a)| a.is_ok())
                            .map(|(n, _)| n),
                    ),
                    Err(error) => return (taken, error),
                }
                next += 10;
            }
        }
    };
    let writing = tokio::spawn(writing);
    // Some batches are there: then it goes down.
    while store.identity().await.unwrap().highest_version < Some(version(30)) {
        tokio::task::yield_now().await;
    }
    server.kill();
    let (taken, error) = writing.await.unwrap();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    assert!(taken.len() >= 20, "{taken:?}");
    let refused = store.probe().await.unwrap_err();
    assert_eq!(refused.kind(), BackendErrorKind::Unavailable);
    server.start().await;
    // The same store, not opened again.
    let names: Vec<String> = taken.iter().map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (name, held) in names.iter().zip(store.vectors(ids(&names)).await.unwrap()) {
        let held = held.unwrap_or_else(|| panic!("{name} was acknowledged"));
        assert_eq!(held.vectors.len(), 2, "{name}");
    }
    write(&store, (1..200).map(document).collect()).await;
    assert_eq!(search(&store, 1_000).await.len(), 199);
}

#[tokio::test]
async fn what_was_removed_behind_our_back_is_missed() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    let mutation = || vec![upsert(1, Document::new("a"), &[[1.0, 0.0]])];
    write(&store, mutation()).await;
    site.raw.remove_all(&site.prefix);
    let identity = store.identity().await.unwrap();
    assert_eq!((identity.stamp, identity.empty), (None, true));
    let error = apply(&store, mutation()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::CollectionMissing);
    assert_eq!(error.effect(), Effect::NotApplied);
    // It can be filled again without being opened again.
    prepare(&store).await;
    write(&store, mutation()).await;
    assert_eq!(search(&store, 1).await.len(), 1);
}

#[tokio::test]
async fn a_server_restored_from_an_older_copy_shows_its_older_stamp() {
    let Some(program) = program() else { return };
    let mut server = OwnServer::new(program);
    server.start().await;
    let site = Site::on(&server.url());
    let store = site.open().await;
    prepare(&store).await;
    write(&store, vec![upsert(1, Document::new("a"), &[[1.0, 0.0]])]).await;
    server.kill();
    let copy = server.copy();
    server.start().await;
    let mut progressed = stamp(1);
    progressed.stamp.progress = version(2);
    store.write_stamp(progressed).await.unwrap();
    write(&store, vec![upsert(2, Document::new("a"), &[[0.0, 1.0]])]).await;
    server.kill();
    server.restore(copy);
    server.start().await;
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.stamp, Some(stamp(1).stamp));
    assert_eq!(identity.highest_version, Some(version(1)));
}

#[tokio::test]
async fn two_openings_of_one_place_see_each_other() {
    let Some(site) = Site::new() else { return };
    let (first, second) = (site.open().await, site.open().await);
    prepare(&first).await;
    write(&first, vec![upsert(1, Document::new("a"), &[[1.0, 0.0]])]).await;
    assert_eq!(search(&second, 1).await.len(), 1);
    second.write_stamp(stamp(2)).await.unwrap();
    let stale = BackendErrorKind::StaleEpoch;
    let error = apply(&first, vec![upsert(2, Document::new("a"), &[[0.0, 1.0]])])
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.effect()), (stale, Effect::NotApplied));
    let error = first
        .create_collection(create(2, Metric::Cosine))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), stale);
    let error = first.write_stamp(stamp(1)).await.unwrap_err();
    assert_eq!(error.kind(), stale);
    assert_eq!(search(&first, 1).await[0].version, version(1));
}

#[tokio::test]
async fn one_document_over_the_servers_limit_is_refused_alone() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    let document = |number: u64| Document::new(format!("{number:03}"));
    // More than the 40 MiB that the server reads of a request.
    let texts: Vec<Value> = (0..45_000)
        .map(|number| format!("{number:06}{}", "x".repeat(1_000)).into())
        .collect();
    let batch = (0..100)
        .map(|number| match number {
            57 => upsert(
                number,
                document(number).metadata("texts", texts.clone()),
                &[[1.0, 0.0]],
            ),
            _ => upsert(number, document(number), &[[1.0, 0.0]]),
        })
        .collect();
    let answers = apply(&store, batch).await.unwrap();
    let refused: Vec<usize> = (0..100).filter(|index| answers[*index].is_err()).collect();
    assert_eq!(refused, [57]);
    let error = answers[57].as_ref().unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert_eq!(search(&store, 1_000).await.len(), 99);
    let heads = store.heads(ids(&["056", "057"])).await.unwrap();
    assert!(heads[0].is_some() && heads[1].is_none(), "{heads:?}");
}
