//! The one public error.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::model::{OperationId, Receipt, Role};

/// A result with the library's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's input breaks a stated limit or rule. Retrying the same input never helps.
    InvalidInput,
    /// The configuration is wrong; the message names the key.
    Config,
    /// There is no such collection.
    CollectionNotFound,
    /// A precondition did not hold.
    PreconditionFailed,
    /// The idempotency key was used with another input.
    IdempotencyConflict,
    /// The collection changed (dropped and created again) while the write was under way.
    CollectionChanged,
    /// The vector or the model belongs to another embedding space than the collection's.
    EmbeddingSpaceMismatch,
    /// The embedder failed.
    Embedding,
    /// A limit of the journal or of a queue is reached; retry later.
    Overloaded,
    /// A store could not be reached, or too few of them.
    Unavailable,
    /// The time ran out.
    Timeout,
    /// The write is journaled, but its level was not reached in time.
    LevelNotReached,
    /// The journal's own outcome is not known.
    Indeterminate,
    /// The journal or a store is damaged; the message names what is hit.
    Damaged,
    /// A store and the journal do not belong together: another journal's stamp, an older copy, or
    /// a version that this journal never issued.
    ForeignStore,
    /// Another process holds the store or the journal.
    Locked,
    /// Another instance of the service sends to the stores, and only that one can do this.
    NotSender,
    /// A cursor is older than the pages that are kept, or belongs to another query.
    CursorExpired,
    /// What was asked for cannot be done with this set of stores.
    Unsupported,
    /// The manager is closed.
    Closed,
    /// A defect of the library.
    Internal,
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidInput => "invalid input",
            ErrorKind::Config => "invalid configuration",
            ErrorKind::CollectionNotFound => "no such collection",
            ErrorKind::PreconditionFailed => "precondition failed",
            ErrorKind::IdempotencyConflict => "idempotency key used with another input",
            ErrorKind::CollectionChanged => "collection changed",
            ErrorKind::EmbeddingSpaceMismatch => "embedding space mismatch",
            ErrorKind::Embedding => "embedding failed",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timed out",
            ErrorKind::LevelNotReached => "consistency level not reached in time",
            ErrorKind::Indeterminate => "outcome unknown",
            ErrorKind::Damaged => "damaged",
            ErrorKind::ForeignStore => "store does not belong to this journal",
            ErrorKind::Locked => "locked by another process",
            ErrorKind::NotSender => "another instance is the sender",
            ErrorKind::CursorExpired => "cursor expired",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Closed => "closed",
            ErrorKind::Internal => "internal error",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a failed write may have done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteOutcome {
    /// No store ever shows it.
    Rejected,
    /// It is journaled and will be applied to every store.
    Pending(Box<Receipt>),
    /// Whether it was journaled is not known; ask `status` for this operation.
    Indeterminate(OperationId),
}

/// What went wrong, whether trying again helps, and for writes whether the write may have landed.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    retryable: bool,
    retry_after: Option<Duration>,
    outcome: Option<WriteOutcome>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind; `message` says what happened, lower case, without a full stop and
    /// without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(
            kind,
            ErrorKind::CollectionChanged
                | ErrorKind::Overloaded
                | ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Locked
        );
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            retryable,
            retry_after: None,
            outcome: None,
            source: None,
        }))
    }

    /// Adds a value that helps to find the cause.
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Adds the role of the store concerned.
    pub fn with_role(self, role: Role) -> Self {
        self.with("role", role)
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Says whether trying again helps, where the kind alone does not tell.
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Says when to try again.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self.0.retryable = true;
        self
    }

    /// Says what the failed write may have done.
    pub fn with_outcome(mut self, outcome: WriteOutcome) -> Self {
        self.0.outcome = Some(outcome);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later. A write that may have landed should be repeated
    /// only under its idempotency key.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long to wait before trying again, if that can be told.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the failed write may have done; `None` for what is no write.
    pub fn write_outcome(&self) -> Option<&WriteOutcome> {
        self.0.outcome.as_ref()
    }

    /// The message without kind and context.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The values that help to find the cause.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0
            .context
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        for (index, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if index == 0 { " (" } else { ", " })?;
        }
        if self.0.context.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("retryable", &self.0.retryable)
            .field("write_outcome", &self.0.outcome)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_kind_message_and_context_on_one_line() {
        let error = Error::new(ErrorKind::InvalidInput, "id is longer than 512 bytes")
            .with("bytes", 513)
            .with("collection", "papers");
        assert_eq!(
            error.to_string(),
            "invalid input: id is longer than 512 bytes (bytes: 513, collection: papers)"
        );
        assert!(!error.is_retryable());
        assert!(error.write_outcome().is_none());
    }
}
