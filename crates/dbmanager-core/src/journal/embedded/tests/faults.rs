//! Storage that fails, and a disk that is full.

use super::*;
use crate::journal::{JournalState, ParkedEntry, TruncateRequest};
use crate::model::StoreId;

async fn assert_read_only(f: &Fixture, expected: &[Version]) {
    assert!(
        matches!(f.journal.health().state, JournalState::ReadOnly(_)),
        "{:?}",
        f.journal.health()
    );
    assert_eq!(
        kind_of(f.append_one(f.upsert("later")).await),
        JournalErrorKind::ReadOnly
    );
    let parked = ParkedEntry {
        version: Version::from_u64(1),
        store_id: StoreId::from_u128(1),
        error: String::new(),
    };
    assert_eq!(
        kind_of(f.journal.park(parked).await),
        JournalErrorKind::ReadOnly
    );
    assert_eq!(
        f.live_versions().await,
        expected,
        "what was committed can still be read"
    );
}

#[tokio::test]
async fn after_a_failed_sync_waiters_are_indeterminate_and_the_journal_read_only() {
    for syncs in [0, 1] {
        let mut f = Fixture::new().await;
        let kept = f.accepted(f.upsert("kept")).await.version;
        f.storage.fail_syncs_after(syncs);
        let first = f.append_one(f.upsert("a"));
        let second = f.append_one(f.upsert("b"));
        let (first, second) = tokio::join!(first, second);
        assert_eq!(kind_of(first), JournalErrorKind::Indeterminate);
        assert_eq!(kind_of(second), JournalErrorKind::Indeterminate);
        assert_eq!(f.journal.mark(), kept);
        // Healing the disk changes nothing: what an unsuccessful sync left is not known.
        f.storage.heal();
        assert_read_only(&f, &[kept]).await;
        f.reopen().await;
        assert_eq!(f.journal.health().state, JournalState::Writable);
        let versions = f.live_versions().await;
        assert_eq!(versions[0], kept);
        assert!([1, 3].contains(&versions.len()), "{versions:?}");
        let next = f.accepted(f.upsert("c")).await.version;
        assert!(versions.iter().all(|version| *version < next));
    }
}

#[tokio::test]
async fn after_a_failed_write_the_journal_is_read_only() {
    let mut f = Fixture::new().await;
    let kept = f.accepted(f.upsert("kept")).await.version;
    f.storage.fail_writes_after(2);
    assert_eq!(
        kind_of(f.append_one(f.upsert("a")).await),
        JournalErrorKind::Indeterminate
    );
    f.storage.heal();
    assert_read_only(&f, &[kept]).await;
    f.reopen().await;
    assert_eq!(f.live_versions().await, [kept]);
    f.accepted(f.upsert("b")).await;
}

#[tokio::test]
async fn a_full_disk_leaves_room_to_truncate() {
    const RESERVE: u64 = 1 << 20;
    let storage = MemoryStorage::crashable();
    storage.set_reserve(RESERVE);
    let mut f = Fixture::on(storage, JournalOptions::default()).await;
    f.storage.set_capacity(4 << 20);
    let mut acknowledged = Vec::new();
    let large = "x".repeat(20_000);
    let failed = loop {
        let request = f.request("a", Change::Upsert(record("a", &large)));
        match f.append_one(request).await {
            Ok(Appended::New(header)) => acknowledged.push(header.version),
            other => break other,
        }
        assert!(acknowledged.len() < 1_000, "the disk never fills up");
    };
    assert_eq!(kind_of(failed), JournalErrorKind::Indeterminate);
    assert_read_only(&f, &acknowledged).await;

    // Every opening finds the disk full; none may use the reserve up.
    for _ in 0..3 {
        f.reopen().await;
        assert_eq!(f.journal.health().state, JournalState::Full);
        assert_eq!(
            kind_of(f.append_one(f.upsert("b")).await),
            JournalErrorKind::Full
        );
    }
    let live = f.live_versions().await;
    assert!(live.starts_with(&acknowledged));
    let request = TruncateRequest {
        versions: live[..live.len() / 2].to_vec(),
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
    assert_eq!(f.live_versions().await, live[live.len() / 2..]);
    assert_eq!(f.journal.health().state, JournalState::Writable);
    let request = f.request("a", Change::Upsert(record("a", &large)));
    f.accepted(request).await;
}

#[tokio::test]
async fn a_disk_with_room_again_takes_writes_at_the_next_opening() {
    let storage = MemoryStorage::crashable();
    storage.set_reserve(1 << 20);
    let mut f = Fixture::on(storage, JournalOptions::default()).await;
    f.storage.set_capacity(2 << 20);
    let large = "x".repeat(100_000);
    while f
        .append_one(f.request("a", Change::Upsert(record("a", &large))))
        .await
        .is_ok()
    {}
    f.reopen().await;
    assert_eq!(f.journal.health().state, JournalState::Full);
    f.storage.set_capacity(64 << 20);
    f.reopen().await;
    assert_eq!(f.journal.health().state, JournalState::Writable);
}

#[tokio::test]
async fn a_closed_journal_refuses_and_can_be_closed_again() {
    let f = Fixture::new().await;
    let under_way = f.append_one(f.upsert("a"));
    let (appended, closed) = tokio::join!(under_way, f.journal.close());
    closed.unwrap();
    assert!(appended.is_ok(), "the group under way came to its end");
    assert_eq!(
        kind_of(f.append_one(f.upsert("b")).await),
        JournalErrorKind::Closed
    );
    assert_eq!(
        kind_of(f.journal.live_entries(Version::ZERO, 1).await),
        JournalErrorKind::Closed
    );
    assert_eq!(f.journal.health().state, JournalState::Closed);
    f.journal.close().await.unwrap();
}

#[tokio::test]
async fn the_storage_is_held_until_the_last_job_ended() {
    let f = Fixture::new().await;
    assert_eq!(
        kind_of(open(&f.storage, &f.options, &f.clock).await),
        JournalErrorKind::Locked
    );
    // A caller who gives up and a handle that is dropped: the append ends, then the hold.
    let request = f.upsert("a");
    {
        let append = f.journal.append(vec![request]);
        let mut append = std::pin::pin!(append);
        assert!(futures_util::poll!(append.as_mut()).is_pending());
    }
    drop(f.journal);
    let journal = loop {
        match open(&f.storage, &f.options, &f.clock).await {
            Ok(journal) => break journal,
            Err(error) => assert_eq!(error.kind(), &JournalErrorKind::Locked),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(live_versions(&journal).await.len(), 1);
}

/// A runtime that ends in the middle answers those who wait; nobody hangs.
#[test]
fn a_runtime_that_ends_leaves_no_caller_waiting() {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (build(), build());
    let f = first.block_on(Fixture::new());
    drop(first);
    let answer = second.block_on(f.append_one(f.upsert("a")));
    assert!([JournalErrorKind::Indeterminate, JournalErrorKind::Closed].contains(&kind_of(answer)));
}
