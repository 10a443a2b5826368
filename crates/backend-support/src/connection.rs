//! What adapters of servers share whatever they speak: secrets, and the rule that nothing goes
//! over a network in plain text unless that was asked for.

use std::{fmt, net::IpAddr};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use serde::Deserialize;

/// A password, key or token. Neither `Debug` nor serialisation shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself; only for handing it to the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether a host name or address is this machine's own. Names are not looked up: only
/// `localhost` (and names below it, RFC 6761) and loopback addresses are.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = bare.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Refuses an unencrypted connection to another machine unless `allow_plain_text` asks for it.
///
/// # Errors
/// `Config`, naming the host and the key.
pub fn check_protected(host: &str, encrypted: bool, allow_plain_text: bool) -> BackendResult<()> {
    if encrypted || allow_plain_text || is_loopback(host) {
        return Ok(());
    }
    Err(BackendError::new(
        BackendErrorKind::Config,
        format!(
            "the connection to {host:?} would be in plain text; use TLS, or set \
             \"allow_plain_text\" to true"
        ),
    )
    .not_applied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret: Secret = serde_json::from_str(r#""hunter2""#).unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in [
            "localhost",
            "LOCALHOST.",
            "db.localhost",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "localhost.example.org",
            "10.0.0.1",
            "0.0.0.0",
            "::",
            "127.0.0.1.example.org",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn plain_text_to_another_machine_must_be_asked_for() {
        assert!(check_protected("localhost", false, false).is_ok());
        assert!(check_protected("db.example.org", true, false).is_ok());
        assert!(check_protected("db.example.org", false, true).is_ok());
        let error = check_protected("db.example.org", false, false).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        assert!(error.message().contains("allow_plain_text"), "{error}");
    }
}
