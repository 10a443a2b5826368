//! What an adapter says when something fails.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

/// A result with an adapter's error.
pub type BackendResult<T> = Result<T, BackendError>;

/// Whether the failed operation may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The adapter *knows* that nothing changed.
    NotApplied,
    /// It may have taken effect, now or later.
    Unknown,
}

/// What kind of failure an adapter met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// The store cannot be reached, is busy, or is starting up.
    Unavailable,
    /// Another process has opened the store for itself.
    Locked,
    /// The store did not answer in time.
    Timeout,
    /// The store asks for less load.
    Overloaded,
    /// The circuit breaker is open; the store was not asked.
    CircuitOpen,
    /// The store refuses this content for good (too large, a value it cannot hold).
    Refused,
    /// The adapter or the store cannot do this at all.
    Unsupported,
    /// The collection was not created in this store.
    CollectionMissing,
    /// The store's epoch is not the request's: another manager has opened it since.
    StaleEpoch,
    /// The store's stamp or data belong to another journal.
    Foreign,
    /// Wrong credentials, or rights that are missing.
    Denied,
    /// The store's data is damaged.
    Damaged,
    /// The service's configuration is wrong.
    Config,
    /// The store answered something the adapter does not understand.
    Protocol,
}

impl BackendErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "store unavailable",
            Self::Locked => "store locked by another process",
            Self::Timeout => "store timed out",
            Self::Overloaded => "store overloaded",
            Self::CircuitOpen => "circuit open",
            Self::Refused => "refused by the store",
            Self::Unsupported => "unsupported by the store",
            Self::CollectionMissing => "collection missing in the store",
            Self::StaleEpoch => "another manager has opened the store",
            Self::Foreign => "store belongs to another journal",
            Self::Denied => "access denied by the store",
            Self::Damaged => "store damaged",
            Self::Config => "invalid service configuration",
            Self::Protocol => "unexpected answer of the store",
        }
    }
}

impl fmt::Display for BackendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong in a store, translated once at the border.
#[derive(Clone, Debug)]
pub struct BackendError {
    kind: BackendErrorKind,
    effect: Effect,
    message: String,
    retry_after: Option<Duration>,
    document: Option<Arc<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl BackendError {
    /// An error whose effect is [`Effect::Unknown`]: say [`BackendError::not_applied`] only where
    /// the adapter knows.
    pub fn new(kind: BackendErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            effect: Effect::Unknown,
            message: message.into(),
            retry_after: None,
            document: None,
            source: None,
        }
    }

    /// An `Unsupported` error; nothing changed.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(
            BackendErrorKind::Unsupported,
            format!("{what} is not supported"),
        )
        .not_applied()
    }

    /// A `StaleEpoch` error: a manager of the epoch `held` has opened the store since the one of the
    /// epoch `given`. Nothing changed.
    pub fn stale_epoch(held: u64, given: u64) -> Self {
        Self::new(
            BackendErrorKind::StaleEpoch,
            format!("epoch {given} is behind the store's {held}"),
        )
        .not_applied()
    }

    /// Says that nothing changed.
    pub fn not_applied(mut self) -> Self {
        self.effect = Effect::NotApplied;
        self
    }

    /// Says that the operation may have taken effect, by an earlier attempt.
    pub(crate) fn maybe_applied(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// Says when the store wants to be asked again.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Names the one document that the error is about. A `Damaged` error that names one says that
    /// the others can be read.
    pub fn with_document(mut self, id: impl Into<Arc<str>>) -> Self {
        self.document = Some(id.into());
        self
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The kind.
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Whether the operation may have taken effect.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// What happened, without secrets.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When the store wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The one document that the error is about, if it is about one.
    pub fn document(&self) -> Option<&Arc<str>> {
        self.document.as_ref()
    }

    /// Whether the same call may succeed soon.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            BackendErrorKind::Unavailable
                | BackendErrorKind::Locked
                | BackendErrorKind::Timeout
                | BackendErrorKind::Overloaded
                | BackendErrorKind::CircuitOpen
        )
    }

    /// Whether the store will refuse this content again, however often it is sent. Only such a
    /// failure parks a write.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self.kind,
            BackendErrorKind::Refused | BackendErrorKind::Unsupported
        )
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl StdError for BackendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
