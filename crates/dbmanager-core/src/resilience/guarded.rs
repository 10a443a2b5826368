//! A backend behind its guard: the same traits, every call through [`Guard::run`].

use std::sync::Arc;

use async_trait::async_trait;

use super::{CallClass, Guard};
use crate::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendError, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Edges, Effect, Fingerprint, GraphBackend,
        Head, Identity, IdsRequest, ListDocumentsRequest, ListRequest, Neighbour,
        NeighbourhoodRequest, Page, Path, PathsRequest, RelationalBackend, Stamp, StampRequest,
        StoredRecord, StoredVectors, TextHit, TextSearchRequest, VectorBackend, VectorHit,
        VectorSearchRequest,
    },
    model::{CollectionKey, Filter, Role},
};

/// Puts a store behind a guard, which outlives the connection: failures to open it count too.
pub(crate) fn guard_backend(backend: AnyBackend, guard: &Arc<Guard>) -> AnyBackend {
    match backend {
        AnyBackend::Vector(inner) => AnyBackend::Vector(Guarded::around(inner, guard)),
        AnyBackend::Graph(inner) => AnyBackend::Graph(Guarded::around(inner, guard)),
        AnyBackend::Relational(inner) => AnyBackend::Relational(Guarded::around(inner, guard)),
    }
}

#[derive(Debug)]
struct Guarded<B: ?Sized> {
    guard: Arc<Guard>,
    inner: Arc<B>,
}

impl<B: ?Sized> Guarded<B> {
    fn around(inner: Arc<B>, guard: &Arc<Guard>) -> Arc<Self> {
        Arc::new(Self {
            guard: Arc::clone(guard),
            inner,
        })
    }
}

/// Calls `$method` of the store through the guard, with a copy of the request per attempt.
macro_rules! guarded {
    ($self:ident, $class:ident, $method:ident($($argument:ident),*)) => {
        $self
            .guard
            .run(stringify!($method), CallClass::$class, || {
                $self.inner.$method($($argument.clone()),*)
            })
            .await
    };
}

/// A batch of which every item failed for a passing reason is a failed call: so it is retried, and
/// counts for the circuit. Of a mixed batch nothing is lost: it is handed on as it is.
fn whole_batch_failed(results: Vec<BackendResult<()>>) -> BackendResult<Vec<BackendResult<()>>> {
    let all_transient = results
        .iter()
        .all(|result| result.as_ref().is_err_and(BackendError::is_transient));
    let unknown = results.iter().any(|result| {
        result
            .as_ref()
            .is_err_and(|e| e.effect() == Effect::Unknown)
    });
    match results.first() {
        Some(Err(first)) if all_transient => {
            let error = first.clone();
            Err(if unknown {
                error.maybe_applied()
            } else {
                error
            })
        }
        _ => Ok(results),
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: Backend + ?Sized> Backend for Guarded<B> {
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
        self.guard.probe("probe", || self.inner.probe()).await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        guarded!(self, Read, identity())
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        guarded!(self, Read, read_stamp())
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        if request.replace {
            // A repeated replacement could overwrite the stamp of a manager that came between.
            guarded!(self, Once, write_stamp(request))
        } else {
            guarded!(self, IdempotentWrite, write_stamp(request))
        }
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        guarded!(self, IdempotentWrite, create_collection(request))
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        guarded!(self, IdempotentWrite, drop_collection(request))
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        guarded!(self, Read, collections())
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        self.guard
            .run("apply", CallClass::IdempotentWrite, || {
                let attempt = self.inner.apply(request.clone());
                Box::pin(async move { attempt.await.and_then(whole_batch_failed) })
            })
            .await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        guarded!(self, Read, heads(request))
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        guarded!(self, Read, fingerprints(request))
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        guarded!(self, Read, fingerprints_of(request))
    }

    async fn sync(&self) -> BackendResult<()> {
        guarded!(self, IdempotentWrite, sync())
    }

    async fn refresh(&self) -> BackendResult<()> {
        guarded!(self, IdempotentWrite, refresh())
    }

    async fn close(&self) -> BackendResult<()> {
        self.guard
            .run_unguarded("close", || self.inner.close())
            .await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: VectorBackend + ?Sized> VectorBackend for Guarded<B> {
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>> {
        guarded!(self, Read, search_vectors(request))
    }

    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>> {
        guarded!(self, Read, vectors(request))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: GraphBackend + ?Sized> GraphBackend for Guarded<B> {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        guarded!(self, Read, neighbourhood(request))
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        guarded!(self, Read, paths(request))
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        guarded!(self, Read, match_titles(request))
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        guarded!(self, Read, edges(request))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<B: RelationalBackend + ?Sized> RelationalBackend for Guarded<B> {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        guarded!(self, Read, get(request))
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        guarded!(self, Read, search_text(request))
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        guarded!(self, Read, list(request))
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        guarded!(self, Read, count(collection, filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendErrorKind::{Refused, Timeout, Unavailable};

    #[test]
    fn only_a_batch_of_nothing_but_passing_failures_is_a_failed_call() {
        let not_applied = || BackendError::new(Unavailable, "down").not_applied();
        let error = whole_batch_failed(vec![Err(not_applied()), Err(not_applied())]).unwrap_err();
        assert_eq!(
            (error.kind(), error.effect()),
            (Unavailable, Effect::NotApplied)
        );

        let unknown = BackendError::new(Timeout, "slow");
        let error = whole_batch_failed(vec![Err(not_applied()), Err(unknown)]).unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);

        let refused = BackendError::new(Refused, "too large");
        for results in [
            vec![],
            vec![Ok(()), Err(not_applied())],
            vec![Err(refused), Err(not_applied())],
        ] {
            let length = results.len();
            assert_eq!(whole_batch_failed(results).unwrap().len(), length);
        }
    }
}
