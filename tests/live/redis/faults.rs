//! Servers that are stopped, full, slow, or take no writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{BackendErrorKind, Effect, Mutation, VectorBackend},
    model::Document,
};

use super::{
    Place, apply, create, eventually, held, ids, nearest,
    own::{Kind, Server},
    put, record, upsert, version,
};

/// What was acknowledged is there after a crash, and the store that was open goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_mid_batch_loses_nothing_acknowledged() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let settings = ["appendonly yes", "appendfsync always"];
        let Some(mut server) = Server::start(kind, &settings) else {
            return;
        };
        let place = Place::new(&server.url()).timeout(Duration::from_secs(5));
        let store = place.store().await;
        assert!(store.capabilities().durable_on_apply);
        let writer = Arc::clone(&*store);
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let writing = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for batch in 0_u64.. {
                let mutations: Vec<_> = (0..50)
                    .map(|i| upsert(&format!("{batch} {i}"), batch * 50 + i + 1))
                    .collect();
                match apply(&writer, mutations).await {
                    Err(_) => break,
                    Ok(answers) => {
                        let whole = answers.iter().all(Result::is_ok);
                        for (i, answer) in answers.into_iter().enumerate() {
                            if answer.is_ok() {
                                acknowledged.push((batch, i as u64));
                            }
                        }
                        told.send(batch).unwrap();
                        if !whole {
                            break;
                        }
                    }
                }
            }
            acknowledged
        });
        while heard.recv().await.unwrap() < 5 {}
        server.kill();
        let acknowledged = writing.await.unwrap();
        assert!(acknowledged.len() >= 250, "{}", acknowledged.len());
        let error = store.heads(ids(&["0 0"])).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
        server.restart();
        // Nothing goes on before it was checked whose store it is.
        let error = loop {
            let error = store.heads(ids(&["0 0"])).await.unwrap_err();
            if error.message().contains("checked first") {
                break error;
            }
            assert!(error.is_transient(), "{error}");
        };
        assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
        eventually(|| store.identity()).await;
        for some in acknowledged.chunks(500) {
            let names: Vec<String> = some.iter().map(|(b, i)| format!("{b} {i}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let heads = eventually(|| store.heads(ids(&names))).await;
            for ((batch, i), head) in some.iter().zip(heads) {
                let expected = Some(version(batch * 50 + i + 1));
                assert_eq!(head.map(|head| head.version), expected, "{batch} {i}");
            }
        }
        put(&store, "afterwards", 1_000_000).await;
        let found = eventually(|| nearest(&store, [1.0, 1_000_000.0, 0.5], 1)).await;
        assert_eq!(&*found[0].id, "afterwards");
    }
}

/// After a start the query engine may read every document again, and meanwhile finds a part
/// without saying so: then a search fails rather than answer with that part.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_being_built_gives_no_part_of_an_answer() {
    const DOCUMENTS: u64 = 4_000;
    let settings = ["appendonly yes", "appendfsync always"];
    let Some(mut server) = Server::start(Kind::QueryEngine, &settings) else {
        return;
    };
    let place = Place::new(&server.url());
    let store = place.store().await;
    for start in (0..DOCUMENTS).step_by(500) {
        let batch = (start..start + 500).map(|n| upsert(&format!("{n}"), n + 1));
        for answer in apply(&store, batch.collect()).await.unwrap() {
            answer.unwrap();
        }
    }
    let mut building = 0;
    for remade in [false, true] {
        if remade {
            // An index that was made over documents that were there is built in the background,
            // now and after every start.
            let drop = ["FT.DROPINDEX", &place.key("1:papers")];
            server.wire().call(&drop).unwrap().done();
            create(&store, 3).await.unwrap();
            building += searched_until_whole(&store, DOCUMENTS).await;
        }
        server.kill();
        server.restart();
        eventually(|| store.identity()).await;
        building += searched_until_whole(&store, DOCUMENTS).await;
    }
    assert!(building > 0, "the index was never seen being built");
}

/// Searches until everything is found, and never a part; how often the index was being built.
async fn searched_until_whole(store: &Arc<dyn VectorBackend>, documents: u64) -> usize {
    let building = AtomicUsize::new(0);
    let found = eventually(|| async {
        let found = nearest(store, [1.0, 2.0, 3.0], documents as usize).await;
        if let Err(error) = &found {
            assert!(error.message().contains("building the index"), "{error}");
            building.fetch_add(1, Ordering::Relaxed);
        }
        found
    })
    .await;
    assert_eq!(found.len() as u64, documents);
    building.into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_takes_no_writes_until_it_does() {
    let Some(server) = Server::start(Kind::VectorSets, &[]) else {
        return;
    };
    let Some(upstream) = Server::start(Kind::VectorSets, &[]) else {
        return;
    };
    let place = Place::new(&server.url());
    let store = place.store().await;
    let port = upstream.port().to_string();
    server
        .wire()
        .call(&["REPLICAOF", "127.0.0.1", &port])
        .unwrap()
        .done();
    let error = loop {
        // Until it has copied the other server's data it may still be loading.
        match apply(&store, vec![upsert("a", 1)]).await {
            Err(error) => break error,
            Ok(answers) => match answers.into_iter().next().unwrap() {
                Err(error) if error.message().contains("read-only") => break error,
                Err(error) => assert!(error.is_transient(), "{error}"),
                Ok(()) => panic!("a replica took a write"),
            },
        }
    };
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    assert_eq!(error.effect(), Effect::NotApplied, "{error}");
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    server
        .wire()
        .call(&["REPLICAOF", "NO", "ONE"])
        .unwrap()
        .done();
    let store = place.store().await;
    put(&store, "a", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_is_overload_and_passes() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let Some(server) = Server::start(kind, &["appendonly yes"]) else {
            return;
        };
        let store = Place::new(&server.url()).store().await;
        put(&store, "a", 1).await;
        let limit = |most: &str| {
            let setting = ["CONFIG", "SET", "maxmemory", most];
            server.wire().call(&setting).unwrap().done();
        };
        limit("1mb");
        let answers = apply(&store, vec![upsert("a", 2), upsert("b", 2)]).await;
        for answer in answers.unwrap() {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Overloaded, "{error}");
            assert_eq!(error.effect(), Effect::NotApplied, "{error}");
        }
        // Reading, and waiting for the disk, go on.
        assert_eq!(held(&store, "a").await, Some(version(1)));
        assert_eq!(nearest(&store, [1.0, 1.0, 1.0], 5).await.unwrap().len(), 1);
        store.sync().await.unwrap();
        limit("0");
        put(&store, "b", 2).await;
    }
}

