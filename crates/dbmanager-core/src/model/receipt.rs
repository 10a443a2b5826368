//! What a write answers.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{OperationId, Role, StoreId, Timestamp, Version};

/// How many stores must hold a write before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The journal alone.
    Journaled,
    /// One store.
    One,
    /// ⌊n/2⌋ + 1 of the n enabled stores: 2 of 3, 2 of 2, 1 of 1.
    #[default]
    Quorum,
    /// Every enabled store.
    All,
}

impl Level {
    /// How many of `enabled` stores must hold the write.
    pub fn required(self, enabled: usize) -> usize {
        match self {
            Level::Journaled => 0,
            Level::One => 1,
            Level::Quorum => enabled / 2 + 1,
            Level::All => enabled,
        }
    }
}

/// What must hold for a write to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precondition {
    /// There is no live document with this id (a deleted one is absent).
    Absent,
    /// The live document has exactly this version.
    Version(Version),
}

/// What [`DatabaseManager::wait_for`](crate::DatabaseManager::wait_for) waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// The stores of this level hold the write, visible to reads by id.
    Level(Level),
    /// Every enabled store holds it and finds it in searches.
    Searchable,
}

impl From<Level> for WaitFor {
    fn from(level: Level) -> Self {
        WaitFor::Level(level)
    }
}

/// What a store did with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StoreWriteState {
    /// It holds this version or a newer one.
    Applied,
    /// It will get it from the journal.
    Pending,
    /// It refused it for good; an operator or a newer version must clear it.
    Parked,
    /// It needs a rebuild, which will bring it.
    Skipped,
}

/// One store's part of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreReceipt {
    /// The store.
    pub store_id: StoreId,
    /// Its role.
    pub role: Role,
    /// The service behind it.
    pub service: Arc<str>,
    /// What it did.
    pub state: StoreWriteState,
    /// Its last error about this write, without secrets.
    pub error: Option<String>,
}

/// The answer to a write that is in the journal: it will reach every store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The operation.
    pub operation_id: OperationId,
    /// The collection written to.
    pub collection: Arc<str>,
    /// The id written.
    pub id: Arc<str>,
    /// The version the write got.
    pub version: Version,
    /// The level that was asked for.
    pub level: Level,
    /// Whether that level was reached when the receipt was made.
    pub reached: bool,
    /// Parked stores or stores that need a rebuild make the level impossible until someone acts.
    pub unreachable: bool,
    /// Each store's part.
    pub stores: Vec<StoreReceipt>,
}

impl From<&Receipt> for Version {
    fn from(receipt: &Receipt) -> Self {
        receipt.version
    }
}

impl Receipt {
    /// Whether the level that was asked for was reached.
    pub fn level_reached(&self) -> bool {
        self.reached
    }

    /// Stores that have yet to hold the write.
    pub fn pending(&self) -> impl Iterator<Item = &StoreReceipt> {
        self.stores
            .iter()
            .filter(|s| s.state != StoreWriteState::Applied)
    }
}

/// A write that a store refused for good: it stays in the journal until a newer version of the
/// document is written, or an operator retries it or gives it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ParkedWrite {
    /// The role of the store that refused it.
    pub role: Role,
    /// The collection written to.
    pub collection: Arc<str>,
    /// The document; absent for the drop of the collection.
    pub id: Option<Arc<str>>,
    /// The version that was refused, for
    /// [`retry_parked`](crate::DatabaseManager::retry_parked) and
    /// [`give_up_parked`](crate::DatabaseManager::give_up_parked).
    pub version: Version,
    /// Why it was refused, without secrets.
    pub error: String,
    /// When it was written.
    pub written_at: Timestamp,
}

/// What is known of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OperationStatus {
    /// Every store holds its version or a newer one.
    Done(Version),
    /// It is journaled; some stores have yet to get it.
    Pending(Version),
    /// A store refused it for good.
    Parked(Version),
    /// It was never accepted, and never will be under this id.
    NeverAccepted,
    /// It is older than the records that are kept: unknown.
    Expired,
}

/// How long to wait, and for what, when the level is not reached in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTimeout {
    /// `Err` with the write outcome `Pending(receipt)`.
    #[default]
    Error,
    /// `Ok(receipt)` with `level_reached() == false`.
    ReturnPending,
}

/// The default time a write waits for its level.
pub const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
