//! Nearest neighbours, compared with a brute-force model.

use std::sync::Arc;

use super::{VECTOR, cases};
use crate::{
    backend::{BackendErrorKind, VectorHit, VectorSearchRequest},
    conformance::{
        client::{Client, expect_kind},
        data::{self, Seeded, persist, record},
        suite::ids,
        trial::{CaseResult, Trial},
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, EmbeddingSpace,
        Metric, field,
    },
};

cases!(VECTOR;
    cosine_search_agrees_with_the_model needs |c| c.metrics.contains(&Metric::Cosine),
    dot_search_agrees_with_the_model needs |c| c.metrics.contains(&Metric::Dot),
    euclidean_search_agrees_with_the_model needs |c| c.metrics.contains(&Metric::Euclidean),
    a_metric_without_the_capability_is_unsupported needs |c| METRICS.iter().any(|m| !c.metrics.contains(m)),
    equal_scores_are_ordered_by_id,
    search_keeps_its_limit,
    approximate_search_fills_the_limit,
    a_filter_is_applied_before_the_limit needs |c| c.filter,
    restrict_to_looks_only_at_these_documents,
    zero_vectors_are_defined,
    a_query_of_another_dimension_is_refused,
    a_collection_without_vectors_finds_nothing,
    hits_carry_the_version_found,
);

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

/// How far a score may be from the model's: stores compute in `f32`.
const TOLERANCE: f64 = 1e-4;

/// A collection of eight dimensions with this metric, on a fresh store.
async fn store(trial: &Trial, metric: Metric) -> CaseResult<Client> {
    let client = trial.store().await?;
    let collection = Collection {
        key: CollectionKey::new("vectors", 1),
        options: CollectionOptions::new().embedding_space(EmbeddingSpace::CALLER, 8, metric),
    };
    client.create(&collection).await?;
    Ok(client.on(&collection.key))
}

/// Documents with one to three random chunks.
fn random_documents(seeded: &mut Seeded, count: usize) -> Vec<Arc<DocumentRecord>> {
    (0..count)
        .map(|index| {
            let mut document =
                Document::new(format!("document {index:03}")).metadata("index", index as i64);
            for _ in 0..=seeded.below(3) {
                document = document.vector(seeded.vector(8));
            }
            record(document)
        })
        .collect()
}

/// The model: the score of each document's nearest chunk.
fn score(metric: Metric, query: &[f32], record: &DocumentRecord) -> Option<f64> {
    let scores = record.vectors().vectors.iter();
    scores
        .map(|chunk| metric.score(query, &chunk.values))
        .max_by(f64::total_cmp)
}

pub(super) async fn search(
    client: &Client,
    request: &VectorSearchRequest,
) -> CaseResult<Vec<VectorHit>> {
    let backend = client.vector()?;
    let hits = persist(&client.runtime, || backend.search_vectors(request.clone()));
    Ok(hits.await?)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * (1.0 + b.abs())
}

/// The hits are the model's: as many, each with its document's score, best first. Documents whose
/// scores differ by less than the tolerance may change places.
fn check_hits(
    metric: Metric,
    query: &[f32],
    documents: &[Arc<DocumentRecord>],
    limit: usize,
    hits: &[VectorHit],
) -> CaseResult {
    let mut scores: Vec<f64> = documents
        .iter()
        .filter_map(|record| score(metric, query, record))
        .collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.truncate(limit);
    ensure_eq!(hits.len(), scores.len(), "hits of at most {limit}");
    for (rank, (hit, expected)) in hits.iter().zip(scores).enumerate() {
        ensure!(
            near(hit.score, expected),
            "rank {rank}: {:?} has score {}, the model's is {expected}",
            hit.id,
            hit.score
        );
        let found = documents
            .iter()
            .find(|record| *record.document().id == *hit.id);
        let own = found.and_then(|record| score(metric, query, record));
        ensure!(
            own.is_some_and(|own| near(hit.score, own)),
            "{:?} has score {}, in the model {own:?}",
            hit.id,
            hit.score
        );
        let chunk = found.and_then(|record| {
            let chunks = &record.vectors().vectors;
            chunks.iter().find(|chunk| chunk.chunk == hit.chunk)
        });
        ensure!(
            chunk.is_some_and(|chunk| near(metric.score(query, &chunk.values), hit.score)
                && chunk.passage == hit.passage),
            "{:?} was found by chunk {} at {:?}, which is not its nearest",
            hit.id,
            hit.chunk,
            hit.passage
        );
        ensure!(
            hits[..rank]
                .iter()
                .all(|above| above.id != hit.id && above.score >= hit.score),
            "rank {rank}: {:?} is there twice or below a lower score",
            hit.id
        );
    }
    Ok(())
}

