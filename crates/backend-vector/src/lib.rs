//! The vector adapters of dbmanager, one folder and one Cargo feature per service.

#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "redis")]
pub mod redis;
