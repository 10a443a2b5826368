//! Where the server is and how to connect to it: the part of the configuration that everything on
//! PostgreSQL has.

use std::{path::PathBuf, time::Duration};

use dbmanager_backend_support::connection::{Secret, check_protected};
use dbmanager_core::{
    Runtime,
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
};
use serde::{Deserialize, Deserializer, de};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::address::Address;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 5432;
const DEFAULT_USERNAME: &str = "postgres";
const DEFAULT_SCHEMA: &str = "dbmanager";
const DEFAULT_APPLICATION_NAME: &str = "dbmanager";
/// PostgreSQL cuts longer names off, and then two of them may be one.
const MAX_NAME_BYTES: usize = 63;

/// Where a PostgreSQL server is, as whom to connect, and in which schema the data lies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConnectionConfig {
    /// `postgres://username:password@host:port/database?sslmode=verify-full`; a key given besides
    /// must not contradict it.
    pub(crate) url: Option<Secret>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) tls: Option<Tls>,
    pub(crate) tls_ca_file: Option<PathBuf>,
    pub(crate) allow_plain_text: bool,
    pub(crate) application_name: Option<String>,
}

/// How a connection is protected; the names are those of PostgreSQL's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Plain text.
    Disable,
    /// Encrypted, but to whoever answers.
    Require,
    /// Encrypted, to a server whose certificate a trusted authority has signed.
    VerifyCa,
    /// And the certificate is for this host.
    VerifyFull,
}

impl Tls {
    fn from_mode(mode: &str) -> Result<Self, &'static str> {
        match mode {
            "disable" => Ok(Self::Disable),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            "allow" | "prefer" => Err(
                "\"allow\" and \"prefer\" fall back to plain text unnoticed; \
                 choose \"disable\", \"require\", \"verify-ca\" or \"verify-full\"",
            ),
            _ => Err("expected \"disable\", \"require\", \"verify-ca\" or \"verify-full\""),
        }
    }

    fn mode(self) -> PgSslMode {
        match self {
            Self::Disable => PgSslMode::Disable,
            Self::Require => PgSslMode::Require,
            Self::VerifyCa => PgSslMode::VerifyCa,
            Self::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Switch(bool),
            Mode(String),
        }
        match Given::deserialize(deserializer)
            .map_err(|_| de::Error::custom("tls: expected true, false or a mode"))?
        {
            Given::Switch(true) => Ok(Self::VerifyFull),
            Given::Switch(false) => Ok(Self::Disable),
            Given::Mode(mode) => Self::from_mode(&mode)
                .map_err(|problem| de::Error::custom(format!("tls: {problem}"))),
        }
    }
}

/// The configuration with the address taken apart, defaults filled in, and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    username: String,
    password: Option<Secret>,
    database: String,
    schema: String,
    tls: Tls,
    tls_ca_file: Option<PathBuf>,
    application_name: String,
}

/// What holds in every session besides the target's own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionSettings {
    /// After this time the server ends a statement, waiting for locks included.
    pub(crate) statement_timeout: Duration,
    /// Whether a commit is answered only when it would survive a power loss of the server.
    pub(crate) synchronous_commit: bool,
}

impl SessionSettings {
    /// Durable commits, statements of at most an attempt's time.
    pub(crate) fn new(context: &OpenContext) -> Self {
        Self {
            statement_timeout: context.attempt_timeout,
            synchronous_commit: true,
        }
    }
}

