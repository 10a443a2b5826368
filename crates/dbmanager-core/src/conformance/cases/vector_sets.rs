//! A document's vectors are one set under one version.

use std::sync::Arc;

use super::{VECTOR, cases, vector_search::search};
use crate::{
    TaskHandle,
    backend::{BackendErrorKind, Mutation, VectorHit, VectorSearchRequest},
    conformance::{
        client::Client,
        data::{record, version},
        expect::Expected,
        trial::{CaseResult, Failure, Trial},
    },
    model::{Document, DocumentRecord, Passage},
};

cases!(VECTOR;
    one_hit_per_document_by_its_best_chunk,
    shrinking_the_set_leaves_no_stale_chunk,
    growing_the_set_adds_chunks,
    a_document_that_loses_its_vectors_is_not_found,
    deleted_documents_are_not_found,
    a_vector_of_another_dimension_is_refused_alone,
    chunk_sets_that_race_end_at_the_newest,
    many_chunks_are_held,
);

/// A document with a chunk for each direction, its passages in order.
fn chunks(id: &str, directions: &[[f32; 3]]) -> Arc<DocumentRecord> {
    let document = (0..)
        .zip(directions)
        .fold(Document::new(id), |document, (index, direction)| {
            let passage = Passage {
                start: 10 * index,
                end: 10 * index + 7,
            };
            document.passage_vector(passage, *direction)
        });
    record(document)
}

const X: [f32; 3] = [1.0, 0.0, 0.0];
const Y: [f32; 3] = [0.0, 1.0, 0.0];
const Z: [f32; 3] = [0.0, 0.0, 1.0];

async fn nearest(client: &Client, query: [f32; 3], limit: usize) -> CaseResult<Vec<VectorHit>> {
    client.settle().await?;
    let key = client.collection.clone();
    search(client, &VectorSearchRequest::new(key, query, limit).exact()).await
}

/// The best hit is `id` by this chunk; its score says how near.
async fn expect_best(
    client: &Client,
    query: [f32; 3],
    id: &str,
    chunk: u32,
    score: f64,
) -> CaseResult {
    let hits = nearest(client, query, 10).await?;
    let best = hits.first().map(|hit| (&*hit.id, hit.chunk));
    ensure_eq!(best, Some((id, chunk)), "best hit for {query:?}");
    let passage = hits.first().and_then(|hit| hit.passage);
    let expected = Passage {
        start: 10 * chunk,
        end: 10 * chunk + 7,
    };
    ensure_eq!(passage, Some(expected), "passage for {query:?}");
    let found = hits.first().map_or(f64::NAN, |hit| hit.score);
    ensure!(
        (found - score).abs() < 1e-4,
        "score for {query:?}: found {found}, expected {score}"
    );
    let mut ids: Vec<_> = hits.iter().map(|hit| &hit.id).collect();
    ids.sort();
    ids.dedup();
    ensure_eq!(ids.len(), hits.len(), "documents found once");
    Ok(())
}

async fn one_hit_per_document_by_its_best_chunk(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let many = vec![[0.9, 0.1, 0.0]; 40];
    client.put(1, &chunks("many", &many)).await?;
    client.put(2, &chunks("three", &[Z, X, Y])).await?;
    client.put(3, &chunks("other", &[Y])).await?;
    expect_best(&client, X, "three", 1, 1.0).await?;
    expect_best(&client, Z, "three", 0, 1.0).await?;
    // More near chunks of one document than hits asked for do not crowd out the others.
    let hits = nearest(&client, [0.9, 0.1, 0.0], 3).await?;
    let ids: Vec<_> = hits.iter().map(|hit| &*hit.id).collect();
    ensure_eq!(ids, ["many", "three", "other"], "hits");
    Ok(())
}

async fn shrinking_the_set_leaves_no_stale_chunk(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &chunks("a", &[X, Y, Z])).await?;
    expect_best(&client, Z, "a", 2, 1.0).await?;
    client.put(2, &chunks("a", &[Y])).await?;
    client.expect_live(2, &chunks("a", &[Y])).await?;
    expect_best(&client, Z, "a", 0, 0.0).await?;
    expect_best(&client, X, "a", 0, 0.0).await?;
    expect_best(&client, Y, "a", 0, 1.0).await
}

async fn growing_the_set_adds_chunks(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &chunks("a", &[X])).await?;
    expect_best(&client, Y, "a", 0, 0.0).await?;
    client.put(2, &chunks("a", &[Z, Y])).await?;
    expect_best(&client, Y, "a", 1, 1.0).await?;
    expect_best(&client, X, "a", 0, 0.0).await?;
    client.put(3, &chunks("a", &[Z, Y, X])).await?;
    expect_best(&client, X, "a", 2, 1.0).await?;
    client.expect_live(3, &chunks("a", &[Z, Y, X])).await
}

