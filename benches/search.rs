//! A hybrid search against the slowest of its legs, in the same run.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/vectors.rs"]
mod vectors;

use std::time::Duration;

use dbmanager::{
    model::{LegName, Query},
    prelude::*,
};
use documents::document;
use measure::{criterion, is_trial, measure, ratio};
use tokio::runtime::Runtime;
use vectors::vector;

const COLLECTION: &str = "documents";
const DIMENSION: usize = 384;
const BATCH: u64 = 500;

async fn filled(directory: &std::path::Path, documents: u64) -> DatabaseManager {
    let db = DatabaseManager::open(Config::embedded(directory))
        .await
        .expect("the stores open");
    for first in (0..documents).step_by(BATCH as usize) {
        let batch = (first..documents.min(first + BATCH)).map(|n| document(n, DIMENSION));
        let write = db.store_documents(COLLECTION, batch).level(Level::All);
        for receipt in write.await.expect("stored") {
            receipt.expect("stored");
        }
    }
    db
}

/// Asks with every leg's input, of which the search type takes what it needs.
fn query(search_type: SearchType, number: u64) -> Query {
    let mut query = Query::hybrid(format!("word{} word{} word25", number % 100, number % 37))
        .vector(vector(number, DIMENSION));
    query.search_type = search_type;
    query
}

fn main() {
    let documents = if is_trial() { 500 } else { 10_000 };
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let db = runtime.block_on(filled(directory.path(), documents));
    let mut criterion = criterion();
    let mut median = |name: &str, search_type| {
        let mut number = 0;
        measure(&mut criterion, &format!("search/{name}"), || {
            number += 1;
            let search = db.search_documents(COLLECTION, query(search_type, number));
            let response = runtime.block_on(search).expect("a search answers");
            assert!(!response.degraded(), "{:?}", response.legs);
        })
    };
    let legs = [
        (LegName::Semantic, median("semantic", SearchType::Semantic)),
        (LegName::Metadata, median("metadata", SearchType::Metadata)),
        (LegName::Graph, median("graph", SearchType::Graph)),
    ];
    let hybrid = median("hybrid", SearchType::Hybrid);
    let slowest = legs
        .into_iter()
        .filter_map(|(leg, time)| Some((leg, time?)));
    if let Some((leg, time)) = slowest.max_by(|a, b| a.1.total_cmp(&b.1)) {
        let what = format!("{documents} documents, hybrid ÷ its slowest leg ({leg})");
        ratio(&what, hybrid, Some(time));
    }
    runtime
        .block_on(db.close(Duration::from_secs(60)))
        .expect("the stores close");
}
