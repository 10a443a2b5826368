//! The live entries and what each store has confirmed of them: the read-your-writes view, the
//! queue of every sender and the answer to "may this entry be truncated" are read from here.
//!
//! One lock, held only for look-ups and bookkeeping. A store's part is kept per document and not
//! per entry, because only the newest live version is sent and a confirmation of it covers all
//! older ones.

mod follow;
mod revisions;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) use self::revisions::{Revision, Revisions};
use self::state::{CONTENT_IN_MEMORY, Inner};
pub(crate) use self::types::{
    DocumentKey, Learnt, Newest, Participation, Sending, Sent, Standing, StoreBacklog,
};
use crate::{
    backend::DocumentState,
    journal::{EntryHeader, ParkedEntry},
    model::{Level, ParkedWrite, Role, Version},
};

/// Documents that are looked at for truncation while the lock is held.
const CANDIDATES_STEP: usize = 128;

/// The shared state of the write room.
#[derive(Debug)]
pub(crate) struct Backlog {
    inner: Mutex<Inner>,
    /// What was written so far, for caches.
    pub(crate) revisions: Revisions,
    /// One per store: there is something to send.
    work: [Notify; 3],
    /// There may be something to truncate.
    pub(crate) truncatable: Notify,
    /// Something was confirmed, parked or truncated.
    pub(crate) changed: Notify,
    /// There is something to tell other instances.
    pub(crate) learnt: Notify,
}

pub(crate) fn slot(role: Role) -> usize {
    match role {
        Role::Vector => 0,
        Role::Graph => 1,
        Role::Relational => 2,
    }
}

impl Backlog {
    /// An empty backlog; `shared`: other instances have the same journal open.
    pub(crate) fn new(shared: bool) -> Self {
        let inner = Inner {
            sending: !shared,
            outbox: shared.then(Vec::new),
            ..Inner::default()
        };
        Self {
            inner: Mutex::new(inner),
            revisions: Revisions::default(),
            work: Default::default(),
            truncatable: Notify::new(),
            changed: Notify::new(),
            learnt: Notify::new(),
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
            self.revisions.restanding();
            inner.requeue(slot(role));
            inner.resettle();
            inner.wake_everybody();
        }
        self.after_change(role);
    }

    pub(crate) fn participation(&self, role: Role) -> Participation {
        self.lock().participation[slot(role)]
    }

    fn after_change(&self, role: Role) {
        self.wake(role);
        self.truncatable.notify_one();
        self.learnt.notify_one();
        self.changed.notify_waiters();
    }

    /// Adds a durable entry: from now on reads see it and senders send it.
    pub(crate) fn insert(&self, header: EntryHeader, content: Option<DocumentState>) {
        {
            let mut inner = self.lock();
            let document = DocumentKey::new(header.collection.clone(), Arc::clone(&header.id));
            inner.insert_own(header, content);
            self.revisions.written(&document);
        }
        for role in Role::ALL {
            self.wake(role);
        }
        self.truncatable.notify_one();
    }

