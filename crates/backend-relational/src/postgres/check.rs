//! What the store holds, as hashes over what is read: the exact bytes, and every copy of a part of
//! them (columns, metadata, words). A copy that disagrees changes the hash.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{Fingerprint, Head, ListRequest, Page},
    model::{ContentHash, DocumentRecord, VectorSet, Version},
};
use sqlx::{AssertSqlSafe, Row as _, postgres::PgConnection, postgres::PgRow};

use super::{
    catalogue::StoredCollection,
    convert::JobResult,
    read::{limit, sendable},
    row::{created_at, metadata_json},
    words,
};

const COLUMNS: &str = "id, version, deleted, title, document_type, created_at, file_path, \
                       vectors, canonical, \
                       num_nulls(title, metadata, length, words, vectors, canonical)";
/// The columns that [`COLUMNS`] counts the nulls of: a live document has all of them, a tombstone
/// none.
const COUNTED: i32 = 6;

/// A page by the bytes of the ids, within a transaction that sees one moment.
pub(super) async fn page(
    transaction: &mut PgConnection,
    collection: &StoredCollection,
    request: &ListRequest,
) -> JobResult<Page<Fingerprint>> {
    let table = &collection.table;
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE id > $1 ORDER BY id LIMIT $2");
    let most = request.limit.max(1);
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(request.after.as_deref().unwrap_or_default())
        .bind(limit(most))
        .fetch_all(&mut *transaction)
        .await?;
    let items = judged(transaction, collection, &rows).await?;
    let next = (items.len() == most)
        .then(|| items.last().map(|item| item.id.to_string()))
        .flatten();
    Ok(Page { items, next })
}

/// Those of these ids, in their order, within a transaction that sees one moment.
pub(super) async fn some(
    transaction: &mut PgConnection,
    collection: &StoredCollection,
    ids: &[Arc<str>],
) -> JobResult<Vec<Option<Fingerprint>>> {
    let table = &collection.table;
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE id = ANY ($1)");
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(sendable(ids))
        .fetch_all(&mut *transaction)
        .await?;
    let found: HashMap<Arc<str>, Fingerprint> = judged(transaction, collection, &rows)
        .await?
        .into_iter()
        .map(|fingerprint| (Arc::clone(&fingerprint.id), fingerprint))
        .collect();
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// A row as it stands.
struct Held {
    id: Arc<str>,
    head: Head,
    facts: [Option<String>; 4],
    vectors: Option<Vec<u8>>,
    canonical: Option<Vec<u8>>,
    nulls: i32,
    /// The record, if the columns read agree with it.
    record: Option<DocumentRecord>,
}

impl Held {
    fn read(row: &PgRow) -> JobResult<Self> {
        let id: String = row.try_get(0)?;
        let mut held = Self {
            id: id.into(),
            head: Head {
                version: Version::from_i64(row.try_get(1)?),
                deleted: row.try_get(2)?,
            },
            facts: [
                row.try_get(3)?,
                row.try_get(4)?,
                row.try_get(5)?,
                row.try_get(6)?,
            ],
            vectors: row.try_get(7)?,
            canonical: row.try_get(8)?,
            nulls: row.try_get(9)?,
            record: None,
        };
        held.record = held.agreed();
        Ok(held)
    }

    fn agreed(&self) -> Option<DocumentRecord> {
        let bytes = self.vectors.as_deref()?;
        let vectors = VectorSet::from_bytes(bytes).ok()?;
        if vectors.to_bytes().ok()? != bytes || self.nulls != 0 || self.head.deleted {
            return None;
        }
        let record = DocumentRecord::from_parts(self.canonical.as_deref()?, vectors).ok()?;
        let document = record.document();
        let created_at = created_at(document);
        let expected = [
            Some(document.title.as_str()),
            document.document_type.as_deref(),
            created_at.as_deref(),
            document.file_path.as_deref(),
        ];
        let same = self.facts.each_ref().map(Option::as_deref) == expected;
        same.then_some(record)
    }

    fn is_tombstone(&self) -> bool {
        self.head.deleted && self.nulls == COUNTED && self.facts.iter().all(Option::is_none)
    }

    fn content_hash(&self, disagrees: bool) -> ContentHash {
        match &self.record {
            Some(record) if !disagrees => {
                ContentHash::of_relational(record.canonical(), record.vectors())
            }
            None if self.is_tombstone() => ContentHash::TOMBSTONE,
            _ => self.altered(),
        }
    }

    /// A hash over what was read, apart from that of any agreeing document: its bytes are not
    /// JSON.
    fn altered(&self) -> ContentHash {
        let mut bytes = vec![0xff];
        let mut add = |part: Option<&[u8]>| {
            bytes.push(u8::from(part.is_some()));
            let part = part.unwrap_or_default();
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        };
        for fact in &self.facts {
            add(fact.as_deref().map(str::as_bytes));
        }
        add(self.vectors.as_deref());
        add(self.canonical.as_deref());
        ContentHash::of_relational(&bytes, &VectorSet::empty())
    }
}

async fn judged(
    transaction: &mut PgConnection,
    collection: &StoredCollection,
    rows: &[PgRow],
) -> JobResult<Vec<Fingerprint>> {
    let held = rows.iter().map(Held::read).collect::<JobResult<Vec<_>>>()?;
    let disagreeing = disagreeing(transaction, collection, &held).await?;
    Ok(held
        .into_iter()
        .map(|held| Fingerprint {
            content_hash: held.content_hash(disagreeing.contains(&*held.id)),
            head: held.head,
            id: held.id,
        })
        .collect())
}

/// The ids whose metadata, words or number of words are not those of their document. The server
/// compares, for it makes the words.
async fn disagreeing(
    transaction: &mut PgConnection,
    collection: &StoredCollection,
    held: &[Held],
) -> JobResult<HashSet<String>> {
    let mut ids = Vec::new();
    let mut metadata = Vec::new();
    let mut texts = Vec::new();
    let mut lengths = Vec::new();
    for held in held {
        if let Some(record) = &held.record {
            let words = words::of_document(collection.tokenizer, record.document());
            ids.push(&*held.id);
            metadata.push(metadata_json(&record.document().metadata));
            texts.push(words.text);
            lengths.push(words.length);
        }
    }
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let table = &collection.table;
    let configuration = words::configuration(collection.tokenizer)?;
    let vector = words::vector_sql(configuration, "expected.words");
    let sql = format!(
        "SELECT held.id
         FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[])
              AS expected (id, metadata, words, length)
         JOIN {table} AS held ON held.id = expected.id
         WHERE held.metadata IS DISTINCT FROM expected.metadata::jsonb
            OR held.length IS DISTINCT FROM expected.length
            OR held.words IS DISTINCT FROM {vector}"
    );
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(ids)
        .bind(metadata)
        .bind(texts)
        .bind(lengths)
        .fetch_all(transaction)
        .await?;
    Ok(found.into_iter().collect())
}
