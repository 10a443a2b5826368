//! Wrong credentials, certificates and content; servers that are slow, gone and back.

use std::{sync::Arc, time::Duration};

use dbmanager_core::{
    Runtime,
    backend::{BackendErrorKind, Effect, IdsRequest},
    model::{Document, Passage},
};
use serde_json::json;

use super::{
    place::{
        Place, apply, context, create, heads, key, open, put, search, upsert, version,
        with_dimension,
    },
    server::{Certificates, Server},
};

const X: [f32; 3] = [1.0, 0.0, 0.0];

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_item_in_a_batch_of_100_is_refused_alone() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let poisons = [vec![1.0, f32::NAN, 0.0], vec![1.0], vec![f32::INFINITY; 3]];
    for (round, poison) in (0..).zip(poisons) {
        let batch = (0..100).map(|n| {
            let vector = if n == 42 { poison.clone() } else { X.to_vec() };
            let document = Document::new(format!("{round} {n}")).vector(vector);
            upsert(100 * round + n, document)
        });
        let answers = apply(&*store, 1, batch.collect()).await.unwrap();
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Ok(()) => assert_ne!(n, 42),
                Err(error) => {
                    assert_eq!(n, 42, "{error}");
                    assert_eq!(error.kind(), BackendErrorKind::Refused);
                    assert_eq!(error.effect(), Effect::NotApplied);
                }
            }
        }
        let stored: Vec<String> = (0..100).map(|n| format!("{round} {n}")).collect();
        let stored: Vec<&str> = stored.iter().map(String::as_str).collect();
        let held = heads(&*store, &stored).await;
        let count = held.iter().filter(|head| head.is_some()).count();
        assert_eq!((count, held[42]), (99, None));
    }
}

