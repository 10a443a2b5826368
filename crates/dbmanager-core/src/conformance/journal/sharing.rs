//! Several openings at the same time: what one does, the others see, whole and in order.

use std::sync::Arc;

use super::{
    super::trial::{CaseResult, Failure},
    bench::{Bench, Fixture, accepted_as, append_one, kind, new_entry, shared, truncation},
    records::{parked, store},
};
use crate::{
    backend::Head,
    journal::{
        AppendRequest, Appended, Change, Changes, Confirmation, Journal, JournalErrorKind,
        OperationLookup, PreconditionRequest, SharedChange,
    },
    model::{CollectionOptions, Precondition, StoreId, Version},
};

/// Everything above a change, read in steps of `limit`.
async fn follow(
    journal: &Arc<dyn Journal>,
    mut after: u64,
    limit: usize,
) -> CaseResult<Vec<(u64, SharedChange)>> {
    let mut found = Vec::new();
    loop {
        let Changes::Next(changes) = shared(journal)?.changes(after, limit).await? else {
            return Err(Failure::new("changes are no longer kept".to_owned()));
        };
        ensure!(
            changes.len() <= limit,
            "{} changes for {limit}",
            changes.len()
        );
        let Some((last, _)) = changes.last() else {
            return Ok(found);
        };
        after = *last;
        found.extend(changes);
    }
}

pub(super) async fn openings_see_each_others_writes(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    ensure_eq!(other.journal_id(), f.journal.journal_id(), "journal id");
    let first = f.accepted(f.keyed("a", "key", 1)).await?;
    let repeated = append_one(other.as_ref(), f.keyed("a", "key", 1)).await?;
    ensure_eq!(
        repeated,
        Appended::Repeated(accepted_as(&first, true)),
        "the key"
    );
    let absent = f.conditional("a", Precondition::Absent);
    let expected = Some(JournalErrorKind::PreconditionFailed(Some(first.version)));
    ensure_eq!(
        kind(append_one(other.as_ref(), absent).await),
        expected,
        "the precondition"
    );
    let lookup = other.operation(first.operation_id).await?;
    ensure_eq!(lookup, accepted_as(&first, true), "the operation");
    let second = new_entry(append_one(other.as_ref(), f.upsert("b")).await)?;
    ensure!(
        second.version > first.version,
        "versions rise over openings"
    );
    let refused = f.upsert("c");
    let lookup = other.refuse_operation(refused.operation_id).await?;
    ensure_eq!(lookup, OperationLookup::Refused, "refused elsewhere");
    let late = f.append_one(refused).await;
    ensure_eq!(
        kind(late),
        Some(JournalErrorKind::OperationIdUsed),
        "a late append"
    );
    let options = CollectionOptions::new();
    let (books, new) = other.create_collection("books", options.clone()).await?;
    ensure!(new, "a collection made elsewhere");
    let found = f.journal.create_collection("books", options).await?;
    ensure_eq!(found, (books, false), "the collection");
    let drop_collection = f.request("", Change::DropCollection);
    new_entry(append_one(other.as_ref(), drop_collection).await)?;
    let gone = f.append_one(f.upsert("d")).await;
    ensure_eq!(
        kind(gone),
        Some(JournalErrorKind::CollectionNotFound),
        "dropped elsewhere"
    );
    Ok(())
}

/// What the authority held when it was asked may be older than what was let go of since then.
pub(super) async fn preconditions_know_what_another_opening_let_go_of(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let old = f.accepted(f.upsert("a")).await?.version;
    f.truncate(&[old]).await?;
    let new = f.accepted(f.upsert("a")).await?.version;
    f.truncate(&[new]).await?;
    let stale = |precondition| AppendRequest {
        precondition: Some(PreconditionRequest {
            precondition,
            known: Some(Head {
                version: old,
                deleted: false,
            }),
        }),
        ..f.upsert("a")
    };
    let matching_old = stale(Precondition::Version(old));
    ensure_eq!(
        kind(append_one(other.as_ref(), matching_old).await),
        Some(JournalErrorKind::PreconditionFailed(Some(new))),
        "the version the authority held before"
    );
    let deleted = f.accepted(f.request("a", Change::Delete)).await?.version;
    f.truncate(&[deleted]).await?;
    let matching_old = stale(Precondition::Version(old));
    ensure_eq!(
        kind(append_one(other.as_ref(), matching_old).await),
        Some(JournalErrorKind::PreconditionFailed(None)),
        "after a delete"
    );
    new_entry(append_one(other.as_ref(), stale(Precondition::Absent)).await)?;
    Ok(())
}

/// They are of an authority that is no longer there.
pub(super) async fn preconditions_know_nothing_older_than_an_adopted_authority(
    bench: Bench,
) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let backed_up = f.accepted(f.upsert("a")).await?.version;
    let lost = [
        f.accepted(f.upsert("a")).await?.version,
        f.accepted(f.upsert("b")).await?.version,
    ];
    f.truncate(&[backed_up, lost[0], lost[1]]).await?;
    let live = f.accepted(f.upsert("c")).await?.version;
    shared(&f.journal)?.authority_adopted().await?;
    let write = |id, precondition, known: Option<Version>| AppendRequest {
        precondition: Some(PreconditionRequest {
            precondition,
            known: known.map(|version| Head {
                version,
                deleted: false,
            }),
        }),
        ..f.upsert(id)
    };
    let on_backup = || write("a", Precondition::Version(backed_up), Some(backed_up));
    let again = new_entry(append_one(other.as_ref(), on_backup()).await)?;
    new_entry(append_one(other.as_ref(), write("b", Precondition::Absent, None)).await)?;
    for what in ["live when it was adopted", "let go of since"] {
        for (request, held) in [
            (on_backup(), again.version),
            (write("c", Precondition::Absent, None), live),
        ] {
            ensure_eq!(
                kind(append_one(other.as_ref(), request).await),
                Some(JournalErrorKind::PreconditionFailed(Some(held))),
                "{what}"
            );
        }
        f.truncate(&[again.version, live]).await?;
    }
    Ok(())
}

