//! Letting go of entries: stores are made durable and stamped with their progress first, then the
//! journal truncates.

use std::{sync::Arc, time::Duration};

use super::WriteRoom;
use crate::{
    backend::BackendError,
    journal::TruncateRequest,
    model::{Role, StoreId, Version},
    roster::{Store, is_same, lacks_data},
};

/// Entries let go of in one round.
const ROUND: usize = 20_000;
/// Entries that the journal lets go of in one transaction: appends wait for it.
const TRANSACTION: usize = 250;
/// The wait between two rounds, which lets the next one grow: each costs a disk sync per store and
/// for the journal, and no store is written to meanwhile.
const GATHER: Duration = Duration::from_secs(2);
/// The wait while a store catches up, which a round would slow down: most of its entries could not
/// go yet, and those of the others are in nobody's way.
const GATHER_BESIDE_CATCHING_UP: Duration = Duration::from_secs(10);
/// A store that lacks so many documents is catching up.
const CATCHING_UP: usize = 1_000;
/// How often it is looked whether room is needed before.
const LOOK: Duration = Duration::from_millis(500);
/// The wait after a failed round.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Truncates until the room closes.
pub(crate) async fn run_truncation(room: Arc<WriteRoom>) {
    while !room.is_closing() {
        room.backlog.truncatable.notified().await;
        if !room.is_sender() {
            room.wait_until_sender().await;
            room.backlog.truncatable.notify_one();
            continue;
        }
        if room.is_closing() {
            return;
        }
        if let Err(error) = room.give_up_disabled().await {
            tracing::warn!(%error, "the roster cannot be written");
        }
        match truncate_round(&room).await {
            Ok(ROUND..) => room.backlog.truncatable.notify_one(),
            Ok(_) => gather(&room).await,
            Err(error) => {
                tracing::warn!(error, "the journal was not truncated");
                room.backlog.truncatable.notify_one();
                room.rest(AFTER_FAILURE).await;
            }
        }
    }
}

/// Waits until another round is worth it: for a while, or until half of the journal is taken, or of
/// the memory for what is in it.
async fn gather(room: &WriteRoom) {
    let begun = room.runtime.monotonic();
    while room.runtime.monotonic() < begun + patience(room) && !room.is_closing() {
        room.rest(LOOK).await;
        let health = room.journal.health();
        let is_half_full =
            health.entries > health.max_entries / 2 || health.bytes > health.max_bytes / 2;
        if is_half_full || room.backlog.is_memory_half_full() {
            return;
        }
    }
}

fn patience(room: &WriteRoom) -> Duration {
    let backlog = &room.backlog;
    let catches_up = |role: &Role| {
        backlog.participation(*role).is_sent_to() && backlog.lag(*role) >= CATCHING_UP
    };
    match Role::ALL.iter().any(catches_up) {
        true => GATHER_BESIDE_CATCHING_UP,
        false => GATHER,
    }
}

/// Rounds until no more entries can go.
///
/// # Errors
/// Why a store could not be made durable, or the journal not truncated; nothing was let go of then.
pub(crate) async fn truncate_all(room: &WriteRoom) -> Result<(), String> {
    while truncate_round(room).await? > 0 {}
    Ok(())
}

/// Lets go of what may go, at most a round; how many entries.
async fn truncate_round(room: &WriteRoom) -> Result<usize, String> {
    let openings = openings(room);
    let versions = candidates(room).await;
    let Some(highest) = versions.iter().max().copied() else {
        return Ok(0);
    };
    // One that nobody sends to is opened, and so compared, here: a store that was opened anew may have
    // lost what it had confirmed.
    for store in confirming(room) {
        store.connect().await.map_err(|e| describe(store, &e))?;
    }
    let check_openings = || {
        if openings.contains(&None) || openings != self::openings(room) {
            return Err("the confirmations of a store are being checked".to_owned());
        }
        Ok(())
    };
    check_openings()?;
    let mut progress = Vec::new();
    for store in confirming(room) {
        progress.extend(make_durable(store, highest, check_openings).await?);
    }
    for versions in versions.chunks(TRANSACTION) {
        check_openings()?;
        let request = TruncateRequest {
            versions: versions.to_vec(),
            progress: progress
                .iter()
                .map(|(_, id, version)| (*id, *version))
                .collect(),
        };
        let truncated = room.journal.truncate(request).await;
        truncated.map_err(|error| error.to_string())?;
        for (role, id, version) in &progress {
            if let Some(store) = room.store(*role) {
                store.set_progress(*id, *version);
            }
        }
        room.backlog.remove(versions);
    }
    Ok(versions.len())
}

