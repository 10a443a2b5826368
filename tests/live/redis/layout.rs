//! What is already there: other layouts, indexes and types under the names of the store.

use dbmanager_core::backend::{BackendErrorKind, CreateCollectionRequest, DropCollectionRequest};

use super::{
    Place, apply, both, create, eventually, ids, key, nearest, put, upsert, version,
    wire::{Reply, Wire},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_layout_is_refused_with_both_numbers() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let store = place.store().await;
        let mut wire = Wire::open(&url).unwrap();
        let layout = |wire: &mut Wire, format: &str| {
            let call = ["HSET", &place.key("store"), "format", format];
            wire.call(&call).unwrap().done();
        };
        layout(&mut wire, "27");
        for error in [
            place.try_open().await.unwrap_err(),
            store.identity().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
            assert!(error.message().contains("27"), "{error}");
            assert!(error.message().contains('1'), "{error}");
        }
        layout(&mut wire, "1");
        place.open().await.identity().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_type_under_the_stores_name_is_refused() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let mut wire = Wire::open(&url).unwrap();
        wire.call(&["SET", &place.key("store"), "mine"])
            .unwrap()
            .done();
        let error = place.try_open().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged, "{error}");
        let kept = wire.call(&["GET", &place.key("store")]).unwrap();
        assert_eq!(kept, Reply::Text(b"mine".to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_opened_with_the_other_engine() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "query engine") else {
        return;
    };
    let place = Place::new(&url);
    let with_sets = place.clone().with("engine", "vector_sets");
    let store = with_sets.store().await;
    put(&store, "a", 1).await;
    // Without a choice the store's own engine is taken, though the server has the other.
    let again = place.open().await;
    assert_eq!(nearest(&again, [1.0, 1.0, 0.5], 5).await.unwrap().len(), 1);
    let error = place
        .with("engine", "query_engine")
        .try_open()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("vector_sets"), "{error}");
}

/// An index of the collection's name with another dimension, metric or prefix.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_another_one_is_refused() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "query engine") else {
        return;
    };
    for (prefix, dimension, metric) in [
        ("1:papers:v:", "4", "COSINE"),
        ("1:papers:v:", "3", "L2"),
        ("other:", "3", "COSINE"),
    ] {
        let place = Place::new(&url);
        let store = place.open().await;
        let mut wire = Wire::open(&url).unwrap();
        let (index, prefix) = (place.key("1:papers"), place.key(prefix));
        let foreign = [
            "FT.CREATE",
            &index,
            "ON",
            "HASH",
            "PREFIX",
            "1",
            &prefix,
            "SCHEMA",
            "e",
            "VECTOR",
            "FLAT",
            "6",
            "TYPE",
            "FLOAT32",
            "DIM",
            dimension,
            "DISTANCE_METRIC",
            metric,
            "t",
            "TAG",
        ];
        wire.call(&foreign).unwrap().done();
        let error = create(&store, 3).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged, "{error}");
        assert!(error.message().contains(&index), "{error}");
        assert_eq!(store.collections().await.unwrap(), []);
        wire.call(&["FT.DROPINDEX", &index]).unwrap().done();
        create(&store, 3).await.unwrap();
        put(&store, "a", 1).await;
    }
}

/// A vector set of the collection's name with another dimension: nothing of the document is
/// written.
#[tokio::test(flavor = "multi_thread")]
async fn a_vector_set_of_another_dimension_is_refused() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "vector sets") else {
        return;
    };
    let place = Place::new(&url);
    let store = place.store().await;
    let mut wire = Wire::open(&url).unwrap();
    let set = place.key("1:papers:vectors");
    let foreign = ["VADD", &set, "VALUES", "2", "1", "2", "theirs"];
    wire.call(&foreign).unwrap().done();
    let answers = apply(&store, vec![upsert("a", 1)]).await.unwrap();
    let error = answers.into_iter().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged, "{error}");
    assert_eq!(store.heads(ids(&["a"])).await.unwrap(), [None]);
    assert_eq!(wire.call(&["VCARD", &set]).unwrap().number(), 1);
    wire.call(&["DEL", &set]).unwrap().done();
    put(&store, "a", 1).await;
}

