//! Opening: taking the lock, checking everything that is stored, counting the epoch up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable};

use super::{
    super::{JournalError, JournalErrorKind, JournalResult, RosterRecord},
    JournalOptions, JournalStorage,
    blank::is_blank,
    codec::{self, StoredKey, StoredOperation},
    failure::{Failure, caught},
    group::State,
    storage::RedbStorage,
    tables::{self, Tables, meta},
};
use crate::{
    journal::ParkedEntry,
    model::{Collection, JournalId, Version},
};

/// The format this version writes. A lower one is migrated at open, a higher one refused.
const FORMAT: u32 = 1;

/// An open journal.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) storage: Arc<dyn JournalStorage>,
    pub(super) out_of_room: Arc<AtomicBool>,
    pub(super) journal_id: JournalId,
    pub(super) epoch: u64,
    pub(super) state: State,
}

/// Opens the journal in this storage, or starts one under `new_id`. Blocks.
pub(super) fn open(
    storage: Arc<dyn JournalStorage>,
    options: &JournalOptions,
    new_id: JournalId,
) -> JournalResult<Opened> {
    let out_of_room = Arc::new(AtomicBool::new(false));
    let first = attempt(&storage, options, new_id, &out_of_room);
    if first.is_ok() || !out_of_room.swap(false, Ordering::AcqRel) {
        return first;
    }
    // Repairing needs room too.
    storage.release_reserve().map_err(|error| {
        JournalError::new(
            JournalErrorKind::Unavailable,
            "the journal's reserve could not be given up",
        )
        .with_source(error)
    })?;
    attempt(&storage, options, new_id, &out_of_room)
}

fn attempt(
    storage: &Arc<dyn JournalStorage>,
    options: &JournalOptions,
    new_id: JournalId,
    out_of_room: &Arc<AtomicBool>,
) -> JournalResult<Opened> {
    match storage.try_lock() {
        Ok(true) => {}
        Ok(false) => {
            return Err(JournalError::new(
                JournalErrorKind::Locked,
                format!("{storage:?} is held by another process or manager"),
            ));
        }
        Err(error) => {
            return Err(JournalError::new(
                JournalErrorKind::Unavailable,
                "the lock could not be asked for",
            )
            .with_source(error));
        }
    }
    let backend = RedbStorage::new(storage.clone(), out_of_room.clone());
    start_over_if_blank(storage.as_ref())?;
    let database = caught(|| open_database(backend, options))
        .map_err(|failure| failure.into_error(JournalErrorKind::Unavailable))?;
    check_format(&database)?;
    let (database, facts) = caught(|| {
        let facts = load(&database, new_id)?;
        Ok((database, facts))
    })
    .map_err(|failure| failure.into_error(JournalErrorKind::Unavailable))?;
    let mut opened = Opened {
        database,
        storage: storage.clone(),
        out_of_room: out_of_room.clone(),
        journal_id: facts.journal_id,
        epoch: facts.epoch,
        state: facts.state,
    };
    opened.state.has_reserve = ready_reserve(storage.as_ref(), facts.is_new)?;
    Ok(opened)
}

/// redb refuses a file whose creation was cut off as one that is not its own.
fn start_over_if_blank(storage: &dyn JournalStorage) -> JournalResult<()> {
    let started_over = is_blank(storage).and_then(|blank| {
        if blank && !storage.is_empty()? {
            tracing::info!("the journal's first opening was cut off; it starts anew");
            storage.set_len(0)?;
        }
        Ok(())
    });
    started_over.map_err(|error| {
        JournalError::new(
            JournalErrorKind::Unavailable,
            "the journal's storage failed",
        )
        .with_source(error)
    })
}

/// Opens redb and checks every page.
fn open_database(backend: RedbStorage, options: &JournalOptions) -> Result<Database, Failure> {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = repaired.clone();
    let mut database = Builder::new()
        .set_cache_size(options.cache_bytes)
        .set_repair_callback(move |_| seen.store(true, Ordering::Release))
        .create_with_backend(backend)?;
    // After a crash redb has just verified every page while it rebuilt its allocator.
    if !repaired.load(Ordering::Acquire) && !database.check_integrity()? {
        tracing::warn!("the journal's free list did not agree with its data and was rebuilt");
    }
    Ok(database)
}

/// Refuses a newer format before anything else is believed.
fn check_format(database: &Database) -> JournalResult<()> {
    let found = caught(|| match tables::read_meta(&database.begin_read()?)? {
        None => Ok(None),
        Some(meta_table) => {
            let bytes = meta_table.get_bare(meta::FORMAT)?;
            match bytes.as_deref().map(codec::decode_format) {
                None => Err(Failure::damaged("the journal has no format number")),
                Some(None) => Err(Failure::damaged("the journal's format number is damaged")),
                Some(Some(format)) => Ok(Some(format)),
            }
        }
    })
    .map_err(|failure| failure.into_error(JournalErrorKind::Unavailable))?;
    match found {
        Some(format) if format > FORMAT => Err(JournalError::new(
            JournalErrorKind::UnsupportedFormat,
            format!("the journal has format {format}; this version reads up to {FORMAT}"),
        )),
        _ => Ok(()),
    }
}

struct Facts {
    is_new: bool,
    journal_id: JournalId,
    epoch: u64,
    state: State,
}

