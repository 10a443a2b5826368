//! The open store.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        ApplyRequest, Backend, BackendResult, Capabilities, CreateCollectionRequest,
        DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest, ListRequest, Page, Stamp,
        StampRequest, StoredVectors, VectorBackend, VectorHit, VectorSearchRequest,
    },
    model::{CollectionKey, Filter, Role},
};

use super::{
    SERVICE, capabilities, client::Client, collections::Held, config::Placement, filter::compile,
};

/// A store in one server under one prefix.
pub(super) struct Qdrant {
    pub(super) client: Client,
    pub(super) prefix: String,
    pub(super) placement: Placement,
    capabilities: Capabilities,
    /// Collections that were read from the server.
    known: RwLock<HashMap<CollectionKey, Arc<Held>>>,
}

impl fmt::Debug for Qdrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qdrant")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Qdrant {
    pub(super) fn new(client: Client, prefix: &str, placement: Placement) -> Self {
        Self {
            client,
            prefix: prefix.to_owned(),
            placement,
            capabilities: capabilities(),
            known: RwLock::default(),
        }
    }

    pub(super) fn known(&self, key: &CollectionKey) -> Option<Arc<Held>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }

    pub(super) fn remember(&self, held: Arc<Held>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(held.key.clone(), held);
    }

    pub(super) fn forget(&self, key: &CollectionKey) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }
}

#[async_trait]
impl Backend for Qdrant {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn can_filter(&self, filter: &Filter) -> bool {
        compile(filter).is_ok()
    }

    async fn probe(&self) -> BackendResult<()> {
        self.read_stamp().await.map(drop)
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        Self::read_stamp(self).await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.read_identity().await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.stamp(request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.create(request).await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.remove(request).await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.list().await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.write(&request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.heads_of(&request).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.fingerprints_page(&request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.fingerprints_by_id(&request).await
    }

    /// The server has no call for it: see the capabilities on the module's page.
    async fn sync(&self) -> BackendResult<()> {
        self.client.check_open()
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.client.check_open()
    }

    async fn close(&self) -> BackendResult<()> {
        self.client.close();
        Ok(())
    }
}

#[async_trait]
impl VectorBackend for Qdrant {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.search(&request).await
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.vectors_by_id(&request).await
    }
}
