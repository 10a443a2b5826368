//! The configuration of the service `qdrant`, checked before anything is connected.

use std::{fmt, fs, path::PathBuf};

use dbmanager_backend_support::connection::{Secret, check_protected};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, ServiceConfig, parse_service_config},
    model::Role,
};
use qdrant_client::qdrant::{
    ReadConsistency, ReadConsistencyType, WriteOrdering, WriteOrderingType, read_consistency,
};
use serde::Deserialize;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use super::SERVICE;

const DEFAULT_PORT: u16 = 6334;
const DEFAULT_PREFIX: &str = "dbmanager";
/// With the rest of a physical name this stays within the server's 255 bytes.
const MAX_PREFIX_BYTES: usize = 64;

/// What stands under `config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    url: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    tls: Option<bool>,
    tls_ca_file: Option<PathBuf>,
    allow_plain_text: bool,
    api_key: Option<Secret>,
    collection_prefix: Option<String>,
    on_disk: bool,
    shard_number: Option<u32>,
    replication_factor: Option<u32>,
    write_consistency_factor: Option<u32>,
    read_consistency: Option<ConsistencySetting>,
    write_ordering: Option<OrderingSetting>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "\"majority\", \"quorum\", \"all\", or a number of replicas"
)]
enum ConsistencySetting {
    Named(NamedConsistency),
    Factor(u64),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NamedConsistency {
    Majority,
    Quorum,
    All,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderingSetting {
    Weak,
    Medium,
    Strong,
}

/// How new collections are laid out in a cluster and on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) on_disk: bool,
    pub(super) shard_number: Option<u32>,
    pub(super) replication_factor: Option<u32>,
    pub(super) write_consistency_factor: Option<u32>,
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) encrypted: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Config {
    pub(super) fn parse(config: &ServiceConfig) -> BackendResult<Self> {
        let parsed: Self = parse_service_config(Role::Vector, SERVICE, config)?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> BackendResult<()> {
        let address = self.address()?;
        check_protected(&address.host, address.encrypted, self.allow_plain_text)?;
        if self.tls_ca_file.is_some() && !address.encrypted {
            return Err(wrong("tls_ca_file needs tls (or an https url)"));
        }
        check_prefix(self.prefix())?;
        // Said here, without the key: the client's own message would show it.
        if let Some(key) = &self.api_key {
            let sendable = |byte: u8| (b' '..=b'~').contains(&byte);
            if key.reveal().is_empty() || !key.reveal().bytes().all(sendable) {
                return Err(wrong(
                    "api_key is empty or has characters other than printable ASCII",
                ));
            }
        }
        let counts = [
            ("shard_number", self.shard_number),
            ("replication_factor", self.replication_factor),
            ("write_consistency_factor", self.write_consistency_factor),
        ];
        for (key, value) in counts {
            if value == Some(0) {
                return Err(wrong(format!("{key} is 0; the least is 1")));
            }
        }
        if let Some(ConsistencySetting::Factor(0)) = self.read_consistency {
            return Err(wrong("read_consistency is 0; the least is 1"));
        }
        Ok(())
    }

    pub(super) fn address(&self) -> BackendResult<Address> {
        match &self.url {
            Some(url) => {
                if self.host.is_some() || self.port.is_some() || self.tls.is_some() {
                    return Err(wrong("url excludes host, port and tls"));
                }
                parse_url(url)
            }
            None => {
                let host = self.host.as_deref().unwrap_or("localhost");
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let sane =
                    |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
                if bare.is_empty() || !bare.chars().all(sane) {
                    return Err(wrong(format!("host {host:?} is no host name or address")));
                }
                Ok(Address {
                    encrypted: self.tls.unwrap_or(false),
                    host: bare.to_ascii_lowercase(),
                    port: self.port.unwrap_or(DEFAULT_PORT),
                })
            }
        }
    }

    pub(super) fn prefix(&self) -> &str {
        self.collection_prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }

    pub(super) fn api_key(&self) -> Option<&Secret> {
        self.api_key.as_ref()
    }

    pub(super) fn placement(&self) -> Placement {
        Placement {
            on_disk: self.on_disk,
            shard_number: self.shard_number,
            replication_factor: self.replication_factor,
            write_consistency_factor: self.write_consistency_factor,
        }
    }

    pub(super) fn read_consistency(&self) -> Option<ReadConsistency> {
        let value = match self.read_consistency? {
            ConsistencySetting::Factor(factor) => read_consistency::Value::Factor(factor),
            ConsistencySetting::Named(named) => read_consistency::Value::Type(match named {
                NamedConsistency::Majority => ReadConsistencyType::Majority,
                NamedConsistency::Quorum => ReadConsistencyType::Quorum,
                NamedConsistency::All => ReadConsistencyType::All,
            } as i32),
        };
        Some(ReadConsistency { value: Some(value) })
    }

    pub(super) fn write_ordering(&self) -> Option<WriteOrdering> {
        let ordering = match self.write_ordering? {
            OrderingSetting::Weak => WriteOrderingType::Weak,
            OrderingSetting::Medium => WriteOrderingType::Medium,
            OrderingSetting::Strong => WriteOrderingType::Strong,
        };
        Some(WriteOrdering {
            r#type: ordering as i32,
        })
    }

    /// The server with the prefix, one text for every spelling of the same place.
    pub(super) fn location(&self) -> BackendResult<String> {
        let address = self.address()?;
        let host = match address.host.trim_end_matches('.') {
            "127.0.0.1" | "::1" => "localhost",
            other => other,
        };
        Ok(format!("qdrant {host}:{} {}", address.port, self.prefix()))
    }

    /// What connects. Certificates are those of the file, or else the system's.
    pub(super) fn endpoint(&self) -> BackendResult<Endpoint> {
        let Address {
            encrypted,
            host,
            port,
        } = self.address()?;
        let scheme = if encrypted { "https" } else { "http" };
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
            .map_err(|error| wrong(format!("the address {authority}: {error}")))?;
        if !encrypted {
            return Ok(endpoint);
        }
        let tls = match &self.tls_ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(path) => {
                let pem = fs::read(path)
                    .map_err(|error| wrong(format!("tls_ca_file {}: {error}", path.display())))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
        };
        endpoint
            .tls_config(tls)
            .map_err(|error| wrong(format!("TLS: {error}")).with_source(error))
    }
}

fn check_prefix(prefix: &str) -> BackendResult<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_PREFIX_BYTES).contains(&prefix.len()) && prefix.bytes().all(plain) {
        return Ok(());
    }
    Err(wrong(format!(
        "collection_prefix {prefix:?} is not 1 to {MAX_PREFIX_BYTES} of the characters A to Z, \
         a to z, 0 to 9, _ and -"
    )))
}

