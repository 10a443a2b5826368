//! A wrapper that passes everything on except where a flaw changes it.

pub(crate) mod reading;
pub(crate) mod writing;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use dbmanager_core::{
    backend::*,
    model::{CollectionKey, Filter, Role},
};

pub(crate) type Applied = BackendResult<Vec<BackendResult<()>>>;

/// Where a flaw may interfere; what it leaves alone is passed on.
#[async_trait]
pub(crate) trait Flaw: Debug + Send + Sync {
    /// What the broken store says it can do, given what the sound one says.
    fn capabilities(&self, sound: &Capabilities) -> Capabilities {
        sound.clone()
    }

    async fn write_stamp(&self, inner: &Inner, request: StampRequest) -> BackendResult<()> {
        inner.shared.write_stamp(request).await
    }

    async fn create_collection(
        &self,
        inner: &Inner,
        request: CreateCollectionRequest,
    ) -> BackendResult<()> {
        inner.shared.create_collection(request).await
    }

    async fn apply(&self, inner: &Inner, request: ApplyRequest) -> Applied {
        inner.shared.apply(request).await
    }

    async fn heads(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        inner.shared.heads(request).await
    }

    async fn fingerprints(
        &self,
        inner: &Inner,
        request: ListRequest,
    ) -> BackendResult<Page<Fingerprint>> {
        inner.shared.fingerprints(request).await
    }

    async fn fingerprints_of(
        &self,
        inner: &Inner,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        inner.shared.fingerprints_of(request).await
    }

    async fn search_vectors(
        &self,
        inner: &Inner,
        request: VectorSearchRequest,
    ) -> BackendResult<Vec<VectorHit>> {
        inner.vector().search_vectors(request).await
    }

    async fn neighbourhood(
        &self,
        inner: &Inner,
        request: NeighbourhoodRequest,
    ) -> BackendResult<Vec<Neighbour>> {
        inner.graph().neighbourhood(request).await
    }

    async fn paths(&self, inner: &Inner, request: PathsRequest) -> BackendResult<Vec<Path>> {
        inner.graph().paths(request).await
    }

    async fn edges(&self, inner: &Inner, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        inner.graph().edges(request).await
    }

    async fn get(
        &self,
        inner: &Inner,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<StoredRecord>>> {
        inner.relational().get(request).await
    }

    async fn search_text(
        &self,
        inner: &Inner,
        request: TextSearchRequest,
    ) -> BackendResult<Vec<TextHit>> {
        inner.relational().search_text(request).await
    }

    async fn list(
        &self,
        inner: &Inner,
        request: ListDocumentsRequest,
    ) -> BackendResult<Vec<StoredRecord>> {
        inner.relational().list(request).await
    }

    async fn count(
        &self,
        inner: &Inner,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        inner.relational().count(collection, filter).await
    }
}

/// The sound backend behind a flaw.
#[derive(Debug)]
pub(crate) struct Inner {
    any: AnyBackend,
    pub(crate) shared: Arc<dyn Backend>,
}

impl Inner {
    pub(crate) fn vector(&self) -> &dyn VectorBackend {
        match &self.any {
            AnyBackend::Vector(backend) => &**backend,
            other => panic!("a flaw of a vector store on a {} one", other.role()),
        }
    }

    pub(crate) fn graph(&self) -> &dyn GraphBackend {
        match &self.any {
            AnyBackend::Graph(backend) => &**backend,
            other => panic!("a flaw of a graph store on a {} one", other.role()),
        }
    }

    pub(crate) fn relational(&self) -> &dyn RelationalBackend {
        match &self.any {
            AnyBackend::Relational(backend) => &**backend,
            other => panic!("a flaw of a relational store on a {} one", other.role()),
        }
    }

    /// The heads of the documents a request changes.
    pub(crate) async fn heads_of(
        &self,
        request: &ApplyRequest,
    ) -> BackendResult<Vec<Option<Head>>> {
        let ids: Arc<[Arc<str>]> = request.mutations.iter().map(|m| m.id.clone()).collect();
        let request = IdsRequest::new(request.collection.clone(), ids);
        self.shared.heads(request).await
    }
}

/// A backend with a flaw.
#[derive(Debug)]
pub(crate) struct Broken {
    flaw: Box<dyn Flaw>,
    inner: Inner,
    capabilities: Capabilities,
}

impl Broken {
    pub(crate) fn wrap(flaw: impl Flaw + 'static, any: AnyBackend) -> AnyBackend {
        let broken = Arc::new(Self {
            capabilities: flaw.capabilities(any.as_backend().capabilities()),
            flaw: Box::new(flaw),
            inner: Inner {
                shared: any.as_backend(),
                any: any.clone(),
            },
        });
        match any {
            AnyBackend::Vector(_) => AnyBackend::Vector(broken),
            AnyBackend::Graph(_) => AnyBackend::Graph(broken),
            AnyBackend::Relational(_) => AnyBackend::Relational(broken),
        }
    }
}

#[async_trait]
impl Backend for Broken {
    fn role(&self) -> Role {
        self.inner.shared.role()
    }

    fn service(&self) -> &str {
        self.inner.shared.service()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.inner.shared.probe().await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.inner.shared.identity().await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.flaw.write_stamp(&self.inner, request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.flaw.create_collection(&self.inner, request).await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.inner.shared.drop_collection(request).await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.inner.shared.collections().await
    }

    async fn apply(&self, request: ApplyRequest) -> Applied {
        self.flaw.apply(&self.inner, request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.flaw.heads(&self.inner, request).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.flaw.fingerprints(&self.inner, request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.flaw.fingerprints_of(&self.inner, request).await
    }

    async fn sync(&self) -> BackendResult<()> {
        self.inner.shared.sync().await
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.inner.shared.refresh().await
    }

    async fn close(&self) -> BackendResult<()> {
        self.inner.shared.close().await
    }
}

#[async_trait]
impl VectorBackend for Broken {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.flaw.search_vectors(&self.inner, request).await
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.inner.vector().vectors(request).await
    }
}

#[async_trait]
impl GraphBackend for Broken {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.flaw.neighbourhood(&self.inner, request).await
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.flaw.paths(&self.inner, request).await
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.inner.graph().match_titles(request).await
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.flaw.edges(&self.inner, request).await
    }
}

#[async_trait]
impl RelationalBackend for Broken {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.flaw.get(&self.inner, request).await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.flaw.search_text(&self.inner, request).await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.flaw.list(&self.inner, request).await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.flaw.count(&self.inner, collection, filter).await
    }
}
