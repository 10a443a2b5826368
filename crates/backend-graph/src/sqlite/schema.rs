//! The tables, and one table of titles per collection.

use dbmanager_backend_support::sqlite::{
    JobResult, Schema,
    collections::{self, StoredCollection},
    documents,
    full_text::tokenizer_sql,
    stamp,
};
use rusqlite::Connection;

/// `edge` lies in order of its source; the index has everything that walking backwards reads.
/// `own_collection`: the reference names no collection, and so means its source's.
pub(super) const SCHEMA: Schema = Schema {
    // "dbmg"
    application_id: 0x6462_6d67,
    migrations: &[&[
        stamp::SCHEMA,
        collections::SCHEMA,
        documents::SCHEMA,
        "
CREATE TABLE node (
    document      INTEGER PRIMARY KEY,
    title         TEXT NOT NULL,
    document_type TEXT
) STRICT;
CREATE TABLE edge (
    source            INTEGER NOT NULL,
    ordinal           INTEGER NOT NULL,
    target_collection TEXT NOT NULL,
    target_id         TEXT NOT NULL,
    kind              TEXT NOT NULL,
    own_collection    INTEGER NOT NULL,
    properties        TEXT NOT NULL,
    PRIMARY KEY (source, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_by_target ON edge (target_collection, target_id, source, kind);
",
    ]],
};

/// The name of the collection's table of titles. The key is a number: nothing to quote.
pub(super) fn titles(collection: i64) -> String {
    format!("title_{collection}")
}

pub(super) fn create_titles(
    connection: &Connection,
    collection: &StoredCollection,
) -> JobResult<()> {
    let tokenizer = tokenizer_sql(collection.options.tokenizer)?;
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE {} USING fts5(title, tokenize = '{tokenizer}')",
        titles(collection.key)
    ))?;
    Ok(())
}
