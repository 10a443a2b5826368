//! The tables, and one full-text table per collection.

use dbmanager_backend_support::sqlite::{
    JobError, JobResult, Schema,
    collections::{self, StoredCollection},
    documents, fields,
    full_text::tokenizer_sql,
    stamp,
};
use dbmanager_core::{
    backend::{BackendError, BackendErrorKind},
    model::Document,
};
use rusqlite::Connection;

/// `document` stays small, so that heads, counts and pages read little; the bytes lie in `content`
/// under the same key.
pub(super) const SCHEMA: Schema = Schema {
    // "dbmr"
    application_id: 0x6462_6d72,
    migrations: &[&[
        stamp::SCHEMA,
        collections::SCHEMA,
        documents::SCHEMA,
        fields::SCHEMA,
        "
CREATE TABLE content (
    document      INTEGER PRIMARY KEY,
    document_type TEXT,
    created_at    TEXT,
    file_path     TEXT,
    vectors       BLOB NOT NULL,
    canonical     BLOB NOT NULL
) STRICT;
",
    ]],
};

/// The name of the collection's full-text table. The key is a number: nothing to quote.
pub(super) fn full_text(collection: i64) -> String {
    format!("full_text_{collection}")
}

/// FTS5 keeps title and text itself: so it removes exactly the words it has indexed, and its
/// integrity check can compare the index with them.
pub(super) fn create_full_text(
    connection: &Connection,
    collection: &StoredCollection,
) -> JobResult<()> {
    let tokenizer = tokenizer_sql(collection.options.tokenizer)?;
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {} USING fts5(title, text, tokenize = '{tokenizer}')",
        full_text(collection.key)
    ))?;
    Ok(())
}

/// The facts that are columns of `content`, as text.
pub(super) fn facts(document: &Document) -> [Option<String>; 3] {
    [
        document.document_type.clone(),
        document.created_at.map(|time| time.to_string()),
        document.file_path.clone(),
    ]
}

/// What a row that this adapter never writes is called.
pub(super) fn damaged(id: &str) -> JobError {
    let what = format!("the stored document {id:?} is damaged");
    BackendError::new(BackendErrorKind::Damaged, what)
        .with_document(id)
        .into()
}
