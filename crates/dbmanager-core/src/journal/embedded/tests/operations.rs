//! Operation ids, idempotency keys, and how long they are remembered.

use futures_util::future::join_all;

use super::*;
use crate::journal::{JournalState, OperationLookup, TruncateRequest};

fn accepted_as(header: &EntryHeader, live: bool) -> OperationLookup {
    OperationLookup::Accepted {
        operation_id: header.operation_id,
        version: header.version,
        collection: header.collection.clone(),
        id: header.id.clone(),
        live,
    }
}

async fn truncate(f: &Fixture, versions: &[Version]) {
    let request = TruncateRequest {
        versions: versions.to_vec(),
        progress: Vec::new(),
    };
    f.journal.truncate(request).await.unwrap();
}

/// A day with its margin, so that everything truncated before is due.
fn retention(f: &Fixture) -> i64 {
    i64::try_from(f.options.retention.as_millis()).unwrap() + 1
}

#[tokio::test]
async fn a_key_repeats_the_same_input_and_refuses_another() {
    let mut f = Fixture::new().await;
    let first = f.accepted(f.keyed("a", "key", 1)).await;
    for live in [true, false] {
        f.reopen().await;
        let repeated = f.append_one(f.keyed("a", "key", 1)).await.unwrap();
        assert_eq!(repeated, Appended::Repeated(accepted_as(&first, live)));
        assert_eq!(
            kind_of(f.append_one(f.keyed("a", "key", 2)).await),
            JournalErrorKind::IdempotencyConflict
        );
        let known = f.journal.idempotency_key("papers", "key").await.unwrap();
        assert_eq!(known, Some(([1; 32], accepted_as(&first, live))));
        truncate(&f, &[first.version]).await;
    }
    assert_eq!(
        f.journal.idempotency_key("papers", "other").await.unwrap(),
        None
    );
    assert_eq!(
        f.journal.idempotency_key("books", "key").await.unwrap(),
        None
    );
}

#[tokio::test]
async fn keys_of_different_collections_are_different() {
    let mut f = Fixture::new().await;
    f.accepted(f.keyed("a", "key", 1)).await;
    let (other, _) = f
        .journal
        .create_collection("books", CollectionOptions::new())
        .await
        .unwrap();
    f.collection = other.key;
    f.accepted(f.keyed("a", "key", 2)).await;
}

#[tokio::test]
async fn within_a_group_the_second_of_a_key_repeats_the_first() {
    let f = Fixture::new().await;
    let answers = f
        .journal
        .append(vec![f.keyed("a", "key", 1), f.keyed("a", "key", 1)])
        .await;
    let Ok(Appended::New(first)) = &answers[0] else {
        panic!("{answers:?}");
    };
    assert_eq!(
        answers[1].as_ref().unwrap(),
        &Appended::Repeated(accepted_as(first, true))
    );
}

