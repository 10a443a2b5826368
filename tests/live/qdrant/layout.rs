//! What is on the server already, by whoever, and what a crash leaves behind.

use std::sync::Arc;

use dbmanager_core::{
    backend::{
        BackendErrorKind, Head, IdsRequest, ListRequest, Mutation, StampRequest,
        VectorSearchRequest,
    },
    model::{Document, JournalId, Metric, field},
};
use serde_json::{Value, json};

use super::place::{
    self, Place, apply, create, heads, key, papers, points, put, search, stamp, upsert, version,
    with_dimension,
};

const X: [f32; 3] = [1.0, 0.0, 0.0];
const Y: [f32; 3] = [0.0, 1.0, 0.0];

fn live(number: u64) -> Option<Head> {
    Some(Head {
        version: version(number),
        deleted: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_wiped_behind_our_back_has_no_stamp() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    put(&*store, vec![upsert(1, Document::new("a").vector(X))])
        .await
        .unwrap();
    place.wipe().unwrap();
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.stamp, None);
    assert!(identity.empty);
    for error in [
        put(&*store, vec![upsert(2, Document::new("a").vector(X))])
            .await
            .unwrap_err(),
        search(&*store, &X, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), BackendErrorKind::CollectionMissing, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_without_a_stamp_is_not_empty() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    put(&*store, vec![upsert(7, Document::new("a").vector(X))])
        .await
        .unwrap();
    place
        .rest
        .delete(&format!("{}.stamp", place.prefix))
        .unwrap();
    let identity = place.open().await.unwrap().identity().await.unwrap();
    assert_eq!(identity.stamp, None);
    assert!(!identity.empty);
    assert_eq!(identity.highest_version, Some(version(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_is_found_without_its_index() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let mutations = (1..=9).map(|n| upsert(n, Document::new(format!("{n}"))));
    put(&*store, mutations.collect()).await.unwrap();
    let name = place.physical_name();
    let path = format!("/collections/{name}/index/counter?wait=true");
    place.rest.call("DELETE", &path, &Value::Null).unwrap();
    let identity = store.identity().await.unwrap();
    assert_eq!(identity.highest_version, Some(version(9)));
    // Creating it again makes the index up.
    create(&*store, papers()).await.unwrap();
    let path = format!("/collections/{name}");
    let info = place.rest.call("GET", &path, &Value::Null).unwrap();
    assert!(info["payload_schema"]["counter"].is_object(), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_managers_at_one_place_are_told_apart_by_their_epoch() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let first = place.filled().await;
    let second = place.open().await.unwrap();
    second
        .write_stamp(StampRequest::new(stamp(2)))
        .await
        .unwrap();
    let document = || Document::new("a").vector(X);
    let error = apply(&*first, 1, vec![upsert(1, document())])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch, "{error}");
    let error = create(&*first, papers()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::StaleEpoch, "{error}");
    apply(&*second, 2, vec![upsert(2, document())])
        .await
        .unwrap();
    let mut foreign = stamp(9);
    foreign.journal_id = JournalId::from_u128(9);
    let error = first
        .write_stamp(StampRequest::new(foreign))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Foreign, "{error}");
    assert_eq!(heads(&*first, &["a"]).await, [live(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stamps_that_race_end_at_the_highest_epoch() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.open().await.unwrap();
    let tasks: Vec<_> = (1..=16)
        .map(|epoch| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.write_stamp(StampRequest::new(stamp(epoch))).await })
        })
        .collect();
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(error.kind(), BackendErrorKind::StaleEpoch, "{error}");
        }
    }
    let held = store.identity().await.unwrap().stamp;
    assert_eq!(held, Some(stamp(16)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_that_begins_like_another_is_another_place() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    put(&*store, vec![upsert(1, Document::new("a").vector(X))])
        .await
        .unwrap();
    let mut config = place.config();
    for shorter in [&place.prefix[..place.prefix.len() - 1], &place.prefix[..9]] {
        config.insert("collection_prefix".to_owned(), json!(shorter));
        let other = place::open(&config, &place::context()).await.unwrap();
        let identity = other.identity().await.unwrap();
        assert_eq!(identity.stamp, None);
        assert!(identity.empty, "{shorter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_collection_under_our_prefix_is_refused() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let name = place.physical_name();
    place.rest.delete(&name).unwrap();
    let vectors = json!({"vectors": {"chunk": {"size": 3, "distance": "Cosine"}}});
    let path = format!("/collections/{name}");
    place.rest.call("PUT", &path, &vectors).unwrap();
    for error in [
        create(&*store, papers()).await.unwrap_err(),
        place.open().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
        assert!(error.message().contains(&name), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused_and_both_are_named() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    place.filled().await;
    let path = format!("/collections/{}.stamp", place.prefix);
    let metadata = json!({"metadata": {"dbmanager": {"format": 77}}});
    place.rest.call("PATCH", &path, &metadata).unwrap();
    let error = place.open().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    assert!(error.message().contains("77"), "{error}");
    assert!(error.message().contains("reads 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_dimension_or_metric_are_refused() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let mut other_metric = papers();
    if let Some(space) = &mut other_metric.options.embedding_space {
        space.metric = Metric::Dot;
    }
    for other in [with_dimension(4), other_metric] {
        let error = create(&*store, other).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
    }
    // The same name and metadata, but other vectors.
    let name = place.physical_name();
    let path = format!("/collections/{name}");
    let info = place.rest.call("GET", &path, &Value::Null).unwrap();
    place.rest.delete(&name).unwrap();
    let body = json!({
        "vectors": {"chunk": {"size": 5, "distance": "Dot"}},
        "metadata": info["config"]["metadata"],
    });
    place.rest.call("PUT", &path, &body).unwrap();
    let error = create(&*store, papers()).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
    assert!(error.message().contains("5"), "{error}");
}

/// A crash between the chunks and the head of a newer version, or a write that lands a minute
/// late, leaves chunks that no head points to: no search shows them, and the next write removes
/// those that are older.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_without_their_head_are_not_found() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    put(&*store, vec![upsert(5, Document::new("a").vector(Y))])
        .await
        .unwrap();
    let real = points(&place, "chunk").remove(0);
    let path = format!("/collections/{}/points?wait=true", place.physical_name());
    for (number, uuid) in [(3, "1"), (9, "2")] {
        let mut payload = real["payload"].clone();
        payload["counter"] = json!(version(number).counter());
        payload["milliseconds"] = json!(version(number).milliseconds());
        let id = format!("00000000-0000-4000-8000-00000000000{uuid}");
        let point = json!({"id": id, "vector": {"chunk": X}, "payload": payload});
        let body = json!({"points": [point]});
        place.rest.call("PUT", &path, &body).unwrap();
    }
    assert_eq!(points(&place, "chunk").len(), 3);
    let hits = search(&*store, &X, 10).await.unwrap();
    let found: Vec<_> = hits.iter().map(|hit| (hit.version, hit.score)).collect();
    assert_eq!(found, [(version(5), 0.0)]);
    put(&*store, vec![upsert(6, Document::new("a").vector(Y))])
        .await
        .unwrap();
    let left: Vec<_> = points(&place, "chunk")
        .iter()
        .map(|point| point["payload"]["counter"].as_u64().unwrap())
        .collect();
    let mut expected = [6, 9].map(|number| u64::from(version(number).counter()));
    expected.sort_unstable();
    let mut left = left;
    left.sort_unstable();
    assert_eq!(left, expected);
}

/// A chunk that is gone shows in the fingerprint, and a vector that is gone too.
#[tokio::test(flavor = "multi_thread")]
async fn lost_chunks_change_the_fingerprint() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let document = Document::new("a").vector(X).vector(Y);
    put(&*store, vec![upsert(1, document)]).await.unwrap();
    let hash = async || {
        let page = store.fingerprints(ListRequest::new(key(), 10)).await;
        page.unwrap().items[0].content_hash
    };
    let whole = hash().await;
    let name = place.physical_name();
    let id = points(&place, "chunk")[0]["id"].clone();
    let path = format!("/collections/{name}/points/vectors/delete?wait=true");
    let body = json!({"points": [id], "vector": ["chunk"]});
    place.rest.call("POST", &path, &body).unwrap();
    let without_vector = hash().await;
    assert_ne!(without_vector, whole);
    let path = format!("/collections/{name}/points/delete?wait=true");
    let body = json!({"points": [id]});
    place.rest.call("POST", &path, &body).unwrap();
    let without_chunk = hash().await;
    assert!(without_chunk != whole && without_chunk != without_vector);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_a_small_point_without_a_vector() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let document = Document::new("a").vector(X).metadata("k", "v");
    put(&*store, vec![upsert(1, document)]).await.unwrap();
    put(&*store, vec![Mutation::delete("a", version(2))])
        .await
        .unwrap();
    assert_eq!(points(&place, "chunk"), [json!(null); 0]);
    let heads = points(&place, "head");
    assert_eq!(heads.len(), 1);
    assert_eq!(heads[0]["payload"]["deleted"], json!(true));
    assert!(heads[0].to_string().len() < 300, "{heads:?}");
    assert_eq!(heads[0]["vector"], json!({}), "{heads:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_that_look_like_syntax_are_values() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    let strings = [
        "\"}],\"must\":[]",
        "a[].b",
        "$.*",
        "' OR 1=1 --",
        "\u{1}\u{1f980}\\",
        "id=\"x\"",
    ];
    let mutations = (1..).zip(strings).map(|(number, text)| {
        let document = Document::new(text).metadata(text, text).vector(X);
        upsert(number, document)
    });
    put(&*store, mutations.collect()).await.unwrap();
    for text in strings {
        let request = VectorSearchRequest::new(key(), X, 10)
            .filter(Some(Arc::new(field(text).eq(text))))
            .exact();
        let hits = store.search_vectors(request).await.unwrap();
        let ids: Vec<_> = hits.iter().map(|hit| &*hit.id).collect();
        assert_eq!(ids, [text]);
    }
}

/// Enough vectors that the server builds its index; what the index misses is found by a scan.
#[tokio::test(flavor = "multi_thread")]
async fn a_big_collection_fills_every_limit() {
    let Some(place) = Place::on_the_server() else {
        return;
    };
    let store = place.filled().await;
    const COUNT: u32 = 6_000;
    for start in (0..COUNT).step_by(1_000) {
        let batch = (start..start + 1_000).map(|n| {
            let angle = n as f32 / COUNT as f32;
            let document = Document::new(format!("{n:05}"))
                .vector([angle.cos(), angle.sin(), 0.0])
                .metadata("n", n);
            upsert(n.into(), document)
        });
        put(&*store, batch.collect()).await.unwrap();
    }
    let nearest = search(&*store, &X, 50).await.unwrap();
    assert_eq!(nearest.len(), 50);
    let request =
        VectorSearchRequest::new(key(), X, 20).filter(Some(Arc::new(field("n").ge(COUNT - 10))));
    let found = store.search_vectors(request).await.unwrap();
    assert_eq!(found.len(), 10);
    let ids: Arc<[Arc<str>]> = (0..COUNT).map(|n| Arc::from(format!("{n:05}"))).collect();
    let held = store.heads(IdsRequest::new(key(), ids)).await.unwrap();
    assert!((0..).zip(held).all(|(n, head)| head == live(n)));
}
