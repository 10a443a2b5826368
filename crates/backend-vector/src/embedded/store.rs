//! The store: the traits of the contract over the modules that do the work.

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::sqlite::{Database, collections, stamp};
use dbmanager_core::{
    backend::{
        ApplyRequest, Backend, BackendErrorKind, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListRequest, Page, StampRequest, StoredVectors, VectorBackend, VectorHit,
        VectorSearchRequest,
    },
    model::{CollectionKey, Role},
};

use super::{SERVICE, limits, memory::Memory, read, search, write};
#[cfg(feature = "hnsw")]
use super::{index, index_file};

/// What the store and the jobs on its indexes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) memory: Memory,
    #[cfg(feature = "hnsw")]
    pub(super) keeper: index::Keeper,
}

/// An open store.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) shared: Arc<Shared>,
    capabilities: Capabilities,
}

impl Embedded {
    pub(super) fn new(shared: Shared) -> Self {
        let mut capabilities = Capabilities::new();
        capabilities.limits = limits();
        capabilities.paths = false;
        capabilities.full_text = false;
        Self {
            shared: Arc::new(shared),
            capabilities,
        }
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        #[cfg(feature = "hnsw")]
        self.shared.keeper.stop();
    }
}

#[async_trait]
impl Backend for Embedded {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.identity().await.map(drop)
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.database().read(stamp::identity).await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.database()
            .write_durable(move |transaction| stamp::write(transaction, &request))
            .await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.database()
            .write(move |transaction| write::create_collection(transaction, &request))
            .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        let key = request.collection.clone();
        self.database()
            .write(move |transaction| write::drop_collection(transaction, &request))
            .await?;
        self.shared.memory.forget(&key);
        // The collection is gone, whatever becomes of its index' file: the next opening removes
        // what is left, or says why it cannot.
        #[cfg(feature = "hnsw")]
        let _ = index_file::sweep(&self.shared).await;
        Ok(())
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.database().read(collections::list).await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.database()
            .write(move |transaction| write::apply(transaction, &request))
            .await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.database()
            .read(move |connection| read::heads(connection, &request))
            .await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.database()
            .read(move |connection| read::fingerprints(connection, &request))
            .await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.database()
            .read(move |connection| read::fingerprints_of(connection, &request))
            .await
    }

    async fn sync(&self) -> BackendResult<()> {
        self.database().sync().await
    }

    async fn close(&self) -> BackendResult<()> {
        #[cfg(feature = "hnsw")]
        self.shared.keeper.stop();
        self.database().close().await
    }
}

#[async_trait]
impl VectorBackend for Embedded {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        let key = request.collection.clone();
        let slot = self.shared.memory.slot(&key);
        let _loading = if slot.is_loaded() {
            None
        } else {
            Some(slot.loading.lock().await)
        };
        let held = Arc::clone(&slot);
        #[cfg(feature = "hnsw")]
        let shared = Arc::clone(&self.shared);
        let result = self
            .database()
            .read(move |connection| {
                search::run(
                    connection,
                    &held,
                    &request,
                    #[cfg(feature = "hnsw")]
                    &|state, matrix| index::consult(&shared, &held, state, matrix),
                )
            })
            .await;
        if let Err(error) = &result
            && error.kind() == BackendErrorKind::CollectionMissing
        {
            self.shared.memory.forget(&key);
        }
        result
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.database()
            .read(move |connection| read::vectors(connection, &request))
            .await
    }
}
