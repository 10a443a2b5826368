//! What a store can do and hold; everything else is refused or done by the facade.

use crate::model::Metric;

/// What a store declares about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Filters are evaluated by the store, all or those of which `Backend::can_filter` says so. If
    /// not, the facade over-fetches and evaluates.
    pub filter: bool,
    /// A write that was applied is found by the next search.
    pub searchable_on_apply: bool,
    /// What `sync` has answered survives a power loss.
    pub durable: bool,
    /// Every applied write is durable without `sync`.
    pub durable_on_apply: bool,
    /// The store checks the epoch in the statement that writes. If not, the adapter reads the stamp
    /// before each write: a manager that was followed by another stops at its next one, and what
    /// it had under way may still land, which the versions make harmless.
    pub epoch_checked: bool,
    /// Vectors come back bit for bit. If not (a store that normalises them), their content hash is
    /// [`ContentHash::of_vector_shapes`], and the numbers are compared within a tolerance.
    ///
    /// [`ContentHash::of_vector_shapes`]: crate::model::ContentHash::of_vector_shapes
    pub exact_vectors: bool,
    /// Vector: the metrics it compares vectors by. Creating a collection with another one is
    /// `Unsupported`.
    pub metrics: Vec<Metric>,
    /// Graph: paths between two documents can be listed.
    pub paths: bool,
    /// Relational: full-text search.
    pub full_text: bool,
    /// The most mutations one `apply` takes.
    pub max_batch: usize,
    /// What content it can hold.
    pub limits: Limits,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            filter: true,
            searchable_on_apply: true,
            durable: true,
            durable_on_apply: false,
            epoch_checked: true,
            exact_vectors: true,
            metrics: vec![Metric::Cosine, Metric::Dot, Metric::Euclidean],
            paths: true,
            full_text: true,
            max_batch: 1_000,
            limits: Limits::default(),
        }
    }
}

impl Capabilities {
    /// Everything, with the library's own limits. Adapters switch off what their store lacks.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The content a store can hold. A write that breaks a limit of any store is rejected before it is
/// journaled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of an id.
    pub max_id_bytes: usize,
    /// Bytes of a collection's name.
    pub max_collection_bytes: usize,
    /// Bytes of a text.
    pub max_text_bytes: usize,
    /// Bytes of the whole document as JSON.
    pub max_document_bytes: usize,
    /// Numbers of a vector.
    pub max_dimension: usize,
    /// Vectors of a document.
    pub max_vectors: usize,
    /// References of a document.
    pub max_references: usize,
    /// Levels of nesting of metadata.
    pub max_metadata_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_id_bytes: 512,
            max_collection_bytes: 255,
            max_text_bytes: 16 * 1024 * 1024,
            max_document_bytes: 32 * 1024 * 1024,
            max_dimension: 16_384,
            max_vectors: 10_000,
            max_references: 100_000,
            max_metadata_depth: 100,
        }
    }
}

impl Limits {
    /// The limits that fulfil both.
    pub fn intersect(&self, other: &Limits) -> Limits {
        Limits {
            max_id_bytes: self.max_id_bytes.min(other.max_id_bytes),
            max_collection_bytes: self.max_collection_bytes.min(other.max_collection_bytes),
            max_text_bytes: self.max_text_bytes.min(other.max_text_bytes),
            max_document_bytes: self.max_document_bytes.min(other.max_document_bytes),
            max_dimension: self.max_dimension.min(other.max_dimension),
            max_vectors: self.max_vectors.min(other.max_vectors),
            max_references: self.max_references.min(other.max_references),
            max_metadata_depth: self.max_metadata_depth.min(other.max_metadata_depth),
        }
    }
}
