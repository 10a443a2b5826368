//! The journal's files in a directory.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use redb::StorageBackend as _;

use super::{JournalStorage, blank::is_blank};
use crate::backend::directories::{Directories as _, OnDisk, create_directories};

const DATA: &str = "journal.redb";
const LOCK: &str = "journal.lock";
const RESERVE: &str = "journal.reserve";
const RESERVE_BYTES: u64 = 16 << 20;

/// The journal's files: `journal.redb` holds the data, `journal.lock` carries the operating
/// system's lock, `journal.reserve` keeps room for truncating when the disk is full.
pub(super) struct FileStorage {
    directory: PathBuf,
    data: redb::backends::FileBackend,
    lock: File,
    locked: AtomicBool,
}

impl FileStorage {
    /// Opens the files of `directory`, and makes what is not there.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        create_directories(directory)?;
        let lock = open_or_create(&directory.join(LOCK))?;
        let data = open_or_create(&directory.join(DATA))?;
        OnDisk.sync(directory)?;
        let data = redb::backends::FileBackend::new(data).map_err(io::Error::other)?;
        Ok(Self {
            directory: directory.to_owned(),
            data,
            lock,
            locked: AtomicBool::new(false),
        })
    }

    /// Whether the data is gone although the journal was in use: the reserve is made only after
    /// the first commit.
    pub(super) fn lost_its_data(&self) -> io::Result<bool> {
        Ok(self.reserve_path().exists() && is_blank(self)?)
    }

    fn reserve_path(&self) -> PathBuf {
        self.directory.join(RESERVE)
    }

    fn write_reserve(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut file = open_or_create(&self.reserve_path())?;
        file.set_len(0)?;
        let mut left = bytes;
        while left > 0 {
            let step = left.min(zeros.len() as u64);
            file.write_all(&zeros[..step as usize])?;
            left -= step;
        }
        file.set_len(bytes.min(RESERVE_BYTES))?;
        file.sync_all()?;
        OnDisk.sync(&self.directory)
    }
}

fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

impl fmt::Debug for FileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStorage")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl JournalStorage for FileStorage {
    fn try_lock(&self) -> io::Result<bool> {
        match self.lock.try_lock() {
            Ok(()) => {
                self.locked.store(true, Ordering::Release);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.data.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.data.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.data.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.data.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.data.sync_data()
    }

    fn close(&self) -> io::Result<()> {
        if self.locked.swap(false, Ordering::AcqRel) {
            self.lock.unlock()
        } else {
            Ok(())
        }
    }

    fn has_reserve(&self) -> io::Result<bool> {
        match fs::metadata(self.reserve_path()) {
            Ok(metadata) => Ok(metadata.len() >= RESERVE_BYTES),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn release_reserve(&self) -> io::Result<()> {
        open_or_create(&self.reserve_path())?.set_len(0)
    }

    fn restore_reserve(&self, margin: bool) -> io::Result<()> {
        let bytes = if margin {
            2 * RESERVE_BYTES
        } else {
            RESERVE_BYTES
        };
        self.write_reserve(bytes).inspect_err(|_| {
            // The error that led here is the one to report.
            if let Err(error) = self.release_reserve() {
                tracing::warn!(%error, "the journal's reserve could not be given up");
            }
        })
    }
}
