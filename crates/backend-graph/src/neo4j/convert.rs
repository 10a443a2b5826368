//! Errors and values, translated at the border.

use std::io;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::{CollectionKey, Tokenizer},
};
use neo4rs::{BoltList, BoltType, Error, Neo4jError};
use serde::de::DeserializeOwned;

/// The most characters of a server's message that are passed on: it may quote what was written.
const MOST_MESSAGE: usize = 300;

/// What a failure of the client or an answer of the server means. The effect stays unknown: the
/// client repeats some requests by itself, and only its last error is seen.
pub(super) fn translate(error: Error) -> BackendError {
    use BackendErrorKind as Kind;
    let kind = match &error {
        Error::Neo4j(answer) => return server_error(answer),
        Error::IOError { detail } => return io_error(detail),
        Error::AuthenticationError(_) => Kind::Denied,
        Error::ConnectionTimedOut => Kind::Timeout,
        Error::ConnectionError => Kind::Overloaded,
        Error::UnsupportedVersion(..) | Error::ProtocolMismatch(_) => {
            return BackendError::new(
                Kind::Config,
                format!("the address does not answer as a Neo4j server does: {error}"),
            );
        }
        Error::UrlParseError(_)
        | Error::UnsupportedScheme(_)
        | Error::InvalidDnsName(_)
        | Error::InvalidConfig => Kind::Config,
        Error::StringTooLong | Error::MapTooBig | Error::BytesTooBig | Error::ListTooLong => {
            Kind::Refused
        }
        Error::IncompleteBoltExchange
        | Error::Ignored(_)
        | Error::RequestIgnoredError
        | Error::ServerUnavailableError(_) => Kind::Unavailable,
        _ => Kind::Protocol,
    };
    BackendError::new(kind, shortened(&error.to_string()))
}

fn io_error(error: &io::Error) -> BackendError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => BackendError::new(
            BackendErrorKind::Config,
            format!("the server's certificate is not accepted: {reason}"),
        ),
        _ => BackendError::new(
            BackendErrorKind::Unavailable,
            format!("the connection failed: {error}"),
        ),
    }
}

fn server_error(error: &Neo4jError) -> BackendError {
    let code = error.code();
    let kind = error_kind(code, error.message());
    BackendError::new(kind, format!("{code}: {}", shortened(error.message())))
}

