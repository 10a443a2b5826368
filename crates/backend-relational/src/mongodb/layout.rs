//! The record of a document, and the parts of a large one.

use std::sync::Arc;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, DocumentState, Head, Mutation},
    model::{DocumentRecord, Tokenizer, VectorSet, Version},
};
use mongodb::bson::{Array, Bson, Document, doc};

use super::{
    convert::{binary, bytes, damaged, integer},
    fields, terms,
};

/// Exact bytes and vectors up to this size stand in the record itself. With the copies that are
/// searched ([`fields::MAX_FIELD_BYTES`], [`terms::MAX_TERM_BYTES`], and the names of places in
/// their arrays) a record stays below the server's limit of 16 MiB.
pub(super) const MAX_INLINE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of one part of a larger one.
const MAX_PART_BYTES: usize = 8 * 1024 * 1024;

/// The physical collection's indexes, each with whether it leaves out records without the field.
pub(super) fn indexes() -> [(Document, bool); 7] {
    [
        // The highest version.
        (doc! { "version": 1 }, false),
        // Counts and pages of live documents.
        (doc! { "deleted": 1, "_id": 1 }, false),
        (doc! { "fields.p": 1, "fields.n": 1 }, false),
        (doc! { "fields.p": 1, "fields.t": 1 }, false),
        (doc! { "words": 1 }, false),
        // How many documents and words there are, from the index alone.
        (doc! { "length": 1 }, true),
        (doc! { "partial": 1 }, true),
    ]
}

/// What the server itself refuses to store in the physical collection.
pub(super) fn validator() -> Document {
    doc! { "$jsonSchema": {
        "bsonType": "object",
        "required": ["_id", "version", "deleted"],
        "properties": {
            "_id": { "bsonType": "string" },
            "version": { "bsonType": "long" },
            "deleted": { "bsonType": "bool" },
            "fields": { "bsonType": "array" },
            "partial": { "bsonType": "bool" },
            "words": { "bsonType": "array" },
            "counts": { "bsonType": "array" },
            "length": { "bsonType": "int" },
            "canonical": { "bsonType": "binData" },
            "vectors": { "bsonType": "binData" },
            "parts": { "bsonType": "object" },
        },
    } }
}

/// Where the parts of a large document are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parts {
    /// Names this attempt at writing the document and no other, so that two of them never mix.
    pub(super) attempt: String,
    /// How many there are.
    pub(super) count: i32,
    canonical_bytes: i64,
    vector_bytes: i64,
}

impl Parts {
    /// The `_id`s, in order.
    pub(super) fn ids(&self) -> Vec<String> {
        (0..self.count).map(|n| part_id(&self.attempt, n)).collect()
    }

    /// Canonical bytes and vectors from the parts put together; `None` if something is missing.
    pub(super) fn split(&self, mut bytes: Vec<u8>) -> Option<(Vec<u8>, Vec<u8>)> {
        let canonical = usize::try_from(self.canonical_bytes).ok()?;
        let vectors = usize::try_from(self.vector_bytes).ok()?;
        if bytes.len() != canonical.checked_add(vectors)? {
            return None;
        }
        let vectors = bytes.split_off(canonical);
        Some((bytes, vectors))
    }

    fn to_document(&self) -> Document {
        doc! {
            "attempt": &self.attempt,
            "count": self.count,
            "canonical_bytes": self.canonical_bytes,
            "vector_bytes": self.vector_bytes,
        }
    }

    fn read(document: &Document) -> Option<Self> {
        Some(Self {
            attempt: document.get_str("attempt").ok()?.to_owned(),
            count: i32::try_from(integer(document, "count")?).ok()?,
            canonical_bytes: integer(document, "canonical_bytes")?,
            vector_bytes: integer(document, "vector_bytes")?,
        })
    }
}

fn part_id(attempt: &str, number: i32) -> String {
    format!("{attempt}-{number}")
}

