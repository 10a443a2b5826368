//! What is read from the backlog's state: the newest version of a document, how a version stands,
//! what to send next, what may be truncated.

use std::{collections::VecDeque, sync::Arc};

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

    pub(super) fn take_batch(&mut self, index: usize, limit: usize) -> Vec<Sending> {
        let mut batch: Vec<Sending> = Vec::new();
        let mut others = VecDeque::new();
        while batch.len() < limit {
            let Some(key) = self.queues[index].ready.pop_front() else {
                break;
            };
            // A document that went and came back may stand in the queue twice.
            let queued = self
                .documents
                .get(&key)
                .is_some_and(|d| d.progress[index].queued);
            if !queued {
                continue;
            }
            let Some(newest) = self.newest(&key) else {
                self.documents
                    .entry(key)
                    .and_modify(|d| d.progress[index].queued = false);
                continue;
            };
            let fits = batch.first().is_none_or(|first| {
                first.document.collection == key.collection && !first.document.is_drop()
            }) && (batch.is_empty() || !key.is_drop());
            let Some(progress) = self.documents.get_mut(&key).map(|d| &mut d.progress[index])
            else {
                continue;
            };
            // The store was found to hold it after it had been queued.
            if !progress.needs(newest.version) {
                progress.queued = false;
                continue;
            }
            if !fits {
                others.push_back(key);
                // Looking further would turn a queue of many collections into a quadratic walk.
                if others.len() >= limit {
                    break;
                }
                continue;
            }
            progress.queued = false;
            progress.in_flight = true;
            batch.push(Sending {
                document: key,
                newest,
            });
        }
        for key in others.into_iter().rev() {
            self.queues[index].ready.push_front(key);
        }
        batch
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