/// By Neo4j's status codes, `Neo.<classification>.<category>.<title>`.
fn error_kind(code: &str, message: &str) -> BackendErrorKind {
    use BackendErrorKind as Kind;
    let mut parts = code.split('.').skip(1);
    let mut part = || parts.next().unwrap_or_default();
    let (class, category, title) = (part(), part(), part());
    // A database error by its class; but only the value is to blame.
    if message.contains("too large to index") {
        return Kind::Refused;
    }
    match (class, category, title) {
        (_, "Security", "AuthorizationExpired" | "TokenExpired") => Kind::Unavailable,
        (_, "Security", _) => Kind::Denied,
        (_, "Database", "DatabaseNotFound") => Kind::Config,
        (_, "Transaction", title) if title.starts_with("TransactionTimedOut") => Kind::Timeout,
        (_, "Transaction", "Terminated" | "LockClientStopped") => Kind::Unavailable,
        (_, _, title) if title.contains("OutOfMemory") => Kind::Overloaded,
        ("TransientError", "Request", "NoThreadsAvailable")
        | ("TransientError", "Transaction", "MaximumTransactionLimitReached") => Kind::Overloaded,
        ("TransientError", ..) => Kind::Unavailable,
        (_, "Cluster", "NotALeader") => Kind::Unavailable,
        (_, _, title) if title.contains("ReadOnly") => Kind::Unavailable,
        // A node that another statement removed, or referred to again, in between.
        (_, "Statement", "EntityNotFound") | (_, "Schema", "ConstraintValidationFailed") => {
            Kind::Unavailable
        }
        // Two openings made the same index at once: the next attempt finds it.
        (_, "Schema", title) if title.ends_with("AlreadyExists") => Kind::Unavailable,
        _ => Kind::Protocol,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One row as a value of ours.
pub(super) fn read<T: DeserializeOwned>(row: &neo4rs::Row) -> Result<T, BackendError> {
    row.to().map_err(|error| {
        BackendError::new(
            BackendErrorKind::Damaged,
            format!("what the graph holds is not what was stored there: {error}"),
        )
    })
}

pub(super) fn map<const N: usize>(entries: [(&str, BoltType); N]) -> BoltType {
    BoltType::Map(
        entries
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    )
}

pub(super) fn list(values: impl Iterator<Item = BoltType>) -> BoltType {
    BoltType::List(BoltList {
        value: values.collect(),
    })
}

/// A bit pattern as the server's signed integer.
pub(super) fn bits(value: u64) -> i64 {
    i64::from_ne_bytes(value.to_ne_bytes())
}

/// A collection's key. The generation has no slash, so no two collections share one.
pub(super) fn collection_key(key: &CollectionKey) -> String {
    format!("{}/{}", key.generation, key.name)
}

/// The key of what references lead to. The length says where the name ends.
pub(super) fn target_key(collection: &str, id: &str) -> String {
    format!("{}/{collection}/{id}", collection.len())
}

/// What a collection's `tokenizer` says.
pub(super) fn tokenizer_name(tokenizer: Tokenizer) -> Option<&'static str> {
    match tokenizer {
        Tokenizer::English => Some("english"),
        Tokenizer::Unicode => Some("unicode"),
        Tokenizer::Trigram => Some("trigram"),
        _ => None,
    }
}

pub(super) fn tokenizer_named(name: &str) -> Option<Tokenizer> {
    [Tokenizer::English, Tokenizer::Unicode, Tokenizer::Trigram]
        .into_iter()
        .find(|tokenizer| tokenizer_name(*tokenizer) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_servers_errors_has_its_kind() {
        use BackendErrorKind as Kind;
        for (code, kind) in [
            (
                "Neo.TransientError.Transaction.DeadlockDetected",
                Kind::Unavailable,
            ),
            (
                "Neo.TransientError.General.DatabaseUnavailable",
                Kind::Unavailable,
            ),
            (
                "Neo.TransientError.General.MemoryPoolOutOfMemoryError",
                Kind::Overloaded,
            ),
            (
                "Neo.TransientError.Transaction.MaximumTransactionLimitReached",
                Kind::Overloaded,
            ),
            ("Neo.ClientError.Security.Unauthorized", Kind::Denied),
            ("Neo.ClientError.Security.Forbidden", Kind::Denied),
            ("Neo.ClientError.Security.TokenExpired", Kind::Unavailable),
            ("Neo.ClientError.Database.DatabaseNotFound", Kind::Config),
            (
                "Neo.ClientError.Transaction.TransactionTimedOutClientConfiguration",
                Kind::Timeout,
            ),
            ("Neo.ClientError.Transaction.Terminated", Kind::Unavailable),
            ("Neo.ClientError.Cluster.NotALeader", Kind::Unavailable),
            (
                "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
                Kind::Unavailable,
            ),
            (
                "Neo.ClientError.General.WriteOnReadOnlyAccessDatabase",
                Kind::Unavailable,
            ),
            (
                "Neo.ClientError.Statement.EntityNotFound",
                Kind::Unavailable,
            ),
            (
                "Neo.ClientError.Schema.EquivalentSchemaRuleAlreadyExists",
                Kind::Unavailable,
            ),
            ("Neo.ClientError.Statement.SyntaxError", Kind::Protocol),
            ("Neo.DatabaseError.General.UnknownError", Kind::Protocol),
            ("", Kind::Protocol),
        ] {
            assert_eq!(error_kind(code, "no matter"), kind, "{code}");
        }
        assert_eq!(
            error_kind(
                "Neo.DatabaseError.Statement.ExecutionFailed",
                "Property value is too large to index, please see"
            ),
            Kind::Refused
        );
    }

    #[test]
    fn keys_are_never_shared() {
        assert_ne!(target_key("a", "b/c"), target_key("a/b", "c"));
        assert_ne!(target_key("1/a", "b"), target_key("a", "1/b"));
        let key = |name: &str, generation| collection_key(&CollectionKey::new(name, generation));
        assert_ne!(key("1/a", 1), key("a", 11));
        assert_ne!(key("1/a", 1), key("a", 1));
    }

    #[test]
    fn tokenizers_have_names_of_their_own() {
        for tokenizer in [Tokenizer::English, Tokenizer::Unicode, Tokenizer::Trigram] {
            let name = tokenizer_name(tokenizer).unwrap();
            assert_eq!(tokenizer_named(name), Some(tokenizer));
        }
        assert_eq!(tokenizer_named("klingon"), None);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let text = "ä".repeat(MOST_MESSAGE + 1);
        assert_eq!(shortened(&text).chars().count(), MOST_MESSAGE + 1);
        assert_eq!(shortened("short"), "short");
    }
}
