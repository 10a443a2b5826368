//! An index of what documents hold under which field, for [`super::filter`].
//!
//! Every single value of a document is one row: each fact, each metadata value by its path of
//! keys, each element of a list. A value that is there but is no single value (an object, a list
//! without single elements) has a row of its own kind, so that `exists` finds it. Null has none.

use std::{borrow::Cow, collections::BTreeSet};

use dbmanager_core::model::{Document, Field, Metadata};
use rusqlite::{
    Connection, OptionalExtension,
    types::{ToSqlOutput, Value as SqlValue, ValueRef},
};
use serde_json::Value;

use super::{JobError, JobResult};

/// The tables of this module. `field` is ordered by document, to replace and to check a document's
/// rows; its index by value, to find documents. Values have no declared type: numbers stay integers
/// or floats, and SQLite compares the two exactly.
pub const SCHEMA: &str = "
CREATE TABLE field_path (
    key        INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    path       TEXT NOT NULL,
    UNIQUE (collection, path)
) STRICT;
CREATE TABLE field (
    document INTEGER NOT NULL,
    path     INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    value    ANY NOT NULL,
    PRIMARY KEY (document, path, kind, value)
) STRICT, WITHOUT ROWID;
CREATE INDEX field_by_value ON field (path, kind, value, document);
";

/// The kinds of values; values of different kinds are never compared.
pub(super) mod kind {
    pub(crate) const BOOL: i64 = 0;
    pub(crate) const NUMBER: i64 = 1;
    pub(crate) const TEXT: i64 = 2;
    /// Something is there that is no single value.
    pub(crate) const OTHER: i64 = 3;
}

/// Puts the values of `document` under its integer key, which has none so far.
///
/// # Errors
/// Of SQLite.
pub fn insert(
    connection: &Connection,
    collection: i64,
    key: i64,
    document: &Document,
) -> JobResult<()> {
    // Equal values of a list (1 and 1.0 too) are one row.
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO field VALUES (?1, ?2, ?3, ?4)")?;
    for leaf in leaves(document) {
        let path = path_key(connection, collection, &leaf.path)?;
        statement.execute((key, path, leaf.kind, leaf.value))?;
    }
    Ok(())
}

/// Removes every value of the document with this integer key.
///
/// # Errors
/// Of SQLite.
pub fn remove(connection: &Connection, key: i64) -> JobResult<()> {
    connection
        .prepare_cached("DELETE FROM field WHERE document = ?1")?
        .execute([key])?;
    Ok(())
}

/// Removes the values of all documents of a collection.
///
/// # Errors
/// Of SQLite.
pub fn drop_collection(connection: &Connection, collection: i64) -> JobResult<()> {
    connection
        .prepare_cached(
            "DELETE FROM field WHERE path IN (SELECT key FROM field_path WHERE collection = ?1)",
        )?
        .execute([collection])?;
    connection
        .prepare_cached("DELETE FROM field_path WHERE collection = ?1")?
        .execute([collection])?;
    Ok(())
}

/// Whether the table holds exactly the values of `document` under its integer key, none for
/// `None`. The index by value is not looked at; `PRAGMA integrity_check` compares the two.
///
/// # Errors
/// Of SQLite.
pub fn agree(
    connection: &Connection,
    collection: i64,
    key: i64,
    document: Option<&Document>,
) -> JobResult<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT field_path.collection, field_path.path, kind, value
         FROM field LEFT JOIN field_path ON field_path.key = field.path
         WHERE document = ?1",
    )?;
    let mut rows = statement.query([key])?;
    let mut held = BTreeSet::new();
    while let Some(row) = rows.next()? {
        if row.get::<_, Option<i64>>(0)? != Some(collection) {
            return Ok(false);
        }
        let value = Comparable::of(row.get_ref(3)?);
        held.insert((row.get::<_, String>(1)?, row.get::<_, i64>(2)?, value));
    }
    let expected: BTreeSet<_> = document
        .map(leaves)
        .unwrap_or_default()
        .into_iter()
        .map(|leaf| {
            let value = match leaf.value {
                LeafValue::Integer(value) => Comparable::Integer(value),
                LeafValue::Float(value) => Comparable::float(value),
                LeafValue::Text(text) => Comparable::Bytes(text.into_owned().into_bytes()),
            };
            (leaf.path, leaf.kind, value)
        })
        .collect();
    Ok(held == expected)
}

