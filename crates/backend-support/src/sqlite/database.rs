//! One open file: a connection that writes, some that read, and the jobs on them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult},
};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    JobError, JobResult, Schema,
    convert::is_busy,
    file::{self, FileLock},
};

/// Prepared statements kept per connection.
const STATEMENTS: usize = 128;
/// 8 KiB hold most documents' rows without an overflow page.
const PAGE_BYTES: i64 = 8 * 1024;
/// Each connection's page cache; the operating system caches the file besides.
const CACHE_KIBIBYTES: i64 = 16 * 1024;
/// What the write-ahead log is cut back to after a checkpoint.
const WRITE_AHEAD_LOG_BYTES: i64 = 64 * 1024 * 1024;

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct DatabaseOptions {
    readers: usize,
    write_ahead_log: bool,
    busy_timeout: Duration,
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            write_ahead_log: true,
            busy_timeout: Self::DEFAULT_BUSY_TIMEOUT,
        }
    }
}

impl DatabaseOptions {
    /// Short: a foreign lock is met by the caller's own back-off, not by a blocked thread.
    pub const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_millis(250);

    /// 4 readers, write-ahead log, 250 ms of waiting for another program's lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many jobs read at once, at least 1.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.clamp(1, 1_024);
        self
    }

    fn reader_permits(&self) -> u32 {
        u32::try_from(self.readers).unwrap_or(u32::MAX)
    }

    /// Whether SQLite keeps a write-ahead log: then readers and the writer do not wait for each
    /// other. Without it SQLite keeps a rollback journal and syncs at every write.
    pub fn write_ahead_log(mut self, enabled: bool) -> Self {
        self.write_ahead_log = enabled;
        self
    }

    /// How long a statement waits for a lock that another program holds on the file.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }
}

/// One open file. Clones share it; it is closed and unlocked when [`Database::close`] returns, or
/// when the last clone is gone and the last job has ended.
///
/// A write is visible to reads when it returns. It survives a crash of the process; a power loss
/// it survives once a later [`Database::sync`] or [`Database::write_durable`] has returned. What
/// survives is always a prefix of the writes.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
    runtime: Runtime,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.inner.path)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

struct Inner {
    path: PathBuf,
    options: DatabaseOptions,
    closed: AtomicBool,
    // Declared, and so dropped, before the lock.
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
    lock: Mutex<Option<FileLock>>,
    write_permits: Arc<Semaphore>,
    read_permits: Arc<Semaphore>,
}

impl Database {
    /// Opens the file, creating it and its directory if they are missing, and brings it to the
    /// newest format. The file is locked against every other opening, in this process too.
    ///
    /// # Errors
    /// `Locked`: another opening holds the file. `Unavailable`: it cannot be created, read or
    /// written. `Config`: it is not of this kind, or of a newer format. `Damaged`: it is no SQLite
    /// file.
    pub async fn open(
        path: impl Into<PathBuf>,
        options: DatabaseOptions,
        runtime: &Runtime,
        schema: &Schema,
    ) -> BackendResult<Self> {
        let path = path.into();
        let schema = *schema;
        let inner = runtime
            .blocking(move || Inner::open(path, options, &schema))
            .await
            .map_err(|error| lost().with_source(error).not_applied())??;
        Ok(Self {
            inner: Arc::new(inner),
            runtime: runtime.clone(),
        })
    }

