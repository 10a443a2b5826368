//! What lies in the embedded stores' files, read by SQL of our own.

use std::{collections::BTreeMap, error::Error, path::Path};

use dbmanager::model::{Document, VectorSet};
use rusqlite::{Connection, OpenFlags, Row};
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A row of a store's table of documents, with what lies under it.
pub(crate) struct Held<T> {
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    pub(crate) content: T,
}

/// A document of the relational store, and what it says the other two must hold.
#[derive(Default)]
pub(crate) struct Authority {
    /// SHA-256 of the document's exact bytes, in hexadecimal.
    pub(crate) hash: String,
    /// Whether the full-text table has the document's title and text.
    pub(crate) copies_agree: bool,
    pub(crate) relations: Relations,
    pub(crate) vectors: Vec<Chunk>,
}

/// A node and its outgoing edges, in their order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Relations {
    title: String,
    document_type: Option<String>,
    edges: Vec<Edge>,
}

/// Collection, id, kind and properties.
type Edge = (String, String, String, String);

/// Chunk number, passage, and the bytes of the numbers.
type Chunk = (u32, Option<u32>, Option<u32>, Vec<u8>);

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

/// The integer key of a collection's newest generation.
fn collection(connection: &Connection, name: &str) -> Result<i64> {
    connection
        .query_row(
            "SELECT key FROM collection WHERE name = ?1 ORDER BY generation DESC LIMIT 1",
            [name],
            |row| row.get(0),
        )
        .map_err(|error| format!("collection {name}: {error}").into())
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
        documents.insert(
            id,
            Held {
                version,
                deleted,
                content,
            },
        );
    }
    Ok(documents)
}

/// The relational store's documents.
pub(crate) fn relational(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Authority>>> {
    let connection = open(file)?;
    let collection = collection(&connection, name)?;
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
            hash: Sha256::digest(&canonical)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
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
pub(crate) fn graph(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Relations>>> {
    let connection = open(file)?;
    let collection = collection(&connection, name)?;
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
pub(crate) fn vector(file: &Path, name: &str) -> Result<BTreeMap<String, Held<Vec<Chunk>>>> {
    let connection = open(file)?;
    let collection = collection(&connection, name)?;
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
