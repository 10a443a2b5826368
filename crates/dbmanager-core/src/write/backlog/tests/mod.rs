//! The backlog by itself: what is queued for which store, what may be let go of, how a version
//! stands. `tests/` asks the same of the whole manager, where a second try hides many a mistake.

mod sending;
mod sharing;
mod standing;
mod truncation;

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::{super::decide::Acknowledgement, *};
use crate::{
    journal::EntryKind,
    model::{CollectionKey, OperationId, StoreId, Timestamp},
};

const ALL: usize = 100;

fn collection(generation: u64) -> CollectionKey {
    CollectionKey::new("c", generation)
}

fn key(id: &str) -> DocumentKey {
    DocumentKey::new(collection(1), id.into())
}

fn version(number: u64) -> Version {
    Version::from_u64(number)
}

fn header(number: u64, id: &str) -> EntryHeader {
    EntryHeader {
        version: version(number),
        operation_id: OperationId::from_u128(u128::from(number)),
        collection: collection(1),
        id: id.into(),
        kind: EntryKind::Delete,
        bytes: 10,
        appended_at: Timestamp::from_unix_milliseconds(i64::try_from(number).unwrap()),
    }
}

fn drop_of(number: u64, generation: u64) -> EntryHeader {
    EntryHeader {
        collection: collection(generation),
        kind: EntryKind::DropCollection,
        ..header(number, "")
    }
}

/// Three stores that take part in full.
fn backlog() -> Backlog {
    let backlog = Backlog::new(false);
    for role in Role::ALL {
        backlog.set_participation(role, Participation::Full);
    }
    backlog
}

fn insert(backlog: &Backlog, entries: &[(u64, &str)]) {
    for (number, id) in entries {
        backlog.insert(header(*number, id), Some(DocumentState::Deleted));
    }
}

/// What a sender takes, by id and version.
fn take(backlog: &Backlog, role: Role, limit: usize) -> Vec<(String, u64)> {
    let batch = backlog.take_batch(role, limit);
    let sent = batch.into_iter();
    sent.map(|s| (s.document.id.to_string(), s.newest.version.as_u64()))
        .collect()
}

fn ids(backlog: &Backlog, role: Role, limit: usize) -> Vec<String> {
    let taken = take(backlog, role, limit).into_iter();
    taken.map(|(id, _)| id).collect()
}

/// What stands in a store's queue.
fn queue(backlog: &Backlog, role: Role) -> Vec<DocumentKey> {
    let inner = backlog.lock();
    inner.queues[slot(role)].ready.iter().cloned().collect()
}

fn sent(backlog: &Backlog, role: Role, id: &str, number: u64, sent: Sent) {
    backlog.record(role, vec![(key(id), version(number), sent)]);
}

fn confirm(backlog: &Backlog, id: &str, number: u64) {
    for role in Role::ALL {
        sent(backlog, role, id, number, Sent::Confirmed);
    }
}

fn candidates(backlog: &Backlog) -> Vec<u64> {
    let mut versions: Vec<u64> = backlog
        .truncation_candidates(ALL)
        .into_iter()
        .map(Version::as_u64)
        .collect();
    versions.sort_unstable();
    versions
}

fn standing(backlog: &Backlog, id: &str, number: u64, role: Role) -> Acknowledgement {
    let standings = backlog.standing(&key(id), version(number));
    let of_role = standings.iter().find(|s| s.role == role);
    of_role.unwrap().acknowledgement
}

fn parked(number: u64) -> ParkedEntry {
    ParkedEntry {
        version: version(number),
        store_id: StoreId::from_u128(1),
        error: "refused".to_owned(),
    }
}

/// Whether a notification is there, which is used up.
fn is_notified(notify: &Notify) -> bool {
    notify.notified().now_or_never().is_some()
}
