//! The backlog of a manager that shares its journal: what others appended, confirmed, parked and
//! let go of, and what it has to tell them.

use std::{collections::BTreeSet, sync::Arc};

use super::{Backlog, DocumentKey, Learnt, slot};
use crate::{
    journal::{EntryHeader, ParkedEntry},
    model::{Role, Version},
};

impl Backlog {
    /// Starts or stops sending. A manager that does not send has empty queues.
    pub(crate) fn set_sending(&self, sending: bool) {
        {
            let mut inner = self.lock();
            inner.sending = sending;
            for role in Role::ALL {
                inner.requeue(slot(role));
                // Of this manager's own road to the store: whoever sends now has another.
                let queue = &mut inner.queues[slot(role)];
                queue.circuit_open = false;
                queue.error = None;
            }
            if let Some(outbox) = inner.outbox.as_mut() {
                outbox.clear();
            }
            inner.resettle();
            inner.wake_everybody();
        }
        for role in Role::ALL {
            self.after_change(role);
        }
    }

    /// What other instances are to be told, in the order in which it was learnt.
    pub(crate) fn take_learnt(&self) -> Vec<Learnt> {
        let mut inner = self.lock();
        inner
            .outbox
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Adds entries that were followed; the journal's mark was `mark` after them.
    pub(crate) fn follow(&self, headers: Vec<EntryHeader>, mark: Version) {
        {
            let mut inner = self.lock();
            for header in headers {
                let document = DocumentKey::new(header.collection.clone(), Arc::clone(&header.id));
                inner.insert(header, None);
                self.revisions.written(&document);
            }
            inner.followed = inner.followed.max(mark);
        }
        for role in Role::ALL {
            self.wake(role);
        }
        self.truncatable.notify_one();
    }

    /// The journal was followed up to this version.
    pub(crate) fn followed(&self) -> Version {
        self.lock().followed
    }

    /// Replaces what is known of entries up to `mark` by these: all that are live.
    pub(crate) fn replace(&self, headers: Vec<EntryHeader>, mark: Version) {
        {
            let mut inner = self.lock();
            let live: BTreeSet<Version> = headers.iter().map(|header| header.version).collect();
            let gone: Vec<Version> = inner
                .entries
                .keys()
                .copied()
                .filter(|version| *version <= mark && !live.contains(version))
                .collect();
            for version in gone {
                inner.remove(version);
            }
            // Entries may have come and gone unseen.
            self.revisions.restanding();
        }
        self.follow(headers, mark);
        self.changed.notify_waiters();
    }

    /// Takes over what the sender confirmed.
    pub(crate) fn follow_held(&self, role: Role, versions: &[Version]) {
        let held: Vec<(DocumentKey, Version)> = {
            let inner = self.lock();
            versions
                .iter()
                .filter_map(|version| {
                    let entry = inner.entries.get(version)?;
                    Some((entry.document.clone(), *version))
                })
                .collect()
        };
        if !held.is_empty() {
            self.confirm_held(role, held);
        }
    }

    /// Replaces the parked marks of a store.
    pub(crate) fn replace_parked(&self, role: Role, parked: &[ParkedEntry]) {
        self.clear_parked(role);
        for entry in parked {
            self.mark_parked(role, entry);
        }
        // A sender may have parked one of them after the marks were read: it is sent, and parked,
        // again.
        self.lock().requeue(slot(role));
        self.after_change(role);
    }

    /// Takes over that the sender parked an entry.
    pub(crate) fn follow_parked(&self, role: Role, parked: &ParkedEntry) {
        self.mark_parked(role, parked);
        let waiters = {
            let inner = self.lock();
            let entry = inner.entries.get(&parked.version);
            entry
                .and_then(|entry| inner.documents.get(&entry.document))
                .map(|document| document.waiters.clone())
        };
        for waiter in waiters.into_iter().flatten() {
            Arc::clone(&waiter).notify_one();
        }
        self.after_change(role);
    }
}
