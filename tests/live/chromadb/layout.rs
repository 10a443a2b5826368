//! What stands on the server: foreign and newer collections, crashes between two requests,
//! latecomers, and strings that may be taken for something else.

use std::sync::Arc;

use dbmanager_core::{
    backend::{BackendErrorKind, ListRequest, Mutation, VectorBackend, VectorSearchRequest},
    model::{Document, Filter, Metric, fact, field, field_path},
};
use serde_json::{Value, json};

use super::server::{
    Site, apply, create, ids, open, papers, prepare, search, upsert, version, write,
};

fn refuses_with(error: &dbmanager_core::backend::BackendError, parts: &[&str]) {
    assert_eq!(error.kind(), BackendErrorKind::Config, "{error}");
    for part in parts {
        assert!(error.message().contains(part), "{error} lacks {part}");
    }
}

#[tokio::test]
async fn a_newer_layout_is_refused_with_both_numbers() {
    let Some(site) = Site::new() else { return };
    let stamp = format!("{}s0-stamp", site.prefix);
    let body = json!({"name": stamp, "metadata": {"dbmanager_format": 7}});
    site.raw.on_collections("POST", "", &body);
    let error = open(site.config()).await.unwrap_err();
    refuses_with(&error, &["layout 7", "layout 1"]);
}

#[tokio::test]
async fn a_collection_of_someone_elses_is_left_alone() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    for part in ["h", "v"] {
        let name = site.name(part);
        site.raw.on_collections("POST", "", &json!({"name": name}));
        let error = store
            .create_collection(create(2, Metric::Cosine))
            .await
            .unwrap_err();
        refuses_with(&error, &[&name, "not made by this library"]);
        let request = dbmanager_core::backend::DropCollectionRequest::new(papers(), 1);
        let error = store.drop_collection(request).await.unwrap_err();
        refuses_with(&error, &[&name]);
        assert!(site.raw.names(&site.prefix).contains(&name));
        site.raw.remove_all(&site.prefix);
    }
    // A name of ours whose metadata says that it is of another collection.
    let metadata = json!({"dbmanager_format": 1, "dbmanager_kind": "heads"});
    let body = json!({"name": site.name("h"), "metadata": metadata});
    site.raw.on_collections("POST", "", &body);
    let error = store.heads(ids(&["a"])).await.unwrap_err();
    refuses_with(&error, &["is not heads of \"papers\""]);
}

#[tokio::test]
async fn a_collection_with_another_dimension_or_metric_is_refused() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    for other in [create(3, Metric::Cosine), create(2, Metric::Dot)] {
        let error = store.create_collection(other).await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Refused, "{error}");
        assert!(error.message().contains("other options"), "{error}");
    }
    // Vectors of another dimension, written behind our back.
    site.raw
        .upsert(&site.name("v"), "foreign", &[1.0, 2.0, 3.0], &Value::Null);
    let error = site.open().await.heads(ids(&["a"])).await.unwrap_err();
    refuses_with(&error, &["dimension 3", "says 2"]);
}

#[tokio::test]
async fn prefixes_that_begin_alike_are_two_stores() {
    let Some(site) = Site::new() else { return };
    let longer = format!("{}h1-", site.prefix);
    let other = open(json!({"url": site.url, "collection_prefix": longer}))
        .await
        .unwrap();
    let store = site.open().await;
    prepare(&store).await;
    prepare(&other).await;
    write(&store, vec![upsert(1, Document::new("a"), &[[1.0, 0.0]])]).await;
    assert!(other.identity().await.unwrap().empty);
    assert_eq!(store.collections().await.unwrap(), [papers()]);
    assert_eq!(other.collections().await.unwrap(), [papers()]);
}

async fn listed(store: &Arc<dyn VectorBackend>) -> usize {
    let page = store.fingerprints(ListRequest::new(papers(), 100)).await;
    page.unwrap().items.len()
}

/// A record as a writer leaves it that stops before it has written the head, or comes late.
fn left_behind(site: &Site, number: u64, id: &str, vector: [f32; 2]) {
    let name = site.name("v");
    let path = format!("/{}/get", site.raw.id_of(&name));
    let body = json!({"include": ["metadatas"], "limit": 1});
    let found = site.raw.on_collections("POST", &path, &body);
    let key = format!("{:016x}.0..{id}", version(number).as_u64());
    site.raw
        .upsert(&name, &key, &vector, &found["metadatas"][0]);
}

