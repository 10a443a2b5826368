//! A cluster: the whole store is in one slot, and the node that has it is found by `MOVED`.

use std::time::{Duration, Instant};

use dbmanager_core::backend::{BackendErrorKind, DropCollectionRequest};

use super::{
    Place, apply, eventually, held, key, nearest,
    own::{Kind, Server},
    put, upsert, version,
    wire::Reply,
};

/// Two nodes with half of the slots each.
fn cluster(kind: Kind) -> Option<[Server; 2]> {
    let settings = ["cluster-enabled yes", "cluster-node-timeout 5000"];
    let (a, b) = (
        Server::start(kind, &settings)?,
        Server::start(kind, &settings)?,
    );
    let slots = ["CLUSTER", "ADDSLOTSRANGE"];
    for (server, first, last) in [(&a, "0", "8191"), (&b, "8192", "16383")] {
        let call = [slots[0], slots[1], first, last];
        server.wire().call(&call).unwrap().done();
    }
    let port = b.port().to_string();
    a.wire()
        .call(&["CLUSTER", "MEET", "127.0.0.1", &port])
        .unwrap()
        .done();
    let begin = Instant::now();
    for server in [&a, &b] {
        loop {
            let info = server.wire().call(&["CLUSTER", "INFO"]).unwrap();
            let ready = info.texts()[0].contains("cluster_state:ok");
            if ready {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "no cluster");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Some([a, b])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_found_wherever_in_the_cluster_its_slot_is() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let Some(servers) = cluster(kind) else {
            return;
        };
        let mut on = [0, 0];
        // Names of both halves, each reached through either node.
        for number in 0..8 {
            let namespace = format!("n{number}");
            let mut wire = servers[0].wire();
            let slot = wire.call(&["CLUSTER", "KEYSLOT", &namespace]).unwrap();
            let slot = slot.number();
            on[usize::from(slot > 8_191)] += 1;
            for server in &servers {
                let place = Place::new(&server.url()).with("namespace", namespace.as_str());
                let store = place.store().await;
                let mutations = (0..20).map(|n| upsert(&format!("{n}"), n + 1));
                for answer in apply(&store, mutations.collect()).await.unwrap() {
                    answer.unwrap();
                }
                assert_eq!(held(&store, "7").await, Some(version(8)));
                let found = nearest(&store, [1.0, 4.0, 0.5], 100).await.unwrap();
                assert_eq!(found.len(), 20);
                store
                    .drop_collection(DropCollectionRequest::new(key(), 1))
                    .await
                    .unwrap();
            }
        }
        assert!(on[0] > 0 && on[1] > 0, "{on:?}");
    }
}

/// The slot moves to the other node while the store is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_is_followed() {
    let Some([a, b]) = cluster(Kind::VectorSets) else {
        return;
    };
    let place = Place::new(&a.url());
    let store = place.store().await;
    let (mut at_a, mut at_b) = (a.wire(), b.wire());
    let slot = at_a
        .call(&["CLUSTER", "KEYSLOT", place.namespace()])
        .unwrap()
        .number()
        .to_string();
    let own = place.key("store");
    let moved = matches!(at_a.call(&["EXISTS", &own]).unwrap(), Reply::Error(_));
    let (from, to) = if moved {
        (&mut at_b, &mut at_a)
    } else {
        (&mut at_a, &mut at_b)
    };
    let to_port = if moved { a.port() } else { b.port() }.to_string();
    put(&store, "a", 1).await;
    let id = |wire: &mut super::wire::Wire| {
        let myself = wire.call(&["CLUSTER", "MYID"]).unwrap().texts();
        myself[0].clone()
    };
    let (from_id, to_id) = (id(from), id(to));
    let set = |wire: &mut super::wire::Wire, state: &[&str]| {
        let mut call = vec!["CLUSTER", "SETSLOT", slot.as_str()];
        call.extend(state);
        wire.call(&call).unwrap().done();
    };
    set(to, &["IMPORTING", &from_id]);
    set(from, &["MIGRATING", &to_id]);
    for key in from.keys(place.namespace()).unwrap() {
        let mut migrate: Vec<Vec<u8>> = ["MIGRATE", "127.0.0.1", &to_port]
            .map(|part| part.as_bytes().to_vec())
            .into();
        migrate.extend([key, b"0".to_vec(), b"5000".to_vec()]);
        from.call(&migrate).unwrap().done();
    }
    for wire in [to, from] {
        set(wire, &["NODE", &to_id]);
    }
    // Another node is another run: its store is checked before anything goes on.
    let error = store.heads(super::ids(&["a"])).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Unavailable, "{error}");
    eventually(|| store.identity()).await;
    put(&store, "a", 2).await;
    put(&store, "b", 3).await;
    assert_eq!(held(&store, "a").await, Some(version(2)));
    assert_eq!(nearest(&store, [1.0, 3.0, 0.5], 10).await.unwrap().len(), 2);
}
