//! What a user of the facade is promised, on every server in its role, beside embedded stores in
//! the others; also while the wire to the server misbehaves.
//!
//! Each world has a namespace of its own on the server, a proxy before it, and a directory with
//! the journal and the embedded stores. Nothing waits for a fixed time: conditions are polled, and
//! every bound is several times what is promised.

mod concurrency;
mod deadlines;
mod documents;
mod injection;
mod late_request;
mod ledger;
mod main_job;
mod outage;
mod ownership;
mod swap;
mod waiting;
mod wiped;
mod wire_faults;
mod workload;
mod world;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use self::{wire_faults::WireFault, world::World};
use crate::{
    environment::report,
    stores::{self, LiveStore},
};

/// No scenario takes this long: one that does hangs.
const LONGEST: Duration = Duration::from_secs(240);

/// How many scenarios each server has passed.
static PASSED: Mutex<BTreeMap<&'static str, u32>> = Mutex::new(BTreeMap::new());

/// Runs a scenario on a server, if there is one, and reports it.
async fn run<F: Future<Output = ()>>(
    store: LiveStore,
    scenario: &str,
    steps: impl FnOnce(World) -> F,
) {
    let Some(address) = store.address() else {
        return;
    };
    let start = Instant::now();
    let world = World::new(store, &address).await;
    if tokio::time::timeout(LONGEST, steps(world)).await.is_err() {
        panic!("{}: {scenario}: hangs", store.name());
    }
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let passed = passed.entry(store.name()).or_default();
    *passed += 1;
    let seconds = start.elapsed().as_secs_f64();
    let name = store.name();
    report(&format!(
        "{name}: scenario passed: {scenario} ({seconds:.1} s; {passed} so far)"
    ));
}

macro_rules! scenarios {
    ($server:ident, $feature:literal, $store:expr) => {
        scenarios!($server, $feature, $store,
            the_main_job: main_job::run,
            a_second_journal_and_an_older_copy_are_refused: ownership::run,
            a_store_found_empty_after_a_reconnect: wiped::run,
            a_living_store_takes_the_place_of_another: swap::run,
            texts_that_look_like_something_else: injection::run,
            more_writers_than_connections: concurrency::run,
            an_outage: outage::run,
            a_server_that_is_silent: deadlines::run,
            a_request_that_lands_late: late_request::run,
            under_latency: |world| wire_faults::run(world, WireFault::Latency),
            under_cuts: |world| wire_faults::run(world, WireFault::Cut),
            under_resets: |world| wire_faults::run(world, WireFault::Reset),
            under_half_open_connections: |world| wire_faults::run(world, WireFault::HalfOpen),
            under_lost_answers: |world| wire_faults::run(world, WireFault::Blackhole),
            under_held_requests: |world| wire_faults::run(world, WireFault::HoldRequests),
            under_held_answers: |world| wire_faults::run(world, WireFault::HoldAnswers),
            under_dripping_answers: |world| wire_faults::run(world, WireFault::Drip),
        );
    };
    ($server:ident, $feature:literal, $store:expr, $($scenario:ident: $steps:expr),* $(,)?) => {
        #[cfg(all(feature = $feature, feature = "sqlite"))]
        mod $server {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                run($store, stringify!($scenario), $steps).await;
            })*
        }
    };
}

scenarios!(postgres, "postgres", stores::POSTGRES);
scenarios!(ferretdb, "mongodb", stores::FERRETDB);
scenarios!(mongodb, "mongodb", stores::MONGODB);
scenarios!(neo4j, "neo4j", stores::NEO4J);
scenarios!(chromadb, "chromadb", stores::CHROMADB);
scenarios!(redis, "redis", stores::REDIS);
scenarios!(redis_vector_sets, "redis", stores::REDIS_VECTOR_SETS);
scenarios!(qdrant, "qdrant", stores::QDRANT);
