//! What failed, in the words of the backend contract.

use std::{error::Error as StdError, time::Duration};

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use reqwest::{StatusCode, header};

/// The first error of a type among the causes.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An I/O error hands out the causes of what it wraps, not what it wraps.
        if let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            next = Some(inner);
            continue;
        }
        next = error.source();
    }
    None
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// A certificate that another configuration would accept; one that is out of date is none.
fn untrusted(error: &rustls::Error) -> bool {
    use rustls::CertificateError as Why;

    match error {
        rustls::Error::InvalidCertificate(why) => !matches!(
            why,
            Why::Expired
                | Why::ExpiredContext { .. }
                | Why::NotValidYet
                | Why::NotValidYetContext { .. }
        ),
        _ => false,
    }
}

/// An error of the connection or of its time limit. Shows no header and no URL.
pub(super) fn of_transport(error: reqwest::Error) -> BackendError {
    let error = error.without_url();
    if let Some(tls) = cause::<rustls::Error>(&error) {
        let message = format!("TLS: {tls}");
        return match untrusted(tls) {
            true => BackendError::new(BackendErrorKind::Config, message).not_applied(),
            false if error.is_connect() => {
                BackendError::new(BackendErrorKind::Unavailable, message).not_applied()
            }
            false => BackendError::new(BackendErrorKind::Unavailable, message),
        };
    }
    let reason = innermost(&error);
    if error.is_connect() {
        let kind = match error.is_timeout() {
            true => BackendErrorKind::Timeout,
            false => BackendErrorKind::Unavailable,
        };
        BackendError::new(kind, format!("no connection: {reason}")).not_applied()
    } else if error.is_timeout() {
        BackendError::new(BackendErrorKind::Timeout, "no answer in time")
    } else if error.is_builder() {
        BackendError::new(
            BackendErrorKind::Protocol,
            format!("not a request: {reason}"),
        )
        .not_applied()
    } else {
        BackendError::new(
            BackendErrorKind::Unavailable,
            format!("the connection broke: {reason}"),
        )
    }
}

/// An answer that is no success. `detail` is what the service says about it.
pub(super) fn of_status(
    status: StatusCode,
    retry_after: Option<Duration>,
    detail: &str,
) -> BackendError {
    let (kind, untouched) = match status.as_u16() {
        401 | 403 | 407 => (BackendErrorKind::Denied, true),
        413 => (BackendErrorKind::Refused, true),
        429 => (BackendErrorKind::Overloaded, true),
        408 | 504 => (BackendErrorKind::Timeout, false),
        500..=599 => (BackendErrorKind::Unavailable, false),
        _ => (BackendErrorKind::Protocol, false),
    };
    let text = match detail.is_empty() {
        true => format!("HTTP status {status}"),
        false => format!("HTTP status {status}: {detail}"),
    };
    let mut error = BackendError::new(kind, text);
    if untouched {
        error = error.not_applied();
    }
    match retry_after {
        Some(after) if matches!(status.as_u16(), 429 | 503) => error.with_retry_after(after),
        _ => error,
    }
}

/// The header's number of seconds; the form with a date is not read, for it needs the server's
/// clock to agree with this one.
pub(super) fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    const MOST: u64 = 3_600;
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MOST)))
}
