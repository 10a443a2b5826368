//! An index of what documents hold under which field, for [`super::filter`].
//!
//! Every single value of a document is one row: each fact, each metadata value by its path of
//! keys, each element of a list. A value that is there but is no single value (an object, a list
//! without single elements) has a row of its own kind, so that `exists` finds it. Null has none.
//!
//! A path is kept once for its collection, but each document has to have its own looked up and may
//! bring new ones; below a long key every short one makes a long path. So the paths of a document
//! are bounded ([`MAX_PATH_BYTES`]), and never held all at once.

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

/// Bytes that the different paths of one document's metadata may take.
pub const MAX_PATH_BYTES: usize = 64 * 1024 * 1024;

/// The kinds of values; values of different kinds are never compared.
pub(super) mod kind {
    pub(crate) const BOOL: i64 = 0;
    pub(crate) const NUMBER: i64 = 1;
    pub(crate) const TEXT: i64 = 2;
    /// Something is there that is no single value.
    pub(crate) const OTHER: i64 = 3;
}

/// Refuses a document whose paths take more than [`MAX_PATH_BYTES`], before anything is written.
///
/// # Errors
/// `Refused`.
pub fn check(document: &Document) -> JobResult<()> {
    let mut room = MAX_PATH_BYTES;
    each_path(&document.metadata, &mut |path, _| {
        room = room.checked_sub(path.len()).ok_or_else(|| {
            JobError::refused(format!(
                "the paths of the metadata take more than {MAX_PATH_BYTES} bytes"
            ))
        })?;
        Ok(())
    })
}

/// Puts the values of `document` under its integer key, which has none so far.
///
/// # Errors
/// `Refused` as by [`check`]; of SQLite.
pub fn insert(
    connection: &Connection,
    collection: i64,
    key: i64,
    document: &Document,
) -> JobResult<()> {
    check(document)?;
    // A row that somebody else's hand has left is no reason to refuse the document.
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO field VALUES (?1, ?2, ?3, ?4)")?;
    each_field(document, &mut |path, values| {
        let path = match path_key(connection, collection, path)? {
            Some(found) => found,
            None => new_path(connection, collection, path)?,
        };
        for (kind, value) in values {
            statement.execute((key, path, kind, value))?;
        }
        Ok(())
    })
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
    let mut statement =
        connection.prepare_cached("SELECT path, kind, value FROM field WHERE document = ?1")?;
    let mut rows = statement.query([key])?;
    let mut held = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let value = Single::of_row(row.get_ref(2)?);
        held.insert((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, value));
    }
    let mut all_there = true;
    if let Some(document) = document {
        each_field(document, &mut |path, values| {
            // Paths of another collection have other keys.
            let path = path_key(connection, collection, path)?;
            for (kind, value) in values {
                all_there &= path.is_some_and(|path| held.remove(&(path, kind, value)));
            }
            Ok(())
        })?;
    }
    Ok(all_there && held.is_empty())
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

fn path_key(connection: &Connection, collection: i64, path: &str) -> JobResult<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT key FROM field_path WHERE collection = ?1 AND path = ?2")?
        .query_row((collection, path), |row| row.get(0))
        .optional()?)
}

fn new_path(connection: &Connection, collection: i64, path: &str) -> JobResult<i64> {
    connection
        .prepare_cached("INSERT INTO field_path (collection, path) VALUES (?1, ?2)")?
        .execute((collection, path))?;
    Ok(connection.last_insert_rowid())
}

/// A value under SQLite's equality: a floating-point number that is a 64-bit integer is that.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Single<'a> {
    Null,
    Integer(i64),
    /// The bits of a float that equals no 64-bit integer.
    Float(u64),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Single<'a> {
    fn of_row(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Single::Null,
            ValueRef::Integer(value) => Single::Integer(value),
            ValueRef::Real(value) => Single::float(value),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Single::Bytes(Cow::Owned(bytes.to_vec()))
            }
        }
    }

    fn float(value: f64) -> Self {
        const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
        if value.trunc() == value && (-TWO_TO_63..TWO_TO_63).contains(&value) {
            Single::Integer(value as i64)
        } else {
            Single::Float(value.to_bits())
        }
    }

    fn text(text: &'a str) -> Self {
        Single::Bytes(Cow::Borrowed(text.as_bytes()))
    }

    /// The value with its kind, if it is a single one.
    fn of(value: &'a Value) -> Option<(i64, Self)> {
        match value {
            Value::Bool(value) => Some((kind::BOOL, Single::Integer(i64::from(*value)))),
            Value::String(text) => Some((kind::TEXT, Single::text(text))),
            Value::Number(number) => number
                .as_i64()
                .map(Single::Integer)
                .or_else(|| number.as_f64().map(Single::float))
                .map(|number| (kind::NUMBER, number)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

impl rusqlite::ToSql for Single<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Single::Null => ToSqlOutput::Owned(SqlValue::Null),
            Single::Integer(value) => ToSqlOutput::Owned(SqlValue::Integer(*value)),
            Single::Float(bits) => ToSqlOutput::Owned(SqlValue::Real(f64::from_bits(*bits))),
            Single::Bytes(text) => ToSqlOutput::Borrowed(ValueRef::Text(text)),
        })
    }
}

