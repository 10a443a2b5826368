//! The configuration: where the server is and how to speak to it.

use std::path::PathBuf;

use dbmanager_backend_support::connection::{Secret, check_protected, is_loopback};
use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult};
use serde::Deserialize;

use super::ident::Ident;

const DEFAULT_PORT: u16 = 7687;
const DEFAULT_NAMESPACE: &str = "dbmanager";
/// What Neo4j calls the database that it makes by itself.
const DEFAULT_DATABASE: &str = "neo4j";

/// The keys as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Neo4jConfig {
    /// Secret, because someone may write the password into it; that is refused, and not shown.
    #[serde(alias = "url")]
    uri: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    #[serde(default = "default_username")]
    username: String,
    password: Option<Secret>,
    database: Option<String>,
    #[serde(default = "default_namespace")]
    namespace: String,
    tls: Option<bool>,
    tls_ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_plain_text: bool,
}

fn default_username() -> String {
    "neo4j".to_owned()
}

fn default_namespace() -> String {
    DEFAULT_NAMESPACE.to_owned()
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) address: Address,
    /// Whether the server is asked which member of its cluster takes writes.
    pub(super) routed: bool,
    pub(super) tls: bool,
    pub(super) tls_ca_file: Option<PathBuf>,
    pub(super) username: String,
    pub(super) password: Secret,
    pub(super) database: Option<String>,
    pub(super) namespace: Ident,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// An IPv6 address stands in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Neo4jConfig {
    /// # Errors
    /// `Config`, naming the key.
    pub(super) fn check(self) -> BackendResult<Settings> {
        let (scheme, address) = self.place()?;
        let tls = match (scheme.encrypted, self.tls) {
            (true, Some(false)) => {
                return Err(config("\"tls\" is false, but \"uri\" asks for encryption"));
            }
            (encrypted, tls) => encrypted || tls == Some(true),
        };
        check_protected(&address.host, tls, self.allow_plain_text)?;
        if self.tls_ca_file.is_some() && !tls {
            return Err(config(
                "\"tls_ca_file\" is set, but the connection is in plain text; set \"tls\" to true",
            ));
        }
        if self.database.as_deref() == Some("") {
            return Err(config("\"database\" is empty"));
        }
        Ok(Settings {
            address,
            routed: scheme.routed,
            tls,
            tls_ca_file: self.tls_ca_file,
            username: self.username,
            password: self.password.unwrap_or_else(|| Secret::new("")),
            database: self.database,
            namespace: Ident::new(&self.namespace)?,
        })
    }

    fn place(&self) -> BackendResult<(Scheme, Address)> {
        match (&self.uri, &self.host) {
            (Some(_), Some(_)) => Err(config("\"uri\" and \"host\" are both set; give one")),
            (Some(_), None) if self.port.is_some() => Err(config(
                "\"port\" is set beside \"uri\"; write the port into the uri",
            )),
            (Some(uri), None) => parse_uri(uri.reveal()),
            (None, Some(host)) => {
                let host = match host.parse::<std::net::Ipv6Addr>() {
                    Ok(bare) => format!("[{bare}]"),
                    Err(_) => host.clone(),
                };
                check_host(&host, "host")?;
                let port = self.port.unwrap_or(DEFAULT_PORT);
                Ok((Scheme::default(), Address { host, port }))
            }
            (None, None) => Err(config("\"uri\" or \"host\" is needed")),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scheme {
    routed: bool,
    encrypted: bool,
}

/// `scheme://host[:port]`, nothing else; the text is never shown, for it may hold a password.
fn parse_uri(uri: &str) -> BackendResult<(Scheme, Address)> {
    let (scheme, rest) = uri
        .split_once("://")
        .ok_or_else(|| config("\"uri\" has no scheme; write for example bolt://localhost:7687"))?;
    let (routed, encrypted) = match scheme {
        "bolt" => (false, false),
        "bolt+s" => (false, true),
        "neo4j" => (true, false),
        "neo4j+s" => (true, true),
        "bolt+ssc" | "neo4j+ssc" => {
            return Err(config(
                "\"uri\" asks not to check the server's certificate (+ssc); use +s with \
                 \"tls_ca_file\"",
            ));
        }
        _ => {
            return Err(config(
                "\"uri\" has an unknown scheme; known: bolt, bolt+s, neo4j, neo4j+s",
            ));
        }
    };
    if rest.contains('@') {
        return Err(config(
            "\"uri\" holds credentials; they belong under \"username\" and \"password\"",
        ));
    }
    let address = parse_address(rest.strip_suffix('/').unwrap_or(rest))?;
    Ok((Scheme { routed, encrypted }, address))
}

/// `host[:port]`; an IPv6 address is in brackets.
///
/// # Errors
/// `Config`, naming the key `uri`.
pub(super) fn parse_address(text: &str) -> BackendResult<Address> {
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[after_brackets..].rfind(':') {
        Some(colon) => {
            let (host, port) = text.split_at(after_brackets + colon);
            let port = port[1..]
                .parse()
                .map_err(|_| config("\"uri\" has a port that is no number from 0 to 65535"))?;
            (host, port)
        }
        None => (text, DEFAULT_PORT),
    };
    check_host(host, "uri")?;
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

fn check_host(host: &str, key: &str) -> BackendResult<()> {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    if fits {
        return Ok(());
    }
    Err(config(&format!(
        "{key:?} has no host name or address where one is expected"
    )))
}

impl Settings {
    /// The place, for finding one that is given twice. The loopback names of a machine are one.
    pub(super) fn location(&self) -> String {
        let host = if is_loopback(&self.address.host) {
            "localhost".to_owned()
        } else {
            let host = self.address.host.trim_end_matches('.');
            host.to_ascii_lowercase()
        };
        let database = self.database.as_deref().unwrap_or(DEFAULT_DATABASE);
        format!(
            "neo4j {host}:{}/{}/{}",
            self.address.port,
            database.to_lowercase(),
            self.namespace
        )
    }
}

pub(super) fn config(message: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: serde_json::Value) -> BackendResult<Settings> {
        serde_json::from_value::<Neo4jConfig>(value)
            .map_err(|error| config(&error.to_string()))?
            .check()
    }

    #[test]
    fn the_configuration_of_the_first_example_is_taken() {
        let settings = check(json!({
            "uri": "bolt://localhost:7687", "username": "neo4j", "password": "hunter2"
        }))
        .unwrap();
        assert_eq!(settings.address.host, "localhost");
        assert_eq!(settings.address.port, 7687);
        assert!(!settings.routed && !settings.tls);
        assert_eq!(settings.location(), "neo4j localhost:7687/neo4j/dbmanager");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn addresses_are_read() {
        for (uri, host, port, routed, tls) in [
            (
                "bolt+s://db.example.org",
                "db.example.org",
                7687,
                false,
                true,
            ),
            ("neo4j+s://db:1/", "db", 1, true, true),
            ("neo4j://127.0.0.1:9", "127.0.0.1", 9, true, false),
            ("bolt://[::1]:9", "[::1]", 9, false, false),
            ("bolt://[::1]", "[::1]", 7687, false, false),
        ] {
            let settings = check(json!({"uri": uri})).unwrap();
            let address = (&*settings.address.host, settings.address.port);
            assert_eq!(address, (host, port), "{uri}");
            assert_eq!((settings.routed, settings.tls), (routed, tls), "{uri}");
        }
        let settings = check(json!({"host": "::1", "tls": true, "port": 5})).unwrap();
        assert_eq!(settings.address.host, "[::1]");
        assert!(settings.tls);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        for (value, named) in [
            (json!({}), "\"uri\""),
            (json!({"uri": "localhost"}), "\"uri\""),
            (json!({"uri": "http://hunter2"}), "scheme"),
            (
                json!({"uri": "bolt://neo4j:hunter2@localhost"}),
                "\"password\"",
            ),
            (json!({"uri": "bolt://localhost:hunter2"}), "port"),
            (json!({"uri": "bolt://localhost/hunter2"}), "\"uri\""),
            (json!({"uri": "bolt://"}), "\"uri\""),
            (json!({"uri": "bolt://[::1"}), "\"uri\""),
            (json!({"uri": "bolt+ssc://hunter2"}), "tls_ca_file"),
            (json!({"uri": "bolt://localhost", "host": "a"}), "\"host\""),
            (json!({"uri": "bolt://localhost", "port": 1}), "\"port\""),
            (
                json!({"uri": "bolt+s://localhost", "tls": false}),
                "\"tls\"",
            ),
            (
                json!({"uri": "bolt://localhost", "tls_ca_file": "x"}),
                "\"tls\"",
            ),
            (json!({"uri": "bolt://db.example.org"}), "allow_plain_text"),
            (json!({"uri": "neo4j://10.0.0.1"}), "allow_plain_text"),
            (json!({"host": "a b"}), "\"host\""),
            (json!({"host": "localhost", "database": ""}), "\"database\""),
            (
                json!({"host": "localhost", "namespace": "a-b"}),
                "\"namespace\"",
            ),
            (
                json!({"host": "localhost", "passwort": "hunter2"}),
                "passwort",
            ),
        ] {
            let error = check(value.clone()).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config, "{value}");
            let text = error.to_string();
            assert!(text.contains(named), "{value}: {text}");
            assert!(!text.contains("hunter2"), "{value}: {text}");
        }
    }

    #[test]
    fn the_same_place_has_the_same_location() {
        let location = |value| check(value).unwrap().location();
        let here = location(json!({"uri": "bolt://localhost:7687"}));
        assert_eq!(
            location(json!({"host": "127.0.0.1", "database": "Neo4j"})),
            here
        );
        assert_eq!(location(json!({"uri": "neo4j://[::1]"})), here);
        for other in [
            json!({"uri": "bolt://localhost:7688"}),
            json!({"uri": "bolt+s://db.example.org"}),
            json!({"host": "localhost", "database": "other"}),
            json!({"host": "localhost", "namespace": "other"}),
        ] {
            assert_ne!(location(other.clone()), here, "{other}");
        }
        assert_eq!(
            location(json!({"uri": "bolt+s://DB.example.org."})),
            location(json!({"uri": "neo4j+s://db.example.org"}))
        );
    }
}
