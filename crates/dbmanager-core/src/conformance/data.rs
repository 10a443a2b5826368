//! Stamps, collections, documents and hostile strings that cases are made of.

use std::{future::Future, sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    Runtime,
    backend::{BackendResult, Stamp},
    model::{
        ChunkVector, Collection, CollectionKey, CollectionOptions, Document, DocumentRecord,
        EmbeddingSpace, JournalId, Metric, Passage, Reference, StoreId, Timestamp, Tokenizer,
        VectorOrigin, VectorSet, Version,
    },
};

/// How often something that fails for a transient reason is repeated.
pub(super) const MOST_ATTEMPTS: usize = 200;

/// Repeats a call until it does not fail for a transient reason.
pub(super) async fn persist<T, F: Future<Output = BackendResult<T>>>(
    runtime: &Runtime,
    call: impl Fn() -> F,
) -> BackendResult<T> {
    for attempt in 1..MOST_ATTEMPTS {
        match call().await {
            Err(error) if error.is_transient() => pause(runtime, attempt).await,
            answer => return answer,
        }
    }
    call().await
}

/// The pause after an attempt: a millisecond at first, doubled after every eighth up to a second,
/// so that a circuit breaker which has opened is waited for.
pub(super) async fn pause(runtime: &Runtime, attempt: usize) {
    let milliseconds = 1 << (attempt / 8).min(10);
    runtime.sleep(Duration::from_millis(milliseconds)).await;
}

/// The `number`th version at today's magnitude: two neighbours differ by 1.
pub(super) fn version(number: u64) -> Version {
    let base = Version::from_parts(1_760_000_000_000, 0);
    Version::from_u64(base.as_u64() + number)
}

pub(super) fn stamp(epoch: u64) -> Stamp {
    Stamp {
        store_id: StoreId::from_u128(1),
        journal_id: JournalId::from_u128(2),
        epoch,
        progress: Version::ZERO,
    }
}

/// Words as they are, and vectors of three numbers compared by cosine.
pub(super) fn options() -> CollectionOptions {
    CollectionOptions::new()
        .tokenizer(Tokenizer::Unicode)
        .embedding_space(EmbeddingSpace::CALLER, 3, Metric::Cosine)
}

pub(super) fn collection() -> Collection {
    named("papers", 1)
}

pub(super) fn named(name: &str, generation: u64) -> Collection {
    Collection {
        key: CollectionKey::new(name, generation),
        options: options(),
    }
}

/// The record that the write route makes of a document: its vectors become the set.
pub(super) fn record(document: Document) -> Arc<DocumentRecord> {
    let vectors = document
        .vectors
        .iter()
        .zip(0..)
        .map(|(vector, chunk)| ChunkVector {
            chunk,
            passage: vector.passage,
            values: vector.values.clone(),
        })
        .collect();
    let set = VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors,
    };
    Arc::new(DocumentRecord::new(document, set).expect("a document built in memory is JSON"))
}

/// A document of which every part depends on `number`, down to how many references, vectors and
/// optional facts it has.
pub(super) fn sample(id: &str, number: u64) -> Arc<DocumentRecord> {
    let mut document = Document::new(id)
        .title(format!("title {number}"))
        .text(format!("text {number} of {id:?}"))
        .metadata("number", number)
        .metadata(format!("only {number}"), json!([number, {"deep": null}]))
        .references((0..number % 4).map(|i| {
            Reference::new(format!("target {number} {i}"))
                .kind(format!("kind {i}"))
                .property("number", number)
        }));
    if number.is_multiple_of(2) {
        document = document.document_type(format!("type {number}")).created_at(
            Timestamp::from_unix_milliseconds(number as i64 * 86_400_001),
        );
    }
    if number.is_multiple_of(3) {
        document = document.file_path(format!("/{number}"));
    }
    for chunk in 0..number % 5 {
        let passage = Passage {
            start: chunk as u32,
            end: chunk as u32 + 1,
        };
        document = document.passage_vector(passage, [number as f32, chunk as f32 + 0.25, 1.0]);
    }
    record(document)
}

