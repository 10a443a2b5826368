//! Versions, groups, preconditions, generations.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;

use super::{
    super::trial::{CaseResult, Failure},
    bench::{Bench, Fixture, HOUR, START, kind, record},
};
use crate::{
    backend::{DocumentState, Head},
    journal::{
        AppendRequest, Appended, Change, Entry, EntryKind, JournalErrorKind, PreconditionRequest,
    },
    model::{CollectionOptions, Precondition, Version},
};

pub(super) async fn what_was_appended_reads_back_whole_and_in_order(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let upserted = f.accepted(f.upsert("a")).await?;
    let deleted = f.accepted(f.request("b", Change::Delete)).await?;
    ensure_eq!(
        upserted.version.milliseconds(),
        START as u64,
        "the time in the version"
    );
    ensure!(deleted.version > upserted.version, "versions must rise");
    ensure_eq!(f.journal.mark(), deleted.version, "mark");
    for _ in 0..2 {
        let headers = f.journal.live_entries(Version::ZERO, 10).await?;
        ensure_eq!(headers, [upserted.clone(), deleted.clone()], "live entries");
        let above = f.journal.live_entries(upserted.version, 10).await?;
        ensure_eq!(
            above,
            std::slice::from_ref(&deleted),
            "entries above the first"
        );
        let first = f.journal.live_entries(Version::ZERO, 1).await?;
        ensure_eq!(first, std::slice::from_ref(&upserted), "one entry");
        let none = f.journal.live_entries(Version::MAX, 1).await?;
        ensure_eq!(none, [], "entries above the last version");
        let wanted = [deleted.version, Version::from_u64(1), upserted.version];
        let loaded = f.journal.load(&wanted).await?;
        ensure_eq!(loaded.len(), 3, "entries loaded");
        ensure_eq!(
            loaded[0].as_ref().map(|entry| &entry.state),
            Some(&DocumentState::Deleted),
            "a tombstone"
        );
        ensure!(loaded[1].is_none(), "a version that was never issued");
        let entry = loaded[2].as_ref();
        let state = DocumentState::Live(record("a", "text"));
        ensure_eq!(
            entry.map(|entry| &entry.state),
            Some(&state),
            "the document"
        );
        ensure_eq!(
            entry.map(|entry| &entry.header),
            Some(&upserted),
            "its header"
        );
        let health = f.journal.health();
        ensure_eq!(health.entries, 2, "entries in health");
        ensure_eq!(
            health.bytes,
            upserted.bytes + deleted.bytes,
            "bytes in health"
        );
        f.reopen().await?;
    }
    Ok(())
}

pub(super) async fn entries_are_loaded_by_any_versions_in_any_order(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let mut expected = BTreeMap::new();
    for number in 0..64 {
        let id = number.to_string();
        let (change, state) = match number % 3 {
            0 => (Change::Delete, DocumentState::Deleted),
            _ => {
                let record = record(&id, "text");
                let state = DocumentState::Live(Arc::clone(&record));
                (Change::Upsert(record), state)
            }
        };
        let header = f.accepted(f.request(&id, change)).await?;
        expected.insert(header.version, Entry { header, state });
    }
    // Gaps of one entry, of several, and of more than half of them.
    let all: Vec<Version> = expected.keys().copied().collect();
    let gone = [&all[3..4], &all[6..9], &all[12..50]].concat();
    f.truncate(&gone).await?;
    for version in &gone {
        expected.remove(version);
    }
    let next = Version::from_u64(f.journal.mark().as_u64() + 1);
    let strides = [1, 5, 7, 37, 63];
    for stride in strides {
        // Each of them once and the first twice, among versions that are not there.
        let mut wanted: Vec<Version> = (0..=64).map(|step| all[step * stride % 64]).collect();
        wanted.insert(20, next);
        wanted.insert(40, Version::from_u64(1));
        let loaded = f.journal.load(&wanted).await?;
        let known: Vec<_> = wanted
            .iter()
            .map(|version| expected.get(version).cloned())
            .collect();
        ensure_eq!(loaded, known, "entries loaded in steps of {stride}");
        // A few of many.
        let few = &wanted[..2];
        let loaded = f.journal.load(few).await?;
        ensure_eq!(loaded, known[..2], "two entries loaded");
    }
    ensure_eq!(f.journal.load(&[]).await?, [], "no entries loaded");
    Ok(())
}

