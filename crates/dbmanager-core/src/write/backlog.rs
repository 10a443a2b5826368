//! The live entries and what each store has confirmed of them: the read-your-writes view, the
//! queue of every sender and the answer to "may this entry be truncated" are read from here.
//!
//! One lock, held only for look-ups and bookkeeping. A store's part is kept per document and not
//! per entry, because only the newest live version is sent and a confirmation of it covers all
//! older ones.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::decide::Acknowledgement;
use crate::{
    backend::DocumentState,
    journal::{EntryHeader, EntryKind, ParkedEntry},
    model::{CollectionKey, Role, StoreId, Timestamp, Version},
};

/// Bytes of content kept in memory; what is beyond is read from the journal when it is needed.
const CONTENT_IN_MEMORY: u64 = 256 * 1024 * 1024;

/// A document, or with an empty id the drop of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DocumentKey {
    pub(crate) collection: CollectionKey,
    pub(crate) id: Arc<str>,
}

impl DocumentKey {
    pub(crate) fn new(collection: CollectionKey, id: Arc<str>) -> Self {
        Self { collection, id }
    }

    fn is_drop(&self) -> bool {
        self.id.is_empty()
    }
}

/// How a store takes part, as the backlog sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Participation {
    /// No such store.
    Absent,
    /// It is on the roster but switched off: it is not sent to, holds truncation, is not in n.
    Disabled,
    /// It is sent to, holds truncation and acknowledges.
    Full,
    /// It is being rebuilt: it is sent to and holds truncation, but does not acknowledge.
    Rebuilding,
    /// It needs a rebuild: it is in n, but is not sent to and holds nothing.
    Skipped,
    /// The authority lacks data: it is not sent to, and holds truncation.
    NeedsRestore,
}

impl Participation {
    fn is_sent_to(self) -> bool {
        matches!(self, Self::Full | Self::Rebuilding)
    }

    fn holds_truncation(self) -> bool {
        !matches!(self, Self::Absent | Self::Skipped)
    }

    /// Whether the store counts in n.
    pub(crate) fn is_enabled(self) -> bool {
        !matches!(self, Self::Absent | Self::Disabled)
    }
}

/// One store's part in one document.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The highest version that the store is known to hold.
    confirmed: Version,
    queued: bool,
    in_flight: bool,
    parked: Option<(Version, Arc<str>)>,
    error: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Document {
    /// Live versions, ascending.
    versions: Vec<Version>,
    progress: [Progress; 3],
    /// Truncation is held while someone decides on what the authority holds.
    pins: u32,
    waiters: Vec<Arc<Notify>>,
    /// Per store, whether it has yet to confirm the newest version; counted in `Inner::lagging`.
    lagging: [bool; 3],
}

#[derive(Debug)]
struct LiveEntry {
    document: DocumentKey,
    header: EntryHeader,
    content: Option<DocumentState>,
}

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<DocumentKey>,
    circuit_open: bool,
    error: Option<Arc<str>>,
}

#[derive(Debug)]
struct Inner {
    entries: BTreeMap<Version, LiveEntry>,
    documents: HashMap<DocumentKey, Document>,
    participation: [Participation; 3],
    queues: [Queue; 3],
    content_bytes: u64,
    /// Entries of dropped collections and others that no store needs any more.
    void: BTreeSet<Version>,
    /// Documents that may have entries to let go of.
    settled: BTreeSet<DocumentKey>,
    /// Per store, documents whose newest version it has yet to confirm.
    lagging: [usize; 3],
}

/// One store's backlog in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreBacklog {
    pub(crate) entries: u64,
    pub(crate) parked: u64,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) error: Option<Arc<str>>,
}

/// A document's newest live version with its content, if that is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) version: Version,
    pub(crate) kind: EntryKind,
    pub(crate) content: Option<DocumentState>,
}

/// What a sender sends for one document.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) document: DocumentKey,
    pub(crate) newest: Newest,
}

/// What became of a version at a store.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// The store holds it or a newer one.
    Confirmed,
    /// It did not take it; it is sent again.
    Failed(Arc<str>),
    /// It refused it for good.
    Parked(Arc<str>),
}

/// How a version stands at every store.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) acknowledgement: Acknowledgement,
    pub(crate) error: Option<Arc<str>>,
}

