//! Translates SQLite's errors, once.

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use rusqlite::{ErrorCode, ffi};

/// What a closure on a connection failed with.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// SQLite failed; translated when the closure has ended.
    #[error("sqlite failed")]
    Sqlite(#[from] rusqlite::Error),
    /// The adapter has judged already.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// A closure's result.
pub type JobResult<T> = Result<T, JobError>;

impl JobError {
    /// The data on disk is not what this schema writes.
    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Backend(BackendError::new(BackendErrorKind::Damaged, what))
    }

    /// The content cannot be stored; nothing changed.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Backend(BackendError::new(BackendErrorKind::Refused, why).not_applied())
    }

    /// The error an adapter hands out. Its effect is `Unknown` unless the adapter judged.
    pub(super) fn translate(self) -> BackendError {
        match self {
            Self::Backend(error) => error,
            Self::Sqlite(error) => translate(&error),
        }
    }

    /// Whether the connection that met it may be of no use any more: it is closed then, and the
    /// next job opens another.
    pub(super) fn spoils_connection(&self) -> bool {
        match self {
            Self::Backend(_) => false,
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::CannotOpen
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::ReadOnly
                        | ErrorCode::OutOfMemory
                )
            ),
        }
    }
}

/// Whether SQLite gave up because another connection holds a lock; the transaction still stands.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// SQLite's own messages are left out on purpose: some quote the query's words.
fn translate(error: &rusqlite::Error) -> BackendError {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return match error {
            rusqlite::Error::SqlInputError { error, .. } => BackendError::new(
                BackendErrorKind::Protocol,
                format!("sqlite refused a statement: {}", describe(error)),
            ),
            rusqlite::Error::FromSqlConversionFailure(column, ..)
            | rusqlite::Error::IntegralValueOutOfRange(column, _)
            | rusqlite::Error::InvalidColumnType(column, ..)
            | rusqlite::Error::Utf8Error(column, _) => BackendError::new(
                BackendErrorKind::Damaged,
                format!("column {column} of a row holds a value that was never written there"),
            ),
            _ => BackendError::new(
                BackendErrorKind::Protocol,
                "sqlite answered something else than was asked for",
            ),
        };
    };
    let kind = match failure.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::CannotOpen
        | ErrorCode::SystemIoFailure
        | ErrorCode::DiskFull
        | ErrorCode::ReadOnly
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted
        | ErrorCode::SchemaChanged => BackendErrorKind::Unavailable,
        ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => {
            BackendErrorKind::Refused
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => BackendErrorKind::Damaged,
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            BackendErrorKind::Denied
        }
        _ => BackendErrorKind::Protocol,
    };
    BackendError::new(kind, format!("sqlite: {}", describe(failure)))
}

fn describe(failure: &ffi::Error) -> String {
    format!(
        "{} (code {})",
        ffi::code_to_str(failure.extended_code),
        failure.extended_code
    )
}
