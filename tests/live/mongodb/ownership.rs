//! Stores that others have written, wiped or put an older copy of.

use dbmanager_core::{
    backend::{ApplyRequest, BackendErrorKind, StampRequest},
    model::{Document, JournalId, Version},
};
use futures_util::TryStreamExt;
use mongodb::bson::doc;

use super::server::{Server, apply, papers, prepare, put, stamp, version_of, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_layout_is_refused_and_named() {
    for server in Server::all() {
        let database = server.database();
        drop(database.open("newer_").await.unwrap());
        let catalogue = database.collection("newer_catalogue").await;
        let newer = doc! { "$set": { "format": 2_i64 } };
        catalogue
            .update_one(doc! { "_id": "store" }, newer)
            .await
            .unwrap();
        let error = database.open("newer_").await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(
            error.message().contains("layout 2") && error.message().contains("up to 1"),
            "{error}"
        );
        let catalogue = database.collection("foreign_catalogue").await;
        catalogue
            .insert_one(doc! { "_id": "mine", "price": 3 })
            .await
            .unwrap();
        let error = database.open("foreign_").await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(error.message().contains("foreign_catalogue"), "{error}");
        let untouched = catalogue.count_documents(doc! {}).await.unwrap();
        assert_eq!(untouched, 1);
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_wiped_says_so() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        write(&*store, [put(7, Document::new("a"))]).await;
        database.behind_its_back().await.drop().await.unwrap();
        let identity = store.identity().await.unwrap();
        assert_eq!((identity.stamp, identity.highest_version), (None, None));
        // No write brings the collection back.
        let error = apply(&*store, [put(8, Document::new("a"))])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::CollectionMissing);
        // The same store goes on when it is stamped and filled again.
        prepare(&*store).await;
        write(&*store, [put(9, Document::new("a"))]).await;
        assert_eq!(version_of(&*store, "a").await, Some(9));
        drop(store);
        let store = database.open("s_").await.unwrap();
        assert_eq!(store.identity().await.unwrap().stamp, Some(stamp(1)));
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_shows_its_older_progress() {
    for server in Server::all() {
        let database = server.database();
        let store = database.open("s_").await.unwrap();
        prepare(&*store).await;
        write(&*store, [put(5, Document::new("a"))]).await;
        let behind = database.behind_its_back().await;
        let catalogue = behind.collection::<mongodb::bson::Document>("s_catalogue");
        let copy: Vec<_> = catalogue
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let mut ahead = stamp(2);
        ahead.progress = Version::from_u64(5);
        store.write_stamp(StampRequest::new(ahead)).await.unwrap();
        catalogue.delete_many(doc! {}).await.unwrap();
        catalogue.insert_many(copy).await.unwrap();
        let found = store.identity().await.unwrap().stamp.unwrap();
        assert_eq!((found.epoch, found.progress), (1, Version::ZERO));
        behind.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_opening_at_once_lay_out_one_store() {
    for server in Server::all() {
        let database = server.database();
        for round in 0..20 {
            let prefix = format!("s{round}_");
            let openings = (0..8).map(|_| database.open(&prefix));
            for store in futures_util::future::join_all(openings).await {
                store.unwrap();
            }
        }
        database.behind_its_back().await.drop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_open_one_store_see_each_other() {
    for server in Server::all() {
        let database = server.database();
        let (first, second) = tokio::join!(database.open("s_"), database.open("s_"));
        let (first, second) = (first.unwrap(), second.unwrap());
        prepare(&*first).await;
        prepare(&*second).await;
        write(&*first, [put(1, Document::new("a"))]).await;
        write(&*second, [put(2, Document::new("a"))]).await;
        assert_eq!(version_of(&*first, "a").await, Some(2));
        // The one that was opened later fences the other off, as far as it asks before it writes.
        second
            .write_stamp(StampRequest::new(stamp(2)))
            .await
            .unwrap();
        let error = apply(&*first, [put(3, Document::new("a"))])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::StaleEpoch);
        let request = ApplyRequest::new(papers().key, 2, [put(3, Document::new("a"))]);
        second.apply(request).await.unwrap().remove(0).unwrap();
        // Another journal does not take it over.
        let mut foreign = stamp(9);
        foreign.journal_id = JournalId::from_u128(99);
        let error = first
            .write_stamp(StampRequest::new(foreign))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Foreign);
        database.behind_its_back().await.drop().await.unwrap();
    }
}