pub(super) async fn versions_rise_whatever_the_clock_does(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    let first = f.accepted(f.upsert("a")).await?;
    f.clock().advance(-30 * HOUR);
    let back = f.accepted(f.upsert("a")).await?;
    ensure_eq!(
        back.version.as_u64(),
        first.version.as_u64() + 1,
        "after the clock went back"
    );
    f.reopen().await?;
    let reopened = f.accepted(f.upsert("a")).await?;
    ensure_eq!(
        reopened.version.as_u64(),
        first.version.as_u64() + 2,
        "after reopening"
    );
    f.clock().set(START + 5);
    let ahead = f.accepted(f.upsert("a")).await?;
    ensure_eq!(
        ahead.version,
        Version::from_parts(START as u64 + 5, 0),
        "after the clock"
    );
    Ok(())
}

pub(super) async fn a_full_counter_carries_and_the_mark_survives_truncation(
    bench: Bench,
) -> CaseResult {
    let mut f = bench.fixture().await?;
    let full = Version::from_parts(START as u64, u16::MAX);
    f.journal.lift_mark(full).await?;
    ensure_eq!(f.journal.mark(), full, "the mark that was lifted");
    f.journal.lift_mark(Version::from_u64(1)).await?;
    ensure_eq!(f.journal.mark(), full, "the mark never goes down");
    let carried = f.accepted(f.upsert("a")).await?;
    ensure_eq!(
        carried.version,
        Version::from_parts(START as u64 + 1, 0),
        "the carry"
    );
    f.truncate(&[carried.version]).await?;
    f.reopen().await?;
    ensure_eq!(f.live_versions().await?, [], "what is left");
    ensure_eq!(
        f.journal.mark(),
        carried.version,
        "the mark after truncation"
    );
    let next = f.accepted(f.upsert("a")).await?;
    ensure!(next.version > carried.version, "the next version is higher");
    Ok(())
}

pub(super) async fn the_last_version_is_the_last(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    f.journal.lift_mark(Version::MAX).await?;
    let appended = f.append_one(f.upsert("a")).await;
    ensure_eq!(
        kind(appended),
        Some(JournalErrorKind::Full),
        "an append after the last version"
    );
    let above = Version::from_u64(Version::MAX.as_u64() + 1);
    let lifted = f.journal.lift_mark(above).await;
    ensure_eq!(
        kind(lifted),
        Some(JournalErrorKind::Open),
        "a mark above the last version"
    );
    ensure_eq!(f.journal.mark(), Version::MAX, "the mark");
    Ok(())
}

pub(super) async fn one_bad_request_of_64_fails_alone(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let mut requests: Vec<_> = (0..64).map(|n| f.upsert(&n.to_string())).collect();
    requests[17] = f.conditional("17", Precondition::Version(Version::from_u64(9)));
    let answers = f.journal.append(requests).await;
    ensure_eq!(answers.len(), 64, "answers");
    for (number, answer) in answers.into_iter().enumerate() {
        if number == 17 {
            let expected = Some(JournalErrorKind::PreconditionFailed(None));
            ensure_eq!(kind(answer), expected, "the bad one");
        } else {
            ensure!(
                matches!(answer, Ok(Appended::New(_))),
                "{number}: {answer:?}"
            );
        }
    }
    ensure_eq!(f.live_versions().await?.len(), 63, "live entries");
    ensure!(
        f.journal.append(Vec::new()).await.is_empty(),
        "nothing in, nothing out"
    );
    Ok(())
}

pub(super) async fn many_writers_get_distinct_versions(bench: Bench) -> CaseResult {
    const WRITERS: usize = 32;
    const EACH: usize = 8;
    let f = Arc::new(bench.fixture().await?);
    let writers = (0..WRITERS).map(|writer| {
        let f = Arc::clone(&f);
        async move {
            let mut versions = Vec::new();
            for number in 0..EACH {
                let id = format!("{writer}-{number}");
                versions.push(f.accepted(f.upsert(&id)).await?.version);
            }
            ensure!(
                versions.is_sorted(),
                "a writer's own writes are out of order"
            );
            Ok::<_, Failure>(versions)
        }
    });
    let mut versions = Vec::new();
    for writer in join_all(writers).await {
        versions.extend(writer?);
    }
    versions.sort();
    ensure_eq!(f.live_versions().await?, versions, "live entries");
    versions.dedup();
    ensure_eq!(versions.len(), WRITERS * EACH, "distinct versions");
    Ok(())
}

