//! The service `redis`: vectors in a Redis server, found by its query engine (`FT.*`) or, where
//! that is not there, by its vector sets (`VADD`, `VSIM`). Which of the two is found out when the
//! store is opened; a store stays with the one it was made for.
//!
//! # What is needed
//! Redis 7.2 or newer as a master. One of: the module `search` 2.8 or newer (database 0 only, a
//! limit of the module), or vector sets (Redis 8.0 or newer). `maxmemory-policy` must not be one
//! of `allkeys-*`: such a server throws single documents away without a trace, and is refused.
//!
//! An ACL user needs the keys `~{namespace}:*` and `+hello +eval +evalsha +script|load +hget +hset
//! +hmget +hvals +hdel +hexists +del +unlink +set +zadd +zrem +zrange +zrangebylex +sadd +srem
//! +sismember +waitaof`; for the query engine `+ft.create +ft.info +ft.search +ft.dropindex`, for
//! vector sets `+vadd +vrem +vsim +vemb`; for `durable` also
//! `+config|get`, and so that a connection made again need not be doubted `+info`.
//!
//! # Options
//! | key | meaning | default |
//! |---|---|---|
//! | `url` | `redis://[username][:password@]host[:port][/database]`, `rediss://` for TLS; instead of the next six | – |
//! | `host`, `port` | the server; any node of a cluster | `localhost`, 6379 |
//! | `username`, `password` | ACL user | none, none |
//! | `database` | its number | 0 |
//! | `tls` | encrypted connection | false |
//! | `tls_ca_file` | PEM file of the authorities to trust | Mozilla's list |
//! | `tls_certificate_file`, `tls_key_file` | the client's own certificate, where the server asks for one | none |
//! | `allow_plain_text` | allows an unencrypted connection to another machine | false |
//! | `namespace` | stands in every key; 1 to 128 ASCII letters, digits, `_-.:` | `dbmanager` |
//! | `engine` | `query_engine` or `vector_sets` | the store's own; else the query engine if there is one |
//! | `index` | `hnsw` or `flat`: what the query engine makes for new collections | `hnsw` |
//! | `hnsw_connectivity` | links per vector (M), 4 to 512 | 16 |
//! | `hnsw_expansion_add` | candidates when a vector is added, 1 to 4,096 | 200 |
//! | `hnsw_expansion_search` | candidates of a search, 1 to 65,536; more if more hits are asked for | 64 |
//!
//! `performance.connection_pool_size` connections are multiplexed, all made at opening and each
//! again after it broke; one more waits for the disk. Each takes 64 requests at once; whoever
//! waits too long for a place is told `Overloaded`. The query timeout is the limit for connecting,
//! for every answer, and for the query engine's own work (`TIMEOUT`). The three `hnsw_…` are fixed
//! in the query engine's index when a collection is created; vector sets take them anew.
//!
//! # Capabilities
//! | | query engine | vector sets |
//! |---|---|---|
//! | metrics | cosine, dot, euclidean | cosine; a vector set normalises its vectors and compares directions only |
//! | filter | yes | yes |
//! | exact vectors | yes | yes, kept beside the set |
//! | searchable on apply | yes | yes |
//! | epoch checked | yes, in the script that writes | yes |
//! | durable | by the server's settings | by the server's settings |
//!
//! *Durable* is claimed if `CONFIG GET` shows `appendonly yes` and `appendfsync` `always` or
//! `everysec`, and the user may call `WAITAOF`: `sync` then waits until the append-only file is on
//! the disk (with `everysec` up to two seconds). With `always` every applied write is durable.
//! Otherwise, or where `CONFIG` is denied, nothing is promised; a loss shows by the stamp, which
//! is kept with the data. When a connection is made again to another run of the server (its
//! `run_id`; every time, where `INFO` is denied), all requests are `Unavailable` until the manager
//! has read the identity: a restart never hides behind a repeated request. Replication is
//! asynchronous: a failover may lose acknowledged writes.
//!
//! # How it works
//! Each document is written by one script: it compares the epoch, the collection and the version
//! (as text of 16 hexadecimal digits, for Lua's numbers are `f64`; byte by byte, for Lua orders
//! texts by the server's locale), removes the old chunks and writes the new ones; nothing comes
//! between. Scripts are declared with `#!lua`, so that a full memory (`Overloaded`) or a read-only
//! server (`Unavailable`) refuses them before their first write.
//!
//! A search asks for chunks and keeps the best one of each document; with `exact`, every vector
//! is compared (`HYBRID_POLICY ADHOC_BF`, `TRUTH`). Filters are always checked with
//! [`Filter::matches`] on facts that are kept with the document, so their meaning is exact. The
//! query engine is given a query that finds at least what is wanted: equality, `in`, existence and
//! their combinations by tags, exactly; for `<`, `<=`, `>`, `>=` only that the field has the type
//! (the engine's numbers are `f64` and its texts have no order). Vector sets are given no filter.
//! While hits are missing, four times as many chunks are asked for; from 16,384 on every document
//! is read and compared in the adapter. So a filter that the server cannot narrow and that few
//! documents fulfil costs a transfer of the collection's facts.
//!
//! Vectors that an index in `f32` cannot compare are kept out of it and compared in the adapter
//! in every search: longer than 1e15, and under cosine shorter than 1e-12, zero among them
//! (measured: the query engine gives a zero vector the distance NaN and then loses others). They
//! should be few.
//!
//! An index that is made over documents that are there (because someone dropped it; creating the
//! collection again makes it anew) is built in the background, then and after every start of the
//! server, and meanwhile finds only a part without saying so. After every new connection the index
//! is therefore asked whether it is whole (`FT.INFO`); until then searches are `Unavailable`. A
//! search that the server cut short is `Timeout`, never a part of an answer.
//!
//! # Limits of the server
//! - A single value is at most `proto-max-bulk-len` (512 MiB by default); a document above is
//!   `Refused`, its neighbours are written.
//! - Everything is in memory. Beside its vectors a document costs its metadata (as JSON), and with
//!   the query engine 33 bytes of tags for each of its values in each of its chunks (512 values at
//!   most; above, only the check decides). Vector sets keep numbers twice: in the set and exactly.
//! - The query engine returns at most 1,000,000 chunks.
//! - Dropping a collection takes 200 documents a step; what an interrupted one leaves is removed
//!   when it is repeated or the collection is created again, and shows nowhere meanwhile.
//!
//! # Cluster
//! The namespace is a hash tag: all keys of a store are in one slot, on one node, which is found
//! by `MOVED` and followed when the slot moves. A store does not spread over nodes; several
//! stores with several namespaces do. Tested: a cluster of two masters with the module `search`
//! without coordinator, and with vector sets, a slot that moves among them (vector sets).
//! Untested: the query engine's coordinator (Redis Enterprise, `module-oss`), Sentinel, proxies.
//!
//! # Layout (format 1)
//! | key | type | holds |
//! |---|---|---|
//! | `{namespace}:store` | hash | `format`, `engine`, and the stamp: `store_id`, `journal_id`, `epoch`, `progress` |
//! | `{namespace}:collections` | hash | `generation:name` → key and options as JSON |
//! | `{namespace}:highest` | hash | `generation:name` → the highest version |
//! | `{namespace}:dropped` | set | collections whose removal is under way |
//! | `{namespace}:sync` | string | written by `sync`, to wait for |
//! | `{namespace}:generation:name:ids` | sorted set | every id, tombstones included |
//! | `{namespace}:generation:name:odd` | sorted set | ids with vectors outside the index |
//! | `{namespace}:generation:name:d:id` | hash | `v` version, `x` 1 for a tombstone, `f` facts (JSON), `s` chunks and passages, `e` exact numbers kept beside the index, `n` the indexed chunks |
//! | `{namespace}:generation:name:v:chunk:id` | hash | query engine: `e` numbers (`f32`, little-endian), `v` version, `p` passage, `t` tags |
//! | `{namespace}:generation:name:vectors` | vector set | vector sets: elements `chunk:version:id` |
//! | `{namespace}:generation:name` | index | query engine: over `…:v:` |
//!
//! In names everything but ASCII letters, digits, `_`, `-`, `.` stands as `%` and two hexadecimal
//! digits. Ids stand as they are.
//!
//! # Tested against
//! Redis 8.2.3 with RediSearch 2.10.5, and Redis 8.2.3 with vector sets only: the conformance
//! suite (with both kinds of index), wrong credentials, TLS, a user with few rights, a killed and
//! restarted server, full memory, a replica, a frozen server, foreign indexes and layouts, clusters.
//! Not tested: Valkey and its search module, services that run Redis for others, Redis 7.2 and 7.4,
//! client certificates.
//!
//! [`Filter::matches`]: dbmanager_core::model::Filter::matches

mod collections;
mod config;
mod connection;
mod convert;
mod document;
mod filter;
mod keys;
mod nearest;
mod read;
mod script;
mod search;
mod server;
mod store;
mod tls;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use dbmanager_core::{
    backend::{
        AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig, VectorBackend,
    },
    model::Role,
};

use config::Config;
use store::Redis;

const SERVICE: &str = "redis";

/// Opens vector stores of the service `redis`; the module's page lists the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisFactory {}

impl RedisFactory {
    /// The factory.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl BackendFactory for RedisFactory {
    fn role(&self) -> Role {
        Role::Vector
    }

    fn service(&self) -> &str {
        SERVICE
    }

    fn location(&self, config: &ServiceConfig, _context: &OpenContext) -> BackendResult<String> {
        Ok(Config::parse(config)?.location())
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let store = Redis::open(&Config::parse(config)?, context).await?;
        Ok(AnyBackend::Vector(Arc::new(store) as Arc<dyn VectorBackend>))
    }
}
