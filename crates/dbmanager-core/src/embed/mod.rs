//! Embedders: what makes vectors of texts.
//!
//! A manager has one embedder or none. The model's name, its dimension and its metric are recorded
//! with each collection; vectors of another model are refused, even of the same dimension.
//!
//! Built in is [`HashingEmbedder`], which compares words, not meaning. A semantic model is brought
//! by an [`Embedder`] of one's own, or by one that is compiled in.

mod blocking;
mod checked;
mod hashing;
mod passage;
mod registry;

use std::{error::Error as StdError, fmt, sync::Arc};

use async_trait::async_trait;

pub use blocking::{BlockingEmbedder, BlockingModel};
pub(crate) use checked::CheckedEmbedder;
pub use hashing::{HashingEmbedder, HashingModel};
pub use passage::{EmbedDocument, PassageText, PassageVector};
pub use registry::{EmbedderFactory, EmbedderRegistry};

use crate::{
    Error, ErrorKind,
    model::{EmbeddingSpace, Metric},
};

/// What nearness of an embedder's vectors means. Decides how much weight the semantic leg has in a
/// hybrid search unless the query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EmbedderKind {
    /// Near vectors: like meaning.
    Semantic,
    /// Near vectors: like words.
    Lexical,
}

/// Makes vectors of texts. Object safe; called concurrently.
///
/// Every implementation owes:
/// - **the same text, the same vector**, whatever texts stand beside it in the call, for as long as
///   [`Embedder::model`] has the same name: vectors are kept for years and compared with new ones;
/// - **an empty vector for what it has nothing to say about**: the empty text, or a text of white
///   space and punctuation only. The document is then stored without a vector and the query finds
///   nothing by vectors. Never a zero vector, whose scores mean nothing;
/// - **no substitute**: a model that fails is an error.
#[async_trait]
pub trait Embedder: Send + Sync + fmt::Debug {
    /// The model with everything that changes its vectors: another name, another space.
    fn model(&self) -> &str;

    /// Numbers per vector, at least 1; does not change.
    fn dimension(&self) -> u32;

    /// How its vectors are compared.
    fn metric(&self) -> Metric {
        Metric::Cosine
    }

    /// What nearness means.
    fn kind(&self) -> EmbedderKind;

    /// One vector per text, in order: of [`Embedder::dimension`] finite numbers, or empty. No texts
    /// give no vectors.
    ///
    /// # Errors
    /// The model failed: for all texts, none is embedded.
    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// The vectors of each document, in order: one of the whole, or, from an embedder whose model
    /// sees only so much of a text at once, one for each passage, in order of the text and together
    /// covering all of it. The default embeds [`EmbedDocument::joined`] as one text.
    ///
    /// # Errors
    /// The model failed: for all documents, none is embedded.
    async fn embed_passages(
        &self,
        documents: Vec<EmbedDocument>,
    ) -> Result<Vec<Vec<PassageVector>>, EmbedError> {
        let texts = documents.iter().map(EmbedDocument::joined).collect();
        let vectors = self.embed_documents(texts).await?;
        let whole = |values| vec![PassageVector::whole(values)];
        Ok(vectors.into_iter().map(whole).collect())
    }

    /// The vector of a query, or an empty one.
    ///
    /// # Errors
    /// The model failed.
    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>, EmbedError>;

    /// The space its vectors are in.
    fn space(&self) -> EmbeddingSpace {
        EmbeddingSpace {
            model: self.model().to_owned(),
            dimension: self.dimension(),
            metric: self.metric(),
        }
    }
}

/// An embedder could not be opened, or failed.
#[derive(Clone, Debug)]
pub struct EmbedError {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl EmbedError {
    /// The model failed. `message`: lower case, no full stop, no text of a document.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Embedding,
            message: message.into(),
            retryable: false,
            source: None,
        }
    }

    /// The embedder's configuration is wrong; the message names the key.
    pub fn config(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Config,
            ..Self::new(message)
        }
    }

    /// Says that the same call may succeed later.
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Adds the cause.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for EmbedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<EmbedError> for Error {
    fn from(error: EmbedError) -> Self {
        let public = Error::new(error.kind, error.message).with_retryable(error.retryable);
        match error.source {
            Some(source) => public.with_source(source),
            None => public,
        }
    }
}