#[tokio::test]
async fn a_refused_write_does_not_use_its_key_up() {
    let f = Fixture::new().await;
    let refused = AppendRequest {
        idempotency_key: f.keyed("a", "key", 1).idempotency_key,
        ..f.conditional("a", Precondition::Version(Version::from_u64(1)))
    };
    assert_eq!(
        kind_of(f.append_one(refused).await),
        JournalErrorKind::PreconditionFailed(None)
    );
    f.accepted(f.keyed("a", "key", 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_uses_of_a_key_one_writes() {
    let f = Arc::new(Fixture::new().await);
    let writers = (0..32).map(|_| {
        let f = f.clone();
        tokio::spawn(async move { f.append_one(f.keyed("a", "key", 1)).await.unwrap() })
    });
    let answers: Vec<_> = join_all(writers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let new: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Appended::New(header) => Some(header),
            Appended::Repeated(_) => None,
        })
        .collect();
    assert_eq!(new.len(), 1);
    let repeated = Appended::Repeated(accepted_as(new[0], true));
    assert_eq!(answers.iter().filter(|a| **a == repeated).count(), 31);
}

#[tokio::test]
async fn at_the_limit_new_keys_are_refused_and_none_is_forgotten_early() {
    let options = JournalOptions {
        max_keys: 2,
        ..JournalOptions::default()
    };
    let f = Fixture::with(options).await;
    let first = f.accepted(f.keyed("a", "1", 1)).await;
    let second = f.accepted(f.keyed("a", "2", 1)).await;
    assert_eq!(
        kind_of(f.append_one(f.keyed("a", "3", 1)).await),
        JournalErrorKind::Full
    );
    f.accepted(f.upsert("a")).await;
    assert_eq!(f.journal.health().state, JournalState::Writable);
    let again = f.append_one(f.keyed("a", "1", 1)).await.unwrap();
    assert_eq!(again, Appended::Repeated(accepted_as(&first, true)));

    truncate(&f, &[first.version]).await;
    f.clock.advance(retention(&f) - 1);
    assert_eq!(
        kind_of(f.append_one(f.keyed("a", "3", 1)).await),
        JournalErrorKind::Full,
        "a moment too early"
    );
    f.clock.advance(1);
    f.accepted(f.keyed("a", "3", 1)).await;
    let lookup = f.journal.operation(first.operation_id).await.unwrap();
    assert_eq!(lookup, OperationLookup::Expired);
    let lookup = f.journal.operation(second.operation_id).await.unwrap();
    assert_eq!(
        lookup,
        accepted_as(&second, true),
        "a live entry is never forgotten, however old"
    );
}

#[tokio::test]
async fn at_the_limit_of_operations_writes_are_refused() {
    let options = JournalOptions {
        max_operations: 2,
        ..JournalOptions::default()
    };
    let f = Fixture::with(options).await;
    let first = f.accepted(f.upsert("a")).await;
    f.accepted(f.upsert("a")).await;
    truncate(&f, &[first.version]).await;
    assert_eq!(
        kind_of(f.append_one(f.upsert("a")).await),
        JournalErrorKind::Full
    );
    assert_eq!(f.journal.health().state, JournalState::Full);
    let unknown = f.clock.runtime().new_operation_id();
    assert_eq!(
        kind_of(f.journal.refuse_operation(unknown).await),
        JournalErrorKind::Full
    );
    f.clock.advance(retention(&f));
    f.accepted(f.upsert("a")).await;
}

#[tokio::test]
async fn an_operation_id_is_used_once() {
    let mut f = Fixture::new().await;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    let header = f.accepted(request).await;
    for live in [true, false] {
        let again = AppendRequest {
            operation_id,
            ..f.upsert("b")
        };
        assert_eq!(
            kind_of(f.append_one(again).await),
            JournalErrorKind::OperationIdUsed
        );
        let expected = accepted_as(&header, live);
        assert_eq!(f.journal.operation(operation_id).await.unwrap(), expected);
        assert_eq!(
            f.journal.refuse_operation(operation_id).await.unwrap(),
            expected,
            "an accepted operation cannot be refused any more"
        );
        truncate(&f, &[header.version]).await;
        f.reopen().await;
    }
}

#[tokio::test]
async fn a_refused_operation_stays_refused() {
    let mut f = Fixture::new().await;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    let lookup = f.journal.operation(operation_id).await.unwrap();
    assert_eq!(lookup, OperationLookup::Unknown);
    for _ in 0..2 {
        let lookup = f.journal.refuse_operation(operation_id).await.unwrap();
        assert_eq!(lookup, OperationLookup::Refused);
        assert_eq!(
            kind_of(f.append_one(request.clone()).await),
            JournalErrorKind::OperationIdUsed
        );
        f.reopen().await;
        let lookup = f.journal.operation(operation_id).await.unwrap();
        assert_eq!(lookup, OperationLookup::Refused);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_and_appending_never_both_succeed() {
    let f = Arc::new(Fixture::new().await);
    for round in 0..100 {
        let request = f.upsert("a");
        let operation_id = request.operation_id;
        let appending = tokio::spawn({
            let f = f.clone();
            async move { f.append_one(request).await }
        });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let refused = f.journal.refuse_operation(operation_id).await.unwrap();
        let appended = appending.await.unwrap();
        match appended {
            Ok(Appended::New(header)) => assert_eq!(refused, accepted_as(&header, true)),
            other => {
                assert_eq!(kind_of(other), JournalErrorKind::OperationIdUsed);
                assert_eq!(refused, OperationLookup::Refused);
            }
        }
    }
}

#[tokio::test]
async fn an_old_id_without_a_record_is_expired() {
    let f = Fixture::new().await;
    let edge = START - retention(&f) + 1;
    for (time, expected) in [
        (edge - 1, OperationLookup::Expired),
        (edge, OperationLookup::Unknown),
    ] {
        let lookup = f.journal.operation(operation_at(time, 1)).await.unwrap();
        assert_eq!(lookup, expected);
    }
    let old = operation_at(edge - 1, 1);
    let lookup = f.journal.refuse_operation(old).await.unwrap();
    assert_eq!(lookup, OperationLookup::Expired);
}

#[tokio::test]
async fn what_was_forgotten_stays_expired_when_the_clock_goes_back() {
    let mut f = Fixture::new().await;
    let request = f.keyed("a", "key", 1);
    let header = f.accepted(request.clone()).await;
    let refused = f.clock.runtime().new_operation_id();
    f.journal.refuse_operation(refused).await.unwrap();
    truncate(&f, &[header.version]).await;
    f.clock.advance(retention(&f));
    truncate(&f, &[]).await;
    f.clock.set(START);
    f.reopen().await;
    for operation_id in [header.operation_id, refused] {
        let lookup = f.journal.operation(operation_id).await.unwrap();
        assert_eq!(lookup, OperationLookup::Expired);
        let late = AppendRequest {
            operation_id,
            ..request.clone()
        };
        assert_eq!(
            kind_of(f.append_one(late).await),
            JournalErrorKind::OperationIdUsed,
            "it may have been accepted or refused before"
        );
    }
    let known = f.journal.idempotency_key("papers", "key").await.unwrap();
    assert_eq!(known, None);
}

#[tokio::test]
async fn an_id_that_claims_a_later_time_is_remembered_until_then() {
    let f = Fixture::new().await;
    let later = AppendRequest {
        operation_id: operation_at(START + HOUR, 1),
        ..f.upsert("a")
    };
    let header = f.accepted(later).await;
    truncate(&f, &[header.version]).await;
    f.clock.advance(retention(&f));
    truncate(&f, &[]).await;
    let lookup = f.journal.operation(header.operation_id).await.unwrap();
    assert_eq!(lookup, accepted_as(&header, false));
    f.clock.advance(HOUR);
    truncate(&f, &[]).await;
    let lookup = f.journal.operation(header.operation_id).await.unwrap();
    assert_eq!(lookup, OperationLookup::Expired);
}

#[tokio::test]
async fn forgetting_takes_bounded_steps() {
    const COUNT: usize = 600;
    let f = Fixture::new().await;
    let requests = (0..COUNT).map(|_| f.upsert("a")).collect();
    let mut operations = Vec::new();
    for answer in f.journal.append(requests).await {
        match answer.unwrap() {
            Appended::New(header) => operations.push(header.operation_id),
            Appended::Repeated(_) => panic!("nothing has a key"),
        }
    }
    truncate(&f, &f.live_versions().await).await;
    f.clock.advance(retention(&f));
    let kept = async || {
        let tables = f
            .journal
            .engine
            .read(|tables| Ok((tables.operations.count()?, tables.expiry.count()?)));
        tables.await.unwrap()
    };
    for left in [600, 344, 88, 0] {
        assert_eq!(kept().await, (left, left));
        truncate(&f, &[]).await;
    }
}
