//! What filters ask of a document, as metadata of its chunks.
//!
//! The server compares equal what a scalar or list holds, and orders numbers. So a document is
//! written down as *terms*, one list of texts under one key, and as *bounds*, whole numbers under
//! keys of their own. A term says that something is there (`year` is, it is a number), or that it
//! is equal to a value; bounds are the least and the greatest of a field's numbers, which for a
//! condition that any element of a list may fulfil are all that matters. Floating-point numbers
//! become whole ones of the same order, so that the server's reading of decimals never counts.
//!
//! Each term carries its path, so a short list under a long key makes much of little. What does
//! not fit into the room that is given is not built at all.

use std::collections::BTreeSet;

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

/// The metadata of every chunk of this document; `None` if its texts take more bytes than `room`.
pub(super) fn metadata(document: &Document, room: usize) -> Option<Map<String, Value>> {
    let mut facts = Facts {
        terms: BTreeSet::new(),
        bounds: Map::new(),
        room,
    };
    let texts = [
        (Field::Id, Some(&document.id)),
        (Field::Title, Some(&document.title)),
        (Field::DocumentType, document.document_type.as_ref()),
        (Field::FilePath, document.file_path.as_ref()),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            facts.fact(&field, text)?;
        }
    }
    if let Some(time) = document.created_at {
        facts.created(time)?;
    }
    let mut path = Vec::new();
    facts.object(&mut path, &document.metadata)?;
    Some(facts.finish(&document.id))
}

/// A value that there is a term for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Single<'a> {
    Bool(bool),
    Integer(i64),
    /// As [`ordered`] has it.
    Float(i64),
    Text(&'a str),
}

impl<'a> Single<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Single::Bool(*value)),
            Value::String(text) => (text.len() <= MAX_TEXT_BYTES).then_some(Single::Text(text)),
            Value::Number(number) => number
                .as_i64()
                .map(Single::Integer)
                .or_else(|| number.as_f64().map(|float| Single::Float(ordered(float)))),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

struct Facts {
    terms: BTreeSet<String>,
    bounds: Map<String, Value>,
    room: usize,
}

impl Facts {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.room = self.room.checked_sub(bytes)?;
        Some(())
    }

    fn term(&mut self, term: String) -> Option<()> {
        if !self.terms.contains(&term) {
            self.take(term.len())?;
            self.terms.insert(term);
        }
        Some(())
    }

    fn fact(&mut self, field: &Field, text: &str) -> Option<()> {
        if let Some(exists) = fact_exists(field) {
            self.term(exists.to_owned())?;
        }
        fact_is(field, text).map_or(Some(()), |term| self.term(term))
    }

    fn created(&mut self, time: Timestamp) -> Option<()> {
        self.fact(&Field::CreatedAt, &time.to_string())?;
        self.bounds
            .insert(CREATED.to_owned(), time.as_unix_milliseconds().into());
        Some(())
    }

    fn object(&mut self, path: &mut Vec<String>, object: &Map<String, Value>) -> Option<()> {
        for (key, value) in object {
            path.push(key.clone());
            self.value(path, value)?;
            path.pop();
        }
        Some(())
    }

    fn value(&mut self, path: &mut Vec<String>, value: &Value) -> Option<()> {
        if value.is_null() {
            return Some(());
        }
        self.term(exists(path))?;
        match value {
            Value::Object(object) => self.object(path, object),
            Value::Array(elements) => {
                // Each once, before any has a text that holds the path.
                let distinct: BTreeSet<_> = elements.iter().filter_map(Single::of).collect();
                distinct
                    .into_iter()
                    .try_for_each(|element| self.single(path, element))
            }
            value => Single::of(value).map_or(Some(()), |value| self.single(path, value)),
        }
    }

    fn single(&mut self, path: &[String], single: Single<'_>) -> Option<()> {
        let (value_type, text) = match single {
            Single::Bool(value) => (ValueType::Bool, value.to_string()),
            Single::Text(text) => (ValueType::Text, text.to_owned()),
            Single::Integer(whole) => {
                self.number(path, ValueType::Integer, whole)?;
                (ValueType::Integer, whole.to_string())
            }
            Single::Float(whole) => {
                self.number(path, ValueType::Float, whole)?;
                (ValueType::Float, whole.to_string())
            }
        };
        self.term(has(path, value_type, &text))
    }

    fn number(&mut self, path: &[String], value_type: ValueType, number: i64) -> Option<()> {
        self.term(is_there(path, value_type))?;
        for (end, wider) in [
            (Bound::Least, i64::min as fn(i64, i64) -> i64),
            (Bound::Greatest, i64::max),
        ] {
            let key = bound(path, value_type, end);
            let held = self.bounds.get(&key).and_then(Value::as_i64);
            if held.is_none() {
                self.take(key.len())?;
            }
            let widened = held.map_or(number, |held| wider(held, number));
            self.bounds.insert(key, widened.into());
        }
        Some(())
    }

    fn finish(mut self, id: &str) -> Map<String, Value> {
        self.bounds
            .insert(SLOT.to_owned(), super::keys::slot(id).into());
        let terms: Vec<String> = self.terms.into_iter().collect();
        self.bounds.insert(TERMS.to_owned(), terms.into());
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
            Value::from(metadata(&document, usize::MAX).unwrap()),
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

    #[test]
    fn the_path_of_a_list_counts_once_for_each_value_that_is_not_there_yet() {
        let key = "k".repeat(10_000);
        let list = |values: Vec<i64>| Document::new("d").metadata(key.as_str(), json!(values));
        let room = 64 * 1024;
        let written = |values| metadata(&list(values), room);
        assert_eq!(written(vec![0; 20_000]), written(vec![0]));
        assert!(written(vec![0]).is_some());
        assert_eq!(written((0..20_000).collect()), None);
    }

    #[test]
    fn the_room_holds_exactly_the_texts() {
        let document = Document::new("d").document_type("report").metadata(
            "deep",
            json!({"list": [1, 2.5, "x", true, 1], "null": null}),
        );
        let whole = metadata(&document, usize::MAX).unwrap();
        let terms = whole[TERMS].as_array().unwrap();
        let terms: usize = terms.iter().map(|term| term.as_str().unwrap().len()).sum();
        let keys = whole
            .keys()
            .filter(|key| ![SLOT, TERMS].contains(&key.as_str()));
        let room = terms + keys.map(String::len).sum::<usize>();
        assert_eq!(metadata(&document, room), Some(whole));
        assert_eq!(metadata(&document, room - 1), None);
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
