//! One call to a store, with everything that stands between.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tracing::{Instrument, Span, debug, field, info, warn};

use super::{
    CircuitState, ResilienceSettings,
    breaker::{AttemptOutcome, Breaker, BreakerSettings, Refused, Ticket, Transition},
    retry_budget::RetryBudget,
};
use crate::{
    BoxFuture, Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, Effect},
    model::Role,
};

/// What repeating a call would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallClass {
    /// It changes nothing.
    Read,
    /// A second time changes nothing more. Every write of documents is one: by its version.
    IdempotentWrite,
    /// A second time may do harm: repeated only if the first is known not to have happened.
    Once,
}

/// The resilience of one store: its circuit, its retry budget, its metrics.
#[derive(Debug)]
pub(crate) struct Guard {
    runtime: Runtime,
    settings: ResilienceSettings,
    role: Role,
    service: Arc<str>,
    breaker: Mutex<Breaker>,
    retry_budget: Mutex<RetryBudget>,
}

impl Guard {
    /// The guard of one store.
    pub(crate) fn new(
        runtime: Runtime,
        mut settings: ResilienceSettings,
        role: Role,
        service: impl Into<Arc<str>>,
    ) -> Self {
        // So that an attempt that was cut before its own timeout is always a later one.
        settings.attempt_timeout = settings.attempt_timeout.min(settings.total_timeout);
        let breaker = Breaker::new(BreakerSettings {
            threshold: settings.breaker_threshold,
            cool_down: settings.breaker_cool_down,
            max_cool_down: settings.breaker_max_cool_down,
        });
        let retry_budget = RetryBudget::new(
            settings.retry_percent,
            settings.retry_reserve,
            runtime.monotonic(),
        );
        Self {
            runtime,
            settings,
            role,
            service: service.into(),
            breaker: Mutex::new(breaker),
            retry_budget: Mutex::new(retry_budget),
        }
    }

    /// The circuit, now.
    pub(crate) fn circuit(&self) -> CircuitState {
        self.breaker().state(self.runtime.monotonic())
    }

    /// What a call is answered with now without the store being asked, if its circuit is open.
    pub(crate) fn refusal(&self) -> Option<BackendError> {
        match self.circuit() {
            CircuitState::Open { remaining } => Some(circuit_open(Refused {
                retry_after: Some(remaining),
            })),
            CircuitState::Closed | CircuitState::HalfOpen => None,
        }
    }

