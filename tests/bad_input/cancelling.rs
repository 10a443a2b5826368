//! A caller that goes away, at any moment.

use std::{
    future::IntoFuture,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dbmanager::prelude::*;
use dbmanager_core::model::OperationStatus;
use futures_util::FutureExt;

use crate::common::{Rig, caught_up, eventually};

fn document(id: &str) -> Document {
    Document::new(id).title("a title").text("some words")
}

fn operation(number: u64) -> OperationId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let milliseconds = u64::try_from(now.as_millis()).unwrap();
    OperationId::new_v7(milliseconds + number, [7; 10])
}

/// Polls `write` so many times, lets the others run once after each, and drops it.
async fn poll_and_drop<T>(write: impl IntoFuture<Output = T>, polls: u64) -> bool {
    let mut write = pin!(write.into_future());
    for _ in 0..polls {
        if write.as_mut().now_or_never().is_some() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Each number up to 16, then ever more.
fn ever_more() -> impl Iterator<Item = u64> {
    (0..16).chain((4..).map(|power| 1 << power))
}

/// The version an operation was given, if it was accepted.
fn version_of(status: &OperationStatus) -> Option<Version> {
    match status {
        OperationStatus::Done(version) | OperationStatus::Pending(version) => Some(*version),
        OperationStatus::NeverAccepted => None,
        other => panic!("{other:?}"),
    }
}

/// What became of the operation, asked at once and again by the next manager, which must agree.
async fn settled(
    rig: &Rig,
    db: DatabaseManager,
    operation: OperationId,
) -> (DatabaseManager, Option<Version>) {
    let at_once = db.status(operation).await.unwrap();
    // Closing waits for the append under way.
    db.close(Duration::from_secs(60)).await.unwrap();
    drop(db);
    let db = rig.open().await;
    eventually("the stores catch up", || caught_up(&db)).await;
    let later = db.status(operation).await.unwrap();
    let version = version_of(&at_once);
    assert_eq!(version, version_of(&later), "{at_once:?} became {later:?}");
    assert!(
        matches!(
            later,
            OperationStatus::Done(_) | OperationStatus::NeverAccepted
        ),
        "{later:?}"
    );
    (db, version)
}

#[tokio::test(start_paused = true)]
async fn a_store_given_up_after_any_poll_is_done_or_was_never_accepted() {
    let mut outcomes = [0, 0];
    for polls in ever_more() {
        let rig = Rig::new();
        let db = rig.open().await;
        db.store_document("c", document("earlier"))
            .level(Level::All)
            .await
            .unwrap();
        let operation = operation(polls);
        let write = db
            .store_document("c", document("a"))
            .operation_id(operation)
            .level(Level::All);
        let completed = poll_and_drop(write, polls).await;
        let (db, version) = settled(&rig, db, operation).await;
        let found = db.get_document("c", "a").await.unwrap();
        assert_eq!(found.as_ref().map(|found| found.version), version);
        assert!(found.is_none_or(|found| found.document == document("a")));
        let earlier = db.get_document("c", "earlier").await.unwrap().unwrap();
        assert_eq!(earlier.document, document("earlier"));
        let report = db.check_consistency().await.unwrap();
        assert!(report.is_consistent(), "{polls}: {report:?}");
        let documents = 1 + u64::from(version.is_some());
        assert!(report.stores.iter().all(|s| s.documents == documents));
        assert!(polls > 0 || version.is_none(), "never polled, never begun");
        outcomes[usize::from(version.is_some())] += 1;
        db.close(Duration::from_secs(60)).await.unwrap();
        if completed {
            assert!(version.is_some());
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delete_given_up_after_any_poll_is_done_or_was_never_accepted() {
    for polls in ever_more() {
        let rig = Rig::new();
        let db = rig.open().await;
        db.store_document("c", document("a"))
            .level(Level::All)
            .await
            .unwrap();
        let operation = operation(polls);
        let write = db
            .delete_document("c", "a")
            .operation_id(operation)
            .level(Level::All);
        let completed = poll_and_drop(write, polls).await;
        let (db, version) = settled(&rig, db, operation).await;
        let found = db.get_document("c", "a").await.unwrap();
        assert_eq!(found.is_none(), version.is_some());
        let report = db.check_consistency().await.unwrap();
        assert!(report.is_consistent(), "{polls}: {report:?}");
        let held = if version.is_some() { (0, 1) } else { (1, 0) };
        assert!(
            report
                .stores
                .iter()
                .all(|s| (s.documents, s.tombstones) == held)
        );
        db.close(Duration::from_secs(60)).await.unwrap();
        if completed {
            assert!(version.is_some());
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_write_given_up_after_any_poll_leaves_a_whole_collection_or_none() {
    for polls in ever_more() {
        let rig = Rig::new();
        let db = rig.open().await;
        let operation = operation(polls);
        let write = db
            .store_document("new", document("a"))
            .operation_id(operation)
            .level(Level::All);
        let completed = poll_and_drop(write, polls).await;
        let (db, version) = settled(&rig, db, operation).await;
        let found = db.get_document("new", "a").await.unwrap();
        assert_eq!(found.map(|found| found.version), version);
        assert!(version.is_none() || db.collections().len() == 1);
        assert!(db.check_consistency().await.unwrap().is_consistent());
        // Whatever became of it, the collection can be written to.
        db.store_document("new", document("b"))
            .level(Level::All)
            .await
            .unwrap();
        assert!(db.check_consistency().await.unwrap().is_consistent());
        db.close(Duration::from_secs(60)).await.unwrap();
        if completed {
            break;
        }
    }
}