impl ConnectionConfig {
    /// Takes the address apart and checks every key.
    ///
    /// # Errors
    /// `Config`, naming the key; never a secret.
    pub(crate) fn target(&self) -> BackendResult<Target> {
        let address = match &self.url {
            Some(url) => Address::parse(url.reveal())
                .map_err(|problem| config_error(format!("url: {problem}")))?,
            None => Address::default(),
        };
        let mut tls = self.tls;
        let mut application_name = self.application_name.clone();
        for (key, value) in &address.parameters {
            match key.as_str() {
                "sslmode" => {
                    let mode = Tls::from_mode(value)
                        .map_err(|problem| config_error(format!("url: sslmode: {problem}")))?;
                    tls = one_of("tls", self.tls, Some(mode))?;
                }
                "application_name" => {
                    application_name = one_of(
                        "application_name",
                        self.application_name.clone(),
                        Some(value.clone()),
                    )?;
                }
                _ => {
                    return Err(config_error(format!(
                        "url: unknown parameter {key:?}; known: sslmode, application_name"
                    )));
                }
            }
        }
        let username = one_of("username", self.username.clone(), address.username)?
            .unwrap_or_else(|| DEFAULT_USERNAME.to_owned());
        let database = one_of("database", self.database.clone(), address.database)?
            .unwrap_or_else(|| username.clone());
        let target = Target {
            host: one_of("host", self.host.clone(), address.host)?
                .unwrap_or_else(|| DEFAULT_HOST.to_owned()),
            port: one_of("port", self.port, address.port)?.unwrap_or(DEFAULT_PORT),
            username,
            password: one_of(
                "password",
                self.password.clone(),
                address.password.map(Secret::new),
            )?,
            database,
            schema: self
                .schema
                .clone()
                .unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
            tls: tls.unwrap_or(Tls::Disable),
            tls_ca_file: self.tls_ca_file.clone(),
            application_name: application_name
                .unwrap_or_else(|| DEFAULT_APPLICATION_NAME.to_owned()),
        };
        target.check(self.allow_plain_text)?;
        Ok(target)
    }
}

impl Target {
    fn check(&self, allow_plain_text: bool) -> BackendResult<()> {
        check_schema(&self.schema)?;
        for (key, value) in [
            ("host", &self.host),
            ("username", &self.username),
            ("database", &self.database),
            ("application_name", &self.application_name),
        ] {
            if value.is_empty() || value.contains('\0') {
                return Err(config_error(format!("{key} is empty or contains NUL")));
            }
        }
        let verifies = matches!(self.tls, Tls::VerifyCa | Tls::VerifyFull);
        if self.tls_ca_file.is_some() && !verifies {
            return Err(config_error(
                "tls_ca_file is given, but tls does not verify the server's certificate".to_owned(),
            ));
        }
        if self.is_socket() {
            return match self.tls {
                Tls::Disable => Ok(()),
                _ => Err(config_error("there is no tls on a Unix socket".to_owned())),
            };
        }
        check_protected(&self.host, self.tls != Tls::Disable, allow_plain_text)
    }

    /// A host that is a directory: the server's Unix socket lies there.
    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The schema that everything lies in.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// The place on the server, the same text for every way of writing the same one.
    pub(crate) fn location(&self) -> String {
        let host = self.host.trim_end_matches(['.', '/']).to_ascii_lowercase();
        let host = match host.as_str() {
            "127.0.0.1" | "::1" => "localhost",
            host => host,
        };
        format!(
            "postgres server {host} port {} database {:?} schema {:?}",
            self.port, self.database, self.schema
        )
    }

    /// What the client needs to connect.
    ///
    /// # Errors
    /// `Config` if the file of certificates cannot be read.
    pub(super) async fn options(
        &self,
        session: &SessionSettings,
        runtime: &Runtime,
    ) -> BackendResult<PgConnectOptions> {
        let milliseconds = session
            .statement_timeout
            .as_millis()
            .clamp(1, 2_147_483_647);
        let on = |on: bool| if on { "on" } else { "off" };
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&self.username)
            // An empty one, so that the environment's is not sent in its place.
            .password(self.password.as_ref().map_or("", Secret::reveal))
            .database(&self.database)
            .ssl_mode(self.tls.mode())
            .application_name(&self.application_name)
            .options([
                ("search_path", self.schema.as_str()),
                ("statement_timeout", &milliseconds.to_string()),
                ("synchronous_commit", on(session.synchronous_commit)),
                ("default_transaction_isolation", "read committed"),
                // A client that vanishes within a transaction holds its locks no longer than this.
                ("idle_in_transaction_session_timeout", "60s"),
                // Compiling a statement pays in reports, not in statements of milliseconds.
                ("jit", "off"),
            ])
            .disable_statement_logging();
        if let Some(path) = &self.tls_ca_file {
            let file = path.clone();
            let read = runtime.blocking(move || std::fs::read(file)).await;
            let pem = match read {
                Ok(Ok(pem)) => pem,
                Ok(Err(error)) => {
                    return Err(config_error(format!(
                        "tls_ca_file {path:?} cannot be read: {error}"
                    )));
                }
                Err(lost) => {
                    return Err(
                        BackendError::new(BackendErrorKind::Unavailable, lost.to_string())
                            .not_applied(),
                    );
                }
            };
            options = options.ssl_root_cert_from_pem(pem);
        }
        Ok(options)
    }
}

