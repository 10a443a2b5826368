//! The approximate index.

use std::collections::HashSet;

use super::{
    super::{index, kernel::Query},
    *,
};

const DIMENSION: usize = 24;

/// A few thousand vectors around a few hundred centres, the same at every run.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut centre = (seed % 200 + 7).wrapping_mul(0xd134_2543_de82_ef95);
    let draw = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..DIMENSION)
        .map(|_| draw(&mut centre) + 0.4 * draw(&mut state))
        .collect()
}

fn id(seed: u64) -> String {
    format!("d{seed:05}")
}

fn mutations(seeds: std::ops::Range<u64>) -> Vec<Mutation> {
    seeds
        .map(|seed| {
            let document = Document::new(id(seed)).metadata("half", (seed % 2) as i64);
            upsert(document, seed + 1, &[vector(seed)])
        })
        .collect()
}

async fn open_indexed(directory: &Path) -> Embedded {
    open_with(directory, json!({"hnsw_threshold": 500}))
        .await
        .unwrap()
}

async fn filled(directory: &Path, metric: Metric, count: u64) -> Embedded {
    let store = open_indexed(directory).await;
    let options = CollectionOptions::new().embedding_space("m", DIMENSION as u32, metric);
    create(&store, options).await.unwrap();
    apply(&store, mutations(0..count)).await;
    settle(&store).await;
    store
}

