//! What a document's filterable values are: one entry for each single value, with the path that
//! leads to it.
//!
//! An entry is `{p: path, b|n|t: value}`, the value under the name of its type, so that values of
//! different types are never compared. What is there but is no single value (an object, a list
//! without single elements) is `{p: path, o: true}`, so that `exists` finds it; null has no entry.
//! Values are not kept as nested documents, since the server takes dots, dollars and positions in
//! paths for syntax, compares lists as a whole too, and looks into lists of documents.

use dbmanager_core::{
    backend::{BackendError, BackendResult},
    model::{Document, Field, Metadata},
};
use mongodb::bson::{Bson, doc};
use serde_json::Value;

/// The name of the path in an entry.
pub(super) const PATH: &str = "p";
/// The names of values in an entry, by type.
pub(super) const BOOL: &str = "b";
pub(super) const NUMBER: &str = "n";
pub(super) const TEXT: &str = "t";
const OTHER: &str = "o";

const TITLE: &str = "title";
const DOCUMENT_TYPE: &str = "document_type";
const CREATED_AT: &str = "created_at";
const FILE_PATH: &str = "file_path";

/// Bytes that the entries of one document may take in its record. A document with more has none,
/// and filters are evaluated on it by this adapter.
pub(super) const MAX_FIELD_BYTES: usize = 6 * 1024 * 1024;
/// Bytes of an entry beside its path and text.
const ENTRY_OVERHEAD: usize = 40;

/// The entries of a document; `None` if they take too much room. The id has none: it is `_id`.
pub(super) fn of_document(document: &Document) -> Option<Vec<Bson>> {
    let mut fields = Fields {
        entries: Vec::new(),
        room: MAX_FIELD_BYTES,
    };
    let created_at = document.created_at.map(|time| time.to_string());
    let facts = [
        (TITLE, Some(document.title.as_str())),
        (DOCUMENT_TYPE, document.document_type.as_deref()),
        (CREATED_AT, created_at.as_deref()),
        (FILE_PATH, document.file_path.as_deref()),
    ];
    for (path, text) in facts {
        if let Some(text) = text {
            fields.add(path, TEXT, text.into(), text.len())?;
        }
    }
    fields.object(&document.metadata, &mut Vec::new())?;
    Some(fields.entries)
}

/// The path under which a field's entries are kept. Those of metadata are JSON lists of their keys,
/// so that no two share a text and no key collides with a fact.
pub(super) fn path(field: &Field) -> BackendResult<String> {
    Ok(match field {
        Field::Title => TITLE.to_owned(),
        Field::DocumentType => DOCUMENT_TYPE.to_owned(),
        Field::CreatedAt => CREATED_AT.to_owned(),
        Field::FilePath => FILE_PATH.to_owned(),
        Field::Metadata(keys) => json_path(&keys.iter().map(String::as_str).collect::<Vec<_>>()),
        _ => return Err(BackendError::unsupported("a filter on this field")),
    })
}

fn json_path(keys: &[&str]) -> String {
    Value::from(keys.to_vec()).to_string()
}

/// Collects entries as long as there is room.
struct Fields {
    entries: Vec<Bson>,
    room: usize,
}

impl Fields {
    fn add(&mut self, path: &str, kind: &str, value: Bson, bytes: usize) -> Option<()> {
        self.room = self.room.checked_sub(ENTRY_OVERHEAD + path.len() + bytes)?;
        self.entries.push(doc! { PATH: path, kind: value }.into());
        Some(())
    }

    fn object<'a>(&mut self, object: &'a Metadata, keys: &mut Vec<&'a str>) -> Option<()> {
        for (key, value) in object {
            keys.push(key);
            if !value.is_null() {
                let path = json_path(keys);
                let before = self.entries.len();
                match value {
                    Value::Array(elements) => {
                        for element in elements {
                            self.single(&path, element)?;
                        }
                    }
                    value => self.single(&path, value)?,
                }
                if self.entries.len() == before {
                    self.add(&path, OTHER, true.into(), 0)?;
                }
            }
            if let Value::Object(inner) = value {
                self.object(inner, keys)?;
            }
            keys.pop();
        }
        Some(())
    }

    /// Adds the value if it is a single one.
    fn single(&mut self, path: &str, value: &Value) -> Option<()> {
        match value {
            Value::Bool(value) => self.add(path, BOOL, (*value).into(), 0),
            Value::String(text) => self.add(path, TEXT, text.as_str().into(), text.len()),
            Value::Number(number) => {
                let value = number
                    .as_i64()
                    .map(Bson::Int64)
                    .or_else(|| number.as_f64().map(Bson::Double));
                value.map_or(Some(()), |value| self.add(path, NUMBER, value, 0))
            }
            Value::Null | Value::Array(_) | Value::Object(_) => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(key: &str, value: Value) -> Vec<Bson> {
        let document = Document::new("a").metadata(key, value);
        let mut entries = of_document(&document).unwrap();
        entries.remove(0);
        entries
    }

    #[test]
    fn every_single_value_has_an_entry_under_its_type() {
        assert_eq!(
            entries("a.b", json!([1, 1.5, "x", true, null, [2], {"c": 3}])),
            [
                doc! { "p": r#"["a.b"]"#, "n": 1_i64 }.into(),
                doc! { "p": r#"["a.b"]"#, "n": 1.5 }.into(),
                doc! { "p": r#"["a.b"]"#, "t": "x" }.into(),
                doc! { "p": r#"["a.b"]"#, "b": true }.into(),
            ]
        );
        assert_eq!(
            entries("$", json!({"": u64::MAX, "n": null})),
            [
                doc! { "p": r#"["$"]"#, "o": true }.into(),
                doc! { "p": r#"["$",""]"#, "n": u64::MAX as f64 }.into(),
            ]
        );
        assert_eq!(
            entries("a", json!([[]])),
            [doc! { "p": r#"["a"]"#, "o": true }.into()]
        );
        assert_eq!(entries("a", json!(null)), [] as [Bson; 0]);
    }

    #[test]
    fn facts_do_not_collide_with_keys_of_their_names() {
        let document = Document::new("a").title("fact").metadata("title", "key");
        assert_eq!(
            of_document(&document).unwrap(),
            [
                doc! { "p": "title", "t": "fact" }.into(),
                doc! { "p": r#"["title"]"#, "t": "key" }.into(),
            ]
        );
    }

    #[test]
    fn entries_that_take_too_much_room_are_left_out_whole() {
        let many: serde_json::Map<_, _> = (0..1_000).map(|n| (n.to_string(), json!(n))).collect();
        let document = Document::new("a").metadata("k".repeat(10_000), many);
        assert_eq!(of_document(&document), None);
    }
}