pub(super) async fn preconditions_see_earlier_requests_of_the_same_group(
    bench: Bench,
) -> CaseResult {
    let f = bench.fixture().await?;
    let mut answers = f
        .journal
        .append(vec![
            f.conditional("a", Precondition::Absent),
            f.conditional("a", Precondition::Absent),
            f.request("a", Change::Delete),
            f.conditional("a", Precondition::Absent),
            f.request("never there", Change::Delete),
        ])
        .await;
    let first = super::bench::new_entry(answers.remove(0))?;
    let expected = Some(JournalErrorKind::PreconditionFailed(Some(first.version)));
    ensure_eq!(kind(answers.remove(0)), expected, "the second");
    ensure!(answers.iter().all(Result::is_ok), "the others: {answers:?}");
    Ok(())
}

pub(super) async fn a_precondition_on_truncated_history_asks_the_authority(
    bench: Bench,
) -> CaseResult {
    let mut f = bench.fixture().await?;
    let written = f.accepted(f.upsert("a")).await?;
    f.truncate(&[written.version]).await?;
    f.reopen().await?;
    let with_authority = |f: &Fixture, precondition| AppendRequest {
        precondition: Some(PreconditionRequest {
            precondition,
            known: Some(Head {
                version: written.version,
                deleted: false,
            }),
        }),
        ..f.upsert("a")
    };
    let absent = with_authority(&f, Precondition::Absent);
    ensure_eq!(
        kind(f.append_one(absent).await),
        Some(JournalErrorKind::PreconditionFailed(Some(written.version))),
        "absent"
    );
    let matching = Precondition::Version(written.version);
    let newer = f.accepted(with_authority(&f, matching)).await?;
    ensure_eq!(
        kind(f.append_one(with_authority(&f, matching)).await),
        Some(JournalErrorKind::PreconditionFailed(Some(newer.version))),
        "the journal is newer than the authority now"
    );
    Ok(())
}

pub(super) async fn an_entry_survives_a_caller_who_gave_up(bench: Bench) -> CaseResult {
    let f = bench.fixture().await?;
    let request = f.upsert("a");
    let operation_id = request.operation_id;
    {
        let append = f.journal.append(vec![request]);
        let mut append = std::pin::pin!(append);
        ensure!(
            futures_util::poll!(append.as_mut()).is_pending(),
            "the append was answered without waiting"
        );
    }
    // The next call is in the same or a later group.
    f.accepted(f.upsert("b")).await?;
    let headers = f.journal.live_entries(Version::ZERO, 10).await?;
    ensure_eq!(headers.len(), 2, "live entries");
    ensure_eq!(headers[0].operation_id, operation_id, "the first");
    Ok(())
}

pub(super) async fn a_dropped_generation_takes_no_more_entries(bench: Bench) -> CaseResult {
    let mut f = bench.fixture().await?;
    f.accepted(f.upsert("a")).await?;
    let drop_collection = f.request("", Change::DropCollection);
    let after = f.upsert("b");
    let mut answers = f.journal.append(vec![drop_collection, after]).await;
    let not_found = Some(JournalErrorKind::CollectionNotFound);
    ensure_eq!(
        answers.pop().and_then(kind),
        not_found,
        "within the same group"
    );
    let dropped = answers.pop().map(super::bench::new_entry).transpose()?;
    let dropped = dropped.map(|header| header.kind);
    ensure_eq!(dropped, Some(EntryKind::DropCollection), "the drop");
    f.reopen().await?;
    ensure_eq!(f.journal.collections().await?, [], "collections");
    ensure_eq!(
        f.live_versions().await?.len(),
        2,
        "live entries with the drop"
    );
    let late = f.append_one(f.upsert("b")).await;
    ensure_eq!(kind(late), not_found, "after reopening");
    let options = CollectionOptions::new();
    let (again, new) = f.journal.create_collection("papers", options).await?;
    ensure!(new, "the collection is made anew");
    ensure!(
        again.key.generation > f.collection.generation,
        "its generation is higher"
    );
    let changed = f.append_one(f.upsert("b")).await;
    ensure_eq!(
        kind(changed),
        Some(JournalErrorKind::CollectionChanged),
        "the old generation"
    );
    f.collection = again.key;
    f.accepted(f.conditional("a", Precondition::Absent)).await?;
    Ok(())
}
