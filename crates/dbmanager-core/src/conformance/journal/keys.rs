//! Idempotency keys.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    super::trial::{CaseResult, Failure},
    bench::{Bench, accepted_as, kind},
};
use crate::{
    journal::{AppendRequest, Appended, JournalErrorKind},
    model::{CollectionOptions, Precondition, Version},
};

pub(super) async fn a_key_repeats_the_same_input_and_refuses_another(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let first = f.accepted(f.keyed("a", "key", 1)).await?;
    for live in [true, false] {
        f.reopen().await?;
        let repeated = f.append_one(f.keyed("a", "key", 1)).await?;
        ensure_eq!(
            repeated,
            Appended::Repeated(accepted_as(&first, live)),
            "same input"
        );
        let other = f.append_one(f.keyed("a", "key", 2)).await;
        ensure_eq!(
            kind(other),
            Some(JournalErrorKind::IdempotencyConflict),
            "other input"
        );
        let known = f.journal.idempotency_key("papers", "key").await?;
        ensure_eq!(known, Some(([1; 32], accepted_as(&first, live))), "the key");
        f.truncate(&[first.version]).await?;
    }
    for (collection, key) in [("papers", "other"), ("books", "key")] {
        let known = f.journal.idempotency_key(collection, key).await?;
        ensure_eq!(known, None, "{key} of {collection}");
    }
    Ok(())
}

pub(super) async fn keys_of_different_collections_are_different(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    f.accepted(f.keyed("a", "key", 1)).await?;
    let options = CollectionOptions::new();
    let (other, _) = f.journal.create_collection("books", options).await?;
    f.collection = other.key;
    f.accepted(f.keyed("a", "key", 2)).await?;
    Ok(())
}

pub(super) async fn within_a_group_the_second_of_a_key_repeats_the_first(
    bench: Bench,
) -> CaseResult {
    let f = bench.fixture().await?;
    let requests = vec![
        f.keyed("a", "key", 1),
        f.keyed("a", "key", 1),
        f.keyed("a", "key", 2),
    ];
    let answers = f.journal.append(requests).await;
    let [Ok(Appended::New(first)), second, third] = &answers[..] else {
        return Err(Failure::new(format!("{answers:?}")));
    };
    let repeated = Appended::Repeated(accepted_as(first, true));
    ensure_eq!(second.as_ref().ok(), Some(&repeated), "the second");
    let conflict = JournalErrorKind::IdempotencyConflict;
    ensure_eq!(
        third.as_ref().err().map(|e| e.kind()),
        Some(&conflict),
        "the third"
    );
    Ok(())
}

pub(super) async fn a_refused_write_does_not_use_its_key_up(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let refused = AppendRequest {
        idempotency_key: f.keyed("a", "key", 1).idempotency_key,
        ..f.conditional("a", Precondition::Version(Version::from_u64(1)))
    };
    let expected = Some(JournalErrorKind::PreconditionFailed(None));
    ensure_eq!(
        kind(f.append_one(refused).await),
        expected,
        "the refused write"
    );
    f.accepted(f.keyed("a", "key", 2)).await?;
    Ok(())
}

pub(super) async fn of_concurrent_uses_of_a_key_one_writes(bench: Bench) -> CaseResult {
    let f = Arc::new(bench.fixture().await?);
    let writers = (0..32).map(|_| {
        let f = Arc::clone(&f);
        let request = f.keyed("a", "key", 1);
        async move { f.append_one(request).await }
    });
    let mut new = Vec::new();
    let mut repeated = Vec::new();
    for answer in join_all(writers).await {
        match answer? {
            Appended::New(header) => new.push(header),
            Appended::Repeated(lookup) => repeated.push(lookup),
        }
    }
    ensure_eq!(new.len(), 1, "new entries");
    let expected = vec![accepted_as(&new[0], true); 31];
    ensure_eq!(repeated, expected, "repetitions");
    Ok(())
}
