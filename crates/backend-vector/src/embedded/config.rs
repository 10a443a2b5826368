//! The configuration of the service `embedded` and where its file is.

use std::{fmt, path::PathBuf, time::Duration};

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, OpenContext, ServiceConfig,
        parse_service_config,
    },
    model::Role,
};
use serde::{Deserialize, Deserializer, de};

use super::SERVICE;

const DEFAULT_FILE: &str = "vector.db";
const DEFAULT_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What stands under `config`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    database_path: Option<PathBuf>,
    #[serde(deserialize_with = "duration")]
    busy_timeout: Option<Duration>,
    hnsw_threshold: Option<usize>,
    hnsw_connectivity: Option<usize>,
    hnsw_expansion_add: Option<usize>,
    hnsw_expansion_search: Option<usize>,
}

/// The settings of the approximate index.
#[cfg(feature = "hnsw")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HnswOptions {
    /// Vectors of a collection from which on it has an index.
    pub(super) threshold: usize,
    /// Links per vector and layer (M).
    pub(super) connectivity: usize,
    /// Candidates looked at when a vector is added (efConstruction).
    pub(super) expansion_add: usize,
    /// Candidates looked at in a search (ef).
    pub(super) expansion_search: usize,
}

impl Config {
    pub(super) fn parse(config: &ServiceConfig) -> BackendResult<Self> {
        let parsed: Self = parse_service_config(Role::Vector, SERVICE, config)?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> BackendResult<()> {
        let settings = [
            ("hnsw_threshold", self.hnsw_threshold, 1..=usize::MAX),
            ("hnsw_connectivity", self.hnsw_connectivity, 2..=512),
            ("hnsw_expansion_add", self.hnsw_expansion_add, 1..=65_536),
            (
                "hnsw_expansion_search",
                self.hnsw_expansion_search,
                1..=65_536,
            ),
        ];
        for (key, value, range) in settings {
            let Some(value) = value else { continue };
            if !cfg!(feature = "hnsw") {
                return Err(wrong(format!("{key} needs the Cargo feature \"hnsw\"")));
            }
            if !range.contains(&value) {
                return Err(wrong(format!(
                    "{key} is {value}, which is not in {} to {}",
                    range.start(),
                    range.end()
                )));
            }
        }
        if self
            .database_path
            .as_ref()
            .is_some_and(|path| path.as_os_str().is_empty())
        {
            return Err(wrong("database_path is empty"));
        }
        Ok(())
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        self.busy_timeout.unwrap_or(DEFAULT_BUSY_TIMEOUT)
    }

    #[cfg(feature = "hnsw")]
    pub(super) fn hnsw(&self) -> HnswOptions {
        HnswOptions {
            threshold: self.hnsw_threshold.unwrap_or(20_000),
            connectivity: self.hnsw_connectivity.unwrap_or(16),
            expansion_add: self.hnsw_expansion_add.unwrap_or(128),
            expansion_search: self.hnsw_expansion_search.unwrap_or(64),
        }
    }

    /// The path of the file, absolute, so that two spellings of one place are one text.
    pub(super) fn path(&self, context: &OpenContext) -> BackendResult<PathBuf> {
        let path = match (&self.database_path, &context.data_directory) {
            (Some(path), _) => path.clone(),
            (None, Some(directory)) => directory.join(DEFAULT_FILE),
            (None, None) => {
                return Err(wrong(
                    "database_path is missing, and there is no data directory",
                ));
            }
        };
        std::path::absolute(&path)
            .map_err(|error| wrong(format!("database_path {}: {error}", path.display())))
    }
}

fn wrong(message: impl fmt::Display) -> BackendError {
    BackendError::new(
        BackendErrorKind::Config,
        format!("vector.config of the service {SERVICE:?}: {message}"),
    )
    .not_applied()
}

/// Seconds, or a text such as `"500ms"` or `"5s"`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("seconds, or a text such as \"500ms\" or \"5s\"")
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            Ok(Duration::from_secs(seconds))
        }

        fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Duration, E> {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| E::invalid_value(de::Unexpected::Float(seconds), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
                (Some(number), _) => number.trim().parse().map(Duration::from_millis),
                (None, Some(number)) => number.trim().parse().map(Duration::from_secs),
                (None, None) => text.trim().parse().map(Duration::from_secs),
            };
            parsed.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Visitor).map(Some)
}

#[cfg(test)]
mod tests {
    use dbmanager_core::Runtime;
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> BackendResult<Config> {
        Config::parse(value.as_object().unwrap())
    }

    #[test]
    fn times_are_seconds_or_texts() {
        for (value, expected) in [
            (json!(2), 2_000),
            (json!(0.25), 250),
            (json!("500ms"), 500),
            (json!("3s"), 3_000),
        ] {
            let config = parse(json!({ "busy_timeout": value })).unwrap();
            assert_eq!(config.busy_timeout(), Duration::from_millis(expected));
        }
        assert_eq!(
            parse(json!({})).unwrap().busy_timeout(),
            DEFAULT_BUSY_TIMEOUT
        );
    }

    #[test]
    fn wrong_settings_are_named() {
        for (value, name) in [
            (json!({"hnsw_treshold": 5}), "hnsw_treshold"),
            (json!({"busy_timeout": "soon"}), "soon"),
            (json!({"busy_timeout": -1.0}), "-1"),
            (json!({"hnsw_connectivity": 1}), "hnsw_connectivity"),
            (json!({"database_path": ""}), "database_path"),
        ] {
            let error = parse(value).unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Config);
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[tokio::test]
    async fn the_default_file_is_in_the_data_directory() {
        let context = OpenContext::new(Runtime::tokio());
        let config = parse(json!({})).unwrap();
        assert_eq!(
            config.path(&context).unwrap_err().kind(),
            BackendErrorKind::Config
        );
        let context = context.data_directory("/data");
        assert_eq!(
            config.path(&context).unwrap(),
            PathBuf::from("/data/vector.db")
        );
        let own = parse(json!({"database_path": "/elsewhere/v.db"})).unwrap();
        assert_eq!(
            own.path(&context).unwrap(),
            PathBuf::from("/elsewhere/v.db")
        );
    }
}
