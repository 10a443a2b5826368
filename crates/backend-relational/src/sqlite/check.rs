//! What the store holds, as hashes over what is read: the exact bytes, and every copy of a part
//! of them (columns, full text, fields). A copy that disagrees changes the hash.

use dbmanager_backend_support::sqlite::{
    JobResult, collections,
    documents::{self, StoredHead},
    fields,
    full_text::index_damage,
};
use dbmanager_core::{
    backend::{Fingerprint, IdsRequest, ListRequest, Page},
    model::{ContentHash, Document, DocumentRecord, VectorSet},
};
use rusqlite::{Connection, OptionalExtension};

use super::schema::{facts, full_text};

pub(super) fn fingerprints(
    connection: &Connection,
    request: &ListRequest,
) -> JobResult<Page<Fingerprint>> {
    let collection = collections::get(connection, &request.collection)?.key;
    let reader = Reader {
        connection,
        collection,
    };
    if request.after.is_none() {
        reader.check_index()?;
    }
    let limit = request.limit.max(1);
    let rows = documents::page(connection, collection, request.after.as_deref(), limit)?;
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
    let collection = collections::get(connection, &request.collection)?.key;
    let reader = Reader {
        connection,
        collection,
    };
    documents::find(connection, collection, &request.ids)?
        .into_iter()
        .map(|row| row.map(|row| reader.fingerprint(row)).transpose())
        .collect()
}

/// A row of `content` as it stands.
struct Content {
    facts: [Option<String>; 3],
    vectors: Vec<u8>,
    canonical: Vec<u8>,
}

/// Title and text as FTS5 has them, whatever has been put there.
type Text = [Option<Vec<u8>>; 2];

fn same_text(text: &Text, document: &Document) -> bool {
    text.iter().map(Option::as_deref).eq([
        Some(document.title.as_bytes()),
        Some(document.text.as_bytes()),
    ])
}

struct Reader<'a> {
    connection: &'a Connection,
    collection: i64,
}

impl Reader<'_> {
    fn fingerprint(&self, row: StoredHead) -> JobResult<Fingerprint> {
        let StoredHead { key, id, head } = row;
        let content = self.content(key)?;
        let text = self.text(key)?;
        let content_hash = match (head.deleted, content) {
            (true, None) if text.is_none() && self.fields_agree(key, None)? => {
                ContentHash::TOMBSTONE
            }
            (false, Some(content)) => match self.agreed(key, &content, text.as_ref())? {
                Some(record) => ContentHash::of_relational(record.canonical(), record.vectors()),
                None => altered(Some(&content), text.as_ref()),
            },
            (_, content) => altered(content.as_ref(), text.as_ref()),
        };
        Ok(Fingerprint {
            id,
            head,
            content_hash,
        })
    }

    /// The record, if every copy of a part of it agrees with it.
    fn agreed(
        &self,
        key: i64,
        content: &Content,
        text: Option<&Text>,
    ) -> JobResult<Option<DocumentRecord>> {
        let Ok(vectors) = VectorSet::from_bytes(&content.vectors) else {
            return Ok(None);
        };
        let same_bytes = vectors
            .to_bytes()
            .is_ok_and(|bytes| bytes == content.vectors);
        let Ok(record) = DocumentRecord::from_parts(&content.canonical, vectors) else {
            return Ok(None);
        };
        let document = record.document();
        let agrees = same_bytes
            && facts(document) == content.facts
            && text.is_some_and(|text| same_text(text, document))
            && self.fields_agree(key, Some(document))?;
        Ok(agrees.then_some(record))
    }

    fn fields_agree(&self, key: i64, document: Option<&Document>) -> JobResult<bool> {
        fields::agree(self.connection, self.collection, key, document)
    }

    fn content(&self, key: i64) -> JobResult<Option<Content>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT document_type, created_at, file_path, vectors, canonical
                 FROM content WHERE document = ?1",
            )?
            .query_row([key], |row| {
                Ok(Content {
                    facts: [row.get(0)?, row.get(1)?, row.get(2)?],
                    vectors: row.get(3)?,
                    canonical: row.get(4)?,
                })
            })
            .optional()?)
    }

    fn text(&self, key: i64) -> JobResult<Option<Text>> {
        Ok(self
            .connection
            .prepare_cached(&format!(
                "SELECT CAST(title AS BLOB), CAST(text AS BLOB) FROM {} WHERE rowid = ?1",
                full_text(self.collection)
            ))?
            .query_row([key], |row| Ok([row.get(0)?, row.get(1)?]))
            .optional()?)
    }

    /// Asks FTS5 whether its index holds the words of its own title and text. If it does not, and
    /// no title or text was changed either (those show in their documents' hashes), the index
    /// itself is damaged, which no document's hash could tell.
    fn check_index(&self) -> JobResult<()> {
        match index_damage(self.connection, &full_text(self.collection))? {
            Some(damage) if !self.some_text_was_changed()? => Err(damage),
            _ => Ok(()),
        }
    }

    fn some_text_was_changed(&self) -> JobResult<bool> {
        let mut statement = self.connection.prepare(
            "SELECT document.key, content.canonical FROM document
             JOIN content ON content.document = document.key
             WHERE document.collection = ?1 AND NOT document.deleted",
        )?;
        let mut rows = statement.query([self.collection])?;
        while let Some(row) = rows.next()? {
            let canonical: Vec<u8> = row.get(1)?;
            let record = DocumentRecord::from_parts(&canonical, VectorSet::empty());
            let same = match (record, self.text(row.get(0)?)?) {
                (Ok(record), Some(text)) => same_text(&text, record.document()),
                _ => false,
            };
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A hash over everything that was read, apart from that of any agreeing document: its bytes are
/// not JSON.
fn altered(content: Option<&Content>, text: Option<&Text>) -> ContentHash {
    let mut bytes = vec![0xff];
    let mut add = |part: Option<&[u8]>| {
        bytes.push(u8::from(part.is_some()));
        let part = part.unwrap_or_default();
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    };
    for fact in content.iter().flat_map(|content| &content.facts) {
        add(fact.as_deref().map(str::as_bytes));
    }
    add(content.map(|content| content.vectors.as_slice()));
    add(content.map(|content| content.canonical.as_slice()));
    for column in text.into_iter().flatten() {
        add(column.as_deref());
    }
    ContentHash::of_relational(&bytes, &VectorSet::empty())
}
