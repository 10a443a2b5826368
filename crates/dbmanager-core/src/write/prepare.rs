//! From a caller's document to a record that may be journaled: limits, vectors, embedding.

use std::{collections::HashSet, sync::Arc};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::WriteRoom;
use crate::{
    Error, ErrorKind, Result,
    backend::Limits,
    embed::{EmbedDocument, EmbedderKind, PassageVector},
    model::{
        ChunkVector, Collection, CollectionOptions, Document, DocumentRecord, EmbeddingSpace,
        Metadata, Metric, Reference, VectorOrigin, VectorSet,
    },
};

/// Documents embedded at once.
const EMBED_BATCH: usize = 64;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// # Errors
/// `InvalidInput`: the name is empty, too long or contains NUL.
pub(crate) fn validate_collection_name(name: &str, limits: &Limits) -> Result<()> {
    if name.is_empty() {
        return Err(invalid("the collection's name is empty"));
    }
    if name.len() > limits.max_collection_bytes {
        return Err(invalid("the collection's name is too long")
            .with("bytes", name.len())
            .with("limit", limits.max_collection_bytes));
    }
    no_nul("collection name", name)
}

/// # Errors
/// `InvalidInput`: the id is empty, too long or contains NUL.
pub(crate) fn validate_id(id: &str, limits: &Limits) -> Result<()> {
    if id.is_empty() {
        return Err(invalid("the id is empty"));
    }
    if id.len() > limits.max_id_bytes {
        return Err(invalid("the id is too long")
            .with("bytes", id.len())
            .with("limit", limits.max_id_bytes));
    }
    no_nul("id", id)
}

fn no_nul(what: &str, text: &str) -> Result<()> {
    match text.bytes().position(|byte| byte == 0) {
        None => Ok(()),
        Some(at) => Err(invalid(format!("the {what} contains NUL")).with("at_byte", at)),
    }
}

fn at_most(what: &str, value: usize, limit: usize) -> Result<()> {
    if value <= limit {
        return Ok(());
    }
    Err(invalid(format!("too many {what}"))
        .with("found", value)
        .with("limit", limit))
}

/// Checks everything that does not depend on the collection.
///
/// # Errors
/// `InvalidInput`, naming what is wrong and the limit.
pub(crate) fn validate_document(document: &Document, limits: &Limits) -> Result<()> {
    validate_id(&document.id, limits)?;
    no_nul("title", &document.title)?;
    no_nul("text", &document.text)?;
    at_most("bytes of text", document.text.len(), limits.max_text_bytes)?;
    for (what, text) in [
        ("document type", &document.document_type),
        ("file path", &document.file_path),
    ] {
        if let Some(text) = text {
            no_nul(what, text)?;
        }
    }
    validate_metadata("metadata", &document.metadata)?;
    at_most(
        "references",
        document.references.len(),
        limits.max_references,
    )?;
    document
        .references
        .iter()
        .try_for_each(|r| validate_reference(r, limits))?;
    at_most("vectors", document.vectors.len(), limits.max_vectors)?;
    document.vectors.iter().try_for_each(|v| {
        validate_vector(&v.values, limits)?;
        match v.passage {
            Some(p) if p.start > p.end || p.end as usize > document.text.len() => {
                Err(invalid("a passage lies outside the text")
                    .with("start", p.start)
                    .with("end", p.end)
                    .with("text_bytes", document.text.len()))
            }
            _ => Ok(()),
        }
    })
}

fn validate_reference(reference: &Reference, limits: &Limits) -> Result<()> {
    if reference.target.is_empty() {
        return Err(invalid("a reference has an empty target"));
    }
    at_most(
        "bytes of a reference's target",
        reference.target.len(),
        limits.max_id_bytes,
    )?;
    no_nul("reference's target", &reference.target)?;
    no_nul("reference's kind", &reference.kind)?;
    if let Some(collection) = &reference.collection {
        validate_collection_name(collection, limits)?;
    }
    validate_metadata("reference's properties", &reference.properties)
}

