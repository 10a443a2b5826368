//! A document as the journal and the stores carry it, and the content hashes over it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Document, DocumentVector, Passage, Reference, Role, Version};

/// Who computed the vectors of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VectorOrigin {
    /// The caller supplied them; they are part of the document.
    Caller,
    /// The manager's embedder computed them from title and text.
    Embedder,
}

/// One vector of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChunkVector {
    /// The number of the chunk, from 0.
    pub chunk: u32,
    /// The part of the text that it stands for; absent: the whole document.
    pub passage: Option<Passage>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// All vectors of one version of a document. Empty: the document has no vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorSet {
    /// Who computed them.
    pub origin: VectorOrigin,
    /// SHA-256 of the text that the embedder saw, so that unchanged text is not embedded again.
    pub text_hash: Option<[u8; 32]>,
    /// The vectors, by chunk number.
    pub vectors: Vec<ChunkVector>,
}

impl VectorSet {
    /// The set without vectors.
    pub fn empty() -> Self {
        Self {
            origin: VectorOrigin::Caller,
            text_hash: None,
            vectors: Vec::new(),
        }
    }

    /// The bytes in which a store may keep the set (postcard).
    ///
    /// # Errors
    /// Never for a set made by this library.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        postcard::to_stdvec(self).map_err(|e| RecordError(e.to_string()))
    }

    /// The set kept in these bytes.
    ///
    /// # Errors
    /// The bytes are not such a set: the store is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        postcard::from_bytes(bytes).map_err(|e| RecordError(e.to_string()))
    }
}

/// Bytes that should hold a document or its vectors do not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a document record: {0}")]
pub struct RecordError(String);

/// A document with its exact canonical bytes and its vectors: what is journaled, what every store
/// is handed, what repair and rebuild copy. Immutable; handed around behind [`Arc`].
#[derive(Clone, PartialEq)]
pub struct DocumentRecord {
    canonical: Arc<[u8]>,
    document: Document,
    vectors: VectorSet,
}

impl DocumentRecord {
    /// The record of a document with the vectors to store for it.
    ///
    /// Vectors that the caller put on the document are moved into the set by the write route
    /// beforehand: `document.vectors` is not part of the canonical bytes.
    ///
    /// # Errors
    /// The document cannot be written as JSON (never for a [`Document`] built in memory).
    pub fn new(mut document: Document, vectors: VectorSet) -> Result<Self, RecordError> {
        document.vectors = Vec::new();
        let canonical = serde_json::to_vec(&document).map_err(|e| RecordError(e.to_string()))?;
        Ok(Self {
            canonical: canonical.into(),
            document,
            vectors,
        })
    }

    /// The record whose canonical bytes and vectors a store has kept.
    ///
    /// # Errors
    /// The bytes are not a document: the store is damaged.
    pub fn from_parts(canonical: &[u8], vectors: VectorSet) -> Result<Self, RecordError> {
        let document = serde_json::from_slice(canonical).map_err(|e| RecordError(e.to_string()))?;
        Ok(Self {
            canonical: canonical.into(),
            document,
            vectors,
        })
    }

    /// The exact bytes of the document (JSON, without vectors).
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The document without vectors.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// The vectors to store.
    pub fn vectors(&self) -> &VectorSet {
        &self.vectors
    }

    /// The document as its caller handed it in: with the vectors the caller supplied.
    pub fn to_document(&self) -> Document {
        let mut document = self.document.clone();
        if self.vectors.origin == VectorOrigin::Caller {
            document.vectors = self
                .vectors
                .vectors
                .iter()
                .map(|v| DocumentVector {
                    values: v.values.clone(),
                    passage: v.passage,
                })
                .collect();
        }
        document
    }

    /// What a store of this role must hold for this record, as a hash. Adapters compute the same
    /// hash with the functions of [`ContentHash`] over what they read back.
    pub fn content_hash(&self, collection: &str, role: Role) -> ContentHash {
        match role {
            Role::Relational => ContentHash::of_relational(&self.canonical, &self.vectors),
            Role::Graph => ContentHash::of_graph(
                collection,
                &self.document.title,
                self.document.document_type.as_deref(),
                self.document.references.iter(),
            ),
            Role::Vector => ContentHash::of_vectors(self.vectors.vectors.iter()),
        }
    }
}

