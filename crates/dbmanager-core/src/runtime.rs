//! Time, randomness and spawning, handed down from `open` as one value.
//!
//! Nothing else in the library reads a clock, draws a random number or spawns: a seeded
//! simulation supplies its own [`RuntimeServices`] and drives the real code. For the same reason
//! every `select!` is `biased`, since others draw their order from the thread, and no order comes
//! from walking a hash map.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use crate::model::{JournalId, OperationId, StoreId, Timestamp};

/// A boxed future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the library needs from its surroundings.
pub trait RuntimeServices: Send + Sync + 'static {
    /// The wall clock. May jump; nothing but version allocation, expiry and reports
    /// look at it.
    fn now(&self) -> Timestamp;
    /// Time since some fixed start; never goes back.
    fn monotonic(&self) -> Duration;
    /// Completes after `duration` of [`RuntimeServices::monotonic`] time.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Fills the bytes with random ones.
    fn fill_random(&self, bytes: &mut [u8]);
    /// Runs the future to its end, whether or not anyone waits for it.
    fn spawn(&self, future: BoxFuture<'static, ()>);
    /// Runs blocking work on a thread that may block.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);
}

/// The clock, randomness, spawning and blocking pool in use; cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<dyn RuntimeServices>);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

/// The time given to [`Runtime::timeout`] ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time ran out")]
pub struct Elapsed;

impl Runtime {
    /// A runtime from one's own services.
    pub fn new(services: Arc<dyn RuntimeServices>) -> Self {
        Self(services)
    }

    /// The tokio runtime that the caller is in: its clock (also when paused by a test), its tasks,
    /// its blocking pool, and the operating system's randomness.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn tokio() -> Self {
        Self(Arc::new(Tokio {
            handle: tokio::runtime::Handle::current(),
            start: tokio::time::Instant::now(),
        }))
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// The wall clock as milliseconds since the Unix epoch; 0 before it.
    pub fn unix_milliseconds(&self) -> u64 {
        u64::try_from(self.now().as_unix_milliseconds()).unwrap_or(0)
    }

    /// Time since some fixed start; never goes back.
    pub fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    /// Completes after `duration`.
    pub fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    /// Runs `future` for at most `duration`.
    ///
    /// # Errors
    /// [`Elapsed`]; the future is dropped then.
    pub async fn timeout<T>(
        &self,
        duration: Duration,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let future = std::pin::pin!(future);
        match select(future, self.sleep(duration)).await {
            Either::Left((value, _)) => Ok(value),
            Either::Right(_) => Err(Elapsed),
        }
    }

    /// A random number.
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn random_10(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        self.0.fill_random(&mut bytes);
        bytes
    }

    /// A new operation id.
    pub fn new_operation_id(&self) -> OperationId {
        self.new_operation_id_from(0)
    }

    /// A new operation id whose time is now, or `earliest` (milliseconds since the Unix epoch) if
    /// the clock has gone back behind it.
    pub(crate) fn new_operation_id_from(&self, earliest: u64) -> OperationId {
        OperationId::new_v7(self.unix_milliseconds().max(earliest), self.random_10())
    }

    /// A new store id.
    pub fn new_store_id(&self) -> StoreId {
        StoreId::new_v7(self.unix_milliseconds(), self.random_10())
    }

    /// A new journal id.
    pub fn new_journal_id(&self) -> JournalId {
        JournalId::new_v7(self.unix_milliseconds(), self.random_10())
    }

    /// Runs the future to its end on its own. Dropping the handle does not stop it.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> TaskHandle<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn(Box::pin(async move {
            // The receiver may be gone: then nobody waits for the result.
            let _ = sender.send(future.await);
        }));
        TaskHandle(receiver)
    }

    /// Runs blocking work and waits for it. The work runs to its end even if the wait is dropped.
    ///
    /// # Errors
    /// [`TaskLost`] if the work panicked or the pool is shut down.
    pub fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> TaskHandle<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.spawn_blocking(Box::new(move || {
            // The receiver may be gone: then nobody waits for the result.
            let _ = sender.send(work());
        }));
        TaskHandle(receiver)
    }
}

/// A task ended without a result: it panicked, or the runtime is shutting down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task ended without a result")]
pub struct TaskLost;

/// Waits for a spawned task's result.
#[derive(Debug)]
pub struct TaskHandle<T>(oneshot::Receiver<T>);

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskLost>;

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|_| TaskLost)
    }
}

struct Tokio {
    handle: tokio::runtime::Handle,
    start: tokio::time::Instant,
}

impl RuntimeServices for Tokio {
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_unix_milliseconds(
            i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
        )
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _guard = self.handle.enter();
        Box::pin(tokio::time::sleep(duration))
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system's random source answers");
    }

    fn spawn(&self, future: BoxFuture<'static, ()>) {
        self.handle.spawn(future);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.handle.spawn_blocking(work);
    }
}
