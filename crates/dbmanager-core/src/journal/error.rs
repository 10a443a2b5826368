//! What the journal answers when it does not append.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::model::Version;

/// A result of the journal.
pub type JournalResult<T> = Result<T, JournalError>;

/// What kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalErrorKind {
    /// There is no such collection.
    CollectionNotFound,
    /// The collection has another generation than the request's.
    CollectionChanged,
    /// The collection exists with other options.
    CollectionConflict,
    /// The precondition does not hold; the live version found, if any.
    PreconditionFailed(Option<Version>),
    /// The idempotency key was used with another input.
    IdempotencyConflict,
    /// The operation id was used before, or was recorded as refused.
    OperationIdUsed,
    /// A limit is reached; the write was not appended.
    Full,
    /// The journal is read-only after an I/O error; the write was not appended.
    ReadOnly,
    /// The journal is closed; the write was not appended.
    Closed,
    /// An I/O error in the middle: the write may have been appended.
    Indeterminate,
    /// The journal is damaged; the message names what is hit.
    Damaged,
    /// Another process holds the journal.
    Locked,
    /// The journal was written by a newer version of the library.
    UnsupportedFormat,
    /// The journal cannot be opened, or a setting is wrong.
    Open,
    /// The journal's server does not answer, or its storage failed while it was opened; nothing was
    /// written. A server is tried again by itself.
    Unavailable,
    /// Another instance holds the lease: nothing was written.
    NotSender,
}

/// What went wrong in the journal.
#[derive(Clone, Debug)]
pub struct JournalError {
    kind: JournalErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl JournalError {
    /// An error of this kind; lower case, without a full stop.
    pub fn new(kind: JournalErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The kind.
    pub fn kind(&self) -> &JournalErrorKind {
        &self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal: {}", self.message)
    }
}

impl StdError for JournalError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