/// # Errors
/// `InvalidInput`: the vector is empty, too long, or holds what is no finite number.
pub(crate) fn validate_vector(values: &[f32], limits: &Limits) -> Result<()> {
    if values.is_empty() {
        return Err(invalid("a vector is empty"));
    }
    at_most("numbers in a vector", values.len(), limits.max_dimension)?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(invalid("a vector holds a number that is not finite").with("at_index", at)),
    }
}

/// Checks that no JSON of the document is nested beyond the limit. Everything else that walks it
/// recurses (hashing, writing it as JSON), so this comes first.
///
/// # Errors
/// `InvalidInput`, naming the limit.
pub(crate) fn validate_depth(document: &Document, limits: &Limits) -> Result<()> {
    let deep = |what: &str, metadata: &Metadata| {
        let too_deep = walk(metadata, |depth, _, _| depth > limits.max_metadata_depth);
        if too_deep {
            return Err(invalid(format!("the {what} is nested too deeply"))
                .with("limit", limits.max_metadata_depth));
        }
        Ok(())
    };
    deep("metadata", &document.metadata)?;
    document
        .references
        .iter()
        .try_for_each(|reference| deep("reference's properties", &reference.properties))
}

fn validate_metadata(what: &str, metadata: &Metadata) -> Result<()> {
    let holds_nul = |text: &str| text.contains('\0');
    let found = walk(metadata, |_, key, value| {
        key.is_some_and(holds_nul) || value.as_str().is_some_and(holds_nul)
    });
    if found {
        return Err(invalid(format!("the {what} contains NUL")));
    }
    Ok(())
}

