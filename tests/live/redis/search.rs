//! Searches beyond the suite: larger collections, narrow filters, vectors that `f32` cannot
//! compare.

use std::sync::Arc;

use dbmanager_core::{
    Runtime,
    backend::{Mutation, VectorBackend, VectorSearchRequest},
    model::{Document, Filter, Metric, field},
};

use super::{Place, apply, both, key, nearest, record, version};

/// Numbers from −1 to 1.
fn random(dimension: usize) -> Vec<f32> {
    let runtime = Runtime::tokio();
    let number = || (runtime.random_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..dimension).map(|_| number()).collect()
}

async fn fill(store: &Arc<dyn VectorBackend>, count: usize) -> Vec<Document> {
    let documents: Vec<Document> = (0..count)
        .map(|index| {
            Document::new(format!("{index:05}"))
                .metadata("index", index as i64)
                .metadata("even", index % 2 == 0)
                .vector(random(3))
                .vector(random(3))
        })
        .collect();
    for some in documents.chunks(500) {
        let mutations = some
            .iter()
            .map(|d| Mutation::upsert(d.id.as_str(), version(1), record(d.clone())));
        for answer in apply(store, mutations.collect()).await.unwrap() {
            answer.unwrap();
        }
    }
    documents
}

/// The ids that the model finds, best first.
fn model(
    documents: &[Document],
    query: &[f32],
    filter: Option<&Filter>,
    limit: usize,
) -> Vec<String> {
    let best = |document: &Document| {
        let scores = document.vectors.iter();
        scores
            .map(|v| Metric::Cosine.score(query, &v.values))
            .fold(f64::NEG_INFINITY, f64::max)
    };
    let mut found: Vec<_> = documents
        .iter()
        .filter(|document| filter.is_none_or(|filter| filter.matches(document)))
        .map(|document| (best(document), document.id.clone()))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    found.into_iter().take(limit).map(|(_, id)| id).collect()
}

/// How many of the model's ids were found: neighbours whose scores differ by less than `f32`
/// shows may change places.
fn common(found: &[String], expected: &[String]) -> usize {
    found.iter().filter(|id| expected.contains(id)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_every_width_find_all_there_is() {
    for (name, url) in both() {
        let store = Place::new(&url).store().await;
        let documents = fill(&store, 3_000).await;
        let filters = [
            None,
            Some(field("even").eq(true)),
            Some(field("index").lt(5)),
            Some(field("index").ge(1_500)),
            Some(field("index").eq(2_999)),
            Some(field("index").is_in([1, 2, 3]).and(!field("even").eq(true))),
            Some(field("index").gt(3_000)),
            Some(field("absent").exists()),
        ];
        for filter in filters {
            let query = random(3);
            let expected = model(&documents, &query, filter.as_ref(), 20);
            for exact in [true, false] {
                let mut request = VectorSearchRequest::new(key(), query.clone(), 20)
                    .filter(filter.clone().map(Arc::new));
                request.exact = exact;
                let hits = store.search_vectors(request).await.unwrap();
                let found: Vec<String> = hits.iter().map(|hit| hit.id.to_string()).collect();
                assert_eq!(found.len(), expected.len(), "{name}: {filter:?}");
                let least = if exact { 19 } else { 15 }.min(expected.len());
                assert!(
                    common(&found, &expected) >= least,
                    "{name}: {filter:?}, exact {exact}: {found:?} {expected:?}"
                );
            }
        }
    }
}

/// Vectors too long or too short for `f32`, and those without direction, are found where their
/// scores put them.
#[tokio::test(flavor = "multi_thread")]
async fn vectors_that_no_index_compares_are_found() {
    for (name, url) in both() {
        let store = Place::new(&url).store().await;
        let vectors: [(&str, [f32; 3]); 6] = [
            ("plain", [1.0, 1.0, 0.0]),
            ("huge", [3e30, 0.0, 0.0]),
            ("tiny", [1e-30, 2e-30, 0.0]),
            ("zero", [0.0, 0.0, 0.0]),
            ("opposite", [-1.0, 0.0, 0.0]),
            ("huge opposite", [-3e30, -1e30, 0.0]),
        ];
        let mutations = vectors.map(|(id, vector)| {
            let document = Document::new(id).vector(vector);
            Mutation::upsert(id, version(1), record(document))
        });
        for answer in apply(&store, mutations.into()).await.unwrap() {
            answer.unwrap();
        }
        let expected = ["huge", "plain", "tiny", "zero", "huge opposite", "opposite"];
        for (query, limit) in [
            ([1.0, 0.0, 0.0], 6),
            ([1e30, 0.0, 0.0], 4),
            ([1.0, 0.0, 0.0], 2),
        ] {
            let hits = nearest(&store, query, limit).await.unwrap();
            let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
            assert_eq!(found, &expected[..limit], "{name}: {query:?}");
        }
        let replaced = Document::new("huge").vector([0.0, 0.0, 1.0]);
        let replaced = Mutation::upsert("huge", version(2), record(replaced));
        apply(&store, vec![replaced])
            .await
            .unwrap()
            .remove(0)
            .unwrap();
        let hits = nearest(&store, [0.0, 0.0, 1.0], 1).await.unwrap();
        assert_eq!((&*hits[0].id, hits[0].version), ("huge", version(2)));
    }
}

/// Documents that are written while they are searched are shown whole, old or new.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_changes_is_found_as_one_of_its_versions() {
    for (name, url) in both() {
        let store = Place::new(&url).store().await;
        let at = |number: u64| {
            // Odd versions point one way, even ones the other.
            let direction = if number.is_multiple_of(2) { 1.0 } else { -1.0 };
            let document = Document::new("a")
                .metadata("even", number.is_multiple_of(2))
                .vector([direction, 0.0, 0.0]);
            Mutation::upsert("a", version(number), record(document))
        };
        apply(&store, vec![at(1)]).await.unwrap().remove(0).unwrap();
        let writer = Arc::clone(&*store);
        let writing = tokio::spawn(async move {
            for number in 2..400 {
                apply(&writer, vec![at(number)])
                    .await
                    .unwrap()
                    .remove(0)
                    .unwrap();
            }
        });
        let filter = Arc::new(field("even").eq(true));
        while !writing.is_finished() {
            for filter in [None, Some(Arc::clone(&filter))] {
                let request = VectorSearchRequest::new(key(), [1.0, 0.0, 0.0], 5);
                let request = request.filter(filter.clone()).exact();
                for hit in store.search_vectors(request).await.unwrap() {
                    let even = hit.version.as_u64().is_multiple_of(2);
                    assert!((hit.score > 0.0) == even, "{name}: {hit:?}");
                    assert!(even || filter.is_none(), "{name}: {hit:?}");
                }
            }
        }
        writing.await.unwrap();
    }
}