    /// Calls the store, within the total budget, as often as the class, the settings and the retry
    /// budget allow.
    ///
    /// # Errors
    /// The last attempt's error. Its effect is `NotApplied` only if that is known of *every*
    /// attempt. `CircuitOpen` (not applied) if the store was not asked at all; `Timeout` if an
    /// attempt did not end in time.
    pub(crate) async fn run<'a, T: Send>(
        &self,
        operation: &'static str,
        class: CallClass,
        call: impl Fn() -> BoxFuture<'a, BackendResult<T>> + Send + Sync,
    ) -> BackendResult<T> {
        self.observed(operation, self.run_with_retries(operation, class, &call))
            .await
    }

    /// Asks the store once, whatever the circuit says: for health checks, which must see a store
    /// that is back. An answer makes the next call a trial; a failure counts.
    pub(crate) async fn probe<'a, T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> BoxFuture<'a, BackendResult<T>> + Send,
    ) -> BackendResult<T> {
        let attempt = async {
            let admitted = self.breaker().admit(self.runtime.monotonic());
            let ticket = admitted.ok().map(|ticket| Attempt::new(self, ticket));
            let result = self.timed(self.settings.attempt_timeout, call()).await;
            let outcome = outcome_of(&result);
            match ticket {
                Some(ticket) => ticket.end(outcome),
                None if outcome == AttemptOutcome::Answered => {
                    self.breaker().end_cool_down(self.runtime.monotonic());
                }
                None => {}
            }
            result
        };
        self.observed(operation, attempt).await
    }

    /// Calls the store once within the total budget, past the circuit and without telling it: for
    /// closing.
    pub(crate) async fn run_unguarded<'a, T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> BoxFuture<'a, BackendResult<T>> + Send,
    ) -> BackendResult<T> {
        self.observed(operation, async {
            self.timed(self.settings.total_timeout, call()).await
        })
        .await
    }

    async fn run_with_retries<'a, T: Send>(
        &self,
        operation: &'static str,
        class: CallClass,
        call: &(impl Fn() -> BoxFuture<'a, BackendResult<T>> + Send + Sync),
    ) -> BackendResult<T> {
        let start = self.runtime.monotonic();
        let deadline = start.saturating_add(self.settings.total_timeout);
        self.retry_budget().deposit(start);
        let mut earlier: Option<BackendError> = None;
        let mut retries = 0;
        loop {
            let admitted = self.breaker().admit(self.runtime.monotonic());
            let ticket = match admitted {
                Ok(ticket) => ticket,
                // What the store itself said last tells more than that it is not asked again.
                Err(refused) => return Err(earlier.unwrap_or_else(|| circuit_open(refused))),
            };
            let error = match self.attempt(ticket, deadline, call()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let repeatable = class != CallClass::Once || error.effect() == Effect::NotApplied;
            let error = match &earlier {
                Some(before) if before.effect() == Effect::Unknown => error.maybe_applied(),
                _ => error,
            };
            if !repeatable
                || !self
                    .wait_to_retry(operation, retries, &error, deadline)
                    .await
            {
                return Err(error);
            }
            earlier = Some(error);
            retries += 1;
        }
    }

    /// One attempt, shortened to what is left of the total budget.
    async fn attempt<T: Send>(
        &self,
        ticket: Ticket,
        deadline: Duration,
        call: BoxFuture<'_, BackendResult<T>>,
    ) -> BackendResult<T> {
        let attempt = Attempt::new(self, ticket);
        let left = deadline.saturating_sub(self.runtime.monotonic());
        let limit = left.min(self.settings.attempt_timeout);
        let result = self.timed(limit, call).await;
        let cut_short = limit < self.settings.attempt_timeout;
        match &result {
            // A retry that only got the rest of the budget is judged like one that was given up.
            Err(error) if cut_short && error.kind() == BackendErrorKind::Timeout => drop(attempt),
            _ => attempt.end(outcome_of(&result)),
        }
        result
    }

    /// A panic of an adapter is an error of the call: whoever calls for all others (a sender, the
    /// monitor) must not end with it.
    async fn timed<T>(
        &self,
        limit: Duration,
        call: BoxFuture<'_, BackendResult<T>>,
    ) -> BackendResult<T> {
        let call = AssertUnwindSafe(call).catch_unwind();
        match self.runtime.timeout(limit, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => Err(BackendError::new(
                BackendErrorKind::Protocol,
                "the adapter panicked",
            )),
            Err(_) => {
                let message = format!("no answer within {} ms", limit.as_millis());
                Err(BackendError::new(BackendErrorKind::Timeout, message))
            }
        }
    }

    /// Waits before the next attempt; `false` if there should be none.
    async fn wait_to_retry(
        &self,
        operation: &'static str,
        retries: u32,
        error: &BackendError,
        deadline: Duration,
    ) -> bool {
        let asked_too_much = retries >= self.settings.retry_attempts;
        if asked_too_much || !error.is_transient() || error.kind() == BackendErrorKind::CircuitOpen
        {
            return false;
        }
        let now = self.runtime.monotonic();
        let delay = self
            .jittered_delay(retries)
            .max(error.retry_after().unwrap_or_default());
        let resumed_at = now.saturating_add(delay);
        let still_open = matches!(self.breaker().state(resumed_at), CircuitState::Open { .. });
        if resumed_at >= deadline || still_open {
            return false;
        }
        if !self.retry_budget().withdraw(now) {
            debug!(
                db.operation.name = operation,
                "retry budget exhausted, not retried"
            );
            return false;
        }
        debug!(
            db.operation.name = operation,
            error.r#type = kind_label(error.kind()),
            retry = retries + 1,
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            "store failed, retrying"
        );
        self.runtime.sleep(delay).await;
        true
    }

    /// Exponential back-off with full jitter (Brooker 2015, "Exponential Backoff And Jitter"):
    /// uniform between zero and the doubling bound.
    fn jittered_delay(&self, retries: u32) -> Duration {
        let bound = 2_u32
            .checked_pow(retries)
            .and_then(|factor| self.settings.retry_base_delay.checked_mul(factor))
            .unwrap_or(Duration::MAX)
            .min(self.settings.retry_max_delay);
        let share = self.runtime.random_u64() as f64 / u64::MAX as f64;
        bound.mul_f64(share)
    }

    fn report(&self, transition: Option<Transition>) {
        match transition {
            Some(Transition::Opened { cool_down }) => warn!(
                role = self.role.as_str(),
                db.system.name = &*self.service,
                cool_down_ms = u64::try_from(cool_down.as_millis()).unwrap_or(u64::MAX),
                "circuit opened"
            ),
            Some(Transition::Closed) => info!(
                role = self.role.as_str(),
                db.system.name = &*self.service,
                "circuit closed"
            ),
            None => {}
        }
    }

    /// Runs a call in its span and measures it, also when it is dropped before its end.
    async fn observed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = BackendResult<T>>,
    ) -> BackendResult<T> {
        let span = tracing::debug_span!(
            "dbmanager.backend",
            role = self.role.as_str(),
            db.system.name = &*self.service,
            db.operation.name = operation,
            error.r#type = field::Empty,
        );
        let mut measurement = Measurement {
            guard: self,
            operation,
            start: self.runtime.monotonic(),
            outcome: "cancelled",
        };
        let result = call.instrument(span.clone()).await;
        measurement.outcome = match &result {
            Ok(_) => "ok",
            Err(error) => record_error(&span, error),
        };
        result
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retry_budget(&self) -> MutexGuard<'_, RetryBudget> {
        self.retry_budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn record_error(span: &Span, error: &BackendError) -> &'static str {
    let label = kind_label(error.kind());
    span.record("error.type", label);
    label
}