async fn agrees_with_the_model(trial: Trial, metric: Metric) -> CaseResult {
    let client = store(&trial, metric).await?;
    let mut seeded = Seeded::new(trial.seed);
    let documents = random_documents(&mut seeded, 60);
    client.put_all(&documents).await?;
    client.settle().await?;
    for limit in [1, 2, 7, 59, 60, 61, 1_000] {
        let query = seeded.vector(8);
        let key = client.collection.clone();
        let request = VectorSearchRequest::new(key, query.clone(), limit).exact();
        let hits = search(&client, &request).await?;
        check_hits(metric, &query, &documents, limit, &hits)?;
    }
    Ok(())
}

async fn a_metric_without_the_capability_is_unsupported(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let metrics = client.shared.capabilities().metrics.clone();
    for metric in METRICS.into_iter().filter(|m| !metrics.contains(m)) {
        let collection = Collection {
            key: CollectionKey::new("vectors", 1),
            options: CollectionOptions::new().embedding_space(EmbeddingSpace::CALLER, 8, metric),
        };
        let created = client.create(&collection).await;
        let what = format!("create_collection with the metric {metric:?}");
        expect_kind(created, BackendErrorKind::Unsupported, &what)?;
        let request = VectorSearchRequest::new(collection.key, vec![1.0; 8], 1);
        let backend = client.vector()?;
        let found = persist(&client.runtime, || backend.search_vectors(request.clone()));
        expect_kind(
            found.await,
            BackendErrorKind::CollectionMissing,
            "search_vectors in a collection that was refused",
        )?;
    }
    Ok(())
}

async fn cosine_search_agrees_with_the_model(trial: Trial) -> CaseResult {
    agrees_with_the_model(trial, Metric::Cosine).await
}

async fn dot_search_agrees_with_the_model(trial: Trial) -> CaseResult {
    agrees_with_the_model(trial, Metric::Dot).await
}

async fn euclidean_search_agrees_with_the_model(trial: Trial) -> CaseResult {
    agrees_with_the_model(trial, Metric::Euclidean).await
}

async fn equal_scores_are_ordered_by_id(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let most = client.shared.capabilities().limits.max_id_bytes;
    let mut ids = data::hostile_ids();
    ids.retain(|id| id.len() <= most);
    let documents: Vec<_> = ids
        .iter()
        .map(|id| record(Document::new(id.as_str()).vector([0.5, 0.25, -1.0])))
        .collect();
    client.put_all(&documents).await?;
    client.settle().await?;
    ids.sort();
    for limit in [3, 40, 1_000] {
        let key = client.collection.clone();
        let request = VectorSearchRequest::new(key, [1.0, 2.0, 3.0], limit).exact();
        let hits = search(&client, &request).await?;
        let found: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
        let expected = &ids[..limit.min(ids.len())];
        ensure_eq!(found, expected, "order of equal scores, at most {limit}");
    }
    Ok(())
}

