//! Limits: at each of them writes are refused, and nothing is dropped.

use super::{
    super::trial::CaseResult,
    bench::{Bench, accepted_as, kind, record},
};
use crate::journal::{Appended, Change, JournalErrorKind, JournalState, OperationLookup};

const FULL: Option<JournalErrorKind> = Some(JournalErrorKind::Full);

pub(super) async fn the_limit_of_entries_refuses_until_truncation(mut bench: Bench) -> CaseResult {
    bench.options.max_entries = 3;
    let mut f = bench.fixture().await?;
    let requests = (0..4).map(|n| f.upsert(&n.to_string())).collect();
    let mut answers = f.journal.append(requests).await;
    ensure_eq!(answers.pop().and_then(kind), FULL, "the fourth");
    ensure!(answers.iter().all(Result::is_ok), "the others: {answers:?}");
    ensure_eq!(f.journal.health().state, JournalState::Full, "state");
    f.reopen().await?;
    ensure_eq!(
        f.journal.health().state,
        JournalState::Full,
        "state after reopening"
    );
    let versions = f.live_versions().await?;
    f.truncate(&versions[..1]).await?;
    ensure_eq!(
        f.journal.health().state,
        JournalState::Writable,
        "state after truncation"
    );
    f.accepted(f.upsert("5")).await?;
    ensure_eq!(kind(f.append_one(f.upsert("6")).await), FULL, "one more");
    Ok(())
}

pub(super) async fn the_limit_of_bytes_counts_live_entries_only(mut bench: Bench) -> CaseResult {
    bench.options.max_bytes = 2_000;
    let f = bench.fixture().await?;
    let large = |id: &str, length: usize| {
        let record = record(id, &"x".repeat(length));
        f.request(id, Change::Upsert(record))
    };
    ensure_eq!(
        kind(f.append_one(large("a", 3_000)).await),
        FULL,
        "too large for any journal"
    );
    ensure_eq!(
        f.journal.health().state,
        JournalState::Writable,
        "an entry too large for an empty journal does not stop the others"
    );
    for round in 0..10 {
        let header = f.accepted(large("a", 1_200)).await?;
        ensure_eq!(
            f.journal.health().bytes,
            header.bytes,
            "bytes in round {round}"
        );
        ensure_eq!(
            kind(f.append_one(large("b", 1_200)).await),
            FULL,
            "round {round}"
        );
        ensure_eq!(
            f.journal.health().state,
            JournalState::Full,
            "state in round {round}"
        );
        f.truncate(&[header.version]).await?;
    }
    Ok(())
}

pub(super) async fn at_the_limit_new_keys_are_refused_and_none_is_forgotten_early(
    mut bench: Bench,
) -> CaseResult {
    bench.options.max_keys = 2;
    let f = bench.fixture().await?;
    let first = f.accepted(f.keyed("a", "1", 1)).await?;
    let second = f.accepted(f.keyed("a", "2", 1)).await?;
    ensure_eq!(
        kind(f.append_one(f.keyed("a", "3", 1)).await),
        FULL,
        "a third key"
    );
    f.accepted(f.upsert("a")).await?;
    ensure_eq!(f.journal.health().state, JournalState::Writable, "state");
    let again = f.append_one(f.keyed("a", "1", 1)).await?;
    ensure_eq!(
        again,
        Appended::Repeated(accepted_as(&first, true)),
        "a known key"
    );
    f.truncate(&[first.version]).await?;
    f.clock().advance(f.retention() - 1);
    let early = f.append_one(f.keyed("a", "3", 1)).await;
    ensure_eq!(kind(early), FULL, "a moment too early");
    f.clock().advance(1);
    f.accepted(f.keyed("a", "3", 1)).await?;
    let lookup = f.journal.operation(first.operation_id).await?;
    ensure_eq!(lookup, OperationLookup::Expired, "the first operation");
    let lookup = f.journal.operation(second.operation_id).await?;
    ensure_eq!(
        lookup,
        accepted_as(&second, true),
        "a live entry, however old"
    );
    Ok(())
}

pub(super) async fn at_the_limit_of_operations_writes_are_refused(mut bench: Bench) -> CaseResult {
    bench.options.max_operations = 2;
    let f = bench.fixture().await?;
    let first = f.accepted(f.upsert("a")).await?;
    let second = f.accepted(f.upsert("a")).await?;
    for (let_go, left) in [(first, 1), (second, 0)] {
        f.truncate(&[let_go.version]).await?;
        ensure_eq!(
            kind(f.append_one(f.upsert("a")).await),
            FULL,
            "a third operation with {left} entries left"
        );
        ensure_eq!(
            f.journal.health().state,
            JournalState::Full,
            "state with {left} entries left"
        );
    }
    let unknown = f.bench.runtime().new_operation_id();
    ensure_eq!(
        kind(f.journal.refuse_operation(unknown).await),
        FULL,
        "a refusal"
    );
    f.clock().advance(f.retention());
    f.accepted(f.upsert("a")).await?;
    ensure_eq!(
        f.journal.health().state,
        JournalState::Writable,
        "state when there is room again"
    );
    Ok(())
}

pub(super) async fn limits_of_zero_are_refused(mut bench: Bench) -> CaseResult {
    bench.options.max_bytes = 0;
    match bench.open_bare().await {
        Ok(_) => {
            ensure!(false, "a limit of zero was accepted");
        }
        Err(error) => {
            ensure_eq!(error.kind(), &JournalErrorKind::Open, "kind");
            ensure!(error.message().contains("max_bytes"), "{error}");
        }
    }
    Ok(())
}
