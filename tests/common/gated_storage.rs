//! A journal's storage that waits, once, before it makes something durable.

use std::{
    io,
    sync::{Arc, Condvar, Mutex},
};

use dbmanager_core::journal::{JournalStorage, MemoryStorage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    New,
    Closed,
    WaitedFor,
    Open,
}

/// Storage in memory behind a gate.
#[derive(Debug)]
pub struct GatedStorage {
    inner: Arc<MemoryStorage>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

impl GatedStorage {
    pub fn new(inner: Arc<MemoryStorage>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            gate: Mutex::new(Gate::New),
            changed: Condvar::new(),
        })
    }

    /// The next sync waits; only the first call has an effect.
    pub fn close_once(&self) {
        let mut gate = self.gate.lock().unwrap();
        if *gate == Gate::New {
            *gate = Gate::Closed;
        }
    }

    /// Whether a sync waits.
    pub fn is_waited_for(&self) -> bool {
        *self.gate.lock().unwrap() == Gate::WaitedFor
    }

    pub fn open_for_good(&self) {
        *self.gate.lock().unwrap() = Gate::Open;
        self.changed.notify_all();
    }
}

impl JournalStorage for GatedStorage {
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        while matches!(*gate, Gate::Closed | Gate::WaitedFor) {
            *gate = Gate::WaitedFor;
            gate = self.changed.wait(gate).unwrap();
        }
        drop(gate);
        self.inner.sync_data()
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}
