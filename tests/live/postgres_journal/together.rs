//! Two managers at the same time.

use std::time::{Duration, Instant};

use dbmanager::{
    DatabaseManager, ErrorKind,
    model::{Document, Level, OperationStatus, Precondition, Query, Receipt, Role, field},
};
use futures_util::future::join_all;

use super::world::{Instance, SOON, World, assert_all_equal, sends, until};

const LEASE: Duration = Duration::from_secs(10);

async fn write(db: &DatabaseManager, id: &str, text: &str) -> Receipt {
    let document = Document::new(id).title(id).text(text).metadata("by", text);
    db.store_document("papers", document)
        .level(Level::All)
        .timeout(SOON)
        .await
        .unwrap()
}

async fn text_of(db: &DatabaseManager, id: &str) -> Option<String> {
    let found = db.get_document("papers", id).await.unwrap();
    found.map(|found| found.document.text)
}

async fn both_write_and_see(world: World) {
    let (a, b) = (world.open().await, world.open().await);
    assert!(sends(&a) && !sends(&b), "the first one sends");
    let first = write(&a, "from a", "one").await;
    b.at_least(&first, SOON).await.unwrap();
    assert_eq!(text_of(&b, "from a").await.as_deref(), Some("one"));
    let second = write(&b, "from b", "two").await;
    assert!(second.version > first.version);
    assert!(second.stores.len() == 3 && second.level_reached());
    assert_eq!(
        text_of(&b, "from b").await.as_deref(),
        Some("two"),
        "its own write"
    );
    a.at_least(second.version, SOON).await.unwrap();
    assert_eq!(text_of(&a, "from b").await.as_deref(), Some("two"));
    for db in [&a, &b] {
        let found = db.search_documents("papers", Query::hybrid("two")).await;
        let found = found.unwrap();
        assert_eq!(&*found.hits[0].id, "from b");
        assert!(!found.degraded(), "{found:?}");
        let filter = field("by").eq("one");
        let count = db.count("papers", Some(filter)).await.unwrap();
        assert_eq!(count.documents, 1);
    }
    let deleted = b.delete_document("papers", "from a").level(Level::All);
    let deleted = deleted.timeout(SOON).await.unwrap();
    a.at_least(&deleted, SOON).await.unwrap();
    assert_eq!(text_of(&a, "from a").await, None);
    assert_all_equal(&a, 1).await;
    assert_all_equal(&b, 1).await;
    let dropped = b.drop_collection("papers").level(Level::All).timeout(SOON);
    let dropped = dropped.await.unwrap();
    a.at_least(&dropped, SOON).await.unwrap();
    assert!(a.collections().is_empty() && b.collections().is_empty());
    write(&a, "again", "three").await;
    b.close(SOON).await.unwrap();
    a.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_managers_write_and_see_each_others_writes() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    both_write_and_see(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_with_the_relational_store_beside_the_journal() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    both_write_and_see(world.with_relational_on_server()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_of_the_same_ids_leave_all_stores_equal() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    let writers = (0..16).map(|writer| {
        let db = [a.clone(), b.clone()][writer % 2].clone();
        async move {
            let mut newest = Vec::new();
            for number in 0..25 {
                let id = format!("document {number}");
                let receipt = write(&db, &id, &format!("writer {writer}")).await;
                newest.push((id, receipt.version, writer));
            }
            newest
        }
    });
    let mut all: Vec<_> = join_all(writers).await.into_iter().flatten().collect();
    all.sort();
    let mut newest = std::collections::BTreeMap::new();
    for (id, version, writer) in all {
        newest.insert(id, (version, writer));
    }
    let last = newest.values().map(|(version, _)| *version).max().unwrap();
    for db in [&a, &b] {
        let db = db.at_least(last, SOON).await.unwrap();
        for (id, (version, writer)) in &newest {
            let found = db.get_document("papers", id).await.unwrap().unwrap();
            assert_eq!(found.version, *version, "{id}");
            assert_eq!(found.document.text, format!("writer {writer}"));
        }
        assert_all_equal(db, 25).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preconditions_and_keys_hold_over_managers() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    for round in 0..20 {
        let id = format!("round {round}");
        let create = |db: &DatabaseManager| {
            db.store_document("papers", Document::new(&id))
                .precondition(Precondition::Absent)
                .timeout(SOON)
                .into_future()
        };
        let (first, second) = tokio::join!(create(&a), create(&b));
        let won = [&first, &second].into_iter().filter(|r| r.is_ok()).count();
        assert_eq!(won, 1, "{first:?} {second:?}");
        let lost = first.as_ref().err().or(second.as_ref().err()).unwrap();
        assert_eq!(lost.kind(), ErrorKind::PreconditionFailed);
        let keyed = |db: &DatabaseManager| {
            db.store_document("papers", Document::new("keyed").text(&id))
                .idempotency_key(&id)
                .timeout(SOON)
                .into_future()
        };
        let (first, second) = tokio::join!(keyed(&a), keyed(&b));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.version, second.version, "one effect, one receipt");
        assert_eq!(first.operation_id, second.operation_id);
        // What was truncated meanwhile, and what is not followed yet, is known all the same.
        let stale = b
            .store_document("papers", Document::new("keyed").text("other"))
            .precondition(Precondition::Version(first.version))
            .timeout(SOON);
        let newer = stale.await.unwrap();
        let again = a
            .store_document("papers", Document::new("keyed").text("stale"))
            .precondition(Precondition::Version(first.version))
            .timeout(SOON);
        assert_eq!(
            again.await.unwrap_err().kind(),
            ErrorKind::PreconditionFailed
        );
        assert!(newer.version > first.version);
    }
    let status = b.status(dbmanager::model::OperationId::from_u128(0)).await;
    assert!(status.is_ok(), "{status:?}");
}

/// The backup is the authority from then on, for preconditions as for reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preconditions_are_judged_by_an_adopted_backup() {
    let Some(mut world) = World::new(LEASE) else {
        return;
    };
    let db = world.open().await;
    let write = async |db: &DatabaseManager, id: &str| {
        let stored = db.store_document("papers", Document::new(id));
        stored.level(Level::All).await.unwrap().version
    };
    let backed_up = write(&db, "old").await;
    let nothing_pending = async |db: &DatabaseManager| {
        until("the journal has let go of all", async || {
            db.health().journal.entries == 0
        })
        .await;
    };
    nothing_pending(&db).await;
    db.close(SOON).await.unwrap();
    let backup = world.store(Role::Relational).copy();
    let db = world.open().await;
    write(&db, "old").await;
    write(&db, "new").await;
    nothing_pending(&db).await;
    db.close(SOON).await.unwrap();

    world.set_store(Role::Relational, backup);
    let db = world.builder(world.config()).adopt().open().await.unwrap();
    let on = |id, precondition| {
        let stored = db.store_document("papers", Document::new(id));
        stored.precondition(precondition).timeout(SOON)
    };
    assert_eq!(db.get_document("papers", "new").await.unwrap(), None);
    on("new", Precondition::Absent).await.unwrap();
    let held = db.get_document("papers", "old").await.unwrap().unwrap();
    assert_eq!(held.version, backed_up);
    on("old", Precondition::Version(backed_up)).await.unwrap();
}

/// A receipt travels faster than what it tells of: nothing is reached that was not seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_another_manager_is_waited_for_before_it_is_seen() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    for n in 0..50 {
        let document = Document::new(n.to_string()).text("one");
        let journaled = b
            .store_document(format!("papers {n}"), document)
            .level(Level::Journaled);
        let receipt = journaled.await.unwrap();
        a.wait_for(&receipt, Level::All, SOON).await.unwrap();
        let status = a.status(receipt.operation_id).await.unwrap();
        assert_eq!(status, OperationStatus::Done(receipt.version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_sender_rebuilds_and_says_who_it_is() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    write(&b, "p", "text").await;
    for refused in [
        b.rebuild(Role::Vector).await.map(drop),
        b.remove_store(Role::Vector).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSender);
        assert!(error.to_string().contains("process"), "{error}");
    }
    a.rebuild(Role::Vector).await.unwrap();
    write(&b, "q", "text").await;
    until("the other follows the roster", async || {
        let found = b.search_documents("papers", Query::semantic("text")).await;
        found.is_ok_and(|found| found.hits.len() == 2 && !found.degraded())
    })
    .await;
    assert_all_equal(&b, 2).await;
    let health = b.health_check().await;
    assert_eq!(
        health.status,
        dbmanager::health::HealthStatus::Healthy,
        "{health:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_keeps_its_lease_through_rebuilds() {
    // Renewed a few times meanwhile, and not lost when a busy server takes seconds to commit.
    let lease = Duration::from_secs(20);
    let Some(world) = World::new(lease) else {
        return;
    };
    let (a, b) = (world.open().await, world.open().await);
    let sharing = |db: &DatabaseManager| db.health().journal.sharing.unwrap();
    let before = sharing(&b);
    let mut rebuilt = 0;
    let started = Instant::now();
    while started.elapsed() < lease / 2 {
        for role in [Role::Vector, Role::Graph] {
            let document = Document::new(format!("d{rebuilt}")).text("text");
            let (copied, written) = tokio::join!(
                a.rebuild(role),
                b.store_document("papers", document).timeout(SOON)
            );
            copied.unwrap();
            written.unwrap();
            rebuilt += 1;
            assert!(sends(&a) && !sends(&b), "after {rebuilt} rebuilds");
        }
    }
    // One that had stood down meanwhile would have raised it once more.
    let epoch = before.epoch + rebuilt;
    until("the other follows the epoch", async || {
        sharing(&b).epoch == epoch
    })
    .await;
    assert_eq!(sharing(&a).epoch, epoch);
    assert_eq!(sharing(&b).sender, before.sender, "the sender");
    assert_all_equal(&b, rebuilt).await;
    a.close(SOON).await.unwrap();
    until("the other sends", async || sends(&b)).await;
    write(&b, "last", "text").await;
    assert!(sharing(&b).epoch > epoch);
    assert_all_equal(&b, rebuilt + 1).await;
}

/// The drop was appended, done and let go of while it stood still: no change tells of it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stood_still_learns_that_a_collection_was_dropped_meanwhile() {
    let Some(world) = World::new(LEASE) else {
        return;
    };
    let a = world.open().await;
    let b = Instance::open(&world).await;
    let first = write(&a, "from a", "one").await;
    b.db().at_least(&first, SOON).await.unwrap();
    assert_eq!(b.db().collections().len(), 1);
    b.pause(Duration::from_secs(8));
    let dropped = a.drop_collection("papers").level(Level::All).timeout(SOON);
    dropped.await.unwrap();
    until("the journal lets go", async || {
        a.health().journal.entries == 0
    })
    .await;
    assert_eq!(b.db().collections().len(), 1, "it stands still");
    until("it learns of the drop", async || {
        b.db().collections().is_empty()
    })
    .await;
    write(b.db(), "from b", "two").await;
    assert_all_equal(&a, 1).await;
}
