//! What lies in the embedded stores' files, read by SQL of our own: without the library whose word
//! is in question.

use std::{collections::BTreeMap, error::Error, path::Path};

use dbmanager::model::{Document, VectorSet};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The documents of all three stores, by id.
pub(crate) struct Stores {
    pub(crate) relational: BTreeMap<String, Held<Authority>>,
    graph: BTreeMap<String, Held<Relations>>,
    vector: BTreeMap<String, Held<Vec<Chunk>>>,
}

/// A row of a store's table of documents, with what lies under it.
#[derive(Debug)]
pub(crate) struct Held<T> {
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    pub(crate) content: T,
}

/// A document of the relational store, and what it says the other two must hold.
#[derive(Debug, Default)]
pub(crate) struct Authority {
    /// SHA-256 of the document's exact bytes, in hexadecimal.
    pub(crate) hash: String,
    /// Whether the full-text table has the document's title and text.
    copies_agree: bool,
    relations: Relations,
    vectors: Vec<Chunk>,
}

/// A node and its outgoing edges, in their order.
#[derive(Debug, Default, PartialEq)]
struct Relations {
    title: String,
    document_type: Option<String>,
    edges: Vec<Edge>,
}

/// Collection, id, kind and properties.
type Edge = (String, String, String, String);

/// Chunk number, passage, and the bytes of the numbers.
type Chunk = (u32, Option<u32>, Option<u32>, Vec<u8>);

/// Reads the files of embedded stores, which may be open if nothing is written.
pub(crate) fn read(directory: &Path, collection: &str) -> Result<Stores> {
    Ok(Stores {
        relational: relational(&directory.join("relational.db"), collection)?,
        graph: graph(&directory.join("graph.db"), collection)?,
        vector: vector(&directory.join("vector.db"), collection)?,
    })
}

impl Stores {
    /// Where the stores do not hold the same.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        let authority = &self.relational;
        compare(
            "graph",
            authority,
            &self.graph,
            |a| &a.relations,
            &mut differences,
        );
        compare(
            "vector",
            authority,
            &self.vector,
            |a| &a.vectors,
            &mut differences,
        );
        for (id, document) in authority {
            if !document.deleted && !document.content.copies_agree {
                differences.push(format!(
                    "relational: {id}: the full-text table has other text"
                ));
            }
        }
        differences
    }
}

/// Compares one store's documents with what the relational store's say it must hold.
fn compare<T: PartialEq>(
    name: &str,
    authority: &BTreeMap<String, Held<Authority>>,
    held: &BTreeMap<String, Held<T>>,
    expected: impl Fn(&Authority) -> &T,
    differences: &mut Vec<String>,
) {
    for (id, document) in authority {
        match held.get(id) {
            None => differences.push(format!("{name}: {id} is missing")),
            Some(copy) if (copy.version, copy.deleted) != (document.version, document.deleted) => {
                differences.push(format!(
                    "{name}: {id} has version {}, deleted {}; the relational store {}, {}",
                    copy.version, copy.deleted, document.version, document.deleted
                ));
            }
            Some(copy) if !document.deleted && copy.content != *expected(&document.content) => {
                differences.push(format!("{name}: {id} has another content"));
            }
            Some(_) => {}
        }
    }
    for id in held.keys().filter(|id| !authority.contains_key(*id)) {
        differences.push(format!("{name}: {id} is unknown to the relational store"));
    }
}

