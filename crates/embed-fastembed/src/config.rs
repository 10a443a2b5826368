//! The section `embedding.config`, with every path looked at.

use std::path::{Path, PathBuf};

use dbmanager_core::{backend::ServiceConfig, embed::EmbedError};
use serde::Deserialize;

const RUNTIME_VARIABLE: &str = "ORT_DYLIB_PATH";

/// How the vectors of the tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PoolingMethod {
    #[default]
    Mean,
    Cls,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FastembedConfig {
    pub(crate) model: PathBuf,
    #[serde(default)]
    pub(crate) tokenizer_directory: Option<PathBuf>,
    #[serde(default)]
    pub(crate) runtime_path: Option<PathBuf>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) pooling: PoolingMethod,
    #[serde(default = "default_max_length")]
    pub(crate) max_length: usize,
    #[serde(default = "default_chunk_overlap")]
    pub(crate) chunk_overlap: usize,
    #[serde(default = "default_batch_size")]
    pub(crate) batch_size: usize,
    #[serde(default)]
    pub(crate) document_prefix: String,
    #[serde(default)]
    pub(crate) query_prefix: String,
    #[serde(default)]
    pub(crate) threads: Option<usize>,
}

fn default_max_length() -> usize {
    256
}

fn default_chunk_overlap() -> usize {
    32
}

fn default_batch_size() -> usize {
    1
}

/// The files of a model, read.
pub(crate) struct ModelFiles {
    pub(crate) model: Vec<u8>,
    pub(crate) tokenizer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) special_tokens_map: Vec<u8>,
    pub(crate) tokenizer_config: Vec<u8>,
}

impl FastembedConfig {
    pub(crate) fn parse(config: &ServiceConfig) -> Result<Self, EmbedError> {
        let config: Self = serde_json::from_value(serde_json::Value::Object(config.clone()))
            .map_err(|cause| EmbedError::config(format!("embedding.config: {cause}")))?;
        for (key, number) in [
            ("max_length", Some(config.max_length)),
            ("batch_size", Some(config.batch_size)),
            ("threads", config.threads),
        ] {
            if number == Some(0) {
                return Err(EmbedError::config(format!(
                    "\"embedding.config.{key}\" must be at least 1"
                )));
            }
        }
        Ok(config)
    }

    /// The name the model goes by, without what tells it from others of that name.
    pub(crate) fn short_name(&self) -> String {
        let directory = || self.model.parent()?.file_name()?.to_str();
        match (&self.name, directory()) {
            (Some(name), _) => name.clone(),
            (None, Some(directory)) => directory.to_owned(),
            (None, None) => "model".to_owned(),
        }
    }

    /// The ONNX Runtime library, which is there: the loader itself would panic, or search the
    /// system for another one.
    pub(crate) fn runtime_library(&self) -> Result<PathBuf, EmbedError> {
        let (path, from) = match (&self.runtime_path, std::env::var_os(RUNTIME_VARIABLE)) {
            (Some(path), _) => (path.clone(), "\"embedding.config.runtime_path\""),
            (None, Some(path)) => (PathBuf::from(path), RUNTIME_VARIABLE),
            (None, None) => {
                return Err(EmbedError::config(format!(
                    "\"embedding.config.runtime_path\" is missing, and {RUNTIME_VARIABLE} is not set: \
                     one of them names the ONNX Runtime library"
                )));
            }
        };
        let absolute = path.canonicalize().map_err(|cause| {
            EmbedError::config(format!(
                "{from}: the ONNX Runtime library {path:?} cannot be found: {cause}"
            ))
            .with_source(cause)
        })?;
        if !absolute.is_file() {
            return Err(EmbedError::config(format!(
                "{from}: {path:?} is not a file"
            )));
        }
        Ok(absolute)
    }

    pub(crate) fn read_files(&self) -> Result<ModelFiles, EmbedError> {
        let beside_model = || self.model.parent().unwrap_or(Path::new(""));
        let directory = match &self.tokenizer_directory {
            Some(directory) => directory.as_path(),
            None => beside_model(),
        };
        let tokenizer_file = |name| read("tokenizer_directory", &directory.join(name));
        Ok(ModelFiles {
            model: read("model", &self.model)?,
            tokenizer: tokenizer_file("tokenizer.json")?,
            config: tokenizer_file("config.json")?,
            special_tokens_map: tokenizer_file("special_tokens_map.json")?,
            tokenizer_config: tokenizer_file("tokenizer_config.json")?,
        })
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, EmbedError> {
    std::fs::read(path).map_err(|cause| {
        EmbedError::config(format!(
            "\"embedding.config.{key}\": the file {path:?} cannot be read: {cause}"
        ))
        .with_source(cause)
    })
}
