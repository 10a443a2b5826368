//! A few connections, opened when they are needed.
//!
//! Its own rather than the client's, for three things that one cannot say or do: *why* there is no
//! connection (nobody listens, wrong password, all in use), at once and not when a wait has run
//! out; that a statement given up half-way never leaves its connection to the next caller; and no
//! round trip of its own before and after every statement.

use std::{
    fmt, mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult},
};
use sqlx::{
    Connection, Postgres, Transaction,
    postgres::{PgConnectOptions, PgConnection},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::convert::{self, JobError, JobResult};

/// A connection that rested for longer is asked for a sign of life before it is used.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// Connections of one store; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    runtime: Runtime,
    size: usize,
    /// An attempt's: half of it to wait for a free connection, all of it to open one.
    timeout: Duration,
    permits: Arc<Semaphore>,
    resting: Mutex<Vec<Resting>>,
}

struct Resting {
    connection: PgConnection,
    since: Duration,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.0.size).finish()
    }
}

impl Pool {
    /// At most `size` connections. Opens none yet.
    pub(super) fn new(
        options: PgConnectOptions,
        runtime: Runtime,
        size: usize,
        timeout: Duration,
    ) -> Self {
        let size = size.max(1);
        Self(Arc::new(Inner {
            options,
            runtime,
            size,
            timeout,
            permits: Arc::new(Semaphore::new(size)),
            resting: Mutex::default(),
        }))
    }

    /// A connection for one caller.
    ///
    /// # Errors
    /// `Overloaded` if all are in use for too long; `Unavailable` after [`Pool::close`]; otherwise
    /// why a new one cannot be opened. Nothing was changed by any of them.
    pub(crate) async fn acquire(&self) -> BackendResult<Lease> {
        let inner = &self.0;
        let permit = Arc::clone(&inner.permits).acquire_owned();
        // Half of the time, so that the caller hears the reason before it gives up itself.
        let permit = match inner.runtime.timeout(inner.timeout / 2, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(closed()),
            Err(_) => {
                return Err(BackendError::new(
                    BackendErrorKind::Overloaded,
                    format!("all {} connections to postgres are in use", inner.size),
                )
                .not_applied());
            }
        };
        while let Some(resting) = self.pop() {
            if let Some(connection) = self.check(resting).await {
                return Ok(self.lease(connection, permit));
            }
        }
        let connection = self.connect().await?;
        if inner.permits.is_closed() {
            return Err(closed());
        }
        Ok(self.lease(connection, permit))
    }

    /// A new connection that does not count and is not kept.
    pub(crate) async fn connect(&self) -> BackendResult<PgConnection> {
        let inner = &self.0;
        let connecting = PgConnection::connect_with(&inner.options);
        match inner.runtime.timeout(inner.timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| convert::connect_failed(&error)),
            Err(_) => Err(BackendError::new(
                BackendErrorKind::Timeout,
                "no connection to postgres within the time for an attempt",
            )
            .not_applied()),
        }
    }

    /// Hands out no more connections and ends the sessions of those that rest; those in use end
    /// when they are given back. Repeating it changes nothing.
    pub(crate) async fn close(&self) {
        let inner = &self.0;
        inner.permits.close();
        let resting = mem::take(&mut *self.resting());
        for resting in resting {
            let ending = resting.connection.close();
            // The server ends a session whose connection is gone by itself.
            let _ = inner.runtime.timeout(inner.timeout, ending).await;
        }
    }

    fn resting(&self) -> std::sync::MutexGuard<'_, Vec<Resting>> {
        self.0
            .resting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Option<Resting> {
        self.resting().pop()
    }

    /// The connection, if it still stands.
    async fn check(&self, resting: Resting) -> Option<PgConnection> {
        let inner = &self.0;
        let mut connection = resting.connection;
        if inner.runtime.monotonic().saturating_sub(resting.since) < CHECK_AFTER {
            return Some(connection);
        }
        let answer = inner.runtime.timeout(inner.timeout, connection.ping());
        matches!(answer.await, Ok(Ok(()))).then_some(connection)
    }

    fn lease(&self, connection: PgConnection, permit: OwnedSemaphorePermit) -> Lease {
        Lease {
            connection,
            permit,
            pool: self.clone(),
        }
    }
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the store is closed").not_applied()
}

/// A connection in one caller's hands. Dropped without [`Lease::release`] or [`Lease::finish`] it
/// is closed, for nobody knows what is still under way on it.
pub(crate) struct Lease {
    connection: PgConnection,
    permit: OwnedSemaphorePermit,
    pool: Pool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lease")
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Lease {
    /// Gives the connection back. It must be between two statements and in no transaction.
    pub(crate) fn release(self) {
        let Self {
            connection,
            permit,
            pool,
        } = self;
        let since = pool.0.runtime.monotonic();
        let mut resting = pool.resting();
        // After `close` nothing rests: a connection that comes back late ends here.
        if !pool.0.permits.is_closed() {
            resting.push(Resting { connection, since });
        }
        drop(resting);
        drop(permit);
    }

    /// Gives the connection back after work that has ended its transactions, unless it is of no
    /// use any more.
    pub(crate) fn finish<T>(self, result: JobResult<T>) -> JobResult<T> {
        match &result {
            Ok(_) | Err(JobError::Backend(_)) => self.release(),
            Err(JobError::Postgres(error)) if convert::leaves_connection_usable(error) => {
                self.release();
            }
            // What broke this connection most likely broke those that rest, too.
            Err(JobError::Postgres(_)) => self.pool.resting().clear(),
        }
        result
    }
}

/// Ends a transaction as its work ended.
///
/// # Errors
/// The work's, after a rollback; or that of the commit, or of a rollback that failed.
pub(crate) async fn end<T>(
    transaction: Transaction<'_, Postgres>,
    result: JobResult<T>,
) -> JobResult<T> {
    match &result {
        Ok(_) => transaction.commit().await?,
        Err(_) => transaction.rollback().await?,
    }
    result
}
