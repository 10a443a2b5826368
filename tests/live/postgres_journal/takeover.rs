//! The sender goes, and another one takes over.

use std::time::Duration;

use async_trait::async_trait;
use dbmanager::model::{Document, Level, OnTimeout, Query, Receipt, Role};
use dbmanager_core::{
    CircuitState,
    backend::{AnyBackend, BackendFactory, BackendResult, OpenContext, ServiceConfig},
    conformance::{FaultRates, Faults, Faulty},
    memory::MemoryFactory,
};

use super::world::{Instance, SOON, World, assert_all_equal, sends, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_closes_is_followed_at_once() {
    // So long that only giving it up explains what follows.
    let Some(world) = World::new(Duration::from_secs(600)) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    let epoch = a.health().journal.sharing.unwrap().epoch;
    let written = a
        .store_document("papers", Document::new("p").text("one"))
        .await;
    written.unwrap();
    a.close(SOON).await.unwrap();
    let written = b
        .store_document("papers", Document::new("q").text("two"))
        .level(Level::All)
        .timeout(SOON)
        .await;
    written.unwrap();
    let sharing = b.health().journal.sharing.unwrap();
    assert!(sharing.sends);
    assert_eq!(sharing.epoch, epoch + 1);
    assert_all_equal(&b, 2).await;
    let again = world.open().await;
    assert!(!sends(&again) && sends(&b));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_dropped_is_followed_at_once() {
    let Some(world) = World::new(Duration::from_secs(600)) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    let receipt = journaled(&a, "p").await;
    drop(a);
    until("the other sends", async || sends(&b)).await;
    b.wait_for(&receipt, Level::All, SOON).await.unwrap();
    assert_all_equal(&b, 1).await;
}

async fn journaled(db: &dbmanager::DatabaseManager, id: &str) -> Receipt {
    db.store_document("papers", Document::new(id).text("text"))
        .level(Level::Journaled)
        .await
        .unwrap()
}

/// Killed between append and confirmation, again and again: the one that is left takes over, and
/// everything that was acknowledged by either is in every store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_sender_is_followed_after_its_lease_and_nothing_is_lost() {
    let Some(world) = World::new(Duration::from_millis(800)) else {
        return;
    };
    let mut sender = Instance::open(&world).await;
    let mut acknowledged: Vec<Receipt> = Vec::new();
    for round in 0..4 {
        let other = Instance::open(&world).await;
        assert!(sends(sender.db()) && !sends(other.db()), "round {round}");
        for number in 0..20 {
            let id = format!("{round} {number}");
            acknowledged.push(journaled(sender.db(), &format!("a {id}")).await);
            acknowledged.push(journaled(other.db(), &format!("b {id}")).await);
        }
        let waiting = other
            .db()
            .store_document("papers", Document::new(format!("waiting {round}")))
            .level(Level::All)
            .timeout(SOON)
            .on_timeout(OnTimeout::Error)
            .into_future();
        sender.kill();
        // It waits for the new sender to confirm it, whoever that is.
        acknowledged.push(waiting.await.unwrap());
        until("the other sends", async || sends(other.db())).await;
        sender = other;
    }
    for receipt in &acknowledged {
        let found = sender.db().get_document("papers", &receipt.id).await;
        assert_eq!(found.unwrap().unwrap().version, receipt.version);
    }
    assert_all_equal(sender.db(), acknowledged.len() as u64).await;
}

/// Whoever loses the lease without knowing it is told so, stands down, and goes on as one of the
/// others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_was_overtaken_stands_down_and_may_come_back() {
    let Some(world) = World::new(Duration::from_secs(2)) else {
        return;
    };
    let a = world.open().await;
    let written = a
        .store_document("papers", Document::new("p").text("one"))
        .await;
    written.unwrap();
    world
        .place
        .run(
            "UPDATE journal SET epoch = epoch + 1, holder = '00000000-0000-0000-0000-000000000001',
                 holder_name = 'somebody else',
                 lease_until = clock_timestamp() + interval '3 seconds'",
        )
        .await;
    until("it stands down", async || !sends(&a)).await;
    let receipt = journaled(&a, "q").await;
    assert!(a.get_document("papers", "q").await.unwrap().is_some());
    until("it takes over again", async || sends(&a)).await;
    a.wait_for(&receipt, Level::All, SOON).await.unwrap();
    assert_all_equal(&a, 2).await;
}

