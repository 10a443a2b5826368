//! Collections: what the journal's catalogue records about each.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How near two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Metric {
    /// Cosine similarity; the score is in −1 to 1. A zero vector has similarity 0 to everything.
    #[default]
    Cosine,
    /// Inner product; the score is the product.
    Dot,
    /// Euclidean distance; the score is its negative, so that a higher score is nearer.
    Euclidean,
}

impl Metric {
    /// The score of two vectors of equal length; higher is nearer.
    ///
    /// This is the definition that adapters are tested against, in `f64`.
    pub fn score(self, left: &[f32], right: &[f32]) -> f64 {
        let pairs = || {
            left.iter()
                .zip(right)
                .map(|(a, b)| (f64::from(*a), f64::from(*b)))
        };
        let dot = || pairs().map(|(a, b)| a * b).sum::<f64>();
        match self {
            Metric::Dot => dot(),
            Metric::Euclidean => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            Metric::Cosine => {
                let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                let product = norm(left) * norm(right);
                if product == 0.0 {
                    0.0
                } else {
                    (dot() / product).clamp(-1.0, 1.0)
                }
            }
        }
    }
}

/// Where vectors come from; vectors of different spaces are never compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    /// The name of the model that made the vectors; [`EmbeddingSpace::CALLER`] where the caller
    /// supplies them without naming one.
    pub model: String,
    /// Numbers per vector.
    pub dimension: u32,
    /// How two vectors are compared.
    pub metric: Metric,
}

impl EmbeddingSpace {
    /// The model name of vectors whose model the caller did not name.
    pub const CALLER: &'static str = "caller";
}

/// How full text is cut into terms. Recorded with the collection; another one needs a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tokenizer {
    /// Unicode words, English stemming (Porter).
    #[default]
    English,
    /// Unicode words as they are, case and diacritics folded.
    Unicode,
    /// Runs of three characters, for languages without spaces; queries need at least three.
    Trigram,
}

/// Options of a collection, fixed at its creation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct CollectionOptions {
    /// How full text is cut into terms.
    pub tokenizer: Tokenizer,
    /// The embedding space; absent: the manager's embedder decides, or else the first vector that
    /// is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_space: Option<EmbeddingSpace>,
}

impl CollectionOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// These options after `asked` were asked for where they are held: an embedding space may be
    /// filled in, and a request from before it was filled in takes nothing away. `None` if the two
    /// disagree.
    pub fn filled_in(&self, asked: &Self) -> Option<Self> {
        let mut held = self.clone();
        let mut asked = asked.clone();
        if held.embedding_space.is_none() {
            held.embedding_space.clone_from(&asked.embedding_space);
        }
        if asked.embedding_space.is_none() {
            asked.embedding_space.clone_from(&held.embedding_space);
        }
        (held == asked).then_some(held)
    }

    /// Sets the tokenizer.
    pub fn tokenizer(mut self, tokenizer: Tokenizer) -> Self {
        self.tokenizer = tokenizer;
        self
    }

    /// Sets the embedding space.
    pub fn embedding_space(
        mut self,
        model: impl Into<String>,
        dimension: u32,
        metric: Metric,
    ) -> Self {
        self.embedding_space = Some(EmbeddingSpace {
            model: model.into(),
            dimension,
            metric,
        });
        self
    }
}

/// A collection's name with its generation. A collection that was dropped and created again has a
/// higher generation, and nothing of the old one can show in the new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CollectionKey {
    /// The name, 1 to 255 bytes without NUL.
    pub name: Arc<str>,
    /// Counts up with every creation in one journal.
    pub generation: u64,
}

impl CollectionKey {
    /// The key with this name and generation.
    pub fn new(name: impl Into<Arc<str>>, generation: u64) -> Self {
        Self {
            name: name.into(),
            generation,
        }
    }
}

impl std::fmt::Display for CollectionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} (generation {})", self.name, self.generation)
    }
}

/// A live collection as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Name and generation.
    pub key: CollectionKey,
    /// The options, with the embedding space filled in once it is known.
    pub options: CollectionOptions,
}