async fn a_document_that_loses_its_vectors_is_not_found(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &chunks("a", &[X, Y])).await?;
    let bare = record(Document::new("a").text("no vector"));
    client.put(2, &bare).await?;
    ensure_eq!(nearest(&client, X, 10).await?, [], "hits");
    client.expect_live(2, &bare).await?;
    client.put(3, &chunks("a", &[X])).await?;
    expect_best(&client, X, "a", 0, 1.0).await
}

async fn deleted_documents_are_not_found(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &chunks("a", &[X, Y])).await?;
    client.delete(2, "a").await?;
    client.put(1, &chunks("a", &[Z])).await?;
    for query in [X, Y, Z] {
        ensure_eq!(nearest(&client, query, 10).await?, [], "hits");
    }
    client.put(3, &chunks("a", &[Z])).await?;
    expect_best(&client, Z, "a", 0, 1.0).await
}

async fn a_vector_of_another_dimension_is_refused_alone(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    client.put(1, &chunks("held", &[X])).await?;
    let wrong = |id: &str, values: &[f32]| {
        let document = Document::new(id).vector(X).vector(values);
        Mutation::upsert(id, version(5), record(document))
    };
    let right = |id: &str| Mutation::upsert(id, version(5), chunks(id, &[Y]));
    let batch = [
        right("first"),
        wrong("short", &[1.0, 2.0]),
        right("middle"),
        wrong("held", &[1.0, 2.0, 3.0, 4.0]),
        wrong("empty", &[]),
        right("last"),
    ];
    let answers = client.apply(&batch).await?;
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|error| error.kind()))
        .collect();
    let refused = Some(BackendErrorKind::Refused);
    ensure_eq!(
        kinds,
        [None, refused, None, refused, refused, None],
        "answers"
    );
    for id in ["first", "middle", "last"] {
        client.expect_live(5, &chunks(id, &[Y])).await?;
    }
    client.expect_live(1, &chunks("held", &[X])).await?;
    client
        .expect(&[("short", Expected::Never), ("empty", Expected::Never)])
        .await?;
    expect_best(&client, X, "held", 0, 1.0).await
}

/// A big set and a small one at once: only the newer one's chunks are found.
async fn chunk_sets_that_race_end_at_the_newest(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let (big, small) = (vec![X, Y, Z, X, Y, Z, X], vec![Y]);
    for round in 0..trial.rounds as u64 {
        // Absent ids and a present one, the set shrinking and growing, either one sent first.
        let id = match round % 3 {
            0 => "present".to_owned(),
            _ => format!("round {round}"),
        };
        let (older, newer) = match round % 4 {
            0 | 1 => (&big, &small),
            _ => (&small, &big),
        };
        let (low, high) = (1 + 2 * round, 2 + 2 * round);
        let mut writes = [
            Mutation::upsert(id.as_str(), version(low), chunks(&id, older)),
            Mutation::upsert(id.as_str(), version(high), chunks(&id, newer)),
        ];
        if round % 2 == 1 {
            writes.reverse();
        }
        let tasks: Vec<TaskHandle<CaseResult>> = writes
            .into_iter()
            .map(|write| {
                let writer = client.clone();
                client
                    .runtime
                    .spawn(async move { writer.write(&[write]).await })
            })
            .collect();
        for task in tasks {
            task.await
                .unwrap_or_else(|_| Err(Failure::new("a write panicked".to_owned())))?;
        }
        client.expect_live(high, &chunks(&id, newer)).await?;
        for (query, in_small) in [(X, 0.0), (Y, 1.0), (Z, 0.0)] {
            let expected = if newer.len() == 1 { in_small } else { 1.0 };
            client.settle().await?;
            let key = client.collection.clone();
            let only: Arc<[Arc<str>]> = Arc::from([Arc::from(id.as_str())]);
            let request = VectorSearchRequest::new(key, query, 5).restrict_to(only);
            let hits = search(&client, &request.exact()).await?;
            let found: Vec<_> = hits.iter().map(|hit| (hit.version, hit.score)).collect();
            ensure!(
                matches!(found[..], [(v, score)] if v == version(high) && (score - expected).abs() < 1e-4),
                "round {round}, {query:?}: found {found:?}, expected score {expected} at {high}"
            );
        }
    }
    Ok(())
}

async fn many_chunks_are_held(trial: Trial) -> CaseResult {
    let client = trial.store().await?;
    let most = client.shared.capabilities().limits.max_vectors.min(300);
    let directions: Vec<[f32; 3]> = (0..most).map(|i| [1.0, i as f32, 0.0]).collect();
    client.put(1, &chunks("a", &directions)).await?;
    client.expect_live(1, &chunks("a", &directions)).await?;
    expect_best(&client, X, "a", 0, 1.0).await?;
    client.put(2, &chunks("a", &directions[1..2])).await?;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    expect_best(&client, X, "a", 0, half).await
}