fn circuit_open(refused: Refused) -> BackendError {
    let error = BackendError::new(BackendErrorKind::CircuitOpen, "the store was not asked");
    let error = error.not_applied();
    match refused.retry_after {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

fn outcome_of<T>(result: &BackendResult<T>) -> AttemptOutcome {
    match result {
        Err(error) if error.is_transient() => AttemptOutcome::Failed,
        _ => AttemptOutcome::Answered,
    }
}

fn kind_label(kind: BackendErrorKind) -> &'static str {
    match kind {
        BackendErrorKind::Unavailable => "unavailable",
        BackendErrorKind::Locked => "locked",
        BackendErrorKind::Timeout => "timeout",
        BackendErrorKind::Overloaded => "overloaded",
        BackendErrorKind::CircuitOpen => "circuit_open",
        BackendErrorKind::Refused => "refused",
        BackendErrorKind::Unsupported => "unsupported",
        BackendErrorKind::CollectionMissing => "collection_missing",
        BackendErrorKind::StaleEpoch => "stale_epoch",
        BackendErrorKind::Foreign => "foreign",
        BackendErrorKind::Denied => "denied",
        BackendErrorKind::Damaged => "damaged",
        BackendErrorKind::Config => "config",
        BackendErrorKind::Protocol => "protocol",
    }
}

/// An admitted attempt. Its ticket always comes back, also when the caller drops the call: else a
/// dropped trial would keep the circuit half open for ever.
struct Attempt<'a> {
    guard: &'a Guard,
    ticket: Option<Ticket>,
    start: Duration,
}

impl<'a> Attempt<'a> {
    fn new(guard: &'a Guard, ticket: Ticket) -> Self {
        Self {
            guard,
            ticket: Some(ticket),
            start: guard.runtime.monotonic(),
        }
    }

    fn end(mut self, outcome: AttemptOutcome) {
        self.hand_back(outcome);
    }

    fn hand_back(&mut self, outcome: AttemptOutcome) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.guard.runtime.monotonic();
            let transition = self.guard.breaker().record(ticket, outcome, now);
            self.guard.report(transition);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // A caller with a shorter deadline than ours gives a silent store up before the attempt
        // timeout. If that told nothing, such callers would wait for it for ever; if it always
        // counted, an impatient caller could open the circuit of a healthy store.
        let waited = self.guard.runtime.monotonic().saturating_sub(self.start);
        let outcome = if waited >= self.guard.settings.attempt_timeout / 2 {
            AttemptOutcome::Failed
        } else {
            AttemptOutcome::Abandoned
        };
        self.hand_back(outcome);
    }
}

struct Measurement<'a> {
    guard: &'a Guard,
    operation: &'static str,
    start: Duration,
    outcome: &'static str,
}

impl Drop for Measurement<'_> {
    fn drop(&mut self) {
        let elapsed = self.guard.runtime.monotonic().saturating_sub(self.start);
        let labels = [
            (
                "role",
                metrics::SharedString::const_str(self.guard.role.as_str()),
            ),
            ("service", Arc::clone(&self.guard.service).into()),
            (
                "operation",
                metrics::SharedString::const_str(self.operation),
            ),
            ("outcome", metrics::SharedString::const_str(self.outcome)),
        ];
        metrics::histogram!("dbmanager_backend_operation_seconds", &labels)
            .record(elapsed.as_secs_f64());
        metrics::counter!("dbmanager_backend_operations_total", &labels).increment(1);
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
