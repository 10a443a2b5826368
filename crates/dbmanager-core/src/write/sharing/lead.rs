//! Becoming the sender, staying it, and ceasing to be it.

use std::sync::Arc;

use super::WriteRoom;
use crate::{
    backend::BackendResult,
    journal::{JournalErrorKind, JournalResult, RosterRecord, RosterState},
    roster::disable_others,
};

/// How often within its time a lease is renewed, and asked for by those who do not have it.
const BEATS: u32 = 4;

/// Renews the lease, or asks for it, until the room closes.
pub(in crate::write) async fn run_lease(room: Arc<WriteRoom>) {
    let Some((journal, sharing)) = room.shared() else {
        return;
    };
    let beat = journal.lease_time() / BEATS;
    while !room.is_closing() {
        if sharing.is_sending() {
            match journal.renew().await {
                Ok(_) => {}
                Err(error) if *error.kind() == JournalErrorKind::NotSender => {
                    room.stand_down(&error.to_string());
                }
                // Tried again; meanwhile the senders stop by themselves when the time runs out.
                Err(error) => tracing::warn!(%error, "the lease was not renewed"),
            }
        } else {
            match journal.acquire().await {
                Ok(None) => {}
                Ok(Some(lease)) => {
                    if let Err(error) = room.take_over().await {
                        tracing::warn!(%error, "this instance could not take over");
                        if let Err(error) = journal.release().await {
                            tracing::warn!(%error, "the lease was not given up");
                        }
                    } else {
                        tracing::info!(
                            epoch = lease.epoch,
                            "this instance sends to the stores now"
                        );
                    }
                }
                Err(error) => tracing::debug!(%error, "the lease cannot be asked for"),
            }
        }
        tokio::select! {
            biased;
            () = room.runtime.sleep(beat) => {}
            () = sharing.lease_is_free.notified() => {}
            () = room.closing() => {}
        }
    }
}

impl WriteRoom {
    /// Makes this manager the sender: its view is brought up to date, the roster is read, and every
    /// store is met as after a failure: its stamp is checked, this epoch is written into it, and
    /// what it holds is compared with the live entries before anything is sent.
    async fn take_over(&self) -> JournalResult<()> {
        let Some((journal, sharing)) = self.shared() else {
            return Ok(());
        };
        while self.follow_once().await? {}
        let roster = self.journal.roster().await?;
        let disabled = disable_others(self.journal.as_ref(), &roster, &self.stores).await;
        let disabled = disabled.map_err(|error| {
            crate::journal::JournalError::new(JournalErrorKind::Unavailable, error.to_string())
        })?;
        for record in &disabled {
            self.backlog.set_participation(
                record.role,
                super::super::disabled_participation(record.state),
            );
        }
        self.set_disabled(disabled);
        for store in &self.stores {
            let record = roster
                .iter()
                .find(|r| r.role == store.role && r.state != RosterState::Removed);
            let begun: BackendResult<()> = store.begin_sending(record.cloned()).await;
            if let Err(error) = begun {
                self.stores.iter().for_each(|store| store.stop_sending());
                return Err(crate::journal::JournalError::new(
                    JournalErrorKind::Unavailable,
                    error.to_string(),
                ));
            }
            self.refresh_participation(store);
        }
        let epoch = journal.lease().map_or(0, |lease| lease.epoch);
        {
            let mut seen = sharing.seen();
            seen.epoch = seen.epoch.max(epoch);
        }
        self.backlog.set_sending(true);
        sharing.sending.send_replace(true);
        Ok(())
    }

    /// Ceases to be the sender; reading, appending and following go on.
    pub(crate) fn stand_down(&self, reason: &str) {
        let Some((_, sharing)) = self.shared() else {
            return;
        };
        if !sharing.sending.send_replace(false) {
            return;
        }
        tracing::warn!(reason, "this instance no longer sends to the stores");
        self.backlog.set_sending(false);
        for store in &self.stores {
            store.stop_sending();
            self.refresh_participation(store);
        }
        sharing.lease_is_free.notify_one();
    }

    pub(super) fn set_disabled(&self, records: Vec<RosterRecord>) {
        *self
            .disabled
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = records;
    }
}
