//! What the server says, in the library's words.

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use redis::{ErrorKind, RedisError, ServerError, Value};

/// An answer that the adapter does not understand.
pub(super) fn unexpected(what: &str, value: &Value) -> BackendError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "an integer",
        Value::BulkString(_) | Value::SimpleString(_) | Value::VerbatimString { .. } => "a text",
        Value::Array(_) | Value::Set(_) => "a list",
        Value::Map(_) => "a map",
        Value::Double(_) => "a number",
        _ => "something else",
    };
    BackendError::new(
        BackendErrorKind::Protocol,
        format!("{what}: the server answered {kind}"),
    )
}

/// Why no connection could be made; nothing was sent.
pub(super) fn connect_error(error: &RedisError) -> BackendError {
    let converted = match error.kind() {
        ErrorKind::AuthenticationFailed => denied(message(error)),
        ErrorKind::RESP3NotSupported => BackendError::new(
            BackendErrorKind::Config,
            "the server does not know HELLO; Redis 7.2 or newer is needed",
        ),
        _ => call_error(error),
    };
    // A refused database number is the configuration's fault.
    let converted = if error.to_string().contains("DB index") {
        BackendError::new(
            BackendErrorKind::Config,
            format!("the server refused the database: {}", message(error)),
        )
    } else {
        converted
    };
    converted.not_applied()
}

/// Why a request got no answer, or which error it got.
pub(super) fn call_error(error: &RedisError) -> BackendError {
    if let Some(code) = error.code() {
        return by_code(code, error.detail().unwrap_or_default());
    }
    let kind = if error.is_timeout() {
        BackendErrorKind::Timeout
    } else if error.is_io_error() || error.is_connection_dropped() {
        BackendErrorKind::Unavailable
    } else {
        match error.kind() {
            ErrorKind::AuthenticationFailed => BackendErrorKind::Denied,
            _ => BackendErrorKind::Protocol,
        }
    };
    BackendError::new(kind, message(error))
}

/// An error that stands in the place of an answer.
pub(super) fn server_error(error: &ServerError) -> BackendError {
    by_code(error.code(), error.details().unwrap_or_default())
}

fn message(error: &RedisError) -> String {
    error.to_string().to_lowercase()
}

fn denied(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Denied, message)
}

/// The class of an error by its code, and by its text where the code is the general one.
///
/// `not_applied` only for what the server answers before it runs anything: the scripts that write
/// declare themselves with `#!lua`, so that a full memory or a read-only server refuses them at
/// their start.
fn by_code(code: &str, detail: &str) -> BackendError {
    use BackendErrorKind as Kind;
    let text = format!("{code} {detail}");
    let lower = text.trim().to_lowercase();
    let because = |reason: &str| format!("{reason}: {lower}");
    let (kind, message, nothing_done) = match code {
        "LOADING" => (Kind::Unavailable, because("the server is starting"), true),
        "BUSY" => (Kind::Unavailable, because("the server is busy"), true),
        "READONLY" => (
            Kind::Unavailable,
            because("the server is a read-only replica"),
            true,
        ),
        "MISCONF" | "NOREPLICAS" => (
            Kind::Unavailable,
            because("the server takes no writes at present"),
            true,
        ),
        "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => {
            (Kind::Unavailable, because("the cluster is not ready"), true)
        }
        "NOSCRIPT" => (
            Kind::Unavailable,
            because("the server forgot a script"),
            true,
        ),
        "OOM" => (
            Kind::Overloaded,
            because("the server's memory is full"),
            true,
        ),
        "NOAUTH" | "WRONGPASS" => (Kind::Denied, because("the credentials are wrong"), true),
        "NOPERM" => (Kind::Denied, because("the user lacks a right"), false),
        "WRONGTYPE" => (
            Kind::Damaged,
            because("a key of the namespace holds another type"),
            false,
        ),
        _ => by_text(&lower),
    };
    let error = BackendError::new(kind, message);
    if nothing_done {
        error.not_applied()
    } else {
        error
    }
}

fn by_text(lower: &str) -> (BackendErrorKind, String, bool) {
    use BackendErrorKind as Kind;
    let has = |part: &str| lower.contains(part);
    let because = |reason: &str| format!("{reason}: {lower}");
    if has("max number of clients") {
        (
            Kind::Overloaded,
            because("the server takes no more connections"),
            true,
        )
    } else if has("timeout limit was reached") {
        (Kind::Timeout, because("the search took too long"), false)
    } else if is_missing_index(lower) {
        (Kind::Damaged, because("an index is missing"), false)
    } else if has("can't run this command or subcommand") || has("no permission") {
        (Kind::Denied, because("the user lacks a right"), false)
    } else if has("unknown command") {
        (
            Kind::Unavailable,
            because("the server lacks a command it had"),
            false,
        )
    } else {
        (
            Kind::Protocol,
            because("the server answered with an error"),
            false,
        )
    }
}

