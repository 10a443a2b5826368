//! The relational store in MongoDB, or in a server that speaks its protocol.
//!
//! # What is needed
//! MongoDB 5.0 or newer (a replica set for more than one copy; a single server works), or FerretDB
//! 2 or newer. The user needs the role `readWrite` on the database; on FerretDB also the right to
//! `collMod`. The database is made with the first write, as is the server's way. Cargo feature:
//! `mongodb` (the official driver). TLS is rustls with a provider of the driver's own: none needs
//! to be installed for the process.
//!
//! # Options
//! | key | default | meaning |
//! |---|---|---|
//! | `uri` (or `url`) | | a connection string: `mongodb://…` with one or several servers, or `mongodb+srv://…`. Its options for authentication, replica sets, TLS and compression are passed through |
//! | `host`, `port` | `localhost`, 27017 | instead of `uri` |
//! | `username`, `password`, `auth_source` | | over those of `uri`; the source defaults to `admin` |
//! | `replica_set` | | over that of `uri` |
//! | `database` | that of `uri`, or `dbmanager` | where everything lies |
//! | `collection_prefix` | `dbmanager_` | what every physical collection starts with; several stores share a database by it |
//! | `tls` | as `uri` says; true for `mongodb+srv` | |
//! | `tls_ca_file` | the web's authorities | trusted authorities instead, in PEM |
//! | `tls_certificate_key_file` | | this client's own certificate and key, in PEM |
//! | `allow_plain_text` | false | allows a connection to another machine without TLS, or with `tlsAllowInvalidCertificates` |
//! | `read_concern` | `majority` | or `linearizable`. Nothing weaker: a version that a failover takes back must not be confirmed |
//! | `schema_validation` | true | the server checks the shape of records itself. For servers that know no `$jsonSchema` |
//!
//! The manager's pool size is the number of connections for commands (the driver opens one or two
//! more for each server, to watch it); its time limit for an attempt is the server's limit for each
//! command (`maxTimeMS`, `wtimeout`), and the limit for connecting.
//!
//! Fixed, and refused where `uri` says otherwise: writes are acknowledged by the journals of a
//! majority (`w: majority, j: true`), and reads go to the primary, since a secondary may not show
//! what was applied.
//!
//! # Capabilities
//! Everything but one. `epoch_checked` is absent: a statement of the server writes one document of
//! one collection, and a condition on another one (the stamp) needs a transaction
//! ([MongoDB: atomicity](https://www.mongodb.com/docs/manual/core/write-operations-atomicity/));
//! FerretDB accepts transactions and does not honour them, so this adapter uses none. The epoch is
//! read before each write instead, which leaves a gap of one round trip.
//!
//! `durable_on_apply` is what the write concern promises: MongoDB's word for it, and as good as the
//! disks of its majority. FerretDB takes the same words and leaves it to its PostgreSQL.
//!
//! Filters are evaluated by the server, exactly, up to 40 levels and 8 MiB of values; beyond that
//! [`can_filter`](Backend::can_filter) says no.
//!
//! # Limits
//! - A BSON document has at most 16 MiB. Exact bytes and vectors above 2 MiB lie in parts of their
//!   own, so the library's own limits hold here too.
//! - Entries for filters take at most 6 MiB of a record. A document with more (long keys above many
//!   others) has none: such documents are read and looked at by the adapter with every filter,
//!   which is exact and slow.
//! - Words take at most 4 MiB of a record, about 100,000 distinct ones; those that come after are
//!   not found. Words are told apart by their first 64 characters, queries by their first 512
//!   distinct terms.
//! - Full text is BM25 (k1 1.2, b 0.75) computed by an aggregation over the records that have any of
//!   the words, which the index finds; its cost grows with their number. The figures of the
//!   collection in it (documents, mean length) are read again once they are older than a hundred
//!   times what reading them took.
//! - Names of collections are held in the catalogue; physical names are random, so no name is too
//!   long or has a wrong character.
//!
//! # What is stored
//! | collection | holds |
//! |---|---|
//! | `<prefix>catalogue` | `_id: "store"`: the layout's number and the stamp. `_id: "collection:<generation>:<name>"`: options, state, and the names of the two below |
//! | `<prefix>documents_<random>` | a record for each id: `version`, `deleted`; of a live one `fields` (entries for filters, `p` path, `b`/`n`/`t` value), `words`, `counts`, `length`, and the exact bytes: `canonical` (JSON) and `vectors`, or `parts` |
//! | `<prefix>parts_<random>` | parts of large documents, made with the first; a part whose `_id` no record names is a leftover, which the next write of its `id` removes |
//!
//! Each write is one conditional upsert (`{_id, version: {$lt: v}}`); a batch is unordered, so that
//! no item touches another. A physical collection that no entry of the catalogue names is what a
//! write left that arrived after its collection was dropped; it may be dropped.
//!
//! # Tested
//! Against FerretDB 2.7.0 on PostgreSQL 18 with DocumentDB: the conformance suite with 1,000 rounds
//! of each race, credentials, TLS, a restart amid batches, a server that does not answer, an
//! exhausted pool, other layouts, a wiped and an older store, large documents, a poison item. Its
//! server here runs without `fsync` and on packages that cannot be pinned: **no evidence for
//! durability**. It enforces no roles and has no replica sets.
//!
//! Not tested: MongoDB itself (the same tests run when `DBMANAGER_TEST_MONGODB_URL` names one),
//! replica sets and failover, sharded clusters, `mongodb+srv`, client certificates, users with few
//! rights, a server made read-only, versions that are too old (their answer is, by a unit test).

