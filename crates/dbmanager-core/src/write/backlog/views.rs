//! What is read from the backlog's state: the newest version of a document, how a version stands,
//! what to send next, what may be truncated.

use std::sync::Arc;

use super::{
    super::decide::Acknowledgement,
    slot,
    state::Inner,
    types::{DocumentKey, Newest, Participation, Sending, Standing, StoreBacklog},
};
use crate::model::{Role, Version};

impl Inner {
    pub(super) fn newest(&self, key: &DocumentKey) -> Option<Newest> {
        let version = *self.documents.get(key)?.versions.last()?;
        let entry = self.entries.get(&version)?;
        Some(Newest {
            version,
            kind: entry.header.kind,
            content: entry.content.clone(),
        })
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

    /// Takes from both ends of a queue in turns: what has waited longest, and what was written
    /// just now, which would else stand behind a backlog of hours.
    pub(super) fn take_batch(&mut self, index: usize, limit: usize) -> Vec<Sending> {
        let mut batch: Vec<Sending> = Vec::new();
        let (mut older, mut newer) = (Vec::new(), Vec::new());
        self.queues[index].newest_first = !self.queues[index].newest_first;
        let mut from_newest = self.queues[index].newest_first;
        while batch.len() < limit {
            let queue = &mut self.queues[index].ready;
            let (key, others) = match from_newest {
                true => (queue.pop_back(), &mut newer),
                false => (queue.pop_front(), &mut older),
            };
            let Some(key) = key else { break };
            let Some(newest) = self.wanted(index, &key) else {
                continue;
            };
            let fits = batch.first().is_none_or(|first| {
                first.document.collection == key.collection && !first.document.is_drop()
            }) && (batch.is_empty() || !key.is_drop());
            if fits {
                if let Some(document) = self.documents.get_mut(&key) {
                    document.progress[index].take();
                }
                let document = key;
                batch.push(Sending { document, newest });
            } else {
                others.push(key);
                // Looking further would turn a queue of many collections into a quadratic walk.
                if older.len() + newer.len() >= limit {
                    break;
                }
            }
            from_newest = !from_newest;
        }
        let queue = &mut self.queues[index].ready;
        older
            .into_iter()
            .rev()
            .for_each(|key| queue.push_front(key));
        queue.extend(newer.into_iter().rev());
        batch
    }

    /// The version to send of a document that stood in the queue; `None` if there is none (any
    /// more): a document may stand there twice, and the store may have been found to hold it
    /// meanwhile.
    fn wanted(&mut self, index: usize, key: &DocumentKey) -> Option<Newest> {
        if !self.documents.get(key)?.progress[index].queued {
            return None;
        }
        let newest = self.newest(key);
        let progress = &mut self.documents.get_mut(key)?.progress[index];
        let newest = newest.filter(|newest| progress.needs(newest.version));
        progress.queued = newest.is_some();
        newest
    }

    pub(super) fn next_to_load(&self, index: usize, limit: usize) -> Vec<Version> {
        let queue = &self.queues[index].ready;
        // From both ends, as they are taken.
        let older = queue.iter().take(limit.div_ceil(2));
        let newer = queue.iter().skip(limit.div_ceil(2)).rev().take(limit / 2);
        older
            .chain(newer)
            .filter_map(|key| {
                let version = *self.documents.get(key)?.versions.last()?;
                let entry = self.entries.get(&version)?;
                entry.content.is_none().then_some(version)
            })
            .collect()
    }

    pub(super) fn truncation_candidates(&mut self, limit: usize) -> Vec<Version> {
        let mut candidates: Vec<Version> = self.void.iter().copied().take(limit).collect();
        let mut again = Vec::new();
        while candidates.len() < limit {
            let Some(key) = self.settled.pop_first() else {
                break;
            };
            let Some(document) = self.documents.get(&key) else {
                continue;
            };
            if document.pins > 0 {
                continue;
            }
            let confirmed = self
                .participation
                .iter()
                .zip(&document.progress)
                .filter(|(participation, _)| participation.holds_truncation())
                .map(|(_, progress)| progress.confirmed)
                .min()
                .unwrap_or(Version::ZERO);
            let before = candidates.len();
            candidates.extend(
                document
                    .versions
                    .iter()
                    .copied()
                    .take_while(|v| *v <= confirmed),
            );
            if candidates.len() > before {
                again.push(key);
            }
        }
        // Until `remove` they stay candidates: a failed truncation is tried again.
        self.settled.extend(again);
        candidates
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
