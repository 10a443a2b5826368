//! The configuration of the service `redis`.

use std::{fmt, path::PathBuf};

use dbmanager_backend_support::connection::{Secret, check_protected};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, ServiceConfig, parse_service_config},
    model::Role,
};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use serde::Deserialize;

use super::SERVICE;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_NAMESPACE: &str = "dbmanager";

/// What stands under `config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    /// Holds the password, perhaps.
    url: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<Secret>,
    database: Option<u32>,
    namespace: Option<String>,
    tls: Option<bool>,
    tls_ca_file: Option<PathBuf>,
    tls_certificate_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    allow_plain_text: bool,
    engine: Option<Engine>,
    index: Option<Algorithm>,
    hnsw_connectivity: Option<usize>,
    hnsw_expansion_add: Option<usize>,
    hnsw_expansion_search: Option<usize>,
}

/// What of the server finds neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Engine {
    /// The search module, `FT.*`.
    QueryEngine,
    /// The data type `vectorset`, `VADD` and `VSIM`.
    VectorSets,
}

impl Engine {
    /// The name in the configuration and in the store.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Engine::QueryEngine => "query_engine",
            Engine::VectorSets => "vector_sets",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Engine::QueryEngine, Engine::VectorSets]
            .into_iter()
            .find(|engine| engine.as_str() == name)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of index that the query engine makes for a new collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Algorithm {
    /// Approximate.
    #[default]
    Hnsw,
    /// Every vector is compared.
    Flat,
}

/// The settings of the approximate index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) algorithm: Algorithm,
    /// Links per vector and layer (M).
    pub(super) connectivity: usize,
    /// Candidates looked at when a vector is added (efConstruction).
    pub(super) expansion_add: usize,
    /// Candidates looked at in a search (ef).
    pub(super) expansion_search: usize,
}

/// Files of the encrypted connection.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    pub(super) authorities: Option<PathBuf>,
    /// The client's own certificate and key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u32,
    pub(super) namespace: String,
    pub(super) tls: Option<TlsFiles>,
    pub(super) allow_plain_text: bool,
    pub(super) engine: Option<Engine>,
    pub(super) index: Index,
}

impl Config {
    pub(super) fn parse(config: &ServiceConfig) -> BackendResult<Self> {
        let raw: Raw = parse_service_config(Role::Vector, SERVICE, config)?;
        let mut parsed = match &raw.url {
            Some(url) => {
                raw.check_beside_url()?;
                from_url(url.reveal())?
            }
            None => raw.address()?,
        };
        raw.files(&mut parsed)?;
        parsed.namespace = raw
            .namespace
            .clone()
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        check_namespace(&parsed.namespace)?;
        parsed.index = raw.index()?;
        parsed.engine = raw.engine;
        parsed.allow_plain_text = raw.allow_plain_text;
        check_protected(&parsed.host, parsed.tls.is_some(), raw.allow_plain_text)?;
        Ok(parsed)
    }

    /// Server, database and namespace, in one spelling.
    pub(super) fn location(&self) -> String {
        format!(
            "redis://{}:{}/{}#{}",
            self.host, self.port, self.database, self.namespace
        )
    }
}

impl Raw {
    /// A server without encryption, user and password, for the keys that the URL stands for.
    fn address(&self) -> BackendResult<Config> {
        let host = self.host.as_deref().unwrap_or(DEFAULT_HOST);
        let mut config = server(
            host,
            self.port.unwrap_or(DEFAULT_PORT),
            self.tls == Some(true),
        )?;
        config.username.clone_from(&self.username);
        config.password.clone_from(&self.password);
        config.database = self.database.unwrap_or(0);
        if config.username.is_some() && config.password.is_none() {
            return Err(wrong("username is given without password"));
        }
        Ok(config)
    }

