//! What is recorded of a store: its record on the journal's roster, and the stamp in the store.

use std::sync::atomic::Ordering;

use tokio::sync::MutexGuard;

use super::{
    super::stamp::{lacks_data, note_progress},
    State, Store,
};
use crate::{
    backend::{Backend, BackendError, BackendErrorKind, BackendResult, Stamp, StampRequest},
    journal::{RosterRecord, RosterState},
    model::{StoreId, Version},
};

impl State {
    /// Takes the record over; the stamp that is known was perhaps another store's.
    fn replace_record(&mut self, record: RosterRecord) {
        if record.store_id != self.record.store_id {
            self.stamped = Version::ZERO;
        }
        self.record = record;
    }
}

impl Store {
    /// Replaces the record before the store's first use, in the journal first.
    pub(crate) async fn replace_record(&self, record: RosterRecord) -> BackendResult<()> {
        self.update(|current| *current = record).await
    }

    /// Takes over the record that the sending instance wrote.
    pub(crate) fn follow_record(&self, record: RosterRecord) {
        let mut state = self.lock();
        if record.store_id != state.record.store_id {
            state.verified = false;
        }
        let (location, service) = (&state.record.location, &state.record.service);
        let record = RosterRecord {
            location: location.clone(),
            service: service.clone(),
            ..record
        };
        state.replace_record(record);
    }

    /// Becomes the one that stamps the store: with its record as the journal has it, if it has one,
    /// and before its next use everything is checked as after a failure.
    pub(crate) async fn begin_sending(&self, record: Option<RosterRecord>) -> BackendResult<()> {
        if let Some(record) = record {
            self.follow_record(record);
        }
        {
            let mut state = self.lock();
            state.verified = false;
            state.rebuilding = None;
        }
        self.want_reconcile();
        self.sends.store(true, Ordering::Release);
        self.update(|record| record.enabled = true).await
    }

    /// Leaves the store to another instance; reading goes on.
    pub(crate) fn stop_sending(&self) {
        self.sends.store(false, Ordering::Release);
        self.lock().rebuilding = None;
    }

    /// Writes the stamp with this progress; everything applied before is durable then.
    pub(crate) async fn stamp(
        &self,
        backend: &dyn Backend,
        progress: Version,
    ) -> BackendResult<()> {
        self.stamp_as(&self.record(), backend, progress).await
    }

    /// Writes the stamp of the store that this record is of; refused by the one that a rebuild has
    /// put in its place meanwhile.
    pub(crate) async fn stamp_as(
        &self,
        record: &RosterRecord,
        backend: &dyn Backend,
        progress: Version,
    ) -> BackendResult<()> {
        let stamp = Stamp {
            store_id: record.store_id,
            journal_id: self.journal.journal_id(),
            epoch: self.journal.epoch(),
            progress,
        };
        {
            // Before it is sent: it may arrive though the answer does not.
            let mut state = self.lock();
            if state.record.store_id == record.store_id {
                state.stamped = state.stamped.max(progress);
            }
        }
        // A store that lacks data may hold a stamp of an earlier life with a higher progress.
        let request = StampRequest::new(stamp);
        let request = match lacks_data(record.state) {
            true => request.replace(),
            false => request,
        };
        backend.write_stamp(request).await
    }

    /// The progress to stamp the store of this record with, at least `progress`: a stamp with less
    /// than the last one is refused.
    pub(crate) fn progress_from(&self, record: &RosterRecord, progress: Version) -> Version {
        let state = self.lock();
        let same = state.record.store_id == record.store_id;
        let stamped = if same { state.stamped } else { Version::ZERO };
        progress.max(record.progress).max(stamped)
    }

    /// Changes the record, in the journal first.
    pub(crate) async fn update(&self, change: impl FnOnce(&mut RosterRecord)) -> BackendResult<()> {
        let _one_at_a_time = self.recording.lock().await;
        self.put_record(change).await
    }

    /// To be called under `recording`.
    async fn put_record(&self, change: impl FnOnce(&mut RosterRecord)) -> BackendResult<()> {
        let mut record = self.record();
        change(&mut record);
        self.journal
            .put_store(record.clone())
            .await
            .map_err(|error| {
                BackendError::new(
                    BackendErrorKind::Unavailable,
                    "the roster cannot be written",
                )
                .not_applied()
                .with_source(error)
            })?;
        let mut state = self.lock();
        // A truncation may have recorded more meanwhile.
        note_progress(&mut record, state.record.store_id, state.record.progress);
        state.replace_record(record);
        Ok(())
    }

    /// Takes note of progress that the journal has recorded in its own transaction.
    pub(crate) fn set_progress(&self, store_id: StoreId, progress: Version) {
        note_progress(&mut self.lock().record, store_id, progress);
    }

    /// Held by a rebuild; `None` while there is another one.
    pub(crate) fn try_rebuild(&self) -> Option<MutexGuard<'_, ()>> {
        self.rebuilds.try_lock().ok()
    }

    /// From here on the store is filled under this identity.
    pub(crate) fn begin_filling(&self, store_id: StoreId) {
        self.lock().rebuilding = Some(store_id);
    }

    /// Whether it is still being filled under this identity. Not after this manager has ceased to
    /// send meanwhile, be it that it does again.
    pub(crate) fn is_filling(&self, store_id: StoreId) -> bool {
        let state = self.lock();
        state.rebuilding == Some(store_id) && state.record.store_id == store_id
    }

    /// The store is not filled any further, and is what its record says.
    pub(crate) fn stop_filling(&self, store_id: StoreId) {
        let mut state = self.lock();
        if state.rebuilding == Some(store_id) {
            state.rebuilding = None;
        }
    }

    /// Records that the store is filled and stamped with this progress; `false`: it is no longer being
    /// filled under this identity, or was opened anew since `opening`, and may lack something.
    pub(crate) async fn finish_filling(
        &self,
        store_id: StoreId,
        opening: u64,
        progress: Version,
    ) -> BackendResult<bool> {
        let _one_at_a_time = self.recording.lock().await;
        if !self.is_filling(store_id) || self.opening() != opening {
            return Ok(false);
        }
        let filled = |record: &mut RosterRecord| {
            record.state = RosterState::Active;
            note_progress(record, store_id, progress);
        };
        self.put_record(filled).await?;
        self.stop_filling(store_id);
        Ok(true)
    }
}