pub(super) async fn every_change_is_followed_in_order(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let before = shared(&other)?.state().await?.sequence;
    let options = CollectionOptions::new();
    let (books, _) = f.journal.create_collection("books", options).await?;
    f.journal.put_store(store(1, 0)).await?;
    let entry = f.accepted(f.upsert("a")).await?;
    let kept = f.accepted(f.upsert("b")).await?;
    let held = Confirmation::Held {
        store_id: StoreId::from_u128(1),
        versions: vec![entry.version, kept.version],
    };
    let forgotten = Confirmation::Forgotten(StoreId::from_u128(1));
    let confirmations = vec![held.clone(), forgotten.clone()];
    shared(&f.journal)?.confirm(confirmations).await?;
    let mark = parked(entry.version, 1, "refused");
    f.journal.park(mark.clone()).await?;
    let store_id = StoreId::from_u128(1);
    f.journal.unpark(entry.version, store_id).await?;
    f.journal.truncate(truncation(&[entry.version])).await?;
    shared(&f.journal)?.release().await?;
    let found = follow(&other, before, 2).await?;
    let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
    ensure!(
        numbers.is_sorted_by(|a, b| a < b),
        "numbers rise: {numbers:?}"
    );
    let changes: Vec<SharedChange> = found.into_iter().map(|(_, change)| change).collect();
    let expected = vec![
        SharedChange::Collection(books),
        SharedChange::Roster(store(1, 0)),
        SharedChange::Appended {
            // Truncated since.
            headers: Vec::new(),
            mark: entry.version,
        },
        SharedChange::Appended {
            mark: kept.version,
            headers: vec![kept],
        },
        SharedChange::Confirmed(held),
        SharedChange::Confirmed(forgotten),
        SharedChange::Parked(mark),
        SharedChange::Unparked {
            version: entry.version,
            store_id,
        },
        SharedChange::Truncated(vec![entry.version]),
        SharedChange::Sender {
            epoch: 1,
            holder: None,
        },
    ];
    ensure_eq!(changes, expected, "changes");
    Ok(())
}

async fn write_many(
    f: &Fixture,
    journal: &Arc<dyn Journal>,
    name: &str,
) -> CaseResult<Vec<Version>> {
    let mut versions = Vec::new();
    for number in 0..60 {
        let request = f.upsert(&format!("{name} {number}"));
        versions.push(new_entry(append_one(journal.as_ref(), request).await)?.version);
    }
    Ok(versions)
}

pub(super) async fn two_writers_are_followed_without_a_gap(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let (second, reader) = (f.another().await?, f.another().await?);
    let start = shared(&reader)?.state().await?.sequence;
    let reading = async {
        let mut seen: Vec<Version> = Vec::new();
        let mut after = start;
        while seen.len() < 120 {
            shared(&reader)?.wait_for_changes().await;
            for (number, change) in follow(&reader, after, 7).await? {
                after = number;
                if let SharedChange::Appended { headers, mark } = change {
                    ensure_eq!(headers.last().map(|h| h.version), Some(mark), "the mark");
                    seen.extend(headers.iter().map(|header| header.version));
                }
            }
        }
        Ok(seen)
    };
    let (first, other, seen) = tokio::join!(
        write_many(&f, &f.journal, "first"),
        write_many(&f, &second, "second"),
        reading
    );
    let mut written = first?;
    written.extend(other?);
    written.sort();
    ensure_eq!(seen?, written, "versions in the order they were followed");
    Ok(())
}

pub(super) async fn one_who_is_too_far_behind_is_told_so(mut bench: Bench) -> CaseResult {
    bench.options.changes_kept = 5;
    let f = bench.fixture().await?;
    let other = f.another().await?;
    let start = shared(&other)?.state().await?.sequence;
    let mut last = Version::ZERO;
    for number in 0..20 {
        last = f.accepted(f.upsert(&number.to_string())).await?.version;
        f.truncate(&[last]).await?;
    }
    let behind = shared(&other)?.changes(start, 100).await?;
    ensure_eq!(behind, Changes::TooFarBehind, "far behind");
    let state = shared(&other)?.state().await?;
    ensure_eq!(state.mark, last, "mark");
    ensure!(
        state.pruned >= start && state.sequence > state.pruned,
        "{state:?}"
    );
    ensure!(
        state.sequence - state.pruned >= 5,
        "the fewest that are kept: {state:?}"
    );
    let kept = follow(&other, state.pruned, 100).await?;
    let expected: Vec<u64> = (state.pruned + 1..=state.sequence).collect();
    let numbers: Vec<u64> = kept.iter().map(|(number, _)| *number).collect();
    ensure_eq!(numbers, expected, "what is kept");
    Ok(())
}
