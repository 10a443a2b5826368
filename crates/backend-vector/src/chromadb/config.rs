//! The configuration of the service `chromadb`.

use std::path::PathBuf;

use dbmanager_backend_support::{
    connection::{Secret, check_protected, is_loopback},
    http::{Authorization, Endpoint},
};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, ServiceConfig, parse_service_config},
    model::Role,
};
use serde::Deserialize;

use super::SERVICE;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 8000;
const MAX_PREFIX_BYTES: usize = 64;
/// What the server takes of a request unless it is set otherwise (measured).
const DEFAULT_MAX_REQUEST_BYTES: usize = 40 * 1024 * 1024;

/// Which header carries the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum TokenHeader {
    /// `Authorization: Bearer …`.
    #[default]
    #[serde(rename = "authorization")]
    Authorization,
    /// `x-chroma-token: …`, as the hosted service wants it.
    #[serde(rename = "x-chroma-token")]
    Chroma,
}

/// What stands under `config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    url: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<bool>,
    tls_ca_file: Option<PathBuf>,
    allow_plain_text: bool,
    token: Option<Secret>,
    token_header: TokenHeader,
    username: Option<String>,
    password: Option<Secret>,
    pub(super) tenant: String,
    pub(super) database: String,
    pub(super) collection_prefix: String,
    pub(super) max_request_bytes: usize,
    hnsw_ef_construction: Option<u32>,
    hnsw_ef_search: Option<u32>,
    hnsw_max_neighbors: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: None,
            host: None,
            port: None,
            tls: None,
            tls_ca_file: None,
            allow_plain_text: false,
            token: None,
            token_header: TokenHeader::default(),
            username: None,
            password: None,
            tenant: "default_tenant".to_owned(),
            database: "default_database".to_owned(),
            collection_prefix: "dbmanager_".to_owned(),
            max_request_bytes: DEFAULT_MAX_REQUEST_BYTES,
            hnsw_ef_construction: None,
            hnsw_ef_search: None,
            hnsw_max_neighbors: None,
        }
    }
}

/// The settings of the approximate index that are not the server's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hnsw {
    pub(super) ef_construction: Option<u32>,
    pub(super) ef_search: Option<u32>,
    pub(super) max_neighbors: Option<u32>,
}

fn wrong(message: impl Into<String>) -> BackendError {
    BackendError::new(
        BackendErrorKind::Config,
        format!("vector.config.{}", message.into()),
    )
    .not_applied()
}

