//! Configuration: data only. It is read, merged, checked and printed here; nothing is opened.
//!
//! Three layers, each over the one before: a JSON or TOML file, the environment, and code. Layers
//! are merged key by key; the result is checked as a whole by [`Config::settings`]. Keys that are
//! not known are errors that name the key and the nearest known one.
//!
//! ```json
//! {"vector": {"enabled": true, "type": "chromadb", "config": {"host": "localhost", "port": 8000}},
//!  "relational": {"type": "sqlite", "config": {"database_path": "databases/papers.db"}},
//!  "performance": {"query_timeout": "30s", "retry_attempts": 3},
//!  "write": {"level": "quorum", "timeout": 10}}
//! ```
//!
//! # Times and sizes
//! A time is a number of seconds (whole or not) or a text with a unit: `"500ms"`, `"30s"`, `"5m"`,
//! `"2h"`, `"1d"`. A size is a number of bytes or a text: `"64KiB"`, `"512MiB"`, `"2GiB"`.
//!
//! # Environment
//! `DBMANAGER__VECTOR__CONFIG__HOST` is the key `vector.config.host`: two underscores go one level
//! down, and the name is lower-cased unless the file has the key in another case. A value that is
//! JSON (`true`, `8000`, `["a"]`, `"quoted"`) is read as JSON, any other as text; for a key that
//! holds text in the file, or a secret, the value is always text as it is.
//!
//! # Secrets
//! Under the `config` of a store or of the embedding, a key that names a secret (password, token,
//! api_key, …) or a URI may hold `{"env": "NAME"}` or `{"file": "/path"}` instead of text;
//! [`Settings::resolve_secrets`] puts the value in its place. `Debug` prints secrets as `***`.

mod environment;
mod parse;
#[cfg(test)]
mod properties;
mod redact;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

pub use settings::{
    EmbeddingSettings, HealthSettings, JournalSettings, JournalType, PerformanceSettings,
    SearchSettings, Settings, StoreSettings, WriteSettings,
};

use crate::{
    Error, ErrorKind, Result,
    backend::ServiceConfig,
    model::{CollectionOptions, Level, Role},
};

/// Reads a service's part into the service's own type. What is wrong names the key and tells no
/// secret: a password of digits without quotes is a number, which serde would name.
pub(crate) fn read_service_config<T: DeserializeOwned>(
    config: &ServiceConfig,
) -> std::result::Result<T, String> {
    serde_json::from_value(Value::Object(config.clone())).map_err(|cause| {
        let message = cause.to_string();
        match redact::told_number(config, &message) {
            Some(key) => format!("{key:?} must be text"),
            None => message,
        }
    })
}

fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

type Adjustment = Arc<dyn Fn(&mut Settings) + Send + Sync>;

/// The layers of a configuration. [`Config::settings`] merges and checks them.
#[derive(Clone, Default)]
pub struct Config {
    file: Map<String, Value>,
    environment: Vec<(String, String)>,
    code: Vec<Adjustment>,
}

impl Config {
    /// The embedded stores, their data and the journal under one directory; no server needed.
    pub fn embedded(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self::of_types("embedded", "sqlite", "sqlite")
            .adjust(move |settings| settings.data_directory = Some(directory.clone()))
    }

    /// Everything in memory, the journal too: for tests. Nothing outlives the manager.
    pub fn in_memory() -> Self {
        Self::of_types("memory", "memory", "memory")
            .adjust(|settings| settings.journal.journal_type = JournalType::Memory)
    }

    fn of_types(vector: &str, graph: &str, relational: &str) -> Self {
        let sections = [
            (Role::Vector, vector),
            (Role::Graph, graph),
            (Role::Relational, relational),
        ];
        let file = sections
            .map(|(role, service)| (role.as_str().to_owned(), json!({"type": service})))
            .into_iter()
            .collect();
        Self {
            file,
            ..Self::default()
        }
    }

