//! The model behind the blocking embedder.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use dbmanager_core::embed::{BlockingModel, EmbedError, EmbedderKind};
use fastembed::{
    InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use sha2::{Digest, Sha256};

use crate::config::{FastembedConfig, ModelFiles, PoolingMethod};

pub(crate) struct FastembedModel {
    name: String,
    dimension: u32,
    document_prefix: String,
    query_prefix: String,
    session: Mutex<TextEmbedding>,
}

impl FastembedModel {
    /// Loads the library and the model, and tries the model, which also tells its dimension.
    pub(crate) fn open(config: &FastembedConfig) -> Result<Self, EmbedError> {
        let library = config.runtime_library()?;
        let files = config.read_files()?;
        let name = full_name(config, &files);
        // Only loads; the environment is made with the first session.
        let _environment = ort::init_from(&library).map_err(|cause| {
            EmbedError::config(format!(
                "the ONNX Runtime library {library:?} cannot be loaded: {cause}"
            ))
        })?;
        let mut model = Self {
            name,
            dimension: 0,
            document_prefix: config.document_prefix.clone(),
            query_prefix: config.query_prefix.clone(),
            session: Mutex::new(session(config, files)?),
        };
        let tried = model.embed("probe".to_owned())?;
        model.dimension = u32::try_from(tried.len())
            .ok()
            .filter(|dimension| *dimension > 0)
            .ok_or_else(|| EmbedError::config("the model answers empty vectors"))?;
        Ok(model)
    }

    fn embed_prefixed(&self, prefix: &str, text: &str) -> Result<Vec<f32>, EmbedError> {
        if !text.chars().any(char::is_alphanumeric) {
            return Ok(Vec::new());
        }
        self.embed(format!("{prefix}{text}"))
    }

    fn embed(&self, text: String) -> Result<Vec<f32>, EmbedError> {
        // A panic inside leaves nothing half changed that the next call would read.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vectors = session
            .embed([text], Some(1))
            .map_err(|cause| EmbedError::new(format!("the model failed: {cause}")))?;
        vectors
            .pop()
            .ok_or_else(|| EmbedError::new("the model answered no vector"))
    }
}

fn session(config: &FastembedConfig, files: ModelFiles) -> Result<TextEmbedding, EmbedError> {
    let tokenizer_files = TokenizerFiles {
        tokenizer_file: files.tokenizer,
        config_file: files.config,
        special_tokens_map_file: files.special_tokens_map,
        tokenizer_config_file: files.tokenizer_config,
    };
    let pooling = match config.pooling {
        PoolingMethod::Mean => Pooling::Mean,
        PoolingMethod::Cls => Pooling::Cls,
    };
    let model = UserDefinedEmbeddingModel::new(files.model, tokenizer_files).with_pooling(pooling);
    let mut options = InitOptionsUserDefined::new().with_max_length(config.max_length);
    if let Some(threads) = config.threads {
        options = options.with_intra_threads(threads);
    }
    TextEmbedding::try_new_from_user_defined(model, options)
        .map_err(|cause| EmbedError::config(format!("the model cannot be opened: {cause}")))
}

/// The name with a hash of all that changes the vectors.
fn full_name(config: &FastembedConfig, files: &ModelFiles) -> String {
    let mut hash = Sha256::new();
    for part in [
        &files.model,
        &files.tokenizer,
        &files.config,
        &files.special_tokens_map,
        &files.tokenizer_config,
        format!("{:?} {}", config.pooling, config.max_length).as_bytes(),
        config.document_prefix.as_bytes(),
        config.query_prefix.as_bytes(),
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest: String = hash.finalize()[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("fastembed-{}-{digest}", config.short_name())
}

impl fmt::Debug for FastembedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastembedModel")
            .field("name", &self.name)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

impl BlockingModel for FastembedModel {
    fn model(&self) -> &str {
        &self.name
    }

    fn dimension(&self) -> u32 {
        self.dimension
    }

    fn kind(&self) -> EmbedderKind {
        EmbedderKind::Semantic
    }

    fn embed_document(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        self.embed_prefixed(&self.document_prefix, text)
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        self.embed_prefixed(&self.query_prefix, text)
    }
}