impl fmt::Debug for DocumentRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentRecord")
            .field("id", &self.document.id)
            .field("bytes", &self.canonical.len())
            .field("vectors", &self.vectors.vectors.len())
            .finish()
    }
}

/// SHA-256 over the canonical projection of a document in one role. Recomputed from what was read
/// back from the store, never a stored label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The hash of a tombstone, in every role.
    pub const TOMBSTONE: ContentHash = ContentHash([0; 32]);

    /// Relational: the exact bytes of the document and the stored vectors.
    pub fn of_relational(canonical: &[u8], vectors: &VectorSet) -> Self {
        let mut hash = Hasher::new(b"relational");
        hash.bytes(canonical);
        hash.bytes(&[match vectors.origin {
            VectorOrigin::Caller => 0,
            VectorOrigin::Embedder => 1,
        }]);
        hash.vectors(vectors.vectors.iter(), Hasher::numbers);
        hash.finish()
    }

    /// Graph: the facts of the node and its outgoing references, in any order. References that
    /// are equal in target, kind and properties count once. `collection` is the document's own:
    /// a reference that names no collection hashes as one to it.
    pub fn of_graph<'a>(
        collection: &str,
        title: &str,
        document_type: Option<&str>,
        references: impl Iterator<Item = &'a Reference>,
    ) -> Self {
        let mut hash = Hasher::new(b"graph");
        hash.bytes(title.as_bytes());
        hash.optional(document_type.map(str::as_bytes));
        let mut edges: Vec<_> = references
            .map(|r| {
                let properties = serde_json::to_string(&r.properties).unwrap_or_default();
                (
                    r.collection.as_deref().unwrap_or(collection),
                    &r.target,
                    &r.kind,
                    properties,
                )
            })
            .collect();
        edges.sort();
        edges.dedup();
        for (collection, target, kind, properties) in edges {
            hash.bytes(collection.as_bytes());
            hash.bytes(target.as_bytes());
            hash.bytes(kind.as_bytes());
            hash.bytes(properties.as_bytes());
        }
        hash.finish()
    }

    /// Vector, where the store does not give numbers back bit for bit: the set of (chunk, passage,
    /// dimension), in any order.
    pub fn of_vector_shapes<'a>(vectors: impl Iterator<Item = &'a ChunkVector>) -> Self {
        let mut hash = Hasher::new(b"vector shapes");
        hash.vectors(vectors, |_, _| {});
        hash.finish()
    }

    /// Vector: the set of (chunk, passage, numbers), in any order.
    pub fn of_vectors<'a>(vectors: impl Iterator<Item = &'a ChunkVector>) -> Self {
        let mut hash = Hasher::new(b"vector");
        hash.vectors(vectors, Hasher::numbers);
        hash.finish()
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentHash({self})")
    }
}

/// SHA-256 over fields, each behind its length, so that no two lists of fields collide.
struct Hasher(Sha256);

impl Hasher {
    fn new(domain: &[u8]) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.bytes(domain);
        hasher
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.0.update([u8::from(bytes.is_some())]);
        self.bytes(bytes.unwrap_or_default());
    }

    fn numbers(&mut self, values: &[f32]) {
        for value in values {
            self.0.update(value.to_le_bytes());
        }
    }

    fn vectors<'a>(
        &mut self,
        vectors: impl Iterator<Item = &'a ChunkVector>,
        numbers: impl Fn(&mut Self, &[f32]),
    ) {
        let mut vectors: Vec<_> = vectors.collect();
        vectors.sort_by_key(|v| v.chunk);
        for vector in vectors {
            self.0.update(vector.chunk.to_le_bytes());
            match vector.passage {
                None => self.0.update([0]),
                Some(passage) => {
                    self.0.update([1]);
                    self.0.update(passage.start.to_le_bytes());
                    self.0.update(passage.end.to_le_bytes());
                }
            }
            self.0.update((vector.values.len() as u64).to_le_bytes());
            numbers(self, &vector.values);
        }
    }

    fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize().into())
    }
}

/// A document as it was read, with its version.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredDocument {
    /// The collection it is in.
    pub collection: Arc<str>,
    /// The version that was read.
    pub version: Version,
    /// The document.
    pub document: Document,
}
