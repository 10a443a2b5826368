//! The vector adapters of dbmanager, one folder and one Cargo feature per service.

#[cfg(feature = "chromadb")]
pub mod chromadb;
#[cfg(feature = "embedded")]
pub mod embedded;

#[cfg(feature = "qdrant")]
pub mod qdrant;
#[cfg(feature = "redis")]
pub mod redis;
