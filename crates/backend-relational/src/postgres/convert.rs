//! Translates the client's and the server's errors, once.

use std::io;

use dbmanager_core::backend::{BackendError, BackendErrorKind};
use sqlx::{
    Error,
    postgres::{PgDatabaseError, PgSeverity},
};

/// What a piece of work on a connection failed with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    /// The client or the server failed; translated when the work has ended.
    #[error("postgres failed")]
    Postgres(#[from] Error),
    /// The adapter has judged already.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// The result of work on a connection.
pub(crate) type JobResult<T> = Result<T, JobError>;

impl JobError {
    /// The error an adapter hands out.
    pub(crate) fn translate(self) -> BackendError {
        match self {
            Self::Postgres(error) => failed(&error),
            Self::Backend(error) => error,
        }
    }

    /// Whether a table is not there.
    pub(super) fn is_missing_table(&self) -> bool {
        matches!(self, Self::Postgres(error) if code(error) == Some(UNDEFINED_TABLE))
    }

    /// Whether the server refused the content of the statement, and would refuse it again.
    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Postgres(error) => failed(error).kind() == BackendErrorKind::Refused,
            Self::Backend(error) => error.kind() == BackendErrorKind::Refused,
        }
    }
}

/// The SQLSTATE for a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// Where a statement was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Running,
}

/// What connecting failed with; nothing was changed.
pub(super) fn connect_failed(error: &Error) -> BackendError {
    translate(error, Stage::Connecting).not_applied()
}

/// What a statement failed with. Its effect is known where the server has said that it rolled the
/// statement back.
pub(crate) fn failed(error: &Error) -> BackendError {
    translate(error, Stage::Running)
}

/// Whether the connection that met the error stands, between two statements: the server has
/// answered and goes on listening. Within a transaction that one still has to be rolled back.
pub(super) fn leaves_connection_usable(error: &Error) -> bool {
    postgres(error).is_some_and(|error| error.severity() == PgSeverity::Error)
}

/// The SQLSTATE of a server's error.
pub(crate) fn code(error: &Error) -> Option<&str> {
    postgres(error).map(PgDatabaseError::code)
}