#[tokio::test]
async fn a_server_that_throws_keys_away_is_refused() {
    let settings = ["maxmemory 100mb", "maxmemory-policy allkeys-lru"];
    let Some(server) = Server::start(Kind::VectorSets, &settings) else {
        return;
    };
    let error = Place::new(&server.url()).try_open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("allkeys-lru"), "{error}");
}

/// One document that the server cannot take, among a hundred.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_over_the_limit_is_refused_alone() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let settings = ["proto-max-bulk-len 1mb"];
        let Some(server) = Server::start(kind, &settings) else {
            return;
        };
        let store = Place::new(&server.url()).store().await;
        let mutations = (0..100).map(|n| {
            let id = format!("{n}");
            if n == 42 {
                let document = Document::new(id.as_str())
                    .metadata("long", "x".repeat(2 << 20))
                    .vector([1.0, 2.0, 3.0]);
                return Mutation::upsert(id, version(1), record(document));
            }
            upsert(&id, n + 1)
        });
        let answers = apply(&store, mutations.collect()).await.unwrap();
        for (n, answer) in answers.into_iter().enumerate() {
            if n == 42 {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
                assert_eq!(error.effect(), Effect::NotApplied);
            } else {
                answer.unwrap();
            }
        }
        let found = nearest(&store, [1.0, 2.0, 3.0], 1_000).await.unwrap();
        assert_eq!(found.len(), 99);
        assert_eq!(held(&store, "42").await, None);
    }
}

/// The server answers nobody; calls end at their time, and later ones are answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_is_given_up_in_time() {
    let Some(server) = Server::start(Kind::VectorSets, &[]) else {
        return;
    };
    let place = Place::new(&server.url()).timeout(Duration::from_millis(400));
    let store = place.store().await;
    put(&store, "a", 1).await;
    server.freeze();
    let runtime = Runtime::tokio();
    let begin = runtime.monotonic();
    let error = store.heads(ids(&["a"])).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    let error = match apply(&store, vec![upsert("a", 2)]).await {
        Err(error) => error,
        Ok(mut answers) => answers.remove(0).unwrap_err(),
    };
    assert_eq!(error.kind(), BackendErrorKind::Timeout, "{error}");
    assert_eq!(error.effect(), Effect::Unknown, "{error}");
    let took = runtime.monotonic() - begin;
    assert!(took < Duration::from_secs(5), "{took:?}");
    server.thaw();
    eventually(|| store.heads(ids(&["a"]))).await;
    put(&store, "a", 3).await;
    assert_eq!(held(&store, "a").await, Some(version(3)));
}

/// More requests than the connections take: those that wait too long are told so, and when the
/// others end everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn exhausted_connections_are_overload_and_recover() {
    let Some(server) = Server::start(Kind::VectorSets, &[]) else {
        return;
    };
    let place = Place::new(&server.url())
        .pool_size(1)
        .timeout(Duration::from_millis(600));
    let store = place.store().await;
    server.freeze();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let store = Arc::clone(&*store);
            tokio::spawn(async move { store.heads(ids(&["a"])).await })
        })
        .collect();
    let mut kinds = Vec::new();
    for call in calls {
        kinds.push(call.await.unwrap().unwrap_err().kind());
    }
    let count = |kind| kinds.iter().filter(|found| **found == kind).count();
    assert!(count(BackendErrorKind::Overloaded) >= 100, "{kinds:?}");
    assert!(count(BackendErrorKind::Timeout) >= 1, "{kinds:?}");
    server.thaw();
    eventually(|| store.heads(ids(&["a"]))).await;
    put(&store, "a", 1).await;
}

/// Scripts that the server forgot are sent again without anyone noticing.
#[tokio::test(flavor = "multi_thread")]
async fn forgotten_scripts_are_sent_again() {
    let Some(server) = Server::start(Kind::QueryEngine, &[]) else {
        return;
    };
    let store = Place::new(&server.url()).store().await;
    let mut wire = server.wire();
    for number in 1..=5 {
        wire.call(&["SCRIPT", "FLUSH"]).unwrap().done();
        let mutations = (0..10).map(|i| upsert(&format!("{i}"), number));
        for answer in apply(&store, mutations.collect()).await.unwrap() {
            answer.unwrap();
        }
        wire.call(&["SCRIPT", "FLUSH"]).unwrap().done();
        assert_eq!(held(&store, "3").await, Some(version(number)));
    }
}