    fn check_beside_url(&self) -> BackendResult<()> {
        let beside = [
            ("host", self.host.is_some()),
            ("port", self.port.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("database", self.database.is_some()),
            ("tls", self.tls.is_some()),
        ];
        match beside.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(wrong(format!("{key} and url are both given"))),
            None => Ok(()),
        }
    }

    fn files(&self, config: &mut Config) -> BackendResult<()> {
        let identity = match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(wrong("tls_certificate_file is given without tls_key_file"));
            }
            (None, Some(_)) => {
                return Err(wrong("tls_key_file is given without tls_certificate_file"));
            }
        };
        match &mut config.tls {
            Some(files) => {
                files.authorities.clone_from(&self.tls_ca_file);
                files.identity = identity;
            }
            None if self.tls_ca_file.is_some() => {
                return Err(wrong("tls_ca_file is given, and the connection has no TLS"));
            }
            None if identity.is_some() => {
                return Err(wrong(
                    "tls_certificate_file is given, and the connection has no TLS",
                ));
            }
            None => {}
        }
        Ok(())
    }

    fn index(&self) -> BackendResult<Index> {
        let within =
            |key: &str, value: Option<usize>, default: usize, least: usize, most: usize| {
                let value = value.unwrap_or(default);
                if (least..=most).contains(&value) {
                    return Ok(value);
                }
                Err(wrong(format!(
                    "{key} is {value}, which is not in {least} to {most}"
                )))
            };
        Ok(Index {
            algorithm: self.index.unwrap_or_default(),
            // The bounds are those of `VADD`, which has the narrower ones.
            connectivity: within("hnsw_connectivity", self.hnsw_connectivity, 16, 4, 512)?,
            expansion_add: within("hnsw_expansion_add", self.hnsw_expansion_add, 200, 1, 4_096)?,
            expansion_search: within(
                "hnsw_expansion_search",
                self.hnsw_expansion_search,
                64,
                1,
                65_536,
            )?,
        })
    }
}

fn server(host: &str, port: u16, tls: bool) -> BackendResult<Config> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty()
        || bare
            .chars()
            .any(|c| c.is_whitespace() || "/@#?".contains(c))
    {
        return Err(wrong(format!("host {host:?} is no host name")));
    }
    Ok(Config {
        host: bare.to_ascii_lowercase(),
        port,
        username: None,
        password: None,
        database: 0,
        namespace: String::new(),
        tls: tls.then(TlsFiles::default),
        allow_plain_text: false,
        engine: None,
        index: Index {
            algorithm: Algorithm::default(),
            connectivity: 0,
            expansion_add: 0,
            expansion_search: 0,
        },
    })
}

/// Reads `redis://` and `rediss://`. The text is never repeated in an error: it may hold the
/// password.
fn from_url(url: &str) -> BackendResult<Config> {
    let unreadable = || {
        wrong(
            "url is not of the form redis://[username][:password@]host[:port][/database] \
             (rediss:// for TLS)",
        )
    };
    let (tls, place) = match url.split_once("://") {
        Some(("redis", place)) => (false, place),
        Some(("rediss", place)) => (true, place),
        _ => return Err(unreadable()),
    };
    // A fragment is how the client library is told not to check certificates.
    if place.contains('#') {
        return Err(unreadable());
    }
    // TLS is not the client library's here (`connection`), so it is built without it and reads
    // no `rediss://`.
    let plain = format!("redis://{place}");
    let info: ConnectionInfo = plain.into_connection_info().map_err(|_| unreadable())?;
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Err(unreadable());
    };
    let mut config = server(host, *port, tls)?;
    let settings = info.redis_settings();
    config.username = settings.username().map(str::to_owned);
    config.password = settings.password().map(Secret::new);
    config.database = u32::try_from(settings.db()).map_err(|_| unreadable())?;
    Ok(config)
}

/// The namespace stands between the braces of every key and in names of indexes, so it may hold
/// neither a brace nor what a pattern of an ACL rule takes for a wildcard.
fn check_namespace(namespace: &str) -> BackendResult<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if (1..=128).contains(&namespace.len()) && namespace.chars().all(plain) {
        return Ok(());
    }
    Err(wrong(format!(
        "namespace {namespace:?} is not 1 to 128 ASCII letters, digits, or characters of \"_-.:\""
    )))
}

