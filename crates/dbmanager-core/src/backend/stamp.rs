//! Who a store belongs to, and the rule by which that changes.

use super::{BackendError, BackendErrorKind, BackendResult};
use crate::model::{JournalId, StoreId, Version};

/// Who a store belongs to and how far it has come; kept by the store itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// This store.
    pub store_id: StoreId,
    /// The journal whose writes it holds.
    pub journal_id: JournalId,
    /// The number of the manager's opening that wrote last.
    pub epoch: u64,
    /// Every write up to this version that the journal has let go of is durable here.
    pub progress: Version,
}

impl Stamp {
    /// Whether `new` may take this one's place without [`StampRequest::replace`].
    ///
    /// # Errors
    /// `Foreign` for another journal or store or a progress below this one's, `StaleEpoch` for an
    /// epoch below.
    pub fn check_successor(&self, new: &Stamp) -> BackendResult<()> {
        let foreign = |message: String| {
            Err(BackendError::new(BackendErrorKind::Foreign, message).not_applied())
        };
        if self.journal_id != new.journal_id {
            foreign(format!("the store belongs to journal {}", self.journal_id))
        } else if self.store_id != new.store_id {
            foreign(format!("the store is {}", self.store_id))
        } else if self.epoch > new.epoch {
            Err(BackendError::stale_epoch(self.epoch, new.epoch))
        } else if self.progress > new.progress {
            foreign(format!(
                "the store's progress {} is ahead of {}",
                self.progress, new.progress
            ))
        } else {
            Ok(())
        }
    }

    /// Refuses a write of a manager that another one has followed.
    ///
    /// # Errors
    /// `StaleEpoch` if this stamp's epoch is above the write's.
    pub fn check_epoch(&self, epoch: u64) -> BackendResult<()> {
        if self.epoch > epoch {
            return Err(BackendError::stale_epoch(self.epoch, epoch));
        }
        Ok(())
    }
}

/// What a store knows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Its stamp; absent on a store no manager has used.
    pub stamp: Option<Stamp>,
    /// The highest version it holds, tombstones included.
    pub highest_version: Option<Version>,
    /// Whether it holds no document and no tombstone.
    pub empty: bool,
}

impl Identity {
    /// What a store with this stamp and data knows of itself.
    pub fn new(stamp: Option<Stamp>, highest_version: Option<Version>, empty: bool) -> Self {
        Self {
            stamp,
            highest_version,
            empty,
        }
    }
}

/// Writes the store's stamp. Everything applied before is durable when it returns, as after `sync`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StampRequest {
    /// The stamp to write.
    pub stamp: Stamp,
    /// Replaces the stamp of another journal, whatever it is, and of the same journal that of
    /// another store. Without it such a stamp refuses. See [`StampRequest::check_over`].
    pub replace: bool,
}

impl StampRequest {
    /// Writes `stamp` over an absent one or one of the same journal and store that is not ahead.
    pub fn new(stamp: Stamp) -> Self {
        Self {
            stamp,
            replace: false,
        }
    }

    /// Replaces the stamp of another journal or of another store.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Whether this stamp may take the place of `held`: always a successor of it
    /// ([`Stamp::check_successor`]), and one that replaces also over the stamp of another journal,
    /// or of another store with an epoch that is not higher. Within its journal and store not even
    /// that one goes back: it may be an old one that arrives late.
    ///
    /// # Errors
    /// `Foreign` or `StaleEpoch`, as of [`Stamp::check_successor`].
    pub fn check_over(&self, held: &Stamp) -> BackendResult<()> {
        if !self.replace
            || held.journal_id == self.stamp.journal_id && held.store_id == self.stamp.store_id
        {
            held.check_successor(&self.stamp)
        } else if held.journal_id == self.stamp.journal_id {
            held.check_epoch(self.stamp.epoch)
        } else {
            Ok(())
        }
    }
}
