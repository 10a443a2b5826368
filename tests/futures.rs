//! Every future of the facade can be sent between threads, so that services can spawn them.

use std::{future::IntoFuture, time::Duration};

use dbmanager::{model::CollectionOptions, prelude::*};

fn sends<T: IntoFuture>(future: T)
where
    T::IntoFuture: Send,
{
    drop(future.into_future());
}

fn shared<T: Clone + Send + Sync + 'static>() {}

#[tokio::test]
async fn every_future_can_be_sent() {
    shared::<DatabaseManager>();
    sends(DatabaseManager::open(Config::in_memory()));
    let db = DatabaseManager::in_memory().await.unwrap();
    let receipt = db.store_document("c", Document::new("a")).await.unwrap();
    sends(db.store_document("c", Document::new("a")));
    sends(db.store_documents("c", [Document::new("a")]));
    sends(db.delete_document("c", "a"));
    sends(db.delete_documents("c", ["a"]));
    sends(db.get_document("c", "a"));
    sends(db.get_documents("c", ["a"]));
    sends(db.search_documents("c", Query::hybrid("words")));
    sends(db.list_documents("c", None, None, 10));
    sends(db.count("c", None));
    sends(db.create_collection("d", CollectionOptions::new()));
    sends(db.drop_collection("c"));
    sends(db.status(receipt.operation_id));
    sends(db.wait_for(&receipt, Level::All, Duration::from_secs(1)));
    sends(db.health_check());
    sends(db.verify_backends());
    sends(db.check_consistency());
    sends(db.rebuild(Role::Vector));
    sends(db.retry_parked(Role::Vector, receipt.version));
    sends(db.give_up_parked(Role::Vector, receipt.version));
    sends(db.remove_store(Role::Vector));
    sends(db.close(Duration::from_secs(1)));
}
