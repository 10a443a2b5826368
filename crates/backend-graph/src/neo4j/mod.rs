//! The graph in Neo4j, over Bolt.
//!
//! # What is needed
//! Neo4j 5.23 or newer, Community or Enterprise, self-managed or not: the statements use
//! `CALL (variable) { … }`. An older server, or another one that speaks Bolt, is refused by name at
//! opening. The user needs the rights to read and write, and, for the first opening of a namespace,
//! to make constraints and indexes. Client: `neo4rs`.
//!
//! # Options
//! | key | default | meaning |
//! |---|---|---|
//! | `uri` (or `url`) | – | `bolt://`, `bolt+s://`, `neo4j://` or `neo4j+s://`, a host and perhaps a port (7687). `+s`: encrypted. `neo4j`: a cluster, see below. No credentials in it |
//! | `host`, `port` | –, 7687 | instead of `uri`, as `bolt` |
//! | `username`, `password` | `neo4j`, empty | |
//! | `database` | the user's home database | must exist; Community has one, `neo4j` |
//! | `namespace` | `dbmanager` | stands before every label, constraint and index: a letter, then up to 62 letters, digits and underscores. Several managers can share a database, each with a namespace of its own |
//! | `tls` | what `uri` says | encrypt a `bolt://` or `host` connection |
//! | `tls_ca_file` | the system's authorities | PEM file with the authorities to trust |
//! | `allow_plain_text` | false | plain text to another machine |
//!
//! Pool and time limit come from `performance`: `connection_pool_size` connections; every statement
//! tells the server to end it after the attempt's time (`tx_timeout`), so that nothing goes on that
//! nobody waits for. Half of that time is waited for a free connection, then the answer is
//! `Overloaded`. A call that is given up costs its connection, never its successor: the client
//! drops a connection with an unread answer and resets every other before it is used again.
//!
//! **Encryption** needs a cryptography provider of the process
//! (`rustls::crypto::CryptoProvider::install_default`), because the client asks for it; without one
//! opening is a configuration error. `+ssc` (no check of the certificate) is refused.
//!
//! **Clusters**: the client speaks to one server only. With `neo4j://` the members are asked for the
//! routing table, and all statements go to the one that takes writes, reads as well, with the access
//! mode that they need: a read from another member may lag behind what was written, and what was
//! applied must be seen at once. When that member does not take writes any more, or does not answer,
//! the table is asked for again, at least every five minutes.
//!
//! # What it can do
//! Everything a graph store is asked for. Applied is durable (the transaction log is forced to disk
//! before a write is answered; in a cluster, by a majority) and found by searches at once (the
//! full-text index is not eventually consistent). The epoch is checked in the statement that writes.
//!
//! # Limits
//! - 20,000 references of a document: a transaction is held in the server's memory, and a document
//!   is written in one. Of the server's memory for transactions (`dbms.memory.transaction.total.max`)
//!   a reference takes some 3.3 kB while it is written. Batches are sent in parts of 4 MiB.
//! - The server's indexes take no key above some 8 kB. Ids and names are far below; if a value is
//!   refused all the same, a batch is halved until the one item is found, and only that is refused.
//! - A traversal that meets more than 500,000 references is refused.
//! - Words of titles longer than 90 bytes are told apart by these and their length.
//! - A server that is read-only answers `Unavailable`, with its own words.
//! - Two batches that lock the same documents in another order are a deadlock to the server; it ends
//!   one, which is `Unavailable` and repeated.
//!
//! # What is stored
//! With the namespace `dbmanager`:
//!
//! | node | properties |
//! |---|---|
//! | `dbmanager_Store` | `format` (1), the counter `collections`, and the stamp: `store_id`, `journal_id`, `epoch`, `progress` |
//! | `dbmanager_Lane` | `number`, `epoch` |
//! | `dbmanager_Collection` | `key` (`generation/name`), `number`, `name`, `generation`, `tokenizer`, `options` (JSON) |
//! | `dbmanager_Document` | `key` (`number/id`), `collection` (its number), `id`, `version`, `deleted`, `references` (how many), `title`, `document_type`, `title_terms` |
//! | `dbmanager_Target` | `key`, `collection` (a name), `id` |
//!
//! ```text
//! (:dbmanager_Document)-[:REFERS {ordinal, kind, own_collection, properties, version}]->(:dbmanager_Target)
//! (:dbmanager_Target)<-[:AT]-(:dbmanager_Document)
//! ```
//!
//! A reference names a collection and an id, not a document: the target is a node of its own, there
//! as long as a reference leads to it or a document stands at it. The documents with that name and
//! id, one in each generation of the collection, stand `AT` it. So a document comes, goes and comes
//! again without the references to it being touched, and what it refers to follows the live
//! generation. All text of users is in properties; `kind` and `properties` (JSON) too, so that no
//! statement has a name from outside in it but the checked namespace. A tombstone keeps `key`, `id`,
//! `version` and its place.
//!
//! Rarely a target stays behind that nothing leads to: the last two references to it went at the
//! same time, or it is from a version that removed none. No search sees it. This removes such
//! targets, beside writes as well:
//! `MATCH (t:dbmanager_Target) WHERE NOT EXISTS { (t)--() } CALL (t) { DELETE t } IN TRANSACTIONS`.
//!
//! `title_terms` has the title's words as the collection's tokenizer cuts them, in hexadecimal, each
//! behind the collection's number, for a full-text index with the analyzer `whitespace`. Every `key`
//! and `number` that is looked up has a unique constraint; an index on `version` gives the highest.
//!
//! **Writing** a batch is one statement, and so one transaction. It locks a *lane*: one of 64 nodes
//! that have a copy of the epoch; a new stamp, and the creation and the drop of a collection, lock
//! all of them. So no write of an older epoch commits after a newer stamp, and writes do not wait
//! for each other. Then each document is made or found by its unique key, locked by a first `SET`,
//! its version compared, and everything under it replaced. At the end the targets go that nothing
//! leads to any more. The server has no snapshots: whoever reads while a write commits may see half
//! of it. Every reference has its document's version, and every document its number of references;
//! what does not fit is read again.
//!
//! # Tested
//! Against Neo4j Community 5.26.30: the conformance suite with 1,000 rounds of each race, bare and
//! behind the resilience; restart in mid-batch, read-only server, deadlines, busy pools, calls given
//! up, tampering, wiping, encryption with right and wrong authorities and names; the routing table of
//! a single server. Not tested: a cluster of several members, Enterprise, Aura, servers below 5.23
//! (their refusal is tested without one), other releases.