/// It would not have renewed its lease for minutes, and sees all that its successor does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_was_overtaken_learns_so_from_what_its_successor_does() {
    let Some(mut world) = World::new(Duration::from_secs(600)) else {
        return;
    };
    let a = world.open().await;
    world.lease = Duration::from_secs(1);
    let b = world.open().await;
    let written = a
        .store_document("papers", Document::new("p").text("one"))
        .level(Level::All);
    written.await.unwrap();
    world
        .place
        .run("UPDATE journal SET lease_until = clock_timestamp() - interval '1 second'")
        .await;
    until("the other sends", async || sends(&b)).await;
    until("it stands down", async || !sends(&a)).await;
    b.rebuild(Role::Vector).await.unwrap();
    // What the successor confirms is told to those who write here.
    let written = a
        .store_document("papers", Document::new("q").text("two"))
        .level(Level::All)
        .timeout(SOON);
    a.at_least(&written.await.unwrap(), SOON).await.unwrap();
    let found = a.search_documents("papers", Query::metadata("two")).await;
    assert!(!found.unwrap().degraded());
    assert_all_equal(&b, 2).await;
}

/// A store in memory that only this manager cannot reach.
struct Unreachable {
    inner: MemoryFactory,
    faults: Faults,
}

#[async_trait]
impl BackendFactory for Unreachable {
    fn role(&self) -> Role {
        self.inner.role()
    }

    fn service(&self) -> &str {
        self.inner.service()
    }

    fn location(&self, config: &ServiceConfig, context: &OpenContext) -> BackendResult<String> {
        self.inner.location(config, context)
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        context: &OpenContext,
    ) -> BackendResult<AnyBackend> {
        let opened = self.inner.open(config, context).await?;
        Ok(Faulty::wrap(opened, &context.runtime, &self.faults))
    }
}

/// The sender loses a store, and then the lease to one that reaches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_stood_down_forgets_which_stores_it_did_not_reach() {
    let Some(mut world) = World::new(Duration::from_secs(600)) else {
        return;
    };
    let faults = Faults::new(1, FaultRates::none());
    let inner = MemoryFactory::of(Role::Vector).at(world.store(Role::Vector));
    let unreachable = Unreachable {
        inner,
        faults: faults.clone(),
    };
    let builder = world.builder(world.config()).register(unreachable);
    let a = builder.open().await.unwrap();
    world.lease = Duration::from_secs(1);
    let b = world.open().await;
    faults.set_rates(FaultRates::none().refused_before(1.0));
    journaled(&a, "p").await;
    until("its circuit is open", async || {
        let health = a.health();
        let circuit = health.store(Role::Vector).unwrap().circuit;
        matches!(circuit, CircuitState::Open { .. })
    })
    .await;
    world
        .place
        .run("UPDATE journal SET lease_until = clock_timestamp() - interval '1 second'")
        .await;
    until("the other sends", async || sends(&b)).await;
    until("it stands down", async || !sends(&a)).await;
    let written = a
        .store_document("papers", Document::new("q").text("two"))
        .level(Level::All)
        .timeout(SOON);
    assert!(written.await.unwrap().level_reached());
}

/// More changes than are kept go by while nobody reads them: the view is read anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_joins_late_sees_everything() {
    let Some(world) = World::new(Duration::from_secs(10)) else {
        return;
    };
    let a = world.open().await;
    for batch in 0..5 {
        let documents = (0..100).map(|n| Document::new(format!("{batch} {n}")).text("text"));
        for answer in a.store_documents("papers", documents).await.unwrap() {
            answer.unwrap();
        }
    }
    let b = world.open().await;
    let last = a
        .store_document("papers", Document::new("last"))
        .await
        .unwrap();
    b.at_least(&last, SOON).await.unwrap();
    assert_all_equal(&b, 501).await;
}
