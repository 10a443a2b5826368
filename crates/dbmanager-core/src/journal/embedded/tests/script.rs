//! A fixed piece of work for a journal, action by action, that uses all of its writing calls. It
//! runs the same every time, so that what one run acknowledged tells what another must hold.

use super::{snapshot::Snapshot, *};

/// One call, or a few that share a commit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Closes the journal if it is open, and opens it.
    Open,
    Create(&'static str),
    PutStore,
    /// Records the embedding space of the collection.
    SetSpace,
    /// Appends in one call: a large document, a keyed one and two small ones.
    Batch,
    /// Appends in calls at the same time, one of which is refused.
    Group,
    /// Repeats a key with the same input, and with another; nothing is written.
    Repeat,
    /// Replaces a document of a known version.
    Replace,
    /// Appends so much that the storage grows.
    Grow,
    Park,
    /// Removes the mark again.
    Unpark,
    /// Lets go of every second entry.
    Truncate,
    /// Lets go of every entry, and of the operations kept long enough.
    TruncateAll,
    LiftMark,
    /// Raises the number of the opening by more than openings do.
    RaiseEpoch,
    Refuse,
    /// So long that every record may be forgotten.
    Wait,
    Drop,
    /// Appends to the collection as it was before it was dropped; refused.
    Stale,
    Delete,
    /// Reads every live entry.
    Read,
}

/// All actions, in order.
pub(super) const ACTIONS: &[Action] = &[
    Action::Open,
    Action::Create("papers"),
    Action::PutStore,
    Action::SetSpace,
    Action::Batch,
    Action::Group,
    Action::Repeat,
    Action::Replace,
    Action::Park,
    Action::Unpark,
    Action::Park,
    Action::Truncate,
    Action::Open,
    Action::Read,
    Action::Grow,
    Action::LiftMark,
    Action::RaiseEpoch,
    Action::Refuse,
    Action::Delete,
    Action::Wait,
    Action::TruncateAll,
    Action::Drop,
    Action::Stale,
    Action::Create("papers"),
    Action::Group,
    Action::Open,
    Action::Batch,
];

const KEYS: [(&str, &str); 2] = [("papers", "key"), ("papers", "other")];

/// What is known after an action.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// So many steps were done to the disk.
    pub(super) steps: usize,
    pub(super) now: i64,
    /// The number of the last opening, or what it was raised to; 0 before the first.
    pub(super) epoch: u64,
    /// What the journal holds; `None` before the first opening.
    pub(super) snapshot: Option<Snapshot>,
}

/// Little memory for pages, so that reads reach the storage.
pub(super) fn options() -> JournalOptions {
    JournalOptions {
        cache_bytes: 1 << 16,
        ..JournalOptions::default()
    }
}

/// Opens a journal in any storage.
pub(super) async fn open_storage(
    storage: impl super::super::JournalStorage + 'static,
    clock: &Clock,
) -> JournalResult<Arc<EmbeddedJournal>> {
    let source = JournalSource::Storage(Arc::new(storage));
    EmbeddedJournal::open(source, options(), clock.runtime()).await
}

/// What this journal holds, with what became of these operations.
pub(super) async fn snapshot(
    journal: &EmbeddedJournal,
    operations: &[OperationId],
) -> JournalResult<Snapshot> {
    Snapshot::of(journal, operations, &KEYS).await
}
