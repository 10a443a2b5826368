//! A backend that fails, delays, repeats and lands late, by a seed.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;

use super::fault_plan::{CallKind, Fault, Faults};
use crate::{
    Runtime,
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendResult, Capabilities, CreateCollectionRequest,
        DropCollectionRequest, Edges, Fingerprint, GraphBackend, Head, Identity, IdsRequest,
        ListDocumentsRequest, ListRequest, Mutation, Neighbour, NeighbourhoodRequest, Page, Path,
        PathsRequest, RelationalBackend, Stamp, StampRequest, StoredRecord, StoredVectors, TextHit,
        TextSearchRequest, VectorBackend, VectorHit, VectorSearchRequest,
    },
    model::{CollectionKey, Filter, Role},
};

/// A backend behind faults. Everything it does is something a store behind a network may do: it
/// never alters an answer, and `NotApplied` is always true.
///
/// The wrapped backend's own errors are passed on as they are.
#[derive(Debug)]
pub struct Faulty<B: ?Sized> {
    runtime: Runtime,
    faults: Faults,
    put_off: Mutex<Vec<ApplyRequest>>,
    inner: Arc<B>,
}

impl<B: ?Sized> Faulty<B> {
    /// `inner` behind these faults.
    pub fn new(inner: Arc<B>, runtime: &Runtime, faults: &Faults) -> Self {
        Self {
            runtime: runtime.clone(),
            faults: faults.clone(),
            put_off: Mutex::default(),
            inner,
        }
    }
}

impl Faulty<dyn Backend> {
    /// A backend of any role behind these faults.
    pub fn wrap(backend: AnyBackend, runtime: &Runtime, faults: &Faults) -> AnyBackend {
        match backend {
            AnyBackend::Vector(inner) => {
                AnyBackend::Vector(Arc::new(Faulty::new(inner, runtime, faults)))
            }
            AnyBackend::Graph(inner) => {
                AnyBackend::Graph(Arc::new(Faulty::new(inner, runtime, faults)))
            }
            AnyBackend::Relational(inner) => {
                AnyBackend::Relational(Arc::new(Faulty::new(inner, runtime, faults)))
            }
        }
    }
}

impl<B: Backend + ?Sized> Faulty<B> {
    /// What happens before every call: a wait, and the landing of what was put off.
    async fn before(&self) {
        if let Some(delay) = self.faults.draw_delay() {
            self.runtime.sleep(delay).await;
        }
        let landing = {
            let mut put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
            self.faults.draw_landing(&mut put_off)
        };
        for request in landing {
            // Nobody waits for a late answer, whatever it is.
            drop(self.inner.apply(request).await);
        }
    }

    async fn call<T>(
        &self,
        kind: CallKind,
        call: impl Future<Output = BackendResult<T>> + Send,
    ) -> BackendResult<T> {
        self.before().await;
        let fault = self.faults.draw(kind);
        match fault {
            Fault::RefusedBefore | Fault::LostBefore => Err(fault.error()),
            Fault::LostAfter => call.await.and(Err(fault.error())),
            Fault::None | Fault::Late | Fault::Duplicate => call.await,
        }
    }

    /// Passes on only some of the mutations; the others fail by the fault.
    async fn apply_in_part(
        &self,
        fault: Fault,
        request: ApplyRequest,
    ) -> BackendResult<Vec<BackendResult<()>>> {
        let failing = self.faults.draw_failing(request.mutations.len());
        if failing.iter().all(|fails| *fails) {
            return Err(fault.error());
        }
        let passed: Arc<[Mutation]> = request
            .mutations
            .iter()
            .zip(&failing)
            .filter(|(_, fails)| !**fails)
            .map(|(mutation, _)| mutation.clone())
            .collect();
        let part = ApplyRequest::new(request.collection, request.epoch, passed);
        let mut answers = self.inner.apply(part).await?.into_iter();
        Ok(failing
            .into_iter()
            .map(|fails| match fails {
                true => Err(fault.error()),
                false => answers.next().unwrap_or_else(|| Err(fault.error())),
            })
            .collect())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Backend + ?Sized> Backend for Faulty<B> {
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
        self.call(CallKind::Read, self.inner.probe()).await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        self.call(CallKind::Read, self.inner.identity()).await
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        self.call(CallKind::Read, self.inner.read_stamp()).await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.write_stamp(request))
            .await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.create_collection(request))
            .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.drop_collection(request))
            .await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        self.call(CallKind::Read, self.inner.collections()).await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.before().await;
        let fault = self.faults.draw(CallKind::Apply);
        match fault {
            Fault::None => self.inner.apply(request).await,
            Fault::RefusedBefore | Fault::LostBefore => self.apply_in_part(fault, request).await,
            Fault::LostAfter => self.inner.apply(request).await.and(Err(fault.error())),
            Fault::Late => {
                self.put_off
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(request);
                Err(fault.error())
            }
            Fault::Duplicate => {
                self.inner.apply(request.clone()).await?;
                self.inner.apply(request).await
            }
        }
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.call(CallKind::Read, self.inner.heads(request)).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        self.call(CallKind::Read, self.inner.fingerprints(request))
            .await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.call(CallKind::Read, self.inner.fingerprints_of(request))
            .await
    }

    async fn sync(&self) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.sync()).await
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.refresh()).await
    }

    async fn close(&self) -> BackendResult<()> {
        self.call(CallKind::Change, self.inner.close()).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: VectorBackend + ?Sized> VectorBackend for Faulty<B> {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        self.call(CallKind::Read, self.inner.search_vectors(request))
            .await
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        self.call(CallKind::Read, self.inner.vectors(request)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: GraphBackend + ?Sized> GraphBackend for Faulty<B> {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        self.call(CallKind::Read, self.inner.neighbourhood(request))
            .await
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        self.call(CallKind::Read, self.inner.paths(request)).await
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.call(CallKind::Read, self.inner.match_titles(request))
            .await
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        self.call(CallKind::Read, self.inner.edges(request)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: RelationalBackend + ?Sized> RelationalBackend for Faulty<B> {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        self.call(CallKind::Read, self.inner.get(request)).await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        self.call(CallKind::Read, self.inner.search_text(request))
            .await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        self.call(CallKind::Read, self.inner.list(request)).await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        self.call(CallKind::Read, self.inner.count(collection, filter))
            .await
    }
}
