//! The state behind the backlog's lock, and how it changes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::Notify;

use super::types::{DocumentKey, Learnt, Participation, Sent};
use crate::{
    backend::DocumentState,
    journal::{EntryHeader, EntryKind},
    model::{CollectionKey, Version},
};

/// Bytes of content kept in memory; what is beyond is read from the journal when it is needed.
pub(super) const CONTENT_IN_MEMORY: u64 = 256 * 1024 * 1024;

/// One store's part in one document.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The highest version that the store is known to hold.
    pub(super) confirmed: Version,
    /// The highest version that an operator has the store go without.
    pub(super) given_up: Version,
    pub(super) queued: bool,
    /// It was written again while it was queued, and stands at the queue's newer end as well.
    pub(super) hurried: bool,
    pub(super) in_flight: bool,
    pub(super) parked: Option<(Version, Arc<str>)>,
    pub(super) error: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Document {
    /// Live versions, ascending.
    pub(super) versions: Vec<Version>,
    pub(super) progress: [Progress; 3],
    /// Truncation is held while someone decides on what the authority holds.
    pub(super) pins: u32,
    pub(super) waiters: Vec<Arc<Notify>>,
    /// Whether it stands in `Inner::settled`.
    pub(super) settled: bool,
    /// Per store, whether it has yet to confirm the newest version; counted in `Inner::lagging`.
    pub(super) lagging: [bool; 3],
}

#[derive(Debug)]
pub(super) struct LiveEntry {
    pub(super) document: DocumentKey,
    pub(super) header: EntryHeader,
    pub(super) content: Option<DocumentState>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) ready: VecDeque<DocumentKey>,
    /// From which end the last batch was begun.
    pub(super) newest_first: bool,
    pub(super) circuit_open: bool,
    pub(super) error: Option<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) entries: BTreeMap<Version, LiveEntry>,
    pub(super) documents: HashMap<DocumentKey, Document>,
    pub(super) participation: [Participation; 3],
    pub(super) queues: [Queue; 3],
    pub(super) content_bytes: u64,
    /// Entries of dropped collections and others that no store needs any more.
    pub(super) void: BTreeSet<Version>,
    /// Documents that may have entries to let go of, and some that are gone.
    pub(super) settled: VecDeque<DocumentKey>,
    /// Per store, documents whose newest version it has yet to confirm.
    pub(super) lagging: [usize; 3],
    /// Whether this manager sends to the stores. One that does not keeps no queues.
    pub(super) sending: bool,
    /// The journal was followed up to here: an entry up to this version that is not among
    /// `entries` has come and gone.
    pub(super) followed: Version,
    /// Dropped generations: entries that are learnt of later are void.
    pub(super) dropped: BTreeSet<CollectionKey>,
    /// What to tell other instances; `None`: there can be none.
    pub(super) outbox: Option<Vec<Learnt>>,
}

impl Inner {
    /// Adds an entry of this manager's own. It may have been followed already, and even be gone.
    pub(super) fn insert_own(&mut self, header: EntryHeader, content: Option<DocumentState>) {
        if header.version > self.followed || self.entries.contains_key(&header.version) {
            self.insert(header, content);
        }
    }

    pub(super) fn insert(&mut self, header: EntryHeader, content: Option<DocumentState>) {
        let version = header.version;
        let key = DocumentKey::new(header.collection.clone(), Arc::clone(&header.id));
        if let Some(known) = self.entries.get_mut(&version) {
            let fits = self.content_bytes.saturating_add(header.bytes) <= CONTENT_IN_MEMORY;
            if known.content.is_none() && content.is_some() && fits {
                self.content_bytes += header.bytes;
                known.content = content;
            }
            return;
        }
        if header.kind == EntryKind::DropCollection {
            self.void_collection(&key.collection);
            self.dropped.insert(key.collection.clone());
        } else if self.dropped.contains(&key.collection) {
            self.void.insert(version);
            let entry = LiveEntry {
                document: key,
                header,
                content: None,
            };
            self.entries.insert(version, entry);
            return;
        }
        let content = if content.is_some()
            && self.content_bytes.saturating_add(header.bytes) <= CONTENT_IN_MEMORY
        {
            self.content_bytes += header.bytes;
            content
        } else {
            None
        };
        self.entries.insert(
            version,
            LiveEntry {
                document: key.clone(),
                header,
                content,
            },
        );
        let document = self.documents.entry(key.clone()).or_default();
        if let Err(position) = document.versions.binary_search(&version) {
            document.versions.insert(position, version);
        }
        for index in 0..self.participation.len() {
            let progress = &mut document.progress[index];
            if progress
                .parked
                .as_ref()
                .is_some_and(|(parked, _)| *parked < version)
            {
                progress.parked = None;
            }
            let sends = self.sending && self.participation[index].is_sent_to();
            if sends && progress.wants(&document.versions) {
                progress.queued = true;
                self.queues[index].ready.push_back(key.clone());
            } else if sends && progress.queued && !progress.hurried {
                progress.hurried = true;
                self.queues[index].ready.push_back(key.clone());
            }
        }
        document.count_lagging(&mut self.lagging);
        self.settle(&key);
    }

