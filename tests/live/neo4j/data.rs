//! Stamps, documents and short ways to write and read them.

use std::sync::Arc;

use dbmanager_core::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendResult, CreateCollectionRequest, Edges,
        GraphBackend, Head, IdsRequest, Mutation, Stamp, StampRequest,
    },
    model::{
        Collection, CollectionKey, CollectionOptions, Document, DocumentRecord, JournalId, StoreId,
        Tokenizer, VectorOrigin, VectorSet, Version,
    },
};

pub(super) fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::from_u64(0),
    }
}

pub(super) fn key() -> CollectionKey {
    CollectionKey::new("papers", 1)
}

pub(super) fn record(document: Document) -> Arc<DocumentRecord> {
    let vectors = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: Vec::new(),
    };
    Arc::new(DocumentRecord::new(document, vectors).unwrap())
}

pub(super) fn upsert(number: u64, document: Document) -> Mutation {
    let record = record(document);
    let id = record.document().id.clone();
    Mutation::upsert(id, Version::from_u64(number), record)
}

/// Stamps the store with epoch 1 and creates a collection of unstemmed words.
pub(super) async fn prepare(store: &dyn Backend) -> BackendResult<()> {
    store.write_stamp(StampRequest::new(stamp(1))).await?;
    create(store, key(), Tokenizer::Unicode).await
}

pub(super) async fn create(
    store: &dyn Backend,
    key: CollectionKey,
    tokenizer: Tokenizer,
) -> BackendResult<()> {
    let options = CollectionOptions::new().tokenizer(tokenizer);
    let collection = Collection { key, options };
    store
        .create_collection(CreateCollectionRequest::new(collection, 1))
        .await
}

/// Writes at epoch 1, and fails as the first item that failed.
pub(super) async fn write(store: &dyn Backend, mutations: &[Mutation]) -> BackendResult<()> {
    let request = ApplyRequest::new(key(), 1, mutations);
    store.apply(request).await?.into_iter().collect()
}

/// Writes until no reason is left that may pass: deadlocks are the server's way.
pub(super) async fn persist(store: &dyn Backend, mutations: &[Mutation]) -> BackendResult<()> {
    for _ in 0..50 {
        match write(store, mutations).await {
            Err(error) if error.is_transient() => tokio::task::yield_now().await,
            answer => return answer,
        }
    }
    write(store, mutations).await
}

pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> IdsRequest {
    let ids: Arc<[Arc<str>]> = ids.into_iter().map(Arc::from).collect();
    IdsRequest::new(key(), ids)
}

pub(super) async fn head(store: &dyn Backend, id: &str) -> BackendResult<Option<Head>> {
    Ok(store.heads(ids([id])).await?.remove(0))
}

pub(super) async fn edges(store: &dyn GraphBackend, id: &str) -> BackendResult<Option<Edges>> {
    Ok(store.edges(ids([id])).await?.remove(0))
}

/// The error, where there must be one.
pub(super) fn refused<T>(answer: BackendResult<T>) -> BackendError {
    match answer {
        Ok(_) => panic!("this was not to succeed"),
        Err(error) => error,
    }
}
