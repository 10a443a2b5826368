//! A document for an embedder, and the vectors of its passages.

use std::sync::Arc;

use crate::model::Passage;

/// What an embedder is given of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedDocument {
    /// The title; may be empty.
    pub title: Arc<str>,
    /// The text; may be empty.
    pub text: Arc<str>,
}

impl EmbedDocument {
    /// A document with this title and text.
    pub fn new(title: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self {
            title: title.into(),
            text: text.into(),
        }
    }

    /// The title on a line of its own, then the text; an empty one of them leaves no line.
    pub fn joined(&self) -> Arc<str> {
        match (self.title.is_empty(), self.text.is_empty()) {
            (false, false) => format!("{}\n{}", self.title, self.text).into(),
            (false, true) => Arc::clone(&self.title),
            _ => Arc::clone(&self.text),
        }
    }
}

/// A text to embed, with the part of the document that its vector stands for; absent: the whole.
pub type PassageText = (Option<Passage>, Arc<str>);

/// The vector of a document, or of a passage of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PassageVector {
    /// The part of the text that the vector stands for; absent: the whole document.
    pub passage: Option<Passage>,
    /// The numbers; empty if there is nothing to say about it.
    pub values: Vec<f32>,
}

impl PassageVector {
    /// The vector of a whole document.
    pub fn whole(values: Vec<f32>) -> Self {
        Self {
            passage: None,
            values,
        }
    }

    /// The vector of a passage.
    pub fn of(passage: Option<Passage>, values: Vec<f32>) -> Self {
        Self { passage, values }
    }
}