/// Reads and checks every record, then counts the epoch up durably.
fn load(database: &Database, new_id: JournalId) -> Result<Facts, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    let facts = {
        let mut tables = Tables::write(&transaction)?;
        let is_new = tables.meta.count()? == 0;
        if is_new {
            refuse_orphans(&tables)?;
            tables
                .meta
                .put_bare(meta::FORMAT, &codec::encode_format(FORMAT))?;
            let id = codec::encode(&new_id)?;
            tables.meta.put(meta::JOURNAL_ID, &id)?;
            for name in [meta::EPOCH, meta::MARK, meta::GENERATION, meta::HORIZON] {
                tables.set_number(name, 0)?;
            }
        }
        let state = check_records(&tables)?;
        let journal_id = match tables.meta.get(meta::JOURNAL_ID)? {
            Some(content) => codec::decode("meta", meta::JOURNAL_ID, &content)?,
            None => return Err(Failure::damaged("the journal has no identity")),
        };
        let epoch = tables.number(meta::EPOCH)? + 1;
        tables.set_number(meta::EPOCH, epoch)?;
        Facts {
            is_new,
            journal_id,
            epoch,
            state,
        }
    };
    transaction.commit()?;
    Ok(facts)
}

/// A journal without its facts is not a new one.
fn refuse_orphans<T: ReadableTable<&'static [u8], &'static [u8]>>(
    tables: &Tables<T>,
) -> Result<(), Failure> {
    let records = tables.headers.count()?
        + tables.operations.count()?
        + tables.collections.count()?
        + tables.roster.count()?;
    if records == 0 {
        Ok(())
    } else {
        Err(Failure::damaged("the journal has records but no facts"))
    }
}

/// Reads every record of every table; what does not agree is named.
fn check_records<T: ReadableTable<&'static [u8], &'static [u8]>>(
    tables: &Tables<T>,
) -> Result<State, Failure> {
    let mut state = State {
        mark: Version::from_u64(tables.number(meta::MARK)?),
        horizon: tables.number(meta::HORIZON)?,
        ..State::default()
    };
    check_entries(tables, &mut state)?;
    tables.operations.scan(&[], |key, content| {
        codec::decode::<StoredOperation>(tables.operations.name(), key, content)?;
        Ok(true)
    })?;
    tables.keys.scan(&[], |key, content| {
        codec::decode::<StoredKey>(tables.keys.name(), key, content)?;
        Ok(true)
    })?;
    tables.expiry.scan(&[], |key, _| {
        tables::split_expiry_key(key)?;
        Ok(true)
    })?;
    let last_generation = tables.number(meta::GENERATION)?;
    tables.collections.scan(&[], |key, content| {
        let name = tables.collections.name();
        let collection: Collection = codec::decode_json(name, key, content)?;
        if collection.key.generation > last_generation {
            return Err(Failure::damaged(format!(
                "collection {} is above the last generation, {last_generation}",
                collection.key
            )));
        }
        Ok(true)
    })?;
    tables.roster.scan(&[], |key, content| {
        codec::decode_json::<RosterRecord>(tables.roster.name(), key, content)?;
        Ok(true)
    })?;
    tables.parked.scan(&[], |key, content| {
        let entry: ParkedEntry = codec::decode(tables.parked.name(), key, content)?;
        state.parked.insert((entry.version, entry.store_id));
        Ok(true)
    })?;
    Ok(state)
}

/// Headers and contents must belong together, and none be above the mark.
fn check_entries<T: ReadableTable<&'static [u8], &'static [u8]>>(
    tables: &Tables<T>,
    state: &mut State,
) -> Result<(), Failure> {
    let mut contents = 0;
    tables.headers.scan(&[], |key, content| {
        let version = tables::key_version(tables.headers.name(), key)?;
        let header = tables::decode_header(tables.headers.name(), version, content)?;
        let header_bytes = (codec::SEAL_BYTES + content.len()) as u64;
        let wanted = header.bytes - header_bytes;
        let found = match tables.contents.get(key)? {
            None => 0,
            Some(content) => {
                contents += 1;
                (codec::SEAL_BYTES + content.len()) as u64
            }
        };
        if found != wanted {
            return Err(Failure::damaged(format!(
                "the content of entry {version} has {found} bytes instead of {wanted}"
            )));
        }
        if version > state.mark {
            return Err(Failure::damaged(format!(
                "entry {version} is above the mark, {}",
                state.mark
            )));
        }
        state.index.insert(&header);
        Ok(true)
    })?;
    let stored = tables.contents.count()?;
    if stored == contents {
        Ok(())
    } else {
        Err(Failure::damaged(format!(
            "{stored} contents are stored for {contents} entries"
        )))
    }
}

/// Whether the room for truncating is set aside. In a used journal it is taken only if as much
/// again is left: else the room that was given up for truncating would be gone again.
fn ready_reserve(storage: &dyn JournalStorage, is_new: bool) -> JournalResult<bool> {
    let failed = |error| {
        JournalError::new(
            JournalErrorKind::Unavailable,
            "the journal's reserve cannot be kept",
        )
        .with_source(error)
    };
    if storage.has_reserve().map_err(failed)? {
        return Ok(true);
    }
    match storage.restore_reserve(!is_new) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            tracing::warn!("the disk is full: the journal takes no writes until it is truncated");
            Ok(false)
        }
        Err(error) => Err(failed(error)),
    }
}
