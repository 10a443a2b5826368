//! The door between the search route and the manager: all that a search needs to know of it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    Result, Runtime,
    backend::{BackendError, GraphBackend, RelationalBackend, VectorBackend},
    model::{CollectionKey, DocumentRecord, Role, Version},
};

/// What the search route needs from the manager. Every answer is as of the call; the route asks
/// again for each search.
#[async_trait]
pub(crate) trait SearchContext: Send + Sync {
    /// The clock and the randomness in use.
    fn runtime(&self) -> &Runtime;

    /// The stores, behind their resilience, and how far each has come.
    fn stores(&self) -> SearchStores;

    /// Every live collection: what the graph may pass through on its way between two documents.
    fn collections(&self) -> Arc<[CollectionKey]>;

    /// What turns the words of a query into a vector, if the manager has an embedder.
    fn embedder(&self) -> Option<Arc<dyn QueryEmbedder>>;

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
#[derive(Debug)]
pub(crate) struct SearchStores {
    /// For the semantic leg.
    pub(crate) vector: SearchStore<dyn VectorBackend>,
    /// For the graph leg.
    pub(crate) graph: SearchStore<dyn GraphBackend>,
    /// For the metadata leg.
    pub(crate) relational: SearchStore<dyn RelationalBackend>,
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

/// What kind of vectors an embedder makes; decides the default weight of the semantic leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryEmbedderKind {
    /// A language model: texts of like meaning are near.
    Semantic,
    /// Counted or hashed words: only texts of like words are near.
    Lexical,
}

/// Turns the words of a query into a vector.
#[async_trait]
pub(crate) trait QueryEmbedder: Send + Sync {
    /// The model's name; only collections of this model are asked.
    fn model(&self) -> &str;

    /// The kind of vectors.
    fn kind(&self) -> QueryEmbedderKind;

    /// The vector of a query, empty if the text gives none. Computes on the blocking pool.
    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>>;
}
