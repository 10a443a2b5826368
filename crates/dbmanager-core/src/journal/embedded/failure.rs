//! Failures below the journal, told apart by what they mean for it.

use std::{any::Any, io::ErrorKind, panic::AssertUnwindSafe};

use super::super::{JournalError, JournalErrorKind};

/// Why a transaction could not be carried out. Whatever the reason, nothing more is written
/// until the journal is opened again and checked.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) damaged: bool,
    pub(super) out_of_room: bool,
    pub(super) message: String,
}

impl Failure {
    /// What is stored is not what was written.
    pub(super) fn damaged(message: impl Into<String>) -> Self {
        Self {
            damaged: true,
            out_of_room: false,
            message: message.into(),
        }
    }

    /// The storage did not do what it was asked to.
    pub(super) fn storage(message: impl Into<String>) -> Self {
        Self {
            damaged: false,
            out_of_room: false,
            message: message.into(),
        }
    }

    /// The failure as an error of this kind, or `Damaged` if it is that.
    pub(super) fn into_error(self, kind: JournalErrorKind) -> JournalError {
        if self.damaged {
            JournalError::new(JournalErrorKind::Damaged, self.message)
        } else {
            JournalError::new(kind, self.message)
        }
    }

    fn from_redb(error: redb::Error) -> Self {
        match error {
            // redb reports a foreign file as invalid data, and meets the end of a file that was cut.
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                ) =>
            {
                Self::damaged(format!("the file is damaged: {error}"))
            }
            redb::Error::Io(error) => Self {
                damaged: false,
                out_of_room: error.kind() == ErrorKind::StorageFull,
                message: format!("input or output failed: {error}"),
            },
            redb::Error::PreviousIo => Self::storage("input or output failed before"),
            redb::Error::DatabaseClosed => Self::storage("the database is closed"),
            redb::Error::LockPoisoned(place) => {
                Self::storage(format!("an earlier panic left a lock at {place}"))
            }
            redb::Error::Corrupted(what) => Self::damaged(format!("the file is damaged: {what}")),
            other => Self::damaged(format!("the file is damaged: {other}")),
        }
    }
}

/// Implements the conversion for each of redb's errors, so that `?` translates them once.
macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Self::from_redb(error.into())
            }
        })*
    };
}
from_redb!(
    StorageError,
    TableError,
    TransactionError,
    CommitError,
    DatabaseError
);

/// Runs `work`, and turns a panic into damage: redb asserts what a sound file guarantees.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Failure::damaged(format!(
            "the file is damaged: its reader stopped with {:?}",
            panic_message(panic.as_ref())
        )))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic")
}