/// What may go, without versions whose older ones may not be shown yet: with the newer one let go of
/// alone, those would come back to reads, here and in a manager that opens next.
async fn candidates(room: &WriteRoom) -> Vec<Version> {
    let mut known = room.journal.mark();
    if room.journal.shared().is_some() {
        known = known.min(room.backlog.followed());
    }
    // All below the mark was appended by somebody who has begun before.
    room.appends.shown().await;
    let mut versions = room.backlog.truncation_candidates(ROUND);
    let found = versions.len();
    versions.retain(|version| *version <= known);
    if versions.len() < found {
        room.backlog.truncatable.notify_one();
    }
    versions
}

/// The stores that confirm, as of each step.
fn confirming(room: &WriteRoom) -> impl Iterator<Item = &Arc<Store>> {
    let confirms = |store: &&Arc<Store>| room.backlog.participation(store.role).is_sent_to();
    room.stores.iter().filter(confirms)
}

fn openings(room: &WriteRoom) -> Vec<Option<u64>> {
    confirming(room)
        .map(|store| store.trusted_opening())
        .collect()
}

/// Makes a store durable and stamps it with its new progress, as the store that it was when the round
/// began: what was put back or wiped meanwhile must never be stamped with progress that it lacks.
///
/// One that is being filled is stamped when it is whole, and not before: no copy of it from before
/// that may pass for the whole one.
async fn make_durable(
    store: &Store,
    highest: Version,
    check_openings: impl Fn() -> Result<(), String>,
) -> Result<Option<(Role, StoreId, Version)>, String> {
    let record = store.record();
    let filling = store.is_filling(record.store_id);
    let lacking = lacks_data(record.state) && !filling;
    let Some(connected) = store.ready().filter(|_| !lacking) else {
        return Err(format!("{}: it is being looked at", store.role));
    };
    let backend = connected.as_backend();
    let held = backend.read_stamp().await;
    let held = held.map_err(|e| describe(store, &e))?;
    if !is_same(held.as_ref(), &record) {
        store.want_verification();
        return Err(format!("{}: it is not what it was", store.role));
    }
    check_openings()?;
    if filling {
        if held.is_some_and(|held| held.progress > Version::ZERO) {
            // Whole, and about to count again: from its stamp on progress is recorded.
            return Err(format!("{}: its rebuild is ending", store.role));
        }
        let synced = backend.sync().await;
        return synced.map(|()| None).map_err(|e| describe(store, &e));
    }
    let version = store.progress_from(&record, highest);
    let stamped = store.stamp_as(&record, backend.as_ref(), version).await;
    stamped.map_err(|e| describe(store, &e))?;
    Ok(Some((store.role, record.store_id, version)))
}

