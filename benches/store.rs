//! Writes through the library against the same rows written by plain SQL into the same tables, in
//! transactions of the same size, in the same run.
//!
//! The library's part waits for all three stores, and besides the rows it writes the journal; both
//! write the three files at the same time. Vectors are given, so nothing is embedded.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/measure.rs"]
mod measure;
#[path = "support/raw_upsert.rs"]
mod raw_upsert;
#[path = "support/vectors.rs"]
mod vectors;

use criterion::Criterion;
use dbmanager::{model::Document, prelude::*};
use documents::document;
use futures_util::future::join_all;
use measure::{criterion, measure, ratio};
use raw_upsert::RawStores;
use tokio::runtime::Runtime;

const COLLECTION: &str = "documents";
const DIMENSION: usize = 384;
const WRITERS: u64 = 64;

/// Documents with ids that none before had.
struct Source(u64);

impl Source {
    fn take(&mut self, count: u64) -> Vec<Document> {
        let first = self.0;
        self.0 += count;
        (first..self.0)
            .map(|number| document(number, DIMENSION))
            .collect()
    }
}

/// The stores' files with their tables and one document.
fn prepared(runtime: &Runtime) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    runtime.block_on(async {
        let db = open(&directory).await;
        let write = db
            .store_document(COLLECTION, document(0, DIMENSION))
            .level(Level::All);
        write.await.expect("the first document is stored");
        db.close(std::time::Duration::from_secs(30))
            .await
            .expect("the stores close");
    });
    directory
}

async fn open(directory: &tempfile::TempDir) -> DatabaseManager {
    let config = Config::embedded(directory.path());
    DatabaseManager::open(config)
        .await
        .expect("the stores open")
}

fn compare(
    criterion: &mut Criterion,
    runtime: &Runtime,
    db: &DatabaseManager,
    raw: &mut RawStores,
) {
    let mut source = Source(1);
    let one = measure(criterion, "store/one/library", || {
        for document in source.take(1) {
            let write = db.store_document(COLLECTION, document).level(Level::All);
            runtime.block_on(write.into_future()).expect("stored");
        }
    });
    let mut raw_source = Source(1);
    let raw_one = measure(criterion, "store/one/sql", || {
        raw.upsert(&raw_source.take(1))
    });

    let writers = measure(criterion, "store/64 writers/library", || {
        let writes = source.take(WRITERS).into_iter().map(|document| {
            db.store_document(COLLECTION, document)
                .level(Level::All)
                .into_future()
        });
        for receipt in runtime.block_on(join_all(writes)) {
            receipt.expect("stored");
        }
    });
    let raw_writers = measure(criterion, "store/64 writers/sql", || {
        raw.upsert(&raw_source.take(WRITERS))
    });

    let batch = measure(criterion, "store/batch of 1,000/library", || {
        let write = db
            .store_documents(COLLECTION, source.take(1_000))
            .level(Level::All);
        for receipt in runtime.block_on(write.into_future()).expect("stored") {
            receipt.expect("stored");
        }
    });
    let raw_batch = measure(criterion, "store/batch of 1,000/sql", || {
        raw.upsert(&raw_source.take(1_000))
    });

    ratio("one document, library ÷ SQL", one, raw_one);
    ratio(
        "64 writers of one document, library ÷ one SQL batch of 64",
        writers,
        raw_writers,
    );
    ratio("batch of 1,000, library ÷ SQL", batch, raw_batch);
}

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    let (directory, raw_directory) = (prepared(&runtime), prepared(&runtime));
    let mut raw = RawStores::open(raw_directory.path());
    let db = runtime.block_on(open(&directory));
    compare(&mut criterion(), &runtime, &db, &mut raw);
    runtime
        .block_on(db.close(std::time::Duration::from_secs(60)))
        .expect("the stores close");
}
