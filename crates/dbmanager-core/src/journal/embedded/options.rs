//! Limits and times of the embedded journal.

use std::time::Duration;

use super::super::{JournalError, JournalErrorKind, JournalResult};

/// Limits and times of the embedded journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The most live entries; at the limit appends answer `Full`.
    pub max_entries: u64,
    /// The most bytes of live entries; must stay below the room on the disk.
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
    /// Memory for cached pages, in bytes.
    pub cache_bytes: usize,
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
        }
    }
}

impl JournalOptions {
    /// Refuses limits under which nothing could ever be written.
    pub(super) fn validate(&self) -> JournalResult<()> {
        let limits = [
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
            ("max_operations", self.max_operations),
            ("group_max_entries", self.group_max_entries as u64),
            ("group_max_bytes", self.group_max_bytes),
        ];
        match limits.iter().find(|(_, value)| *value == 0) {
            None => Ok(()),
            Some((name, _)) => Err(JournalError::new(
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