mod apply;
mod catalogue;
mod check;
mod config;
mod convert;
mod fields;
mod filter;
mod layout;
mod physical;
mod read;
mod search;
mod server;
mod store;
mod terms;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListDocumentsRequest, ListRequest, OpenContext, Page, RelationalBackend, ServiceConfig,
        Stamp, StampRequest, StoredRecord, TextHit, TextSearchRequest, parse_service_config,
    },
    model::{CollectionKey, Filter, Role},
};

use self::{catalogue::Catalogue, config::MongodbConfig, search::Figures, server::Server};

const SERVICE: &str = "mongodb";

/// Opens relational stores in MongoDB, as the service `mongodb`; see the module for its options.
#[derive(Clone, Copy, Debug, Default)]
pub struct MongodbFactory;

impl MongodbFactory {
    /// The factory.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl BackendFactory for MongodbFactory {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        let config: MongodbConfig = parse_service_config(Role::Relational, SERVICE, config)?;
        Ok(config.target()?.location)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let config: MongodbConfig = parse_service_config(Role::Relational, SERVICE, config)?;
        let target = config.target()?;
        let server = Server::connect(&target, context).await?;
        let store = MongodbRelational {
            catalogue_name: format!("{}catalogue", target.prefix),
            prefix: target.prefix,
            schema_validation: target.schema_validation,
            server,
            figures: Figures::default(),
            capabilities: capabilities(),
        };
        store::check_layout(&store.server, &store.catalogue_name).await?;
        Ok(AnyBackend::Relational(Arc::new(store)))
    }
}

/// Without transactions across documents the epoch's document cannot be a part of the statement that
/// writes another.
fn capabilities() -> Capabilities {
    let mut capabilities = Capabilities::new();
    capabilities.durable_on_apply = true;
    capabilities.epoch_checked = false;
    capabilities
}

#[derive(Debug)]
struct MongodbRelational {
    server: Server,
    catalogue_name: String,
    prefix: String,
    schema_validation: bool,
    figures: Figures,
    capabilities: Capabilities,
}

impl MongodbRelational {
    fn catalogue(&self) -> Catalogue<'_> {
        Catalogue {
            server: &self.server,
            name: &self.catalogue_name,
            prefix: &self.prefix,
            schema_validation: self.schema_validation,
        }
    }
}

#[async_trait]
impl Backend for MongodbRelational {
    fn role(&self) -> Role {
        Role::Relational
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn can_filter(&self, filter: &Filter) -> bool {
        filter::compile(filter).is_ok()
    }

    async fn probe(&self) -> BackendResult<()> {
        store::read_stamp(&self.server, &self.catalogue_name)
            .await
            .map(drop)
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        store::read_stamp(&self.server, &self.catalogue_name).await
    }

    async fn identity(&self) -> BackendResult<Identity> {
        let stamp = store::read_stamp(&self.server, &self.catalogue_name).await?;
        let highest = self.catalogue().highest_version().await?;
        Ok(Identity::new(stamp, highest, highest.is_none()))
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        store::write_stamp(&self.server, &self.catalogue_name, &request).await
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        self.catalogue()
            .create(&request.collection, request.epoch)
            .await
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.catalogue()
            .drop_collection(&request.collection, request.epoch)
            .await
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        let entries = self.catalogue().list().await?;
        Ok(entries.into_iter().map(|entry| entry.key).collect())
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        apply::apply(self.catalogue(), &request).await
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        read::heads(self.catalogue(), &request).await
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        check::fingerprints(self.catalogue(), &request).await
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        check::fingerprints_of(self.catalogue(), &request).await
    }

    /// Every write was acknowledged by the journals of a majority.
    async fn sync(&self) -> BackendResult<()> {
        self.server.check_open()
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.server.check_open()
    }

    async fn close(&self) -> BackendResult<()> {
        self.server.close().await;
        Ok(())
    }
}

#[async_trait]
impl RelationalBackend for MongodbRelational {
    async fn get(&self, request: IdsRequest) -> BackendResult<Vec<Option<StoredRecord>>> {
        read::get(self.catalogue(), &request).await
    }

    async fn search_text(&self, request: TextSearchRequest) -> BackendResult<Vec<TextHit>> {
        search::search(self.catalogue(), &self.figures, &request).await
    }

    async fn list(&self, request: ListDocumentsRequest) -> BackendResult<Vec<StoredRecord>> {
        read::list(self.catalogue(), &request).await
    }

    async fn count(
        &self,
        collection: CollectionKey,
        filter: Option<Arc<Filter>>,
    ) -> BackendResult<u64> {
        read::count(self.catalogue(), &collection, filter.as_deref()).await
    }
}
