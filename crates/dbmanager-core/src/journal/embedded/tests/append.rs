//! Groups and their syncs. What holds of every journal is in the conformance suite.

use futures_util::future::join_all;

use super::*;
use crate::journal::TruncateRequest;

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

#[tokio::test]
async fn a_group_is_bounded_by_entries_and_by_bytes() {
    let unbounded = JournalOptions::default();
    let few = JournalOptions {
        group_max_entries: 2,
        ..unbounded.clone()
    };
    let small = JournalOptions {
        group_max_bytes: 1,
        ..unbounded.clone()
    };
    for (options, groups) in [(unbounded, 1), (few, 2), (small, 3)] {
        let f = Fixture::with(options).await;
        let appends = ["a", "b", "c"].map(|id| f.accepted(f.upsert(id)));
        let syncs = f.storage.sync_count();
        join_all(appends).await;
        assert_eq!(
            f.storage.sync_count() - syncs,
            2 * groups,
            "{:?}",
            f.options
        );
    }
}

#[tokio::test]
async fn an_append_waits_for_one_truncation_at_most_and_shares_no_group_with_any() {
    let f = Fixture::new().await;
    let versions = [
        f.accepted(f.upsert("a")).await.version,
        f.accepted(f.upsert("b")).await.version,
    ];
    let order = std::sync::Mutex::new(Vec::new());
    let truncation = async |version| {
        let request = TruncateRequest {
            versions: vec![version],
            progress: Vec::new(),
        };
        f.journal.truncate(request).await.unwrap();
        order.lock().unwrap().push("truncation");
    };
    let writer = async {
        for id in ["c", "d", "e"] {
            f.accepted(f.upsert(id)).await;
            order.lock().unwrap().push("append");
        }
    };
    let syncs = f.storage.sync_count();
    tokio::join!(truncation(versions[0]), truncation(versions[1]), writer);
    let order = order.into_inner().unwrap();
    let in_turns = order.windows(2).all(|two| two.contains(&"append"));
    assert!(in_turns, "{order:?}");
    assert_eq!(f.storage.sync_count() - syncs, 2 * 5);
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
async fn a_journal_can_be_filled_to_its_last_byte() {
    let bytes = {
        let f = Fixture::new().await;
        f.accepted(f.upsert("a")).await.bytes
    };
    for (max_bytes, fits) in [(bytes, true), (bytes - 1, false)] {
        let f = Fixture::with(JournalOptions {
            max_bytes,
            ..JournalOptions::default()
        })
        .await;
        let answer = f.append_one(f.upsert("a")).await;
        assert_eq!(answer.is_ok(), fits, "{answer:?}");
    }
}
