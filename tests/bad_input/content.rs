//! Documents with too little, too much, or the wrong things in them.

use dbmanager::prelude::*;
use dbmanager_core::model::Field;
use serde_json::Value;

use crate::common::embedded::{PATIENCE, World, get, hits, rejected, store};

const TEXT_LIMIT: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn a_document_of_nothing_but_an_id_is_stored_got_listed_and_deleted() {
    let world = World::new().await;
    store(&world.db, "c", Document::new("only")).await;
    assert_eq!(
        get(&world.db, "c", "only").await,
        Some(Document::new("only"))
    );
    let only = fact(Field::Id).eq("only");
    let page = world
        .db
        .list_documents("c", Some(only.clone()), None, 10)
        .await
        .unwrap();
    assert_eq!(page.documents[0].document, Document::new("only"));
    let query = Query::metadata("").filter(only);
    assert_eq!(hits(&world.db, "c", query).await, ["only"]);
    world
        .db
        .delete_document("c", "only")
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(get(&world.db, "c", "only").await, None);
    world.end_with(0).await;
}

/// A collection of the caller's own vectors of three numbers, with one document.
async fn vectors() -> World {
    let world = World::new().await;
    store(&world.db, "v", Document::new("x").vector([1.0, 0.0, 0.0])).await;
    world
}

#[tokio::test]
async fn vectors_that_are_not_finite_are_rejected() {
    let world = vectors().await;
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let document = Document::new("a").vector([0.0, number, 0.0]);
        let error = rejected(world.db.store_document("v", document)).await;
        assert!(error.message().contains("not finite"), "{error}");
        let query = Query::semantic_vector([0.0, number, 0.0]);
        let error = world.db.search_documents("v", query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(get(&world.db, "v", "a").await, None);
    world.end_with(1).await;
}

#[tokio::test]
async fn vectors_of_the_wrong_dimension_are_rejected() {
    let world = vectors().await;
    let wrong: [&[f32]; 3] = [&[], &[1.0, 0.0], &[1.0, 0.0, 0.0, 0.0]];
    for vector in wrong {
        rejected(
            world
                .db
                .store_document("v", Document::new("a").vector(vector)),
        )
        .await;
        let second = Document::new("a").vector([1.0, 0.0, 0.0]).vector(vector);
        rejected(world.db.store_document("v", second)).await;
        let query = Query::semantic_vector(vector);
        let error = world.db.search_documents("v", query).await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::EmbeddingSpaceMismatch
            ),
            "{error}"
        );
    }
    assert_eq!(get(&world.db, "v", "a").await, None);
    world.end_with(1).await;
}

#[tokio::test]
async fn a_zero_vector_is_stored_and_is_similar_to_nothing() {
    let world = vectors().await;
    store(&world.db, "v", Document::new("zero").vector([0.0; 3])).await;
    assert_eq!(
        get(&world.db, "v", "zero").await.unwrap().vectors[0].values,
        [0.0; 3]
    );
    let answer = world
        .db
        .search_documents("v", Query::semantic_vector([1.0, 0.0, 0.0]))
        .await
        .unwrap();
    let scores: Vec<_> = answer
        .hits
        .iter()
        .map(|hit| (&*hit.id, hit.contributions[0].raw_score))
        .collect();
    assert_eq!(scores, [("x", 1.0), ("zero", 0.0)]);
    let answer = world
        .db
        .search_documents("v", Query::semantic_vector([0.0; 3]))
        .await
        .unwrap();
    assert!(!answer.degraded());
    assert!(
        answer
            .hits
            .iter()
            .all(|hit| hit.contributions[0].raw_score == 0.0 && hit.score.is_finite())
    );
    world.end_with(2).await;
}

#[tokio::test]
async fn of_an_id_twice_in_a_batch_the_first_is_stored() {
    let world = World::new().await;
    let batch = ["first", "other", "second", "third"]
        .into_iter()
        .zip(["a", "b", "a", "a"])
        .map(|(text, id)| Document::new(id).text(text));
    let answers = world
        .db
        .store_documents("c", batch)
        .level(Level::All)
        .await
        .unwrap();
    let ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, true, false, false]);
    let error = answers[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.write_outcome(), Some(&WriteOutcome::Rejected));
    assert_eq!(get(&world.db, "c", "a").await.unwrap().text, "first");
    let answers = world
        .db
        .delete_documents("c", ["b", "b"])
        .level(Level::All)
        .await
        .unwrap();
    assert!(answers[0].is_ok() && answers[1].is_err());
    world.end_with(1).await;
}

