//! Comparing stores with the authority and the journal, and filling a store anew.

mod authority;
mod check;
mod copy;
mod drift;
mod judge;
mod mend;
mod rebuild;
mod report;
mod scratch;
mod tolerance;
mod walk;

pub use check::CheckConsistency;
pub use rebuild::{Rebuild, RebuildReport};
pub use report::{ConsistencyReport, Difference, DifferenceKind, Progress, StoreConsistency};
