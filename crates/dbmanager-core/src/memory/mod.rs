//! In-memory stores for all three roles: exact, simple, the model that other adapters are tested
//! against.
//!
//! Every answer is computed from whole documents by a full scan; nothing is indexed, so nothing
//! can disagree with its index. Good for tests and for small data that need not outlive the
//! process.
//!
//! The data lives in a [`MemoryPlace`], not in the backend: closing a backend and opening its
//! place again finds everything as it was, as with a store on disk. Within the life of the place
//! nothing is ever lost, so the capabilities say `durable` and `durable_on_apply`; the end of the
//! process ends the place.

mod factory;
mod graph;
mod place;
mod relational;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod vector;

pub use factory::MemoryFactory;
pub use place::MemoryPlace;
pub use store::{GraphRole, MemoryRole, MemoryStore, RelationalRole, VectorRole};

/// Vectors in memory; every search is an exact scan.
pub type MemoryVector = MemoryStore<VectorRole>;
/// Nodes and edges in memory.
pub type MemoryGraph = MemoryStore<GraphRole>;
/// Whole documents in memory, with BM25 full text.
///
/// Terms are lower-cased Unicode words, or runs of three characters in a collection with
/// [`crate::model::Tokenizer::Trigram`]; words are neither stemmed nor stripped of diacritics.
pub type MemoryRelational = MemoryStore<RelationalRole>;