async fn search_keeps_its_limit(trial: Trial) -> CaseResult {
    let client = store(&trial, Metric::Cosine).await?;
    let mut seeded = Seeded::new(trial.seed);
    let documents = random_documents(&mut seeded, 12);
    client.put_all(&documents).await?;
    client.settle().await?;
    for limit in 1..=13 {
        let key = client.collection.clone();
        let request = VectorSearchRequest::new(key, seeded.vector(8), limit);
        let found = search(&client, &request).await?.len();
        ensure_eq!(found, limit.min(12), "hits of at most {limit}");
    }
    Ok(())
}

/// Fewer hits than asked for only if there are no more, whatever the index.
async fn approximate_search_fills_the_limit(trial: Trial) -> CaseResult {
    let client = store(&trial, Metric::Cosine).await?;
    let mut seeded = Seeded::new(trial.seed);
    let documents = random_documents(&mut seeded, 200);
    client.put_all(&documents).await?;
    for index in (0..200).step_by(2) {
        client
            .delete(1_000 + index, &format!("document {index:03}"))
            .await?;
    }
    client.settle().await?;
    for limit in [50, 99, 100, 150] {
        let key = client.collection.clone();
        let mut request = VectorSearchRequest::new(key, seeded.vector(8), limit);
        let found = search(&client, &request).await?.len();
        ensure_eq!(found, limit.min(100), "hits of at most {limit}");
        if client.shared.capabilities().filter {
            request = request.filter(Some(Arc::new(field("index").ge(180))));
            let found = search(&client, &request).await?.len();
            ensure_eq!(found, 10, "hits of at most {limit} with a narrow filter");
        }
    }
    Ok(())
}

/// Documents on a quarter circle: the higher the number, the farther from (1, 0, 0).
fn fan(count: u32) -> Vec<Arc<DocumentRecord>> {
    (0..count)
        .map(|index| {
            let angle = index as f32 / count as f32;
            record(
                Document::new(format!("fan {index:02}"))
                    .metadata("index", index)
                    .vector([angle.cos(), angle.sin(), 0.0]),
            )
        })
        .collect()
}

fn found_ids(hits: &[VectorHit]) -> Vec<&str> {
    hits.iter().map(|hit| &*hit.id).collect()
}

async fn a_filter_is_applied_before_the_limit(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put_all(&fan(30)).await?;
    client.settle().await?;
    let key = client.collection.clone();
    let request = VectorSearchRequest::new(key, [1.0, 0.0, 0.0], 2)
        .filter(Some(Arc::new(field("index").ge(27))));
    for request in [request.clone(), request.exact()] {
        let hits = search(&client, &request).await?;
        ensure_eq!(found_ids(&hits), ["fan 27", "fan 28"], "hits");
    }
    Ok(())
}

async fn restrict_to_looks_only_at_these_documents(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put_all(&fan(30)).await?;
    client.delete(99, "fan 20").await?;
    client.settle().await?;
    let key = client.collection.clone();
    let all = VectorSearchRequest::new(key, [1.0, 0.0, 0.0], 10).exact();
    let among = ["fan 29", "fan 11", "unknown", "fan 20", "fan 05"];
    let hits = search(&client, &all.clone().restrict_to(ids(among))).await?;
    ensure_eq!(found_ids(&hits), ["fan 05", "fan 11", "fan 29"], "hits");
    let mut two = all.clone().restrict_to(ids(among));
    two.limit = 2;
    let hits = search(&client, &two).await?;
    ensure_eq!(found_ids(&hits), ["fan 05", "fan 11"], "hits of at most 2");
    let hits = search(&client, &all.clone().restrict_to(ids([]))).await?;
    ensure_eq!(found_ids(&hits), [""; 0], "hits among no documents");
    if client.shared.capabilities().filter {
        let filtered = all
            .restrict_to(ids(among))
            .filter(Some(Arc::new(field("index").gt(5))));
        let hits = search(&client, &filtered).await?;
        ensure_eq!(
            found_ids(&hits),
            ["fan 11", "fan 29"],
            "hits that fulfil the filter"
        );
    }
    Ok(())
}

