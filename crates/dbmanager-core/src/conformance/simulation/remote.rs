//! A store at the other end of a link.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    super::fault_plan::CallKind,
    link::{Applied, Link},
};
use crate::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendError, BackendErrorKind, BackendFactory,
        BackendResult, Capabilities, CreateCollectionRequest, DropCollectionRequest, Edges,
        Fingerprint, GraphBackend, Head, Identity, IdsRequest, ListDocumentsRequest, ListRequest,
        Mutation, Neighbour, NeighbourhoodRequest, OpenContext, Page, Path, PathsRequest,
        RelationalBackend, ServiceConfig, Stamp, StampRequest, StoredRecord, StoredVectors,
        TextHit, TextSearchRequest, VectorBackend, VectorHit, VectorSearchRequest,
    },
    model::{CollectionKey, Filter, Role},
};

/// Opens the stores of another factory at the other end of a link. The store is opened at its end
/// and stays open there: closing the connection closes nothing.
#[derive(Clone, Debug)]
pub struct RemoteFactory<F> {
    inner: F,
    link: Link,
}

impl<F: BackendFactory> RemoteFactory<F> {
    /// The stores of `inner` behind this link.
    pub fn new(inner: F, link: &Link) -> Self {
        Self {
            inner,
            link: link.clone(),
        }
    }
}

#[async_trait]
impl<F: BackendFactory> BackendFactory for RemoteFactory<F> {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn service(&self) -> &str {
        self.inner.service()
    }

    fn aliases(&self) -> &[&str] {
        self.inner.aliases()
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        self.inner.location(config, context)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let fate = self.link.draw(CallKind::Read, "open");
        let connection = self.link.connection();
        self.link
            .send(connection, fate, || std::future::ready(Ok(())))
            .await?;
        let opened = self.inner.open(config, context).await?;
        let link = self.link.clone();
        Ok(match opened {
            AnyBackend::Vector(inner) => AnyBackend::Vector(Arc::new(Remote {
                inner,
                link,
                connection,
            })),
            AnyBackend::Graph(inner) => AnyBackend::Graph(Arc::new(Remote {
                inner,
                link,
                connection,
            })),
            AnyBackend::Relational(inner) => AnyBackend::Relational(Arc::new(Remote {
                inner,
                link,
                connection,
            })),
        })
    }
}

#[derive(Debug)]
struct Remote<B: ?Sized> {
    inner: Arc<B>,
    link: Link,
    connection: u64,
}

impl<B: Backend + ?Sized + 'static> Remote<B> {
    async fn call<T, C>(
        &self,
        kind: CallKind,
        name: &str,
        call: impl Fn(Arc<B>) -> C + Send + Sync + 'static,
    ) -> BackendResult<T>
    where
        C: Future<Output = BackendResult<T>> + Send + 'static,
        T: Send + 'static,
    {
        let fate = self.link.draw(kind, name);
        let inner = Arc::clone(&self.inner);
        self.link
            .send(self.connection, fate, move || call(Arc::clone(&inner)))
            .await
    }
}

/// What the store at the other end does with a batch: some mutations it may refuse for good, and
/// what it took is told.
async fn apply_at_store<B: Backend + ?Sized>(
    inner: Arc<B>,
    link: Link,
    request: ApplyRequest,
) -> BackendResult<Vec<BackendResult<()>>> {
    let refusal = link.refusal();
    let refused = |mutation: &Mutation| refusal.as_ref().is_some_and(|refusal| refusal(mutation));
    let refused: Vec<bool> = request.mutations.iter().map(refused).collect();
    for (mutation, _) in request.mutations.iter().zip(&refused).filter(|(_, r)| **r) {
        link.applied(&Applied::Refused(mutation));
    }
    let error = BackendError::new(BackendErrorKind::Refused, "the store refuses it").not_applied();
    in_part(request, &refused, &error, |taken| async move {
        let ids: Vec<Arc<str>> = taken.mutations.iter().map(|m| Arc::clone(&m.id)).collect();
        let results = inner.apply(taken.clone()).await?;
        let heads = inner
            .heads(IdsRequest::new(taken.collection.clone(), ids))
            .await?;
        link.applied(&Applied::Mutations {
            collection: &taken.collection,
            mutations: &taken.mutations,
            heads: &heads,
        });
        Ok(results)
    })
    .await
}

