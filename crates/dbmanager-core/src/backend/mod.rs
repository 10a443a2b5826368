//! The contract of an adapter.
//!
//! A store plays one [`Role`]. Its adapter implements [`Backend`] (how it is written, identified
//! and checked) and the trait of its role (how it is read): [`VectorBackend`], [`GraphBackend`] or
//! [`RelationalBackend`]. All writing goes through [`Backend::apply`]: a mutation carries the full
//! state of a document at a version, and the adapter keeps the part its role needs.
//!
//! # What every adapter owes
//! - **Monotone**: a mutation is applied only above the version held. `Ok` for a mutation means
//!   *the store holds this version or a newer one*, nothing more.
//! - **Whole**: an upsert replaces, it never merges; a field, vector or reference that is gone is
//!   gone.
//! - **A delete is a version**: it leaves a tombstone with that version, for ever. An upsert below
//!   it changes nothing; one above it brings the document back.
//! - **Batches are independent**: one item's failure never touches its neighbours, and never
//!   stops those after it.
//! - **Honest errors**: [`Effect::NotApplied`] only if the adapter knows. Nothing is swallowed.
//! - **Bytes are bytes**: ids, names and keys are compared byte for byte, whatever they contain.
//! - A request for a collection that was never created here answers `CollectionMissing`.
//!
//! Each sentence of the method documentation is a case of the conformance suite (feature
//! `conformance`).

mod capabilities;
pub(crate) mod directories;
mod error;
mod registry;
mod request;
mod stamp;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use capabilities::{Capabilities, Limits};
pub use directories::create_directories;
pub use error::{BackendError, BackendErrorKind, BackendResult, Effect};
pub use registry::{
    AnyBackend, BackendFactory, OpenContext, Registry, ServiceConfig, parse_service_config,
};
pub use request::{
    ApplyRequest, CreateCollectionRequest, DocumentState, DropCollectionRequest, Edges,
    Fingerprint, Head, IdsRequest, ListDocumentsRequest, ListRequest, Mutation, Neighbour,
    NeighbourhoodRequest, NodeKey, Page, Path, PathsRequest, StoredRecord, StoredVectors, TextHit,
    TextSearchRequest, VectorHit, VectorSearchRequest,
};
pub use stamp::{Identity, Stamp, StampRequest};

use crate::model::{CollectionKey, Filter, Role};

/// What every store does, whatever its role.
///
/// Methods may be called concurrently. An answer that was not awaited to its end may or may not
/// have taken effect.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// The role this instance plays.
    fn role(&self) -> Role;

    /// The name of the service, as in the configuration's `type`.
    fn service(&self) -> &str;

    /// What the store can do and hold. Does not change while it is open.
    fn capabilities(&self) -> &Capabilities;

    /// Whether searches, listings and counts take this filter. The default is what
    /// [`Capabilities::filter`] says; a store whose own query language cannot express every filter
    /// answers for each. A request with a filter that it cannot take is `Unsupported`; the facade
    /// evaluates such a filter itself, over a bounded number of candidates.
    fn can_filter(&self, filter: &Filter) -> bool {
        let _ = filter;
        self.capabilities().filter
    }

    /// A real read that shows that the store answers. Changes nothing.
    async fn probe(&self) -> BackendResult<()>;

    /// The stamp, the highest version held and whether the store is empty, read from the store
    /// each time.
    async fn identity(&self) -> BackendResult<Identity>;

    /// The stamp alone, read from the store each time; asked often, so it should cost no more than a
    /// look-up. An adapter that refuses every call until [`Backend::identity`] has shown whose store
    /// it is now refuses this one too.
    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        Ok(self.identity().await?.stamp)
    }

    /// Writes the stamp under the rule of [`StampRequest`]. On return the stamp and everything
    /// applied before it are durable, if the store is.
    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()>;

    /// Makes the collection ready for writes. Repeating it with the same options changes nothing;
    /// other options for the same key are `Refused`. An embedding space may be filled in later.
    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()>;

    /// Removes every document and tombstone of this generation. Removing what is not there is
    /// `Ok`. Other generations of the name are not touched.
    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()>;

    /// The collections this store holds, in any order.
    async fn collections(&self) -> BackendResult<Vec<CollectionKey>>;

    /// Applies each mutation under the rules above, and answers for each in the order given. An
    /// outer error means that nothing is known of any of them beyond the error's effect.
    /// An applied mutation is visible to [`Backend::heads`] and to reads by id at once.
    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>>;

    /// The version held of each id, in the order given; `None` for what was never written here.
    /// Tombstones are reported.
    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>>;

    /// A page of what the store holds, tombstones included, in any stable order; each document
    /// that does not change meanwhile appears exactly once over all pages. Hashes are recomputed
    /// from the content read; where a store keeps a fact twice (a column and the exact bytes, an
    /// index and its table), a copy that disagrees changes the hash.
    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>>;

    /// The fingerprint of each id, in the order given; `None` for what was never written here.
    async fn fingerprints_of(&self, request: IdsRequest)
    -> BackendResult<Vec<Option<Fingerprint>>>;

    /// Makes everything applied before this call durable, if the store can.
    async fn sync(&self) -> BackendResult<()>;

    /// Returns when everything applied before this call is found by searches. The default is for
    /// stores whose writes are searchable at once.
    async fn refresh(&self) -> BackendResult<()> {
        Ok(())
    }

    /// Syncs and releases the store. Later calls answer `Unavailable`. Repeating it is `Ok`.
    async fn close(&self) -> BackendResult<()>;
}

/// A store of vectors. It keeps a document's whole set of vectors under one version: after an
/// applied write exactly that set is found, never a chunk of an older one.
#[async_trait]
pub trait VectorBackend: Backend {
    /// The documents whose nearest chunk is nearest, one hit per document, by score descending,
    /// then id ascending. Fewer than `limit` only if no more fulfil the request. Documents without
    /// vectors and tombstones are never found. A vector of another dimension than the collection's
    /// is `Refused`; in a collection without vectors nothing is found.
    async fn search_vectors(&self, request: VectorSearchRequest) -> BackendResult<Vec<VectorHit>>;

    /// The vectors of each id, in the order given; `None` for the absent and the deleted.
    async fn vectors(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredVectors>>>;
}

/// A store of nodes and typed edges. Edges belong to their source and its version: an upsert
/// replaces the source's outgoing references, a delete removes them, nothing else touches them.
/// An edge is visible if both its ends are live; it stays stored while its target is not.
#[async_trait]
pub trait GraphBackend: Backend {
    /// Live documents within `depth` references of a live seed, seeds excluded, by distance, then
    /// by the number of seeds that reach them descending, then by key; only through visible edges.
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>>;

    /// Paths without repeated documents between two live documents, shortest first. `from == to`
    /// has none.
    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>>;

    /// Live documents of one collection whose title has words of the text, more and rarer words
    /// first. `filter` and `restrict_to` are not used. Empty text finds nothing.
    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>>;

    /// The outgoing references of each id, in the order given; `None` for the absent and deleted.
    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>>;
}

/// A store of facts and full text: the authority, which keeps every document whole.
#[async_trait]
pub trait RelationalBackend: Backend {
    /// Each id's record, bit for bit as written, in the order given; tombstones are reported;
    /// `None` for what was never written here.
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>>;

    /// Live documents by full text over title and text, by score descending, then id ascending;
    /// see [`TextSearchRequest::text`] for the empty text.
    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>>;

    /// Documents by the bytes of their id, ascending. A page that is not full is the last.
    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>>;

    /// How many live documents fulfil the filter.
    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64>;
}
