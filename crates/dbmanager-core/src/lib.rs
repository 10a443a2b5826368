//! The core of dbmanager: the backend contract, the journal, the write route and the search route.
//!
//! Applications use the `dbmanager` crate, which re-exports what is public here and registers the
//! adapters that were compiled in. Adapter authors read [`backend`] first.

pub mod backend;
mod cache;
pub mod config;
#[cfg(feature = "conformance")]
pub mod conformance;
mod consistency;
pub mod embed;
mod error;
pub mod health;
pub mod journal;
mod manager;
pub mod memory;
pub mod model;
mod read;
mod resilience;
mod roster;
mod runtime;
mod search;
mod write;

pub use consistency::{
    CheckConsistency, ConsistencyReport, Difference, DifferenceKind, Progress, Rebuild,
    RebuildReport, StoreConsistency,
};
pub use error::{Error, ErrorKind, Result, WriteOutcome};
pub use manager::{
    DatabaseManager, DeleteDocument, DeleteDocuments, DropCollection, ManagerBuilder, Scope,
    StoreDocument, StoreDocuments,
};
pub use read::{Count, DocumentPage};
pub use resilience::CircuitState;
pub use runtime::{BoxFuture, Elapsed, Runtime, RuntimeServices, TaskHandle, TaskLost};
#[doc(hidden)]
pub use search::FusionBenchmark;
