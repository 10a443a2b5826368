//! The adapter `redis` on servers with the query engine, and with vector sets only.

mod wire;

use dbmanager_backend_vector::redis::RedisFactory;
use dbmanager_core::conformance::{Instance, Subject};

use crate::{
    environment::{REDIS, REDIS_VECTOR_SETS, unique},
    suite,
};
use wire::Sweeper;

/// A namespace of its own on this server, removed when it is no longer used.
fn fresh(url: &str) -> Instance {
    let namespace = unique("conformance");
    Instance::new(RedisFactory::new())
        .setting("url", url)
        .setting("namespace", namespace.as_str())
        .keep(Sweeper::new(url, &namespace))
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_the_query_engine_conforms() {
    let Some(url) = REDIS.address() else { return };
    suite::conforms(Subject::new("redis, query engine", move || fresh(&url))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_an_index_without_approximation_conforms() {
    let Some(url) = REDIS.address() else { return };
    let flat = move || fresh(&url).setting("index", "flat");
    suite::conforms(Subject::new("redis, query engine, flat index", flat)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_vector_sets_conforms() {
    let Some(url) = REDIS_VECTOR_SETS.address() else {
        return;
    };
    suite::conforms(Subject::new("redis, vector sets", move || fresh(&url))).await;
}
