//! The order of the layers and what each does, on the paused clock.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

/// What the store does at one attempt.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answer,
    Fail(BackendErrorKind, Effect),
    Hang,
    AnswerAfter(Duration),
    Panic,
}

use BackendErrorKind::{CollectionMissing, Overloaded, Refused, Unavailable};
use Effect::{NotApplied, Unknown};
use Step::{Answer, AnswerAfter, Fail, Hang};

/// A store that does what it is told, then answers; and its guard.
struct Setting {
    guard: Guard,
    runtime: Runtime,
    script: Mutex<VecDeque<Step>>,
    calls: AtomicUsize,
}

impl Setting {
    fn new(settings: ResilienceSettings, script: impl IntoIterator<Item = Step>) -> Self {
        let runtime = Runtime::tokio();
        Self {
            guard: Guard::new(runtime.clone(), settings, Role::Vector, "scripted"),
            runtime,
            script: Mutex::new(script.into_iter().collect()),
            calls: AtomicUsize::new(0),
        }
    }

    fn call(&self) -> BoxFuture<'_, BackendResult<usize>> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let step = self.script.lock().unwrap().pop_front().unwrap_or(Answer);
        Box::pin(async move {
            match step {
                Answer => Ok(call),
                AnswerAfter(duration) => {
                    self.runtime.sleep(duration).await;
                    Ok(call)
                }
                Hang => std::future::pending().await,
                Step::Panic => panic!("told to"),
                Fail(kind, Unknown) => Err(BackendError::new(kind, "told to")),
                Fail(kind, NotApplied) => Err(BackendError::new(kind, "told to").not_applied()),
            }
        })
    }

    async fn run(&self, class: CallClass) -> BackendResult<usize> {
        self.guard.run("heads", class, || self.call()).await
    }

    async fn read(&self) -> BackendResult<usize> {
        self.run(CallClass::Read).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn settings() -> ResilienceSettings {
    ResilienceSettings::default()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn kind<T: std::fmt::Debug>(result: BackendResult<T>) -> BackendErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_and_a_permanent_one_is_not() {
    let setting = Setting::new(settings(), [Fail(Unavailable, NotApplied), Answer]);
    assert_eq!(setting.read().await.unwrap(), 2);

    let setting = Setting::new(settings(), [Fail(Refused, NotApplied)]);
    assert_eq!(kind(setting.read().await), Refused);
    assert_eq!(setting.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_last_error() {
    let script = [Fail(Unavailable, NotApplied); 3];
    let setting = Setting::new(
        settings(),
        script.into_iter().chain([Fail(Overloaded, NotApplied)]),
    );
    let error = setting.read().await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Overloaded, NotApplied));
    assert_eq!(setting.calls(), 4, "the first attempt and three retries");
}

#[tokio::test(start_paused = true)]
async fn the_attempt_timeout_ends_a_silent_attempt_and_the_next_one_may_answer() {
    let setting = Setting::new(settings(), [Hang, Answer]);
    assert_eq!(setting.read().await.unwrap(), 2);
    let waited = setting.runtime.monotonic();
    assert!(
        waited >= seconds(10) && waited < seconds(11),
        "waited {waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_total_budget_shortens_the_last_attempt_instead_of_standing_outside() {
    let settings = ResilienceSettings {
        attempt_timeout: seconds(10),
        total_timeout: seconds(12),
        ..settings()
    };
    let setting = Setting::new(settings, [Hang, Hang, Hang]);
    let error = setting.read().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Timeout);
    assert_eq!(setting.runtime.monotonic(), seconds(12));
    assert_eq!(setting.calls(), 2, "the budget left no time for a third");
    let text = error.to_string();
    assert!(
        text.starts_with("store timed out: no answer within 1"),
        "{text}"
    );
    assert_ne!(text, "store timed out: no answer within 10000 ms");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_outlast_the_budget_is_not_begun() {
    let guard = Guard::new(Runtime::tokio(), settings(), Role::Graph, "scripted");
    let result: BackendResult<()> = guard
        .run("heads", CallClass::Read, || {
            Box::pin(async {
                Err(BackendError::new(Overloaded, "busy").with_retry_after(seconds(60)))
            })
        })
        .await;
    let error = result.unwrap_err();
    assert_eq!(error.retry_after(), Some(seconds(60)));
    assert_eq!(guard.runtime.monotonic(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_store_says_when_it_wants_to_be_asked_again() {
    let setting = Setting::new(settings(), []);
    let result = setting
        .guard
        .run("heads", CallClass::Read, || {
            let call = setting.calls.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match call {
                    0 => Err(BackendError::new(Overloaded, "busy").with_retry_after(seconds(7))),
                    _ => Ok(()),
                }
            })
        })
        .await;
    result.unwrap();
    assert_eq!(setting.runtime.monotonic(), seconds(7));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_happened_is_repeated_only_if_that_does_no_harm() {
    for (effect, class, calls) in [
        (Unknown, CallClass::Once, 1),
        (NotApplied, CallClass::Once, 2),
        (Unknown, CallClass::IdempotentWrite, 2),
        (Unknown, CallClass::Read, 2),
    ] {
        let setting = Setting::new(settings(), [Fail(Unavailable, effect)]);
        let result = setting.run(class).await;
        assert_eq!(setting.calls(), calls, "{effect:?} {class:?}");
        assert_eq!(result.is_ok(), calls == 2);
    }
    let setting = Setting::new(settings(), [Hang]);
    let error = setting.run(CallClass::Once).await.unwrap_err();
    assert_eq!(error.effect(), Unknown, "a timeout may have happened");
    assert_eq!(setting.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_attempt_may_have_done_is_not_forgotten() {
    let script = [
        Fail(Unavailable, Unknown),
        Fail(Unavailable, NotApplied),
        Fail(Refused, NotApplied),
    ];
    let setting = Setting::new(settings(), script);
    let error = setting.run(CallClass::IdempotentWrite).await.unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Refused, Unknown));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_retry_budget_ends_retries_but_not_calls() {
    let settings = ResilienceSettings {
        retry_reserve: 2,
        retry_percent: 0,
        breaker_threshold: 0,
        retry_base_delay: Duration::ZERO,
        ..settings()
    };
    let setting = Setting::new(settings, [Fail(Unavailable, NotApplied); 20]);
    setting.read().await.unwrap_err();
    assert_eq!(setting.calls(), 3, "two retries from the reserve");
    setting.read().await.unwrap_err();
    assert_eq!(setting.calls(), 4, "no retry left");
    setting.runtime.sleep(seconds(1)).await;
    setting.read().await.unwrap_err();
    assert_eq!(setting.calls(), 6, "one came back with time");
}

fn without_retries() -> ResilienceSettings {
    ResilienceSettings {
        retry_attempts: 0,
        ..settings()
    }
}

async fn open_the_circuit(setting: &Setting) {
    for _ in 0..5 {
        assert_eq!(setting.guard.circuit(), CircuitState::Closed);
        setting.read().await.unwrap_err();
    }
    assert_eq!(
        setting.guard.circuit(),
        CircuitState::Open {
            remaining: seconds(1)
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_answers_at_once_without_the_store_and_recovers_by_one_trial() {
    let setting = Setting::new(without_retries(), [Fail(Unavailable, NotApplied); 6]);
    open_the_circuit(&setting).await;
    let error = setting.read().await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::CircuitOpen);
    assert_eq!(error.effect(), NotApplied);
    assert_eq!(error.retry_after(), Some(seconds(1)));
    assert_eq!(setting.calls(), 5, "the store was not asked");

    setting.runtime.sleep(seconds(1)).await;
    assert_eq!(setting.guard.circuit(), CircuitState::HalfOpen);
    assert_eq!(
        kind(setting.read().await),
        Unavailable,
        "the trial fails too"
    );
    assert_eq!(
        setting.guard.circuit(),
        CircuitState::Open {
            remaining: seconds(2)
        }
    );
    setting.runtime.sleep(seconds(2)).await;
    setting.read().await.unwrap();
    assert_eq!(setting.guard.circuit(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn while_a_trial_is_under_way_others_are_refused() {
    let failures = [Fail(Unavailable, NotApplied); 5];
    let script = failures.into_iter().chain([AnswerAfter(seconds(3))]);
    let setting = Setting::new(without_retries(), script);
    open_the_circuit(&setting).await;
    setting.runtime.sleep(seconds(1)).await;
    let (trial, other) = tokio::join!(setting.read(), setting.read());
    assert_eq!(trial.unwrap(), 6);
    assert_eq!(kind(other), BackendErrorKind::CircuitOpen);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_retried_and_ends_the_retries_of_the_call_that_opened_it() {
    let settings = ResilienceSettings {
        breaker_threshold: 2,
        ..settings()
    };
    let setting = Setting::new(settings, [Fail(Unavailable, Unknown); 9]);
    let error = setting.read().await.unwrap_err();
    assert_eq!(
        (error.kind(), setting.calls()),
        (Unavailable, 2),
        "the store's own error"
    );
    let before = setting.runtime.monotonic();
    assert_eq!(kind(setting.read().await), BackendErrorKind::CircuitOpen);
    assert_eq!(setting.runtime.monotonic(), before, "no waiting");
}

#[tokio::test(start_paused = true)]
async fn refusals_are_answers_and_never_open_the_circuit() {
    let script = [Refused, CollectionMissing, BackendErrorKind::StaleEpoch]
        .map(|kind| Fail(kind, NotApplied))
        .repeat(5);
    let setting = Setting::new(without_retries(), script);
    for _ in 0..15 {
        setting.read().await.unwrap_err();
    }
    assert_eq!(setting.guard.circuit(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn attempts_given_up_count_only_if_the_caller_had_some_patience() {
    for (patience, expected) in [
        (seconds(4), CircuitState::Closed),
        (
            seconds(5),
            CircuitState::Open {
                remaining: seconds(1),
            },
        ),
    ] {
        let setting = Setting::new(settings(), [Hang; 5]);
        for _ in 0..5 {
            let read = setting.runtime.timeout(patience, setting.read()).await;
            read.expect_err("the store is silent");
        }
        assert_eq!(setting.guard.circuit(), expected, "after {patience:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_leaves_room_for_the_next() {
    let failures = [Fail(Unavailable, NotApplied); 5];
    let setting = Setting::new(without_retries(), failures.into_iter().chain([Hang]));
    open_the_circuit(&setting).await;
    setting.runtime.sleep(seconds(1)).await;
    let trial = setting.runtime.timeout(seconds(1), setting.read()).await;
    trial.expect_err("the store is silent");
    assert_eq!(setting.guard.circuit(), CircuitState::HalfOpen);
    setting.read().await.unwrap();
    assert_eq!(setting.guard.circuit(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_reaches_the_store_through_an_open_circuit_and_ends_the_cool_down() {
    let setting = Setting::new(without_retries(), [Fail(Unavailable, NotApplied); 6]);
    open_the_circuit(&setting).await;
    let probe = || setting.guard.probe("probe", || setting.call());
    assert_eq!(kind(probe().await), Unavailable);
    assert!(matches!(setting.guard.circuit(), CircuitState::Open { .. }));
    assert_eq!(probe().await.unwrap(), 7);
    assert_eq!(setting.guard.circuit(), CircuitState::HalfOpen);
    setting.read().await.unwrap();
    assert_eq!(setting.guard.circuit(), CircuitState::Closed);
}

/// Keeps what was counted: name, labels, number.
#[derive(Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

struct Counted(String, Arc<Mutex<Vec<String>>>);

impl metrics::CounterFn for Counted {
    fn increment(&self, value: u64) {
        self.1.lock().unwrap().push(format!("{} {value}", self.0));
    }
    fn absolute(&self, _: u64) {}
}

impl metrics::HistogramFn for Counted {
    fn record(&self, value: f64) {
        self.1.lock().unwrap().push(format!("{} {value}", self.0));
    }
}

impl Recorder {
    fn counted(&self, key: &metrics::Key) -> Arc<Counted> {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Counted(name, Arc::clone(&self.0)))
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.counted(key))
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        key: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.counted(key))
    }
}

#[test]
fn each_call_is_measured_once_from_outside_the_retries_also_when_it_is_dropped() {
    let recorder = Recorder::default();
    let recorded = Arc::clone(&recorder.0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let setting = Setting::new(settings(), [Hang, Answer, Hang]);
            setting.read().await.unwrap();
            let read = setting.runtime.timeout(seconds(2), setting.read()).await;
            read.expect_err("the store is silent");
        });
    });
    let lines = recorded.lock().unwrap().clone();
    let labels =
        |outcome| format!("{{role=vector,service=scripted,operation=heads,outcome={outcome}}}");
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with(&format!(
        "dbmanager_backend_operation_seconds{} 10.",
        labels("ok")
    )));
    assert_eq!(
        lines[1..],
        [
            format!("dbmanager_backend_operations_total{} 1", labels("ok")),
            format!(
                "dbmanager_backend_operation_seconds{} 2",
                labels("cancelled")
            ),
            format!(
                "dbmanager_backend_operations_total{} 1",
                labels("cancelled")
            ),
        ]
    );
}

/// A sender that ended with a panic of its adapter would never send again.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_adapter_is_an_error_of_the_call() {
    let setting = Setting::new(settings(), [Step::Panic, Step::Panic]);
    for _ in 0..2 {
        let error = setting.read().await.unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Protocol);
        assert_eq!(error.effect(), Unknown);
        assert!(error.to_string().contains("the adapter panicked"));
    }
    assert_eq!(setting.read().await.unwrap(), 3);
}
