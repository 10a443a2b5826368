//! How many documents may be under way at once. Each one waits in memory for the journal and for
//! its level, so without a bound callers that come faster than they are answered would fill it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, ErrorKind};

/// When a write that was turned away is worth another try: most writes under way are answered
/// by then, and those that wait for a store in trouble are not hurried by asking more often.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The room for writes under way.
#[derive(Debug)]
pub(super) struct Admission {
    room: Arc<Semaphore>,
    limit: u32,
}

impl Admission {
    /// Room for this many documents.
    pub(super) fn new(limit: usize) -> Self {
        let limit = u32::try_from(limit.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            room: Arc::new(Semaphore::new(limit as usize)),
            limit,
        }
    }

    /// Takes room for this many documents until the permit is dropped; `None` if there is none. A
    /// batch above the limit takes all of it, so that it is not turned away for ever.
    pub(super) fn admit(&self, documents: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(documents).unwrap_or(u32::MAX).min(self.limit);
        Arc::clone(&self.room).try_acquire_many_owned(wanted).ok()
    }

    /// Why a write was turned away.
    pub(super) fn overloaded(&self) -> Error {
        Error::new(
            ErrorKind::Overloaded,
            "too many writes are under way and not yet answered",
        )
        .with("write.max_in_flight", self.limit)
        .with_retry_after(RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_until_the_permit_is_dropped() {
        let admission = Admission::new(3);
        let two = admission.admit(2).expect("room for two");
        assert!(admission.admit(2).is_none());
        let one = admission.admit(1).expect("room for one more");
        assert!(admission.admit(1).is_none());
        drop(two);
        assert!(admission.admit(2).is_some());
        drop(one);
        assert!(admission.admit(3).is_some());
    }

    #[test]
    fn a_batch_above_the_limit_is_admitted_alone() {
        let admission = Admission::new(3);
        let one = admission.admit(1).expect("room");
        assert!(admission.admit(1_000).is_none());
        drop(one);
        let all = admission.admit(1_000).expect("nothing else is under way");
        assert!(admission.admit(1).is_none());
        drop(all);
    }

    #[test]
    fn whoever_is_turned_away_is_told_when_to_come_again() {
        let error = Admission::new(1).overloaded();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
    }
}
