//! The service's configuration, and what the driver is told.

use std::{fmt, path::PathBuf};

use dbmanager_backend_support::connection::{Secret, check_protected, is_loopback};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, OpenContext},
    model::Role,
};
use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, HostInfo, ReadConcern, ReadConcernLevel,
    ReadPreference, SelectionCriteria, ServerAddress, Tls, TlsOptions, WriteConcern,
};
use serde::Deserialize;

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 27_017;
const DEFAULT_DATABASE: &str = "dbmanager";
const DEFAULT_PREFIX: &str = "dbmanager_";
/// MongoDB's own limit, less than which every supported server takes.
const MAX_DATABASE_BYTES: usize = 63;
/// The longest name behind the prefix is 42 bytes, and a database with a collection has at most
/// 235 (120 on some hosted services).
const MAX_PREFIX_BYTES: usize = 64;

/// What stands under `config` for the service `mongodb`; see the table of the module.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MongodbConfig {
    #[serde(alias = "url")]
    uri: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    username: Option<String>,
    password: Option<Secret>,
    auth_source: Option<String>,
    replica_set: Option<String>,
    database: Option<String>,
    collection_prefix: Option<String>,
    tls: Option<bool>,
    tls_ca_file: Option<PathBuf>,
    tls_certificate_key_file: Option<PathBuf>,
    allow_plain_text: bool,
    read_concern: ReadConcernSetting,
    schema_validation: Option<bool>,
}

/// What a read may show. Nothing below a majority: a version that a failover takes back must not be
/// confirmed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadConcernSetting {
    /// Only what no failover takes back.
    #[default]
    Majority,
    /// That, and the primary makes sure that it still is one.
    Linearizable,
}

/// Where the data are and how they are reached.
pub(super) struct Target {
    connection: ConnectionString,
    pub(super) database: String,
    pub(super) prefix: String,
    pub(super) schema_validation: bool,
    /// Server and namespace without secrets.
    pub(super) location: String,
    read_concern: ReadConcernSetting,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the connection: it holds the password.
        f.debug_struct("Target")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

fn wrong(message: impl fmt::Display) -> BackendError {
    let role = Role::Relational;
    BackendError::new(
        BackendErrorKind::Config,
        format!("{role}.config of the service \"mongodb\": {message}"),
    )
    .not_applied()
}

impl MongodbConfig {
    /// Checks everything that can be checked without the server.
    pub(super) fn target(self) -> BackendResult<Target> {
        let mut connection = self.connection()?;
        self.check_options(&connection)?;
        self.authenticate(&mut connection)?;
        self.encrypt(&mut connection)?;
        if self.replica_set.is_some() {
            connection.replica_set.clone_from(&self.replica_set);
        }
        let database = self
            .database
            .or_else(|| connection.default_database.clone())
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        check_database(&database)?;
        let prefix = self
            .collection_prefix
            .unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        check_prefix(&prefix)?;
        Ok(Target {
            location: location(&connection.host_info, &database, &prefix),
            connection,
            database,
            prefix,
            schema_validation: self.schema_validation.unwrap_or(true),
            read_concern: self.read_concern,
        })
    }

    fn connection(&self) -> BackendResult<ConnectionString> {
        let Some(uri) = &self.uri else {
            let mut connection = ConnectionString::default();
            connection.host_info = HostInfo::HostIdentifiers(vec![ServerAddress::Tcp {
                host: self.host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                port: Some(self.port.unwrap_or(DEFAULT_PORT)),
            }]);
            return Ok(connection);
        };
        if self.host.is_some() || self.port.is_some() {
            return Err(wrong("give either \"uri\" or \"host\" and \"port\""));
        }
        ConnectionString::parse(uri.reveal()).map_err(|error| {
            // What the driver could not read may be a part of the password.
            let why = if uri.reveal().contains('@') {
                "special characters in the user name and password must be percent-encoded"
                    .to_owned()
            } else {
                error.to_string()
            };
            wrong(format_args!(
                "\"uri\" is no MongoDB connection string: {why}"
            ))
        })
    }

    /// Options of the connection string that would break the contract are refused, never ignored.
    fn check_options(&self, connection: &ConnectionString) -> BackendResult<()> {
        if let Some(concern) = &connection.write_concern {
            let weaker = concern
                .w
                .as_ref()
                .is_some_and(|w| *w != Acknowledgment::Majority)
                || concern.journal == Some(false);
            if weaker {
                return Err(wrong(
                    "\"uri\": writes are always acknowledged by a journaled majority; leave \"w\" \
                     and \"journal\" out",
                ));
            }
        }
        if connection.read_concern.is_some() {
            return Err(wrong("\"uri\": give the read concern as \"read_concern\""));
        }
        match &connection.read_preference {
            None | Some(ReadPreference::Primary) => Ok(()),
            Some(_) => Err(wrong(
                "\"uri\": reads go to the primary, since a secondary may not show what was \
                 applied; leave \"readPreference\" out",
            )),
        }
    }