#[tokio::test]
async fn self_cyclic_and_dangling_references_are_followed_once_and_to_the_end() {
    let world = World::new().await;
    let d = |id: &str| Document::new(id);
    store(&world.db, "c", d("a").references(["a", "b", "nowhere"])).await;
    store(&world.db, "c", d("b").references(["c", "b"])).await;
    store(&world.db, "c", d("c").references(["a"])).await;
    let around = Query::related_to(["a"]).depth(4).limit(100);
    assert_eq!(hits(&world.db, "c", around.clone()).await, ["b", "c"]);
    assert_eq!(get(&world.db, "c", "nowhere").await, None);
    store(&world.db, "c", d("nowhere")).await;
    assert_eq!(
        hits(&world.db, "c", around.clone()).await,
        ["b", "c", "nowhere"]
    );
    world
        .db
        .delete_document("c", "b")
        .level(Level::All)
        .await
        .unwrap();
    assert_eq!(hits(&world.db, "c", around).await, ["c", "nowhere"]);
    world.end_with(3).await;
}

#[tokio::test]
async fn ten_thousand_references_are_stored_and_followed() {
    let world = World::new().await;
    let targets: Vec<String> = (0..10_000).map(|n| format!("t{n:05}")).collect();
    let hub = Document::new("hub").references(targets.iter().cloned());
    store(&world.db, "c", hub.clone()).await;
    assert_eq!(get(&world.db, "c", "hub").await, Some(hub));
    let near = Query::related_to(["hub"]).limit(100);
    assert_eq!(hits(&world.db, "c", near.clone()).await, [""; 0]);
    for target in ["t00000", "t09999"] {
        store(&world.db, "c", Document::new(target)).await;
    }
    assert_eq!(hits(&world.db, "c", near).await, ["t00000", "t09999"]);
    let many = (0..100_001).map(|n| n.to_string());
    rejected(
        world
            .db
            .store_document("c", Document::new("b").references(many)),
    )
    .await;
    world.end_with(3).await;
}

/// A value with so many levels below itself, built without recursion.
fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::from(1), |inner, level| {
        if level % 2 == 0 {
            Value::Array(vec![inner])
        } else {
            Value::Object([("k".to_owned(), inner)].into_iter().collect())
        }
    })
}

#[tokio::test]
async fn metadata_of_100_levels_is_stored_and_of_200_is_rejected() {
    let world = World::new().await;
    // The outermost value is the first level.
    let deepest = Document::new("deep").metadata("k", nested(99));
    store(&world.db, "c", deepest.clone()).await;
    assert_eq!(get(&world.db, "c", "deep").await, Some(deepest));
    for levels in [100, 200] {
        let document = Document::new("a").metadata("k", nested(levels));
        let error = rejected(world.db.store_document("c", document)).await;
        assert!(error.message().contains("nested too deeply"), "{error}");
        assert!(error.context().any(|value| value == ("limit", "100")));
        let reference = Reference::new("b").property("k", nested(levels));
        let document = Document::new("a").references([reference]);
        let error = rejected(world.db.store_document("c", document)).await;
        assert!(error.message().contains("nested too deeply"), "{error}");
    }
    world.end_with(1).await;
}

#[tokio::test]
async fn metadata_of_a_hundred_thousand_levels_exhausts_no_stack() {
    let world = World::new().await;
    let deep = || Document::new("a").metadata("k", nested(100_000));
    let error = rejected(world.db.store_document("c", deep())).await;
    assert!(error.message().contains("nested too deeply"), "{error}");
    // Before anything that recurses: a key comes with a hash of the whole input.
    let reference = Reference::new("b").property("k", nested(100_000));
    let document = Document::new("a").references([reference]);
    let write = world.db.store_document("c", document).idempotency_key("k");
    let error = rejected(write).await;
    assert!(error.message().contains("nested too deeply"), "{error}");
    let db = world.db.clone();
    world.end_with(0).await;
    let error = db.store_document("c", deep()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_text_of_16_mib_is_stored_and_a_byte_more_is_rejected() {
    let world = World::new().await;
    let mut text = "harbour".to_owned();
    text.extend(std::iter::repeat_n(' ', TEXT_LIMIT - text.len()));
    let longest = Document::new("long").text(text.clone());
    world
        .db
        .store_document("c", longest.clone())
        .level(Level::All)
        .timeout(PATIENCE)
        .await
        .unwrap();
    assert!(get(&world.db, "c", "long").await == Some(longest));
    assert_eq!(
        hits(&world.db, "c", Query::metadata("harbour")).await,
        ["long"]
    );
    text.push(' ');
    let longer = Document::new("longer").text(text);
    let error = rejected(world.db.store_document("c", longer)).await;
    assert_eq!(error.message(), "too many bytes of text");
    // Within the limit of a text, but six times as long when it is written as JSON.
    let escaped = Document::new("escaped").text("\u{1}".repeat(TEXT_LIMIT / 2));
    let error = rejected(world.db.store_document("c", escaped)).await;
    assert_eq!(error.message(), "too many bytes in the document");
    world.end_with(1).await;
}