mod apply;
mod check;
mod collections;
mod config;
mod convert;
mod ident;
mod link;
mod neighbourhood;
mod paths;
mod read;
mod routing;
mod schema;
mod stamp;
mod terms;
mod titles;
mod view;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Edges, Fingerprint, GraphBackend, Head,
        Identity, IdsRequest, ListRequest, Neighbour, NeighbourhoodRequest, OpenContext, Page,
        Path, PathsRequest, ServiceConfig, StampRequest, TextHit, TextSearchRequest,
        parse_service_config,
    },
    model::{CollectionKey, Role, Tokenizer},
};
use neo4rs::Query;

use config::{Neo4jConfig, Settings};
use ident::Names;
use link::{Access, Link};

const SERVICE: &str = "neo4j";
/// A transaction is held in memory, some 3.3 kB for a reference (measured: 100,000 take 330 MB);
/// more would not fit beside others in the 358 MB that a server with a heap of 512 MB gives to all
/// transactions together.
const MAX_REFERENCES: usize = 20_000;
/// Lanes of a namespace: more than there will be writes at one time.
const LANES: u64 = 64;

/// Opens graphs in Neo4j, as the service `neo4j`; the options are on the module's page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Neo4jFactory;

impl Neo4jFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

fn settings(config: &ServiceConfig) -> BackendResult<Settings> {
    parse_service_config::<Neo4jConfig>(Role::Graph, SERVICE, config)?.check()
}

fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    // The transaction log is forced to disk before a write is answered.
    capabilities.durable_on_apply = true;
    capabilities.limits.max_references = MAX_REFERENCES;
    capabilities
}

