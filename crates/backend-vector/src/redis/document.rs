//! A document as the hashes of the store keep it.

use dbmanager_core::{
    backend::{BackendResult, Head},
    model::{
        ChunkVector, Document, DocumentRecord, Metric, Passage, VectorOrigin, VectorSet, Version,
    },
};
use redis::Value;

use super::{
    config::Engine,
    convert::{damaged, list, number, optional_bytes, optional_text, text},
    keys::from_ordered,
};

/// Lengths outside of which an index that computes in `f32` loses or overflows.
const SHORTEST: f64 = 1e-12;
const LONGEST: f64 = 1e15;

/// Whether an index cannot compare this vector: squares that leave `f32`, and under cosine what
/// has no direction (measured: the query engine gives a zero vector the distance NaN, and then
/// loses others).
pub(super) fn is_odd(metric: Metric, values: &[f32]) -> bool {
    let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    let length = squares.sqrt();
    let too_short = metric == Metric::Cosine && length < SHORTEST;
    too_short || length.is_nan() || length > LONGEST
}

/// The bytes of the numbers, as both engines take them.
pub(super) fn to_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn from_bytes(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| {
        numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    })
}

/// Everything but text, references and vectors: what filters look at, as JSON.
pub(super) fn facts(record: &DocumentRecord) -> BackendResult<Vec<u8>> {
    let document = record.document();
    let mut facts = Document::new(document.id.as_str()).title(document.title.as_str());
    facts.document_type.clone_from(&document.document_type);
    facts.created_at = document.created_at;
    facts.file_path.clone_from(&document.file_path);
    facts.metadata.clone_from(&document.metadata);
    serde_json::to_vec(&facts)
        .map_err(|error| super::convert::refused(format!("the metadata is not JSON: {error}")))
}

fn set(vectors: Vec<ChunkVector>) -> BackendResult<Vec<u8>> {
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors,
    };
    set.to_bytes()
        .map_err(|error| super::convert::refused(error.to_string()))
}

/// The chunks and passages without numbers.
pub(super) fn shapes(vectors: &[ChunkVector]) -> BackendResult<Vec<u8>> {
    let shape = |vector: &ChunkVector| ChunkVector {
        values: Vec::new(),
        ..*vector
    };
    set(vectors.iter().map(shape).collect())
}

/// The numbers that are kept beside the index: with vector sets, which keep directions only, all
/// of them; else those that are not in the index.
pub(super) fn exact(
    engine: Engine,
    metric: Metric,
    vectors: &[ChunkVector],
) -> BackendResult<Vec<u8>> {
    let kept: Vec<_> = vectors
        .iter()
        .filter(|vector| engine == Engine::VectorSets || is_odd(metric, &vector.values))
        .cloned()
        .collect();
    if kept.is_empty() {
        return Ok(Vec::new());
    }
    set(kept)
}

/// A passage in the index: `start:end`, or nothing.
pub(super) fn passage_text(passage: Option<Passage>) -> String {
    passage.map_or_else(String::new, |p| format!("{}:{}", p.start, p.end))
}

/// What [`passage_text`] wrote.
pub(super) fn parse_passage(text: &str) -> BackendResult<Option<Passage>> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.split_once(':').and_then(|(start, end)| {
        Some(Passage {
            start: start.parse().ok()?,
            end: end.parse().ok()?,
        })
    });
    parsed
        .map(Some)
        .ok_or_else(|| damaged(format!("{text:?} is no passage")))
}

/// A version as the store keeps it.
pub(super) fn parse_version(text: &str) -> BackendResult<Version> {
    from_ordered(text)
        .map(Version::from_u64)
        .ok_or_else(|| damaged(format!("{text:?} is no version")))
}

/// A document as far as it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) head: Head,
    /// Filters look at this.
    pub(super) facts: Option<Document>,
    /// By chunk number; without numbers if only shapes were asked for.
    pub(super) vectors: Vec<ChunkVector>,
    /// Chunks whose copy in the vector set is lost or another direction, with that direction.
    pub(super) disagreeing: Vec<ChunkVector>,
}

