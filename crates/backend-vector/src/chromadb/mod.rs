//! The service `chromadb`: vectors on a ChromaDB server, over version 2 of its HTTP API.
//!
//! # What is needed
//! The Cargo feature `chromadb` and a server of version 1.5 or newer (lists in metadata came with
//! it; the server tells no version by which an older one could be known, only one without version
//! 2 of the API is found when the store is opened). Tenant and database must be there; the
//! collections are made. The open-source server checks no credentials: where a proxy in front of
//! it does, it takes a token or a name and a password.
//!
//! # Options
//! | key | default | |
//! |---|---|---|
//! | `url` | | `http://host:port/path` or `https://…`, in place of `host`, `port` and `tls` |
//! | `host`, `port` | `localhost`, 8000 | |
//! | `tls` | `false` | encrypted; the Mozilla roots are trusted |
//! | `tls_ca_file` | | PEM file of certificates that are trusted too |
//! | `allow_plain_text` | `false` | plain text to another machine |
//! | `token` | | sent with each request |
//! | `token_header` | `authorization` | as `Authorization: Bearer …`, or `x-chroma-token` |
//! | `username`, `password` | | HTTP Basic, in place of a token |
//! | `tenant`, `database` | `default_tenant`, `default_database` | |
//! | `collection_prefix` | `dbmanager_` | the start of the names of our collections: 1 to 64 of `[a-zA-Z0-9._-]` |
//! | `max_request_bytes` | 41943040 | what the server, and every proxy before it, takes of a request |
//! | `hnsw_ef_construction`, `hnsw_ef_search`, `hnsw_max_neighbors` | the server's | of the index of collections that are created from then on |
//!
//! `performance.connection_pool_size` bounds the requests at once, `performance.query_timeout` the
//! time of each.
//!
//! # What it can do
//! Everything of the contract but:
//! - **The epoch is not checked in the statement that writes** (`epoch_checked`): no write of the
//!   API has a condition. It is read before each write instead, so a manager that was overtaken is
//!   told so at its next write; what it had under way does no harm, see below.
//! - **Vectors do not come back bit for bit** (`exact_vectors`): under `cosine` the server keeps
//!   directions and lengths, and a number may differ in its last digits. They are compared within
//!   a tolerance.
//! - **Some filters are evaluated by the facade** (`can_filter`): the server orders numbers but not
//!   texts, so `<`, `<=`, `>` and `>=` with a text are not taken, except of created dates; nor is a
//!   comparison with a text of more than 1,024 bytes, more than 400 conditions (measured: the
//!   server takes 900, answers 1,000 with an error, and *ended* at 20,000) or more than 20 levels.
//!
//! The index is approximate (HNSW). A search that is `exact`, one among given documents, and one
//! for which the index gives fewer documents than wanted reads the vectors and computes the scores
//! itself: over a large collection that is slow, some 12,000 vectors of 384 numbers a second.
//!
//! # Limits of the server
//! 41,943,040 bytes a request: a document with more metadata is refused, alone. Beside each vector
//! stand the document's `terms` and bounds, each with its whole path: long keys over many different
//! values make much of a small document. Above `max_request_bytes`, and above 64 MiB in any case,
//! they are not even built. As many records a request as `pre-flight-checks` says (5,461): batches
//! are cut. Scores are computed in `f32`; of `dot`, a product beyond its range makes the search read
//! the vectors. A write that is answered is on the disk (measured: it syncs its SQLite database
//! within each write), and is found by the next search.
//!
//! # What is stored
//! Under the prefix `P`, for a collection `papers` of generation 7:
//!
//! | collection | record | id | metadata |
//! |---|---|---|---|
//! | `Pv7-papers` | a chunk's vector | `<version>.<chunk>.<first byte>-<end>.<id>` | `slot`, `terms`, bounds |
//! | `Ph7-papers` | a head: one version of a document | `<version>.<chunks, or deleted>.<id>` | `slot`, `version` |
//! | `Ps0-stamp` | the stamp | `stamp` | store, journal, epoch, progress |
//!
//! Versions are 16 hexadecimal digits. In names every byte but letters, digits and inner `_`
//! becomes `.` and two hexadecimal digits; a name that is too long so is `.B` and its base 32. The
//! vectors' collection is there as soon as the embedding space is known. What a collection is
//! stands in its metadata (`dbmanager_format`, now 1; kind, prefix, name, generation, options), and
//! one that says something else, or nothing, is refused and never touched.
//!
//! **Records are never changed.** A write adds chunks, then the head, then removes chunks and heads
//! of lower versions. The highest head of a document counts; a chunk of another version is not
//! found, whatever is left by a crash between two requests or comes late. A search looks up the
//! heads of its hits, and reads the vectors of documents that have changed since. What is left over
//! goes with the next write of the document, or the next consistency check.
//!
//! `slot` is a number made from the id, by ranges of which listings go: the server lists by
//! position, which shifts. `terms` are what filters ask for: `i["year"]=1990` (a whole number;
//! `f` floating-point, `t` text, `b` bool), `i["year"]` (there is one), `e["year"]` (there is
//! something), `title=…`, `document_type=…`; bounds are the least and greatest number of a field,
//! `i<["year"]` and `i>["year"]`, floating-point numbers as whole ones of the same order.
//!
//! # How it was tested
//! Against ChromaDB 1.5.9 (its Python package): the conformance suite of the role, and by name a
//! wrong token and password (in a proxy), missing tenant and database, a server without version 2,
//! a server killed in mid-batch, silent, restored from a copy, emptied; TLS with right and wrong
//! certificates and names; foreign, newer and contradicting collections; records left by crashed
//! and late writers; a request over the limit. Not tested: Chroma Cloud, the distributed server, a
//! version other than 1.5.9.

mod api;
mod catalogue;
mod config;
mod convert;
mod facts;
mod filter;
mod heads;
mod identity;
mod keys;
mod names;
mod ranges;
mod read;
mod search;
mod store;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_backend_support::http::{HttpClient, HttpOptions};
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig, VectorBackend,
    },
    model::Role,
};

use api::Api;
use config::Config;
use store::Chromadb;

const SERVICE: &str = "chromadb";

/// Opens vector stores of the service `chromadb`; see the [module](self) for its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChromadbFactory {}

impl ChromadbFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl BackendFactory for ChromadbFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _: &OpenContext) -> BackendResult<String> {
        Config::parse(config)?.location()
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config = Config::parse(config)?;
        let options = HttpOptions::new(context)
            .authorization(config.authorization())
            .ca_file(config.ca_file())
            .max_request_bytes(config.max_request_bytes);
        let http = HttpClient::new(config.endpoint()?, options, &context.runtime).await?;
        let api = Api::connect(http, &config).await?;
        let store = Chromadb::open(api, &config).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}
