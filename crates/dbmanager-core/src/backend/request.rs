//! The arguments and answers of backend methods.
//!
//! Requests are non-exhaustive structs with a constructor that takes what every caller must say,
//! so that a field can be added without breaking adapters.

use std::sync::Arc;

use crate::model::{
    ChunkVector, Collection, CollectionKey, ContentHash, DocumentRecord, Filter, Passage,
    Reference, TraversalDirection, Version,
};

/// Makes a collection ready for writes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CreateCollectionRequest {
    /// The collection with its options.
    pub collection: Collection,
    /// The manager's epoch.
    pub epoch: u64,
}

impl CreateCollectionRequest {
    /// Makes `collection` ready.
    pub fn new(collection: Collection, epoch: u64) -> Self {
        Self { collection, epoch }
    }
}

/// Removes everything of one generation of a collection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropCollectionRequest {
    /// Which.
    pub collection: CollectionKey,
    /// The manager's epoch.
    pub epoch: u64,
}

impl DropCollectionRequest {
    /// Removes `collection`.
    pub fn new(collection: CollectionKey, epoch: u64) -> Self {
        Self { collection, epoch }
    }
}

/// One versioned change of one document, carrying its full state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Mutation {
    /// The document's id.
    pub id: Arc<str>,
    /// Its version.
    pub version: Version,
    /// What it is at that version.
    pub state: DocumentState,
}

impl Mutation {
    /// The document is `record` at this version.
    pub fn upsert(id: impl Into<Arc<str>>, version: Version, record: Arc<DocumentRecord>) -> Self {
        Self {
            id: id.into(),
            version,
            state: DocumentState::Live(record),
        }
    }

    /// The document is deleted at this version.
    pub fn delete(id: impl Into<Arc<str>>, version: Version) -> Self {
        Self {
            id: id.into(),
            version,
            state: DocumentState::Deleted,
        }
    }
}

/// What a document is at a version.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentState {
    /// This record.
    Live(Arc<DocumentRecord>),
    /// A tombstone.
    Deleted,
}

impl DocumentState {
    /// The record, unless deleted.
    pub fn record(&self) -> Option<&Arc<DocumentRecord>> {
        match self {
            DocumentState::Live(record) => Some(record),
            DocumentState::Deleted => None,
        }
    }
}

/// A batch of mutations of one collection; ids are distinct.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApplyRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// The manager's epoch; a store with a higher one answers `StaleEpoch`, atomically if it
    /// declares `Capabilities::epoch_checked`.
    pub epoch: u64,
    /// The mutations, behind an `Arc` because a request may be sent twice.
    pub mutations: Arc<[Mutation]>,
}

impl ApplyRequest {
    /// Applies these mutations.
    pub fn new(
        collection: CollectionKey,
        epoch: u64,
        mutations: impl Into<Arc<[Mutation]>>,
    ) -> Self {
        Self {
            collection,
            epoch,
            mutations: mutations.into(),
        }
    }
}

/// Documents of one collection by id.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IdsRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// The ids; may repeat.
    pub ids: Arc<[Arc<str>]>,
}

impl IdsRequest {
    /// These ids of `collection`.
    pub fn new(collection: CollectionKey, ids: impl Into<Arc<[Arc<str>]>>) -> Self {
        Self {
            collection,
            ids: ids.into(),
        }
    }
}

/// The version a store holds of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The version.
    pub version: Version,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// What a store holds of a document, as a hash recomputed from what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The id.
    pub id: Arc<str>,
    /// Version and tombstone.
    pub head: Head,
    /// The content hash of the store's role; [`ContentHash::TOMBSTONE`] for a tombstone.
    pub content_hash: ContentHash,
}

/// A page of a listing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// The last page's `next`; absent for the first page.
    pub after: Option<String>,
    /// The most items to return, at least 1.
    pub limit: usize,
}

impl ListRequest {
    /// The first `limit` items.
    pub fn new(collection: CollectionKey, limit: usize) -> Self {
        Self {
            collection,
            after: None,
            limit,
        }
    }

    /// Goes on after a page.
    pub fn after(mut self, after: Option<String>) -> Self {
        self.after = after;
        self
    }
}

/// Some items and where the next ones start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to hand in as `after` for the next page; absent when there is none.
    pub next: Option<String>,
}

/// A search for near vectors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VectorSearchRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// The query's vector, of the collection's dimension.
    pub vector: Arc<[f32]>,
    /// The most documents to return, at least 1.
    pub limit: usize,
    /// A condition every hit fulfils; only if the store can filter.
    pub filter: Option<Arc<Filter>>,
    /// Only these documents (to look up scores); their number bounds the answer.
    pub restrict_to: Option<Arc<[Arc<str>]>>,
    /// Asks for exact neighbours even where the store has an approximate index.
    pub exact: bool,
}

