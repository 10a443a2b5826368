//! Plain data that crosses the surface of the library: no I/O, no native types of any store.

mod collection;
mod document;
mod filter;
mod hit;
mod id;
mod nearness;
mod query;
mod receipt;
mod record;
mod timestamp;
mod version;

pub use collection::{
    Collection, CollectionKey, CollectionOptions, EmbeddingSpace, Metric, Tokenizer,
};
pub use document::{Document, DocumentVector, Metadata, Passage, Reference};
pub use filter::{Comparison, Field, FieldBuilder, Filter, Scalar, fact, field, field_path};
pub use hit::{
    Contribution, Hit, LegName, LegOutcome, LegReport, PageEnd, SearchResponse, Verification,
};
pub use id::{JournalId, OperationId, StoreId};
pub(crate) use nearness::nearly_same;
pub use query::{Fusion, Query, SearchType, TraversalDirection, Weights};
pub use receipt::{
    DEFAULT_WRITE_TIMEOUT, Level, OnTimeout, OperationStatus, ParkedWrite, Precondition, Receipt,
    StoreReceipt, StoreWriteState, WaitFor,
};
pub use record::{
    ChunkVector, ContentHash, DocumentRecord, StoredDocument, VectorOrigin, VectorSet,
};
pub use timestamp::Timestamp;
pub use version::Version;

/// The three roles a store can play.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Meaning: nearest neighbours over embedding vectors.
    Vector,
    /// Relations: typed edges between documents.
    Graph,
    /// Facts and full text; the authority, the only complete copy besides the journal.
    Relational,
}

impl Role {
    /// Every role, in the order reports list them.
    pub const ALL: [Role; 3] = [Role::Vector, Role::Graph, Role::Relational];

    /// The lower-case name used in configuration, labels and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Vector => "vector",
            Role::Graph => "graph",
            Role::Relational => "relational",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
