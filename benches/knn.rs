//! The embedded vector store's nearest neighbours against usearch by itself, with the same
//! parameters, on one thread, in the same run; and the recall of both.
//!
//! Below its threshold the store scans every vector, which is exact; from there on it asks its
//! HNSW graph. Both paths are named.

#[path = "support/measure.rs"]
mod measure;
#[path = "support/vectors.rs"]
mod vectors;

use std::{path::Path, sync::Arc, time::Instant};

use criterion::Criterion;
use dbmanager::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, CreateCollectionRequest, Mutation, OpenContext, ServiceConfig,
        VectorBackend, VectorSearchRequest,
    },
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        Metric, Role, VectorOrigin, VectorSet, Version,
    },
};
use measure::{criterion, is_trial, measure, ratio};
use rusqlite::Connection;
use tokio::runtime::Runtime as Tokio;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};
use vectors::vector;

const DIMENSION: usize = 384;
const NEIGHBOURS: usize = 10;
/// Queries over which recall is taken.
const QUERIES: u64 = 200;
/// The first query's number: none of the stored vectors.
const FIRST_QUERY: u64 = 10_000_000;
/// The embedded store's defaults.
const CONNECTIVITY: usize = 16;
const EXPANSION_ADD: usize = 128;
const EXPANSION_SEARCH: usize = 64;

fn key() -> CollectionKey {
    CollectionKey::new("vectors", 1)
}

fn id(number: u64) -> String {
    format!("v{number}")
}

/// Opens the embedded store and fills it, in epoch 1.
async fn filled(directory: &Path, vectors: u64, threshold: u64) -> Arc<dyn VectorBackend> {
    let mut config = ServiceConfig::new();
    config.insert("hnsw_threshold".to_owned(), threshold.into());
    let context = OpenContext::new(Runtime::tokio()).data_directory(directory);
    let factory = dbmanager::registry()
        .factory(Role::Vector, "embedded")
        .expect("compiled in");
    let AnyBackend::Vector(store) = factory.open(&config, &context).await.expect("it opens") else {
        unreachable!("the factory of the vector role opens vector stores");
    };
    let options = CollectionOptions::new().embedding_space(
        "bench",
        u32::try_from(DIMENSION).expect("a small number"),
        Metric::Cosine,
    );
    let collection = Collection {
        key: key(),
        options,
    };
    let create = CreateCollectionRequest::new(collection, 1);
    store.create_collection(create).await.expect("a collection");
    for first in (0..vectors).step_by(1_000) {
        let batch: Vec<Mutation> = (first..vectors.min(first + 1_000)).map(mutation).collect();
        let applied = store
            .apply(ApplyRequest::new(key(), 1, batch))
            .await
            .expect("applied");
        applied
            .into_iter()
            .for_each(|result| result.expect("applied"));
    }
    store
}

fn mutation(number: u64) -> Mutation {
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: vec![ChunkVector {
            chunk: 0,
            passage: None,
            values: vector(number, DIMENSION),
        }],
    };
    let record = DocumentRecord::new(Document::new(id(number)), set).expect("a record");
    Mutation::upsert(id(number), Version::from_u64(number + 1), Arc::new(record))
}

/// Waits until the store has built and saved its graph, which it does aside of searches.
async fn wait_for_graph(store: &Arc<dyn VectorBackend>, directory: &Path) {
    let file = Connection::open(directory.join("vector.db")).expect("the store's file");
    let start = Instant::now();
    loop {
        ask(store, FIRST_QUERY, false).await;
        let saved: i64 = file
            .query_row("SELECT count(*) FROM index_file", [], |row| row.get(0))
            .expect("the table of index files");
        if saved > 0 {
            return;
        }
        assert!(
            start.elapsed().as_secs() < 3_600,
            "the graph is not built within an hour"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

async fn ask(store: &Arc<dyn VectorBackend>, query: u64, exact: bool) -> Vec<String> {
    let mut request = VectorSearchRequest::new(key(), vector(query, DIMENSION), NEIGHBOURS);
    request.exact = exact;
    let hits = store
        .search_vectors(request)
        .await
        .expect("a search answers");
    hits.iter().map(|hit| hit.id.to_string()).collect()
}

/// usearch as the store uses it: inner product of vectors with norm 1, 32-bit floats.
fn raw(vectors: u64) -> Index {
    let index = Index::new(&IndexOptions {
        dimensions: DIMENSION,
        metric: MetricKind::IP,
        quantization: ScalarKind::F32,
        connectivity: CONNECTIVITY,
        expansion_add: EXPANSION_ADD,
        expansion_search: EXPANSION_SEARCH,
        multi: false,
    })
    .expect("an index");
    index.reserve(vectors as usize).expect("memory");
    for number in 0..vectors {
        index.add(number, &normalised(number)).expect("added");
    }
    index
}

fn normalised(number: u64) -> Vec<f32> {
    let vector = vector(number, DIMENSION);
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.into_iter().map(|value| value / norm).collect()
}

fn ask_raw(index: &Index, query: u64) -> Vec<String> {
    let found = index
        .search(&normalised(query), NEIGHBOURS)
        .expect("a search answers");
    found.keys.into_iter().map(id).collect()
}

/// The share of the exact neighbours that was found.
fn recall(found: &[Vec<String>], exact: &[Vec<String>]) -> f64 {
    let pairs = found.iter().zip(exact);
    let hits: usize = pairs
        .map(|(found, exact)| exact.iter().filter(|id| found.contains(id)).count())
        .sum();
    hits as f64 / exact.iter().map(Vec::len).sum::<usize>() as f64
}

fn compare(criterion: &mut Criterion, tokio: &Tokio, vectors: u64, threshold: u64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = tokio.block_on(filled(directory.path(), vectors, threshold));
    let path = if vectors < threshold {
        "exact scan"
    } else {
        "HNSW"
    };
    if vectors >= threshold {
        tokio.block_on(wait_for_graph(&store, directory.path()));
    }
    let index = raw(vectors);
    let queries = || FIRST_QUERY..FIRST_QUERY + QUERIES;
    let all = |exact| -> Vec<_> {
        queries()
            .map(|query| tokio.block_on(ask(&store, query, exact)))
            .collect()
    };
    let (found, exact) = (all(false), all(true));
    let by_usearch: Vec<_> = queries().map(|query| ask_raw(&index, query)).collect();

    let mut query = FIRST_QUERY;
    let own = measure(
        criterion,
        &format!("knn/{vectors}/embedded, {path}"),
        || {
            query += 1;
            tokio.block_on(ask(&store, query, false));
        },
    );
    let mut query = FIRST_QUERY;
    let other = measure(criterion, &format!("knn/{vectors}/usearch, HNSW"), || {
        query += 1;
        ask_raw(&index, query);
    });
    println!(
        "{vectors} × {DIMENSION}: recall@{NEIGHBOURS} embedded ({path}) {:.4}, usearch (HNSW) {:.4}",
        recall(&found, &exact),
        recall(&by_usearch, &exact)
    );
    ratio(
        &format!("{vectors} × {DIMENSION}, embedded ({path}) ÷ usearch (HNSW)"),
        own,
        other,
    );
    tokio.block_on(store.close()).expect("the store closes");
}

fn main() {
    let tokio = Tokio::new().expect("a runtime");
    let mut criterion = criterion();
    let (sizes, threshold) = if is_trial() {
        ([400, 1_000], 500)
    } else {
        ([10_000, 100_000], 20_000)
    };
    for vectors in sizes {
        compare(&mut criterion, &tokio, vectors, threshold);
    }
}
