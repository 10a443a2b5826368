//! Versions, groups, preconditions, generations, limits.

use futures_util::future::join_all;

use super::*;
use crate::{
    backend::{DocumentState, Head},
    journal::{EntryKind, JournalState, TruncateRequest},
};

#[tokio::test]
async fn what_was_appended_reads_back_whole_and_in_order() {
    let mut f = Fixture::new().await;
    let upserted = f.accepted(f.upsert("a")).await;
    let deleted = f.accepted(f.request("b", Change::Delete)).await;
    assert_eq!(upserted.version.milliseconds(), START as u64);
    assert!(deleted.version > upserted.version);
    assert_eq!(f.journal.mark(), deleted.version);

    for _ in 0..2 {
        let headers = f.journal.live_entries(Version::ZERO, 10).await.unwrap();
        assert_eq!(headers, [upserted.clone(), deleted.clone()]);
        let above = f.journal.live_entries(upserted.version, 10).await.unwrap();
        assert_eq!(above, std::slice::from_ref(&deleted));
        assert_eq!(
            f.journal.live_entries(Version::ZERO, 1).await.unwrap(),
            std::slice::from_ref(&upserted)
        );
        let wanted = [deleted.version, Version::from_u64(1), upserted.version];
        let loaded = f.journal.load(&wanted).await.unwrap();
        assert_eq!(
            loaded[0].as_ref().unwrap().state,
            DocumentState::Deleted,
            "a tombstone has no content"
        );
        assert!(loaded[1].is_none(), "a version that was never issued");
        let entry = loaded[2].as_ref().unwrap();
        assert_eq!(entry.state, DocumentState::Live(record("a", "text")));
        assert_eq!(entry.header, upserted);
        let health = f.journal.health();
        assert_eq!(health.entries, 2);
        assert_eq!(health.bytes, upserted.bytes + deleted.bytes);
        f.reopen().await;
    }
}

#[tokio::test]
async fn versions_rise_whatever_the_clock_does() {
    let mut f = Fixture::new().await;
    let first = f.accepted(f.upsert("a")).await;
    f.clock.advance(-30 * HOUR);
    let back = f.accepted(f.upsert("a")).await;
    assert_eq!(back.version.as_u64(), first.version.as_u64() + 1);
    f.reopen().await;
    let reopened = f.accepted(f.upsert("a")).await;
    assert_eq!(reopened.version.as_u64(), first.version.as_u64() + 2);
    f.clock.set(START + 5);
    let ahead = f.accepted(f.upsert("a")).await;
    assert_eq!(ahead.version, Version::from_parts(START as u64 + 5, 0));
}

