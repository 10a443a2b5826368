//! Between the journal's types and the values of columns.

use std::str::FromStr;

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, DocumentState, Effect},
    journal::{EntryHeader, EntryKind, JournalError, JournalErrorKind, JournalResult},
    model::{CollectionKey, DocumentRecord, Timestamp, VectorSet, Version},
};
use sha2::{Digest, Sha256};
use sqlx::{Decode, Postgres, Row, Type, postgres::PgRow};
use std::sync::Arc;

/// Bytes that an entry is counted with besides its texts and contents.
const ROW_BYTES: usize = 96;

/// Something stored is not what was written.
pub(super) fn damaged(what: impl std::fmt::Display) -> JournalError {
    JournalError::new(
        JournalErrorKind::Damaged,
        format!("the journal is damaged: {what}"),
    )
}

/// The journal's error for a statement that failed before any commit: nothing was written.
pub(super) fn unavailable(error: BackendError) -> JournalError {
    let kind = match error.kind() {
        BackendErrorKind::Damaged => JournalErrorKind::Damaged,
        _ => JournalErrorKind::Unavailable,
    };
    JournalError::new(kind, error.message().to_owned()).with_source(error)
}

/// The journal's error for an opening that failed.
pub(super) fn open_failed(error: BackendError) -> JournalError {
    let kind = match error.kind() {
        BackendErrorKind::Config | BackendErrorKind::Denied => JournalErrorKind::Open,
        BackendErrorKind::Damaged => JournalErrorKind::Damaged,
        _ => JournalErrorKind::Unavailable,
    };
    JournalError::new(kind, error.message().to_owned()).with_source(error)
}

/// The journal's error for a commit that failed.
pub(super) fn commit_failed(error: BackendError) -> JournalError {
    let kind = match error.effect() {
        Effect::NotApplied => JournalErrorKind::Unavailable,
        _ => JournalErrorKind::Indeterminate,
    };
    JournalError::new(kind, format!("the commit failed: {}", error.message())).with_source(error)
}

/// A number as the server's `bigint`; what is beyond stays at its highest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn version_number(version: Version) -> i64 {
    signed(version.as_u64())
}

/// The value of a column.
pub(super) fn column<'r, T>(row: &'r PgRow, name: &str) -> JournalResult<T>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(name)
        .map_err(|error| damaged(format!("column {name}: {error}")))
}

pub(super) fn unsigned(row: &PgRow, name: &str) -> JournalResult<u64> {
    let number: i64 = column(row, name)?;
    u64::try_from(number).map_err(|_| damaged(format!("column {name} is below zero")))
}

pub(super) fn version(row: &PgRow, name: &str) -> JournalResult<Version> {
    unsigned(row, name).map(Version::from_u64)
}

/// An id that is selected as text.
pub(super) fn identifier<T: FromStr>(row: &PgRow, name: &str) -> JournalResult<T> {
    parse_id(column(row, name)?)
}

pub(super) fn parse_id<T: FromStr>(text: &str) -> JournalResult<T> {
    text.parse()
        .map_err(|_| damaged(format!("{text:?} is no id")))
}

const KINDS: [EntryKind; 3] = [
    EntryKind::Upsert,
    EntryKind::Delete,
    EntryKind::DropCollection,
];

pub(super) fn kind_number(kind: EntryKind) -> i16 {
    match kind {
        EntryKind::Upsert => 0,
        EntryKind::Delete => 1,
        EntryKind::DropCollection => 2,
    }
}

pub(super) fn kind_of(number: i16) -> JournalResult<EntryKind> {
    usize::try_from(number)
        .ok()
        .and_then(|number| KINDS.get(number).copied())
        .ok_or_else(|| damaged(format!("{number} is no kind of entry")))
}

/// The columns that [`header`] reads.
pub(super) const HEADER_COLUMNS: &str = "version, operation_id::text AS operation, collection, generation, id, kind, bytes, appended_at";

pub(super) fn header(row: &PgRow) -> JournalResult<EntryHeader> {
    Ok(EntryHeader {
        version: version(row, "version")?,
        operation_id: identifier(row, "operation")?,
        collection: collection_key(row)?,
        id: Arc::from(column::<&str>(row, "id")?),
        kind: kind_of(column(row, "kind")?)?,
        bytes: unsigned(row, "bytes")?,
        appended_at: Timestamp::from_unix_milliseconds(column(row, "appended_at")?),
    })
}

pub(super) fn collection_key(row: &PgRow) -> JournalResult<CollectionKey> {
    let name: &str = column(row, "collection")?;
    Ok(CollectionKey::new(name, unsigned(row, "generation")?))
}

/// The document of an entry: canonical bytes and vectors.
pub(super) type Content = (Vec<u8>, Vec<u8>);

pub(super) fn encode(record: &DocumentRecord) -> JournalResult<Content> {
    let vectors = record
        .vectors()
        .to_bytes()
        .map_err(|error| damaged(format!("vectors cannot be encoded: {error}")))?;
    Ok((record.canonical().to_vec(), vectors))
}

pub(super) fn state(row: &PgRow, header: &EntryHeader) -> JournalResult<DocumentState> {
    if header.kind != EntryKind::Upsert {
        return Ok(DocumentState::Deleted);
    }
    let canonical: Option<&[u8]> = column(row, "canonical")?;
    let vectors: Option<&[u8]> = column(row, "vectors")?;
    let (Some(canonical), Some(vectors)) = (canonical, vectors) else {
        return Err(damaged(format!("entry {} has no content", header.version)));
    };
    VectorSet::from_bytes(vectors)
        .and_then(|vectors| DocumentRecord::from_parts(canonical, vectors))
        .map(|record| DocumentState::Live(Arc::new(record)))
        .map_err(|error| damaged(format!("entry {} is unreadable: {error}", header.version)))
}

/// Bytes that an entry is counted with.
pub(super) fn entry_bytes(collection: &str, id: &str, content: Option<&Content>) -> u64 {
    let content = content.map_or(0, |(canonical, vectors)| canonical.len() + vectors.len());
    (ROW_BYTES + collection.len() + id.len() + content) as u64
}

/// The place of an idempotency key: SHA-256 of collection and key, so that its length is bounded
/// and it may be any text.
pub(super) fn key_place(collection: &str, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((collection.len() as u64).to_le_bytes());
    hash.update(collection.as_bytes());
    hash.update(key.as_bytes());
    hash.finalize().into()
}

/// Text that a `text` column takes: the server cannot hold NUL.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