fn postgres(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

fn translate(error: &Error, stage: Stage) -> BackendError {
    let other = |kind, text: String| BackendError::new(kind, text);
    match error {
        Error::Database(_) => match postgres(error) {
            Some(error) => of_server(error),
            None => other(
                BackendErrorKind::Protocol,
                "the server's error is not one of PostgreSQL".to_owned(),
            ),
        },
        // rustls hands its verdict on a certificate on as invalid data.
        Error::Io(error)
            if stage == Stage::Connecting && error.kind() == io::ErrorKind::InvalidData =>
        {
            other(BackendErrorKind::Config, format!("tls: {error}"))
        }
        Error::Io(error) => other(
            BackendErrorKind::Unavailable,
            format!("postgres cannot be reached: {error}"),
        ),
        Error::Tls(error) => other(BackendErrorKind::Config, format!("tls: {error}")),
        Error::Configuration(error) => other(BackendErrorKind::Config, error.to_string()),
        Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => other(
            BackendErrorKind::Unavailable,
            "the connection was closed".to_owned(),
        ),
        Error::Encode(_) | Error::InvalidArgument(_) => other(
            BackendErrorKind::Refused,
            "a value does not fit a message to the server".to_owned(),
        )
        .not_applied(),
        Error::ColumnDecode { index, .. } => other(
            BackendErrorKind::Damaged,
            format!("column {index} holds a value that was never written there"),
        ),
        _ => other(
            BackendErrorKind::Protocol,
            "postgres answered something else than was asked for".to_owned(),
        ),
    }
}

fn of_server(error: &PgDatabaseError) -> BackendError {
    let code = error.code();
    let kind = match code {
        PROGRAM_LIMIT_EXCEEDED => kind_of_limit(error.file(), error.message()),
        _ => kind_of(code),
    };
    // Errors about values quote them; the others name what an operator has to look at.
    let text = match code.get(..2) {
        Some("22" | "23") => format!("postgres refused a value (code {code})"),
        _ => format!("postgres: {} (code {code})", error.message()),
    };
    let translated = BackendError::new(kind, text);
    // An `ERROR` rolls its statement back. What ends the session says nothing of the commit it may
    // have been in, nor does 40003, by its name.
    let rolled_back = error.severity() == PgSeverity::Error && code != "40003";
    if rolled_back && !code.starts_with("08") {
        translated.not_applied()
    } else {
        translated
    }
}

/// What a SQLSTATE means (PostgreSQL documentation, appendix A).
fn kind_of(code: &str) -> BackendErrorKind {
    use BackendErrorKind as Kind;
    match code {
        // Tables belong to collections; those that do not are asked for by `is_missing_table`.
        UNDEFINED_TABLE => Kind::CollectionMissing,
        "42501" => Kind::Denied,
        "57014" | "25P03" | "25P04" => Kind::Timeout,
        // Lock not available within lock_timeout.
        "55P03" => Kind::Unavailable,
        // Too many connections, and the operator's own limits; not the disk.
        "53300" => Kind::Overloaded,
        // No such database; a table, or something else, of that name already.
        "3D000" | "42P07" | "42710" | "42723" => Kind::Config,
        "XX001" | "XX002" => Kind::Damaged,
        _ => match code.get(..2).unwrap_or_default() {
            "22" | "23" => Kind::Refused,
            "28" => Kind::Denied,
            // Connections; read-only servers; conflicts of transactions; memory, disk; locks;
            // shutdown and start; input and output.
            "08" | "25" | "40" | "53" | "55" | "57" | "58" => Kind::Unavailable,
            _ => Kind::Protocol,
        },
    }
}

/// The SQLSTATE both for content that is too large (a text-search vector, a row, an index's key) and
/// for a server that has run out of something.
const PROGRAM_LIMIT_EXCEEDED: &str = "54000";

/// The server's source files whose limits say nothing of the content: no more transaction ids or
/// multixact ids until a `VACUUM`, and no more blocks in a relation (`md.c` before PostgreSQL 16).
const LIMITS_OF_THE_SERVER: [&str; 4] = ["varsup.c", "multixact.c", "bufmgr.c", "md.c"];

/// What a limit means. Messages are in the server's language, the name of the source file is not;
/// where something in between has left it out, the English message has to do.
///
/// Limits of the content are many and come with every release, those of the server are these: so
/// what is not known is the content's. If that is wrong, a write is parked, and sent again when an
/// operator says so; the other way round, it would be sent for ever and hold up all behind it.
fn kind_of_limit(file: Option<&str>, message: &str) -> BackendErrorKind {
    let of_the_server = match file {
        Some(file) => LIMITS_OF_THE_SERVER.contains(&file),
        None => message.contains("wraparound"),
    };
    if of_the_server {
        BackendErrorKind::Unavailable
    } else {
        BackendErrorKind::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_content_is_refused_and_one_of_the_server_passes() {
        use BackendErrorKind as Kind;
        const STOPPED: &str = "database is not accepting commands that assign new transaction IDs \
                               to avoid wraparound data loss in database \"app\"";
        const LARGE: &str = "string is too long for tsvector (1365924 bytes, max 1048575 bytes)";
        for (file, message, kind) in [
            (Some("varsup.c"), STOPPED, Kind::Unavailable),
            (Some("varsup.c"), "die Datenbank", Kind::Unavailable),
            (Some("multixact.c"), "", Kind::Unavailable),
            (None, STOPPED, Kind::Unavailable),
            (Some("to_tsany.c"), LARGE, Kind::Refused),
            (Some("hio.c"), "row is too big", Kind::Refused),
            (Some("nbtutils.c"), "index row size 2800", Kind::Refused),
            (None, LARGE, Kind::Refused),
        ] {
            assert_eq!(kind_of_limit(file, message), kind, "{file:?} {message}");
        }
    }

    #[test]
    fn every_class_has_its_kind() {
        use BackendErrorKind as Kind;
        for (code, kind) in [
            ("22P05", Kind::Refused),
            ("22021", Kind::Refused),
            ("23505", Kind::Refused),
            ("25006", Kind::Unavailable),
            ("28P01", Kind::Denied),
            ("3D000", Kind::Config),
            ("40001", Kind::Unavailable),
            ("40P01", Kind::Unavailable),
            ("42P01", Kind::CollectionMissing),
            ("42501", Kind::Denied),
            ("53100", Kind::Unavailable),
            ("53300", Kind::Overloaded),
            ("57014", Kind::Timeout),
            ("57P01", Kind::Unavailable),
            ("57P03", Kind::Unavailable),
            ("XX001", Kind::Damaged),
            ("42601", Kind::Protocol),
            ("", Kind::Protocol),
        ] {
            assert_eq!(kind_of(code), kind, "{code}");
        }
    }

    #[test]
    fn a_broken_connection_is_unavailable_and_its_effect_unknown() {
        let broken = Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        let error = failed(&broken);
        assert_eq!(error.kind(), BackendErrorKind::Unavailable);
        assert_eq!(error.effect(), dbmanager_core::backend::Effect::Unknown);
        assert!(!leaves_connection_usable(&broken));
        assert_eq!(
            connect_failed(&broken).effect(),
            dbmanager_core::backend::Effect::NotApplied
        );
    }
}