/// Hands on the mutations that do not fail; the others are answered with `error`.
async fn in_part<C>(
    request: ApplyRequest,
    failing: &[bool],
    error: &BackendError,
    apply: impl FnOnce(ApplyRequest) -> C,
) -> BackendResult<Vec<BackendResult<()>>>
where
    C: Future<Output = BackendResult<Vec<BackendResult<()>>>>,
{
    let passed: Arc<[Mutation]> = request
        .mutations
        .iter()
        .zip(failing)
        .filter(|(_, fails)| !**fails)
        .map(|(mutation, _)| mutation.clone())
        .collect();
    let answers = match passed.is_empty() {
        true => Vec::new(),
        false => apply(ApplyRequest::new(request.collection, request.epoch, passed)).await?,
    };
    let mut answers = answers.into_iter();
    Ok(failing
        .iter()
        .map(|fails| match fails {
            true => Err(error.clone()),
            false => answers.next().unwrap_or_else(|| Err(error.clone())),
        })
        .collect())
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized + 'static> Backend for Remote<B> {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn service(&self) -> &str {
        self.inner.service()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn can_filter(&self, filter: &Filter) -> bool {
        self.inner.can_filter(filter)
    }

    async fn probe(&self) -> BackendResult<()> {
        self.call(CallKind::Read, "probe", |inner| async move {
            inner.probe().await
        })
        .await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.call(CallKind::Read, "identity", |inner| async move {
            inner.identity().await
        })
        .await
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        self.call(CallKind::Read, "read_stamp", |inner| async move {
            inner.read_stamp().await
        })
        .await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        let link = self.link.clone();
        self.call(CallKind::Change, "write_stamp", move |inner| {
            let (link, request) = (link.clone(), request.clone());
            async move {
                inner.write_stamp(request.clone()).await?;
                link.durable();
                link.applied(&Applied::Stamped(&request.stamp));
                Ok(())
            }
        })
        .await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        let link = self.link.clone();
        self.call(CallKind::Change, "create_collection", move |inner| {
            let (link, request) = (link.clone(), request.clone());
            async move {
                inner.create_collection(request.clone()).await?;
                link.applied(&Applied::Created(&request.collection.key));
                Ok(())
            }
        })
        .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        let link = self.link.clone();
        self.call(CallKind::Change, "drop_collection", move |inner| {
            let (link, request) = (link.clone(), request.clone());
            async move {
                inner.drop_collection(request.clone()).await?;
                link.applied(&Applied::Dropped(&request.collection));
                Ok(())
            }
        })
        .await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.call(CallKind::Read, "collections", |inner| async move {
            inner.collections().await
        })
        .await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        let fate = self.link.draw(CallKind::Apply, "apply");
        let link = self.link.clone();
        let inner = Arc::clone(&self.inner);
        let send = |request: ApplyRequest, fate| {
            self.link.send(self.connection, fate, move || {
                apply_at_store(Arc::clone(&inner), link.clone(), request.clone())
            })
        };
        match self.link.draw_failing(&fate, request.mutations.len()) {
            None => send(request, fate).await,
            Some(failing) => {
                let error = fate.error();
                let fate = fate.whole();
                in_part(request, &failing, &error, |part| send(part, fate)).await
            }
        }
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.call(CallKind::Read, "heads", move |inner| {
            let request = request.clone();
            async move { inner.heads(request).await }
        })
        .await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.call(CallKind::Read, "fingerprints", move |inner| {
            let request = request.clone();
            async move { inner.fingerprints(request).await }
        })
        .await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.call(CallKind::Read, "fingerprints_of", move |inner| {
            let request = request.clone();
            async move { inner.fingerprints_of(request).await }
        })
        .await
    }

    async fn sync(&self) -> BackendResult<()> {
        let link = self.link.clone();
        self.call(CallKind::Change, "sync", move |inner| {
            let link = link.clone();
            async move {
                inner.sync().await?;
                link.durable();
                Ok(())
            }
        })
        .await
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.call(CallKind::Read, "refresh", |inner| async move {
            inner.refresh().await
        })
        .await
    }

    async fn close(&self) -> BackendResult<()> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: VectorBackend + ?Sized + 'static> VectorBackend for Remote<B> {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.call(CallKind::Read, "search_vectors", move |inner| {
            let request = request.clone();
            async move { inner.search_vectors(request).await }
        })
        .await
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.call(CallKind::Read, "vectors", move |inner| {
            let request = request.clone();
            async move { inner.vectors(request).await }
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: GraphBackend + ?Sized + 'static> GraphBackend for Remote<B> {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.call(CallKind::Read, "neighbourhood", move |inner| {
            let request = request.clone();
            async move { inner.neighbourhood(request).await }
        })
        .await
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.call(CallKind::Read, "paths", move |inner| {
            let request = request.clone();
            async move { inner.paths(request).await }
        })
        .await
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.call(CallKind::Read, "match_titles", move |inner| {
            let request = request.clone();
            async move { inner.match_titles(request).await }
        })
        .await
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.call(CallKind::Read, "edges", move |inner| {
            let request = request.clone();
            async move { inner.edges(request).await }
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: RelationalBackend + ?Sized + 'static> RelationalBackend for Remote<B> {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.call(CallKind::Read, "get", move |inner| {
            let request = request.clone();
            async move { inner.get(request).await }
        })
        .await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.call(CallKind::Read, "search_text", move |inner| {
            let request = request.clone();
            async move { inner.search_text(request).await }
        })
        .await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.call(CallKind::Read, "list", move |inner| {
            let request = request.clone();
            async move { inner.list(request).await }
        })
        .await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.call(CallKind::Read, "count", move |inner| {
            let (collection, filter) = (collection.clone(), filter.clone());
            async move { inner.count(collection, filter).await }
        })
        .await
    }
}