/// More than one request takes: a long set of long vectors, and metadata of some megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_big_document_is_held_whole() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.open().await.unwrap();
    create(&*store, with_dimension(1_536)).await.unwrap();
    let vector = |n: u32| {
        let mut values = vec![0.001; 1_536];
        values[n as usize] = 1.0;
        values
    };
    let document = (0..1_500).fold(Document::new("big"), |document, n| {
        let passage = Passage {
            start: n,
            end: n + 1,
        };
        document.passage_vector(passage, vector(n))
    });
    put(&*store, vec![upsert(1, document)]).await.unwrap();
    let ids: Arc<[Arc<str>]> = Arc::from([Arc::from("big")]);
    let stored = store.vectors(IdsRequest::new(key(), ids)).await.unwrap();
    let stored = stored[0].as_ref().unwrap();
    assert_eq!(stored.vectors.len(), 1_500);
    assert!((0..).zip(&stored.vectors).all(|(n, v)| v.chunk == n));
    let hits = search(&*store, &vector(777), 3).await.unwrap();
    assert_eq!((hits.len(), hits[0].chunk), (1, 777));
    let long = Document::new("long")
        .metadata("text", "x".repeat(3 << 20))
        .metadata("numbers", (0..5_000).collect::<Vec<i64>>())
        .vector(vector(0));
    put(&*store, vec![upsert(2, long)]).await.unwrap();
    assert!(heads(&*store, &["long"]).await[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_one_connection() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    place.filled().await;
    let store = open(&place.config(), &context().pool_size(1))
        .await
        .unwrap();
    let tasks: Vec<_> = (0..128)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let document = Document::new(format!("{n}")).vector(X);
                put(&*store, vec![upsert(n, document)]).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(search(&*store, &X, 200).await.unwrap().len(), 128);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_denied_and_never_shown() {
    let secret = "the-right-key";
    let settings = [("QDRANT__SERVICE__API_KEY", secret)];
    let Some(server) = Server::start("wrong key", "127.0.0.1", &settings).await else {
        return;
    };
    let place = Place::new(&server.url("http"), Some(secret.to_owned()));
    let store = place.filled().await;
    assert!(!format!("{store:?}").contains(secret));
    for wrong in [json!("hunter2"), json!(null)] {
        let mut config = place.config();
        config.insert("api_key".to_owned(), wrong);
        let error = open(&config, &context()).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
        assert_eq!(error.effect(), Effect::NotApplied);
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_read_is_denied_writes() {
    let settings = [
        ("QDRANT__SERVICE__API_KEY", "full"),
        ("QDRANT__SERVICE__READ_ONLY_API_KEY", "read"),
    ];
    let Some(server) = Server::start("read-only key", "127.0.0.1", &settings).await else {
        return;
    };
    let place = Place::new(&server.url("http"), Some("full".to_owned()));
    let store = place.filled().await;
    put(&*store, vec![upsert(1, Document::new("a").vector(X))])
        .await
        .unwrap();
    let mut config = place.config();
    config.insert("api_key".to_owned(), json!("read"));
    let reader = open(&config, &context()).await.unwrap();
    assert_eq!(search(&*reader, &X, 1).await.unwrap().len(), 1);
    let error = create(&*reader, with_dimension(7)).await.unwrap_err();
    assert!(error.effect() == Effect::NotApplied, "{error:?}");
    let answers = apply(&*reader, 1, vec![upsert(2, Document::new("a").vector(X))]).await;
    let error = answers.unwrap().remove(0).unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Denied, "{error}");
    assert_eq!(heads(&*store, &["a"]).await[0].unwrap().version, version(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked() {
    let Some(certificates) = Certificates::find("TLS") else {
        return;
    };
    let settings = [
        ("QDRANT__SERVICE__ENABLE_TLS", "true"),
        (
            "QDRANT__TLS__CERT",
            certificates.certificate.to_str().unwrap(),
        ),
        ("QDRANT__TLS__KEY", certificates.key.to_str().unwrap()),
    ];
    // The certificate is for 127.0.0.1: by the other address the name is wrong.
    let right = Server::start("TLS", "127.0.0.1", &settings).await;
    let wrong_name = Server::start("TLS", "127.0.0.2", &settings).await;
    let (Some(right), Some(wrong_name)) = (right, wrong_name) else {
        return;
    };
    let config = |url: String, authority: Option<&std::path::Path>| {
        let mut config = json!({"url": url, "collection_prefix": "tls"});
        if let Some(authority) = authority {
            config["tls_ca_file"] = json!(authority);
        }
        config.as_object().unwrap().clone()
    };
    let authority = Some(certificates.authority.as_path());
    let store = open(&config(right.url("https"), authority), &context()).await;
    let store = store.unwrap();
    create(&*store, with_dimension(3)).await.unwrap();
    put(&*store, vec![upsert(1, Document::new("a").vector(X))])
        .await
        .unwrap();
    let other = Some(certificates.other_authority.as_path());
    for (url, authority) in [
        (right.url("https"), other),
        (right.url("https"), None),
        (wrong_name.url("https"), authority),
    ] {
        let error = open(&config(url.clone(), authority), &context()).await;
        let error = error.unwrap_err();
        assert!(error.message().contains("certificate"), "{url}: {error}");
    }
    let plain = open(&config(right.url("http"), None), &context()).await;
    assert!(plain.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable() {
    let config = json!({"url": "http://127.0.0.1:9"});
    let error = open(config.as_object().unwrap(), &context()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let Some(server) = Server::start("slow server", "127.0.0.1", &[]).await else {
        return;
    };
    let place = Place::new(&server.url("http"), None);
    place.filled().await;
    let patience = context().attempt_timeout(Duration::from_secs(1));
    let store = open(&place.config(), &patience).await.unwrap();
    server.signal("STOP");
    let runtime = Runtime::tokio();
    let start = runtime.monotonic();
    let error = search(&*store, &X, 1).await.unwrap_err();
    let waited = runtime.monotonic() - start;
    server.signal("CONT");
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    until_it_answers(&runtime, &*store).await;
}

async fn until_it_answers(runtime: &Runtime, store: &dyn dbmanager_core::backend::VectorBackend) {
    for _ in 0..600 {
        match store.probe().await {
            Ok(()) => return,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        runtime.sleep(Duration::from_millis(50)).await;
    }
    panic!("the store does not recover");
}

/// Killed while batches are written: everything that was acknowledged is there when it is back,
/// the same store goes on by itself, and what was not acknowledged can be repeated.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_batch_loses_nothing_acknowledged() {
    let Some(mut server) = Server::start("restart in mid-batch", "127.0.0.1", &[]).await else {
        return;
    };
    let place = Place::new(&server.url("http"), None);
    let store = place.filled().await;
    let batch = |number: u64| -> Vec<_> {
        (0..50)
            .map(|n| {
                let id = format!("{number} {n}");
                let document = Document::new(id).vector(X).vector([0.0, 1.0, 0.0]);
                upsert(50 * number + n, document)
            })
            .collect()
    };
    let writer = Arc::clone(&store);
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let writing = tokio::spawn(async move {
        for number in 0.. {
            if put(&*writer, batch(number)).await.is_err() {
                return number;
            }
            if sender.send(number).is_err() {
                return number;
            }
        }
        0
    });
    for _ in 0..10 {
        acknowledged.recv().await.unwrap();
    }
    server.kill();
    let broken = writing.await.unwrap();
    server.resume().await;
    until_it_answers(&Runtime::tokio(), &*store).await;
    assert!(store.identity().await.unwrap().stamp.is_some());
    for number in 0..broken {
        let ids: Vec<String> = (0..50).map(|n| format!("{number} {n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let held = heads(&*store, &ids).await;
        assert!(held.iter().all(Option::is_some), "batch {number}");
    }
    put(&*store, batch(broken)).await.unwrap();
    let found = search(&*store, &X, 50 * (broken as usize + 1) + 1).await;
    assert_eq!(found.unwrap().len(), 50 * (broken as usize + 1));
}
