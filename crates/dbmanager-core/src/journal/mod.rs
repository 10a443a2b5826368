//! The journal: the durable record of what was accepted, in the order of versions.
//!
//! The journal knows no backends. It allocates versions, decides preconditions and idempotency
//! keys inside the transaction that appends, keeps the catalogue of collections and the roster of
//! stores, and holds every entry until the write room lets go of it with [`Journal::truncate`].
//! Confirmations of stores are *not* kept here: at every open, live entries are compared with what
//! each store really holds, so that a store with relaxed sync is never believed beyond its disk.

mod embedded;
mod error;
mod factory;
mod shared;
mod types;

use std::fmt;

use async_trait::async_trait;

pub use embedded::{EmbeddedJournal, JournalOptions, JournalSource, JournalStorage, MemoryStorage};
pub use error::{JournalError, JournalErrorKind, JournalResult};
pub use factory::{JournalFactory, parse_journal_config};
pub use shared::{Changes, Confirmation, Lease, SharedChange, SharedJournal, SharedState};
pub use types::{
    AppendRequest, Appended, Change, Entry, EntryHeader, EntryKind, IdempotencyKey, JournalHealth,
    JournalState, OperationLookup, ParkedEntry, PreconditionRequest, RosterRecord, RosterState,
    TruncateRequest,
};

use crate::model::{
    Collection, CollectionKey, CollectionOptions, EmbeddingSpace, JournalId, OperationId, StoreId,
    Version,
};

/// The durable record of intents.
///
/// Every method that changes something is durable when it answers `Ok`.
///
/// After an I/O error a journal in files retries nothing: those who wait get
/// [`JournalErrorKind::Indeterminate`], and the journal is read-only until it is opened again and
/// checked. A journal behind a network recovers by itself: see [`SharedJournal`].
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug {
    /// The identity of this journal.
    fn journal_id(&self) -> JournalId;

    /// The number of this opening; raised durably, by 1, before `open` returned, and by
    /// [`Journal::raise_epoch`]. Of a shared journal: see [`SharedJournal`].
    fn epoch(&self) -> u64;

    /// Raises the epoch above what it was and above `above`, durably, and returns it. A store that
    /// is stamped with it refuses what was sent to it before and has yet to arrive.
    ///
    /// Nothing uses the new one before it is durable, and a shared journal's lease goes on under it.
    ///
    /// # Errors
    /// `NotSender` if another opening of a shared journal sends to the stores; `Open` if there is
    /// no higher one.
    async fn raise_epoch(&self, above: u64) -> JournalResult<u64>;

    /// The highest version ever issued, or lifted to by [`Journal::lift_mark`]. Of a shared
    /// journal: as this opening last saw it; others may have issued higher ones since.
    fn mark(&self) -> Version;

    /// What it offers if several instances may have it open; `None`: this opening is alone.
    fn shared(&self) -> Option<&dyn SharedJournal> {
        None
    }

    /// Raises the mark to at least `version`, durably (for the adoption of stores that hold
    /// higher versions).
    async fn lift_mark(&self, version: Version) -> JournalResult<()>;

    /// What state it is in.
    fn health(&self) -> JournalHealth;

    /// The live collections, by name.
    async fn collections(&self) -> JournalResult<Vec<Collection>>;

    /// Creates the collection under a new generation; the flag says whether it is new. One that
    /// exists is returned if `options` ask for nothing it does not have (an absent embedding space
    /// asks for nothing); otherwise `Rejected`.
    async fn create_collection(
        &self,
        name: &str,
        options: CollectionOptions,
    ) -> JournalResult<(Collection, bool)>;

    /// Records the embedding space of a collection that has none; the loser of a race gets the
    /// collection as it is now.
    async fn set_embedding_space(
        &self,
        collection: &CollectionKey,
        space: EmbeddingSpace,
    ) -> JournalResult<Collection>;

    /// The stores of this journal, the removed ones included.
    async fn roster(&self) -> JournalResult<Vec<RosterRecord>>;

    /// Writes one store's record, new or changed. Its progress never goes back: of the one given and
    /// the one recorded the higher counts, since a truncation may have raised it meanwhile.
    async fn put_store(&self, record: RosterRecord) -> JournalResult<()>;

    /// Appends each request in one durable group, together with those of other callers, and
    /// answers for each in the order given. One that is refused never fails its neighbours.
    ///
    /// In one transaction per group, for each request in turn: its idempotency key is looked up (a
    /// known key with the same input answers [`Appended::Repeated`]), then its operation id, then
    /// the collection's generation, then the precondition, then the version is allocated above
    /// every version issued before, then the entry is written. [`Change::DropCollection`] takes
    /// the collection out of the catalogue in the same transaction.
    async fn append(&self, requests: Vec<AppendRequest>) -> Vec<JournalResult<Appended>>;

    /// Headers of live entries above `after`, by version ascending, at most `limit`.
    async fn live_entries(&self, after: Version, limit: usize) -> JournalResult<Vec<EntryHeader>>;

    /// Each live entry with its content, in the order given; `None` for one that was truncated.
    async fn load(&self, versions: &[Version]) -> JournalResult<Vec<Option<Entry>>>;

    /// Lets go of entries that every store has made durable, and records the stores' progress, in
    /// one transaction. Parked marks of those entries go with them. Operation records and
    /// idempotency keys stay for the retention time, counted from here.
    async fn truncate(&self, request: TruncateRequest) -> JournalResult<()>;

    /// Records that a store refused an entry for good; the error text replaces an earlier one.
    async fn park(&self, entry: ParkedEntry) -> JournalResult<()>;

    /// Removes the mark of a parked entry; one that is not there is `Ok`.
    async fn unpark(&self, version: Version, store_id: StoreId) -> JournalResult<()>;

    /// All parked entries, by version.
    async fn parked(&self) -> JournalResult<Vec<ParkedEntry>>;

    /// What is recorded of an operation.
    async fn operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup>;

    /// Records the operation as refused unless it is known, so that a late append cannot be
    /// accepted under it, and returns what is recorded then.
    async fn refuse_operation(&self, operation_id: OperationId) -> JournalResult<OperationLookup>;

    /// What an idempotency key of a collection (by name) was used for, if it is still known:
    /// the hash of that input and the operation.
    async fn idempotency_key(
        &self,
        collection: &str,
        key: &str,
    ) -> JournalResult<Option<([u8; 32], OperationLookup)>>;

    /// Ends the group under way and releases the journal. Later calls answer `Closed`. Repeating
    /// it is `Ok`.
    async fn close(&self) -> JournalResult<()>;
}
