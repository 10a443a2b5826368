//! The driver's errors and values, translated.

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use mongodb::{
    bson::{Bson, Document, spec::BinarySubtype},
    error::{Error, ErrorKind, WriteFailure},
};

/// A unique index refuses a second document: here, that another write of the same id was there.
pub(super) const DUPLICATE_KEY: i32 = 11_000;
/// Two writes met on one document, and this one gave way. The second number is DocumentDB's, whose
/// commands may wait for each other's documents in a circle.
pub(super) const GAVE_WAY: [i32; 2] = [112, 16_908_292];
/// The collection that is created is there.
pub(super) const NAMESPACE_EXISTS: i32 = 48;
/// The collection that is dropped or changed is not there.
pub(super) const NAMESPACE_NOT_FOUND: i32 = 26;

/// Numbers of <https://www.mongodb.com/docs/manual/reference/error-codes/>.
fn kind_of_code(code: i32) -> BackendErrorKind {
    match code {
        // MaxTimeMSExpired, ExceededTimeLimit, LockTimeout, NetworkInterfaceExceededTimeLimit,
        // WriteConcernFailed (with a time limit: the majority did not answer in time)
        50 | 262 | 24 | 202 | 64 => BackendErrorKind::Timeout,
        // Unauthorized, AuthenticationFailed, UserNotFound, AtlasError (its message names rights)
        13 | 18 | 11 | 8000 => BackendErrorKind::Denied,
        // IngressRequestRateLimitExceeded, TooManyFilesOpen, ExceededMemoryLimit, TemporarilyUnavailable
        462 | 264 | 146 | 365 => BackendErrorKind::Overloaded,
        // HostUnreachable, HostNotFound, NetworkTimeout, SocketException, ShutdownInProgress,
        // InterruptedAtShutdown, InterruptedDueToReplStateChange, PrimarySteppedDown,
        // NotWritablePrimary, NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary,
        // FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet, WriteConflict,
        // SnapshotUnavailable, Interrupted, CursorNotFound, OutOfDiskSpace,
        // UnsatisfiableWriteConcern, UserWritesBlocked (the server was made read-only, which
        // passes), and InternalError, which FerretDB answers while its own store is away
        6 | 7 | 89 | 9001 | 91 | 11600 | 11602 | 189 | 10107 | 13435 | 13436 | 10058 | 133
        | 134 | 112 | 16_908_292 | 246 | 11601 | 43 | 14031 | 100 | 371 | 1 => {
            BackendErrorKind::Unavailable
        }
        _ => BackendErrorKind::Protocol,
    }
}

/// Codes of a single write that say that its content is to blame: BSONObjectTooLarge, Overflow
/// (nested too deep), an update that grows past the limit, a key too long for an index, and a
/// validator that somebody has put in the place of this adapter's (MongoDB's number, DocumentDB's).
const CONTENT_CODES: [i32; 7] = [10_334, 15, 17_419, 17_420, 17_280, 121, 525_074_461];

/// An error of the driver while `what` was done.
pub(super) fn error(what: &str, error: Error) -> BackendError {
    let say = |kind, why: &dyn std::fmt::Display| BackendError::new(kind, format!("{what}: {why}"));
    match &*error.kind {
        ErrorKind::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => {
            say(BackendErrorKind::Timeout, io)
        }
        ErrorKind::Io(io) => say(BackendErrorKind::Unavailable, io),
        ErrorKind::ConnectionPoolCleared { message, .. } => {
            say(BackendErrorKind::Unavailable, message)
        }
        // The command was not sent.
        ErrorKind::ServerSelection { message, .. } => selection(what, message).not_applied(),
        ErrorKind::DnsResolve { message, .. } => {
            say(BackendErrorKind::Unavailable, message).not_applied()
        }
        ErrorKind::Authentication { message, .. } => {
            say(BackendErrorKind::Denied, message).not_applied()
        }
        ErrorKind::InvalidTlsConfig { message, .. } => {
            say(BackendErrorKind::Config, message).not_applied()
        }
        ErrorKind::InvalidArgument { message, .. } => {
            say(BackendErrorKind::Config, message).not_applied()
        }
        ErrorKind::IncompatibleServer { message, .. } => {
            say(BackendErrorKind::Config, message).not_applied()
        }
        ErrorKind::Shutdown => say(BackendErrorKind::Unavailable, &"the store is closed"),
        ErrorKind::Command(command) => coded_error(what, command.code, &command.message),
        ErrorKind::Write(WriteFailure::WriteError(write)) => {
            coded_error(what, write.code, &write.message)
        }
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => {
            concern_error(what, concern.code, &concern.message)
        }
        ErrorKind::InsertMany(many) => {
            let write = many.write_errors.iter().flatten().next();
            match (write, &many.write_concern_error) {
                (Some(write), _) => coded_error(what, write.code, &write.message),
                (None, Some(concern)) => concern_error(what, concern.code, &concern.message),
                (None, None) => say(
                    BackendErrorKind::Protocol,
                    &"some documents were not written",
                ),
            }
        }
        other => say(BackendErrorKind::Protocol, &other),
    }
}

