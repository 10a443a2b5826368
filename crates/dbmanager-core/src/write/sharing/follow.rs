//! Following the journal's changes, and publishing what the sender learns.

use std::{collections::BTreeSet, sync::Arc};

use super::{Sharing, WriteRoom};
use crate::{
    journal::{
        Changes, Confirmation, EntryKind, JournalErrorKind, JournalResult, RosterRecord,
        RosterState, SharedChange, SharedJournal,
    },
    model::{Role, StoreId, Version},
    write::backlog::{Learnt, slot},
};

/// Changes read at once.
const STEP: usize = 1_000;
/// Live entries read at once.
const PAGE: usize = 2_000;

/// Follows the journal until the room closes.
pub(in crate::write) async fn run_following(room: Arc<WriteRoom>) {
    let Some((journal, sharing)) = room.shared() else {
        return;
    };
    while !room.is_closing() {
        match room.follow_once().await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                let text = error.to_string();
                let known = sharing.seen().error.replace(text);
                if known.is_none() {
                    tracing::warn!(%error, "the journal cannot be followed");
                }
            }
        }
        tokio::select! {
            biased;
            () = journal.wait_for_changes() => {}
            () = room.closing() => {}
        }
    }
}

impl WriteRoom {
    /// Follows the next changes; whether there may be more.
    pub(super) async fn follow_once(&self) -> JournalResult<bool> {
        let Some((journal, sharing)) = self.shared() else {
            return Ok(false);
        };
        let mut position = sharing.position.lock().await;
        let asked_at = self.runtime.monotonic();
        let more = match journal.changes(*position, STEP).await? {
            Changes::TooFarBehind => {
                *position = self.load_view(journal).await?;
                true
            }
            Changes::Next(changes) => {
                let more = changes.len() == STEP;
                let last = changes.last().map(|(number, _)| *number);
                let passed_by = self.passes_by(&changes);
                for (_, change) in changes {
                    if let SharedChange::Sender { epoch, .. } = change {
                        self.check_overtaken(journal, epoch).await?;
                    }
                    self.follow_change(sharing, change);
                }
                if passed_by && !sharing.is_sending() {
                    self.refresh_catalogue().await?;
                }
                // Followed again if something failed before.
                *position = last.unwrap_or(*position);
                more
            }
        };
        {
            let mut seen = sharing.seen();
            seen.error = None;
            if !more {
                seen.up_to_date_at = Some(asked_at);
            }
        }
        sharing.followed.notify_waiters();
        Ok(more)
    }

    /// Whether entries come and go among these changes without having been seen: then no telling
    /// whether one of them was the drop of a collection.
    fn passes_by(&self, changes: &[(u64, SharedChange)]) -> bool {
        let mut seen = BTreeSet::new();
        changes.iter().any(|(_, change)| match change {
            SharedChange::Appended { headers, .. } => {
                seen.extend(headers.iter().map(|header| header.version));
                false
            }
            SharedChange::Truncated(versions) => {
                let unseen = |v: &Version| !seen.contains(v) && !self.backlog.shows(*v);
                versions.iter().any(unseen)
            }
            _ => false,
        })
    }

    /// Stands down if another sender has begun under this epoch: what that one does is to be followed
    /// from there on, though the own lease is not renewed, and so not found to be lost, before long.
    async fn check_overtaken(&self, journal: &dyn SharedJournal, epoch: u64) -> JournalResult<()> {
        // An epoch that this manager has raised itself may be followed before it is answered.
        if !self.is_made_sender() || epoch <= self.journal.epoch() {
            return Ok(());
        }
        match journal.renew().await {
            Err(error) if *error.kind() == JournalErrorKind::NotSender => {
                self.stand_down(&error.to_string());
                Ok(())
            }
            renewed => renewed.map(drop),
        }
    }

    fn follow_change(&self, sharing: &Sharing, change: SharedChange) {
        // What only the sender does, it knows from having done it.
        let standby = !sharing.is_sending();
        match change {
            SharedChange::Appended { headers, mark } => {
                for header in &headers {
                    if header.kind == EntryKind::DropCollection {
                        self.forget_collection(&header.collection);
                    }
                }
                self.backlog.follow(headers, mark);
            }
            SharedChange::Truncated(versions) => self.backlog.remove(&versions),
            SharedChange::Collection(collection) => self.remember_collection(collection),
            SharedChange::Sender { epoch, holder } => self.follow_sender(epoch, holder),
            SharedChange::Confirmed(confirmation) if standby => {
                self.follow_confirmation(&confirmation);
            }
            SharedChange::Roster(record) if standby => self.follow_roster(record),
            SharedChange::Parked(parked) if standby => {
                if let Some(role) = self.role_of(parked.store_id) {
                    self.backlog.follow_parked(role, &parked);
                }
            }
            SharedChange::Unparked { version, store_id } if standby => {
                if let Some(role) = self.role_of(store_id) {
                    self.backlog.unpark(role, version);
                }
            }
            SharedChange::Confirmed(_)
            | SharedChange::Roster(_)
            | SharedChange::Parked(_)
            | SharedChange::Unparked { .. } => {}
        }
    }

    pub(super) fn follow_sender(&self, epoch: u64, holder: Option<String>) {
        let Some((_, sharing)) = self.shared() else {
            return;
        };
        let free = holder.is_none();
        {
            let mut seen = sharing.seen();
            seen.epoch = seen.epoch.max(epoch);
            seen.sender = holder;
        }
        if free {
            sharing.lease_is_free.notify_one();
        }
    }

