//! Every adapter of a server against the real server, over its real protocol.
//!
//! Servers are named by environment variables (`scripts/servers env` prints them). One that is not
//! named is reported as *not tested*; it is a failure if `DBMANAGER_TEST_REQUIRED` lists it (names
//! separated by commas, or `registry` for every server that the package registries give).
//!
//! ```text
//! eval "$(scripts/servers env)"
//! cargo test --all-features --test live
//! ```
#![cfg(any(
    feature = "chromadb",
    feature = "fastembed",
    feature = "mongodb",
    feature = "neo4j",
    feature = "postgres",
    feature = "qdrant",
    feature = "redis"
))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[cfg(feature = "chromadb")]
mod chromadb;
#[cfg(feature = "fastembed")]
mod embedding;
mod environment;
#[cfg(all(feature = "chromadb", feature = "neo4j"))]
mod mission;
#[cfg(feature = "mongodb")]
mod mongodb;
#[cfg(feature = "neo4j")]
mod neo4j;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_journal;
mod proxy;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(feature = "redis")]
mod redis;
mod scenarios;
mod stores;
mod suite;
