//! A store alone, without a manager and without a journal: what replaying is compared with.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dbmanager::{
    Runtime,
    backend::{
        ApplyRequest, Backend, CreateCollectionRequest, Mutation, OpenContext, ServiceConfig,
        Stamp, StampRequest,
    },
    model::{
        ChunkVector, Collection, Document, DocumentRecord, Role, VectorOrigin, VectorSet, Version,
    },
};

const EPOCH: u64 = 1;

/// How long an empty store of this role takes to apply the documents in batches.
pub(crate) async fn raw_apply(
    role: Role,
    service: &str,
    collection: &Collection,
    documents: Vec<Document>,
    batch: usize,
) -> Duration {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = Runtime::tokio();
    let context = OpenContext::new(runtime.clone()).data_directory(directory.path());
    let registry = dbmanager::registry();
    let factory = registry.factory(role, service).expect("it is compiled in");
    let store = factory.open(&ServiceConfig::new(), &context).await;
    let store = store.expect("the store opens").as_backend();
    prepare(&*store, &runtime, collection).await;
    let mut mutations = (1..).zip(documents).map(mutation);
    // Nothing else holds the documents: letting go of them is a part of applying.
    let requests: Vec<ApplyRequest> = std::iter::from_fn(|| {
        let batch: Vec<Mutation> = mutations.by_ref().take(batch).collect();
        let request = ApplyRequest::new(collection.key.clone(), EPOCH, batch);
        (!request.mutations.is_empty()).then_some(request)
    })
    .collect();
    let started = Instant::now();
    for request in requests {
        for applied in store.apply(request).await.expect("the batch is applied") {
            applied.expect("the document is applied");
        }
    }
    let elapsed = started.elapsed();
    store.close().await.expect("the store closes");
    elapsed
}

/// Stamped, as it is by a manager: a store compares the epoch in every write.
async fn prepare(store: &dyn Backend, runtime: &Runtime, collection: &Collection) {
    let stamp = Stamp {
        store_id: runtime.new_store_id(),
        journal_id: runtime.new_journal_id(),
        epoch: EPOCH,
        progress: Version::ZERO,
    };
    let stamped = store.write_stamp(StampRequest::new(stamp)).await;
    stamped.expect("the stamp is written");
    let request = CreateCollectionRequest::new(collection.clone(), EPOCH);
    let created = store.create_collection(request).await;
    created.expect("the collection is created");
}

fn mutation((version, document): (u64, Document)) -> Mutation {
    let chunk = |(chunk, vector): (u32, &dbmanager::model::DocumentVector)| ChunkVector {
        chunk,
        passage: vector.passage,
        values: vector.values.clone(),
    };
    let vectors = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: (0..).zip(&document.vectors).map(chunk).collect(),
    };
    let id = document.id.clone();
    let record = DocumentRecord::new(document, vectors).expect("a document is JSON");
    Mutation::upsert(id, Version::from_u64(version), Arc::new(record))
}
