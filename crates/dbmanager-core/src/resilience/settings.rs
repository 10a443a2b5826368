//! The knobs of resilience.

use std::time::Duration;

use crate::config::PerformanceSettings;

/// How long a store may take and how often it is asked again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResilienceSettings {
    /// The longest one attempt may take.
    pub(crate) attempt_timeout: Duration,
    /// The longest a call may take, all its attempts and the waits between them.
    pub(crate) total_timeout: Duration,
    /// Attempts after the first.
    pub(crate) retry_attempts: u32,
    /// The wait before the first retry is drawn between zero and this; the bound doubles with each
    /// further retry.
    pub(crate) retry_base_delay: Duration,
    /// The bound never grows beyond this.
    pub(crate) retry_max_delay: Duration,
    /// Retries per hundred calls, over time.
    pub(crate) retry_percent: u32,
    /// Retries that are free whatever the number of calls; spent ones come back, one a second.
    pub(crate) retry_reserve: u32,
    /// Consecutive transient failures that open the circuit; 0: it never opens.
    pub(crate) breaker_threshold: u32,
    /// How long the circuit stays open the first time; doubles with each failed trial.
    pub(crate) breaker_cool_down: Duration,
    /// The longest it stays open between two trials.
    pub(crate) breaker_max_cool_down: Duration,
}

impl Default for ResilienceSettings {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            retry_attempts: 3,
            retry_base_delay: Duration::from_millis(50),
            retry_max_delay: Duration::from_secs(2),
            retry_percent: 10,
            retry_reserve: 10,
            breaker_threshold: 5,
            breaker_cool_down: Duration::from_secs(1),
            breaker_max_cool_down: Duration::from_secs(30),
        }
    }
}

/// An attempt gets this part of the total, so that a first one that hangs leaves time for another.
const ATTEMPTS_PER_TOTAL: u32 = 3;

impl From<&PerformanceSettings> for ResilienceSettings {
    fn from(performance: &PerformanceSettings) -> Self {
        Self {
            attempt_timeout: performance.query_timeout / ATTEMPTS_PER_TOTAL,
            total_timeout: performance.query_timeout,
            retry_attempts: performance.retry_attempts,
            breaker_threshold: performance.circuit_breaker_threshold,
            ..Self::default()
        }
    }
}