/// Schemas are written into statements and settings, so they are plain names.
fn check_schema(schema: &str) -> BackendResult<()> {
    let plain = schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && schema
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || schema.len() > MAX_NAME_BYTES {
        return Err(config_error(format!(
            "schema {schema:?}: at most {MAX_NAME_BYTES} of a-z, 0-9 and _, not starting with a \
             digit"
        )));
    }
    if schema.starts_with("pg_") || schema == "information_schema" {
        return Err(config_error(format!(
            "schema {schema:?} is the server's own"
        )));
    }
    Ok(())
}

/// A value that may be given in two places, but not two values.
fn one_of<T: PartialEq>(key: &str, own: Option<T>, in_url: Option<T>) -> BackendResult<Option<T>> {
    match (own, in_url) {
        (Some(own), Some(in_url)) if own != in_url => Err(config_error(format!(
            "{key} is given twice, in the url and beside it, with different values"
        ))),
        (own, in_url) => Ok(own.or(in_url)),
    }
}

pub(super) fn config_error(message: String) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(config: serde_json::Value) -> Result<Target, String> {
        let config: ConnectionConfig =
            serde_json::from_value(config).map_err(|error| error.to_string())?;
        config.target().map_err(|error| error.to_string())
    }

    #[test]
    fn the_url_and_the_keys_mean_the_same() {
        let url = target(json!({"url": "postgres://me:secret@127.0.0.1:5433/data"})).unwrap();
        let keys = target(json!({
            "host": "127.0.0.1", "port": 5433, "username": "me", "password": "secret",
            "database": "data",
        }));
        assert_eq!(url, keys.unwrap());
        let other = target(json!({"url": "postgres://me@LOCALHOST:5433/data"})).unwrap();
        assert_eq!(url.location(), other.location());
        assert!(!url.location().contains("secret"));
        assert!(!format!("{url:?}").contains("secret"));
    }

    #[test]
    fn defaults_are_a_local_server() {
        let target = target(json!({})).unwrap();
        assert_eq!(
            target.location(),
            "postgres server localhost port 5432 database \"postgres\" schema \"dbmanager\""
        );
    }

    #[test]
    fn two_values_for_one_key_are_refused() {
        let error = target(json!({"url": "postgres://h1/data", "host": "h2"})).unwrap_err();
        assert!(error.contains("host is given twice"), "{error}");
        let error = target(json!({"url": "postgres://localhost/?sslmode=disable", "tls": true}));
        assert!(error.unwrap_err().contains("tls is given twice"));
    }

    #[test]
    fn plain_text_leaves_the_machine_only_if_asked_for() {
        let error = target(json!({"host": "db.example.org"})).unwrap_err();
        assert!(error.contains("allow_plain_text"), "{error}");
        for fine in [
            json!({"host": "db.example.org", "tls": true}),
            json!({"host": "db.example.org", "tls": "require"}),
            json!({"host": "db.example.org", "allow_plain_text": true}),
            json!({"url": "postgres://db.example.org/?sslmode=verify-full"}),
            json!({"host": "/var/run/postgresql"}),
        ] {
            target(fine.clone())
                .map_err(|e| format!("{fine}: {e}"))
                .unwrap();
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (config, named) in [
            (json!({"schema": "My Schema"}), "schema"),
            (json!({"schema": ""}), "schema"),
            (json!({"schema": "pg_toast"}), "schema"),
            (json!({"schema": "s".repeat(64)}), "schema"),
            (json!({"hots": "x"}), "hots"),
            (json!({"database": ""}), "database"),
            (json!({"tls": "prefer"}), "tls"),
            (json!({"tls": "sometimes"}), "tls"),
            (json!({"tls_ca_file": "/ca.pem"}), "tls_ca_file"),
            (json!({"host": "/tmp", "tls": true}), "socket"),
            (
                json!({"url": "postgres://localhost/?sslmode=prefer"}),
                "sslmode",
            ),
            (
                json!({"url": "postgres://localhost/?passfile=x"}),
                "passfile",
            ),
            (json!({"url": "mysql://localhost"}), "url"),
        ] {
            let error = target(config.clone()).unwrap_err();
            assert!(error.contains(named), "{config}: {error}");
        }
    }

    #[test]
    fn no_error_shows_a_password() {
        for url in [
            "postgres://me:hunter2@h:port",
            "postgre://me:hunter2@h",
            "postgres://me:hunter2%zz@h",
            "postgres://me:hunter2@db.example.org",
        ] {
            let error = target(json!({ "url": url })).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