    /// A document that changed may have entries to let go of, which is for the sender to do: with
    /// nobody to look at them the list would only grow.
    pub(super) fn settle(&mut self, key: &DocumentKey) {
        if !self.sending {
            return;
        }
        if let Some(document) = self.documents.get_mut(key)
            && !std::mem::replace(&mut document.settled, true)
        {
            self.settled.push_back(key.clone());
        }
    }

    /// Whether the store is known to hold this version or a newer one.
    pub(super) fn holds(&self, index: usize, document: &DocumentKey, version: Version) -> bool {
        self.documents.get(document).is_none_or(|document| {
            document.progress[index].confirmed >= version
                || document
                    .versions
                    .first()
                    .is_none_or(|oldest| *oldest > version)
        })
    }

    pub(super) fn is_caught_up_to(&self, index: usize, version: Version) -> bool {
        self.lagging[index] == 0
            || !self.documents.values().any(|document| {
                let progress = &document.progress[index];
                let unconfirmed = |live: &Version| *live > progress.confirmed && *live <= version;
                progress.parked.is_none() && document.versions.iter().any(unconfirmed)
            })
    }

    pub(super) fn forget_document(&mut self, key: &DocumentKey) -> Option<Document> {
        let document = self.documents.remove(key)?;
        for (count, lags) in self.lagging.iter_mut().zip(document.lagging) {
            *count -= usize::from(lags);
        }
        document.wake();
        Some(document)
    }

    /// Entries of a dropped generation need no store any more.
    pub(super) fn void_collection(&mut self, collection: &CollectionKey) {
        let keys: Vec<_> = self
            .documents
            .keys()
            .filter(|key| key.collection == *collection && !key.is_drop())
            .cloned()
            .collect();
        for key in keys {
            if let Some(document) = self.forget_document(&key) {
                self.void.extend(document.versions);
            }
        }
    }

    pub(super) fn record(&mut self, index: usize, key: DocumentKey, version: Version, sent: Sent) {
        let sends = self.sending && self.participation[index].is_sent_to();
        let Some(document) = self.documents.get_mut(&key) else {
            return;
        };
        let progress = &mut document.progress[index];
        progress.in_flight = false;
        let confirmed = matches!(sent, Sent::Confirmed);
        match sent {
            Sent::Confirmed => progress.confirm(version),
            Sent::Failed(error) => progress.error = Some(error),
            // A newer version that was written meanwhile is to be sent all the same.
            Sent::Parked(error) if document.versions.last() > Some(&version) => {
                progress.error = Some(error);
            }
            Sent::Parked(error) => progress.parked = Some((version, error)),
        }
        if sends && progress.wants(&document.versions) {
            progress.queued = true;
            self.queues[index].ready.push_back(key.clone());
        }
        document.wake();
        document.count_lagging(&mut self.lagging);
        self.settle(&key);
        if confirmed {
            self.learn(Learnt::Held(index, version));
        }
    }

    /// Records that a store holds a version of the document, or a newer one.
    pub(super) fn hold(&mut self, index: usize, key: &DocumentKey, version: Version) {
        let Some(document) = self.documents.get_mut(key) else {
            return;
        };
        document.progress[index].confirm(version);
        document.wake();
        document.count_lagging(&mut self.lagging);
        let live = document.versions.iter().rev().find(|v| **v <= version);
        let live = live.copied();
        self.settle(key);
        if let Some(version) = live {
            self.learn(Learnt::Held(index, version));
        }
    }