/// Searches until the index is there and no job changes it.
async fn settle(store: &Embedded) {
    let slot = store.shared.memory.slot(&key());
    loop {
        search(store, &vector(0), 1).await;
        if slot.index.is_settled() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn indexed(store: &Embedded) -> usize {
    store.shared.memory.slot(&key()).index.vectors()
}

async fn exact(store: &Embedded, request: VectorSearchRequest) -> Vec<VectorHit> {
    store.search_vectors(request.exact()).await.unwrap()
}

/// Whether the index, and not a scan, has an answer.
fn index_answers(store: &Embedded, vector: Vec<f32>, limit: usize) -> bool {
    let slot = store.shared.memory.slot(&key());
    let (state, matrix) = slot.current().unwrap();
    let index = index::consult(&store.shared, &slot, &state, &matrix).unwrap();
    let query = Query::new(state.metric, vector.into());
    index::search(&index, &matrix, &query, limit, None).is_some()
}

/// The share of the nearest documents that the index finds; checks everything else exactly.
async fn recall(store: &Embedded, filter: Option<Filter>, queries: std::ops::Range<u64>) -> f64 {
    let filter = filter.map(Arc::new);
    let (mut right, mut all) = (0, 0);
    for seed in queries {
        let request = VectorSearchRequest::new(key(), vector(seed), 10).filter(filter.clone());
        let found = store.search_vectors(request.clone()).await.unwrap();
        let expected = exact(store, request).await;
        assert_eq!(found.len(), expected.len());
        assert!(
            found.is_sorted_by(|a, b| a.score > b.score || (a.score == b.score && a.id < b.id))
        );
        let nearest: HashSet<_> = ids(&expected).into_iter().collect();
        right += found
            .iter()
            .filter(|hit| nearest.contains(&*hit.id))
            .count();
        all += expected.len();
    }
    f64::from(right as u32) / f64::from(all as u32)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_finds_nearly_what_a_scan_finds() {
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(directory.path(), metric, 2_000).await;
        assert_eq!(indexed(&store), 2_000);
        assert!((5_000..5_060).all(|seed| index_answers(&store, vector(seed), 10)));
        let all = recall(&store, None, 5_000..5_060).await;
        assert!(all >= 0.95, "{metric:?}: {all}");
        let half = recall(&store, Some(field("half").eq(1)), 5_000..5_030).await;
        assert!(half >= 0.95, "{metric:?}: {half}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_right_through_writes_deletes_and_crashes() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), Metric::Cosine, 1_000).await;
    for round in 0..4_u64 {
        let version = 100_000 * (round + 1);
        // The nearest of the next searches go, or move elsewhere; new ones come.
        let mut batch: Vec<_> = (0..100)
            .map(|n| delete(&id(round * 200 + n), version + n))
            .collect();
        batch.extend((100..200).map(|n| {
            let seed = round * 200 + n;
            plain(
                &id(seed),
                version + seed,
                &[vector(seed + 50_000), vector(seed + 60_000)],
            )
        }));
        batch.extend((0..300).map(|n| {
            let seed = 2_000 + round * 300 + n;
            plain(&id(seed), version + seed, &[vector(seed)])
        }));
        apply(&store, batch).await;
        for n in 0..20 {
            let seed = round * 200 + n;
            let hits = search(&store, &vector(seed), 10).await;
            assert_eq!(hits.len(), 10);
            assert!(!ids(&hits).contains(&id(seed).as_str()), "deleted");
            let moved = search(&store, &vector(round * 200 + 100 + n + 60_000), 1).await;
            assert_eq!(
                ids(&moved),
                [id(round * 200 + 100 + n)],
                "found in the tail"
            );
            assert_eq!(moved[0].chunk, 1);
        }
        settle(&store).await;
        assert!((5_000..5_030).all(|seed| index_answers(&store, vector(seed), 10)));
        let share = recall(&store, None, 5_000..5_030).await;
        assert!(share >= 0.95, "{round}: {share}");
        if round % 2 == 1 {
            drop(store);
            store = open_indexed(directory.path()).await;
            settle(&store).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_mostly_dead_vectors_is_built_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), Metric::Cosine, 1_600).await;
    let batch = (0..800)
        .map(|seed| delete(&id(seed), 10_000 + seed))
        .collect();
    apply(&store, batch).await;
    while indexed(&store) != 800 {
        settle(&store).await;
    }
    assert!(recall(&store, None, 5_000..5_030).await >= 0.95);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_chunks_of_one_document_do_not_crowd_out_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), Metric::Cosine, 1_000).await;
    let crowd: Vec<_> = (0..400).map(|_| vector(77)).collect();
    apply(&store, vec![plain("crowd", 90_000, &crowd)]).await;
    settle(&store).await;
    assert_eq!(indexed(&store), 1_400);
    let request = VectorSearchRequest::new(key(), vector(77), 25);
    let found = store.search_vectors(request.clone()).await.unwrap();
    assert_eq!(found, exact(&store, request).await);
    assert!(ids(&found).contains(&"crowd"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_against_the_neighbourhood_still_fills_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), Metric::Cosine, 1_500).await;
    // Half of the documents are allowed, and none of the 750 nearest to the query.
    let request = VectorSearchRequest::new(key(), vector(3), 1_500);
    let order = exact(&store, request).await;
    let far: Vec<String> = ids(&order)[750..]
        .iter()
        .map(|id| (*id).to_owned())
        .collect();
    let filter = dbmanager_core::model::fact(dbmanager_core::model::Field::Id).is_in(far.clone());
    let request = VectorSearchRequest::new(key(), vector(3), 10).filter(Some(Arc::new(filter)));
    let found = store.search_vectors(request).await.unwrap();
    assert_eq!(ids(&found), far[..10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_the_index_cannot_hold_are_found_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), Metric::Dot, 600).await;
    let mut huge = vec![0.0; DIMENSION];
    huge[0] = 3e38;
    huge[1] = 3e38;
    apply(&store, vec![plain("huge", 90_000, &[huge.clone()])]).await;
    apply(&store, mutations(600..1_000)).await;
    settle(&store).await;
    assert!(indexed(&store) >= 1_000);
    let mut query = vec![0.0; DIMENSION];
    query[0] = 1.0;
    query[1] = 1.0;
    let hit = &search(&store, &query, 3).await[0];
    assert_eq!(
        (&*hit.id, hit.score),
        ("huge", Metric::Dot.score(&query, &huge))
    );
    let request = VectorSearchRequest::new(key(), huge, 5);
    let found = store.search_vectors(request.clone()).await.unwrap();
    assert_eq!(found, exact(&store, request).await);
}

fn index_files(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("-hnsw-"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_used_only_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = filled(path, Metric::Cosine, 800).await;
    let files = index_files(path);
    assert_eq!(files.len(), 1);
    let slot = store.shared.memory.slot(&key());
    let (state, _) = slot.current().unwrap();
    let load = async || super::super::index_file::load(&store.shared, &state).await;
    assert_eq!(load().await.unwrap().len(), 800);

    let bytes = std::fs::read(&files[0]).unwrap();
    for place in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        std::fs::write(&files[0], &damaged).unwrap();
        assert!(load().await.is_none(), "byte {place}");
    }
    std::fs::write(&files[0], &bytes[..bytes.len() - 5]).unwrap();
    assert!(load().await.is_none(), "cut off");
    std::fs::write(&files[0], &bytes).unwrap();
    assert_eq!(load().await.unwrap().len(), 800);
    let other = super::super::tables::State {
        metric: Metric::Dot,
        ..state
    };
    let loaded = super::super::index_file::load(&store.shared, &other).await;
    assert!(loaded.is_none(), "another metric");

    // What was written since is the tail, and its vectors are added.
    apply(&store, mutations(800..900)).await;
    store.close().await.unwrap();
    drop(store);
    let stray = path.join("vector.db-hnsw-1-0000000000000000");
    std::fs::write(&stray, b"left by a crash").unwrap();
    let store = open_indexed(path).await;
    assert!(!stray.exists());
    settle(&store).await;
    assert_eq!(indexed(&store), 900);
    assert!(recall(&store, None, 5_000..5_030).await >= 0.95);

    let drop_request = DropCollectionRequest::new(key(), 1);
    store.drop_collection(drop_request).await.unwrap();
    assert!(index_files(path).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_ends_a_job_and_frees_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_indexed(directory.path()).await;
    create(&store, CollectionOptions::new()).await.unwrap();
    apply(&store, mutations(0..3_000)).await;
    search(&store, &vector(1), 1).await;
    store.close().await.unwrap();
    drop(store);
    let store = open_indexed(directory.path()).await;
    assert_eq!(ids(&search(&store, &vector(1), 1).await), [id(1)]);
}