    /// Runs `work` on a connection for reading, within one snapshot. Once started it runs to its
    /// end, whether or not the future is polled further.
    ///
    /// # Errors
    /// What `work` failed with; `Unavailable` once closed. Nothing changed.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> JobResult<T> + Send + 'static,
    ) -> BackendResult<T> {
        let permit = self.permit(&self.inner.read_permits).await?;
        let inner = Arc::clone(&self.inner);
        self.runtime
            .blocking(move || {
                // The permit is given back before the last handle may drop the file's lock.
                let result = inner.read(work);
                drop(permit);
                result
            })
            .await
            .map_err(|error| lost().with_source(error))
            .flatten()
            .map_err(BackendError::not_applied)
    }

    /// Runs `work` in a transaction for writing, which is committed if it returns `Ok` and rolled
    /// back otherwise. Writes run one after the other. Once started it runs to its end, whether or
    /// not the future is polled further.
    ///
    /// # Errors
    /// What `work` failed with, and nothing changed; `Unavailable` once closed, or while another
    /// program holds a lock on the file; `Unknown` if the commit itself failed.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> JobResult<T> + Send + 'static,
    ) -> BackendResult<T> {
        self.write_as(false, work).await
    }

    /// Like [`Database::write`]; on return this and every earlier write are durable. `work` has to
    /// change something, or nothing is synced.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_durable<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> JobResult<T> + Send + 'static,
    ) -> BackendResult<T> {
        self.write_as(true, work).await
    }

    async fn write_as<T: Send + 'static>(
        &self,
        durable: bool,
        work: impl FnOnce(&Transaction<'_>) -> JobResult<T> + Send + 'static,
    ) -> BackendResult<T> {
        let permit = self.permit(&self.inner.write_permits).await?;
        // A rollback journal is committed only while nobody reads: better to wait here than to
        // run into each other's locks. `close` takes the permits in the same order.
        let no_readers = if self.inner.options.write_ahead_log {
            None
        } else {
            let readers = self.inner.options.reader_permits();
            let permits = Arc::clone(&self.inner.read_permits).acquire_many_owned(readers);
            Some(permits.await.map_err(|_| closed())?)
        };
        let inner = Arc::clone(&self.inner);
        self.runtime
            .blocking(move || {
                let result = inner.write(durable, work);
                drop((permit, no_readers));
                result
            })
            .await
            .map_err(|error| lost().with_source(error))
            .flatten()
    }

    /// Shows that the file is there and answers. The file has to have [`super::stamp::SCHEMA`].
    ///
    /// # Errors
    /// As [`Database::read`]; `Unavailable` if the file is gone, though open connections still
    /// answer.
    pub async fn probe(&self) -> BackendResult<()> {
        let path = self.inner.path.clone();
        self.read(move |connection| {
            let there = path.try_exists().is_ok_and(|there| there);
            if !there {
                return Err(BackendError::new(
                    BackendErrorKind::Unavailable,
                    format!("the file is gone: {}", path.display()),
                )
                .into());
            }
            super::stamp::read(connection).map(|_| ())
        })
        .await
    }

    /// Makes every earlier write durable. The file has to have [`super::stamp::SCHEMA`].
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn sync(&self) -> BackendResult<()> {
        self.write_durable(|transaction| super::stamp::touch(transaction))
            .await
    }

    /// Syncs, waits for running jobs, closes the connections and unlocks the file. Jobs that have
    /// not started answer `Unavailable`. Repeating it is `Ok`. If the sync fails the file is
    /// closed nevertheless.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn close(&self) -> BackendResult<()> {
        self.inner.closed.store(true, Ordering::SeqCst);
        let readers = self.inner.options.reader_permits();
        let all = (
            Arc::clone(&self.inner.write_permits).acquire_owned().await,
            Arc::clone(&self.inner.read_permits)
                .acquire_many_owned(readers)
                .await,
        );
        let inner = Arc::clone(&self.inner);
        self.runtime
            .blocking(move || {
                let result = inner.close();
                drop(all);
                result
            })
            .await
            .map_err(|error| lost().with_source(error))
            .flatten()
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    async fn permit(&self, permits: &Arc<Semaphore>) -> BackendResult<OwnedSemaphorePermit> {
        // Looked at before as well: while it waits for running jobs, `close` holds permits.
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(closed());
        }
        match Arc::clone(permits).acquire_owned().await {
            Ok(permit) if !self.inner.closed.load(Ordering::SeqCst) => Ok(permit),
            _ => Err(closed()),
        }
    }
}

