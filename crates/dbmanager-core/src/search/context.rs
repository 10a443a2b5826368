//! The door between the search route and the manager: all that a search needs to know of it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Runtime,
    backend::{
        Backend, BackendError, BackendErrorKind, GraphBackend, IdsRequest, RelationalBackend,
        VectorBackend,
    },
    embed::Embedder,
    model::{CollectionKey, DocumentRecord, Role, Version},
};

/// What the search route needs from the manager. Every answer is as of the call; the route asks
/// again for each search.
#[async_trait]
pub(crate) trait SearchContext: Send + Sync {
    /// The clock and the randomness in use.
    fn runtime(&self) -> &Runtime;

    /// The stores, behind their resilience, and how far each has come. One of the roles asked for
    /// that has lost its connection is connected, at most for `wait`.
    async fn stores(&self, asked: &[Role], wait: Duration) -> SearchStores;

    /// Every live collection: what the graph may pass through on its way between two documents.
    fn collections(&self) -> Arc<[CollectionKey]>;

    /// What turns the words of a query into a vector, if the manager has an embedder.
    fn embedder(&self) -> Option<Arc<dyn Embedder>>;

    /// Without an authority: the role whose copy [`SearchContext::current`] reads.
    fn verified_by(&self) -> Option<Role>;

    /// The current documents as the read-your-writes view over the authority shows them, in the
    /// order given, in one batched read. Never fails as a whole: what cannot be read now is
    /// [`CurrentDocument::Unknown`].
    async fn current(
        &self,
        collection: &CollectionKey,
        ids: Arc<[Arc<str>]>,
    ) -> Vec<CurrentDocument>;
}

/// A store as a search finds it.
pub(crate) enum SearchStore<B: ?Sized> {
    /// No store plays this role.
    NotConfigured,
    /// It cannot be asked now, and why.
    Unavailable(BackendError),
    /// It can be asked.
    Ready {
        /// The store.
        backend: Arc<B>,
        /// It is `Active` and lacks no write whose caller has the answer: what it does not find
        /// is not there. Otherwise its leg is reported as incomplete.
        caught_up: bool,
    },
}

impl<B: ?Sized> Clone for SearchStore<B> {
    fn clone(&self) -> Self {
        match self {
            Self::NotConfigured => Self::NotConfigured,
            Self::Unavailable(error) => Self::Unavailable(error.clone()),
            Self::Ready { backend, caught_up } => Self::Ready {
                backend: Arc::clone(backend),
                caught_up: *caught_up,
            },
        }
    }
}

impl<B: ?Sized> fmt::Debug for SearchStore<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("NotConfigured"),
            Self::Unavailable(error) => f.debug_tuple("Unavailable").field(error).finish(),
            Self::Ready { caught_up, .. } => f
                .debug_struct("Ready")
                .field("caught_up", caught_up)
                .finish_non_exhaustive(),
        }
    }
}

/// The store of each role.
#[derive(Clone, Debug)]
pub(crate) struct SearchStores {
    /// For the semantic leg.
    pub(crate) vector: SearchStore<dyn VectorBackend>,
    /// For the graph leg.
    pub(crate) graph: SearchStore<dyn GraphBackend>,
    /// For the metadata leg.
    pub(crate) relational: SearchStore<dyn RelationalBackend>,
}

impl SearchStores {
    /// Whether every store answers that it has no such collection. One that alone lacks it has lost
    /// it.
    pub(crate) async fn lack(&self, key: &CollectionKey) -> bool {
        lacks(&self.relational, key).await
            && lacks(&self.vector, key).await
            && lacks(&self.graph, key).await
    }
}

async fn lacks<B: Backend + ?Sized>(store: &SearchStore<B>, key: &CollectionKey) -> bool {
    let backend = match store {
        SearchStore::NotConfigured => return true,
        SearchStore::Unavailable(_) => return false,
        SearchStore::Ready { backend, .. } => backend,
    };
    let heads = backend.heads(IdsRequest::new(key.clone(), [])).await;
    heads.is_err_and(|error| error.kind() == BackendErrorKind::CollectionMissing)
}

/// What is known of a document when a hit on it is checked.
#[derive(Clone, Debug)]
pub(crate) enum CurrentDocument {
    /// It is live.
    Live {
        /// The current version.
        version: Version,
        /// The current content; absent only without an authority, where nobody keeps it.
        record: Option<Arc<DocumentRecord>>,
        /// The roles whose store has yet to confirm this version; empty (no allocation) as a rule.
        lacking: Vec<Role>,
    },
    /// It is deleted, or was never written.
    Gone,
    /// It cannot be read now.
    Unknown,
}