/// The exact bytes of a live document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Inline {
        canonical: Vec<u8>,
        vectors: Vec<u8>,
    },
    Parts(Parts),
}

/// What a write puts into the store for one mutation.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The record that takes the place of whatever is held below its version.
    pub(super) record: Document,
    /// The parts to be there before it.
    pub(super) parts: Option<(Parts, Vec<Document>)>,
}

/// The record of a mutation. `attempt` is random.
pub(super) fn prepare(
    mutation: &Mutation,
    tokenizer: Tokenizer,
    attempt: u128,
) -> BackendResult<Prepared> {
    let refused = |why: String| BackendError::new(BackendErrorKind::Refused, why).not_applied();
    let (id, version) = (&*mutation.id, mutation.version);
    let DocumentState::Live(record) = &mutation.state else {
        return Ok(Prepared {
            record: tombstone(id, version),
            parts: None,
        });
    };
    let vectors = record
        .vectors()
        .to_bytes()
        .map_err(|e| refused(e.to_string()))?;
    let canonical = record.canonical();
    if canonical.len() + vectors.len() <= MAX_INLINE_BYTES {
        let content = Content::Inline {
            canonical: canonical.to_vec(),
            vectors,
        };
        return Ok(Prepared {
            record: live(id, version, record, tokenizer, &content),
            parts: None,
        });
    }
    let (canonical_bytes, vector_bytes) = (canonical.len() as i64, vectors.len() as i64);
    let whole = [canonical, &vectors].concat();
    let attempt = format!("{attempt:032x}");
    let documents: Vec<Document> = (0_i32..)
        .zip(whole.chunks(MAX_PART_BYTES))
        .map(|(number, bytes)| {
            doc! {
                "_id": part_id(&attempt, number),
                "id": id,
                "version": version.as_i64(),
                "bytes": binary(bytes.to_vec()),
            }
        })
        .collect();
    let parts = Parts {
        attempt,
        count: i32::try_from(documents.len())
            .map_err(|_| refused("the document is too large".to_owned()))?,
        canonical_bytes,
        vector_bytes,
    };
    Ok(Prepared {
        record: live(
            id,
            version,
            record,
            tokenizer,
            &Content::Parts(parts.clone()),
        ),
        parts: Some((parts, documents)),
    })
}

/// The record of a deleted document.
pub(super) fn tombstone(id: &str, version: Version) -> Document {
    doc! { "_id": id, "version": version.as_i64(), "deleted": true }
}

/// The record of a live document.
pub(super) fn live(
    id: &str,
    version: Version,
    record: &DocumentRecord,
    tokenizer: Tokenizer,
    content: &Content,
) -> Document {
    let mut stored = doc! { "_id": id, "version": version.as_i64(), "deleted": false };
    match fields::of_document(record.document()) {
        Some(fields) => {
            stored.insert("fields", fields);
        }
        None => {
            stored.insert("partial", true);
        }
    }
    let terms = terms::of_document(tokenizer, record.document());
    let (words, counts): (Array, Array) = terms
        .counts
        .into_iter()
        .map(|(word, count)| (Bson::String(word), Bson::Int32(count)))
        .unzip();
    stored.insert("words", words);
    stored.insert("counts", counts);
    stored.insert("length", terms.length);
    match content {
        Content::Inline { canonical, vectors } => {
            stored.insert("canonical", binary(canonical.clone()));
            stored.insert("vectors", binary(vectors.clone()));
        }
        Content::Parts(parts) => {
            stored.insert("parts", parts.to_document());
        }
    }
    stored
}

/// A record's head as it was read.
pub(super) fn head(document: &Document) -> BackendResult<(Arc<str>, Head)> {
    let read = || {
        let id = document.get_str("_id").ok()?;
        let head = Head {
            version: Version::from_i64(integer(document, "version")?),
            deleted: document.get_bool("deleted").ok()?,
        };
        Some((Arc::from(id), head))
    };
    read().ok_or_else(|| damaged("the record of a document"))
}

