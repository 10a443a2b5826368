//! The graph adapters of dbmanager, one folder and one Cargo feature per service.

#[cfg(feature = "neo4j")]
pub mod neo4j;
#[cfg(feature = "sqlite")]
pub mod sqlite;
