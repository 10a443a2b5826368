//! The graph adapters of dbmanager, one folder and one Cargo feature per service.

#[cfg(feature = "sqlite")]
pub mod sqlite;
