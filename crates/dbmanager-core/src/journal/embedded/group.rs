//! The group under way: one transaction in which every waiting call does its part.

use std::collections::BTreeSet;

use super::{
    super::{JournalError, JournalErrorKind, JournalResult, OperationLookup},
    JournalOptions,
    codec::{self, StoredOperation},
    failure::Failure,
    index::Index,
    tables::{self, Tables, WriteTable, meta},
};
use crate::model::{OperationId, StoreId, Version};

/// The most operations that one step forgets.
const EXPIRY_STEP: usize = 4_096;

/// What the writer knows between groups. After a failed commit it may be ahead of the disk; then
/// nothing is written until the journal is opened again and it is rebuilt.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: Index,
    /// The highest version issued.
    pub(super) mark: Version,
    /// Operations whose own time is below this may have been forgotten.
    pub(super) horizon: u64,
    pub(super) parked: BTreeSet<(Version, StoreId)>,
    /// Whether there is room to truncate should the disk be full.
    pub(super) has_reserve: bool,
    /// Whether a write was refused for want of room since the last truncation.
    pub(super) refused_for_room: bool,
}

/// One transaction under way.
pub(super) struct Group<'group, 'txn> {
    pub(super) tables: Tables<WriteTable<'txn>>,
    pub(super) state: &'group mut State,
    pub(super) options: &'group JournalOptions,
    /// The clock in milliseconds since the Unix epoch, read once per group.
    pub(super) now: u64,
    /// Whether there is anything to commit.
    pub(super) changed: bool,
    /// Whether entries were let go of.
    pub(super) truncated: bool,
    tried_to_expire: bool,
    mark_before: Version,
}

impl<'group, 'txn> Group<'group, 'txn> {
    pub(super) fn new(
        tables: Tables<WriteTable<'txn>>,
        state: &'group mut State,
        options: &'group JournalOptions,
        now: u64,
    ) -> Self {
        Self {
            mark_before: state.mark,
            tables,
            state,
            options,
            // A clock beyond the last version would leave none to issue.
            now: now.min(Version::MAX.milliseconds() - 1),
            changed: false,
            truncated: false,
            tried_to_expire: false,
        }
    }

    /// Writes what all parts share; whether there is anything to commit.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        if self.state.mark != self.mark_before {
            let mark = self.state.mark.as_u64();
            self.tables.set_number(meta::MARK, mark)?;
            self.changed = true;
        }
        Ok(self.changed)
    }

    /// Below this time of its own, nothing recorded of an operation means nothing.
    pub(super) fn horizon(&self) -> u64 {
        lookup_horizon(self.now, self.options, self.state.horizon)
    }

    /// What is recorded of an operation, as of this transaction.
    pub(super) fn lookup(&self, operation_id: OperationId) -> Result<OperationLookup, Failure> {
        self.tables.lookup(operation_id, self.horizon())
    }

    /// Forgets operations and keys that have been kept long enough, at most `limit`.
    pub(super) fn expire(&mut self, limit: usize) -> Result<(), Failure> {
        let due_below = self
            .now
            .saturating_sub(self.options.retention_milliseconds());
        let mut due = Vec::new();
        self.tables.expiry.scan(&[], |key, _| {
            let (counted_from, operation_id) = tables::split_expiry_key(key)?;
            if counted_from >= due_below || due.len() >= limit {
                return Ok(false);
            }
            due.push((counted_from, operation_id));
            Ok(true)
        })?;
        let Some((last, _)) = due.last() else {
            return Ok(());
        };
        // Kept for ever: whoever asks for an id this old learns that nothing is known of it.
        self.state.horizon = self.state.horizon.max(last + 1);
        self.tables.set_number(meta::HORIZON, self.state.horizon)?;
        for (counted_from, operation_id) in due {
            let key = tables::operation_key(operation_id);
            if let Some(StoredOperation::Accepted {
                key: Some(place), ..
            }) = self.tables.stored_operation(operation_id)?
            {
                self.tables.keys.remove(&place)?;
            }
            self.tables.operations.remove(&key)?;
            let expiry = tables::expiry_key(counted_from, operation_id);
            self.tables.expiry.remove(&expiry)?;
        }
        self.changed = true;
        Ok(())
    }

    /// Whether fewer than `limit` records are there by `count`, if need be after forgetting what
    /// has been kept long enough: refused writes bring no truncation that would do so.
    pub(super) fn has_place(
        &mut self,
        limit: u64,
        count: impl Fn(&Tables<WriteTable<'txn>>) -> Result<u64, Failure>,
    ) -> Result<bool, Failure> {
        if count(&self.tables)? < limit {
            return Ok(true);
        }
        if std::mem::replace(&mut self.tried_to_expire, true) {
            return Ok(false);
        }
        self.expire(EXPIRY_STEP)?;
        Ok(count(&self.tables)? < limit)
    }

    /// Records that the operation ended now, so that it is forgotten in its time. An id that
    /// claims a later time is kept until after that: `Expired` must hold of everything forgotten.
    pub(super) fn forget_later(&mut self, operation_id: OperationId) -> Result<(), Failure> {
        let counted_from = self.now.max(operation_id.unix_milliseconds());
        let key = tables::expiry_key(counted_from, operation_id);
        self.tables.expiry.put(&key, &[])?;
        Ok(())
    }

    /// Records the operation as refused unless something is known of it.
    pub(super) fn refuse_operation(
        &mut self,
        operation_id: OperationId,
    ) -> Result<Result<OperationLookup, JournalError>, Failure> {
        let known = self.lookup(operation_id)?;
        if known != OperationLookup::Unknown {
            return Ok(Ok(known));
        }
        let limit = self.options.max_operations;
        if !self.has_place(limit, |tables| tables.operations.count())? {
            return Ok(Err(full(format!(
                "max_operations ({limit}) records of operations are kept"
            ))));
        }
        let key = tables::operation_key(operation_id);
        let content = codec::encode(&StoredOperation::Refused)?;
        self.tables.operations.put(&key, &content)?;
        self.forget_later(operation_id)?;
        self.changed = true;
        Ok(Ok(OperationLookup::Refused))
    }

    /// Raises the epoch above what it is and above this.
    pub(super) fn raise_epoch(&mut self, above: u64) -> Result<JournalResult<u64>, Failure> {
        let highest = self.tables.number(meta::EPOCH)?.max(above);
        // Above it the servers' stores have no number.
        if highest >= i64::MAX as u64 {
            return Ok(Err(JournalError::new(
                JournalErrorKind::Open,
                format!("there is no epoch above {highest}"),
            )));
        }
        let epoch = highest + 1;
        self.tables.set_number(meta::EPOCH, epoch)?;
        self.changed = true;
        Ok(Ok(epoch))
    }

    /// Raises the mark.
    pub(super) fn lift_mark(&mut self, version: Version) -> Result<(), JournalError> {
        if version > Version::MAX {
            return Err(JournalError::new(
                JournalErrorKind::Open,
                format!("version {version} is above the highest there can be"),
            ));
        }
        self.state.mark = self.state.mark.max(version);
        Ok(())
    }
}

/// Below this time of its own, nothing recorded of an operation means nothing.
pub(super) fn lookup_horizon(now: u64, options: &JournalOptions, forgotten_below: u64) -> u64 {
    now.saturating_sub(options.retention_milliseconds())
        .max(forgotten_below)
}

/// A limit is reached.
pub(super) fn full(message: impl Into<String>) -> JournalError {
    JournalError::new(JournalErrorKind::Full, message)
}