    /// Keeps what other instances are to be told, if this manager is the sender.
    pub(super) fn learn(&mut self, learnt: Learnt) {
        if let Some(outbox) = self.outbox.as_mut().filter(|_| self.sending) {
            outbox.push(learnt);
        }
    }

    /// Queues whatever the store should be sent and is not queued or under way.
    pub(super) fn requeue(&mut self, index: usize) {
        if !self.sending || !self.participation[index].is_sent_to() {
            self.queues[index].ready.clear();
            for document in self.documents.values_mut() {
                document.progress[index].queued = false;
                document.progress[index].hurried = false;
            }
            return;
        }
        let mut wanted: Vec<(Version, DocumentKey)> = Vec::new();
        for (key, document) in &mut self.documents {
            let progress = &mut document.progress[index];
            if let Some(newest) = document.versions.last()
                && progress.wants(&document.versions)
            {
                progress.queued = true;
                wanted.push((*newest, key.clone()));
            }
        }
        wanted.sort();
        self.queues[index]
            .ready
            .extend(wanted.into_iter().map(|(_, key)| key));
    }

    /// Every document may have entries to let go of, the oldest first.
    pub(super) fn resettle(&mut self) {
        if !self.sending {
            self.settled.clear();
            for document in self.documents.values_mut() {
                document.settled = false;
            }
            return;
        }
        let mut keys: Vec<(Option<Version>, DocumentKey)> = self
            .documents
            .iter()
            .map(|(key, document)| (document.versions.first().copied(), key.clone()))
            .collect();
        keys.sort_unstable();
        for (_, key) in keys {
            self.settle(&key);
        }
    }

    /// Has everybody who waits for a document look again.
    pub(super) fn wake_everybody(&self) {
        self.documents.values().for_each(Document::wake);
    }

    pub(super) fn remove(&mut self, version: Version) {
        self.void.remove(&version);
        let Some(entry) = self.entries.remove(&version) else {
            return;
        };
        if entry.content.is_some() {
            self.content_bytes = self.content_bytes.saturating_sub(entry.header.bytes);
        }
        let Some(document) = self.documents.get_mut(&entry.document) else {
            return;
        };
        document.versions.retain(|v| *v != version);
        if document.versions.is_empty() && document.pins == 0 {
            self.forget_document(&entry.document);
        } else {
            document.count_lagging(&mut self.lagging);
        }
    }
}

impl Document {
    /// Brings the counts in line with what changed.
    pub(super) fn count_lagging(&mut self, counts: &mut [usize; 3]) {
        let newest = self.versions.last().copied().unwrap_or(Version::ZERO);
        for ((progress, lagged), count) in self.progress.iter().zip(&mut self.lagging).zip(counts) {
            let lags = newest > progress.confirmed;
            if lags != *lagged {
                *lagged = lags;
                if lags { *count += 1 } else { *count -= 1 }
            }
        }
    }

    fn wake(&self) {
        for waiter in &self.waiters {
            waiter.notify_one();
        }
    }
}

impl Progress {
    /// Its turn has come.
    pub(super) fn take(&mut self) {
        self.queued = false;
        self.hurried = false;
        self.in_flight = true;
    }

    /// The store holds this version or a newer one.
    pub(super) fn confirm(&mut self, version: Version) {
        self.confirmed = self.confirmed.max(version);
        self.error = None;
        if self
            .parked
            .as_ref()
            .is_some_and(|(parked, _)| *parked <= version)
        {
            self.parked = None;
        }
    }

    /// Whether the newest version should be queued: it is not confirmed, parked, queued or under
    /// way.
    pub(super) fn wants(&self, versions: &[Version]) -> bool {
        let newest = versions.last();
        !self.queued && !self.in_flight && newest.is_some_and(|newest| self.needs(*newest))
    }

    /// Whether this version should still be sent: it is not confirmed, and not parked.
    pub(super) fn needs(&self, version: Version) -> bool {
        self.parked.is_none() && version > self.confirmed
    }
}
