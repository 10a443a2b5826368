//! The store: the traits of the contract over the modules that do the work.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListRequest, Page, Stamp, StampRequest, StoredVectors, VectorBackend, VectorHit,
        VectorSearchRequest,
    },
    model::{CollectionKey, Filter, Role},
};

use super::{
    SERVICE,
    api::Api,
    catalogue::{Catalogue, Place},
    config::Config,
    filter,
    identity::{self, Stamps},
    names, read, search, write,
};

/// An open store.
#[derive(Debug)]
pub(super) struct Chromadb {
    api: Api,
    catalogue: Catalogue,
    stamps: Stamps,
    capabilities: Capabilities,
    closed: AtomicBool,
}

impl Chromadb {
    /// The store of this configuration, on a server that answers and is in our layout.
    pub(super) async fn open(api: Api, config: &Config) -> BackendResult<Self> {
        let mut capabilities = Capabilities::new();
        capabilities.durable_on_apply = true;
        capabilities.epoch_checked = false;
        capabilities.exact_vectors = false;
        capabilities.paths = false;
        capabilities.full_text = false;
        capabilities.limits.max_collection_bytes = names::MAX_NAME_BYTES;
        let store = Self {
            api,
            catalogue: Catalogue::new(&config.collection_prefix, config.hnsw()),
            stamps: Stamps::new(&config.collection_prefix),
            capabilities,
            closed: AtomicBool::new(false),
        };
        store.stamps.read(&store.api).await?;
        Ok(store)
    }

    /// The server, unless the store is closed.
    fn api(&self) -> BackendResult<&Api> {
        match self.closed.load(Ordering::SeqCst) {
            false => Ok(&self.api),
            true => Err(
                BackendError::new(BackendErrorKind::Unavailable, "the store is closed")
                    .not_applied(),
            ),
        }
    }

    async fn place(&self, key: &CollectionKey) -> BackendResult<(&Api, Place)> {
        let api = self.api()?;
        let place = self.catalogue.place(api, key).await;
        Ok((api, place.map_err(BackendError::not_applied)?))
    }

    /// Forgets where a collection is if the answer says that it is not there.
    fn settle<T>(&self, key: &CollectionKey, answer: BackendResult<T>) -> BackendResult<T> {
        if let Err(error) = &answer
            && error.kind() == BackendErrorKind::CollectionMissing
        {
            self.catalogue.forget(key);
        }
        answer
    }
}

#[async_trait]
impl Backend for Chromadb {
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
        filter::translate(filter).is_some()
    }

    async fn probe(&self) -> BackendResult<()> {
        self.api()?.check_database().await
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        self.stamps.read(self.api()?).await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        identity::identity(self.api()?, &self.stamps, &self.catalogue).await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.stamps.write(self.api()?, &request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        let api = self.api()?;
        self.stamps.check_epoch(api, request.epoch).await?;
        self.catalogue.create(api, &request.collection).await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        let api = self.api()?;
        self.stamps.check_epoch(api, request.epoch).await?;
        self.catalogue.drop(api, &request.collection).await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        let list = self.catalogue.list(self.api()?).await?;
        Ok(list.into_iter().map(|(key, _)| key).collect())
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        let key = &request.collection;
        let api = self.api()?;
        let (_, (_, place)) =
            tokio::try_join!(self.stamps.check_epoch(api, request.epoch), self.place(key))?;
        let answers = write::apply(api, &place, &request.mutations).await;
        let answers = self.settle(key, answers)?;
        Ok(answers
            .into_iter()
            .map(|answer| self.settle(key, answer))
            .collect())
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let (api, place) = self.place(&request.collection).await?;
        let answer = read::heads_of(api, &place, &request.ids).await;
        self.settle(&request.collection, answer)
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        let (api, place) = self.place(&request.collection).await?;
        let answer = read::fingerprints(api, &place, &request).await;
        self.settle(&request.collection, answer)
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        let (api, place) = self.place(&request.collection).await?;
        let answer = read::fingerprints_of(api, &place, &request.ids).await;
        self.settle(&request.collection, answer)
    }

    async fn sync(&self) -> BackendResult<()> {
        // What the server has answered is durable.
        self.api().map(drop)
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.api().map(drop)
    }

    async fn close(&self) -> BackendResult<()> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl VectorBackend for Chromadb {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        let (api, place) = self.place(&request.collection).await?;
        let answer = search::run(api, &place, &request).await;
        self.settle(&request.collection, answer)
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        let (api, place) = self.place(&request.collection).await?;
        let answer = read::vectors_of(api, &place, &request.ids).await;
        self.settle(&request.collection, answer)
    }
}