    /// Reads a file; its extension says whether it is JSON (`.json`) or TOML (`.toml`).
    ///
    /// # Errors
    /// `Config`: it cannot be read, has another extension, or is not in its format.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let parse = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Self::from_json,
            Some("toml") => Self::from_toml,
            _ => {
                return Err(error(format!(
                    "the configuration file {path:?} must end in .json or .toml"
                )));
            }
        };
        let text = std::fs::read_to_string(path).map_err(|cause| {
            error(format!(
                "the configuration file {path:?} cannot be read: {cause}"
            ))
            .with_source(cause)
        })?;
        parse(&text).map_err(|cause| cause.with("file", path.display()))
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// `Config`: it is not a JSON object, or has a key twice.
    pub fn from_json(text: &str) -> Result<Self> {
        Ok(Self {
            file: parse::json(text)?,
            ..Self::default()
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// `Config`: it is not TOML.
    pub fn from_toml(text: &str) -> Result<Self> {
        Ok(Self {
            file: parse::toml(text)?,
            ..Self::default()
        })
    }

    /// Puts these variables over the file; names that do not begin with `DBMANAGER__` are not
    /// looked at.
    pub fn with_environment(
        mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.environment.extend(
            variables
                .into_iter()
                .filter(|(name, _)| name.starts_with(environment::PREFIX)),
        );
        self
    }

    /// Puts the variables of this process over the file.
    ///
    /// # Errors
    /// `Config`: a variable whose name begins with `DBMANAGER__` is not UTF-8.
    pub fn with_process_environment(self) -> Result<Self> {
        let variables = environment::of_process()?;
        Ok(self.with_environment(variables))
    }

    /// Changes the settings in code, over file and environment. Adjustments run in the order
    /// given, whenever the settings are made.
    pub fn adjust(mut self, change: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        self.code.push(Arc::new(change));
        self
    }

    /// Sets the directory of embedded stores and journal.
    pub fn data_directory(self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        self.adjust(move |settings| settings.data_directory = Some(directory.clone()))
    }

    /// Sets the store of a role, whatever file and environment say of it.
    pub fn store(self, role: Role, service: impl Into<String>, config: ServiceConfig) -> Self {
        let store = StoreSettings::new(service, config);
        self.adjust(move |settings| *settings.store_mut(role) = Some(store.clone()))
    }

    /// Disables the store of a role.
    pub fn disable(self, role: Role) -> Self {
        self.adjust(move |settings| {
            if let Some(store) = settings.store_mut(role) {
                store.enabled = false;
            }
        })
    }

    /// Sets how many stores must hold a write, and how long it waits for them.
    pub fn write(self, level: Level, timeout: Duration) -> Self {
        self.adjust(move |settings| {
            settings.write.level = level;
            settings.write.timeout = timeout;
        })
    }

    /// Sets the built-in or compiled-in embedder; `"none"` for none.
    pub fn embedding(self, embedding_type: impl Into<String>, config: ServiceConfig) -> Self {
        let embedding = EmbeddingSettings {
            embedding_type: embedding_type.into(),
            config,
        };
        self.adjust(move |settings| settings.embedding = embedding.clone())
    }

    /// Sets the options with which a collection is created.
    pub fn collection(self, name: impl Into<String>, options: CollectionOptions) -> Self {
        let name = name.into();
        self.adjust(move |settings| {
            settings.collections.insert(name.clone(), options.clone());
        })
    }

    /// Merges the layers and checks the result as a whole. References to secrets are not followed
    /// yet.
    ///
    /// # Errors
    /// `Config`: a key is unknown, a value has the wrong type or is out of range, a store has no
    /// type, or no store is enabled. The message names the key, and the variable it came from.
    pub fn settings(&self) -> Result<Settings> {
        let mut merged = self.file.clone();
        let origins = environment::merge(&mut merged, &self.environment)?;
        let mut settings = parse::settings(merged, &origins)?;
        for change in &self.code {
            change(&mut settings);
        }
        settings.validate()?;
        Ok(settings)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.settings() {
            Ok(settings) => f.debug_tuple("Config").field(&settings).finish(),
            Err(cause) => f.debug_tuple("Config").field(&cause.to_string()).finish(),
        }
    }
}