fn parse_url(url: &str) -> BackendResult<Address> {
    // Not shown as it is: someone may have put a key into it.
    let bad = |what: &str| wrong(format!("url {what}; expected http(s)://host:port"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad("is no URL"))?;
    let uri = endpoint.uri();
    let encrypted = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad("has another scheme than http or https")),
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(bad("has a user; the key belongs in \"api_key\""));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(bad("has a path"));
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty() {
        return Err(bad("has no host"));
    }
    Ok(Address {
        encrypted,
        host: bare.to_ascii_lowercase(),
        port: uri.port_u16().unwrap_or(DEFAULT_PORT),
    })
}

/// A `Config` error of this service.
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

    fn parse(config: serde_json::Value) -> BackendResult<Config> {
        Config::parse(config.as_object().unwrap())
    }

    fn message(config: serde_json::Value) -> String {
        let error = parse(config).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        error.message().to_owned()
    }

    #[test]
    fn spellings_of_one_place_have_one_location() {
        let spellings = [
            json!({}),
            json!({"host": "LOCALHOST"}),
            json!({"host": "127.0.0.1", "port": 6334}),
            json!({"url": "http://localhost:6334"}),
            json!({"url": "http://localhost/"}),
            json!({"url": "https://[::1]:6334"}),
            json!({"host": "::1", "collection_prefix": "dbmanager"}),
        ];
        for spelling in spellings {
            let location = parse(spelling.clone()).unwrap().location().unwrap();
            assert_eq!(location, "qdrant localhost:6334 dbmanager", "{spelling}");
        }
        let other = parse(json!({"collection_prefix": "veritas_"})).unwrap();
        assert_eq!(other.location().unwrap(), "qdrant localhost:6334 veritas_");
    }

    #[test]
    fn plain_text_to_another_machine_is_refused() {
        assert!(message(json!({"host": "db.example.org"})).contains("allow_plain_text"));
        assert!(message(json!({"url": "http://db.example.org"})).contains("allow_plain_text"));
        parse(json!({"host": "db.example.org", "tls": true})).unwrap();
        parse(json!({"host": "db.example.org", "allow_plain_text": true})).unwrap();
    }

    #[test]
    fn wrong_settings_are_named_and_secrets_are_not_shown() {
        let cases = [
            (json!({"url": "http://u:hunter2@localhost"}), "api_key"),
            (json!({"url": "ftp://localhost"}), "scheme"),
            (json!({"url": "http://localhost/hunter2"}), "path"),
            (
                json!({"url": "http://localhost", "port": 1}),
                "url excludes",
            ),
            (json!({"host": "a/b"}), "host"),
            (json!({"api_key": "hunter2\n"}), "api_key"),
            (json!({"api_key": ""}), "api_key"),
            (json!({"collection_prefix": ""}), "collection_prefix"),
            (json!({"collection_prefix": "a.b"}), "collection_prefix"),
            (
                json!({"collection_prefix": "p".repeat(65)}),
                "collection_prefix",
            ),
            (json!({"tls_ca_file": "/ca.pem"}), "tls_ca_file"),
            (json!({"replication_factor": 0}), "replication_factor"),
            (json!({"read_consistency": 0}), "read_consistency"),
            (json!({"read_consistency": "some"}), "majority"),
            (json!({"write_ordering": "none"}), "none"),
            (json!({"no_such_setting": 1}), "no_such_setting"),
        ];
        for (config, named) in cases {
            let message = message(config.clone());
            assert!(message.contains(named), "{config}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        let config = parse(json!({"api_key": "hunter2"})).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_missing_certificate_file_is_named() {
        let config = json!({"tls": true, "tls_ca_file": "/nowhere/ca.pem"});
        let error = parse(config).unwrap().endpoint().unwrap_err();
        assert!(error.message().contains("/nowhere/ca.pem"), "{error}");
    }
}
