//! The service `qdrant`: vectors in a Qdrant server, over gRPC.
//!
//! # What is needed
//! A Qdrant server from 1.18 on, alone or as a cluster, and its gRPC port (6334). Older ones lack
//! conditional upserts, or vectors that are added to a collection that is there; they are refused
//! by name. The Cargo feature is `qdrant`.
//!
//! # Options
//! | key | meaning | default |
//! |---|---|---|
//! | `url` | `http(s)://host:port`; instead of the next three | |
//! | `host`, `port`, `tls` | where the server is, and whether the connection is encrypted | `localhost`, 6334, false |
//! | `tls_ca_file` | PEM file with the certificate authority, instead of the system's | |
//! | `allow_plain_text` | allows an unencrypted connection to another machine | false |
//! | `api_key` | the server's key, or a token | none |
//! | `collection_prefix` | 1 to 64 of `A-Za-z0-9_-`: keeps this store's data apart | `dbmanager` |
//! | `on_disk` | new collections keep their vectors on disk | false |
//! | `shard_number`, `replication_factor`, `write_consistency_factor` | of new collections | the server's |
//! | `read_consistency` | `majority`, `quorum`, `all`, or a number of replicas | the server's: one |
//! | `write_ordering` | `weak`, `medium`, `strong` | the server's: weak |
//!
//! In a cluster choose a `read_consistency` and a `write_consistency_factor` that overlap: a
//! version is confirmed by reading it back. Writes that reach replicas in different orders end at
//! the same version on all of them, for a head only ever rises.
//!
//! `connection_pool_size` is the number of connections. Requests share them (HTTP/2), so none can
//! be exhausted: under too much load a request ends with `Timeout`. A lost connection, a half-open
//! one too, is made again by itself.
//!
//! # Capabilities
//! - Filters are evaluated by the server, all but ranges over text with a bound of more than 47
//!   bytes and filters of more than 32 levels; `can_filter` says so for each.
//! - `durable` is absent: the server writes its log through the page cache and flushes it every few
//!   seconds (`flush_interval_sec`), and has no call that flushes or waits for it. A server that is
//!   killed loses nothing, a machine that loses its power may lose the last seconds.
//! - `epoch_checked` is absent: no statement reads one point and writes another. The stamp is read
//!   before every write instead, so a manager that was followed by another stops at its next one.
//! - `exact_vectors` is absent: for the metric cosine the server keeps vectors at length 1.
//!
//! # Limits of the server
//! Dimensions up to 65,536. Integers in ranges are compared as 64-bit floating-point numbers, and
//! numbers are rounded when they are read back; what is stored is chosen so that neither matters.
//! A server in strict mode may refuse requests: heads are written 32 to a condition. Among more
//! than 10,000 chunks with the same score the server chooses which are returned.
//!
//! # Layout
//! Format 1. `PREFIX.stamp` holds one point with the stamp. `PREFIX.NAME.GENERATION.HASH` is one
//! collection, with its exact name, generation and options in its metadata under `dbmanager`. It
//! has two kinds of points, whose ids are UUIDs made of a hash:
//!
//! - `kind: "head"`, one a document, without a vector: `id`, the version as `milliseconds` and
//!   `counter`, `deleted`, and how many `chunks` belong to it. Written on the condition that the
//!   version is higher. A tombstone is a head.
//! - `kind: "chunk"`, one for each chunk of each version, with the named vector `chunk`: `id`,
//!   `milliseconds`, `counter`, `ordinal` (its place in the set), `number`, `start` and `end` (the
//!   passage). Only ever inserted, so that a late or repeated write changes nothing. It counts if
//!   its version is the head's; older ones are removed after each write. For filters it carries
//!   `terms` (field, type and value as one text, such as `["year"]=1990`) and `sortable` (the same
//!   as digits to the base 2^48, whose order is that of the values).
//!
//! # How it was tested
//! On a real 1.18.3, built from its source: the conformance suite (1,000 rounds of each race), keys,
//! certificates, restarts, slow servers, what others left behind, and the scenarios of the facade
//! with the wire misbehaving. No package registry has the server, so the continuous integration
//! does not repeat that: the live tests (`tests/live/qdrant`) run when `DBMANAGER_TEST_QDRANT_URL`
//! names one, those that start servers of their own when `DBMANAGER_TEST_QDRANT_BINARY` names the
//! program. What always runs is the suite against a model of the server that speaks its protocol and
//! was written from its source (`tests/qdrant` of this crate).
//!
//! **Not tested:** clusters and strict mode.

mod client;
mod collections;
mod config;
mod convert;
mod facts;
mod filter;
mod layout;
mod read;
mod search;
mod stamp;
mod store;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, Capabilities, OpenContext, ServiceConfig,
        VectorBackend,
    },
    model::Role,
};

use client::Client;
use collections::check_format;
use config::{Config, wrong};
use store::Qdrant;

const SERVICE: &str = "qdrant";
/// The first release with all that is used here: conditional and insert-only upserts, metadata of
/// collections, and vectors added to a collection that is there.
const NEEDED: (u64, u64) = (1, 18);

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.durable = false;
    capabilities.durable_on_apply = false;
    capabilities.epoch_checked = false;
    capabilities.exact_vectors = false;
    capabilities
}

/// Opens vector stores of the service `qdrant`; the module's page lists its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct QdrantFactory {}

impl QdrantFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

async fn open(config: &ServiceConfig, context: &OpenContext) -> BackendResult<Qdrant> {
    let config = Config::parse(config)?;
    let store = Qdrant::new(
        Client::new(&config, context)?,
        config.prefix(),
        config.placement(),
    );
    check_version(&store.client.version().await?)?;
    // The first call that needs the key: the server answers the one before without.
    let mut names = store.physical_names().await?;
    names.push(layout::stamp_name(&store.prefix));
    for name in names {
        if let Some(info) = store.client.collection(&name).await? {
            check_format(&name, &info)?;
        }
    }
    Ok(store)
}

fn check_version(found: &str) -> BackendResult<()> {
    let mut parts = found.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        return Err(wrong(format!(
            "the server does not say its version but {found:?}"
        )));
    };
    if major != NEEDED.0 || minor < NEEDED.1 {
        return Err(wrong(format!(
            "the server has version {found}; needed is {}.{} or a later {}.x",
            NEEDED.0, NEEDED.1, NEEDED.0
        )));
    }
    Ok(())
}

#[async_trait]
impl BackendFactory for QdrantFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Config::parse(config)?.location()
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let store = open(config, context).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::BackendErrorKind;

    use super::*;

    #[test]
    fn old_and_unknown_versions_are_refused_by_name() {
        for version in ["1.18.0", "1.18.3", "1.20.1-dev", "1.19"] {
            check_version(version).unwrap();
        }
        for version in ["1.17.1", "0.99.0", "2.0.0", "", "dev"] {
            let error = check_version(version).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains(version), "{error}");
        }
        let message = check_version("1.17.1").unwrap_err().to_string();
        assert!(message.contains("1.18"), "{message}");
    }
}