/// The content of a live document's record; `None` if there is none that can be read.
pub(super) fn content(document: &Document) -> Option<Content> {
    if let Some(parts) = document.get("parts") {
        return Parts::read(parts.as_document()?).map(Content::Parts);
    }
    Some(Content::Inline {
        canonical: bytes(document, "canonical")?.to_vec(),
        vectors: bytes(document, "vectors")?.to_vec(),
    })
}

/// The document in these bytes; `None` if they are damaged.
pub(super) fn record(canonical: &[u8], vectors: &[u8]) -> Option<DocumentRecord> {
    let vectors = VectorSet::from_bytes(vectors).ok()?;
    DocumentRecord::from_parts(canonical, vectors).ok()
}

#[cfg(test)]
mod tests {
    use dbmanager_core::model::Document as CallersDocument;
    use mongodb::bson::RawDocumentBuf;

    use super::*;

    fn prepared(document: CallersDocument) -> Prepared {
        let record = DocumentRecord::new(document, VectorSet::empty()).unwrap();
        let mutation = Mutation::upsert("a", Version::from_u64(7), Arc::new(record));
        prepare(&mutation, Tokenizer::Unicode, 1).unwrap()
    }

    fn encoded(document: &Document) -> usize {
        RawDocumentBuf::try_from(document).unwrap().as_bytes().len()
    }

    #[test]
    fn a_small_document_is_one_record() {
        let prepared = prepared(CallersDocument::new("a").title("b c b").metadata("n", 1));
        assert!(prepared.parts.is_none());
        let stored = prepared.record;
        let (id, head) = head(&stored).unwrap();
        assert_eq!((&*id, head.version.as_u64(), head.deleted), ("a", 7, false));
        let Some(Content::Inline { canonical, vectors }) = content(&stored) else {
            panic!("{stored:?}");
        };
        let found = record(&canonical, &vectors).unwrap();
        assert_eq!(found.document().title, "b c b");
        assert_eq!(
            stored.get_array("words").unwrap(),
            &["b".into(), "c".into()] as &[Bson]
        );
        assert_eq!(
            stored.get_array("counts").unwrap(),
            &[2.into(), 1.into()] as &[Bson]
        );
    }

    #[test]
    fn a_large_document_is_put_together_from_its_parts() {
        let text = "0123456789 ".repeat(1_600_000);
        let prepared = prepared(CallersDocument::new("a").text(text.as_str()));
        let (parts, documents) = prepared.parts.unwrap();
        assert_eq!(parts.count, 3);
        assert_eq!(
            content(&prepared.record),
            Some(Content::Parts(parts.clone()))
        );
        let ids: Vec<_> = documents
            .iter()
            .map(|d| d.get_str("_id").unwrap())
            .collect();
        assert_eq!(parts.ids(), ids);
        let whole: Vec<u8> = documents
            .iter()
            .flat_map(|d| bytes(d, "bytes").unwrap().to_vec())
            .collect();
        let mut short = whole.clone();
        short.pop();
        assert_eq!(parts.split(short), None);
        let (canonical, vectors) = parts.split(whole).unwrap();
        assert_eq!(record(&canonical, &vectors).unwrap().document().text, text);
    }

    /// All copies at their limits at once.
    #[test]
    fn the_largest_record_is_below_the_server_s_limit() {
        let words: String = (0..200_000).map(|n| format!("{n} ")).collect();
        let mut document = CallersDocument::new("a").text(words);
        for key in 0..120_000 {
            document = document.metadata(format!("{key}"), key);
        }
        let prepared = prepared(document);
        assert!(
            prepared.record.contains_key("fields"),
            "the test leaves no room"
        );
        assert!(prepared.record.get_array("words").unwrap().len() > 90_000);
        let size = encoded(&prepared.record) + MAX_INLINE_BYTES;
        assert!(size < 16 * 1024 * 1024, "{size} bytes");
    }
}