#[tokio::test]
async fn a_full_counter_carries_and_the_mark_survives_truncation() {
    let mut f = Fixture::new().await;
    let full = Version::from_parts(START as u64, u16::MAX);
    f.journal.lift_mark(full).await.unwrap();
    assert_eq!(f.journal.mark(), full);
    f.journal.lift_mark(Version::from_u64(1)).await.unwrap();
    assert_eq!(f.journal.mark(), full, "the mark never goes down");
    let carried = f.accepted(f.upsert("a")).await;
    assert_eq!(carried.version, Version::from_parts(START as u64 + 1, 0));

    let request = TruncateRequest {
        versions: vec![carried.version],
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
    f.reopen().await;
    assert_eq!(f.live_versions().await, []);
    assert_eq!(f.journal.mark(), carried.version);
    let next = f.accepted(f.upsert("a")).await;
    assert!(next.version > carried.version);
}

#[tokio::test]
async fn the_last_version_is_the_last() {
    let f = Fixture::new().await;
    f.journal.lift_mark(Version::MAX).await.unwrap();
    assert_eq!(
        kind_of(f.append_one(f.upsert("a")).await),
        JournalErrorKind::Full
    );
    let above = Version::from_u64(Version::MAX.as_u64() + 1);
    assert_eq!(
        kind_of(f.journal.lift_mark(above).await),
        JournalErrorKind::Open
    );
    assert_eq!(f.journal.mark(), Version::MAX);
}

#[tokio::test]
async fn one_bad_request_of_64_fails_alone_and_all_share_one_commit() {
    let f = Fixture::new().await;
    let mut requests: Vec<_> = (0..64).map(|n| f.upsert(&n.to_string())).collect();
    requests[17] = f.conditional("17", Precondition::Version(Version::from_u64(9)));
    let syncs = f.storage.sync_count();
    let answers = f.journal.append(requests).await;
    assert_eq!(f.storage.sync_count() - syncs, 2, "one two-phase commit");
    for (number, answer) in answers.into_iter().enumerate() {
        if number == 17 {
            assert_eq!(kind_of(answer), JournalErrorKind::PreconditionFailed(None));
        } else {
            assert!(matches!(answer, Ok(Appended::New(_))), "{number}");
        }
    }
    assert_eq!(f.live_versions().await.len(), 63);
}

#[tokio::test]
async fn a_group_that_changes_nothing_is_not_synced() {
    let f = Fixture::new().await;
    let syncs = f.storage.sync_count();
    let refused = f.conditional("a", Precondition::Version(Version::from_u64(9)));
    f.append_one(refused).await.unwrap_err();
    assert_eq!(f.storage.sync_count(), syncs);
    assert_eq!(f.journal.append(Vec::new()).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_commits_and_get_distinct_versions() {
    const WRITERS: usize = 64;
    const EACH: usize = 8;
    let f = Arc::new(Fixture::new().await);
    let syncs = f.storage.sync_count();
    let writers = (0..WRITERS).map(|writer| {
        let f = f.clone();
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for number in 0..EACH {
                let id = format!("{writer}-{number}");
                versions.push(f.accepted(f.upsert(&id)).await.version);
            }
            assert!(versions.is_sorted(), "a writer's own writes are in order");
            versions
        })
    });
    let mut versions: Vec<_> = join_all(writers)
        .await
        .into_iter()
        .flat_map(|writer| writer.unwrap())
        .collect();
    versions.sort();
    assert_eq!(f.live_versions().await, versions);
    versions.dedup();
    assert_eq!(versions.len(), WRITERS * EACH);
    let commits = (f.storage.sync_count() - syncs) / 2;
    assert!(
        commits < (WRITERS * EACH / 2) as u64,
        "{commits} commits for {} appends",
        WRITERS * EACH
    );
}

#[tokio::test]
async fn preconditions_see_earlier_requests_of_the_same_group() {
    let f = Fixture::new().await;
    let answers = f
        .journal
        .append(vec![
            f.conditional("a", Precondition::Absent),
            f.conditional("a", Precondition::Absent),
            f.request("a", Change::Delete),
            f.conditional("a", Precondition::Absent),
            f.request("never there", Change::Delete),
        ])
        .await;
    let Ok(Appended::New(first)) = &answers[0] else {
        panic!("{answers:?}");
    };
    assert_eq!(
        answers[1].as_ref().unwrap_err().kind(),
        &JournalErrorKind::PreconditionFailed(Some(first.version))
    );
    assert!(answers[2..].iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn a_precondition_on_truncated_history_asks_the_authority() {
    let mut f = Fixture::new().await;
    let written = f.accepted(f.upsert("a")).await;
    let request = TruncateRequest {
        versions: vec![written.version],
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
    f.reopen().await;
    let with_authority = |precondition| AppendRequest {
        precondition: Some(PreconditionRequest {
            precondition,
            authority: Some(Head {
                version: written.version,
                deleted: false,
            }),
        }),
        ..f.upsert("a")
    };
    assert_eq!(
        kind_of(f.append_one(with_authority(Precondition::Absent)).await),
        JournalErrorKind::PreconditionFailed(Some(written.version))
    );
    let matching = Precondition::Version(written.version);
    let newer = f.accepted(with_authority(matching)).await;
    assert_eq!(
        kind_of(f.append_one(with_authority(matching)).await),
        JournalErrorKind::PreconditionFailed(Some(newer.version)),
        "the journal is newer than the authority now"
    );
}

#[tokio::test]
async fn an_entry_of_a_group_survives_a_caller_who_gave_up() {
    let f = Fixture::new().await;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    {
        let append = f.journal.append(vec![request]);
        let mut append = std::pin::pin!(append);
        assert!(futures_util::poll!(append.as_mut()).is_pending());
    }
    // The next call is in the same or a later group.
    f.accepted(f.upsert("b")).await;
    let headers = f.journal.live_entries(Version::ZERO, 10).await.unwrap();
    assert_eq!(headers.len(), 2);
    assert!(headers.iter().any(|h| h.operation_id == operation_id));
}

#[tokio::test]
async fn the_limits_refuse_before_anything_is_written_until_truncation() {
    let options = JournalOptions {
        max_entries: 3,
        ..JournalOptions::default()
    };
    let mut f = Fixture::with(options).await;
    let requests = (0..4).map(|n| f.upsert(&n.to_string())).collect();
    let answers = f.journal.append(requests).await;
    assert!(answers[..3].iter().all(Result::is_ok));
    assert_eq!(
        answers[3].as_ref().unwrap_err().kind(),
        &JournalErrorKind::Full
    );
    assert_eq!(f.journal.health().state, JournalState::Full);
    f.reopen().await;
    assert_eq!(f.journal.health().state, JournalState::Full);
    let versions = f.live_versions().await;
    let request = TruncateRequest {
        versions: versions[..1].to_vec(),
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
    assert_eq!(f.journal.health().state, JournalState::Writable);
    f.accepted(f.upsert("5")).await;
    assert_eq!(
        kind_of(f.append_one(f.upsert("6")).await),
        JournalErrorKind::Full
    );
}

#[tokio::test]
async fn the_limit_of_bytes_counts_live_entries_only() {
    let options = JournalOptions {
        max_bytes: 2_000,
        ..JournalOptions::default()
    };
    let f = Fixture::with(options).await;
    let too_large = f.request("a", Change::Upsert(record("a", &"x".repeat(3_000))));
    assert_eq!(
        kind_of(f.append_one(too_large).await),
        JournalErrorKind::Full
    );
    assert_eq!(
        f.journal.health().state,
        JournalState::Writable,
        "an entry too large for an empty journal does not stop the others"
    );
    for _ in 0..20 {
        let request = f.request("a", Change::Upsert(record("a", &"x".repeat(1_200))));
        let header = f.accepted(request).await;
        assert_eq!(f.journal.health().bytes, header.bytes);
        assert_eq!(
            kind_of(
                f.append_one(f.request("b", Change::Upsert(record("b", &"x".repeat(1_200)))))
                    .await
            ),
            JournalErrorKind::Full
        );
        assert_eq!(f.journal.health().state, JournalState::Full);
        let request = TruncateRequest {
            versions: vec![header.version],
            progress: Vec::new(),
        };
        f.journal.truncate(request).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_generation_takes_no_more_entries() {
    let mut f = Fixture::new().await;
    f.accepted(f.upsert("a")).await;
    let drop_collection = f.request("", Change::DropCollection);
    let after = f.upsert("b");
    let answers = f.journal.append(vec![drop_collection, after]).await;
    let Ok(Appended::New(dropped)) = &answers[0] else {
        panic!("{answers:?}");
    };
    assert_eq!(dropped.kind, EntryKind::DropCollection);
    assert_eq!(
        answers[1].as_ref().unwrap_err().kind(),
        &JournalErrorKind::CollectionNotFound,
        "also within the same group"
    );
    f.reopen().await;
    assert_eq!(f.journal.collections().await.unwrap(), []);
    assert_eq!(f.live_versions().await.len(), 2, "the drop is repaired too");
    let (again, new) = f
        .journal
        .create_collection("papers", CollectionOptions::new())
        .await
        .unwrap();
    assert!(new);
    assert!(again.key.generation > f.collection.generation);
    assert_eq!(
        kind_of(f.append_one(f.upsert("b")).await),
        JournalErrorKind::CollectionChanged
    );
    f.collection = again.key;
    f.accepted(f.conditional("a", Precondition::Absent)).await;
}
