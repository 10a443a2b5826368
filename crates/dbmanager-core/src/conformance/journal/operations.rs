//! Operation ids, and how long they are remembered.

use std::sync::Arc;

use super::{
    super::trial::CaseResult,
    bench::{Bench, HOUR, START, accepted_as, kind, operation_at},
};
use crate::journal::{AppendRequest, Appended, JournalErrorKind, OperationLookup};

const USED: Option<JournalErrorKind> = Some(JournalErrorKind::OperationIdUsed);

pub(super) async fn an_operation_id_is_used_once(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    let twice = f.journal.append(vec![
        request,
        AppendRequest {
            operation_id,
            ..f.upsert("b")
        },
    ]);
    let mut answers = twice.await;
    ensure_eq!(answers.pop().and_then(kind), USED, "within one group");
    let header = super::bench::new_entry(answers.remove(0))?;
    for live in [true, false] {
        let again = AppendRequest {
            operation_id,
            ..f.upsert("b")
        };
        ensure_eq!(kind(f.append_one(again).await), USED, "again, live: {live}");
        let expected = accepted_as(&header, live);
        ensure_eq!(
            f.journal.operation(operation_id).await?,
            expected,
            "the record"
        );
        ensure_eq!(
            f.journal.refuse_operation(operation_id).await?,
            expected,
            "an accepted operation cannot be refused any more"
        );
        f.truncate(&[header.version]).await?;
        f.reopen().await?;
    }
    Ok(())
}

pub(super) async fn a_refused_operation_stays_refused(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    let lookup = f.journal.operation(operation_id).await?;
    ensure_eq!(lookup, OperationLookup::Unknown, "before");
    for _ in 0..2 {
        let lookup = f.journal.refuse_operation(operation_id).await?;
        ensure_eq!(lookup, OperationLookup::Refused, "refused");
        ensure_eq!(
            kind(f.append_one(request.clone()).await),
            USED,
            "a late append"
        );
        f.reopen().await?;
        let lookup = f.journal.operation(operation_id).await?;
        ensure_eq!(lookup, OperationLookup::Refused, "after reopening");
    }
    Ok(())
}

pub(super) async fn refusing_and_appending_never_both_succeed(bench: Bench) -> CaseResult {
    let f = Arc::new(bench.fixture().await?);
    for round in 0..50 {
        let request = f.upsert("a");
        let operation_id = request.operation_id;
        let appending = {
            let f = Arc::clone(&f);
            async move { f.append_one(request).await }
        };
        let refusing = f.journal.refuse_operation(operation_id);
        let (refused, appended) = if round % 2 == 0 {
            tokio::join!(refusing, appending)
        } else {
            let (appended, refused) = tokio::join!(appending, refusing);
            (refused, appended)
        };
        let refused = refused?;
        match appended {
            Ok(Appended::New(header)) => {
                ensure_eq!(refused, accepted_as(&header, true), "round {round}");
            }
            other => {
                ensure_eq!(kind(other), USED, "round {round}");
                ensure_eq!(refused, OperationLookup::Refused, "round {round}");
            }
        }
    }
    Ok(())
}

pub(super) async fn an_old_id_without_a_record_is_expired(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let edge = START - f.retention() + 1;
    for (time, expected) in [
        (edge - 1, OperationLookup::Expired),
        (edge, OperationLookup::Unknown),
    ] {
        let lookup = f.journal.operation(operation_at(time, 1)).await?;
        ensure_eq!(lookup, expected, "at {time}");
    }
    let old = operation_at(edge - 1, 1);
    let lookup = f.journal.refuse_operation(old).await?;
    ensure_eq!(lookup, OperationLookup::Expired, "refusing it");
    Ok(())
}

pub(super) async fn what_was_forgotten_stays_expired_when_the_clock_goes_back(
    bench: Bench,
) -> CaseResult {
    let mut f = bench.fixture().await?;
    let request = f.keyed("a", "key", 1);
    let header = f.accepted(request.clone()).await?;
    let refused = f.bench.runtime().new_operation_id();
    f.journal.refuse_operation(refused).await?;
    f.truncate(&[header.version]).await?;
    f.clock().advance(f.retention());
    f.truncate(&[]).await?;
    f.clock().set(START);
    f.reopen().await?;
    for operation_id in [header.operation_id, refused] {
        let lookup = f.journal.operation(operation_id).await?;
        ensure_eq!(lookup, OperationLookup::Expired, "the record");
        let late = AppendRequest {
            operation_id,
            ..request.clone()
        };
        ensure_eq!(kind(f.append_one(late).await), USED, "a late append");
    }
    let known = f.journal.idempotency_key("papers", "key").await?;
    ensure_eq!(known, None, "the key");
    Ok(())
}

pub(super) async fn an_id_that_claims_a_later_time_is_remembered_until_then(
    bench: Bench,
) -> CaseResult {
    let f = bench.fixture().await?;
    let later = AppendRequest {
        operation_id: operation_at(START + HOUR, 1),
        ..f.upsert("a")
    };
    let header = f.accepted(later).await?;
    f.truncate(&[header.version]).await?;
    f.clock().advance(f.retention());
    f.truncate(&[]).await?;
    let lookup = f.journal.operation(header.operation_id).await?;
    ensure_eq!(lookup, accepted_as(&header, false), "before its time");
    f.clock().advance(HOUR);
    f.truncate(&[]).await?;
    let lookup = f.journal.operation(header.operation_id).await?;
    ensure_eq!(lookup, OperationLookup::Expired, "after its time");
    Ok(())
}