fn describe(store: &Store, error: &BackendError) -> String {
    store.note_failure(error);
    format!("{}: {error}", store.role)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        Runtime,
        backend::DocumentState,
        journal::{
            AppendRequest, Appended, Change, EmbeddedJournal, EntryHeader, Journal, JournalOptions,
            JournalSource, MemoryStorage,
        },
        model::{CollectionOptions, Level},
        write::{
            WriteParts, WriteSettings,
            backlog::{DocumentKey, Participation, Sent},
        },
    };

    /// A room without stores, and without tasks that would come before the test.
    async fn room() -> Arc<WriteRoom> {
        let room = open_room(JournalOptions::default()).await;
        room.begin_close();
        room
    }

    /// A room without stores, whose backlog is told of one all the same.
    async fn open_room(options: JournalOptions) -> Arc<WriteRoom> {
        let runtime = Runtime::tokio();
        let storage = JournalSource::Storage(Arc::new(MemoryStorage::new()));
        let journal = EmbeddedJournal::open(storage, options, runtime.clone());
        let parts = WriteParts {
            runtime,
            journal: journal.await.unwrap(),
            stores: Vec::new(),
            disabled: Vec::new(),
            settings: WriteSettings {
                level: Level::Quorum,
                timeout: Duration::from_secs(1),
                batch_size: 100,
                disabled_backlog: 100,
                max_in_flight: 100,
            },
            embedder: None,
            cache: None,
            sends: true,
        };
        let room = WriteRoom::start(parts).await.unwrap();
        let role = Role::Relational;
        room.backlog.set_participation(role, Participation::Full);
        room
    }

    /// Deletes of these documents, durable and not shown.
    async fn deletes(
        journal: &dyn Journal,
        ids: impl IntoIterator<Item = String>,
    ) -> Vec<EntryHeader> {
        let created = journal.create_collection("c", CollectionOptions::new());
        let collection = created.await.unwrap().0.key;
        let runtime = Runtime::tokio();
        let request = |id: String| AppendRequest {
            operation_id: runtime.new_operation_id(),
            idempotency_key: None,
            collection: collection.clone(),
            id: id.into(),
            change: Change::Delete,
            precondition: None,
        };
        let answers = journal.append(ids.into_iter().map(request).collect());
        let headers = answers.await.into_iter().map(|answer| match answer {
            Ok(Appended::New(header)) => header,
            other => panic!("not a new entry: {other:?}"),
        });
        headers.collect()
    }

    /// Two versions of one document, durable and not shown.
    async fn two_versions(journal: &dyn Journal) -> [EntryHeader; 2] {
        let headers = deletes(journal, ["d".to_owned(), "d".to_owned()]);
        headers.await.try_into().unwrap()
    }

    fn confirm(room: &WriteRoom, header: &EntryHeader) {
        let key = DocumentKey::new(header.collection.clone(), Arc::clone(&header.id));
        let confirmed = vec![(key, header.version, Sent::Confirmed)];
        room.backlog.record(Role::Relational, confirmed);
    }

    #[tokio::test]
    async fn a_version_stays_while_an_older_one_may_be_yet_to_be_shown() {
        let room = room().await;
        let [older, newer] = two_versions(&*room.journal).await;
        let append = room.appends.begin();
        room.backlog
            .insert(newer.clone(), Some(DocumentState::Deleted));
        confirm(&room, &newer);
        let mut candidates = Box::pin(candidates(&room));
        assert!(candidates.as_mut().now_or_never().is_none());
        room.backlog
            .insert(older.clone(), Some(DocumentState::Deleted));
        drop(append);
        assert_eq!(candidates.await, [older.version, newer.version]);
    }

    /// Writes as many documents as make a store one that catches up.
    async fn fall_behind(room: &WriteRoom) -> Vec<EntryHeader> {
        let ids = (0..CATCHING_UP).map(|number| number.to_string());
        let headers = deletes(&*room.journal, ids).await;
        for header in &headers {
            let deleted = Some(DocumentState::Deleted);
            room.backlog.insert(header.clone(), deleted);
        }
        headers
    }

    async fn time_to_gather(room: &WriteRoom) -> Duration {
        let begun = room.runtime.monotonic();
        gather(room).await;
        room.runtime.monotonic() - begun
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_wait_for_a_store_that_catches_up_but_not_without_room() {
        let about = |expected: Duration| expected..expected + LOOK;
        let room = open_room(JournalOptions::default()).await;
        let written = fall_behind(&room).await;
        let waited = time_to_gather(&room).await;
        assert!(
            about(GATHER_BESIDE_CATCHING_UP).contains(&waited),
            "{waited:?}"
        );
        confirm(&room, &written[0]);
        let waited = time_to_gather(&room).await;
        assert!(about(GATHER).contains(&waited), "{waited:?}");

        let small = JournalOptions {
            max_entries: CATCHING_UP as u64 * 3 / 2,
            ..JournalOptions::default()
        };
        let room = open_room(small).await;
        fall_behind(&room).await;
        let waited = time_to_gather(&room).await;
        assert!(about(LOOK).contains(&waited), "{waited:?}");
        room.begin_close();
        assert_eq!(time_to_gather(&room).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_version_stays_that_was_issued_while_appends_were_waited_for() {
        let room = room().await;
        let append = room.appends.begin();
        let mut candidates = Box::pin(candidates(&room));
        assert!(candidates.as_mut().now_or_never().is_none());
        let [_, newer] = two_versions(&*room.journal).await;
        room.backlog
            .insert(newer.clone(), Some(DocumentState::Deleted));
        confirm(&room, &newer);
        drop(append);
        assert_eq!(candidates.await, []);
        // It is not forgotten: the next round has it.
        let again = super::candidates(&room).await;
        assert_eq!(again, [newer.version]);
    }
}
