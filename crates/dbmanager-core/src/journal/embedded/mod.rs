//! The embedded journal, on redb.
//!
//! # Why two-phase commit
//! redb's default commit, one sync, lets the header choose between two commit slots by checksum:
//! a flipped bit in the newer slot silently drops the last commit. With two-phase commit the slot
//! is durable before the header points at it, so a damaged one is refused. What remains is the one
//! bit that points at the slot: flipped after a crash, it can bring back the state one commit
//! earlier; a store that is above the journal's mark then refuses it.
//!
//! # Where the writing happens
//! All changes go through one queue. Whoever finds it without a leader spawns one; the leader
//! commits group after group on the blocking pool until nobody waits. One group is one
//! transaction with two syncs, whatever calls are in it. There is no thread of our own: under a
//! paused clock a thread that the runtime does not know of would let every timeout fire.
//!
//! # A full disk
//! The limits (`max_bytes`) should stand below the disk's end: then a full journal answers `Full`
//! and nothing else happens. If the disk fills up all the same, the commit that meets it is
//! `Indeterminate`, the journal becomes read-only, and its reserve is given up; opened again it
//! answers `Full` to appends and can truncate in the room that the reserve left. After a
//! truncation the reserve is set aside again and appends are taken. Not guaranteed: that other
//! programs leave that room alone; then truncation meets the full disk too, and room must be made
//! by hand.

mod append;
mod blank;
mod calls;
mod catalogue;
mod codec;
mod engine;
mod failure;
mod file;
mod group;
mod index;
mod load;
mod memory;
mod open;
mod options;
mod queue;
mod storage;
mod tables;
mod truncate;

#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use self::{engine::Engine, file::FileStorage};
use super::{JournalError, JournalErrorKind, JournalResult};
use crate::runtime::Runtime;

pub use memory::MemoryStorage;
pub use options::JournalOptions;
pub use storage::JournalStorage;

/// Where the journal is kept.
#[derive(Clone, Debug)]
pub enum JournalSource {
    /// In files in this directory, which is made if it is not there.
    Directory(PathBuf),
    /// In this storage.
    Storage(Arc<dyn JournalStorage>),
}

/// The journal in one process, in a directory or any other [`JournalStorage`].
///
/// Dropping the last handle closes the journal in the background: what was acknowledged is
/// durable, and the storage is released after the last job ended. [`close`](super::Journal::close)
/// waits for that.
pub struct EmbeddedJournal {
    engine: Arc<Engine>,
}

impl fmt::Debug for EmbeddedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedJournal")
            .field("storage", &self.engine.storage)
            .field("journal_id", &self.engine.journal_id)
            .field("epoch", &self.engine.epoch())
            .finish_non_exhaustive()
    }
}

impl EmbeddedJournal {
    /// Opens the journal, or starts a new one where there is none. Every page and every record is
    /// checked, and the epoch counted up durably, before this returns.
    ///
    /// # Errors
    /// [`JournalErrorKind::Locked`] if another process or handle has it,
    /// [`JournalErrorKind::UnsupportedFormat`] if a newer version wrote it,
    /// [`JournalErrorKind::Damaged`], naming what is hit, if anything stored is not what was
    /// written, [`JournalErrorKind::Unavailable`] for an error of the storage, and
    /// [`JournalErrorKind::Open`] for a wrong option.
    pub async fn open(
        source: JournalSource,
        options: JournalOptions,
        runtime: Runtime,
    ) -> JournalResult<Arc<Self>> {
        options.validate()?;
        let new_id = runtime.new_journal_id();
        let limits = options.clone();
        let job = runtime.blocking(move || {
            let storage = prepare(source)?;
            open::open(storage, &limits, new_id)
        });
        let opened = job.await.unwrap_or_else(|lost| {
            Err(JournalError::new(JournalErrorKind::Open, lost.to_string()))
        })?;
        Ok(Arc::new(Self {
            engine: Engine::new(opened, options, runtime),
        }))
    }
}

impl Drop for EmbeddedJournal {
    fn drop(&mut self) {
        let engine = self.engine.clone();
        drop(self.engine.runtime.spawn(async move {
            if let Err(error) = engine.close().await {
                tracing::warn!(%error, "the journal was not closed in order");
            }
        }));
    }
}

fn prepare(source: JournalSource) -> JournalResult<Arc<dyn JournalStorage>> {
    let directory = match source {
        JournalSource::Storage(storage) => return Ok(storage),
        JournalSource::Directory(directory) => directory,
    };
    let failed = |error| {
        JournalError::new(
            JournalErrorKind::Open,
            format!("the journal's files in {directory:?} cannot be opened"),
        )
        .with_source(error)
    };
    let storage = FileStorage::open(&directory).map_err(failed)?;
    if storage.lost_its_data().map_err(failed)? {
        return Err(JournalError::new(
            JournalErrorKind::Damaged,
            format!("the data file in {directory:?} is empty, though the journal was in use"),
        ));
    }
    Ok(Arc::new(storage))
}