async fn zero_vectors_are_defined(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let documents = [
        record(Document::new("zero").vector([0.0, 0.0, 0.0])),
        record(Document::new("near").vector([2.0, 0.0, 0.0])),
        record(Document::new("opposite").vector([-2.0, 0.0, 0.0])),
    ];
    client.put_all(&documents).await?;
    client.settle().await?;
    let key = client.collection.clone();
    let request = VectorSearchRequest::new(key.clone(), [1.0, 0.0, 0.0], 10).exact();
    let hits = search(&client, &request).await?;
    ensure_eq!(found_ids(&hits), ["near", "zero", "opposite"], "hits");
    let scores: Vec<f64> = hits.iter().map(|hit| hit.score).collect();
    ensure!(
        scores
            .iter()
            .zip([1.0, 0.0, -1.0])
            .all(|(a, b)| near(*a, b)),
        "scores: {scores:?}"
    );
    let request = VectorSearchRequest::new(key, [0.0, 0.0, 0.0], 10).exact();
    let hits = search(&client, &request).await?;
    ensure_eq!(
        found_ids(&hits),
        ["near", "opposite", "zero"],
        "hits of a zero query"
    );
    ensure!(
        hits.iter().all(|hit| hit.score == 0.0),
        "a zero query has similarity 0 to everything: {hits:?}"
    );
    Ok(())
}

async fn a_query_of_another_dimension_is_refused(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let backend = client.vector()?;
    for filled in [false, true] {
        if filled {
            client.put_all(&fan(3)).await?;
        }
        for query in [&[1.0, 0.0][..], &[1.0, 0.0, 0.0, 0.0], &[]] {
            let found = persist(&client.runtime, || {
                let key = client.collection.clone();
                backend.search_vectors(VectorSearchRequest::new(key, query, 1))
            });
            let what = format!("a query of {} numbers", query.len());
            expect_kind(found.await, BackendErrorKind::Refused, &what)?;
        }
    }
    Ok(())
}

async fn a_collection_without_vectors_finds_nothing(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let key = client.collection.clone();
    let request = VectorSearchRequest::new(key, [1.0, 0.0, 0.0], 10);
    ensure_eq!(search(&client, &request).await?, [], "hits");
    client
        .put(1, &record(Document::new("a").text("words")))
        .await?;
    client.settle().await?;
    ensure_eq!(search(&client, &request).await?, [], "hits");

    let without_space = Collection {
        key: CollectionKey::new("without space", 1),
        options: CollectionOptions::new(),
    };
    client.create(&without_space).await?;
    let on = client.on(&without_space.key);
    on.put(1, &record(Document::new("a").text("words"))).await?;
    on.settle().await?;
    for dimension in [1, 3, 8] {
        let query = vec![1.0; dimension];
        let request = VectorSearchRequest::new(without_space.key.clone(), query, 10);
        ensure_eq!(
            search(&on, &request).await?,
            [],
            "hits of a collection without embedding space"
        );
    }
    Ok(())
}

async fn hits_carry_the_version_found(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let at = |x: f32| record(Document::new("a").vector([x, 1.0, 0.0]));
    client.put(1, &at(1.0)).await?;
    client.put(5, &at(2.0)).await?;
    client.put(3, &at(3.0)).await?;
    client.settle().await?;
    let key = client.collection.clone();
    let request = VectorSearchRequest::new(key, [1.0, 0.0, 0.0], 10).exact();
    let hits = search(&client, &request).await?;
    let found: Vec<_> = hits.iter().map(|hit| (&*hit.id, hit.version)).collect();
    ensure_eq!(found, [("a", data::version(5))], "hits");
    check_hits(Metric::Cosine, &[1.0, 0.0, 0.0], &[at(2.0)], 10, &hits)
}