impl Inner {
    fn open(path: PathBuf, options: DatabaseOptions, schema: &Schema) -> BackendResult<Self> {
        let (path, lock) = file::lock(&path)?;
        let open = || -> JobResult<Connection> {
            let mut connection = connect(&path, &options, Access::Create)?;
            schema.migrate(&mut connection)?;
            Ok(connection)
        };
        let writer = open().map_err(|error| {
            let error = error.translate().not_applied();
            BackendError::new(
                error.kind(),
                format!("{}: {}", path.display(), error.message()),
            )
            .not_applied()
        })?;
        Ok(Self {
            closed: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::new(Vec::new()),
            lock: Mutex::new(Some(lock)),
            write_permits: Arc::new(Semaphore::new(1)),
            read_permits: Arc::new(Semaphore::new(options.readers)),
            path,
            options,
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> JobResult<T>) -> BackendResult<T> {
        let run = || -> JobResult<T> {
            let kept = locked(&self.readers).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => connect(&self.path, &self.options, Access::Read)?,
            };
            // One transaction, so that several statements see the same state.
            let snapshot = connection.unchecked_transaction()?;
            let result = work(&snapshot);
            let ended = snapshot.rollback();
            let value = match result {
                Ok(value) => value,
                Err(error) if error.spoils_connection() => return Err(error),
                Err(error) => {
                    ended?;
                    locked(&self.readers).push(connection);
                    return Err(error);
                }
            };
            ended?;
            locked(&self.readers).push(connection);
            Ok(value)
        };
        run().map_err(JobError::translate)
    }

    fn write<T>(
        &self,
        durable: bool,
        work: impl FnOnce(&Transaction<'_>) -> JobResult<T>,
    ) -> BackendResult<T> {
        let mut writer = locked(&self.writer);
        // Taken out while in use: a job that panics must not leave its transaction behind.
        let mut connection = match writer.take() {
            Some(connection) => connection,
            None => connect(&self.path, &self.options, Access::Write)
                .map_err(|error| error.translate().not_applied())?,
        };
        let result = set_synchronous(&connection, &self.options, durable)
            .map_err(Failure::before_commit)
            .and_then(|()| in_transaction(&mut connection, work));
        let reset = if durable {
            set_synchronous(&connection, &self.options, false)
        } else {
            Ok(())
        };
        let spoilt = result.as_ref().is_err_and(|failure| failure.spoilt) || reset.is_err();
        if !spoilt && connection.is_autocommit() {
            *writer = Some(connection);
        }
        result.map_err(|failure| failure.error)
    }

    fn close(&self) -> BackendResult<()> {
        let open = locked(&self.lock).is_some();
        let result = if open {
            self.write(true, |transaction| super::stamp::touch(transaction))
        } else {
            Ok(())
        };
        locked(&self.readers).clear();
        locked(&self.writer).take();
        locked(&self.lock).take();
        result
    }
}

/// A failed write.
struct Failure {
    error: BackendError,
    spoilt: bool,
}

impl Failure {
    fn before_commit(error: impl Into<JobError>) -> Self {
        let error = error.into();
        Self {
            spoilt: error.spoils_connection(),
            error: error.translate().not_applied(),
        }
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> JobResult<T>,
) -> Result<T, Failure> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(Failure::before_commit)?;
    // Dropping the transaction rolls it back; what a lost connection had not committed is never
    // read again either.
    let value = work(&transaction).map_err(Failure::before_commit)?;
    match transaction.execute_batch("COMMIT") {
        Ok(()) => Ok(value),
        Err(error) if is_busy(&error) => {
            // Readers of another program keep a rollback journal's commit from its lock; the
            // transaction stands and can be taken back.
            transaction.rollback().map_err(|error| Failure {
                spoilt: true,
                error: JobError::from(error).translate(),
            })?;
            Err(Failure::before_commit(error))
        }
        Err(error) => Err(Failure {
            spoilt: true,
            error: JobError::from(error).translate(),
        }),
    }
}

enum Access {
    Create,
    Write,
    Read,
}

fn connect(path: &Path, options: &DatabaseOptions, access: Access) -> JobResult<Connection> {
    // Only the first opening creates: a file that vanished must not come back empty under a
    // running store. Readers open for writing too, because only then can they recover a
    // write-ahead log; `query_only` keeps them from writing.
    let create = match access {
        Access::Create => OpenFlags::SQLITE_OPEN_CREATE,
        Access::Write | Access::Read => OpenFlags::empty(),
    };
    let connection = Connection::open_with_flags(
        path,
        create | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // On macOS a plain fsync leaves the data in the drive's cache; elsewhere this does nothing.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    if !matches!(access, Access::Read) {
        set_journal_mode(&connection, options)?;
        connection.pragma_update(None, "journal_size_limit", WRITE_AHEAD_LOG_BYTES)?;
        set_synchronous(&connection, options, false)?;
    } else {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(connection)
}

/// SQLite answers with the mode that it stays in where it cannot use the other; with a rollback
/// journal the log's relaxed syncs would not be safe, so that is an error.
fn set_journal_mode(connection: &Connection, options: &DatabaseOptions) -> JobResult<()> {
    let wanted = if options.write_ahead_log {
        "wal"
    } else {
        "delete"
    };
    let mut mode = String::new();
    connection.pragma_update_and_check(None, "journal_mode", wanted, |row| {
        mode = row.get(0)?;
        Ok(())
    })?;
    if mode == wanted {
        return Ok(());
    }
    let message = format!("the journal mode is {mode:?} here and cannot be made {wanted:?}");
    Err(BackendError::new(BackendErrorKind::Unavailable, message).into())
}

/// `NORMAL` with a write-ahead log never loses order or integrity, only the last commits;
/// `FULL` syncs the log at the commit and with it all commits before. A rollback journal needs
/// `FULL` for integrity, and `EXTRA` so that the removed journal cannot come back.
fn set_synchronous(
    connection: &Connection,
    options: &DatabaseOptions,
    durable: bool,
) -> rusqlite::Result<()> {
    let level = match (options.write_ahead_log, durable) {
        (true, false) => "NORMAL",
        (true, true) | (false, false) => "FULL",
        (false, true) => "EXTRA",
    };
    connection.pragma_update(None, "synchronous", level)
}

/// What the mutexes guard is whole between any two statements, so a panic elsewhere spoils nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> BackendError {
    BackendError::new(
        BackendErrorKind::Unavailable,
        "the work on the file ended without an answer",
    )
}

fn closed() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the store is closed").not_applied()
}