impl Config {
    pub(super) fn parse(config: &ServiceConfig) -> BackendResult<Self> {
        let parsed: Self = parse_service_config(Role::Vector, SERVICE, config)?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> BackendResult<()> {
        for (key, name) in [("tenant", &self.tenant), ("database", &self.database)] {
            if name.is_empty() || name == "." || name == ".." {
                return Err(wrong(format!("{key}: {name:?} is not a name")));
            }
        }
        check_prefix(&self.collection_prefix)?;
        if self.max_request_bytes < 1024 * 1024 {
            return Err(wrong("max_request_bytes: below 1048576"));
        }
        for (key, value) in [
            ("hnsw_ef_construction", self.hnsw_ef_construction),
            ("hnsw_ef_search", self.hnsw_ef_search),
            ("hnsw_max_neighbors", self.hnsw_max_neighbors),
        ] {
            if value.is_some_and(|value| !(2..=65_536).contains(&value)) {
                return Err(wrong(format!("{key}: not in 2 to 65536")));
            }
        }
        if self.token.is_some() && self.username.is_some() {
            return Err(wrong("token: it stands beside a username; only one can be"));
        }
        if self.username.is_some() != self.password.is_some() {
            return Err(wrong("username: it and the password go together"));
        }
        let endpoint = self.endpoint()?;
        if self.tls_ca_file.is_some() && !endpoint.is_encrypted() {
            return Err(wrong("tls_ca_file: the connection is not encrypted"));
        }
        check_protected(
            endpoint.host(),
            endpoint.is_encrypted(),
            self.allow_plain_text,
        )
    }

    /// Where the server is.
    pub(super) fn endpoint(&self) -> BackendResult<Endpoint> {
        let Some(url) = &self.url else {
            let host = self.host.as_deref().unwrap_or(DEFAULT_HOST);
            let port = self.port.unwrap_or(DEFAULT_PORT);
            return Endpoint::new(
                "vector.config.host",
                host,
                port,
                self.tls.unwrap_or_default(),
            );
        };
        if self.host.is_some() || self.port.is_some() {
            return Err(wrong("url: it stands beside host or port; only one can be"));
        }
        let endpoint = Endpoint::parse("vector.config.url", url)?;
        match self.tls {
            Some(tls) if tls != endpoint.is_encrypted() => {
                Err(wrong(format!("tls: it is {tls}, the url says otherwise")))
            }
            _ => Ok(endpoint),
        }
    }

    /// Server and namespace; this machine has one name.
    pub(super) fn location(&self) -> BackendResult<String> {
        let endpoint = self.endpoint()?;
        let place = match is_loopback(endpoint.host()) {
            true => endpoint
                .to_string()
                .replacen(endpoint.host(), "localhost", 1),
            false => endpoint.to_string(),
        };
        Ok(format!(
            "{place} tenant {:?} database {:?} prefix {:?}",
            self.tenant, self.database, self.collection_prefix
        ))
    }

    pub(super) fn authorization(&self) -> Authorization {
        match (&self.token, &self.username, &self.password) {
            (Some(token), _, _) => match self.token_header {
                TokenHeader::Authorization => Authorization::Bearer(token.clone()),
                TokenHeader::Chroma => Authorization::Header {
                    name: "x-chroma-token",
                    value: token.clone(),
                },
            },
            (None, Some(username), Some(password)) => Authorization::Basic {
                username: username.clone(),
                password: password.clone(),
            },
            _ => Authorization::None,
        }
    }

    pub(super) fn ca_file(&self) -> Option<PathBuf> {
        self.tls_ca_file.clone()
    }

    pub(super) fn hnsw(&self) -> Hnsw {
        Hnsw {
            ef_construction: self.hnsw_ef_construction,
            ef_search: self.hnsw_ef_search,
            max_neighbors: self.hnsw_max_neighbors,
        }
    }
}

/// A prefix is the start of the names of collections, so it follows the server's rule for them.
fn check_prefix(prefix: &str) -> BackendResult<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let held = prefix.len() <= MAX_PREFIX_BYTES
        && prefix.starts_with(|c: char| c.is_ascii_alphanumeric())
        && prefix.chars().all(allowed)
        && !prefix.contains("..");
    if held {
        return Ok(());
    }
    Err(wrong(format!(
        "collection_prefix: {prefix:?} is not 1 to {MAX_PREFIX_BYTES} of [a-zA-Z0-9._-], starting \
         with a letter or digit, without two dots in a row"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(config: Value) -> BackendResult<Config> {
        let Value::Object(config) = config else {
            panic!("a configuration is an object");
        };
        Config::parse(&config)
    }

    fn message(config: Value) -> String {
        let error = parse(config).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        error.message().to_owned()
    }

    #[test]
    fn the_usual_form_is_read() {
        let config =
            parse(json!({"host": "localhost", "port": 8000, "collection_prefix": "veritas_"}));
        assert_eq!(
            config.unwrap().location().unwrap(),
            "http://localhost:8000 tenant \"default_tenant\" database \"default_database\" prefix \
             \"veritas_\""
        );
    }

    #[test]
    fn one_place_has_one_location() {
        let location = |config| parse(config).unwrap().location().unwrap();
        let here = location(json!({}));
        for same in [
            json!({"host": "127.0.0.1"}),
            json!({"host": "[::1]", "tls": false}),
            json!({"url": "http://LOCALHOST:8000/"}),
            json!({"token": "t"}),
        ] {
            assert_eq!(location(same), here);
        }
        for other in [
            json!({"port": 1}),
            json!({"tenant": "t"}),
            json!({"database": "d"}),
            json!({"collection_prefix": "p"}),
            json!({"tls": true}),
        ] {
            assert_ne!(location(other), here);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (config, key) in [
            (json!({"collection_prefix": ""}), "collection_prefix"),
            (json!({"collection_prefix": "_a"}), "collection_prefix"),
            (json!({"collection_prefix": "a..b"}), "collection_prefix"),
            (json!({"collection_prefix": "ä"}), "collection_prefix"),
            (
                json!({"collection_prefix": "a".repeat(65)}),
                "collection_prefix",
            ),
            (json!({"tenant": ".."}), "tenant"),
            (json!({"database": ""}), "database"),
            (json!({"url": "http://a", "host": "b"}), "url"),
            (json!({"url": "http://localhost", "tls": true}), "tls"),
            (json!({"host": "a b"}), "host"),
            (json!({"hnsw_ef_search": 0}), "hnsw_ef_search"),
            (json!({"max_request_bytes": 1_000}), "max_request_bytes"),
            (json!({"tls_ca_file": "ca.pem"}), "tls_ca_file"),
            (json!({"username": "u"}), "username"),
            (
                json!({"username": "u", "password": "p", "token": "t"}),
                "token",
            ),
            (json!({"hots": "b"}), "hots"),
            (json!({"host": "db.example.org"}), "allow_plain_text"),
        ] {
            let message = message(config);
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = parse(json!({"token": "hunter2"})).unwrap();
        assert!(!format!("{config:?} {:?}", config.authorization()).contains("hunter2"));
        let wrong = message(json!({"token": "hunter2", "collection_prefix": ""}));
        assert!(!wrong.contains("hunter2"), "{wrong}");
        let url = message(json!({"url": "http://me:hunter2@localhost"}));
        assert!(!url.contains("hunter2"), "{url}");
    }
}
