//! What is read from the backlog's state: the newest version of a document, how a version stands,
//! what to send next, what may be truncated.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    super::decide::Acknowledgement,
    slot,
    state::{Document, Inner, LiveEntry},
    types::{DocumentKey, Newest, Participation, Sending, Standing, StoreBacklog},
};
use crate::model::{ParkedWrite, Role, Version};

/// Bytes from which on a batch is sent as it is, however few documents it has: a sender holds three
/// batches in memory.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

fn newest(entries: &BTreeMap<Version, LiveEntry>, version: Version) -> Option<Newest> {
    let entry = entries.get(&version)?;
    Some(Newest {
        version,
        kind: entry.header.kind,
        content: entry.content.clone(),
    })
}

/// The slots of the other stores.
fn other_slots(index: usize) -> impl Iterator<Item = usize> {
    let all = Role::ALL.into_iter().map(slot);
    all.filter(move |other| *other != index)
}

impl Document {
    /// The version to send to a store in whose queue it stood; `None` if there is none (any more):
    /// a document may stand there twice, and the store may have been found to hold it meanwhile.
    fn wanted(&mut self, index: usize) -> Option<Version> {
        let progress = &mut self.progress[index];
        if !progress.queued {
            return None;
        }
        let newest = self.versions.last().copied();
        let newest = newest.filter(|newest| progress.needs(*newest));
        progress.queued = newest.is_some();
        newest
    }
}

impl Inner {
    pub(super) fn newest(&self, key: &DocumentKey) -> Option<Newest> {
        newest(&self.entries, *self.documents.get(key)?.versions.last()?)
    }

    pub(super) fn standing(&self, key: &DocumentKey, version: Version) -> Vec<Standing> {
        let document = self.documents.get(key);
        Role::ALL
            .into_iter()
            .filter(|role| self.participation[slot(*role)].is_enabled())
            .map(|role| {
                let index = slot(role);
                let progress = document
                    .filter(|d| d.versions.first().is_some_and(|oldest| *oldest <= version))
                    .map(|d| &d.progress[index]);
                let queue = &self.queues[index];
                // An entry that is no longer live was confirmed by every store that holds
                // truncation; only one that needs a rebuild may still lack it.
                let acknowledgement = match self.participation[index] {
                    Participation::Skipped
                    | Participation::NeedsRestore
                    | Participation::Rebuilding => Acknowledgement::Skipped,
                    _ => match progress {
                        None => Acknowledgement::Applied,
                        Some(p) if p.confirmed >= version => Acknowledgement::Applied,
                        Some(p) if p.parked.is_some() => Acknowledgement::Parked,
                        Some(_) if queue.circuit_open => Acknowledgement::CircuitOpen,
                        Some(_) => Acknowledgement::Waiting,
                    },
                };
                let error = match (acknowledgement, progress) {
                    (Acknowledgement::Applied, _) | (_, None) => None,
                    (_, Some(p)) => p
                        .parked
                        .as_ref()
                        .map(|(_, error)| Arc::clone(error))
                        .or_else(|| p.error.clone())
                        .or_else(|| queue.error.clone()),
                };
                Standing {
                    role,
                    acknowledgement,
                    error,
                }
            })
            .collect()
    }