/// SHA-256 of the bytes that the relational store must hold of a document, in hexadecimal.
pub(crate) fn content_hash(document: &Document) -> serde_json::Result<String> {
    let mut document = document.clone();
    document.vectors.clear();
    Ok(hash(&serde_json::to_vec(&document)?))
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn open(file: &Path) -> Result<Connection> {
    let named = |error| format!("{}: {error}", file.display());
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(named)?;
    connection.pragma_update(None, "query_only", true)?;
    let sound: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .map_err(named)?;
    if sound == "ok" {
        Ok(connection)
    } else {
        Err(named_text(file, &sound).into())
    }
}

fn named_text(file: &Path, text: &str) -> String {
    format!("{}: {text}", file.display())
}

/// The integer key of a collection's newest generation; absent before its first document.
fn collection(connection: &Connection, name: &str) -> Result<Option<i64>> {
    let key = connection.query_row(
        "SELECT key FROM collection WHERE name = ?1 ORDER BY generation DESC LIMIT 1",
        [name],
        |row| row.get(0),
    );
    Ok(key.optional()?)
}

/// # Errors
/// The table has rows of a document that is deleted or was never there.
fn no_leftovers(connection: &Connection, table: &str, column: &str) -> Result<()> {
    let rows: i64 = connection.query_row(
        &format!(
            "SELECT count(*) FROM {table}
             WHERE {column} NOT IN (SELECT key FROM document WHERE deleted = 0)"
        ),
        [],
        |row| row.get(0),
    )?;
    if rows == 0 {
        return Ok(());
    }
    Err(format!("{rows} rows of {table} belong to no live document").into())
}

/// Every document of a collection; `content` reads what lies under the key of a live one.
fn documents<T: Default>(
    connection: &Connection,
    collection: i64,
    mut content: impl FnMut(i64) -> Result<T>,
) -> Result<BTreeMap<String, Held<T>>> {
    let mut statement = connection
        .prepare("SELECT id, version, deleted, key FROM document WHERE collection = ?1")?;
    let head = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let mut documents = BTreeMap::new();
    for row in statement.query_map([collection], head)? {
        let (id, version, deleted, key) = row?;
        let content = if deleted { T::default() } else { content(key)? };
        let held = Held {
            version,
            deleted,
            content,
        };
        if let Some(other) = documents.insert(id, held) {
            return Err(
                format!("two rows of one document, one of version {}", other.version).into(),
            );
        }
    }
    Ok(documents)
}

/// The relational store's documents.
fn relational(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Authority>>> {
    let connection = open(file)?;
    let Some(collection) = collection(&connection, name)? else {
        return Ok(BTreeMap::new());
    };
    let words = format!("full_text_{collection}");
    for (table, column) in [
        ("content", "document"),
        ("field", "document"),
        (&*words, "rowid"),
    ] {
        no_leftovers(&connection, table, column)?;
    }
    let mut content =
        connection.prepare("SELECT canonical, vectors FROM content WHERE document = ?1")?;
    let mut words = connection.prepare(&format!(
        "SELECT title, text FROM full_text_{collection} WHERE rowid = ?1"
    ))?;
    documents(&connection, collection, |key| {
        let (canonical, vectors): (Vec<u8>, Vec<u8>) =
            content.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let words: (String, String) =
            words.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let document: Document = serde_json::from_slice(&canonical)?;
        Ok(Authority {
            hash: hash(&canonical),
            copies_agree: words == (document.title.clone(), document.text.clone()),
            vectors: chunks(&VectorSet::from_bytes(&vectors)?),
            relations: relations(name, document)?,
        })
    })
}

fn relations(collection: &str, document: Document) -> Result<Relations> {
    let edges = document.references.into_iter().map(|reference| {
        let properties = serde_json::to_string(&reference.properties)?;
        let collection = reference
            .collection
            .unwrap_or_else(|| collection.to_owned());
        Ok((collection, reference.target, reference.kind, properties))
    });
    Ok(Relations {
        title: document.title,
        document_type: document.document_type,
        edges: edges.collect::<Result<_>>()?,
    })
}

fn chunks(set: &VectorSet) -> Vec<Chunk> {
    set.vectors
        .iter()
        .map(|vector| {
            (
                vector.chunk,
                vector.passage.map(|passage| passage.start),
                vector.passage.map(|passage| passage.end),
                vector
                    .values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            )
        })
        .collect()
}

/// The graph store's nodes with their outgoing edges.
fn graph(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Relations>>> {
    let connection = open(file)?;
    let Some(collection) = collection(&connection, name)? else {
        return Ok(BTreeMap::new());
    };
    let titles = format!("title_{collection}");
    for (table, column) in [
        ("node", "document"),
        ("edge", "source"),
        (&*titles, "rowid"),
    ] {
        no_leftovers(&connection, table, column)?;
    }
    let mut node =
        connection.prepare("SELECT title, document_type FROM node WHERE document = ?1")?;
    let mut edges = connection.prepare(
        "SELECT target_collection, target_id, kind, properties FROM edge
         WHERE source = ?1 ORDER BY ordinal",
    )?;
    documents(&connection, collection, |key| {
        let (title, document_type) = node.query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let edges = edges.query_map([key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        Ok(Relations {
            title,
            document_type,
            edges: edges.collect::<rusqlite::Result<_>>()?,
        })
    })
}

/// The vector store's sets of vectors.
fn vector(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Vec<Chunk>>>> {
    let connection = open(file)?;
    let Some(collection) = collection(&connection, name)? else {
        return Ok(BTreeMap::new());
    };
    for table in ["vector", "field"] {
        no_leftovers(&connection, table, "document")?;
    }
    let mut vectors = connection.prepare(
        "SELECT chunk, passage_start, passage_end, numbers FROM vector
         WHERE document = ?1 ORDER BY chunk",
    )?;
    documents(&connection, collection, |key| {
        let vectors = vectors.query_map([key], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        Ok(vectors.collect::<rusqlite::Result<_>>()?)
    })
}
