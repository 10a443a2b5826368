//! What is stored: names of collections, ids and payloads of points.

use std::{collections::HashMap, fmt::Write as _};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Head},
    model::{ChunkVector, CollectionKey, Metric, Passage, Version},
};
use qdrant_client::qdrant::{
    Condition, DenseVector, Distance, FieldType, Filter as Conditions, ListValue, NamedVectors,
    PointId, PointStruct, Range, RetrievedPoint, Struct, Value, Vector, Vectors, VectorsOutput,
    r#match::MatchValue, point_id::PointIdOptions, value::Kind, vector, vector_output, vectors,
    vectors_output,
};
use sha2::{Digest, Sha256};

use super::{
    facts::Facts,
    filter::{matches, range, within},
};

/// The format of everything below; a store of a higher one is refused.
pub(super) const FORMAT: i64 = 1;
/// The named vector of chunks; heads have none.
pub(super) const VECTOR: &str = "chunk";

/// What kind of point this is: [`HEAD`] or [`CHUNK`].
const KIND: &str = "kind";
const HEAD: &str = "head";
const CHUNK: &str = "chunk";
/// The document's id.
pub(super) const ID: &str = "id";
/// The version's milliseconds and its counter: as one number they would be compared as `f64`.
pub(super) const MILLISECONDS: &str = "milliseconds";
pub(super) const COUNTER: &str = "counter";
/// Head: whether it is a tombstone, and how many chunks belong to it.
const DELETED: &str = "deleted";
const CHUNKS: &str = "chunks";
/// Chunk: its place in the set, its number, its passage.
const ORDINAL: &str = "ordinal";
const NUMBER: &str = "number";
const START: &str = "start";
const END: &str = "end";
/// Chunk: the document's facts.
pub(super) const TERMS: &str = "terms";
pub(super) const SORTABLE: &str = "sortable";
pub(super) const SORTABLE_KEY: &str = "key";
/// The digits of a sortable, the most significant first.
pub(super) const DIGITS: [&str; 8] = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"];

/// What a search reads of a chunk.
pub(super) const HIT_FIELDS: [&str; 7] = [ID, MILLISECONDS, COUNTER, ORDINAL, NUMBER, START, END];

/// The indexes of a collection's payload: every field a condition looks at.
pub(super) const INDEXES: [(&str, FieldType); 7] = [
    (KIND, FieldType::Keyword),
    (ID, FieldType::Keyword),
    (MILLISECONDS, FieldType::Integer),
    (COUNTER, FieldType::Integer),
    (TERMS, FieldType::Keyword),
    ("sortable[].key", FieldType::Keyword),
    ("sortable[].d0", FieldType::Integer),
];

/// A head as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub(super) head: Head,
    pub(super) chunks: u32,
}

/// A chunk as a search has found it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FoundChunk {
    pub(super) id: String,
    pub(super) version: Version,
    pub(super) ordinal: u32,
    pub(super) number: u32,
    pub(super) passage: Option<Passage>,
}

/// The server's name of a collection: a readable beginning and a hash of name and generation. The
/// exact name stands in the collection's metadata and is compared whenever it is read.
pub(super) fn physical_name(prefix: &str, key: &CollectionKey) -> String {
    let readable: String = key
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(40)
        .collect();
    let hash = hash(
        b"collection",
        &[key.name.as_bytes(), &key.generation.to_be_bytes()],
    );
    let mut name = format!("{prefix}.{readable}.{}.", key.generation);
    for byte in hash {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The server's name of the collection that holds the stamp.
pub(super) fn stamp_name(prefix: &str) -> String {
    format!("{prefix}.stamp")
}

/// SHA-256 over fields, each behind its length, cut to 128 bits.
fn hash(domain: &[u8], fields: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for field in std::iter::once(&domain).chain(fields) {
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let mut cut = [0; 16];
    cut.copy_from_slice(&hash[..16]);
    cut
}

/// A UUID version 8 (RFC 9562 §5.8) made of a hash.
fn point_id(hash: [u8; 16]) -> PointId {
    let uuid = uuid::Builder::from_custom_bytes(hash).into_uuid();
    PointId {
        point_id_options: Some(PointIdOptions::Uuid(uuid.to_string())),
    }
}

/// The id of a document's head.
pub(super) fn head_id(id: &str) -> PointId {
    point_id(hash(b"head", &[id.as_bytes()]))
}

/// The id of one chunk of one version.
pub(super) fn chunk_id(id: &str, version: Version, ordinal: u32) -> PointId {
    let (version, ordinal) = (version.as_u64().to_be_bytes(), ordinal.to_be_bytes());
    point_id(hash(b"chunk", &[id.as_bytes(), &version, &ordinal]))
}

pub(super) fn text(text: impl Into<String>) -> Value {
    Value {
        kind: Some(Kind::StringValue(text.into())),
    }
}

pub(super) fn integer(integer: impl Into<i64>) -> Value {
    Value {
        kind: Some(Kind::IntegerValue(integer.into())),
    }
}

fn list(values: Vec<Value>) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue { values })),
    }
}

