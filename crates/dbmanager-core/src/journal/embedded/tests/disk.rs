//! A disk that remembers every step done to it, and that refuses one call or all calls from one on.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::super::{JournalStorage, MemoryStorage};

/// The unit in which a disk writes: a torn write ends at a border of it.
const SECTOR: usize = 512;

/// What a step did to the disk.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    SetLength(usize),
    Sync,
    /// A sync that failed, after which the system takes what was written for clean: readers see
    /// it, no later sync writes it.
    Forgotten,
}

impl Step {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Step::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Step::SetLength(length) => bytes.resize(*length, 0),
            Step::Sync | Step::Forgotten => {}
        }
    }

    /// The parts of a write that a disk may have taken when the power went: its beginning or its
    /// end up to a sector's border, its first half, its first byte.
    pub(super) fn torn(&self) -> Vec<Step> {
        let Step::Write { offset, data } = self else {
            return Vec::new();
        };
        let borders = (1..)
            .map(|sector| (sector * SECTOR) - offset % SECTOR)
            .take_while(|border| *border < data.len());
        let mut torn = Vec::new();
        let mut part = |from: usize, to: usize| {
            torn.push(Step::Write {
                offset: offset + from,
                data: data[from..to].to_vec(),
            });
        };
        for border in borders {
            part(0, border);
            part(border, data.len());
        }
        if data.len() > 1 {
            part(0, 1);
            part(0, data.len() / 2);
        }
        torn
    }
}

/// A call of the storage that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Length,
    Write,
    SetLength,
    Sync,
    HasReserve,
    ReleaseReserve,
    RestoreReserve,
}

impl Call {
    /// Whether it changes the disk.
    pub(super) fn changes(self) -> bool {
        !matches!(self, Call::Read | Call::Length | Call::HasReserve)
    }
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// Which calls are counted.
    pub(super) counts: fn(Call) -> bool,
    /// So many of them succeed.
    pub(super) after: usize,
    /// Whether all from there on fail, not one alone.
    pub(super) lasting: bool,
    pub(super) kind: io::ErrorKind,
    /// Whether a write that fails has written its first half.
    pub(super) partial: bool,
}

/// Storage in memory that remembers what was done to it and fails where it is told to.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    memory: MemoryStorage,
    log: Arc<Mutex<Log>>,
}

#[derive(Debug, Default)]
struct Log {
    steps: Vec<Step>,
    fault: Option<Fault>,
    counted: usize,
    failed: Option<Call>,
}

impl Disk {
    /// A disk with these bytes on it, and no room set aside yet.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let memory = MemoryStorage::from_bytes(bytes);
        memory.set_reserve(1 << 16);
        Self {
            memory,
            log: Arc::default(),
        }
    }

    /// From now on calls fail so.
    pub(super) fn fail(&self, fault: Fault) {
        let mut log = self.log();
        log.fault = Some(fault);
        log.counted = 0;
    }

    /// The first call that failed.
    pub(super) fn failed(&self) -> Option<Call> {
        self.log().failed
    }

    /// How many steps were done.
    pub(super) fn step_count(&self) -> usize {
        self.log().steps.len()
    }

    /// Every step that was done.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.log().steps.clone()
    }

    /// The bytes as a reader sees them now.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.memory.to_bytes()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// Counts the call; an error if it is to fail.
    fn count(&self, call: Call) -> Result<(), Fault> {
        let mut log = self.log();
        let Some(fault) = log.fault else {
            return Ok(());
        };
        if !(fault.counts)(call) {
            return Ok(());
        }
        let number = log.counted;
        log.counted += 1;
        if number == fault.after || fault.lasting && number > fault.after {
            log.failed.get_or_insert(call);
            return Err(fault);
        }
        Ok(())
    }

    fn check(&self, call: Call) -> io::Result<()> {
        self.count(call).map_err(|fault| error(fault, call))
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.memory.write(offset, data)?;
        self.log().steps.push(Step::Write {
            offset: usize::try_from(offset).unwrap(),
            data: data.to_vec(),
        });
        Ok(())
    }
}

fn error(fault: Fault, call: Call) -> io::Error {
    io::Error::new(fault.kind, format!("injected error of {call:?}"))
}

impl JournalStorage for Disk {
    fn try_lock(&self) -> io::Result<bool> {
        self.memory.try_lock()
    }

    fn len(&self) -> io::Result<u64> {
        self.check(Call::Length)?;
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.check(Call::Read)?;
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check(Call::SetLength)?;
        self.memory.set_len(len)?;
        let length = usize::try_from(len).unwrap();
        self.log().steps.push(Step::SetLength(length));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(fault) = self.count(Call::Write) {
            if fault.partial {
                self.write_now(offset, &data[..data.len() / 2])?;
            }
            return Err(error(fault, Call::Write));
        }
        self.write_now(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Err(fault) = self.count(Call::Sync) {
            self.log().steps.push(Step::Forgotten);
            return Err(error(fault, Call::Sync));
        }
        self.log().steps.push(Step::Sync);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.memory.close()
    }

    fn has_reserve(&self) -> io::Result<bool> {
        self.check(Call::HasReserve)?;
        self.memory.has_reserve()
    }

    fn release_reserve(&self) -> io::Result<()> {
        self.check(Call::ReleaseReserve)?;
        self.memory.release_reserve()
    }

    fn restore_reserve(&self, margin: bool) -> io::Result<()> {
        self.check(Call::RestoreReserve)?;
        self.memory.restore_reserve(margin)
    }
}
