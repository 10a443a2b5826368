//! Embedders.
use std::sync::Arc;
use async_trait::async_trait;
use crate::model::Metric;
/// Kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedderKind {
    /// Semantic.
    Semantic,
    /// Lexical.
    Lexical,
}
/// Error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct EmbedError(pub String);
/// Embedder.
#[async_trait]
pub trait Embedder: Send + Sync + std::fmt::Debug {
    /// model
    fn model(&self) -> &str;
    /// dimension
    fn dimension(&self) -> u32;
    /// metric
    fn metric(&self) -> Metric;
    /// kind
    fn kind(&self) -> EmbedderKind;
    /// documents
    async fn embed_documents(&self, texts: Vec<Arc<str>>) -> Result<Vec<Vec<f32>>, EmbedError>;
    /// query
    async fn embed_query(&self, text: Arc<str>) -> Result<Vec<f32>, EmbedError>;
}
