//! What several dbmanager adapters share. Not public API.

#[cfg(feature = "sqlite")]
pub mod sqlite;