    /// Marks an entry as refused for good by a store, as recorded in the journal, unless a newer
    /// version of the document is live: that one is to be sent.
    pub(crate) fn mark_parked(&self, role: Role, parked: &ParkedEntry) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get(&parked.version) else {
            return;
        };
        let key = entry.document.clone();
        if let Some(document) = inner.documents.get_mut(&key)
            && document.versions.last() <= Some(&parked.version)
        {
            document.progress[slot(role)].parked =
                Some((parked.version, Arc::from(parked.error.as_str())));
        }
    }

    /// The newest live version of a document, if any.
    pub(crate) fn newest(&self, document: &DocumentKey) -> Option<Newest> {
        self.lock().newest(document)
    }

    /// Whose entry this is, while it is here.
    pub(crate) fn document_of(&self, version: Version) -> Option<DocumentKey> {
        let inner = self.lock();
        let entry = inner.entries.get(&version)?;
        Some(entry.document.clone())
    }

    /// Whether the entry has come here, be it that it is void by now.
    pub(crate) fn shows(&self, version: Version) -> bool {
        self.lock().entries.contains_key(&version)
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
        acknowledges && inner.holds(slot(role), document, version)
    }

    /// Whether the store holds this version or a newer one, be it that it is still being rebuilt.
    pub(crate) fn is_held(&self, role: Role, document: &DocumentKey, version: Version) -> bool {
        self.lock().holds(slot(role), document, version)
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
                inner.settle(key);
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
                inner.hold(slot(role), &key, version);
            }
        }
        self.after_change(role);
    }

    /// Forgets what the store has confirmed: it may have lost what it had not made durable.
    pub(crate) fn forget_confirmations(&self, role: Role) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        for document in inner.documents.values_mut() {
            let progress = &mut document.progress[slot(role)];
            progress.confirmed = progress.given_up;
            document.count_lagging(&mut inner.lagging);
        }
        inner.requeue(slot(role));
        inner.learn(Learnt::Forgotten(slot(role)));
        // A search may have missed what the store has lost.
        self.revisions.restanding();
    }

    /// Documents with live entries, for comparing them with what a store holds; in their order.
    pub(crate) fn live_documents(&self) -> Vec<DocumentKey> {
        let inner = self.lock();
        let live = inner
            .documents
            .iter()
            .filter(|(_, d)| !d.versions.is_empty());
        let mut keys: Vec<_> = live.map(|(key, _)| key.clone()).collect();
        drop(inner);
        keys.sort_unstable();
        keys
    }

    /// Forgets every parked mark of a store.
    fn clear_parked(&self, role: Role) {
        let mut inner = self.lock();
        for document in inner.documents.values_mut() {
            document.progress[slot(role)].parked = None;
        }
    }

    /// Forgets what the store has refused, and what it was to go without for that: it is another one
    /// now.
    pub(crate) fn forget_refusals(&self, role: Role) {
        let mut inner = self.lock();
        for document in inner.documents.values_mut() {
            let progress = &mut document.progress[slot(role)];
            progress.parked = None;
            progress.given_up = Version::ZERO;
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

    /// Treats a parked entry as if the store held it.
    pub(crate) fn give_up(&self, role: Role, version: Version) -> bool {
        let key = {
            let inner = self.lock();
            inner
                .entries
                .get(&version)
                .map(|entry| entry.document.clone())
        };
        let Some(key) = key else { return false };
        if !self.unpark(role, version) {
            return false;
        }
        if let Some(document) = self.lock().documents.get_mut(&key) {
            let progress = &mut document.progress[slot(role)];
            progress.given_up = progress.given_up.max(version);
        }
        self.confirm_held(role, vec![(key, version)]);
        true
    }

    /// Tells whether the store's circuit is open, and why it cannot be sent to at the moment.
    pub(crate) fn set_reachability(&self, role: Role, circuit_open: bool, error: Option<Arc<str>>) {
        let mut inner = self.lock();
        let queue = &mut inner.queues[slot(role)];
        let changed = queue.circuit_open != circuit_open || queue.error != error;
        queue.circuit_open = circuit_open;
        queue.error = error;
        if changed {
            inner.wake_everybody();
            drop(inner);
            self.changed.notify_waiters();
        }
    }

    /// Versions that every store which holds truncation has confirmed, about `limit` at most. They
    /// stay candidates until [`Backlog::remove`], so that a failed truncation is tried again.
    pub(crate) fn truncation_candidates(&self, limit: usize) -> Vec<Version> {
        let (mut found, mut unseen) = {
            let inner = self.lock();
            let void: Vec<Version> = inner.void.iter().copied().take(limit).collect();
            (void, inner.settled.len())
        };
        // Step by step: every read and write waits for the lock.
        while unseen > 0 && found.len() < limit {
            let step = unseen.min(CANDIDATES_STEP);
            self.lock().find_candidates(step, &mut found);
            unseen -= step;
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Whether half of the memory for contents is taken: with all of it, what is written has to be
    /// read from the journal again before it is sent.
    pub(crate) fn is_memory_half_full(&self) -> bool {
        self.lock().content_bytes > CONTENT_IN_MEMORY / 2
    }

    /// Forgets entries that the journal has let go of.
    pub(crate) fn remove(&self, versions: &[Version]) {
        let mut inner = self.lock();
        for version in versions {
            if !inner.entries.contains_key(version) {
                // Another instance's, which came and went unseen: no telling of which document.
                self.revisions.restanding();
            }
            inner.remove(*version);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// What a store has yet to confirm.
    pub(crate) fn store_backlog(&self, role: Role) -> StoreBacklog {
        self.lock().store_backlog(slot(role))
    }

    /// What a store refused for good, in the order of writing.
    pub(crate) fn parked(&self, role: Role) -> Vec<ParkedWrite> {
        self.lock().parked(role)
    }

    /// Whether the store has confirmed every live entry up to this version; what it refused for
    /// good is not waited for.
    pub(crate) fn is_caught_up_to(&self, role: Role, version: Version) -> bool {
        self.lock().is_caught_up_to(slot(role), version)
    }

    /// Whether the store has confirmed every live entry it is sent.
    pub(crate) fn is_caught_up(&self, role: Role) -> bool {
        self.lag(role) == 0
    }

    /// How many stores must hold a write of this level.
    pub(crate) fn required(&self, level: Level) -> usize {
        let inner = self.lock();
        let enabled = inner.participation.iter().filter(|p| p.is_enabled());
        level.required(enabled.count())
    }

    /// How many of the other stores acknowledge and work, as far as is known.
    pub(crate) fn working_others(&self, role: Role) -> usize {
        self.lock().working_others(slot(role))
    }

    /// How many documents the store has yet to confirm the newest version of.
    pub(crate) fn lag(&self, role: Role) -> usize {
        self.lock().lagging[slot(role)]
    }
}