/// Ids that differ although something between here and the disk may think that they do not, or
/// that may be taken for syntax.
pub(super) fn hostile_ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "a",
        "A",
        " a",
        "a ",
        "a  ",
        "a\t",
        "a\n",
        "a\r\n",
        "\u{e4}",
        "a\u{308}",
        "\u{c4}",
        "ss",
        "\u{df}",
        "ff",
        "\u{fb00}",
        "i",
        "\u{130}",
        "\u{131}",
        "\u{3c3}",
        "\u{3c2}",
        "'",
        "''",
        "\"",
        "`",
        "';--",
        "\\",
        "\\\\",
        "\\'",
        "/",
        "a/b",
        ".",
        "..",
        "../a",
        "}",
        "{",
        "{a}",
        "|",
        "a|b",
        ":",
        "a:b",
        "a::b",
        ";",
        "#",
        "%",
        "%61",
        "_",
        "*",
        "?",
        "[a]",
        "(",
        ")",
        "$",
        "$1",
        "${a}",
        "@",
        "&",
        "=",
        "+",
        "-",
        "--",
        "~",
        "^",
        "!",
        ",",
        "<b>",
        "0",
        "00",
        "1",
        "1.0",
        "1e0",
        "-0",
        "true",
        "null",
        "NULL",
        "NaN",
        "undefined",
        "\u{1}",
        "\u{7f}",
        "\u{a0}",
        "\u{200b}",
        "a\u{200b}",
        "\u{feff}a",
        "\u{202e}a",
        "\u{fffd}",
        "\u{ffff}",
        "\u{1f980}",
        "\u{1f468}\u{200d}\u{1f469}",
        "\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    ids.push("x".repeat(512));
    ids.push("x".repeat(511));
    ids.push("\u{1f980}".repeat(128));
    ids
}

/// Collection names in the same spirit; none is longer than 255 bytes.
pub(super) fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "a",
        "A",
        "a ",
        "\u{e4}",
        "a\u{308}",
        "'",
        "\"",
        "`",
        "; DROP TABLE documents",
        "..",
        "../a",
        "/",
        "\\",
        "a.b",
        "a_1",
        "a-1",
        "a:1",
        "%",
        "*",
        "sqlite_master",
        "select",
        "0",
        "-",
        "{a}",
        "}",
        "|",
        "\u{1f980}",
        "\u{1}",
        "a\nb",
        "documents",
        "main",
    ]
    .map(str::to_owned)
    .into();
    names.push("n".repeat(255));
    names.push("n".repeat(254));
    names
}

/// A document whose metadata is hard to keep exactly.
pub(super) fn hostile_document(id: &str) -> Document {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-0.0),
        json!(0.1),
        json!(1.0),
        json!(1e308),
        json!(5e-324),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!((1_i64 << 53) + 1),
        json!(""),
        json!("\u{1}\"\\\u{1f980}\r\n\t'"),
        json!([]),
        json!({}),
        json!([[null], {"": {"a.b": []}}, "1", 1, 1.0, true]),
    ];
    let keys = hostile_ids();
    let mut document = Document::new(id)
        .title("line\nbreak \u{1f980} \"quoted\" <b>")
        .text("\u{feff}first\r\nsecond\u{1}\u{2028}'; DROP TABLE documents; --")
        .document_type("")
        .file_path("C:\\a\\..\\b")
        .metadata("", "the empty key");
    for (key, value) in keys.into_iter().zip(values.into_iter().cycle()) {
        document = document.metadata(key, value);
    }
    document
}

/// Random numbers from a seed by SplitMix64 (Steele, Lea and Flood 2014): small, and the same on
/// every machine.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1; the bias is far below what a test can see.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_u64() % bound as u64) as usize
    }

    /// A number from 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of these, of which there is at least one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Numbers from −1 to 1.
    pub(super) fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension)
            .map(|_| (self.unit() * 2.0 - 1.0) as f32)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's first numbers for the seed 1234567.
    #[test]
    fn the_generator_is_splitmix64() {
        let mut seeded = Seeded::new(1_234_567);
        assert_eq!(seeded.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(seeded.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn hostile_strings_are_distinct_and_within_the_limits() {
        for (strings, most) in [(hostile_ids(), 512), (hostile_names(), 255)] {
            let distinct: std::collections::BTreeSet<_> = strings.iter().collect();
            assert_eq!(distinct.len(), strings.len());
            assert!(strings.iter().all(|s| (1..=most).contains(&s.len())));
        }
    }
}