/// The rows of one path; equal values of a list are one.
type Singles<'a> = BTreeSet<(i64, Single<'a>)>;

/// Calls `visit` once for each path that something is at, with what is there.
fn each_field<'a>(
    document: &'a Document,
    visit: &mut impl FnMut(&str, Singles<'a>) -> JobResult<()>,
) -> JobResult<()> {
    let time = document.created_at.map(|time| time.to_string());
    let text = |text: &'a str| Cow::Borrowed(text.as_bytes());
    let facts = [
        (ID, Some(text(&document.id))),
        (TITLE, Some(text(&document.title))),
        (DOCUMENT_TYPE, document.document_type.as_deref().map(text)),
        (CREATED_AT, time.map(|time| Cow::Owned(time.into_bytes()))),
        (FILE_PATH, document.file_path.as_deref().map(text)),
    ];
    for (path, fact) in facts {
        if let Some(fact) = fact {
            visit(path, BTreeSet::from([(kind::TEXT, Single::Bytes(fact))]))?;
        }
    }
    each_path(&document.metadata, &mut |path, value| {
        visit(path, singles(value))
    })
}

fn singles(value: &Value) -> Singles<'_> {
    let mut singles: Singles<'_> = match value {
        Value::Array(elements) => elements.iter().filter_map(Single::of).collect(),
        value => Single::of(value).into_iter().collect(),
    };
    if singles.is_empty() {
        singles.insert((kind::OTHER, Single::Integer(0)));
    }
    singles
}

/// Calls `visit` for each path of keys that leads to anything but null, the ways to others too.
fn each_path<'a>(
    metadata: &'a Metadata,
    visit: &mut impl FnMut(&str, &'a Value) -> JobResult<()>,
) -> JobResult<()> {
    below(metadata, &mut String::from("["), visit)
}

/// `path` is the text of the path so far without its closing bracket: one text serves for all.
fn below<'a>(
    object: &'a Metadata,
    path: &mut String,
    visit: &mut impl FnMut(&str, &'a Value) -> JobResult<()>,
) -> JobResult<()> {
    let length = path.len();
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        if length > 1 {
            path.push(',');
        }
        path.push_str(&Value::from(key.as_str()).to_string());
        path.push(']');
        visit(path, value)?;
        path.pop();
        if let Value::Object(inner) = value {
            below(inner, path, visit)?;
        }
        path.truncate(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dbmanager_core::backend::{BackendErrorKind, Effect};

    use super::*;

    /// A key with seven more below it.
    fn long(key: usize, values: impl Fn(i64) -> Value) -> Document {
        let below: Metadata = (0..7).map(|n| (n.to_string(), values(n))).collect();
        Document::new("d").metadata("k".repeat(key), below)
    }

    #[test]
    fn a_document_is_refused_for_good_above_the_bound_on_its_paths() {
        // `["k…"]` and seven of `["k…","0"]`.
        let longest = (MAX_PATH_BYTES - 4 - 7 * 8) / 8;
        check(&long(longest, Value::from)).unwrap();
        check(&long(longest + 1, |_| Value::Null)).unwrap();

        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let refused = insert(&connection, 1, 1, &long(longest + 1, Value::from));
        let Err(JobError::Backend(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), BackendErrorKind::Refused);
        assert_eq!(error.effect(), Effect::NotApplied);
        let rows = connection.query_row("SELECT count(*) FROM field", [], |row| row.get(0));
        assert_eq!(rows, Ok(0));
    }

    #[test]
    fn paths_are_written_as_filters_name_them() {
        let document = Document::new("d")
            .metadata("a\"\n", Value::from(vec![1]))
            .metadata("b", serde_json::json!({"": {"ü": true}}));
        let mut found = Vec::new();
        each_path(&document.metadata, &mut |path, _| {
            found.push(path.to_owned());
            Ok(())
        })
        .unwrap();
        let text = |keys: &[&str]| {
            let keys = keys.iter().map(|key| (*key).to_owned()).collect();
            path_text(&Field::Metadata(keys)).unwrap()
        };
        let expected: [&[&str]; 4] = [&["a\"\n"], &["b"], &["b", ""], &["b", "", "ü"]];
        assert_eq!(found, expected.map(text));
    }
}
