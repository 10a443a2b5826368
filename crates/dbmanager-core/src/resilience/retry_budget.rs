//! A bound on retries over all calls to a store, so that a store in trouble is not asked many times
//! as often as a healthy one.
//!
//! The idea is the retry budget of Finagle and tower: every call earns a part of a retry, every
//! retry spends a whole one, and a small reserve keeps retries possible when there are few calls.

use std::time::Duration;

/// Retries are counted in thousandths.
const ONE_RETRY: u64 = 1_000;

/// A reserve of this many retries comes back per second.
const REFILL_PER_SECOND: u64 = 1;

/// Calls may save up retries for this many times the reserve.
const CAPACITY_IN_RESERVES: u64 = 10;

/// A token bucket; handed the time, so that it can be tested without one.
///
/// Over any span that starts with a full reserve: retries ≤ reserve + seconds + percent of calls.
#[derive(Debug)]
pub(super) struct RetryBudget {
    earned_per_call: u64,
    reserve: u64,
    capacity: u64,
    balance: u64,
    refilled_at: Duration,
}

impl RetryBudget {
    /// A budget of `percent` retries per hundred calls and a reserve of `reserve` retries, which
    /// is full.
    pub(super) fn new(percent: u32, reserve: u32, now: Duration) -> Self {
        let reserve = u64::from(reserve) * ONE_RETRY;
        Self {
            earned_per_call: u64::from(percent) * ONE_RETRY / 100,
            reserve,
            capacity: (reserve * CAPACITY_IN_RESERVES).max(ONE_RETRY),
            balance: reserve,
            refilled_at: now,
        }
    }

    /// Notes a call (not a retry).
    pub(super) fn deposit(&mut self, now: Duration) {
        self.refill(now);
        self.balance = (self.balance + self.earned_per_call).min(self.capacity);
    }

    /// Spends a retry, if there is one left.
    #[must_use]
    pub(super) fn withdraw(&mut self, now: Duration) -> bool {
        self.refill(now);
        let granted = self.balance >= ONE_RETRY;
        if granted {
            self.balance -= ONE_RETRY;
        }
        granted
    }

    fn refill(&mut self, now: Duration) {
        // One retry per second is one thousandth per millisecond; what is left of a millisecond
        // stays for the next time.
        let milliseconds = now.saturating_sub(self.refilled_at).as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        self.refilled_at += Duration::from_millis(milliseconds);
        if self.balance < self.reserve {
            let refill = milliseconds.saturating_mul(REFILL_PER_SECOND);
            self.balance = self.balance.saturating_add(refill).min(self.reserve);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reserve_is_spent_and_comes_back_with_time() {
        let mut budget = RetryBudget::new(10, 2, Duration::ZERO);
        assert!(budget.withdraw(Duration::ZERO));
        assert!(budget.withdraw(Duration::ZERO));
        assert!(!budget.withdraw(Duration::from_millis(999)));
        assert!(budget.withdraw(Duration::from_millis(1_000)));
    }

    #[test]
    fn ten_calls_earn_one_retry() {
        let mut budget = RetryBudget::new(10, 0, Duration::ZERO);
        for _ in 0..9 {
            budget.deposit(Duration::ZERO);
        }
        assert!(!budget.withdraw(Duration::ZERO));
        budget.deposit(Duration::ZERO);
        assert!(budget.withdraw(Duration::ZERO));
        assert!(!budget.withdraw(Duration::ZERO));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn retries_never_exceed_reserve_time_and_share_of_calls(
            percent in 0_u32..=50,
            reserve in 0_u32..=10,
            steps in prop::collection::vec((0_u64..500, any::<bool>()), 1..300),
        ) {
            let mut now = Duration::from_secs(7);
            let start = now;
            let mut budget = RetryBudget::new(percent, reserve, now);
            let (mut calls, mut retries) = (0_u64, 0_u64);
            for (wait, is_call) in steps {
                now += Duration::from_millis(wait);
                if is_call {
                    budget.deposit(now);
                    calls += 1;
                } else if budget.withdraw(now) {
                    retries += 1;
                }
            }
            let elapsed = u64::try_from((now - start).as_millis()).unwrap();
            let bound = u64::from(reserve) * 1_000 + elapsed + calls * u64::from(percent) * 10;
            prop_assert!(retries * 1_000 <= bound, "{retries} retries, bound {bound}/1000");
        }

        #[test]
        fn time_is_not_lost_however_often_it_asks(step in 1_u64..999_999) {
            let mut budget = RetryBudget::new(0, 1, Duration::ZERO);
            prop_assert!(budget.withdraw(Duration::ZERO));
            let mut now = Duration::ZERO;
            while now < Duration::from_millis(10) {
                now += Duration::from_nanos(step);
                prop_assert!(!budget.withdraw(now));
            }
            prop_assert!(budget.withdraw(Duration::from_secs(1)));
        }
    }
}
