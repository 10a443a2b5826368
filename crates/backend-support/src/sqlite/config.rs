//! The part of the configuration that every store in one SQLite file has.

use std::{path::PathBuf, time::Duration};

use dbmanager_core::backend::{BackendError, BackendErrorKind, BackendResult, OpenContext};
use serde::{Deserialize, Deserializer, de};

use super::{DatabaseOptions, file};

/// The keys `database_path`, `enable_wal` and `busy_timeout`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file; absent: the store's own name in the data directory.
    pub database_path: Option<PathBuf>,
    /// Whether SQLite keeps a write-ahead log. Without one it keeps a rollback journal, which is
    /// slower but works where the log's shared memory does not.
    pub enable_wal: bool,
    /// How long a statement waits for a lock that another program holds on the file: seconds, or
    /// text such as `"500ms"`.
    #[serde(deserialize_with = "duration")]
    pub busy_timeout: Duration,
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            database_path: None,
            enable_wal: true,
            busy_timeout: DatabaseOptions::DEFAULT_BUSY_TIMEOUT,
        }
    }
}

impl FileConfig {
    /// Where the file is.
    ///
    /// # Errors
    /// `Config` if neither `database_path` nor a data directory is given.
    pub fn path(&self, context: &OpenContext, default_name: &str) -> BackendResult<PathBuf> {
        let path = match (&self.database_path, &context.data_directory) {
            (Some(path), _) => path.clone(),
            (None, Some(directory)) => directory.join(default_name),
            (None, None) => {
                return Err(config_error(
                    "database_path is missing, and there is no data directory",
                ));
            }
        };
        if path.file_name().is_none() {
            return Err(config_error("database_path names no file"));
        }
        Ok(path)
    }

    /// The same text for every way of writing the same path, as far as the file system can tell.
    ///
    /// # Errors
    /// As [`FileConfig::path`].
    pub fn location(&self, context: &OpenContext, default_name: &str) -> BackendResult<String> {
        let path = self.path(context, default_name)?;
        Ok(format!("file {}", file::resolved(&path).display()))
    }

    /// How to open the file.
    pub fn options(&self, context: &OpenContext) -> DatabaseOptions {
        DatabaseOptions::new()
            .readers(context.pool_size)
            .write_ahead_log(self.enable_wal)
            .busy_timeout(self.busy_timeout)
    }
}

fn config_error(message: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Config, message).not_applied()
}

/// Seconds as a number, or a number with one of the units `ms`, `s`, `m`, `h`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Seconds(f64),
        Text(String),
    }
    let given = Given::deserialize(deserializer)
        .map_err(|_| de::Error::custom("expected seconds or text such as \"500ms\""))?;
    let (number, factor) = match &given {
        Given::Seconds(seconds) => (Some(*seconds), 1.0),
        Given::Text(text) => {
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let factor = match &text[digits.len()..] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => f64::NAN,
            };
            (digits.trim().parse::<f64>().ok(), factor)
        }
    };
    number
        .and_then(|number| Duration::try_from_secs_f64(number * factor).ok())
        .ok_or_else(|| de::Error::custom("expected seconds or text such as \"500ms\""))
}
