//! The bytes of each record: a format byte, a checksum over table, key and content, the content.

use std::sync::Arc;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    super::{EntryHeader, EntryKind},
    failure::Failure,
};
use crate::{
    backend::DocumentState,
    model::{CollectionKey, DocumentRecord, OperationId, Timestamp, VectorSet, Version},
};

const RECORD_FORMAT: u8 = 1;
const CHECKSUM_BYTES: usize = 8;
/// Bytes that [`seal`] puts before the content.
pub(super) const SEAL_BYTES: usize = 1 + CHECKSUM_BYTES;

/// SHA-256 over everything that identifies the record, cut to 8 bytes: a record that was put
/// under another key, or whose bits changed, is found with probability 1 − 2⁻⁶⁴.
fn checksum(table: &str, key: &[u8], content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = Sha256::new();
    hash.update([RECORD_FORMAT]);
    hash.update((table.len() as u64).to_le_bytes());
    hash.update(table.as_bytes());
    hash.update((key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(content);
    let digest = hash.finalize();
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    out
}

/// The record of this content.
pub(super) fn seal(table: &str, key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(SEAL_BYTES + content.len());
    record.push(RECORD_FORMAT);
    record.extend_from_slice(&checksum(table, key, content));
    record.extend_from_slice(content);
    record
}

/// The content of a record.
pub(super) fn unseal<'a>(table: &str, key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Failure> {
    let damaged = |why| Failure::damaged(format!("{} {why}", describe(table, key)));
    let (format, rest) = record
        .split_first()
        .ok_or_else(|| damaged("is empty".to_owned()))?;
    if *format != RECORD_FORMAT {
        return Err(damaged(format!("has the unknown format {format}")));
    }
    let (found, content) = rest
        .split_first_chunk::<CHECKSUM_BYTES>()
        .ok_or_else(|| damaged("is cut short".to_owned()))?;
    if *found == checksum(table, key, content) {
        Ok(content)
    } else {
        Err(damaged("fails its checksum".to_owned()))
    }
}

/// The journal's format number in a layout that no version of this library changes: the number,
/// then its checksum.
pub(super) fn encode_format(format: u32) -> Vec<u8> {
    let number = format.to_le_bytes();
    let mut bytes = number.to_vec();
    bytes.extend_from_slice(&Sha256::digest(number)[..CHECKSUM_BYTES]);
    bytes
}

/// The format number in these bytes, if they are sound.
pub(super) fn decode_format(bytes: &[u8]) -> Option<u32> {
    let (number, _) = bytes.split_first_chunk::<4>()?;
    let format = u32::from_le_bytes(*number);
    (bytes == encode_format(format)).then_some(format)
}

/// Names a record for people.
pub(super) fn describe(table: &str, key: &[u8]) -> String {
    let shown = match <[u8; 8]>::try_from(key) {
        Ok(bytes) if !key.iter().all(u8::is_ascii_graphic) => {
            Version::from_u64(u64::from_be_bytes(bytes)).to_string()
        }
        _ if key.iter().all(|byte| (b' '..=b'~').contains(byte)) => {
            String::from_utf8_lossy(key).into_owned()
        }
        _ => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    format!("record {shown} of table {table}")
}

/// Postcard bytes of a value that this library made.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    postcard::to_stdvec(value)
        .map_err(|error| Failure::damaged(format!("a record cannot be encoded: {error}")))
}

/// The value of postcard bytes; `key` of `table` is named if they are none.
pub(super) fn decode<T: DeserializeOwned>(
    table: &str,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Failure> {
    postcard::from_bytes(bytes).map_err(|error| {
        Failure::damaged(format!("{} is unreadable: {error}", describe(table, key)))
    })
}

/// JSON bytes, for the few records whose types leave fields out and grow over time.
pub(super) fn encode_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value)
        .map_err(|error| Failure::damaged(format!("a record cannot be encoded: {error}")))
}

/// The value of JSON bytes; `key` of `table` is named if they are none.
pub(super) fn decode_json<T: DeserializeOwned>(
    table: &str,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::damaged(format!("{} is unreadable: {error}", describe(table, key)))
    })
}

/// An entry's header as it is stored under its version.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredHeader {
    pub(super) operation_id: OperationId,
    pub(super) collection: CollectionKey,
    pub(super) id: Arc<str>,
    pub(super) kind: EntryKind,
    pub(super) appended_at: i64,
    /// Bytes of the content record; 0 if there is none.
    pub(super) content_bytes: u64,
}

impl StoredHeader {
    /// The header, given the bytes of this record.
    pub(super) fn into_header(self, version: Version, record_bytes: u64) -> EntryHeader {
        EntryHeader {
            version,
            operation_id: self.operation_id,
            collection: self.collection,
            id: self.id,
            kind: self.kind,
            bytes: record_bytes + self.content_bytes,
            appended_at: Timestamp::from_unix_milliseconds(self.appended_at),
        }
    }
}

/// What is recorded of an operation.
#[derive(Serialize, Deserialize)]
pub(super) enum StoredOperation {
    Accepted {
        version: Version,
        collection: CollectionKey,
        id: Arc<str>,
        /// The place of the idempotency key, so that both expire together.
        key: Option<[u8; 32]>,
    },
    Refused,
}

/// What an idempotency key was used for.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) input_hash: [u8; 32],
    pub(super) operation_id: OperationId,
}

/// The place of an idempotency key: SHA-256 of collection and key, so that its length is bounded.
pub(super) fn idempotency_place(collection: &str, key: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((collection.len() as u64).to_le_bytes());
    hash.update(collection.as_bytes());
    hash.update(key.as_bytes());
    hash.finalize().into()
}

/// The content of a document: its canonical bytes behind their length, then its vectors.
pub(super) fn encode_content(record: &DocumentRecord) -> Result<Vec<u8>, Failure> {
    let vectors = record
        .vectors()
        .to_bytes()
        .map_err(|error| Failure::damaged(format!("vectors cannot be encoded: {error}")))?;
    let canonical = record.canonical();
    let mut content = Vec::with_capacity(8 + canonical.len() + vectors.len());
    content.extend_from_slice(&(canonical.len() as u64).to_le_bytes());
    content.extend_from_slice(canonical);
    content.extend_from_slice(&vectors);
    Ok(content)
}

/// The document of a content; `key` of `table` is named if it is none.
pub(super) fn decode_content(
    table: &str,
    key: &[u8],
    content: &[u8],
) -> Result<DocumentState, Failure> {
    let damaged = |why: String| Failure::damaged(format!("{} {why}", describe(table, key)));
    let (length, rest) = content
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged("is cut short".to_owned()))?;
    let (canonical, vectors) = usize::try_from(u64::from_le_bytes(*length))
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or_else(|| damaged("is cut short".to_owned()))?;
    VectorSet::from_bytes(vectors)
        .and_then(|vectors| DocumentRecord::from_parts(canonical, vectors))
        .map(|record| DocumentState::Live(Arc::new(record)))
        .map_err(|error| damaged(format!("is unreadable: {error}")))
}
