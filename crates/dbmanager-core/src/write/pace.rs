//! How fast a store that was away is caught up while others write. Batch after batch it would keep a
//! core and the disk busy that every single write waits for.

use std::time::Duration;

use crate::model::Version;

/// The longest rest: meanwhile the store is not for anybody else, such as a rebuild, either.
const LONGEST: Duration = Duration::from_millis(100);

/// How long a rest is, of the time that the batch took.
const SHARE: f64 = 1.25;

/// When a sender rests between two batches of a backlog.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The highest version issued when it was last looked.
    mark: Version,
    /// What the store was behind then.
    lag: usize,
}

impl Pace {
    /// How long to rest after a batch of so many documents that took so long: a quarter longer, so
    /// that most of the time is left to those who write. Not if nobody has written meanwhile, and
    /// not unless the backlog has got shorter by half a batch nevertheless: a store that is written
    /// to as fast as it can apply would never catch up.
    pub(super) fn rest(
        &mut self,
        batch: usize,
        took: Duration,
        mark: Version,
        lag: usize,
    ) -> Option<Duration> {
        let written = std::mem::replace(&mut self.mark, mark) < mark;
        let before = std::mem::replace(&mut self.lag, lag);
        let shorter = before.saturating_sub(lag) >= batch.div_ceil(2);
        (written && shorter && lag > 0).then(|| took.mul_f64(SHARE).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(8);
    const REST: Duration = Duration::from_millis(10);

    fn version(number: u64) -> Version {
        Version::from_u64(number)
    }

    #[test]
    fn it_rests_longer_than_a_batch_took_while_others_write() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(100, TOOK, version(1), 1_000), None);
        assert_eq!(pace.rest(100, TOOK, version(2), 901), Some(REST));
        let long = Duration::from_secs(10);
        assert_eq!(pace.rest(100, long, version(3), 802), Some(LONGEST));
    }

    #[test]
    fn the_last_batch_is_not_rested_after() {
        let mut pace = Pace::default();
        pace.rest(100, TOOK, version(1), 100);
        assert_eq!(pace.rest(100, TOOK, version(2), 0), None);
    }

    #[test]
    fn nobody_is_given_way_to_when_nobody_writes() {
        let mut pace = Pace::default();
        pace.rest(100, TOOK, version(1), 1_000);
        assert_eq!(pace.rest(100, TOOK, version(1), 900), None);
        assert_eq!(pace.rest(100, TOOK, version(2), 801), Some(REST));
    }

    #[test]
    fn a_backlog_that_hardly_gets_shorter_is_sent_without_a_rest() {
        let mut pace = Pace::default();
        pace.rest(100, TOOK, version(1), 1_000);
        assert_eq!(pace.rest(100, TOOK, version(60), 951), None);
        assert_eq!(pace.rest(100, TOOK, version(90), 901), Some(REST));
        assert_eq!(pace.rest(101, TOOK, version(95), 851), None);
        assert_eq!(pace.rest(100, TOOK, version(400), 1_200), None);
    }
}
