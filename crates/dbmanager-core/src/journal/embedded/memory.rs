//! Storage in memory, with a crash and faults on demand.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::JournalStorage;

/// A [`JournalStorage`] in memory. Clones share the bytes, so that a journal can be closed and
/// opened again on them.
///
/// For tests it plays a disk: what a crash leaves ([`MemoryStorage::crash_image`]), a full disk,
/// writes and syncs that fail, and a sync that lies.
#[derive(Clone, Default)]
pub struct MemoryStorage(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    /// What a crash leaves for certain, and what was done since; kept only if asked for.
    crash: Option<CrashLog>,
    locked: bool,
    capacity: Option<u64>,
    reserve: Option<Reserve>,
    writes: Countdown,
    syncs: Countdown,
    sync_count: u64,
    ignore_syncs: bool,
}

#[derive(Default)]
struct CrashLog {
    synced: Vec<u8>,
    since: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

impl Step {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Step::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Step::SetLength(length) => bytes.resize(*length, 0),
        }
    }
}

struct Reserve {
    bytes: u64,
    held: bool,
}

/// How many calls succeed before all fail; `None`: all succeed.
#[derive(Default)]
struct Countdown(Option<u64>);

impl Countdown {
    fn count(&mut self, what: &str) -> io::Result<()> {
        match &mut self.0 {
            None => Ok(()),
            Some(0) => Err(io::Error::other(format!("injected {what} error"))),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl MemoryStorage {
    /// Empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty storage that remembers what a crash would leave. Doubles the memory.
    pub fn crashable() -> Self {
        let storage = Self::new();
        storage.disk().crash = Some(CrashLog::default());
        storage
    }

    /// Storage that holds these bytes, durable.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let storage = Self::new();
        storage.disk().bytes = bytes;
        storage
    }

    /// The bytes as a reader sees them now.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.disk().bytes.clone()
    }

    /// What a crash now would leave if nothing after the last sync had reached the disk. Storage
    /// made without [`MemoryStorage::crashable`] leaves nothing.
    pub fn crash_image(&self) -> Self {
        self.crash_image_with(|_| false)
    }

    /// What a crash now would leave if, of the writes and changes of length since the last sync,
    /// only those whose number `keep` accepts had reached the disk, in their order.
    pub fn crash_image_with(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let disk = self.disk();
        let mut bytes = Vec::new();
        if let Some(log) = &disk.crash {
            bytes.clone_from(&log.synced);
            for (number, step) in log.since.iter().enumerate() {
                if keep(number) {
                    step.apply(&mut bytes);
                }
            }
        }
        drop(disk);
        let image = Self::from_bytes(bytes.clone());
        image.disk().crash = Some(CrashLog {
            synced: bytes,
            since: Vec::new(),
        });
        image
    }

    /// From now on `count` writes succeed, then all fail.
    pub fn fail_writes_after(&self, count: u64) {
        self.disk().writes = Countdown(Some(count));
    }

    /// From now on `count` syncs succeed, then all fail.
    pub fn fail_syncs_after(&self, count: u64) {
        self.disk().syncs = Countdown(Some(count));
    }

    /// Writes and syncs succeed again.
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.writes = Countdown(None);
        disk.syncs = Countdown(None);
        disk.capacity = None;
    }

    /// Syncs answer `Ok` and do nothing: a disk that lies. For tests that must be able to fail.
    pub fn ignore_syncs(&self) {
        self.disk().ignore_syncs = true;
    }

    /// How many syncs were asked for.
    pub fn sync_count(&self) -> u64 {
        self.disk().sync_count
    }

    /// The room for the data and the reserve; growing beyond it fails with
    /// [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = Some(bytes);
    }

    /// Keeps a reserve of so many bytes within the capacity.
    pub fn set_reserve(&self, bytes: u64) {
        self.disk().reserve = Some(Reserve { bytes, held: false });
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // No code here panics while it holds the lock halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn check_room(&self, data_bytes: u64, reserve_bytes: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if data_bytes + reserve_bytes > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn reserve_bytes(&self) -> u64 {
        match &self.reserve {
            Some(reserve) if reserve.held => reserve.bytes,
            _ => 0,
        }
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage")
            .field("length", &self.disk().bytes.len())
            .finish_non_exhaustive()
    }
}

fn to_index(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn range(disk: &Disk, offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = to_index(offset)?;
    match start.checked_add(length) {
        Some(end) if end <= disk.bytes.len() => Ok(start..end),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl JournalStorage for MemoryStorage {
    fn try_lock(&self) -> io::Result<bool> {
        Ok(!std::mem::replace(&mut self.disk().locked, true))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk();
        let range = range(&disk, offset, out.len())?;
        out.copy_from_slice(&disk.bytes[range]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.writes.count("write")?;
        if len > disk.bytes.len() as u64 {
            disk.check_room(len, disk.reserve_bytes())?;
        }
        let length = to_index(len)?;
        if let Some(log) = &mut disk.crash {
            log.since.push(Step::SetLength(length));
        }
        disk.bytes.resize(length, 0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        disk.writes.count("write")?;
        let range = range(&disk, offset, data.len())?;
        if let Some(log) = &mut disk.crash {
            log.since.push(Step::Write {
                offset: range.start,
                data: data.to_vec(),
            });
        }
        disk.bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.sync_count += 1;
        disk.syncs.count("sync")?;
        if disk.ignore_syncs {
            return Ok(());
        }
        if let Some(log) = &mut disk.crash {
            for step in log.since.drain(..) {
                step.apply(&mut log.synced);
            }
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.disk().locked = false;
        Ok(())
    }

    fn has_reserve(&self) -> io::Result<bool> {
        Ok(self.disk().reserve.as_ref().is_none_or(|r| r.held))
    }

    fn release_reserve(&self) -> io::Result<()> {
        if let Some(reserve) = &mut self.disk().reserve {
            reserve.held = false;
        }
        Ok(())
    }

    fn restore_reserve(&self, margin: bool) -> io::Result<()> {
        let mut disk = self.disk();
        let wanted = disk.reserve.as_ref().map_or(0, |r| r.bytes);
        let needed = if margin { 2 * wanted } else { wanted };
        disk.check_room(disk.bytes.len() as u64, needed)?;
        if let Some(reserve) = &mut disk.reserve {
            reserve.held = true;
        }
        Ok(())
    }
}
