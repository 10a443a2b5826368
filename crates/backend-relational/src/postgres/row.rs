//! A document as columns: what the queryable copies of its parts hold.

use std::{fmt::Write, sync::Arc};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult, Limits, Mutation},
    model::{Document, DocumentRecord, Metadata, Tokenizer, Version},
};
use serde_json::Value;

use super::words::{self, DocumentWords};

/// The row of a mutation, in no one's hands but its own, so that it can be made on any thread.
#[derive(Clone, Debug)]
pub(super) struct Row {
    mutation: Mutation,
    /// What had to be worked out; nothing for a tombstone.
    live: Option<Live>,
}

#[derive(Clone, Debug)]
struct Live {
    record: Arc<DocumentRecord>,
    created_at: Option<String>,
    metadata: String,
    words: DocumentWords,
    vectors: Vec<u8>,
}

/// The columns of a row. A tombstone has the first two only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns<'a> {
    pub(super) id: &'a str,
    pub(super) version: i64,
    pub(super) live: Option<LiveColumns<'a>>,
}

/// The columns of a live document.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveColumns<'a> {
    pub(super) title: &'a str,
    pub(super) document_type: Option<&'a str>,
    pub(super) created_at: Option<&'a str>,
    pub(super) file_path: Option<&'a str>,
    pub(super) metadata: &'a str,
    pub(super) words: &'a DocumentWords,
    pub(super) vectors: &'a [u8],
    pub(super) canonical: &'a [u8],
}

impl Row {
    /// The row of this mutation, if it keeps the limits.
    ///
    /// # Errors
    /// `Refused` if it does not.
    pub(super) fn of(
        mutation: &Mutation,
        tokenizer: Tokenizer,
        limits: &Limits,
    ) -> BackendResult<Self> {
        let bytes = mutation.id.len();
        let longest = limits.max_id_bytes;
        if bytes == 0 || bytes > longest {
            return Err(refused(format!(
                "an id of {bytes} bytes; 1 to {longest} are allowed"
            )));
        }
        if mutation.id.contains('\0') {
            return Err(refused("an id contains NUL"));
        }
        if mutation.version > Version::MAX {
            return Err(refused("a version above the highest one"));
        }
        let live = match mutation.state.record() {
            None => None,
            Some(record) => Some(Live::of(record, tokenizer, limits)?),
        };
        Ok(Self {
            mutation: mutation.clone(),
            live,
        })
    }

    pub(super) fn columns(&self) -> Columns<'_> {
        Columns {
            id: &self.mutation.id,
            version: self.mutation.version.as_i64(),
            live: self.live.as_ref().map(Live::columns),
        }
    }

    /// About how much it adds to a message.
    pub(super) fn bytes(&self) -> usize {
        let live = self.live.as_ref().map_or(0, |live| {
            live.record.document().title.len()
                + live.metadata.len()
                + live.words.text.len()
                + live.vectors.len()
                + live.record.canonical().len()
        });
        self.mutation.id.len() + live + 64
    }
}

impl Live {
    fn of(
        record: &Arc<DocumentRecord>,
        tokenizer: Tokenizer,
        limits: &Limits,
    ) -> BackendResult<Self> {
        let largest = limits.max_document_bytes;
        let bytes = record.canonical().len();
        if bytes > largest {
            return Err(refused(format!(
                "a document of {bytes} bytes; at most {largest} are allowed"
            )));
        }
        let document = record.document();
        let vectors = record
            .vectors()
            .to_bytes()
            .map_err(|_| refused("the vectors cannot be written as bytes"))?;
        Ok(Self {
            record: Arc::clone(record),
            created_at: created_at(document),
            metadata: metadata_json(&document.metadata),
            words: words::of_document(tokenizer, document),
            vectors,
        })
    }

    fn columns(&self) -> LiveColumns<'_> {
        let document = self.record.document();
        LiveColumns {
            title: &document.title,
            document_type: document.document_type.as_deref(),
            created_at: self.created_at.as_deref(),
            file_path: document.file_path.as_deref(),
            metadata: &self.metadata,
            words: &self.words,
            vectors: &self.vectors,
            canonical: self.record.canonical(),
        }
    }
}

/// The created date as its column holds it.
pub(super) fn created_at(document: &Document) -> Option<String> {
    document.created_at.map(|time| time.to_string())
}

fn refused(why: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, why).not_applied()
}

/// Metadata as JSON whose numbers are exactly those that filters compare: the server compares
/// decimal numbers, and the shortest decimal that reads as a large floating-point number is not
/// that number.
pub(super) fn metadata_json(metadata: &Metadata) -> String {
    let mut json = String::new();
    write_object(&mut json, metadata);
    json
}

fn write_object(json: &mut String, object: &Metadata) {
    json.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_text(json, key);
        json.push(':');
        write_value(json, value);
    }
    json.push('}');
}

fn write_value(json: &mut String, value: &Value) {
    match value {
        Value::Null => json.push_str("null"),
        Value::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Value::String(text) => write_text(json, text),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => json.push_str(&integer.to_string()),
            (None, Some(float)) => json.push_str(&exact_decimal(float)),
            (None, None) => json.push_str("null"),
        },
        Value::Array(elements) => {
            json.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_value(json, element);
            }
            json.push(']');
        }
        Value::Object(object) => write_object(json, object),
    }
}

/// JSON text; quotation marks, backslashes and control characters are escaped.
pub(super) fn write_text(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => {
                // Writing into a `String` never fails.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// A decimal that compares with integers and with other such decimals as the number does.
///
/// From 2^53 on floating-point numbers are integers and are written out whole. Below, the shortest
/// decimal does: it is an integer only if the number is, and lies on the same side of all others.
pub(super) fn exact_decimal(float: f64) -> String {
    const TWO_TO_53: f64 = 9_007_199_254_740_992.0;
    if float.abs() >= TWO_TO_53 {
        format!("{float:.0}")
    } else {
        // JSON has no negative zero that means another number.
        format!("{:e}", float + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(value: Value) -> String {
        let mut json = String::new();
        write_value(&mut json, &value);
        json
    }

    #[test]
    fn large_numbers_are_written_whole() {
        assert_eq!(
            written(json!(4.611_686_018_427_388e18)),
            "4611686018427387904"
        );
        assert_eq!(written(json!(u64::MAX)), "18446744073709551616");
        assert_eq!(written(json!(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(json!(0.1)), "1e-1");
        assert_eq!(written(json!(-0.0)), "0e0");
        assert_eq!(written(json!(1.0)), "1e0");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_float_stays_the_same_number(float in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
            prop_assert_eq!(exact_decimal(float).parse::<f64>().unwrap(), float);
        }

        #[test]
        fn text_is_json_of_the_same_text(text in "\\PC*|[\\x00-\\x1f\"\\\\]*") {
            let mut json = String::new();
            write_text(&mut json, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
