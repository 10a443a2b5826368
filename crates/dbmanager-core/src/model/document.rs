//! What a caller stores: a document, its references and, if the caller has them, its vectors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Timestamp;

/// Metadata of a document: any JSON under each key.
pub type Metadata = serde_json::Map<String, Value>;

/// A document, all of it in the caller's hands. The library never changes it.
///
/// Ids are compared byte for byte: ids that differ by case, Unicode form or trailing space are
/// different ids.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Document {
    /// 1 to 512 bytes, without NUL.
    pub id: String,
    /// One line that names the document; may be empty. Searched as text and by the graph.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The body, at most 16 MiB; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// What kind of document this is, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_type: Option<String>,
    /// When the document was made, in the caller's view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Where the document came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    /// Any JSON, at most 128 levels deep.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Outgoing typed edges. A write replaces all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// Vectors the caller has computed, as a whole set. Empty: the embedder computes one from
    /// title and text, if the manager has an embedder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<DocumentVector>,
}

impl Document {
    /// An empty document with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// Sets the title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets the text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// Sets the document type.
    pub fn document_type(mut self, document_type: impl Into<String>) -> Self {
        self.document_type = Some(document_type.into());
        self
    }

    /// Sets the created date.
    pub fn created_at(mut self, created_at: Timestamp) -> Self {
        self.created_at = Some(created_at);
        self
    }

    /// Sets the file path.
    pub fn file_path(mut self, file_path: impl Into<String>) -> Self {
        self.file_path = Some(file_path.into());
        self
    }

    /// Sets one metadata value; a value already under that key is replaced.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds references; a plain id refers to a document of the same collection with the kind
    /// [`Reference::DEFAULT_KIND`].
    pub fn references<R: Into<Reference>>(
        mut self,
        references: impl IntoIterator<Item = R>,
    ) -> Self {
        self.references
            .extend(references.into_iter().map(Into::into));
        self
    }

    /// Adds one vector for the whole document.
    pub fn vector(mut self, values: impl Into<Vec<f32>>) -> Self {
        self.vectors.push(DocumentVector {
            values: values.into(),
            passage: None,
        });
        self
    }

    /// Adds the vector of one passage.
    pub fn passage_vector(mut self, passage: Passage, values: impl Into<Vec<f32>>) -> Self {
        self.vectors.push(DocumentVector {
            values: values.into(),
            passage: Some(passage),
        });
        self
    }
}

/// A typed edge from the document that holds it to another document.
///
/// The target need not exist: the edge shows as soon as both ends are live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reference {
    /// The collection of the target; absent: the collection of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The id of the target.
    pub target: String,
    /// The type of the edge.
    #[serde(default = "default_kind")]
    pub kind: String,
    /// Any JSON about the edge.
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub properties: Metadata,
}

fn default_kind() -> String {
    Reference::DEFAULT_KIND.to_owned()
}

impl Reference {
    /// The kind of a reference that names none.
    pub const DEFAULT_KIND: &'static str = "references";

    /// A reference to a document of the same collection.
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            collection: None,
            target: target.into(),
            kind: default_kind(),
            properties: Metadata::new(),
        }
    }

    /// Sets the collection of the target.
    pub fn collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = Some(collection.into());
        self
    }

    /// Sets the type of the edge.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Sets one property of the edge.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }
}

impl From<&str> for Reference {
    fn from(target: &str) -> Self {
        Self::new(target)
    }
}

impl From<String> for Reference {
    fn from(target: String) -> Self {
        Self::new(target)
    }
}

/// A byte range of the document's text, `start` inclusive and `end` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Passage {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// One vector of a document, of the whole or of a passage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentVector {
    /// Finite numbers, as many as the collection's dimension.
    pub values: Vec<f32>,
    /// The part of the text that the vector stands for; absent: the whole document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passage: Option<Passage>,
}
