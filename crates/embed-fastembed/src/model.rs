//! The model behind the blocking embedder.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use dbmanager_core::embed::{BlockingModel, EmbedDocument, EmbedError, EmbedderKind, PassageText};
use fastembed::{
    InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use sha2::{Digest, Sha256};

use crate::{
    config::{FastembedConfig, ModelFiles, PoolingMethod},
    passages::Splitter,
};

pub(crate) struct FastembedModel {
    name: String,
    dimension: u32,
    document_prefix: String,
    query_prefix: String,
    batch_size: usize,
    splitter: Splitter,
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
        let session = session(config, files)?;
        let splitter = Splitter::new(
            &session.tokenizer,
            &config.document_prefix,
            config.chunk_overlap,
        )?;
        let mut model = Self {
            name,
            dimension: 0,
            document_prefix: config.document_prefix.clone(),
            query_prefix: config.query_prefix.clone(),
            batch_size: config.batch_size,
            splitter,
            session: Mutex::new(session),
        };
        let tried = model.embed(&["probe"])?.pop().unwrap_or_default();
        model.dimension = u32::try_from(tried.len())
            .ok()
            .filter(|dimension| *dimension > 0)
            .ok_or_else(|| EmbedError::config("the model answers empty vectors"))?;
        Ok(model)
    }

    /// A vector for each text, an empty one for what has neither letter nor digit.
    fn embed_prefixed<T: AsRef<str>>(
        &self,
        prefix: &str,
        texts: &[T],
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let says = |text: &T| text.as_ref().chars().any(char::is_alphanumeric);
        let prefixed: Vec<_> = texts
            .iter()
            .filter(|text| says(text))
            .map(|text| format!("{prefix}{}", text.as_ref()))
            .collect();
        let mut vectors = self.embed(&prefixed)?.into_iter();
        let lost = || EmbedError::new("the model answered too few vectors");
        texts
            .iter()
            .map(|text| match says(text) {
                true => vectors.next().ok_or_else(lost),
                false => Ok(Vec::new()),
            })
            .collect()
    }

    fn embed<T: AsRef<str> + Send + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        // A panic inside leaves nothing half changed that the next call would read.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session
            .embed(texts, Some(self.batch_size))
            .map_err(|cause| EmbedError::new(format!("the model failed: {cause}")))
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
        one(self.embed_prefixed(&self.document_prefix, &[text])?)
    }

    fn embed_documents(&self, texts: &[Arc<str>]) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.embed_prefixed(&self.document_prefix, texts)
    }

    fn passages(&self, document: &EmbedDocument) -> Result<Vec<PassageText>, EmbedError> {
        self.splitter.split(document)
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>, EmbedError> {
        one(self.embed_prefixed(&self.query_prefix, &[text])?)
    }
}

fn one(mut vectors: Vec<Vec<f32>>) -> Result<Vec<f32>, EmbedError> {
    vectors
        .pop()
        .ok_or_else(|| EmbedError::new("the model answered no vector"))
}
