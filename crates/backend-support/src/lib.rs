//! What several dbmanager adapters share. Not public API.

pub mod connection;
#[cfg(feature = "sqlite")]
pub mod sqlite;
