//! Whose store it is, and whether it is still the one that was written.

use dbmanager_core::{
    backend::{ApplyRequest, BackendErrorKind, Stamp, StampRequest},
    model::JournalId,
};

use super::{
    Place, apply, both, eventually, held, key,
    own::{Kind, Server},
    put, stamp, upsert, version,
    wire::Wire,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_store_shows_no_stamp() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let Some(server) = Server::start(kind, &[]) else {
            return;
        };
        let store = Place::new(&server.url()).store().await;
        put(&store, "a", 1).await;
        server.wire().call(&["FLUSHALL"]).unwrap().done();
        let identity = store.identity().await.unwrap();
        assert_eq!(identity.stamp, None);
        assert_eq!(identity.highest_version, None);
        assert!(identity.empty);
        let error = store.heads(super::ids(&["a"])).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::CollectionMissing, "{error}");
        // Written anew it is not by chance: nobody created the collection.
        let error = apply(&store, vec![upsert("a", 2)]).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::CollectionMissing, "{error}");
    }
}

/// A server that keeps nothing says so, and what it lost shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_file_promises_nothing_and_its_loss_shows() {
    for settings in [
        &["appendonly no"][..],
        &["appendonly yes", "appendfsync no"],
    ] {
        let Some(mut server) = Server::start(Kind::VectorSets, settings) else {
            return;
        };
        let store = Place::new(&server.url()).store().await;
        assert!(!store.capabilities().durable, "{settings:?}");
        assert!(!store.capabilities().durable_on_apply);
        put(&store, "a", 1).await;
        store.sync().await.unwrap();
        if settings.len() == 1 {
            server.kill();
            server.restart();
            let identity = eventually(|| store.identity()).await;
            assert_eq!(identity.stamp, None);
            assert!(identity.empty);
        }
    }
}

/// With a file that is written every second, `sync` and the stamp wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_survives_a_crash() {
    for kind in [Kind::QueryEngine, Kind::VectorSets] {
        let settings = ["appendonly yes", "appendfsync everysec"];
        let Some(mut server) = Server::start(kind, &settings) else {
            return;
        };
        let store = Place::new(&server.url()).store().await;
        assert!(store.capabilities().durable);
        assert!(!store.capabilities().durable_on_apply);
        for number in 1..=50 {
            put(&store, &format!("{number}"), number).await;
        }
        store.sync().await.unwrap();
        server.kill();
        server.restart();
        let identity = eventually(|| store.identity()).await;
        assert_eq!(identity.stamp, Some(stamp(1)));
        assert_eq!(identity.highest_version, Some(version(50)));
        for number in 1..=50 {
            let found = held(&store, &format!("{number}")).await;
            assert_eq!(found, Some(version(number)));
        }
    }
}

/// The copy of an earlier day shows by its stamp's progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_shows_its_old_progress() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let store = place.store().await;
        put(&store, "a", 1).await;
        let mut wire = Wire::open(&url).unwrap();
        let copy = |wire: &mut Wire, from: &str, to: &str| {
            let call = ["COPY", &place.key(from), &place.key(to), "REPLACE"];
            wire.call(&call).unwrap().done();
        };
        copy(&mut wire, "store", "backup");
        let progressed = Stamp {
            progress: version(9),
            epoch: 3,
            ..stamp(3)
        };
        let request = StampRequest::new(progressed.clone());
        store.write_stamp(request).await.unwrap();
        assert_eq!(store.identity().await.unwrap().stamp, Some(progressed));
        copy(&mut wire, "backup", "store");
        assert_eq!(store.identity().await.unwrap().stamp, Some(stamp(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_journals_store_is_foreign() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let theirs = Stamp {
            journal_id: JournalId::from_u128(77),
            ..stamp(1)
        };
        let store = place.open().await;
        let request = StampRequest::new(theirs.clone());
        store.write_stamp(request).await.unwrap();
        let ours = place.open().await;
        assert_eq!(ours.identity().await.unwrap().stamp, Some(theirs));
        let error = ours
            .write_stamp(StampRequest::new(stamp(2)))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Foreign, "{error}");
    }
}

/// Opening claims nothing: a place that was only looked at holds no key.
#[tokio::test(flavor = "multi_thread")]
async fn opening_writes_nothing() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let store = place.open().await;
        store.probe().await.unwrap();
        store.identity().await.unwrap();
        let keys = Wire::open(&url).unwrap().keys(place.namespace()).unwrap();
        assert_eq!(keys, Vec::<Vec<u8>>::new());
    }
}

/// A manager that was overtaken writes nothing more, whatever it was about to.
#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_manager_writes_nothing() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let old = place.store().await;
        let new = place.open().await;
        new.write_stamp(StampRequest::new(stamp(2))).await.unwrap();
        let request = ApplyRequest::new(key(), 1, [upsert("a", 1)]);
        let answer = old.apply(request).await.unwrap().remove(0);
        assert_eq!(answer.unwrap_err().kind(), BackendErrorKind::StaleEpoch);
        assert_eq!(held(&new, "a").await, None);
        let request = ApplyRequest::new(key(), 2, [upsert("a", 1)]);
        new.apply(request).await.unwrap().remove(0).unwrap();
    }
}
