//! What the graph holds, as hashes over what is read.

use dbmanager_backend_support::sqlite::{
    JobResult, collections,
    documents::{self, StoredHead},
    full_text::index_damage,
};
use dbmanager_core::{
    backend::{Fingerprint, IdsRequest, ListRequest, Page},
    model::ContentHash,
};
use rusqlite::{Connection, OptionalExtension};

use super::{
    read::{StoredEdge, references},
    schema::titles,
};

pub(super) fn fingerprints(
    connection: &Connection,
    request: &ListRequest,
) -> JobResult<Page<Fingerprint>> {
    let reader = Reader {
        connection,
        collection: collections::get(connection, &request.collection)?.key,
        name: &request.collection.name,
    };
    if request.after.is_none() {
        reader.check_index()?;
    }
    let limit = request.limit.max(1);
    let rows = documents::page(
        connection,
        reader.collection,
        request.after.as_deref(),
        limit,
    )?;
    let next = (rows.len() == limit)
        .then(|| rows.last().map(|row| row.id.to_string()))
        .flatten();
    let items = rows
        .into_iter()
        .map(|row| reader.fingerprint(row))
        .collect::<JobResult<_>>()?;
    Ok(Page { items, next })
}

pub(super) fn fingerprints_of(
    connection: &Connection,
    request: &IdsRequest,
) -> JobResult<Vec<Option<Fingerprint>>> {
    let reader = Reader {
        connection,
        collection: collections::get(connection, &request.collection)?.key,
        name: &request.collection.name,
    };
    documents::find(connection, reader.collection, &request.ids)?
        .into_iter()
        .map(|row| row.map(|row| reader.fingerprint(row)).transpose())
        .collect()
}

struct Reader<'a> {
    connection: &'a Connection,
    collection: i64,
    name: &'a str,
}

impl Reader<'_> {
    fn fingerprint(&self, row: StoredHead) -> JobResult<Fingerprint> {
        let StoredHead { key, id, head } = row;
        let node = self.node(key)?;
        let title = self.title(key)?;
        let edges = references(self.connection, key)?;
        let content_hash = match (&node, head.deleted) {
            (None, true) if title.is_none() && edges.is_empty() => ContentHash::TOMBSTONE,
            (Some((text, document_type)), false) if title.as_deref() == Some(text.as_bytes()) => {
                self.hash(text, document_type.as_deref(), &edges)
            }
            // No title has a NUL, so this is the hash of no document.
            _ => self.hash(&format!("\0{node:?}\0{title:?}"), None, &edges),
        };
        Ok(Fingerprint {
            id,
            head,
            content_hash,
        })
    }

    fn hash(&self, title: &str, document_type: Option<&str>, edges: &[StoredEdge]) -> ContentHash {
        let references: Vec<_> = edges.iter().map(StoredEdge::resolved).collect();
        ContentHash::of_graph(self.name, title, document_type, references.iter())
    }

    fn node(&self, key: i64) -> JobResult<Option<(String, Option<String>)>> {
        Ok(self
            .connection
            .prepare_cached("SELECT title, document_type FROM node WHERE document = ?1")?
            .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    /// The title as FTS5 has it, whatever has been put there.
    fn title(&self, key: i64) -> JobResult<Option<Vec<u8>>> {
        let title: Option<Option<Vec<u8>>> = self
            .connection
            .prepare_cached(&format!(
                "SELECT CAST(title AS BLOB) FROM {} WHERE rowid = ?1",
                titles(self.collection)
            ))?
            .query_row([key], |row| row.get(0))
            .optional()?;
        Ok(title.map(Option::unwrap_or_default))
    }

    /// If the index of titles is damaged though no title was changed (that shows in its document's
    /// hash), no document's hash could tell.
    fn check_index(&self) -> JobResult<()> {
        match index_damage(self.connection, &titles(self.collection))? {
            Some(damage) if !self.some_title_was_changed()? => Err(damage),
            _ => Ok(()),
        }
    }

    fn some_title_was_changed(&self) -> JobResult<bool> {
        let table = titles(self.collection);
        let sql = format!(
            "SELECT EXISTS (
                 SELECT 1 FROM document
                 JOIN node ON node.document = document.key
                 LEFT JOIN {table} ON {table}.rowid = document.key
                 WHERE document.collection = ?1 AND {table}.title IS NOT node.title
             )"
        );
        let changed = self
            .connection
            .query_row(&sql, [self.collection], |row| row.get(0))?;
        Ok(changed)
    }
}
