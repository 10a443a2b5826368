//! A disk under the journal that loses power.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::data::Seeded;
use crate::journal::{JournalStorage, MemoryStorage};

/// A [`JournalStorage`] in memory that can lose power between any two of its writes, changes of
/// length and syncs, or in the middle of a write. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    storage: MemoryStorage,
    power: Arc<Mutex<Power>>,
}

#[derive(Debug)]
struct Power {
    random: Seeded,
    /// Calls until it goes.
    left: Option<u64>,
    /// What the disk holds since it went.
    after: Option<MemoryStorage>,
}

impl SimulatedDisk {
    /// An empty disk; the seed decides what a loss of power leaves.
    pub fn new(seed: u64) -> Self {
        Self::on(MemoryStorage::crashable(), seed)
    }

    fn on(storage: MemoryStorage, seed: u64) -> Self {
        Self {
            storage,
            power: Arc::new(Mutex::new(Power {
                random: Seeded::new(seed),
                left: None,
                after: None,
            })),
        }
    }

    /// The faults other than loss of power: a full disk, writes and syncs that fail.
    pub fn faults(&self) -> &MemoryStorage {
        &self.storage
    }

    /// After so many more writes, changes of length and syncs the power goes.
    pub fn cut_after(&self, calls: u64) {
        self.power().left = Some(calls);
    }

    /// Whether the power has gone. The process must be killed before it takes another step.
    pub fn is_cut(&self) -> bool {
        self.power().after.is_some()
    }

    /// The disk as the next process finds it after the power has gone, now if not before. Of what
    /// was not synced, any part may be there.
    pub fn after_power_loss(&self) -> Self {
        let mut power = self.power();
        let seed = power.random.next_u64();
        let storage = match power.after.take() {
            Some(storage) => storage,
            None => lose(&self.storage, &mut power.random),
        };
        Self::on(storage, seed)
    }

    /// The disk as the next process finds it after this one was killed: whatever was written is
    /// there.
    pub fn after_kill(&self) -> Self {
        let seed = self.power().random.next_u64();
        Self::on(self.storage.crash_image_with(|_| true), seed)
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        // Nothing panics while it holds the lock halfway through a change.
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; an error once the power has gone.
    fn count(&self, begun: impl FnOnce(&MemoryStorage, &mut Seeded)) -> io::Result<()> {
        let mut power = self.power();
        if power.after.is_some() {
            return Err(gone());
        }
        match &mut power.left {
            Some(0) => {
                begun(&self.storage, &mut power.random);
                let after = lose(&self.storage, &mut power.random);
                power.after = Some(after);
                Err(gone())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the power has gone")
}

/// What a loss of power leaves: all that was synced, and of the rest nothing, everything or parts.
fn lose(storage: &MemoryStorage, random: &mut Seeded) -> MemoryStorage {
    let share = *random.pick(&[0.0, 1.0, 0.5, 0.9]);
    storage.crash_image_with(|_| random.unit() < share)
}

impl JournalStorage for SimulatedDisk {
    fn try_lock(&self) -> io::Result<bool> {
        self.storage.try_lock()
    }

    fn len(&self) -> io::Result<u64> {
        self.storage.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.storage.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.count(|_, _| ())?;
        self.storage.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.count(|storage, random| {
            let torn = random.below(data.len() + 1);
            // A write that fails has written nothing, which a torn one may have as well.
            drop(storage.write(offset, &data[..torn]));
        })?;
        self.storage.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.count(|_, _| ())?;
        self.storage.sync_data()
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn has_reserve(&self) -> io::Result<bool> {
        self.storage.has_reserve()
    }

    fn release_reserve(&self) -> io::Result<()> {
        self.storage.release_reserve()
    }

    fn restore_reserve(&self, margin: bool) -> io::Result<()> {
        self.storage.restore_reserve(margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_torn() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = SimulatedDisk::new(seed);
            disk.set_len(8).expect("there is power");
            disk.write(0, b"safe").expect("there is power");
            disk.sync_data().expect("there is power");
            disk.cut_after(0);
            assert!(!disk.is_cut());
            disk.write(4, b"torn").expect_err("the power goes");
            assert!(disk.is_cut());
            disk.sync_data().expect_err("the power is gone");
            let bytes = disk.after_power_loss().faults().to_bytes();
            assert_eq!(&bytes[..4], b"safe");
            let written = bytes[4..].iter().take_while(|byte| **byte != 0).count();
            assert_eq!(bytes[4..4 + written], b"torn"[..written]);
            kept.insert(written);
        }
        assert_eq!(kept.len(), 5, "{kept:?}");
    }

    #[test]
    fn a_kill_loses_nothing_that_was_written() {
        let disk = SimulatedDisk::new(1);
        disk.set_len(4).expect("there is power");
        disk.write(0, b"here").expect("there is power");
        assert_eq!(disk.after_kill().faults().to_bytes(), b"here");
    }
}