/// The shared state of the write room.
#[derive(Debug)]
pub(crate) struct Backlog {
    inner: Mutex<Inner>,
    /// One per store: there is something to send.
    work: [Notify; 3],
    /// There may be something to truncate.
    pub(crate) truncatable: Notify,
    /// Something was confirmed, parked or truncated.
    pub(crate) changed: Notify,
}

pub(crate) fn slot(role: Role) -> usize {
    match role {
        Role::Vector => 0,
        Role::Graph => 1,
        Role::Relational => 2,
    }
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                entries: BTreeMap::new(),
                documents: HashMap::new(),
                participation: [Participation::Absent; 3],
                queues: Default::default(),
                content_bytes: 0,
                void: BTreeSet::new(),
                settled: BTreeSet::new(),
                lagging: [0; 3],
            }),
            work: Default::default(),
            truncatable: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// The state stays consistent across a panic of another holder: every critical section below
    /// is a plain sequence of map operations.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the store may have something to be sent.
    pub(crate) async fn work(&self, role: Role) {
        self.work[slot(role)].notified().await;
    }

    /// Wakes a store's sender.
    pub(crate) fn wake(&self, role: Role) {
        self.work[slot(role)].notify_one();
    }

    pub(crate) fn set_participation(&self, role: Role, participation: Participation) {
        {
            let mut inner = self.lock();
            inner.participation[slot(role)] = participation;
            inner.requeue(slot(role));
            inner.resettle();
        }
        self.after_change(role);
    }

    pub(crate) fn participation(&self, role: Role) -> Participation {
        self.lock().participation[slot(role)]
    }

    fn after_change(&self, role: Role) {
        self.wake(role);
        self.truncatable.notify_one();
        self.changed.notify_waiters();
    }

    /// Adds a durable entry: from now on reads see it and senders send it.
    pub(crate) fn insert(&self, header: EntryHeader, content: Option<DocumentState>) {
        self.lock().insert(header, content);
        for role in Role::ALL {
            self.wake(role);
        }
        self.truncatable.notify_one();
    }

    /// Marks an entry as refused for good by a store, as recorded in the journal.
    pub(crate) fn mark_parked(&self, role: Role, parked: &ParkedEntry) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get(&parked.version) else {
            return;
        };
        let key = entry.document.clone();
        if let Some(document) = inner.documents.get_mut(&key) {
            document.progress[slot(role)].parked =
                Some((parked.version, Arc::from(parked.error.as_str())));
        }
    }

    /// The newest live version of a document, if any.
    pub(crate) fn newest(&self, document: &DocumentKey) -> Option<Newest> {
        self.lock().newest(document)
    }

    /// Whether the version is still live.
    pub(crate) fn is_live(&self, version: Version) -> bool {
        let inner = self.lock();
        inner.entries.contains_key(&version) && !inner.void.contains(&version)
    }

    /// Whether a store is known to hold `version` of the document or a newer one. What is no
    /// longer live is held by every store that acknowledges.
    pub(crate) fn is_confirmed(
        &self,
        role: Role,
        document: &DocumentKey,
        version: Version,
    ) -> bool {
        let inner = self.lock();
        let acknowledges = inner.participation[slot(role)] == Participation::Full;
        acknowledges
            && inner.documents.get(document).is_none_or(|d| {
                d.progress[slot(role)].confirmed >= version
                    || d.versions.first().is_none_or(|oldest| *oldest > version)
            })
    }

    /// How a version stands at the enabled stores.
    pub(crate) fn standing(&self, document: &DocumentKey, version: Version) -> Vec<Standing> {
        self.lock().standing(document, version)
    }

    /// A notification for every change of the document's standing.
    pub(crate) fn subscribe(&self, document: &DocumentKey) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        if let Some(document) = self.lock().documents.get_mut(document) {
            document
                .waiters
                .retain(|waiter| Arc::strong_count(waiter) > 1);
            document.waiters.push(Arc::clone(&notify));
        }
        notify
    }

    /// Holds the document's truncation until [`Backlog::unpin`].
    pub(crate) fn pin(&self, document: &DocumentKey) {
        self.lock()
            .documents
            .entry(document.clone())
            .or_default()
            .pins += 1;
    }

    pub(crate) fn unpin(&self, key: &DocumentKey) {
        let mut inner = self.lock();
        if let Some(document) = inner.documents.get_mut(key) {
            document.pins = document.pins.saturating_sub(1);
            if document.pins == 0 && document.versions.is_empty() {
                inner.forget_document(key);
            } else {
                inner.settled.insert(key.clone());
            }
        }
        drop(inner);
        self.truncatable.notify_one();
    }

    /// Takes up to `limit` documents of one collection that the store should be sent now, and
    /// marks them as under way. A drop comes alone.
    pub(crate) fn take_batch(&self, role: Role, limit: usize) -> Vec<Sending> {
        self.lock().take_batch(slot(role), limit)
    }

    /// Records what became of what was sent.
    pub(crate) fn record(&self, role: Role, results: Vec<(DocumentKey, Version, Sent)>) {
        {
            let mut inner = self.lock();
            for (document, version, sent) in results {
                inner.record(slot(role), document, version, sent);
            }
        }
        self.after_change(role);
    }

    /// Records versions that a store was found to hold.
    pub(crate) fn confirm_held(&self, role: Role, held: Vec<(DocumentKey, Version)>) {
        {
            let mut inner = self.lock();
            for (key, version) in held {
                let Some(document) = inner.documents.get_mut(&key) else {
                    continue;
                };
                let progress = &mut document.progress[slot(role)];
                progress.confirmed = progress.confirmed.max(version);
                for waiter in &document.waiters {
                    waiter.notify_one();
                }
                inner.count_lagging(&key);
                inner.settled.insert(key);
            }
        }
        self.after_change(role);
    }

    /// Forgets what the store has confirmed: it may have lost what it had not made durable.
    pub(crate) fn forget_confirmations(&self, role: Role) {
        let mut inner = self.lock();
        let keys: Vec<_> = inner.documents.keys().cloned().collect();
        for key in keys {
            if let Some(document) = inner.documents.get_mut(&key) {
                document.progress[slot(role)].confirmed = Version::ZERO;
            }
            inner.count_lagging(&key);
        }
        inner.requeue(slot(role));
    }

    /// Documents with live entries, for comparing them with what a store holds.
    pub(crate) fn live_documents(&self) -> Vec<DocumentKey> {
        let inner = self.lock();
        inner
            .documents
            .iter()
            .filter(|(_, d)| !d.versions.is_empty())
            .map(|(k, _)| k.clone())
            .collect()
    }

    /// Forgets every parked mark of a store, which is about to be filled anew.
    pub(crate) fn clear_parked(&self, role: Role) {
        let mut inner = self.lock();
        for document in inner.documents.values_mut() {
            document.progress[slot(role)].parked = None;
        }
    }

    /// Clears the parked mark of an entry, so that it is sent again.
    pub(crate) fn unpark(&self, role: Role, version: Version) -> bool {
        let found = {
            let mut inner = self.lock();
            let key = inner
                .entries
                .get(&version)
                .map(|entry| entry.document.clone());
            let progress = key
                .and_then(|key| inner.documents.get_mut(&key))
                .map(|document| &mut document.progress[slot(role)]);
            match progress {
                Some(progress) if progress.parked.as_ref().is_some_and(|p| p.0 == version) => {
                    progress.parked = None;
                    true
                }
                _ => false,
            }
        };
        if found {
            self.lock().requeue(slot(role));
            self.after_change(role);
        }
        found
    }

    /// Tells whether the store's circuit is open, and why it cannot be sent to at the moment.
    pub(crate) fn set_reachability(&self, role: Role, circuit_open: bool, error: Option<Arc<str>>) {
        let mut inner = self.lock();
        let queue = &mut inner.queues[slot(role)];
        let changed = queue.circuit_open != circuit_open || queue.error != error;
        queue.circuit_open = circuit_open;
        queue.error = error;
        if changed {
            let waiters: Vec<_> = inner
                .documents
                .values()
                .flat_map(|d| d.waiters.iter().cloned())
                .collect();
            drop(inner);
            for waiter in waiters {
                waiter.notify_one();
            }
            self.changed.notify_waiters();
        }
    }

    /// Versions that every store which holds truncation has confirmed, at most `limit`.
    pub(crate) fn truncation_candidates(&self, limit: usize) -> Vec<Version> {
        self.lock().truncation_candidates(limit)
    }

    /// Forgets entries that the journal has let go of.
    pub(crate) fn remove(&self, versions: &[Version]) {
        let mut inner = self.lock();
        for version in versions {
            inner.remove(*version);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What a store has yet to confirm.
    pub(crate) fn store_backlog(&self, role: Role) -> StoreBacklog {
        self.lock().store_backlog(slot(role))
    }

    /// Whether the store has confirmed every live entry it is sent.
    pub(crate) fn is_caught_up(&self, role: Role) -> bool {
        self.lock().lagging[slot(role)] == 0
    }
}

impl Inner {
    fn insert(&mut self, header: EntryHeader, content: Option<DocumentState>) {
        let version = header.version;
        let key = DocumentKey::new(header.collection.clone(), Arc::clone(&header.id));
        if header.kind == EntryKind::DropCollection {
            self.void_collection(&key.collection);
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
            if self.participation[index].is_sent_to() && progress.wants(&document.versions) {
                progress.queued = true;
                self.queues[index].ready.push_back(key.clone());
            }
        }
        self.count_lagging(&key);
        self.settled.insert(key);
    }

    /// Brings the counts in line with a document that changed.
    fn count_lagging(&mut self, key: &DocumentKey) {
        let Some(document) = self.documents.get_mut(key) else {
            return;
        };
        let newest = document.versions.last().copied().unwrap_or(Version::ZERO);
        for (index, progress) in document.progress.iter().enumerate() {
            let lags = newest > progress.confirmed;
            if lags != document.lagging[index] {
                document.lagging[index] = lags;
                if lags {
                    self.lagging[index] += 1
                } else {
                    self.lagging[index] -= 1
                }
            }
        }
    }

    fn forget_document(&mut self, key: &DocumentKey) -> Option<Document> {
        let document = self.documents.remove(key)?;
        for (count, lags) in self.lagging.iter_mut().zip(document.lagging) {
            *count -= usize::from(lags);
        }
        document
            .waiters
            .iter()
            .for_each(|waiter| waiter.notify_one());
        Some(document)
    }

    /// Entries of a dropped generation need no store any more.
    fn void_collection(&mut self, collection: &CollectionKey) {
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

    fn newest(&self, key: &DocumentKey) -> Option<Newest> {
        let version = *self.documents.get(key)?.versions.last()?;
        let entry = self.entries.get(&version)?;
        Some(Newest {
            version,
            kind: entry.header.kind,
            content: entry.content.clone(),
        })
    }

    fn standing(&self, key: &DocumentKey, version: Version) -> Vec<Standing> {
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

    fn take_batch(&mut self, index: usize, limit: usize) -> Vec<Sending> {
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

    fn record(&mut self, index: usize, key: DocumentKey, version: Version, sent: Sent) {
        let sends = self.participation[index].is_sent_to();
        let Some(document) = self.documents.get_mut(&key) else {
            return;
        };
        let progress = &mut document.progress[index];
        progress.in_flight = false;
        match sent {
            Sent::Confirmed => {
                progress.confirmed = progress.confirmed.max(version);
                progress.error = None;
                if progress
                    .parked
                    .as_ref()
                    .is_some_and(|(parked, _)| *parked <= version)
                {
                    progress.parked = None;
                }
            }
            Sent::Failed(error) => progress.error = Some(error),
            Sent::Parked(error) => progress.parked = Some((version, error)),
        }
        if sends && progress.wants(&document.versions) {
            progress.queued = true;
            self.queues[index].ready.push_back(key.clone());
        }
        for waiter in &document.waiters {
            waiter.notify_one();
        }
        self.count_lagging(&key);
        self.settled.insert(key);
    }

    /// Queues whatever the store should be sent and is not queued or under way.
    fn requeue(&mut self, index: usize) {
        if !self.participation[index].is_sent_to() {
            self.queues[index].ready.clear();
            for document in self.documents.values_mut() {
                document.progress[index].queued = false;
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

    fn resettle(&mut self) {
        self.settled.extend(self.documents.keys().cloned());
    }

    fn truncation_candidates(&mut self, limit: usize) -> Vec<Version> {
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

    fn remove(&mut self, version: Version) {
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
            self.settled.remove(&entry.document);
        } else {
            self.count_lagging(&entry.document);
        }
    }

    fn store_backlog(&self, index: usize) -> StoreBacklog {
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

impl Progress {
    /// Whether the newest version should be queued: it is not confirmed, parked, queued or under
    /// way.
    fn wants(&self, versions: &[Version]) -> bool {
        !self.queued
            && !self.in_flight
            && self.parked.is_none()
            && versions
                .last()
                .is_some_and(|newest| *newest > self.confirmed)
    }
}

/// A parked entry as the journal records it.
pub(crate) fn parked_entry(version: Version, store_id: StoreId, error: &str) -> ParkedEntry {
    ParkedEntry {
        version,
        store_id,
        error: error.to_owned(),
    }
}