    fn authenticate(&self, connection: &mut ConnectionString) -> BackendResult<()> {
        if self.password.is_some() && self.username.is_none() && connection.credential.is_none() {
            return Err(wrong("\"password\" without \"username\""));
        }
        if self.username.is_none() && self.password.is_none() && self.auth_source.is_none() {
            return Ok(());
        }
        let credential = connection.credential.get_or_insert_default();
        if self.username.is_some() {
            credential.username.clone_from(&self.username);
        }
        if let Some(password) = &self.password {
            credential.password = Some(password.reveal().to_owned());
        }
        if self.auth_source.is_some() {
            credential.source.clone_from(&self.auth_source);
        }
        if credential.username.is_none() && credential.mechanism.is_none() {
            return Err(wrong("\"auth_source\" without \"username\""));
        }
        Ok(())
    }

    fn encrypt(&self, connection: &mut ConnectionString) -> BackendResult<()> {
        let mut options = match (&connection.tls, self.tls) {
            (_, Some(false)) => None,
            (Some(Tls::Enabled(options)), _) => Some(options.clone()),
            (_, Some(true)) => Some(TlsOptions::default()),
            (Some(Tls::Disabled), None) => None,
            // A DNS seed list means TLS unless it says otherwise.
            (None, None) => {
                matches!(connection.host_info, HostInfo::DnsRecord(_)).then(TlsOptions::default)
            }
        };
        match &mut options {
            Some(options) => {
                if let Some(path) = &self.tls_ca_file {
                    options.ca_file_path = Some(path.clone());
                }
                if let Some(path) = &self.tls_certificate_key_file {
                    options.cert_key_file_path = Some(path.clone());
                }
            }
            None if self.tls_ca_file.is_some() || self.tls_certificate_key_file.is_some() => {
                return Err(wrong("TLS files are given, but \"tls\" is not true"));
            }
            None => {}
        }
        // Unverified, the other end may be anybody: as good as plain text.
        let protected = options
            .as_ref()
            .is_some_and(|tls| tls.allow_invalid_certificates != Some(true));
        for host in hosts(&connection.host_info) {
            check_protected(&host, protected, self.allow_plain_text)?;
        }
        connection.tls = Some(options.map_or(Tls::Disabled, Tls::Enabled));
        Ok(())
    }
}

impl Target {
    /// The driver's options. Looks a DNS seed list up.
    pub(super) async fn client_options(
        &self,
        context: &OpenContext,
    ) -> mongodb::error::Result<ClientOptions> {
        let mut options = ClientOptions::parse(self.connection.clone()).await?;
        options.app_name = options.app_name.or_else(|| Some("dbmanager".to_owned()));
        options.max_pool_size = Some(u32::try_from(context.pool_size.max(1)).unwrap_or(u32::MAX));
        options.connect_timeout = Some(context.attempt_timeout);
        // Before the caller gives up, so that it learns what is wrong.
        options.server_selection_timeout = Some(context.attempt_timeout.mul_f64(0.75));
        options.selection_criteria =
            Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.read_concern = Some(ReadConcern::from(match self.read_concern {
            ReadConcernSetting::Majority => ReadConcernLevel::Majority,
            ReadConcernSetting::Linearizable => ReadConcernLevel::Linearizable,
        }));
        options.write_concern = Some(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(context.attempt_timeout)
                .build(),
        );
        Ok(options)
    }

    /// The file with the certificates of trusted authorities, if one is named.
    pub(super) fn certificate_authorities(&self) -> Option<PathBuf> {
        match &self.connection.tls {
            Some(Tls::Enabled(options)) => options.ca_file_path.clone(),
            _ => None,
        }
    }
}

fn hosts(info: &HostInfo) -> Vec<String> {
    match info {
        HostInfo::HostIdentifiers(addresses) => addresses
            .iter()
            .filter_map(|address| match address {
                ServerAddress::Tcp { host, .. } => Some(host.clone()),
                // A socket in the file system never leaves this machine.
                _ => None,
            })
            .collect(),
        HostInfo::DnsRecord(name) => vec![name.clone()],
        _ => Vec::new(),
    }
}

fn location(info: &HostInfo, database: &str, prefix: &str) -> String {
    let mut servers: Vec<String> = match info {
        HostInfo::HostIdentifiers(addresses) => addresses.iter().map(server).collect(),
        HostInfo::DnsRecord(name) => vec![format!("srv:{}", name.to_ascii_lowercase())],
        other => vec![format!("{other:?}")],
    };
    servers.sort();
    servers.dedup();
    format!("mongodb://{}/{database}/{prefix}", servers.join(","))
}

fn server(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } => {
            let port = port.unwrap_or(DEFAULT_PORT);
            if is_loopback(host) {
                format!("localhost:{port}")
            } else {
                format!("{}:{port}", host.trim_end_matches('.').to_ascii_lowercase())
            }
        }
        other => other.to_string(),
    }
}