    /// Takes from one end of a queue and the next time from the other: what has waited longest, and
    /// what was written just now, which would else stand behind a backlog of hours. Whole batches in
    /// turns, in the order of writing, since documents written together are often neighbours in a
    /// store too.
    pub(super) fn take_batch(&mut self, index: usize, limit: usize) -> Vec<Sending> {
        let mut batch: Vec<Sending> = Vec::new();
        let mut bytes = 0;
        let mut others = Vec::new();
        let from_newest = !self.queues[index].newest_first;
        self.queues[index].newest_first = from_newest;
        // Looking further would turn a queue of many collections into a quadratic walk.
        while batch.len() < limit && others.len() < limit && bytes < BATCH_BYTES {
            let queue = &mut self.queues[index].ready;
            let taken = match from_newest {
                true => queue.pop_back(),
                false => queue.pop_front(),
            };
            let Some(key) = taken else { break };
            let Some(document) = self.documents.get_mut(&key) else {
                continue;
            };
            let wanted = document.wanted(index);
            let Some(newest) = wanted.and_then(|version| newest(&self.entries, version)) else {
                continue;
            };
            let fits = batch.first().is_none_or(|first| {
                first.document.collection == key.collection && !first.document.is_drop()
            }) && (batch.is_empty() || !key.is_drop());
            if fits {
                document.progress[index].take();
                let entry = self.entries.get(&newest.version);
                bytes += entry.map_or(0, |entry| entry.header.bytes);
                let held_by_others = other_slots(index)
                    .filter(|other| self.participation[*other] == Participation::Full)
                    .filter(|other| document.progress[*other].confirmed >= newest.version)
                    .count();
                batch.push(Sending {
                    document: key,
                    newest,
                    held_by_others,
                });
            } else {
                others.push(key);
            }
        }
        let queue = &mut self.queues[index].ready;
        let others = others.into_iter().rev();
        match from_newest {
            true => queue.extend(others),
            false => others.for_each(|key| queue.push_front(key)),
        }
        if from_newest {
            batch.reverse();
        }
        batch
    }

    /// How many of the other stores acknowledge, as far as is known.
    pub(super) fn working_others(&self, index: usize) -> usize {
        let works = |other: &usize| {
            let queue = &self.queues[*other];
            self.participation[*other] == Participation::Full
                && queue.error.is_none()
                && !queue.circuit_open
        };
        other_slots(index).filter(works).count()
    }

    /// Looks at so many documents that may have versions to let go of, and adds those.
    pub(super) fn find_candidates(&mut self, documents: usize, found: &mut Vec<Version>) {
        for _ in 0..documents {
            let Some(key) = self.settled.pop_front() else {
                return;
            };
            let Some(document) = self.documents.get_mut(&key) else {
                continue;
            };
            document.settled = false;
            if document.pins > 0 {
                continue;
            }
            let confirmed = self
                .participation
                .iter()
                .zip(&document.progress)
                .filter(|(participation, _)| participation.holds_truncation())
                .map(|(participation, progress)| match participation {
                    // Whatever it confirmed, it lacks something now, perhaps this.
                    Participation::NeedsRestore => Version::ZERO,
                    _ => progress.confirmed,
                })
                .min()
                .unwrap_or(Version::ZERO);
            let before = found.len();
            let versions = document.versions.iter().copied();
            found.extend(versions.take_while(|version| *version <= confirmed));
            if found.len() > before {
                self.settle(&key);
            }
        }
    }

    pub(super) fn parked(&self, role: Role) -> Vec<ParkedWrite> {
        let parked = self.documents.iter().filter_map(|(key, document)| {
            let (version, error) = document.progress[slot(role)].parked.as_ref()?;
            Some(ParkedWrite {
                role,
                collection: Arc::clone(&key.collection.name),
                id: (!key.is_drop()).then(|| Arc::clone(&key.id)),
                version: *version,
                error: error.to_string(),
                written_at: self.entries.get(version)?.header.appended_at,
            })
        });
        let mut parked: Vec<_> = parked.collect();
        parked.sort_unstable_by_key(|write| write.version);
        parked
    }

    pub(super) fn store_backlog(&self, index: usize) -> StoreBacklog {
        let mut backlog = StoreBacklog {
            error: self.queues[index].error.clone(),
            ..StoreBacklog::default()
        };
        for document in self.documents.values() {
            let progress = &document.progress[index];
            let missing = document
                .versions
                .iter()
                .filter(|v| **v > progress.confirmed);
            let mut oldest = None;
            for version in missing {
                backlog.entries += 1;
                oldest = oldest.or(self.entries.get(version).map(|e| e.header.appended_at));
            }
            if progress.parked.is_some() {
                backlog.parked += 1;
            }
            backlog.oldest = match (backlog.oldest, oldest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        backlog
    }
}
