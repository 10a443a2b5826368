//! What filters ask of a document, as metadata of its chunks.
//!
//! The server compares equal what a scalar or list holds, and orders numbers. So a document is
//! written down as *terms*, one list of texts under one key, and as *bounds*, whole numbers under
//! keys of their own. A term says that something is there (`year` is, it is a number), or that it
//! is equal to a value; bounds are the least and the greatest of a field's numbers, which for a
//! condition that any element of a list may fulfil are all that matters. Floating-point numbers
//! become whole ones of the same order, so that the server's reading of decimals never counts.

use dbmanager_core::model::{Document, Field, Timestamp};
use serde_json::{Map, Value};

/// The key of the list of terms.
pub(super) const TERMS: &str = "terms";
/// The key of the document's place in listings.
pub(super) const SLOT: &str = "slot";
/// Milliseconds since the Unix epoch of the created date.
pub(super) const CREATED: &str = "created_at";

/// A text above so many bytes has no term: it would weigh on every chunk.
pub(super) const MAX_TEXT_BYTES: usize = 1_024;

/// The type of a value of the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Bool,
    Integer,
    Float,
    Text,
}

impl ValueType {
    fn letter(self) -> char {
        match self {
            ValueType::Bool => 'b',
            ValueType::Integer => 'i',
            ValueType::Float => 'f',
            ValueType::Text => 't',
        }
    }
}

/// Which end of a field's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Least,
    Greatest,
}

/// A path of keys as JSON, which tells every two of them apart.
fn path_text(path: &[String]) -> String {
    Value::from(path).to_string()
}

/// The term of a field of this type being there.
pub(super) fn is_there(path: &[String], value_type: ValueType) -> String {
    format!("{}{}", value_type.letter(), path_text(path))
}

/// The term of a field of the metadata being there, whatever it holds.
pub(super) fn exists(path: &[String]) -> String {
    format!("e{}", path_text(path))
}

/// The term of a fact being there; `None` for one that always is.
pub(super) fn fact_exists(field: &Field) -> Option<&'static str> {
    match field {
        Field::DocumentType => Some("document_type"),
        Field::CreatedAt => Some("created_at"),
        Field::FilePath => Some("file_path"),
        _ => None,
    }
}

/// The term of a fact being this text; `None` if the field is no fact or the text has no term.
pub(super) fn fact_is(field: &Field, text: &str) -> Option<String> {
    let name = match field {
        Field::Id => "id",
        Field::Title => "title",
        other => fact_exists(other)?,
    };
    (text.len() <= MAX_TEXT_BYTES).then(|| format!("{name}={text}"))
}

/// The term of a field having this value; whole numbers and those of [`ordered`] as decimals.
pub(super) fn has(path: &[String], value_type: ValueType, value: &str) -> String {
    format!("{}={value}", is_there(path, value_type))
}

/// The key of one end of a field's numbers.
pub(super) fn bound(path: &[String], value_type: ValueType, bound: Bound) -> String {
    let sign = match bound {
        Bound::Least => '<',
        Bound::Greatest => '>',
    };
    format!("{}{sign}{}", value_type.letter(), path_text(path))
}

/// A whole number for each floating-point number, in the same order; −0 is 0.
pub(super) fn ordered(number: f64) -> i64 {
    let bits = (number + 0.0).to_bits() as i64;
    // The sign and magnitude of IEEE 754 as two's complement.
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The metadata of every chunk of this document.
pub(super) fn metadata(document: &Document) -> Map<String, Value> {
    let mut facts = Facts::default();
    let texts = [
        (Field::Id, Some(&document.id)),
        (Field::Title, Some(&document.title)),
        (Field::DocumentType, document.document_type.as_ref()),
        (Field::FilePath, document.file_path.as_ref()),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            facts.fact(&field, text);
        }
    }
    if let Some(time) = document.created_at {
        facts.created(time);
    }
    let mut path = Vec::new();
    facts.object(&mut path, &document.metadata);
    facts.finish(&document.id)
}

#[derive(Default)]
struct Facts {
    terms: Vec<String>,
    bounds: Map<String, Value>,
}

