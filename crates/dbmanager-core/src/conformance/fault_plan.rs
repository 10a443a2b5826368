//! When and how a faulty store fails: rates, drawn from a seed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::data::Seeded;
use crate::backend::{ApplyRequest, BackendError, BackendErrorKind};

/// How often each fault happens, as a share of calls from 0 to 1. For one call at most one of the
/// failures is drawn, so together they are at most 1; a delay may come on top.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FaultRates {
    /// Fails before anything was done, and says so: `NotApplied`. A batch fails whole or in part.
    pub refused_before: f64,
    /// Fails before anything was done, and does not know: `Unknown`. Likewise.
    pub lost_before: f64,
    /// Does everything, then fails as if it did not know: `Unknown`. Changes only.
    pub lost_after: f64,
    /// Fails as `Unknown` now, and applies the batch when some later call comes in. `apply` only.
    pub late: f64,
    /// Applies the batch twice. `apply` only.
    pub duplicate: f64,
    /// Waits before the call is passed on.
    pub delay: f64,
    /// The longest such wait.
    pub longest_delay: Duration,
}

impl FaultRates {
    /// No faults.
    pub fn none() -> Self {
        Self {
            refused_before: 0.0,
            lost_before: 0.0,
            lost_after: 0.0,
            late: 0.0,
            duplicate: 0.0,
            delay: 0.0,
            longest_delay: Duration::from_millis(5),
        }
    }

    /// Every kind of fault, each at this rate.
    pub fn all(rate: f64) -> Self {
        Self {
            refused_before: rate,
            lost_before: rate,
            lost_after: rate,
            late: rate,
            duplicate: rate,
            delay: rate,
            ..Self::none()
        }
    }

    /// Sets the rate of failures before anything was done that say so.
    pub fn refused_before(mut self, rate: f64) -> Self {
        self.refused_before = rate;
        self
    }

    /// Sets the rate of failures before anything was done that do not know.
    pub fn lost_before(mut self, rate: f64) -> Self {
        self.lost_before = rate;
        self
    }

    /// Sets the rate of failures after everything was done.
    pub fn lost_after(mut self, rate: f64) -> Self {
        self.lost_after = rate;
        self
    }

    /// Sets the rate of batches that land later.
    pub fn late(mut self, rate: f64) -> Self {
        self.late = rate;
        self
    }

    /// Sets the rate of batches that are applied twice.
    pub fn duplicate(mut self, rate: f64) -> Self {
        self.duplicate = rate;
        self
    }

    /// Sets how often a call waits, and for how long at most.
    pub fn delay(mut self, rate: f64, longest: Duration) -> Self {
        self.delay = rate;
        self.longest_delay = longest;
        self
    }
}

/// How often each fault has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Failures before anything was done that said so.
    pub refused_before: u64,
    /// Failures before anything was done that did not know.
    pub lost_before: u64,
    /// Failures after everything was done.
    pub lost_after: u64,
    /// Batches put off.
    pub late: u64,
    /// Batches put off that were passed on since, whether or not the store still took them.
    pub landed: u64,
    /// Batches applied twice.
    pub duplicate: u64,
    /// Calls that waited.
    pub delay: u64,
}

/// The fault drawn for one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    RefusedBefore,
    LostBefore,
    LostAfter,
    Late,
    Duplicate,
}

impl Fault {
    /// The error of a call that fails by this fault.
    pub(super) fn error(self) -> BackendError {
        match self {
            Fault::RefusedBefore => {
                BackendError::new(BackendErrorKind::Unavailable, "injected before the call")
                    .not_applied()
            }
            _ => BackendError::new(BackendErrorKind::Timeout, "injected, outcome unknown"),
        }
    }
}

/// What a call can do, which decides the faults that make sense for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    Read,
    Change,
    Apply,
}

/// The faults of one or several stores: a handle that tests keep, to read the counts and to change
/// the rates while the stores are in use. Clones are the same faults.
///
/// The same seed draws the same faults for the same sequence of calls.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seeded: Seeded,
    rates: FaultRates,
    counts: FaultCounts,
}

impl Faults {
    /// Faults drawn from this seed at these rates.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Self(Arc::new(Mutex::new(State {
            seeded: Seeded::new(seed),
            rates,
            counts: FaultCounts::default(),
        })))
    }

    /// Changes the rates from the next call on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.lock().rates = rates;
    }

    /// How often each fault has happened.
    pub fn counts(&self) -> FaultCounts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long this call waits, if it does.
    pub(super) fn draw_delay(&self) -> Option<Duration> {
        let mut state = self.lock();
        if state.seeded.unit() >= state.rates.delay {
            return None;
        }
        state.counts.delay += 1;
        let share = state.seeded.unit();
        Some(state.rates.longest_delay.mul_f64(share))
    }

    /// How late something arrives that arrives late.
    pub(super) fn draw_lateness(&self) -> Duration {
        let mut state = self.lock();
        let share = state.seeded.unit();
        state.rates.longest_delay.mul_f64(share)
    }

    /// The fault of this call, already counted.
    pub(super) fn draw(&self, kind: CallKind) -> Fault {
        let mut state = self.lock();
        let State {
            seeded,
            rates,
            counts,
        } = &mut *state;
        let change = kind != CallKind::Read;
        let apply = kind == CallKind::Apply;
        let choices = [
            (
                Fault::RefusedBefore,
                rates.refused_before,
                &mut counts.refused_before,
            ),
            (
                Fault::LostBefore,
                rates.lost_before,
                &mut counts.lost_before,
            ),
            (
                Fault::LostAfter,
                if change { rates.lost_after } else { 0.0 },
                &mut counts.lost_after,
            ),
            (
                Fault::Late,
                if apply { rates.late } else { 0.0 },
                &mut counts.late,
            ),
            (
                Fault::Duplicate,
                if apply { rates.duplicate } else { 0.0 },
                &mut counts.duplicate,
            ),
        ];
        let mut left = seeded.unit();
        for (fault, rate, count) in choices {
            if left < rate {
                *count += 1;
                return fault;
            }
            left -= rate;
        }
        Fault::None
    }

    /// Which of `items` fail: all of them, or each by the toss of a coin.
    pub(super) fn draw_failing(&self, items: usize) -> Vec<bool> {
        let seeded = &mut self.lock().seeded;
        let all = seeded.unit() < 0.5;
        (0..items).map(|_| all || seeded.unit() < 0.5).collect()
    }

    /// The batches that land now, each by the toss of a coin; the others stay put off.
    pub(super) fn draw_landing(&self, put_off: &mut Vec<ApplyRequest>) -> Vec<ApplyRequest> {
        let state = &mut *self.lock();
        let (landing, staying) = std::mem::take(put_off)
            .into_iter()
            .partition(|_| state.seeded.unit() < 0.5);
        *put_off = staying;
        let landing: Vec<ApplyRequest> = landing;
        state.counts.landed += landing.len() as u64;
        landing
    }
}