pub(super) fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let fields = fields.into_iter();
    Value {
        kind: Some(Kind::StructValue(Struct {
            fields: fields.map(|(key, value)| (key.to_owned(), value)).collect(),
        })),
    }
}

fn common(kind: &str, id: &str, version: Version) -> HashMap<String, Value> {
    [
        (KIND, text(kind)),
        (ID, text(id)),
        (MILLISECONDS, integer(version.milliseconds() as i64)),
        (COUNTER, integer(version.counter())),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The head of a document: a point without a vector, which no search finds.
pub(super) fn head_point(id: &str, head: StoredHead) -> PointStruct {
    let mut payload = common(HEAD, id, head.head.version);
    let deleted = Kind::BoolValue(head.head.deleted);
    payload.insert(
        DELETED.to_owned(),
        Value {
            kind: Some(deleted),
        },
    );
    payload.insert(CHUNKS.to_owned(), integer(head.chunks));
    PointStruct {
        id: Some(head_id(id)),
        payload,
        vectors: no_vectors(),
    }
}

/// What stands where a point has no vector.
pub(super) fn no_vectors() -> Option<Vectors> {
    Some(Vectors {
        vectors_options: Some(vectors::VectorsOptions::Vectors(NamedVectors::default())),
    })
}

/// The part of a chunk's payload that is the same for all chunks of a document.
pub(super) fn facts_payload(facts: &Facts) -> [(&'static str, Value); 2] {
    let terms = facts.terms.iter().map(text).collect();
    let sortables = facts.sortables.iter().map(|(key, digits)| {
        let digits = DIGITS.iter().zip(digits);
        let digits = digits.map(|(name, digit)| (*name, integer(*digit)));
        object([(SORTABLE_KEY, text(key))].into_iter().chain(digits))
    });
    [(TERMS, list(terms)), (SORTABLE, list(sortables.collect()))]
}

/// One chunk of one version.
pub(super) fn chunk_point(
    id: &str,
    version: Version,
    ordinal: u32,
    chunk: &ChunkVector,
    metric: Metric,
    facts: &[(&'static str, Value); 2],
) -> PointStruct {
    let mut payload = common(CHUNK, id, version);
    payload.insert(ORDINAL.to_owned(), integer(ordinal));
    payload.insert(NUMBER.to_owned(), integer(chunk.chunk));
    if let Some(passage) = chunk.passage {
        payload.insert(START.to_owned(), integer(passage.start));
        payload.insert(END.to_owned(), integer(passage.end));
    }
    for (key, value) in facts {
        payload.insert((*key).to_owned(), value.clone());
    }
    let dense = vector::Vector::Dense(DenseVector {
        data: comparable(metric, &chunk.values),
    });
    let vector = Vector {
        vector: Some(dense),
        ..Vector::default()
    };
    PointStruct {
        id: Some(chunk_id(id, version, ordinal)),
        payload,
        vectors: Some(Vectors {
            vectors_options: Some(vectors::VectorsOptions::Vectors(NamedVectors {
                vectors: [(VECTOR.to_owned(), vector)].into(),
            })),
        }),
    }
}

/// The numbers as the server is to compare them. For cosine it stores the vector at length 1, and
/// squares numbers in `f32` to do so: very long vectors would become zero, very short ones would
/// be left as they are. So the length is taken here, in `f64`; a zero vector stays one.
pub(super) fn comparable(metric: Metric, values: &[f32]) -> Vec<f32> {
    let squares = || values.iter().map(|value| f64::from(*value).powi(2));
    let length = squares().sum::<f64>().sqrt();
    if metric != Metric::Cosine || length == 0.0 {
        return values.to_vec();
    }
    let scaled = values.iter().map(|value| f64::from(*value) / length);
    scaled.map(|value| value as f32).collect()
}

/// The server's name of a metric; `None` for one that it does not have.
pub(super) fn distance(metric: Metric) -> Option<Distance> {
    match metric {
        Metric::Cosine => Some(Distance::Cosine),
        Metric::Dot => Some(Distance::Dot),
        Metric::Euclidean => Some(Distance::Euclid),
        _ => None,
    }
}

/// The server's score as the metric's: for Euclidean it answers the distance itself.
pub(super) fn score(metric: Metric, score: f32) -> f64 {
    let score = f64::from(score);
    match metric {
        Metric::Euclidean => -score,
        Metric::Cosine => score.clamp(-1.0, 1.0),
        _ => score,
    }
}

/// Points that are heads.
pub(super) fn is_head() -> Condition {
    matches(KIND, MatchValue::Keyword(HEAD.to_owned()))
}

/// Points that are chunks.
pub(super) fn is_chunk() -> Condition {
    matches(KIND, MatchValue::Keyword(CHUNK.to_owned()))
}

/// Points of this document.
pub(super) fn of_document(id: &str) -> Condition {
    matches(ID, MatchValue::Keyword(id.to_owned()))
}

/// Points of this version.
pub(super) fn of_version(version: Version) -> [Condition; 2] {
    let milliseconds = MatchValue::Integer(version.milliseconds() as i64);
    [
        matches(MILLISECONDS, milliseconds),
        matches(COUNTER, MatchValue::Integer(version.counter().into())),
    ]
}

/// Points of a lower version.
pub(super) fn below(version: Version) -> Condition {
    lower(
        (MILLISECONDS, version.milliseconds()),
        (COUNTER, version.counter().into()),
    )
}

/// The two fields, as one number, are below these two values.
pub(super) fn lower(high: (&str, u64), low: (&str, u64)) -> Condition {
    let less = |value: u64| Range {
        lt: Some(value as f64),
        ..Range::default()
    };
    within(Conditions {
        should: vec![
            range(high.0, less(high.1)),
            within(Conditions {
                must: vec![
                    matches(high.0, MatchValue::Integer(high.1 as i64)),
                    range(low.0, less(low.1)),
                ],
                ..Conditions::default()
            }),
        ],
        ..Conditions::default()
    })
}

/// A payload as it was read.
pub(super) struct Payload<'a>(pub(super) &'a HashMap<String, Value>);

impl Payload<'_> {
    pub(super) fn text(&self, key: &str) -> BackendResult<&str> {
        match self.0.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::StringValue(text)) => Ok(text),
            _ => Err(damaged(key)),
        }
    }

    pub(super) fn integer<N: TryFrom<i64>>(&self, key: &str) -> BackendResult<N> {
        match self.0.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::IntegerValue(integer)) => N::try_from(*integer).map_err(|_| damaged(key)),
            _ => Err(damaged(key)),
        }
    }

    fn boolean(&self, key: &str) -> BackendResult<bool> {
        match self.0.get(key).and_then(|value| value.kind.as_ref()) {
            Some(Kind::BoolValue(value)) => Ok(*value),
            _ => Err(damaged(key)),
        }
    }

    pub(super) fn version(&self, milliseconds: &str, counter: &str) -> BackendResult<Version> {
        let milliseconds = self.integer(milliseconds)?;
        Ok(Version::from_parts(milliseconds, self.integer(counter)?))
    }

    pub(super) fn head(&self) -> BackendResult<StoredHead> {
        Ok(StoredHead {
            head: Head {
                version: self.version(MILLISECONDS, COUNTER)?,
                deleted: self.boolean(DELETED)?,
            },
            chunks: self.integer(CHUNKS)?,
        })
    }

    pub(super) fn chunk(&self) -> BackendResult<FoundChunk> {
        let passage = if self.0.contains_key(START) {
            Some(Passage {
                start: self.integer(START)?,
                end: self.integer(END)?,
            })
        } else {
            None
        };
        Ok(FoundChunk {
            id: self.text(ID)?.to_owned(),
            version: self.version(MILLISECONDS, COUNTER)?,
            ordinal: self.integer(ORDINAL)?,
            number: self.integer(NUMBER)?,
            passage,
        })
    }
}