/// An index that someone dropped is missed, and made anew over what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_anew() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "query engine") else {
        return;
    };
    let place = Place::new(&url);
    let store = place.store().await;
    for number in 1..=20 {
        put(&store, &format!("{number}"), number).await;
    }
    let mut wire = Wire::open(&url).unwrap();
    wire.call(&["FT.DROPINDEX", &place.key("1:papers")])
        .unwrap()
        .done();
    let error = nearest(&store, [1.0, 1.0, 0.5], 50).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Damaged, "{error}");
    create(&store, 3).await.unwrap();
    let found = eventually(|| nearest(&store, [1.0, 1.0, 0.5], 50)).await;
    assert_eq!(found.len(), 20);
}

/// A dropped collection leaves nothing, also one whose removal did not come to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_collection_leaves_no_key() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let store = place.store().await;
        for start in 0..5 {
            let batch = (0..100).map(|n| upsert(&format!("{start} {n}"), n + 1));
            apply(&store, batch.collect()).await.unwrap();
        }
        let mut wire = Wire::open(&url).unwrap();
        // As if the manager had ended after the first step of a removal.
        wire.call(&["HDEL", &place.key("collections"), "1:papers"])
            .unwrap()
            .done();
        wire.call(&["HDEL", &place.key("highest"), "1:papers"])
            .unwrap()
            .done();
        wire.call(&["SADD", &place.key("dropped"), "1:papers"])
            .unwrap()
            .done();
        let store = place.open().await;
        assert!(store.identity().await.unwrap().empty);
        create(&store, 3).await.unwrap();
        let found = nearest(&store, [1.0, 1.0, 0.5], 10).await.unwrap();
        assert_eq!(found, []);
        put(&store, "a", 1).await;
        let drop = DropCollectionRequest::new(key(), 1);
        store.drop_collection(drop).await.unwrap();
        let mut left: Vec<_> = wire
            .keys(place.namespace())
            .unwrap()
            .into_iter()
            .map(|key| String::from_utf8(key).unwrap())
            .filter(|key| *key != place.key("sync"))
            .collect();
        left.sort();
        assert_eq!(left, [place.key("store")]);
    }
}

/// A copy in the vector set that is another one than what is kept shows in the fingerprint.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_disagrees_changes_the_fingerprint() {
    let Some((_, url)) = both().into_iter().find(|(name, _)| *name == "vector sets") else {
        return;
    };
    let place = Place::new(&url);
    let store = place.store().await;
    put(&store, "a", 1).await;
    let hash = async || {
        let found = store.fingerprints_of(ids(&["a"])).await.unwrap();
        found[0].as_ref().unwrap().content_hash
    };
    let whole = hash().await;
    let mut wire = Wire::open(&url).unwrap();
    let set = place.key("1:papers:vectors");
    let element = format!("0:{:016x}:a", version(1).as_u64());
    let wrong = [
        "VADD", &set, "VALUES", "3", "-1", "0", "0", &element, "NOQUANT",
    ];
    wire.call(&wrong).unwrap().done();
    let turned = hash().await;
    assert_ne!(turned, whole);
    wire.call(&["VREM", &set, &element]).unwrap().done();
    let lost = hash().await;
    assert_ne!(lost, whole);
    assert_ne!(lost, turned);
}

/// The embedding space of a collection is what it was created with, whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_another_dimension_is_refused() {
    for (_, url) in both() {
        let place = Place::new(&url);
        let store = place.store().await;
        put(&store, "a", 1).await;
        let other = place.open().await;
        let error = create(&other, 4).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
        let options = dbmanager_core::model::CollectionOptions::new().embedding_space(
            "caller",
            3,
            dbmanager_core::model::Metric::Dot,
        );
        let collection = dbmanager_core::model::Collection {
            key: key(),
            options,
        };
        let request = CreateCollectionRequest::new(collection, 1);
        let error = store.create_collection(request).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
        assert_eq!(nearest(&store, [1.0, 1.0, 0.5], 5).await.unwrap().len(), 1);
    }
}