#[tokio::test]
async fn a_write_that_ended_before_its_head_is_not_found_and_swept() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    write(&store, vec![upsert(5, Document::new("a"), &[[0.0, 1.0]])]).await;
    // One that would be newer, and a late one that is older; both are nearer to the query.
    for number in [6, 4] {
        left_behind(&site, number, "a", [1.0, 0.0]);
    }
    for exact in [false, true] {
        let mut request = VectorSearchRequest::new(papers(), [1.0, 0.0], 10);
        request.exact = exact;
        let hits = store.search_vectors(request).await.unwrap();
        let found: Vec<_> = hits.iter().map(|hit| (hit.version, hit.score)).collect();
        assert_eq!(found, [(version(5), 0.0)], "exact: {exact}");
    }
    let held = store.vectors(ids(&["a"])).await.unwrap();
    assert_eq!(held[0].as_ref().unwrap().vectors[0].values, [0.0, 1.0]);
    assert_eq!(site.raw.record_ids(&site.name("v")).len(), 3);
    // A listing removes what is older than the head, and leaves what may be under way.
    assert_eq!(listed(&store).await, 1);
    assert_eq!(site.raw.record_ids(&site.name("v")).len(), 2);
    // The next write leaves nothing but its own.
    write(&store, vec![upsert(7, Document::new("a"), &[[0.6, 0.8]])]).await;
    let left = site.raw.record_ids(&site.name("v"));
    assert_eq!(left, [format!("{:016x}.0..a", version(7).as_u64())]);
    assert_eq!(site.raw.record_ids(&site.name("h")).len(), 1);
}

#[tokio::test]
async fn latecomers_do_not_crowd_out_what_counts() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    let documents = (0..30).map(|number| {
        let vector = [(number as f32 / 20.0).cos(), (number as f32 / 20.0).sin()];
        upsert(
            100 + number,
            Document::new(format!("{number:02}")),
            &[vector],
        )
    });
    write(&store, documents.collect()).await;
    for number in 20..30 {
        left_behind(&site, number, &format!("{number}"), [1.0, 0.0]);
    }
    let hits = search(&store, 5).await;
    let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
    assert_eq!(found, ["00", "01", "02", "03", "04"]);
}

#[tokio::test]
async fn a_deleted_document_leaves_one_small_record() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    write(
        &store,
        vec![upsert(1, Document::new("a"), &[[1.0, 0.0]; 3])],
    )
    .await;
    write(&store, vec![Mutation::delete("a", version(2))]).await;
    assert_eq!(site.raw.record_ids(&site.name("v")), [""; 0]);
    let tombstone = format!("{:016x}.deleted.a", version(2).as_u64());
    assert_eq!(site.raw.record_ids(&site.name("h")), [tombstone]);
}

#[tokio::test]
async fn strings_are_strings() {
    const HOSTILE: [&str; 8] = [
        "'; DROP TABLE embeddings; --",
        "\" OR 1=1 --",
        "{\"$ne\": null}",
        "$contains",
        "a\"]=b",
        "../../reset",
        "\u{202e}\u{1f980}%00\\u0000",
        "#document",
    ];
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    let documents = (0..).zip(HOSTILE).map(|(number, text)| {
        let nested = Value::Object(serde_json::Map::from_iter([(text.to_owned(), text.into())]));
        let document = Document::new(text)
            .title(text)
            .metadata(text, text)
            .metadata("nested", nested);
        upsert(number, document, &[[1.0, 0.0]])
    });
    write(&store, documents.collect()).await;
    for text in HOSTILE {
        let filters: [Filter; 5] = [
            field(text).eq(text),
            field(text).exists(),
            field_path(["nested", text]).eq(text),
            fact(dbmanager_core::model::Field::Id).eq(text),
            fact(dbmanager_core::model::Field::Title).is_in([text]),
        ];
        for filter in filters {
            let request = VectorSearchRequest::new(papers(), [1.0, 0.0], 100)
                .filter(Some(Arc::new(filter.clone())));
            let hits = store.search_vectors(request).await.unwrap();
            let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
            assert_eq!(found, [text], "{filter:?}");
        }
    }
}

#[tokio::test]
async fn numbers_that_are_not_finite_are_refused_alone() {
    let Some(site) = Site::new() else { return };
    let store = site.open().await;
    prepare(&store).await;
    let batch = [
        [1.0, 0.0],
        [f32::NAN, 0.0],
        [0.0, f32::INFINITY],
        [0.0, 1.0],
    ];
    let batch = (1..)
        .zip(batch)
        .map(|(number, vector)| upsert(number, Document::new(format!("{number}")), &[vector]));
    let answers = apply(&store, batch.collect()).await.unwrap();
    let refused: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, true, false]);
    for answer in answers.into_iter().filter_map(Result::err) {
        assert_eq!(answer.kind(), BackendErrorKind::Refused);
    }
}