/// <https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>
fn check_database(name: &str) -> BackendResult<()> {
    if name.is_empty() || name.len() > MAX_DATABASE_BYTES {
        return Err(wrong(format_args!(
            "\"database\": a name has 1 to {MAX_DATABASE_BYTES} bytes"
        )));
    }
    match name.chars().find(|c| "/\\. \"$*<>:|?\0".contains(*c)) {
        None => Ok(()),
        Some(c) => Err(wrong(format_args!(
            "\"database\": a name cannot contain {c:?}"
        ))),
    }
}

fn check_prefix(prefix: &str) -> BackendResult<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let starts_well = prefix.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well
        || prefix.len() > MAX_PREFIX_BYTES
        || prefix.starts_with("system.")
        || !prefix.chars().all(allowed)
    {
        return Err(wrong(format_args!(
            "\"collection_prefix\": starts with a letter or an underscore, not with \"system.\", \
             and has at most {MAX_PREFIX_BYTES} ASCII letters, digits, '_', '-' and '.'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(config: serde_json::Value) -> BackendResult<Target> {
        serde_json::from_value::<MongodbConfig>(config)
            .unwrap()
            .target()
    }

    fn refused(config: serde_json::Value) -> String {
        let error = target(config).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn the_same_place_has_one_location() {
        let expected = "mongodb://localhost:27017/dbmanager/dbmanager_";
        for config in [
            json!({}),
            json!({"host": "127.0.0.1", "port": 27017}),
            json!({"uri": "mongodb://user:secret@LOCALHOST/"}),
            json!({"url": "mongodb://[::1]:27017/dbmanager?authSource=admin", "username": "x"}),
        ] {
            assert_eq!(target(config).unwrap().location, expected);
        }
        let of = |uri: &str| target(json!({"uri": uri, "tls": true})).unwrap().location;
        assert_eq!(
            of("mongodb://b.example.org,a.example.org:27018/x"),
            of("mongodb://A.example.org:27018,B.example.org:27017/x")
        );
        assert_ne!(
            of("mongodb://a.example.org/x"),
            of("mongodb://a.example.org/y")
        );
    }

    #[test]
    fn plain_text_to_another_machine_is_refused() {
        for config in [
            json!({"host": "db.example.org"}),
            json!({"uri": "mongodb://localhost,db.example.org/"}),
            json!({"uri": "mongodb://db.example.org/?tls=true", "tls": false}),
            json!({"uri": "mongodb://db.example.org/?tls=true&tlsAllowInvalidCertificates=true"}),
        ] {
            assert!(refused(config).contains("allow_plain_text"));
        }
        for config in [
            json!({"host": "db.example.org", "tls": true}),
            json!({"host": "db.example.org", "allow_plain_text": true}),
            json!({"uri": "mongodb+srv://cluster.example.org/"}),
            json!({"uri": "mongodb://db.example.org/?tls=true"}),
        ] {
            assert!(target(config).is_ok());
        }
    }

    #[test]
    fn options_that_break_the_contract_are_refused() {
        for (option, named) in [
            ("w=1", "majority"),
            ("journal=false", "majority"),
            ("readPreference=secondary", "primary"),
            ("readConcernLevel=local", "read_concern"),
        ] {
            let uri = format!("mongodb://localhost/?{option}");
            let error = refused(json!({"uri": uri}));
            assert!(error.contains(named), "{error}");
        }
        assert!(target(json!({"uri": "mongodb://localhost/?w=majority"})).is_ok());
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_name() {
        for (config, named) in [
            (json!({"uri": "mongodb://localhost/", "port": 1}), "uri"),
            (json!({"uri": "http://localhost/"}), "uri"),
            (json!({"password": "secret"}), "username"),
            (json!({"tls_ca_file": "/ca.pem"}), "tls"),
            (json!({"database": "a.b"}), "database"),
            (json!({"database": ""}), "database"),
            (json!({"collection_prefix": ""}), "collection_prefix"),
            (
                json!({"collection_prefix": "system.x"}),
                "collection_prefix",
            ),
            (json!({"collection_prefix": "a$"}), "collection_prefix"),
        ] {
            let error = refused(config);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn secrets_are_in_no_text() {
        for uri in [
            "mongodb://user:hunter2@localhost/",
            "mongodb://user:hun/ter2@localhost/",
            "mongodb://user:hunter2?x@localhost/",
            "mongodb://user:hunter2@localhost/?nonsense",
        ] {
            let config = json!({"uri": uri, "password": "hunter2"});
            let config: MongodbConfig = serde_json::from_value(config).unwrap();
            let mut text = format!("{config:?}");
            match config.target() {
                Ok(target) => text += &format!("{target:?}{}", target.location),
                Err(error) => text += &format!("{error} {error:?}"),
            }
            assert!(!text.contains("hun") && !text.contains("ter2"), "{text}");
        }
    }
}