fn damaged(key: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Damaged,
        format!("a point's payload has no {key:?}, or one of another type"),
    )
}

/// The numbers of a chunk; empty if its vector is gone.
pub(super) fn numbers(point: &RetrievedPoint) -> Vec<f32> {
    let Some(VectorsOutput {
        vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)),
    }) = &point.vectors
    else {
        return Vec::new();
    };
    match named.vectors.get(VECTOR).map(|output| &output.vector) {
        Some(Some(vector_output::Vector::Dense(dense))) => dense.data.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_fit_the_server_and_stay_apart() {
        let long = "n".repeat(255);
        let names = [
            "a",
            "A",
            "a/b",
            "a_b",
            "a:b",
            "",
            "..",
            "\u{1f980}",
            &long,
            &long[1..],
        ];
        let mut seen = BTreeSet::new();
        for name in names {
            for generation in [1, u64::MAX] {
                let name = physical_name(&"p".repeat(64), &CollectionKey::new(name, generation));
                assert!(name.len() <= 255, "{name}");
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
                assert!(name.bytes().all(allowed), "{name}");
                assert!(seen.insert(name.to_ascii_lowercase()), "{name}");
            }
        }
    }

    #[test]
    fn points_of_different_things_have_different_ids() {
        let version = Version::from_u64(7);
        let ids = [
            head_id("a"),
            head_id("A"),
            chunk_id("a", version, 0),
            chunk_id("a", version, 1),
            chunk_id("a", Version::from_u64(8), 0),
            chunk_id("b", version, 0),
        ];
        let distinct: BTreeSet<_> = ids.iter().map(|id| format!("{id:?}")).collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(head_id("a"), head_id("a"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let head = StoredHead {
            head: Head {
                version: Version::from_parts((1 << 47) - 1, u16::MAX),
                deleted: true,
            },
            chunks: 3,
        };
        let point = head_point("a", head);
        assert_eq!(Payload(&point.payload).head().unwrap(), head);
        let vector = ChunkVector {
            chunk: 9,
            passage: Some(Passage {
                start: 1,
                end: u32::MAX,
            }),
            values: vec![3.0, 4.0],
        };
        let facts = facts_payload(&Facts::default());
        let version = head.head.version;
        let point = chunk_point("a", version, 2, &vector, Metric::Cosine, &facts);
        let expected = FoundChunk {
            id: "a".to_owned(),
            version,
            ordinal: 2,
            number: 9,
            passage: vector.passage,
        };
        assert_eq!(Payload(&point.payload).chunk().unwrap(), expected);
        let error = Payload(&point.payload).head().unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged);
    }

    #[test]
    fn lengths_beyond_f32_are_taken() {
        let long = comparable(Metric::Cosine, &[3e30, 4e30]);
        let short = comparable(Metric::Cosine, &[3e-30, 4e-30]);
        for scaled in [long, short] {
            assert!((scaled[0] - 0.6).abs() < 1e-6 && (scaled[1] - 0.8).abs() < 1e-6);
        }
        assert_eq!(comparable(Metric::Cosine, &[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(comparable(Metric::Dot, &[3.0, 4.0]), [3.0, 4.0]);
    }
}