/// Whether `test` holds for some value, with its depth from 1 and its key. Walks without recursion,
/// so that hostile nesting cannot exhaust the stack.
fn walk(metadata: &Metadata, test: impl Fn(usize, Option<&str>, &Value) -> bool) -> bool {
    let mut open: Vec<(usize, Option<&str>, &Value)> = Vec::new();
    open.extend(
        metadata
            .iter()
            .map(|(key, value)| (1, Some(key.as_str()), value)),
    );
    while let Some((depth, key, value)) = open.pop() {
        if test(depth, key, value) {
            return true;
        }
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (depth + 1, None, item))),
            Value::Object(fields) => {
                open.extend(fields.iter().map(|(k, v)| (depth + 1, Some(k.as_str()), v)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    false
}

/// Drops a document without recursion: the caller's JSON may be nested beyond the limit.
pub(crate) fn discard(document: Document) {
    let properties = document
        .references
        .into_iter()
        .map(|reference| reference.properties);
    let mut open: Vec<Value> = properties
        .chain([document.metadata])
        .flat_map(|metadata| metadata.into_iter().map(|(_, value)| value))
        .collect();
    while let Some(value) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => open.extend(fields.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

/// A document on its way into the journal.
pub(crate) struct Draft {
    pub(crate) document: Document,
    pub(crate) vectors: Option<VectorSet>,
}

impl Draft {
    /// Takes the caller's vectors off the document.
    pub(crate) fn new(mut document: Document) -> Self {
        let given = std::mem::take(&mut document.vectors);
        let vectors = (!given.is_empty()).then(|| VectorSet {
            origin: VectorOrigin::Caller,
            text_hash: None,
            vectors: given
                .into_iter()
                .zip(0..)
                .map(|(v, chunk)| ChunkVector {
                    chunk,
                    passage: v.passage,
                    values: v.values,
                })
                .collect(),
        });
        Self { document, vectors }
    }

    fn dimension(&self) -> Option<usize> {
        Some(self.vectors.as_ref()?.vectors.first()?.values.len())
    }

    /// What the embedder sees.
    fn embed_document(&self) -> EmbedDocument {
        EmbedDocument::new(self.document.title.as_str(), self.document.text.as_str())
    }

    /// # Errors
    /// `InvalidInput`: the whole document is larger than a store can hold.
    pub(crate) fn into_record(self, limits: &Limits) -> Result<Arc<DocumentRecord>> {
        let vectors = self.vectors.unwrap_or_else(VectorSet::empty);
        let record = DocumentRecord::new(self.document, vectors)
            .map_err(|e| invalid("the document is not valid JSON").with_source(e))?;
        at_most(
            "bytes in the document",
            record.canonical().len(),
            limits.max_document_bytes,
        )?;
        Ok(Arc::new(record))
    }
}

fn text_hash(document: &EmbedDocument) -> [u8; 32] {
    Sha256::digest(document.joined().as_bytes()).into()
}

impl WriteRoom {
    /// The collection to write to; a first write creates it.
    ///
    /// # Errors
    /// The name is invalid, or the journal cannot create it.
    pub(super) async fn writable_collection(
        &self,
        name: &str,
        first: Option<&Draft>,
    ) -> Result<Collection> {
        if let Some(known) = self.collection(name) {
            return Ok(known);
        }
        validate_collection_name(name, &self.limits())?;
        let mut options = CollectionOptions::new();
        options.embedding_space = self.default_space(first);
        self.check_metric(options.embedding_space.as_ref())?;
        let (collection, _) = self
            .journal
            .create_collection(name, options)
            .await
            .map_err(super::journal_error)?;
        self.remember_collection(collection.clone());
        Ok(collection)
    }

    /// The space of a collection that was created without one: the caller's if the first document
    /// brings vectors, else the embedder's.
    fn default_space(&self, first: Option<&Draft>) -> Option<EmbeddingSpace> {
        let embedder = self.embedder.as_ref().map(|e| EmbeddingSpace {
            model: e.model().to_owned(),
            dimension: e.dimension(),
            metric: e.metric(),
        });
        match first.and_then(Draft::dimension) {
            Some(given)
                if embedder
                    .as_ref()
                    .is_none_or(|e| e.dimension as usize != given) =>
            {
                Some(EmbeddingSpace {
                    model: EmbeddingSpace::CALLER.to_owned(),
                    dimension: u32::try_from(given).unwrap_or(u32::MAX),
                    metric: Metric::Cosine,
                })
            }
            _ => embedder,
        }
    }

    /// The collection with an embedding space, which the first vectors decide if it has none.
    pub(super) async fn with_space(
        &self,
        collection: Collection,
        drafts: &[&Draft],
    ) -> Result<Collection> {
        if collection.options.embedding_space.is_some() {
            return Ok(collection);
        }
        let first = drafts
            .iter()
            .copied()
            .find(|draft| draft.dimension().is_some());
        let Some(space) = self.default_space(first) else {
            return Ok(collection);
        };
        self.check_metric(Some(&space))?;
        let collection = self
            .journal
            .set_embedding_space(&collection.key, space)
            .await
            .map_err(super::journal_error)?;
        self.remember_collection(collection.clone());
        Ok(collection)
    }

    /// Checks the vectors that the caller supplied against the collection's space.
    pub(super) fn check_vectors(&self, collection: &Collection, draft: &Draft) -> Result<()> {
        let (Some(set), Some(space)) = (&draft.vectors, &collection.options.embedding_space) else {
            return Ok(());
        };
        let wrong = set
            .vectors
            .iter()
            .find(|v| v.values.len() != space.dimension as usize);
        match wrong {
            None => Ok(()),
            Some(vector) => Err(invalid("a vector has the wrong dimension")
                .with("dimension", vector.values.len())
                .with("expected", space.dimension)
                .with("collection", &collection.key.name)),
        }
    }

    /// Computes the vectors of the drafts that bring none. A draft whose text cannot be embedded
    /// gets an error; the others are not touched by it.
    pub(super) async fn embed(
        &self,
        collection: &Collection,
        drafts: &mut [(usize, &mut Draft)],
    ) -> Vec<(usize, Error)> {
        let mut failed = Vec::new();
        let Some(embedder) = &self.embedder else {
            return failed;
        };
        let Some(space) = &collection.options.embedding_space else {
            return failed;
        };
        if space.model == EmbeddingSpace::CALLER {
            return failed;
        }
        let needs = |draft: &Draft| {
            draft.vectors.is_none()
                && !(draft.document.text.is_empty() && draft.document.title.is_empty())
        };
        if space.model != embedder.model() {
            for (index, _) in drafts.iter().filter(|(_, draft)| needs(draft)) {
                failed.push((
                    *index,
                    Error::new(
                        ErrorKind::EmbeddingSpaceMismatch,
                        "the collection was made with another embedding model",
                    )
                    .with("collection", &collection.key.name)
                    .with("model", &space.model)
                    .with("embedder", embedder.model()),
                ));
            }
            return failed;
        }
        let mut wanted: Vec<_> = drafts
            .iter_mut()
            .filter(|(_, draft)| needs(draft))
            .collect();
        if embedder.kind() == EmbedderKind::Semantic {
            self.reuse_vectors(collection, &mut wanted).await;
            wanted.retain(|(_, draft)| draft.vectors.is_none());
        }
        let limits = self.limits();
        for chunk in wanted.chunks_mut(EMBED_BATCH) {
            let documents: Vec<_> = chunk
                .iter()
                .map(|(_, draft)| draft.embed_document())
                .collect();
            let hashes: Vec<_> = documents.iter().map(text_hash).collect();
            match embedder.embed_passages(documents).await {
                Ok(sets) if sets.len() == hashes.len() => {
                    for (((index, draft), set), hash) in chunk.iter_mut().zip(sets).zip(hashes) {
                        let set = embedded_set(set, hash);
                        match at_most("passages to embed", set.vectors.len(), limits.max_vectors) {
                            Ok(()) => draft.vectors = Some(set),
                            Err(error) => failed.push((*index, error)),
                        }
                    }
                }
                Ok(vectors) => {
                    let error = Error::new(ErrorKind::Embedding, "the embedder lost a text")
                        .with("texts", hashes.len())
                        .with("vectors", vectors.len());
                    failed.extend(chunk.iter().map(|(index, _)| (*index, error.clone())));
                }
                Err(error) => {
                    let error = Error::from(error).with("model", embedder.model());
                    failed.extend(chunk.iter().map(|(index, _)| (*index, error.clone())));
                }
            }
        }
        failed
    }

    /// Takes over the vectors of unchanged texts from the current documents. A failure only means
    /// that the text is embedded again.
    async fn reuse_vectors(
        &self,
        collection: &Collection,
        wanted: &mut [&mut (usize, &mut Draft)],
    ) {
        let ids: Vec<Arc<str>> = wanted
            .iter()
            .map(|(_, draft)| Arc::from(draft.document.id.as_str()))
            .collect();
        let current = self.current_records(&collection.key, &ids).await;
        for ((_, draft), current) in wanted.iter_mut().zip(current) {
            let Ok(Some((_, record))) = current else {
                continue;
            };
            let set = record.vectors();
            if set.origin == VectorOrigin::Embedder
                && set.text_hash == Some(text_hash(&draft.embed_document()))
            {
                draft.vectors = Some(set.clone());
            }
        }
    }
}

fn embedded_set(vectors: Vec<PassageVector>, hash: [u8; 32]) -> VectorSet {
    let said = vectors.into_iter().filter(|v| !v.values.is_empty());
    VectorSet {
        origin: VectorOrigin::Embedder,
        text_hash: Some(hash),
        vectors: (0..)
            .zip(said)
            .map(|(chunk, vector)| ChunkVector {
                chunk,
                passage: vector.passage,
                values: vector.values,
            })
            .collect(),
    }
}

/// The positions of ids that stand earlier in the batch already.
pub(super) fn repeated_ids<'a>(ids: impl Iterator<Item = &'a str>) -> HashSet<usize> {
    let mut seen = HashSet::new();
    ids.enumerate()
        .filter(|(_, id)| !seen.insert(*id))
        .map(|(index, _)| index)
        .collect()
}
