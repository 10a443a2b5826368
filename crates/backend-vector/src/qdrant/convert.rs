//! The server's and the transport's errors as the library's.

use std::{error::Error as _, time::Duration};

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use tonic::{Code, Status};

/// The error that a status is.
///
/// `CollectionMissing` is the server's "not found", `Refused` never comes from here: an invalid
/// argument is the caller's content only where the caller says so (see [`is_invalid`]).
pub(super) fn status_error(status: Status) -> BackendError {
    let kind = kind(&status);
    let mut error = BackendError::new(kind, describe(&status));
    if let Some(after) = retry_after(&status) {
        error = error.with_retry_after(after);
    }
    if matches!(
        kind,
        BackendErrorKind::Denied | BackendErrorKind::CollectionMissing
    ) {
        error = error.not_applied();
    }
    error.with_source(status)
}

fn kind(status: &Status) -> BackendErrorKind {
    match status.code() {
        Code::DeadlineExceeded => BackendErrorKind::Timeout,
        // The transport's own time limit answers with this code, a lost connection too.
        Code::Cancelled if status.message().contains("imeout") => BackendErrorKind::Timeout,
        Code::Unauthenticated | Code::PermissionDenied => BackendErrorKind::Denied,
        Code::NotFound => BackendErrorKind::CollectionMissing,
        Code::ResourceExhausted => BackendErrorKind::Overloaded,
        Code::DataLoss => BackendErrorKind::Damaged,
        // Limits of the server's strict mode that hold until space is freed, not for this content
        // alone.
        Code::InvalidArgument if is_full(status.message()) => BackendErrorKind::Overloaded,
        Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange | Code::Unimplemented => {
            BackendErrorKind::Protocol
        }
        // Locked while a snapshot is recovered, replicas that fail, a full disk, a broken
        // connection: none is for good.
        _ => BackendErrorKind::Unavailable,
    }
}

fn is_full(message: &str) -> bool {
    [
        "usage is at",
        "storage size limit",
        "Max points count",
        "No space left",
    ]
    .iter()
    .any(|part| message.contains(part))
}

/// Whether the server may have refused the content of the request: what it says of the collection
/// itself (its vectors or indexes are gone) is nobody's content.
pub(super) fn is_invalid(status: &Status) -> bool {
    let of_the_collection = ["vector name", "Index required"];
    status.code() == Code::InvalidArgument
        && kind(status) == BackendErrorKind::Protocol
        && !of_the_collection
            .iter()
            .any(|part| status.message().contains(part))
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.metadata().get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}

fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::Effect;

    use super::*;

    #[test]
    fn every_class_of_error_has_its_kind() {
        let cases = [
            (
                Code::Unavailable,
                "tcp connect error",
                BackendErrorKind::Unavailable,
            ),
            (
                Code::Unknown,
                "transport error",
                BackendErrorKind::Unavailable,
            ),
            (
                Code::Internal,
                "Service internal error",
                BackendErrorKind::Unavailable,
            ),
            (
                Code::FailedPrecondition,
                "Locked",
                BackendErrorKind::Unavailable,
            ),
            (
                Code::Cancelled,
                "operation was canceled",
                BackendErrorKind::Unavailable,
            ),
            (
                Code::Cancelled,
                "Timeout expired",
                BackendErrorKind::Timeout,
            ),
            (Code::DeadlineExceeded, "", BackendErrorKind::Timeout),
            (Code::Unauthenticated, "", BackendErrorKind::Denied),
            (Code::PermissionDenied, "", BackendErrorKind::Denied),
            (Code::NotFound, "", BackendErrorKind::CollectionMissing),
            (Code::ResourceExhausted, "", BackendErrorKind::Overloaded),
            (
                Code::InvalidArgument,
                "Disk usage is at 96% of total capacity",
                BackendErrorKind::Overloaded,
            ),
            (
                Code::InvalidArgument,
                "Wrong input",
                BackendErrorKind::Protocol,
            ),
            (Code::Unimplemented, "", BackendErrorKind::Protocol),
            (Code::DataLoss, "", BackendErrorKind::Damaged),
        ];
        for (code, message, kind) in cases {
            let error = status_error(Status::new(code, message));
            assert_eq!(error.kind(), kind, "{code:?} {message}");
            let known = matches!(
                kind,
                BackendErrorKind::Denied | BackendErrorKind::CollectionMissing
            );
            assert_eq!(error.effect() == Effect::NotApplied, known);
            assert!(!error.is_permanent(), "{error}");
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        let mut status = Status::resource_exhausted("Rate limiting exceeded");
        status.metadata_mut().insert("retry-after", 7.into());
        let error = status_error(status);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}
