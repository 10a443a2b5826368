//! Comparing stores with the authority and the journal, and filling a store anew.

mod check;
mod rebuild;
mod report;
mod scratch;
mod tolerance;

pub use check::CheckConsistency;
pub use rebuild::{Rebuild, RebuildReport};
pub use report::{ConsistencyReport, Difference, DifferenceKind, Progress, StoreConsistency};