impl VectorSearchRequest {
    /// The `limit` documents nearest to `vector`.
    pub fn new(collection: CollectionKey, vector: impl Into<Arc<[f32]>>, limit: usize) -> Self {
        Self {
            collection,
            vector: vector.into(),
            limit,
            filter: None,
            restrict_to: None,
            exact: false,
        }
    }

    /// Adds a condition.
    pub fn filter(mut self, filter: Option<Arc<Filter>>) -> Self {
        self.filter = filter;
        self
    }

    /// Looks only at these documents.
    pub fn restrict_to(mut self, ids: impl Into<Arc<[Arc<str>]>>) -> Self {
        self.restrict_to = Some(ids.into());
        self
    }

    /// Asks for exact neighbours.
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
}

/// A document found by its nearest chunk.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorHit {
    /// The id.
    pub id: Arc<str>,
    /// The version found.
    pub version: Version,
    /// The metric's score of the best chunk; higher is nearer.
    pub score: f64,
    /// The best chunk's number.
    pub chunk: u32,
    /// The best chunk's passage.
    pub passage: Option<Passage>,
}

impl VectorHit {
    /// A hit.
    pub fn new(
        id: impl Into<Arc<str>>,
        version: Version,
        score: f64,
        chunk: u32,
        passage: Option<Passage>,
    ) -> Self {
        Self {
            id: id.into(),
            version,
            score,
            chunk,
            passage,
        }
    }
}

/// A full-text search.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TextSearchRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// Plain words, never a query language: any of the terms matches, more and rarer ones score
    /// higher, a repeated term counts again. Empty (or without any term): everything that fulfils
    /// the filter, by id, with score 0.
    pub text: Arc<str>,
    /// The most documents to return, at least 1.
    pub limit: usize,
    /// A condition every hit fulfils; only if the store can filter.
    pub filter: Option<Arc<Filter>>,
    /// Only these documents (to look up scores).
    pub restrict_to: Option<Arc<[Arc<str>]>>,
}

impl TextSearchRequest {
    /// The `limit` documents that match `text` best.
    pub fn new(collection: CollectionKey, text: impl Into<Arc<str>>, limit: usize) -> Self {
        Self {
            collection,
            text: text.into(),
            limit,
            filter: None,
            restrict_to: None,
        }
    }

    /// Adds a condition.
    pub fn filter(mut self, filter: Option<Arc<Filter>>) -> Self {
        self.filter = filter;
        self
    }

    /// Looks only at these documents.
    pub fn restrict_to(mut self, ids: impl Into<Arc<[Arc<str>]>>) -> Self {
        self.restrict_to = Some(ids.into());
        self
    }
}

/// A document found by its words or its title.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TextHit {
    /// The id.
    pub id: Arc<str>,
    /// The version found.
    pub version: Version,
    /// Higher is better; for full text BM25, negated where the engine counts down.
    pub score: f64,
}

impl TextHit {
    /// A hit.
    pub fn new(id: impl Into<Arc<str>>, version: Version, score: f64) -> Self {
        Self {
            id: id.into(),
            version,
            score,
        }
    }
}

/// A document as a relational store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// The id.
    pub id: Arc<str>,
    /// The version.
    pub version: Version,
    /// The document, or that it is deleted.
    pub state: DocumentState,
}

/// A page of documents in order of their id's bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListDocumentsRequest {
    /// The collection.
    pub collection: CollectionKey,
    /// Only ids above this one.
    pub after_id: Option<Arc<str>>,
    /// The most documents to return, at least 1.
    pub limit: usize,
    /// A condition every document fulfils (tombstones fulfil none).
    pub filter: Option<Arc<Filter>>,
    /// Whether tombstones are listed too.
    pub include_deleted: bool,
}

impl ListDocumentsRequest {
    /// The first `limit` live documents.
    pub fn new(collection: CollectionKey, limit: usize) -> Self {
        Self {
            collection,
            after_id: None,
            limit,
            filter: None,
            include_deleted: false,
        }
    }

    /// Starts above this id.
    pub fn after_id(mut self, id: Option<Arc<str>>) -> Self {
        self.after_id = id;
        self
    }

    /// Adds a condition.
    pub fn filter(mut self, filter: Option<Arc<Filter>>) -> Self {
        self.filter = filter;
        self
    }

