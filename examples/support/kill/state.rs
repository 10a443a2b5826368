//! What the stores must hold, as the ledger has it.

use std::collections::BTreeMap;

use dbmanager::model::Version;

use super::ledger::{Intent, Line};

/// What was written last under an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) version: Version,
    /// The write it is the work of.
    pub(crate) write: u64,
    pub(crate) deleted: bool,
}

/// An id that something was written under, or was about to be.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What was acknowledged last, or found after a kill.
    pub(crate) held: Option<Held>,
    /// The write that was not acknowledged before the last kill: all of it is there, or nothing.
    pub(crate) in_flight: Option<u64>,
}

/// A write that was never acknowledged; it is sent again if it has a key.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) intent: Intent,
    /// The versions that were found after a kill, in the order of its ids.
    pub(crate) found: Vec<Option<Version>>,
}

/// The ledger, read to its end.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) documents: BTreeMap<String, Known>,
    pub(crate) open: BTreeMap<u64, Open>,
    /// Acknowledged writes with a key, and their versions.
    pub(crate) completed: Vec<(Intent, Vec<Version>)>,
    pub(crate) acknowledgements: usize,
    /// Versions that are known to have been issued.
    pub(crate) versions: usize,
    pub(crate) next_write: u64,
}

impl State {
    pub(crate) fn read(lines: Vec<Line>) -> Result<Self, String> {
        let mut state = Self::default();
        for line in lines {
            state.add(line)?;
        }
        Ok(state)
    }

    pub(crate) fn add(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Intent(intent) => {
                self.next_write = self.next_write.max(intent.write + 1);
                let found = vec![None; intent.ids.len()];
                let write = intent.write;
                self.open.insert(write, Open { intent, found });
                self.send(write)
            }
            Line::Again(write) => self.send(write),
            Line::Acknowledged(write, versions) => {
                let open = self.take(write)?;
                self.acknowledgements += 1;
                self.settle(&open, versions.iter().copied().map(Some));
                if open.intent.keyed {
                    self.completed.push((open.intent, versions));
                }
                Ok(())
            }
            Line::Found(write, versions) => {
                let mut open = self.take(write)?;
                self.settle(&open, versions.iter().copied());
                if open.intent.keyed {
                    for (known, version) in open.found.iter_mut().zip(versions) {
                        *known = known.or(version);
                    }
                    self.open.insert(write, open);
                }
                Ok(())
            }
        }
    }

    fn take(&mut self, write: u64) -> Result<Open, String> {
        let open = self.open.remove(&write);
        open.ok_or_else(|| format!("the ledger has no write {write} that was sent"))
    }

    fn send(&mut self, write: u64) -> Result<(), String> {
        let open = self.take(write)?;
        for (id, found) in open.intent.ids.iter().zip(&open.found) {
            if found.is_none() {
                self.documents.entry(id.clone()).or_default().in_flight = Some(write);
            }
        }
        self.open.insert(write, open);
        Ok(())
    }

    /// What was in flight of this write is known now.
    fn settle(&mut self, open: &Open, versions: impl Iterator<Item = Option<Version>>) {
        let write = open.intent.write;
        for (id, version) in open.intent.ids.iter().zip(versions) {
            let known = self.documents.entry(id.clone()).or_default();
            if known.in_flight != Some(write) {
                continue;
            }
            known.in_flight = None;
            if let Some(version) = version {
                self.versions += 1;
                known.held = Some(Held {
                    version,
                    write,
                    deleted: open.intent.delete,
                });
            }
        }
    }
}
