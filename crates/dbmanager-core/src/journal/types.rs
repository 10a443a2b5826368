//! What goes into the journal and comes out of it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    backend::{DocumentState, Head},
    model::{
        CollectionKey, DocumentRecord, OperationId, Precondition, Role, StoreId, Timestamp, Version,
    },
};

/// What a write does.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The document becomes this.
    Upsert(Arc<DocumentRecord>),
    /// The document is deleted.
    Delete,
    /// The collection's generation is dropped; the request's id is empty.
    DropCollection,
}

/// A caller's key under which repeating the same input has one effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key, unique within the collection's name.
    pub key: Arc<str>,
    /// SHA-256 of the caller's input.
    pub input_hash: [u8; 32],
}

/// A precondition with what is known of the document beside the journal, which may have let go of
/// its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreconditionRequest {
    /// What must hold.
    pub precondition: Precondition,
    /// The newest live entry that the caller knows of, which the journal may be letting go of at
    /// this moment, else what the authority holds; read while the id's truncation was pinned.
    /// `None`: nothing. The newest of this and the journal's own live entries counts.
    pub known: Option<Head>,
}

/// One write to append.
#[derive(Clone, Debug)]
pub struct AppendRequest {
    /// The operation.
    pub operation_id: OperationId,
    /// The idempotency key, if the caller gave one.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The collection's generation that the write was validated against.
    pub collection: CollectionKey,
    /// The document's id.
    pub id: Arc<str>,
    /// What the write does.
    pub change: Change,
    /// What must hold.
    pub precondition: Option<PreconditionRequest>,
}

/// What became of an append that was accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Appended {
    /// It is a new entry.
    New(EntryHeader),
    /// Its idempotency key is known with the same input: this operation did it.
    Repeated(OperationLookup),
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntryKind {
    /// A document's full state.
    Upsert,
    /// A tombstone.
    Delete,
    /// The drop of a collection's generation.
    DropCollection,
}

/// An entry without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Its version, unique in the journal.
    pub version: Version,
    /// The operation that wrote it.
    pub operation_id: OperationId,
    /// The collection's generation.
    pub collection: CollectionKey,
    /// The document's id; empty for [`EntryKind::DropCollection`].
    pub id: Arc<str>,
    /// What it does.
    pub kind: EntryKind,
    /// Bytes it takes in the journal.
    pub bytes: u64,
    /// When it was appended.
    pub appended_at: Timestamp,
}

/// An entry with its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Everything but the content.
    pub header: EntryHeader,
    /// The document's state; [`DocumentState::Deleted`] for a drop.
    pub state: DocumentState,
}

/// Entries to let go of.
#[derive(Clone, Debug, Default)]
pub struct TruncateRequest {
    /// Their versions; one that is not there is passed over.
    pub versions: Vec<Version>,
    /// The progress that each store has durably stamped.
    pub progress: Vec<(StoreId, Version)>,
}

/// An entry that a store refused for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEntry {
    /// The entry.
    pub version: Version,
    /// The store.
    pub store_id: StoreId,
    /// Why, without secrets.
    pub error: String,
}

/// A store's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RosterState {
    /// It has all, or all but a complete backlog; it acknowledges what it applied.
    Active,
    /// It was down, disabled or is being rebuilt; it acknowledges what it applied and has a
    /// complete backlog.
    CatchingUp,
    /// It lacks what the journal no longer holds. It does not acknowledge and does not lower n.
    NeedsRebuild,
    /// The authority lacks what the journal no longer holds: it must be restored from a backup.
    NeedsRestore,
    /// It no longer belongs to this journal.
    Removed,
}

/// What the journal knows of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterRecord {
    /// The store.
    pub store_id: StoreId,
    /// Its role.
    pub role: Role,
    /// The service behind it.
    pub service: String,
    /// Where it keeps its data (the factory's location, without secrets).
    pub location: String,
    /// Its standing.
    pub state: RosterState,
    /// Whether the configuration enables it.
    pub enabled: bool,
    /// Whether it was ever stamped. A store that was and is found without its stamp was wiped.
    pub stamped: bool,
    /// The progress that it has durably stamped.
    pub progress: Version,
}

/// What is recorded of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationLookup {
    /// It was accepted.
    Accepted {
        /// The operation.
        operation_id: OperationId,
        /// Its version.
        version: Version,
        /// The collection's generation.
        collection: CollectionKey,
        /// The document's id.
        id: Arc<str>,
        /// Whether its entry is still in the journal.
        live: bool,
    },
    /// It was recorded as refused.
    Refused,
    /// Nothing is recorded, and the id is young enough that it would be.
    Unknown,
    /// Nothing is recorded; records as old as the id are no longer kept.
    Expired,
}

/// Whether the journal takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalState {
    /// It does.
    Writable,
    /// A limit is reached; it takes writes again after truncation.
    Full,
    /// An I/O error: read-only until it is opened again.
    ReadOnly(String),
    /// The journal's server does not answer. It takes writes again as soon as that does.
    Unavailable(String),
    /// It is closed.
    Closed,
}

/// The journal's state in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalHealth {
    /// Whether it takes writes.
    pub state: JournalState,
    /// Live entries.
    pub entries: u64,
    /// Bytes of live entries.
    pub bytes: u64,
    /// The most live entries.
    pub max_entries: u64,
    /// The most bytes of live entries.
    pub max_bytes: u64,
    /// How long records of operations and keys are kept after completion.
    pub retention: Duration,
}
