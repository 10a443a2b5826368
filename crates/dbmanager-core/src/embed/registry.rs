//! Which embedders a configuration can name: an explicit value, no globals.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;

use super::{EmbedError, Embedder, HashingEmbedder, HashingModel};
use crate::{
    Error, ErrorKind, Result, Runtime,
    backend::ServiceConfig,
    config::{EmbeddingSettings, read_service_config},
};

/// The configuration's `type` for no embedder.
const NONE: &str = "none";

/// Opens embedders of one type.
#[async_trait]
pub trait EmbedderFactory: Send + Sync {
    /// The name under `embedding.type`.
    fn name(&self) -> &str;

    /// Opens the model of this configuration, and tries it.
    ///
    /// # Errors
    /// [`EmbedError::config`] for a wrong configuration; otherwise why the model cannot be opened.
    async fn open(
        &self,
        config: &ServiceConfig,
        runtime: &Runtime,
    ) -> Result<Arc<dyn Embedder>, EmbedError>;
}

/// The embedders this program can open; `hashing` always, and `none`.
#[derive(Clone)]
pub struct EmbedderRegistry {
    factories: BTreeMap<String, Arc<dyn EmbedderFactory>>,
    compiled_out: BTreeMap<String, &'static str>,
}

impl EmbedderRegistry {
    /// The built-in ones.
    pub fn new() -> Self {
        let mut registry = Self {
            factories: BTreeMap::new(),
            compiled_out: BTreeMap::new(),
        };
        registry.register(HashingFactory);
        registry
    }

    /// Adds an embedder; one of the same name is replaced.
    pub fn register(&mut self, factory: impl EmbedderFactory + 'static) -> &mut Self {
        self.compiled_out.remove(factory.name());
        self.factories
            .insert(factory.name().to_owned(), Arc::new(factory));
        self
    }

    /// Names an embedder that exists but is not compiled in, with the Cargo feature that brings
    /// it.
    pub fn register_compiled_out(&mut self, name: &str, feature: &'static str) -> &mut Self {
        if !self.factories.contains_key(name) {
            self.compiled_out.insert(name.to_owned(), feature);
        }
        self
    }

    /// Opens the configured embedder; `None` for the type `none`.
    ///
    /// # Errors
    /// `Config`: the type is unknown (the message lists the known ones) or compiled out (it names
    /// the feature), or its configuration is wrong. `Embedding`: the model cannot be opened.
    pub async fn open(
        &self,
        settings: &EmbeddingSettings,
        runtime: &Runtime,
    ) -> Result<Option<Arc<dyn Embedder>>> {
        let name = settings.embedding_type.as_str();
        if name == NONE {
            return match settings.config.keys().next() {
                None => Ok(None),
                Some(key) => Err(Error::new(
                    ErrorKind::Config,
                    format!("\"embedding.config.{key}\" has no meaning for the type \"none\""),
                )),
            };
        }
        if let Some(factory) = self.factories.get(name) {
            return Ok(Some(factory.open(&settings.config, runtime).await?));
        }
        let message = match self.compiled_out.get(name) {
            Some(feature) => {
                format!("the embedding type {name:?} needs the Cargo feature {feature:?}")
            }
            None => {
                let known: Vec<_> = self
                    .factories
                    .keys()
                    .map(String::as_str)
                    .chain([NONE])
                    .collect();
                format!(
                    "unknown embedding type {name:?}; known: {}",
                    known.join(", ")
                )
            }
        };
        Err(Error::new(ErrorKind::Config, message))
    }
}

impl Default for EmbedderRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for EmbedderRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedderRegistry")
            .field("known", &self.factories.keys())
            .field("compiled_out", &self.compiled_out)
            .finish()
    }
}

struct HashingFactory;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HashingConfig {
    dimension: u32,
}

impl Default for HashingConfig {
    fn default() -> Self {
        Self {
            dimension: HashingModel::DEFAULT_DIMENSION,
        }
    }
}

#[async_trait]
impl EmbedderFactory for HashingFactory {
    fn name(&self) -> &str {
        "hashing"
    }

    async fn open(
        &self,
        config: &ServiceConfig,
        runtime: &Runtime,
    ) -> Result<Arc<dyn Embedder>, EmbedError> {
        let config: HashingConfig = read_service_config(config)
            .map_err(|cause| EmbedError::config(format!("embedding.config: {cause}")))?;
        let model = HashingModel::new(config.dimension)?;
        let threads = HashingEmbedder::one_thread_per_processor();
        Ok(Arc::new(HashingEmbedder::new(
            runtime.clone(),
            model,
            threads,
        )))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn open(settings: serde_json::Value) -> Result<Option<Arc<dyn Embedder>>> {
        let json = json!({"vector": {"type": "memory"}, "embedding": settings});
        let config = crate::config::Config::from_json(&json.to_string()).unwrap();
        let settings = config.settings().unwrap().embedding;
        let mut registry = EmbedderRegistry::new();
        registry.register_compiled_out("fastembed", "fastembed");
        registry.open(&settings, &Runtime::tokio()).await
    }

    #[tokio::test]
    async fn the_configuration_names_the_embedder() {
        let embedder = open(json!({})).await.unwrap().unwrap();
        assert_eq!(
            embedder.space(),
            crate::model::EmbeddingSpace {
                model: "hashing-v1-384".to_owned(),
                dimension: 384,
                metric: crate::model::Metric::Cosine,
            }
        );
        let embedder = open(json!({"config": {"dimension": 64}})).await.unwrap();
        assert_eq!(embedder.unwrap().model(), "hashing-v1-64");
        assert!(open(json!({"type": "none"})).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_a_configuration_error() {
        for (settings, expected) in [
            (
                json!({"type": "hash"}),
                "unknown embedding type \"hash\"; known: hashing, none",
            ),
            (
                json!({"type": "fastembed"}),
                "the embedding type \"fastembed\" needs the Cargo feature \"fastembed\"",
            ),
            (
                json!({"config": {"dimensions": 64}}),
                "embedding.config: unknown field `dimensions`, expected `dimension`",
            ),
            (
                json!({"config": {"dimension": 7}}),
                "\"embedding.config.dimension\" must be 8 to 16384, found 7",
            ),
            (
                json!({"type": "none", "config": {"x": 1}}),
                "\"embedding.config.x\" has no meaning for the type \"none\"",
            ),
        ] {
            let error = open(settings).await.unwrap_err();
            assert_eq!(
                (error.kind(), error.message()),
                (ErrorKind::Config, expected)
            );
        }
    }
}
