#![doc = include_str!("../README.md")]

mod open;

#[doc(inline)]
pub use dbmanager_core::*;
pub use open::{OpenDatabase, builder, embedders, registry};

/// What most programs need: `use dbmanager::prelude::*;`
pub mod prelude {
    pub use crate::{
        DatabaseManager, Error, ErrorKind, OpenDatabase, Scope, WriteOutcome,
        config::Config,
        health::HealthStatus,
        model::{
            Document, Filter, Fusion, Hit, LegOutcome, Level, OnTimeout, OperationId, Precondition,
            Query, Receipt, Reference, Role, SearchResponse, SearchType, StoredDocument, Version,
            WaitFor, fact, field, field_path,
        },
    };
}