/// The text under which a field's path is kept. Metadata paths are JSON lists of their keys, so
/// that no two paths share a text, and no key collides with a fact.
pub(super) fn path_text(field: &Field) -> JobResult<String> {
    Ok(match field {
        Field::Id => ID.to_owned(),
        Field::Title => TITLE.to_owned(),
        Field::DocumentType => DOCUMENT_TYPE.to_owned(),
        Field::CreatedAt => CREATED_AT.to_owned(),
        Field::FilePath => FILE_PATH.to_owned(),
        Field::Metadata(keys) => json_path(&keys.iter().map(String::as_str).collect::<Vec<_>>()),
        _ => {
            return Err(JobError::Backend(
                dbmanager_core::backend::BackendError::unsupported("a filter on this field"),
            ));
        }
    })
}

const ID: &str = "id";
const TITLE: &str = "title";
const DOCUMENT_TYPE: &str = "document_type";
const CREATED_AT: &str = "created_at";
const FILE_PATH: &str = "file_path";

fn json_path(keys: &[&str]) -> String {
    Value::from(keys.to_vec()).to_string()
}

fn path_key(connection: &Connection, collection: i64, path: &str) -> JobResult<i64> {
    let found = connection
        .prepare_cached("SELECT key FROM field_path WHERE collection = ?1 AND path = ?2")?
        .query_row((collection, path), |row| row.get(0))
        .optional()?;
    if let Some(key) = found {
        return Ok(key);
    }
    connection
        .prepare_cached("INSERT INTO field_path (collection, path) VALUES (?1, ?2)")?
        .execute((collection, path))?;
    Ok(connection.last_insert_rowid())
}

struct Leaf<'a> {
    path: String,
    kind: i64,
    value: LeafValue<'a>,
}

enum LeafValue<'a> {
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl rusqlite::ToSql for LeafValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            LeafValue::Integer(value) => ToSqlOutput::Owned(SqlValue::Integer(*value)),
            LeafValue::Float(value) => ToSqlOutput::Owned(SqlValue::Real(*value)),
            LeafValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        })
    }
}

/// A value under SQLite's equality, for comparing sets of rows.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Comparable {
    Null,
    Integer(i64),
    /// The bits of a float that equals no 64-bit integer.
    Float(u64),
    Bytes(Vec<u8>),
}

impl Comparable {
    fn of(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Comparable::Null,
            ValueRef::Integer(value) => Comparable::Integer(value),
            ValueRef::Real(value) => Comparable::float(value),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Comparable::Bytes(bytes.to_vec()),
        }
    }

    fn float(value: f64) -> Self {
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        if value.trunc() == value && (-TWO_TO_63..TWO_TO_63).contains(&value) {
            Comparable::Integer(value as i64)
        } else {
            Comparable::Float(value.to_bits())
        }
    }
}

fn leaves(document: &Document) -> Vec<Leaf<'_>> {
    let time = document.created_at.map(|time| time.to_string());
    let facts = [
        (ID, Some(Cow::from(&document.id))),
        (TITLE, Some(Cow::from(&document.title))),
        (
            DOCUMENT_TYPE,
            document.document_type.as_deref().map(Cow::from),
        ),
        (CREATED_AT, time.map(Cow::from)),
        (FILE_PATH, document.file_path.as_deref().map(Cow::from)),
    ];
    let mut leaves: Vec<_> = facts
        .into_iter()
        .filter_map(|(path, text)| {
            text.map(|text| Leaf {
                path: path.to_owned(),
                kind: kind::TEXT,
                value: LeafValue::Text(text),
            })
        })
        .collect();
    object_leaves(&document.metadata, &mut Vec::new(), &mut leaves);
    leaves
}

fn object_leaves<'a>(object: &'a Metadata, path: &mut Vec<&'a str>, leaves: &mut Vec<Leaf<'a>>) {
    for (key, value) in object {
        path.push(key);
        let before = leaves.len();
        match value {
            Value::Null => {
                path.pop();
                continue;
            }
            Value::Array(elements) => leaves.extend(
                elements
                    .iter()
                    .filter_map(|element| single(element, || json_path(path))),
            ),
            value => leaves.extend(single(value, || json_path(path))),
        }
        if leaves.len() == before {
            leaves.push(Leaf {
                path: json_path(path),
                kind: kind::OTHER,
                value: LeafValue::Integer(0),
            });
        }
        if let Value::Object(inner) = value {
            object_leaves(inner, path, leaves);
        }
        path.pop();
    }
}

fn single(value: &Value, path: impl Fn() -> String) -> Option<Leaf<'_>> {
    let (kind, value) = match value {
        Value::Bool(value) => (kind::BOOL, LeafValue::Integer(i64::from(*value))),
        Value::String(text) => (kind::TEXT, LeafValue::Text(text.as_str().into())),
        Value::Number(number) => {
            let value = number
                .as_i64()
                .map(LeafValue::Integer)
                .or_else(|| number.as_f64().map(LeafValue::Float))?;
            (kind::NUMBER, value)
        }
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Leaf {
        path: path(),
        kind,
        value,
    })
}
