//! The rows of documents in the embedded stores' own tables, written by plain SQL in transactions:
//! what the library's writes are compared with.

use std::{path::Path, thread};

use dbmanager::model::{ChunkVector, Document, VectorOrigin, VectorSet};
use rusqlite::{Connection, Transaction, params};
use serde_json::Value;

/// Connections to the files of three closed stores that have one collection.
pub(crate) struct RawStores {
    relational: Connection,
    graph: Connection,
    vector: Connection,
    version: i64,
}

fn open(file: &Path) -> Connection {
    let connection = Connection::open(file).expect("the store's file opens");
    // As the adapters do.
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .expect("a pragma");
    connection
        .pragma_update(None, "synchronous", "NORMAL")
        .expect("a pragma");
    connection
        .pragma_update(None, "cache_size", -16_384)
        .expect("a pragma");
    connection.set_prepared_statement_cache_capacity(64);
    connection
}

impl RawStores {
    pub(crate) fn open(directory: &Path) -> Self {
        Self {
            relational: open(&directory.join("relational.db")),
            graph: open(&directory.join("graph.db")),
            vector: open(&directory.join("vector.db")),
            version: 1 << 60,
        }
    }

    /// Upserts the documents in one transaction per file, the three files at the same time.
    pub(crate) fn upsert(&mut self, documents: &[Document]) {
        self.version += 1;
        let version = self.version;
        thread::scope(|scope| {
            let others = [
                scope.spawn(|| in_transaction(&mut self.graph, documents, version, graph)),
                scope.spawn(|| in_transaction(&mut self.vector, documents, version, vector)),
            ];
            in_transaction(&mut self.relational, documents, version, relational);
            for other in others {
                other.join().expect("the rows are written");
            }
        });
    }
}

fn in_transaction(
    connection: &mut Connection,
    documents: &[Document],
    version: i64,
    write: fn(&Transaction<'_>, &Document, i64) -> rusqlite::Result<()>,
) {
    let transaction = connection.transaction().expect("a transaction begins");
    for document in documents {
        write(&transaction, document, version).expect("the rows are written");
    }
    transaction.commit().expect("the rows are committed");
}

/// The row of a document; its key.
fn head(t: &Transaction<'_>, document: &Document, version: i64) -> rusqlite::Result<i64> {
    t.prepare_cached(
        "INSERT INTO document (collection, id, version, deleted) VALUES (1, ?1, ?2, 0)
         ON CONFLICT (collection, id) DO UPDATE
         SET version = excluded.version, deleted = excluded.deleted
         WHERE excluded.version > version RETURNING key",
    )?
    .query_row(params![document.id, version], |row| row.get(0))
}

fn run(t: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> rusqlite::Result<()> {
    t.prepare_cached(sql)?.execute(parameters).map(drop)
}

fn relational(t: &Transaction<'_>, document: &Document, version: i64) -> rusqlite::Result<()> {
    let key = head(t, document, version)?;
    let mut plain = document.clone();
    plain.vectors.clear();
    let canonical = serde_json::to_vec(&plain).expect("a document is JSON");
    let vectors = set(document).to_bytes().expect("vectors are bytes");
    run(t, "DELETE FROM content WHERE document = ?1", [key])?;
    run(t, "DELETE FROM full_text_1 WHERE rowid = ?1", [key])?;
    run(
        t,
        "INSERT INTO content VALUES (?1, NULL, NULL, NULL, ?2, ?3)",
        params![key, vectors, canonical],
    )?;
    run(
        t,
        "INSERT INTO full_text_1 (rowid, title, text) VALUES (?1, ?2, ?3)",
        params![key, document.title, document.text],
    )?;
    fields(t, document, key)
}

/// The index of metadata by field.
fn fields(t: &Transaction<'_>, document: &Document, key: i64) -> rusqlite::Result<()> {
    run(t, "DELETE FROM field WHERE document = ?1", [key])?;
    for (name, value) in &document.metadata {
        let path = t
            .prepare_cached(
                "INSERT INTO field_path (collection, path) VALUES (1, ?1)
                 ON CONFLICT DO UPDATE SET path = excluded.path RETURNING key",
            )?
            .query_row([name], |row| row.get::<_, i64>(0))?;
        let sql = "INSERT OR IGNORE INTO field VALUES (?1, ?2, ?3, ?4)";
        match value {
            Value::Number(number) => run(t, sql, params![key, path, 1, number.as_i64()])?,
            other => run(t, sql, params![key, path, 2, other.as_str()])?,
        }
    }
    Ok(())
}

fn graph(t: &Transaction<'_>, document: &Document, version: i64) -> rusqlite::Result<()> {
    let key = head(t, document, version)?;
    run(t, "DELETE FROM node WHERE document = ?1", [key])?;
    run(t, "DELETE FROM edge WHERE source = ?1", [key])?;
    run(t, "DELETE FROM title_1 WHERE rowid = ?1", [key])?;
    run(
        t,
        "INSERT INTO node VALUES (?1, ?2, NULL)",
        params![key, document.title],
    )?;
    run(
        t,
        "INSERT INTO title_1 (rowid, title) VALUES (?1, ?2)",
        params![key, document.title],
    )?;
    for (ordinal, reference) in (0_i64..).zip(&document.references) {
        run(
            t,
            "INSERT INTO edge VALUES (?1, ?2, 'documents', ?3, ?4, 1, '{}')",
            params![key, ordinal, reference.target, reference.kind],
        )?;
    }
    Ok(())
}

fn vector(t: &Transaction<'_>, document: &Document, version: i64) -> rusqlite::Result<()> {
    let key: i64 = t
        .prepare_cached(
            "INSERT INTO document (collection, id, version, deleted, change)
             VALUES (1, ?1, ?2, 0, ?2)
             ON CONFLICT (collection, id) DO UPDATE
             SET version = excluded.version, change = excluded.change
             WHERE excluded.version > version RETURNING key",
        )?
        .query_row(params![document.id, version], |row| row.get(0))?;
    run(t, "DELETE FROM vector WHERE document = ?1", [key])?;
    for vector in set(document).vectors {
        let numbers: Vec<u8> = vector
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        run(
            t,
            "INSERT INTO vector (document, chunk, passage_start, passage_end, numbers)
             VALUES (?1, ?2, NULL, NULL, ?3)",
            params![key, vector.chunk, numbers],
        )?;
    }
    fields(t, document, key)
}

fn set(document: &Document) -> VectorSet {
    let chunk = |(chunk, vector): (u32, &dbmanager::model::DocumentVector)| ChunkVector {
        chunk,
        passage: vector.passage,
        values: vector.values.clone(),
    };
    VectorSet {
        origin: VectorOrigin::Caller,
        text_hash: None,
        vectors: (0..).zip(&document.vectors).map(chunk).collect(),
    }
}
