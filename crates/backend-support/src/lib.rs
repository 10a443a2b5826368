//! What several dbmanager adapters share. Not public API.

pub mod connection;
#[cfg(feature = "http")]
pub mod http;
pub mod porter;
#[cfg(feature = "sqlite")]
pub mod sqlite;