    fn role_of(&self, store_id: StoreId) -> Option<Role> {
        self.stores
            .iter()
            .find(|store| store.store_id() == store_id)
            .map(|store| store.role)
    }

    fn follow_confirmation(&self, confirmation: &Confirmation) {
        match confirmation {
            Confirmation::Held { store_id, versions } => {
                if let Some(role) = self.role_of(*store_id) {
                    self.backlog.follow_held(role, versions);
                }
            }
            Confirmation::Forgotten(store_id) => {
                if let Some(role) = self.role_of(*store_id) {
                    self.backlog.forget_confirmations(role);
                }
            }
        }
    }

    fn follow_roster(&self, record: RosterRecord) {
        let Some(store) = self.store(record.role) else {
            return;
        };
        if record.state == RosterState::Removed {
            return;
        }
        if record.store_id != store.store_id() {
            // Another store, or the same one filled anew: what was confirmed of it is void.
            self.backlog.forget_refusals(record.role);
            self.backlog.forget_confirmations(record.role);
        }
        store.follow_record(record);
        self.refresh_participation(store);
    }

    /// Reads the view at the manager's opening.
    pub(in crate::write) async fn load_first_view(&self) -> JournalResult<()> {
        if let Some((journal, sharing)) = self.shared() {
            let mut position = sharing.position.lock().await;
            *position = self.load_view(journal).await?;
        }
        Ok(())
    }

    /// Reads the whole view anew and returns the number of the change it is as of. What is
    /// committed meanwhile is followed afterwards, and following something twice changes nothing.
    pub(super) async fn load_view(&self, journal: &dyn SharedJournal) -> JournalResult<u64> {
        let state = journal.state().await?;
        self.check_overtaken(journal, state.epoch).await?;
        self.follow_sender(state.epoch, state.sender.clone());
        self.refresh_catalogue().await?;
        let mut live = Vec::new();
        let mut after = Version::ZERO;
        loop {
            let page = self.journal.live_entries(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.version;
            live.extend(page);
        }
        self.backlog.replace(live, state.mark);
        if !self.is_made_sender() {
            for record in self.journal.roster().await? {
                self.follow_roster(record);
            }
        }
        let parked = self.journal.parked().await?;
        for store in &self.stores {
            let own: Vec<_> = parked
                .iter()
                .filter(|entry| entry.store_id == store.store_id())
                .cloned()
                .collect();
            self.backlog.replace_parked(store.role, &own);
        }
        self.replay_confirmations(journal, state.pruned, state.sequence)
            .await?;
        Ok(state.sequence)
    }

    /// Confirmations are kept as changes only: what was confirmed before the oldest of them is not
    /// known here until it is confirmed again or let go of.
    async fn replay_confirmations(
        &self,
        journal: &dyn SharedJournal,
        pruned: u64,
        until: u64,
    ) -> JournalResult<()> {
        let mut position = pruned;
        while position < until && !self.is_made_sender() {
            let Changes::Next(changes) = journal.changes(position, STEP).await? else {
                return Ok(());
            };
            let Some((last, _)) = changes.last() else {
                return Ok(());
            };
            position = *last;
            for (number, change) in changes {
                if let SharedChange::Confirmed(confirmation) = change
                    && number <= until
                {
                    self.follow_confirmation(&confirmation);
                }
            }
        }
        Ok(())
    }

    pub(in crate::write) fn is_made_sender(&self) -> bool {
        self.shared()
            .is_some_and(|(_, sharing)| sharing.is_sending())
    }

    /// What the sender learnt, by the identities of its stores.
    fn confirmations(&self, learnt: Vec<Learnt>) -> Vec<Confirmation> {
        let store_id = |index: usize| {
            let store = self.stores.iter().find(|s| slot(s.role) == index);
            store.map(|store| store.store_id())
        };
        let mut confirmations: Vec<Confirmation> = Vec::new();
        // Until one is forgotten, the confirmations of a store are in one list.
        let mut open: [Option<usize>; 3] = [None; 3];
        for learnt in learnt {
            match learnt {
                Learnt::Held(index, version) => {
                    let Some(store_id) = store_id(index) else {
                        continue;
                    };
                    let at = *open[index].get_or_insert_with(|| {
                        confirmations.push(Confirmation::Held {
                            store_id,
                            versions: Vec::new(),
                        });
                        confirmations.len() - 1
                    });
                    if let Some(Confirmation::Held { versions, .. }) = confirmations.get_mut(at) {
                        versions.push(version);
                    }
                }
                Learnt::Forgotten(index) => {
                    open[index] = None;
                    confirmations.extend(store_id(index).map(Confirmation::Forgotten));
                }
            }
        }
        confirmations
    }
}

/// Publishes what the stores confirm, as long as this manager is the sender.
pub(in crate::write) async fn run_publishing(room: Arc<WriteRoom>) {
    let Some((journal, sharing)) = room.shared() else {
        return;
    };
    let mut unpublished: Vec<Confirmation> = Vec::new();
    while !room.is_closing() {
        if !sharing.is_sending() {
            unpublished.clear();
        }
        unpublished.extend(room.confirmations(room.backlog.take_learnt()));
        if unpublished.is_empty() {
            tokio::select! {
                biased;
                () = room.backlog.learnt.notified() => {}
                () = room.closing() => {}
            }
            continue;
        }
        match journal.confirm(unpublished.clone()).await {
            Ok(()) => unpublished.clear(),
            Err(error) if *error.kind() == JournalErrorKind::NotSender => {
                room.stand_down(&error.to_string());
            }
            Err(error) => {
                tracing::debug!(%error, "confirmations are not published yet");
                room.rest(super::LOOK).await;
            }
        }
    }
}