#[async_trait]
impl BackendFactory for Neo4jFactory {
    fn role(&self) -> Role {
        Role::Graph
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Ok(settings(config)?.location())
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let settings = settings(config)?;
        let store = Store {
            names: Names::new(settings.namespace.clone()),
            link: Link::new(settings, context),
            capabilities: capabilities(),
            next_lane: AtomicU64::new(context.runtime.random_u64()),
            tokenizers: Mutex::default(),
        };
        schema::prepare(&store).await?;
        Ok(AnyBackend::Graph(Arc::new(store)))
    }
}

/// One namespace of one database.
#[derive(Debug)]
struct Store {
    link: Link,
    names: Names,
    capabilities: Capabilities,
    next_lane: AtomicU64,
    /// The tokenizer of each collection as last seen: titles are cut before they are sent. Every
    /// statement says which one it used, and the server compares.
    tokenizers: Mutex<HashMap<CollectionKey, Tokenizer>>,
}

impl Store {
    /// The start of a statement that no write may run beside: locks every lane, always in the same
    /// order, makes those that are missing, and goes on with `epoch`, the stamp's or −1.
    fn lock_lanes(&self) -> String {
        format!(
            "UNWIND range(0, {}) AS number
             MERGE (lane:{} {{number: number}})
             SET lane.lock = $lock
             WITH max(coalesce(lane.epoch, -1)) AS epoch",
            LANES - 1,
            self.names.lane
        )
    }

    /// A value to write where only the lock that writing takes is wanted.
    fn lock(&self) -> i64 {
        convert::bits(self.link.runtime().random_u64())
    }

    fn next_lane(&self) -> i64 {
        convert::bits(self.next_lane.fetch_add(1, Ordering::Relaxed) % LANES)
    }

    /// An epoch as the server compares it. No stamp has one that does not fit.
    fn epoch(&self, epoch: u64) -> i64 {
        i64::try_from(epoch).unwrap_or(i64::MAX)
    }

    fn tokenizer(&self, key: &CollectionKey) -> Tokenizer {
        let known = self.tokenizers.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.get(key).copied().unwrap_or_default()
    }

    fn remember_tokenizer(&self, key: &CollectionKey, tokenizer: Tokenizer) {
        let known = self.tokenizers.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.insert(key.clone(), tokenizer);
    }

    fn forget_tokenizer(&self, key: &CollectionKey) {
        let known = self.tokenizers.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    /// A statement that reads one node of ours.
    async fn look(&self) -> BackendResult<()> {
        let statement = format!(
            "OPTIONAL MATCH (store:{} {{number: 0}}) RETURN store.format AS format",
            self.names.store
        );
        self.link.run(Access::Read, Query::new(statement)).await?;
        Ok(())
    }
}

#[async_trait]
impl Backend for Store {
    fn role(&self) -> Role {
        Role::Graph
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.look().await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        stamp::identity(self).await
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        stamp::write(self, request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        collections::create(self, request).await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        collections::drop_collection(self, request).await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        collections::list(self).await
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        apply::apply(self, request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        read::heads(self, &request).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        check::fingerprints(self, &request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        check::fingerprints_of(self, &request).await
    }

    /// The server forces its transaction log to disk before it answers a write.
    async fn sync(&self) -> BackendResult<()> {
        self.look().await
    }

    async fn close(&self) -> BackendResult<()> {
        self.link.close().await;
        Ok(())
    }
}

#[async_trait]
impl GraphBackend for Store {
    async fn neighbourhood(&self, request: NeighbourhoodRequest) -> BackendResult<Vec<Neighbour>> {
        neighbourhood::neighbourhood(self, &request).await
    }

    async fn paths(&self, request: PathsRequest) -> BackendResult<Vec<Path>> {
        paths::paths(self, &request).await
    }

    async fn match_titles(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        titles::match_titles(self, &request).await
    }

    async fn edges(&self, request: IdsRequest) -> BackendResult<Vec<Option<Edges>>> {
        read::edges(self, &request).await
    }
}