/// No server fits: the driver's text says why for each it knows.
fn selection(what: &str, message: &str) -> BackendError {
    let kind = if message.contains("invalid peer certificate") {
        // Found when the store is opened: nothing will change by trying again.
        BackendErrorKind::Config
    } else {
        BackendErrorKind::Unavailable
    };
    BackendError::new(kind, format!("{what}: {message}"))
}

/// An error that the server answered for a command as a whole.
pub(super) fn coded_error(what: &str, code: i32, message: &str) -> BackendError {
    let kind = kind_of_code(code);
    let error = BackendError::new(kind, format!("{what}: {message} (code {code})"));
    match kind {
        BackendErrorKind::Denied => error.not_applied(),
        _ => error,
    }
}

/// The write is done on the primary; whether a majority will have it is not known.
pub(super) fn concern_error(what: &str, code: i32, message: &str) -> BackendError {
    let kind = match kind_of_code(code) {
        BackendErrorKind::Protocol => BackendErrorKind::Unavailable,
        kind => kind,
    };
    BackendError::new(
        kind,
        format!("{what}: a majority did not acknowledge it: {message} (code {code})"),
    )
}

/// The error of one write among others; it changed nothing.
pub(super) fn item_error(code: i32, message: &str) -> BackendError {
    if CONTENT_CODES.contains(&code) {
        let message = format!("the server refuses the document: {message} (code {code})");
        return BackendError::new(BackendErrorKind::Refused, message).not_applied();
    }
    let error = coded_error("write", code, message);
    match error.kind() {
        // The server took the statement up, and may have been interrupted after the change.
        BackendErrorKind::Unavailable | BackendErrorKind::Timeout => error,
        _ => error.not_applied(),
    }
}

/// The server's code of an error, if it has one.
pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// What is stored is not what this adapter writes.
pub(super) fn damaged(what: impl std::fmt::Display) -> BackendError {
    BackendError::new(BackendErrorKind::Damaged, format!("{what} is damaged"))
}

/// A whole number, whichever of its integer types the server chose.
pub(super) fn integer(document: &Document, key: &str) -> Option<i64> {
    match document.get(key)? {
        Bson::Int32(value) => Some(i64::from(*value)),
        Bson::Int64(value) => Some(*value),
        _ => None,
    }
}

/// Bytes of the generic subtype.
pub(super) fn bytes<'a>(document: &'a Document, key: &str) -> Option<&'a [u8]> {
    match document.get(key)? {
        Bson::Binary(binary) if binary.subtype == BinarySubtype::Generic => Some(&binary.bytes),
        _ => None,
    }
}

/// Bytes as a value.
pub(super) fn binary(bytes: Vec<u8>) -> Bson {
    Bson::Binary(mongodb::bson::Binary {
        subtype: BinarySubtype::Generic,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::Effect;

    use super::*;

    #[test]
    fn only_content_is_refused_for_good() {
        for code in CONTENT_CODES {
            let error = item_error(code, "too large");
            assert_eq!(error.kind(), BackendErrorKind::Refused);
            assert_eq!(error.effect(), Effect::NotApplied);
        }
        for code in [1, 13, 50, 91, 112, 10_107, 12_345] {
            assert!(!item_error(code, "x").is_permanent(), "{code}");
        }
    }

    #[test]
    fn what_may_have_happened_is_not_denied() {
        for code in [1, 50, 91, 11_600] {
            assert_eq!(item_error(code, "x").effect(), Effect::Unknown, "{code}");
            assert!(item_error(code, "x").is_transient(), "{code}");
        }
        let concern = concern_error("write", 64, "waiting for replication");
        assert_eq!(concern.kind(), BackendErrorKind::Timeout);
        assert_eq!(concern.effect(), Effect::Unknown);
        assert!(concern_error("write", 79, "unknown").is_transient());
        let denied = coded_error("write", 13, "not authorized");
        assert_eq!(denied.kind(), BackendErrorKind::Denied);
        assert_eq!(denied.effect(), Effect::NotApplied);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_a_matter_of_configuration() {
        let why = "No available servers: invalid peer certificate: UnknownIssuer";
        assert_eq!(selection("connect", why).kind(), BackendErrorKind::Config);
        let why = "No available servers: Connection refused";
        assert_eq!(
            selection("connect", why).kind(),
            BackendErrorKind::Unavailable
        );
    }
}