/// Whether a lower-case error text says that an index of the query engine is not there.
pub(super) fn is_missing_index(lower: &str) -> bool {
    lower.contains("no such index") || lower.contains("unknown index name")
}

/// The answer, unless it is an error.
pub(super) fn answer(value: Value) -> BackendResult<Value> {
    match value {
        Value::ServerError(error) => Err(server_error(&error)),
        value => Ok(value),
    }
}

/// A list.
pub(super) fn list(what: &str, value: Value) -> BackendResult<Vec<Value>> {
    match answer(value)? {
        Value::Array(items) | Value::Set(items) => Ok(items),
        other => Err(unexpected(what, &other)),
    }
}

/// Bytes; `None` for nothing.
pub(super) fn optional_bytes(what: &str, value: Value) -> BackendResult<Option<Vec<u8>>> {
    match answer(value)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Okay => Ok(Some(b"OK".to_vec())),
        other => Err(unexpected(what, &other)),
    }
}

/// Text; `None` for nothing.
pub(super) fn optional_text(what: &str, value: Value) -> BackendResult<Option<String>> {
    let Some(bytes) = optional_bytes(what, value)? else {
        return Ok(None);
    };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| damaged(format!("{what} is not UTF-8")))
}

/// Text that must be there.
pub(super) fn text(what: &str, value: Value) -> BackendResult<String> {
    optional_text(what, value)?.ok_or_else(|| unexpected(what, &Value::Nil))
}

/// A whole number.
pub(super) fn integer(what: &str, value: Value) -> BackendResult<i64> {
    match answer(value)? {
        Value::Int(number) => Ok(number),
        other => Err(unexpected(what, &other)),
    }
}

/// A floating-point number, also one written as text.
pub(super) fn number(what: &str, value: &Value) -> BackendResult<f64> {
    let parsed = match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok()),
        Value::SimpleString(text) => text.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| unexpected(what, value))
}

/// The pairs of a map.
pub(super) fn pairs(what: &str, value: Value) -> BackendResult<Vec<(Value, Value)>> {
    match answer(value)? {
        Value::Map(pairs) => Ok(pairs),
        Value::Array(items) if items.is_empty() => Ok(Vec::new()),
        other => Err(unexpected(what, &other)),
    }
}

/// The value under a key of a map.
pub(super) fn take(pairs: &mut Vec<(Value, Value)>, key: &str) -> Option<Value> {
    let index = pairs.iter().position(|(name, _)| match name {
        Value::BulkString(bytes) => bytes == key.as_bytes(),
        Value::SimpleString(text) => text == key,
        _ => false,
    })?;
    Some(pairs.swap_remove(index).1)
}

/// The store's data is not what this layout writes.
pub(super) fn damaged(message: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Damaged, message)
}

/// The content is to blame; nothing was written.
pub(super) fn refused(message: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, message).not_applied()
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::Effect;

    use super::*;

    #[test]
    fn errors_are_told_apart_by_code_and_text() {
        use BackendErrorKind as Kind;
        for (code, detail, kind, effect) in [
            (
                "LOADING",
                "Redis is loading",
                Kind::Unavailable,
                Effect::NotApplied,
            ),
            (
                "BUSY",
                "Redis is busy",
                Kind::Unavailable,
                Effect::NotApplied,
            ),
            (
                "READONLY",
                "You can't write",
                Kind::Unavailable,
                Effect::NotApplied,
            ),
            (
                "CLUSTERDOWN",
                "Hash slot",
                Kind::Unavailable,
                Effect::NotApplied,
            ),
            (
                "OOM",
                "allow-oom flag",
                Kind::Overloaded,
                Effect::NotApplied,
            ),
            ("WRONGPASS", "invalid", Kind::Denied, Effect::NotApplied),
            ("NOAUTH", "required", Kind::Denied, Effect::NotApplied),
            ("NOPERM", "no key", Kind::Denied, Effect::Unknown),
            ("WRONGTYPE", "Operation", Kind::Damaged, Effect::Unknown),
            (
                "ERR",
                "max number of clients reached",
                Kind::Overloaded,
                Effect::NotApplied,
            ),
            ("ERR", "something new", Kind::Protocol, Effect::Unknown),
            (
                "Timeout",
                "limit was reached",
                Kind::Timeout,
                Effect::Unknown,
            ),
            ("papers:", "no such index", Kind::Damaged, Effect::Unknown),
        ] {
            let error = by_code(code, detail);
            assert_eq!(
                (error.kind(), error.effect()),
                (kind, effect),
                "{code} {detail}"
            );
        }
    }
}