impl Facts {
    fn fact(&mut self, field: &Field, text: &str) {
        self.terms.extend(fact_exists(field).map(str::to_owned));
        self.terms.extend(fact_is(field, text));
    }

    fn created(&mut self, time: Timestamp) {
        self.fact(&Field::CreatedAt, &time.to_string());
        self.bounds
            .insert(CREATED.to_owned(), time.as_unix_milliseconds().into());
    }

    fn object(&mut self, path: &mut Vec<String>, object: &Map<String, Value>) {
        for (key, value) in object {
            path.push(key.clone());
            self.value(path, value);
            path.pop();
        }
    }

    fn value(&mut self, path: &mut Vec<String>, value: &Value) {
        if value.is_null() {
            return;
        }
        self.terms.push(exists(path));
        match value {
            Value::Object(object) => self.object(path, object),
            Value::Array(elements) => {
                for element in elements {
                    self.single(path, element);
                }
            }
            single => self.single(path, single),
        }
    }

    fn single(&mut self, path: &[String], value: &Value) {
        let (value_type, text) = match value {
            Value::Bool(value) => (ValueType::Bool, value.to_string()),
            Value::String(text) if text.len() <= MAX_TEXT_BYTES => (ValueType::Text, text.clone()),
            Value::Number(number) => {
                let (value_type, whole) = match (number.as_i64(), number.as_f64()) {
                    (Some(integer), _) => (ValueType::Integer, integer),
                    (None, Some(float)) => (ValueType::Float, ordered(float)),
                    (None, None) => return,
                };
                self.widen(path, value_type, whole);
                self.terms.push(is_there(path, value_type));
                (value_type, whole.to_string())
            }
            _ => return,
        };
        self.terms.push(has(path, value_type, &text));
    }

    fn widen(&mut self, path: &[String], value_type: ValueType, number: i64) {
        for (end, wider) in [
            (Bound::Least, i64::min as fn(i64, i64) -> i64),
            (Bound::Greatest, i64::max),
        ] {
            let held = self
                .bounds
                .entry(bound(path, value_type, end))
                .or_insert_with(|| number.into());
            *held = wider(held.as_i64().unwrap_or(number), number).into();
        }
    }

    fn finish(mut self, id: &str) -> Map<String, Value> {
        self.terms.sort_unstable();
        self.terms.dedup();
        self.bounds
            .insert(SLOT.to_owned(), super::keys::slot(id).into());
        self.bounds.insert(TERMS.to_owned(), self.terms.into());
        self.bounds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_down_as_terms_and_bounds() {
        let document = Document::new("d")
            .title("T")
            .created_at(Timestamp::from_unix_milliseconds(5))
            .metadata("year", 1990)
            .metadata("tags", json!(["x", 3, 1, null, [9]]))
            .metadata("deep", json!({"er": true}))
            .metadata("nothing", Value::Null);
        assert_eq!(
            Value::from(metadata(&document)),
            json!({
                "slot": super::super::keys::slot("d"),
                "created_at": 5,
                "i<[\"year\"]": 1990, "i>[\"year\"]": 1990,
                "i<[\"tags\"]": 1, "i>[\"tags\"]": 3,
                "terms": [
                    "b[\"deep\",\"er\"]=true",
                    "created_at", "created_at=1970-01-01T00:00:00.005Z",
                    "e[\"deep\",\"er\"]", "e[\"deep\"]", "e[\"tags\"]", "e[\"year\"]",
                    "i[\"tags\"]", "i[\"tags\"]=1", "i[\"tags\"]=3",
                    "i[\"year\"]", "i[\"year\"]=1990",
                    "id=d", "t[\"tags\"]=x", "title=T",
                ],
            })
        );
    }

    proptest! {
        #[test]
        fn whole_numbers_have_the_order_of_the_floating_ones(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(Some(ordered(a).cmp(&ordered(b))), a.partial_cmp(&b));
        }
    }

    #[test]
    fn zero_has_one_form_and_infinity_is_beyond_all() {
        assert_eq!(ordered(-0.0), ordered(0.0));
        assert!(ordered(f64::INFINITY) > ordered(f64::MAX));
        assert!(ordered(f64::NEG_INFINITY) < ordered(f64::MIN));
    }
}