impl Held {
    /// Reads one item of the script's answer; `None` for what was never written.
    pub(super) fn read(value: Value, engine: Engine) -> BackendResult<Option<Self>> {
        if value == Value::Nil {
            return Ok(None);
        }
        let mut fields = list("a document", value)?.into_iter();
        let mut next = || fields.next().unwrap_or(Value::Nil);
        let version = parse_version(&text("a version", next())?)?;
        let deleted = text("a deletion", next())? == "1";
        let chunks = chunk_numbers(optional_text("chunks", next())?.as_deref().unwrap_or(""))?;
        let facts = optional_bytes("facts", next())?;
        let shapes = read_set(optional_bytes("shapes", next())?)?;
        let exact = read_set(optional_bytes("vectors", next())?)?;
        let indexed = list("indexed vectors", next())?;
        let mut held = Self {
            head: Head { version, deleted },
            facts: facts.as_deref().map(read_facts).transpose()?,
            vectors: shapes,
            disagreeing: Vec::new(),
        };
        held.fill(exact);
        match engine {
            Engine::QueryEngine => held.fill(read_indexed(&chunks, indexed)?),
            Engine::VectorSets => held.compare(&chunks, indexed)?,
        }
        Ok(Some(held))
    }

    fn fill(&mut self, values: Vec<ChunkVector>) {
        for filled in values {
            let vector = self.vectors.iter_mut().find(|v| v.chunk == filled.chunk);
            if let Some(vector) = vector {
                vector.values = filled.values;
            }
        }
    }

    /// Compares the vectors with the copies that searches look at, if those were read.
    fn compare(&mut self, chunks: &[u32], copies: Vec<Value>) -> BackendResult<()> {
        for (chunk, copy) in chunks.iter().zip(copies) {
            let Some(vector) = self.vectors.iter().find(|v| v.chunk == *chunk) else {
                continue;
            };
            let copy = read_copy(copy)?;
            if Metric::Cosine.score(&vector.values, &copy) < 1.0 - 1e-5 {
                self.disagreeing.push(ChunkVector {
                    values: copy,
                    ..vector.clone()
                });
            }
        }
        Ok(())
    }
}

fn chunk_numbers(text: &str) -> BackendResult<Vec<u32>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            part.parse()
                .map_err(|_| damaged(format!("{part:?} is no chunk number")))
        })
        .collect()
}

fn read_facts(bytes: &[u8]) -> BackendResult<Document> {
    serde_json::from_slice(bytes).map_err(|error| damaged(format!("facts: {error}")))
}

fn read_set(bytes: Option<Vec<u8>>) -> BackendResult<Vec<ChunkVector>> {
    let Some(bytes) = bytes else {
        return Ok(Vec::new());
    };
    VectorSet::from_bytes(&bytes)
        .map(|set| set.vectors)
        .map_err(|error| damaged(error.to_string()))
}

/// The numbers of the hashes that the query engine indexes; none where a hash is gone, so that
/// the content is another one.
fn read_indexed(chunks: &[u32], values: Vec<Value>) -> BackendResult<Vec<ChunkVector>> {
    chunks
        .iter()
        .zip(values)
        .map(|(chunk, value)| {
            let bytes = optional_bytes("a vector", value)?.unwrap_or_default();
            Ok(ChunkVector {
                chunk: *chunk,
                passage: None,
                values: from_bytes(&bytes).unwrap_or_default(),
            })
        })
        .collect()
}

/// What `VEMB … RAW` answers: the type, the bytes of the direction and the length.
fn read_copy(value: Value) -> BackendResult<Vec<f32>> {
    if value == Value::Nil {
        return Ok(Vec::new());
    }
    let mut parts = list("VEMB", value)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let kind = text("VEMB", next())?;
    if kind != "f32" {
        return Err(damaged(format!("a vector set keeps its vectors as {kind}")));
    }
    let bytes = optional_bytes("VEMB", next())?.unwrap_or_default();
    number("VEMB", &next())?;
    Ok(from_bytes(&bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_that_f32_cannot_compare_are_odd() {
        assert!(is_odd(Metric::Cosine, &[0.0, 0.0]));
        assert!(is_odd(Metric::Cosine, &[1e-20, 0.0]));
        assert!(!is_odd(Metric::Dot, &[0.0, 0.0]));
        assert!(!is_odd(Metric::Euclidean, &[1e-20, 0.0]));
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            assert!(is_odd(metric, &[1e20, 1.0]));
            assert!(is_odd(metric, &[f32::NAN, 1.0]));
            assert!(!is_odd(metric, &[0.5, -3.0]));
        }
    }

    #[test]
    fn numbers_come_back_bit_for_bit() {
        let values = [0.1, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, 1.0];
        let back = from_bytes(&to_bytes(&values)).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));
        assert_eq!(from_bytes(&[1, 2, 3]), None);
    }

    #[test]
    fn passages_come_back() {
        for passage in [
            None,
            Some(Passage {
                start: 0,
                end: u32::MAX,
            }),
        ] {
            assert_eq!(parse_passage(&passage_text(passage)).unwrap(), passage);
        }
        assert!(parse_passage("1:x").is_err());
    }
}