    /// Lists tombstones too.
    pub fn include_deleted(mut self) -> Self {
        self.include_deleted = true;
        self
    }
}

/// A document in some collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeKey {
    /// The collection.
    pub collection: CollectionKey,
    /// The id.
    pub id: Arc<str>,
}

impl NodeKey {
    /// The document `id` of `collection`.
    pub fn new(collection: CollectionKey, id: impl Into<Arc<str>>) -> Self {
        Self {
            collection,
            id: id.into(),
        }
    }
}

/// Asks for documents within some references of the seeds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NeighbourhoodRequest {
    /// Where to start; unknown and deleted seeds bring nothing.
    pub seeds: Arc<[NodeKey]>,
    /// The live collections; nodes of others are neither shown nor passed through.
    pub collections: Arc<[CollectionKey]>,
    /// References to follow from a seed, at least 1.
    pub depth: usize,
    /// Which way.
    pub direction: TraversalDirection,
    /// Only edges of these kinds; empty: all.
    pub edge_kinds: Arc<[String]>,
    /// The most neighbours to return, nearest first, at least 1.
    pub limit: usize,
}

impl NeighbourhoodRequest {
    /// The direct neighbours of `seeds`, both ways, at most 100.
    pub fn new(
        seeds: impl Into<Arc<[NodeKey]>>,
        collections: impl Into<Arc<[CollectionKey]>>,
    ) -> Self {
        Self {
            seeds: seeds.into(),
            collections: collections.into(),
            depth: 1,
            direction: TraversalDirection::Both,
            edge_kinds: Arc::from([]),
            limit: 100,
        }
    }

    /// Sets how far to go.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Sets which way.
    pub fn direction(mut self, direction: TraversalDirection) -> Self {
        self.direction = direction;
        self
    }

    /// Follows only these kinds.
    pub fn edge_kinds(mut self, kinds: impl Into<Arc<[String]>>) -> Self {
        self.edge_kinds = kinds.into();
        self
    }

    /// Sets how many neighbours to return.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// A live document reached from a seed; never a seed itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Neighbour {
    /// The document.
    pub node: NodeKey,
    /// The version the graph holds.
    pub version: Version,
    /// References on the shortest way from a seed, at least 1.
    pub distance: usize,
    /// Every seed that reaches the document at that distance, by index into the request's seeds,
    /// ascending.
    pub seeds: Vec<usize>,
    /// The kind of the last edge on one shortest way, and whether it was followed from source to
    /// target.
    pub via: (String, bool),
}

impl Neighbour {
    /// A neighbour.
    pub fn new(
        node: NodeKey,
        version: Version,
        distance: usize,
        seeds: Vec<usize>,
        via: (String, bool),
    ) -> Self {
        Self {
            node,
            version,
            distance,
            seeds,
            via,
        }
    }
}

/// Asks for ways between two documents.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathsRequest {
    /// The start.
    pub from: NodeKey,
    /// The end.
    pub to: NodeKey,
    /// The live collections.
    pub collections: Arc<[CollectionKey]>,
    /// The most references on a path, at least 1.
    pub max_depth: usize,
    /// Which way.
    pub direction: TraversalDirection,
    /// The most paths to return, shortest first, at least 1.
    pub limit: usize,
}

impl PathsRequest {
    /// At most 10 paths of at most 4 references, both ways.
    pub fn new(from: NodeKey, to: NodeKey, collections: impl Into<Arc<[CollectionKey]>>) -> Self {
        Self {
            from,
            to,
            collections: collections.into(),
            max_depth: 4,
            direction: TraversalDirection::Both,
            limit: 10,
        }
    }

    /// Sets how long a path may be.
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.max_depth = depth;
        self
    }

    /// Sets which way.
    pub fn direction(mut self, direction: TraversalDirection) -> Self {
        self.direction = direction;
        self
    }

    /// Sets how many paths to return.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

/// A way between two documents: the documents passed, both ends included, no document twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The documents from start to end.
    pub nodes: Vec<NodeKey>,
    /// The kind of each edge; one fewer than nodes.
    pub kinds: Vec<String>,
}

/// The outgoing references of a live document as a graph store holds them.
#[derive(Clone, Debug, PartialEq)]
pub struct Edges {
    /// The version they belong to.
    pub version: Version,
    /// The references in the document's order, those to missing or deleted documents included.
    pub references: Vec<Reference>,
}

/// The vectors of a live document as a vector store holds them.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredVectors {
    /// The version they belong to.
    pub version: Version,
    /// The vectors by chunk number.
    pub vectors: Vec<ChunkVector>,
}
