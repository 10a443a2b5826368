//! The bytes beneath the journal, behind a trait, so that tests can put faults there and a
//! simulated disk can run the real code.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A growable array of bytes that survives a crash up to its last sync.
///
/// After an error of `write`, `set_len` or `sync_data` the journal writes nothing more until it is
/// opened again; what was written since the last sync may or may not be there then.
pub trait JournalStorage: fmt::Debug + Send + Sync {
    /// Takes exclusive hold; `false` if someone else has it. [`JournalStorage::close`] lets go.
    ///
    /// # Errors
    /// The hold could not be asked for.
    fn try_lock(&self) -> io::Result<bool>;

    /// The length in bytes.
    ///
    /// # Errors
    /// The length could not be read.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// As [`JournalStorage::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// The range is not all there, or could not be read.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Sets the length; new bytes are zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] for want of room, or any other.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Writes `data` at `offset`, within the length.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] for want of room, or any other.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// Nothing is known of what was written since the last sync.
    fn sync_data(&self) -> io::Result<()>;

    /// Lets go of the hold. May be repeated.
    ///
    /// # Errors
    /// The hold could not be given up.
    fn close(&self) -> io::Result<()>;

    /// Whether the room that truncation needs on a full disk is set aside. Storage that keeps
    /// none says `true`.
    ///
    /// # Errors
    /// It could not be found out.
    fn has_reserve(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Gives the reserve up, so that truncation can use its room.
    ///
    /// # Errors
    /// It could not be given up.
    fn release_reserve(&self) -> io::Result<()> {
        Ok(())
    }

    /// Sets the reserve aside; with `margin` only if as much room again is left beside it.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is no room; the reserve is then given up.
    fn restore_reserve(&self, margin: bool) -> io::Result<()> {
        let _ = margin;
        Ok(())
    }
}

/// Hands our storage to redb.
pub(super) struct RedbStorage {
    storage: Arc<dyn JournalStorage>,
    closed: AtomicBool,
    out_of_room: Arc<AtomicBool>,
}

impl RedbStorage {
    /// `out_of_room` is set when the storage refuses for want of room: redb reports later errors
    /// without their cause.
    pub(super) fn new(storage: Arc<dyn JournalStorage>, out_of_room: Arc<AtomicBool>) -> Self {
        Self {
            storage,
            closed: AtomicBool::new(false),
            out_of_room,
        }
    }

    fn watched(&self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result
            && error.kind() == io::ErrorKind::StorageFull
        {
            self.out_of_room.store(true, Ordering::Release);
        }
        result
    }

    fn close_once(&self) -> io::Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            Ok(())
        } else {
            self.storage.close()
        }
    }
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.storage.fmt(f)
    }
}

impl redb::StorageBackend for RedbStorage {
    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watched(self.storage.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watched(self.storage.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watched(self.storage.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.close_once()
    }
}

impl Drop for RedbStorage {
    /// A panic inside redb can skip its own call of `close`; the hold must not outlive it.
    fn drop(&mut self) {
        if let Err(error) = self.close_once() {
            tracing::warn!(%error, "the journal's hold on its storage could not be given up");
        }
    }
}
