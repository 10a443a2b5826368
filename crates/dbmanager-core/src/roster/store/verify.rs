//! Whether a store that was opened is the one on the roster, and what its stamp tells.

use std::sync::atomic::Ordering;

use super::{
    super::stamp::{JournalFacts, Judgement, Moment, judge, lacking_state, lacks_data},
    Store,
};
use crate::{
    backend::{AnyBackend, Backend, BackendError, BackendErrorKind, BackendResult, Identity},
    journal::{RosterRecord, RosterState},
    model::Version,
};

impl Store {
    /// Whether the store is the one on the roster and holds what it should; stamps it, if that is
    /// this manager's to do.
    pub(super) async fn verify(&self, backend: &AnyBackend, moment: Moment) -> BackendResult<()> {
        let plain = backend.as_backend();
        let mut identity = plain.identity().await?;
        let sends = self.sends.load(Ordering::Acquire);
        loop {
            let verified = if sends {
                self.verify_as_sender(plain.as_ref(), &identity, moment)
                    .await
            } else {
                self.verify_as_standby(&identity).await
            };
            match verified {
                Err(error) if !sends || error.kind() == BackendErrorKind::Foreign => {
                    let before = identity.stamp;
                    identity = plain.identity().await?;
                    if identity.stamp == before {
                        return Err(error);
                    }
                    // A stamp that an earlier manager had sent arrived in between; on a standby
                    // also one of the sender, and the roster read since then tells of it already.
                }
                verified => return verified,
            }
        }
    }

    async fn verify_as_sender(
        &self,
        backend: &dyn Backend,
        identity: &Identity,
        moment: Moment,
    ) -> BackendResult<()> {
        let facts = self.facts().await?;
        let record = self.record();
        let identity = &self.before_rebuild(identity, &record).await?;
        let judgement = judge(identity, &record, facts, moment)?;
        if let Judgement::Lacking(reason) = judgement
            && !lacks_data(record.state)
        {
            tracing::error!(role = %self.role, service = %self.service, reason, "store needs a rebuild");
            self.update(|r| r.state = lacking_state(r.role)).await?;
        }
        let whole = judgement == Judgement::Whole;
        if record.state == RosterState::NeedsRestore && whole && is_restored(identity) {
            tracing::warn!(role = %self.role, service = %self.service, "the authority was restored");
            self.update(|r| r.state = RosterState::Active).await?;
        }
        let stamped = identity
            .stamp
            .as_ref()
            .map_or(Version::ZERO, |stamp| stamp.progress);
        let progress = match self.record().state {
            // What it lacks must still show at the next opening.
            RosterState::NeedsRestore => stamped,
            // The stamp may be ahead: the stores are stamped before the journal truncates.
            _ => self.record().progress.max(stamped),
        };
        self.stamp(backend, progress).await?;
        if !record.stamped {
            self.update(|r| r.stamped = true).await?;
        }
        Ok(())
    }

    /// What the store knows of itself, under the identity that a rebuild has given it on the roster
    /// if it was cut off before that reached the store: it is to be emptied all the same.
    async fn before_rebuild(
        &self,
        identity: &Identity,
        record: &RosterRecord,
    ) -> BackendResult<Identity> {
        let mut identity = identity.clone();
        let renamed = identity.stamp.as_mut().filter(|stamp| {
            record.state == RosterState::NeedsRebuild && stamp.store_id != record.store_id
        });
        if let Some(stamp) = renamed {
            let roster = self.journal.roster().await.map_err(journal_unread)?;
            let left = |r: &RosterRecord| {
                let same = r.store_id == stamp.store_id && r.role == record.role;
                same && r.state == RosterState::Removed
            };
            if roster.iter().any(left) {
                stamp.store_id = record.store_id;
                stamp.progress = record.progress;
            }
        }
        Ok(identity)
    }

    /// What the journal knows, as of now: read after what the store said of itself, so that
    /// nothing in the store can be newer.
    ///
    /// # Errors
    /// `StaleEpoch` if another manager has become the sender.
    async fn facts(&self) -> BackendResult<JournalFacts> {
        let current = match self.journal.shared() {
            Some(shared) => Some(shared.state().await.map_err(journal_unread)?.epoch),
            None => None,
        };
        // Read afterwards: this instance may have raised it meanwhile.
        let epoch = self.journal.epoch();
        if let Some(current) = current.filter(|current| *current > epoch) {
            return Err(BackendError::new(
                BackendErrorKind::StaleEpoch,
                format!("another instance sends under epoch {current}"),
            )
            .not_applied());
        }
        Ok(JournalFacts {
            journal_id: self.journal.journal_id(),
            epoch,
            mark: self.journal.mark(),
        })
    }

    /// Checks that the store is the one on the roster; it is another instance's to stamp.
    async fn verify_as_standby(&self, identity: &Identity) -> BackendResult<()> {
        let not_yet = |why: &str| {
            Err(BackendError::new(
                BackendErrorKind::Unavailable,
                format!("{why}; that is for the sending instance to settle"),
            )
            .not_applied())
        };
        let Some(shared) = self.journal.shared() else {
            return not_yet("the journal is not shared");
        };
        let state = shared.state().await.map_err(journal_unread)?;
        let roster = self.journal.roster().await.map_err(journal_unread)?;
        let current = roster
            .into_iter()
            .find(|record| record.role == self.role && record.state != RosterState::Removed);
        let Some(record) = current else {
            return not_yet("the store is not on the journal's roster");
        };
        self.follow_record(record.clone());
        if record.state == RosterState::NeedsRebuild {
            return not_yet("the store needs a rebuild");
        }
        if identity.stamp.is_none() && identity.empty {
            return not_yet("the store has no stamp");
        }
        let facts = JournalFacts {
            journal_id: self.journal.journal_id(),
            epoch: state.epoch,
            mark: state.mark,
        };
        match judge(identity, &record, facts, Moment::Reconnecting)? {
            Judgement::Whole => Ok(()),
            Judgement::Lacking(reason) => not_yet(reason),
        }
    }
}

/// Whether a store that was judged whole is an authority with documents, and not an empty one in
/// its place. Nothing was let go of while it was missing, so what the journal holds makes it
/// complete.
fn is_restored(identity: &Identity) -> bool {
    identity.stamp.is_some() && !identity.empty
}

fn journal_unread(error: crate::journal::JournalError) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the journal cannot be read")
        .not_applied()
        .with_source(error)
}
