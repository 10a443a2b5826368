//! Limits and times of a journal.

use std::time::Duration;

use super::super::{JournalError, JournalErrorKind, JournalResult};

/// Limits and times of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The most live entries; at the limit appends answer `Full`.
    pub max_entries: u64,
    /// The most bytes of live entries; must stay below the room on the disk of an embedded journal.
    pub max_bytes: u64,
    /// How long operation records and idempotency keys are kept after their entry was truncated.
    /// The configuration asks for at least 24 hours; the margin covers clocks that disagree.
    pub retention: Duration,
    /// The most idempotency keys that are kept; at the limit new keyed writes answer `Full`. None
    /// is forgotten before its time.
    pub max_keys: u64,
    /// The most operation records that are kept (one per write, for the retention time); at the
    /// limit new writes answer `Full`.
    pub max_operations: u64,
    /// The most marks of parked entries; at the limit parking answers `Full`.
    pub max_parked: u64,
    /// The most entries in one group, except that the requests of one call are never split.
    pub group_max_entries: usize,
    /// The most bytes in one group, except that the requests of one call are never split.
    pub group_max_bytes: u64,
    /// Memory for cached pages of an embedded journal, in bytes.
    pub cache_bytes: usize,
    /// How long a sender's lease of a shared journal lasts that is not renewed: so long nobody
    /// sends after the sender has died.
    pub lease: Duration,
    /// How long a change of a shared journal may go unnoticed where its server cannot notify.
    pub poll_interval: Duration,
    /// The fewest changes of a shared journal that are kept for those who follow it; one who is
    /// further behind reads the live entries anew.
    pub changes_kept: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            max_entries: 500_000,
            max_bytes: 4 << 30,
            retention: Duration::from_secs(25 * 60 * 60),
            max_keys: 1_000_000,
            max_operations: 20_000_000,
            max_parked: 10_000,
            group_max_entries: 512,
            group_max_bytes: 16 << 20,
            cache_bytes: 64 << 20,
            lease: Duration::from_secs(5),
            poll_interval: Duration::from_millis(100),
            changes_kept: 10_000,
        }
    }
}

impl JournalOptions {
    /// Refuses limits under which nothing could ever be written.
    ///
    /// # Errors
    /// `Open`, naming the limit.
    pub fn validate(&self) -> JournalResult<()> {
        let limits = [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
            ("max_operations", self.max_operations),
            ("group_max_entries", self.group_max_entries as u64),
            ("group_max_bytes", self.group_max_bytes),
        ];
        let times = [("lease", self.lease), ("poll_interval", self.poll_interval)];
        let zero = limits
            .iter()
            .find(|(_, value)| *value == 0)
            .map(|(name, _)| name)
            .or_else(|| {
                times
                    .iter()
                    .find(|(_, value)| value.is_zero())
                    .map(|(name, _)| name)
            });
        match zero {
            None => Ok(()),
            Some(name) => Err(JournalError::new(
                JournalErrorKind::Open,
                format!("{name} must be at least 1"),
            )),
        }
    }

    /// The retention time in milliseconds.
    pub(super) fn retention_milliseconds(&self) -> u64 {
        u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX)
    }
}