/// A wrong configuration.
pub(super) fn wrong(message: impl fmt::Display) -> BackendError {
    BackendError::new(
        BackendErrorKind::Config,
        format!("vector.config of the service {SERVICE:?}: {message}"),
    )
    .not_applied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> BackendResult<Config> {
        Config::parse(value.as_object().unwrap())
    }

    #[test]
    fn wrong_settings_are_named() {
        for (value, name) in [
            (json!({"hots": "a"}), "hots"),
            (json!({"host": ""}), "host"),
            (json!({"host": "redis://localhost"}), "host"),
            (json!({"port": 70_000}), "70000"),
            (json!({"url": "redis://localhost", "port": 1}), "port"),
            (json!({"url": "http://localhost"}), "url"),
            (json!({"url": "rediss://localhost/#insecure"}), "url"),
            (json!({"url": "redis://localhost/-1"}), "url"),
            (json!({"username": "u"}), "password"),
            (json!({"namespace": ""}), "namespace"),
            (json!({"namespace": "a}b"}), "namespace"),
            (json!({"namespace": "a*"}), "namespace"),
            (json!({"tls_ca_file": "/ca.pem"}), "tls_ca_file"),
            (
                json!({"tls": true, "tls_key_file": "/k"}),
                "tls_certificate_file",
            ),
            (json!({"engine": "magic"}), "magic"),
            (json!({"hnsw_connectivity": 1}), "hnsw_connectivity"),
            (json!({"hnsw_expansion_add": 0}), "hnsw_expansion_add"),
        ] {
            let error = parse(value.clone()).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config, "{value}");
            assert!(error.message().contains(name), "{value}: {error}");
        }
    }

    #[test]
    fn plain_text_off_loopback_must_be_asked_for() {
        for value in [
            json!({"host": "db.example.org"}),
            json!({"url": "redis://db.example.org"}),
        ] {
            let mut value = value;
            let error = parse(value.clone()).unwrap_err();
            assert!(error.message().contains("allow_plain_text"), "{error}");
            value["allow_plain_text"] = json!(true);
            assert!(parse(value).is_ok());
        }
        assert!(parse(json!({"host": "db.example.org", "tls": true})).is_ok());
        assert!(parse(json!({"url": "rediss://db.example.org"})).is_ok());
    }

    #[test]
    fn one_place_has_one_location() {
        let location = |value| parse(value).unwrap().location();
        let here = location(json!({"host": "LOCALHOST", "password": "hunter2"}));
        assert_eq!(here, "redis://localhost:6379/0#dbmanager");
        assert_eq!(location(json!({})), here);
        assert_eq!(
            location(json!({"url": "redis://u:hunter2@localhost"})),
            here
        );
        assert_eq!(location(json!({"url": "rediss://localhost:6379/0"})), here);
        assert_eq!(
            location(json!({"host": "[::1]"})),
            location(json!({"url": "redis://[::1]"}))
        );
        for other in [
            json!({"port": 6380}),
            json!({"database": 1}),
            json!({"namespace": "other"}),
        ] {
            assert_ne!(location(other), here);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for value in [
            json!({"username": "u", "password": "hunter2"}),
            json!({"url": "redis://u:hunter2@localhost"}),
        ] {
            let shown = format!("{:?}", parse(value).unwrap());
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for url in [
            "redis://u:hunter2@:port:",
            "redis://:hunter2@localhost/x",
            "hunter2",
        ] {
            let error = parse(json!({ "url": url })).unwrap_err();
            assert!(
                !format!("{error:?} {error}").contains("hunter2"),
                "{error:?}"
            );
        }
        let error = parse(json!({"url": "redis://u:hunter2@db.example.org"})).unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }
}
