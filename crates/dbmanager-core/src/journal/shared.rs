//! What a journal offers that several instances of a service may have open at the same time.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::{EntryHeader, JournalResult, ParkedEntry, RosterRecord};
use crate::model::{Collection, StoreId, Version};

/// A journal that several instances have open at the same time.
///
/// Every instance appends, and every instance follows [`SharedJournal::changes`]. One of them, the
/// *sender*, holds the lease: only it sends to stores, and only it may call
/// [`truncate`](super::Journal::truncate), [`park`](super::Journal::park),
/// [`unpark`](super::Journal::unpark), [`put_store`](super::Journal::put_store),
/// [`SharedJournal::confirm`] and [`SharedJournal::authority_adopted`]. Each of these checks the
/// fencing number inside its own transaction and answers
/// [`NotSender`](super::JournalErrorKind::NotSender) to anyone else, so that a sender that was
/// overtaken without knowing it changes nothing.
///
/// The fencing number is the journal's epoch: [`epoch`](super::Journal::epoch) is that of the last
/// lease of this opening, 0 if it never had one. Opening does not raise it; taking the lease does.
///
/// Unlike a journal in files, one behind a network recovers by itself. While its server does not
/// answer, calls fail with [`Unavailable`](super::JournalErrorKind::Unavailable) (nothing was
/// written), and those whose commit was under way with
/// [`Indeterminate`](super::JournalErrorKind::Indeterminate): what became of them can be looked up
/// by operation id as soon as the server is back.
#[async_trait]
pub trait SharedJournal: Send + Sync {
    /// The lease of this opening as far as it knows; `None` if it has none, has given it up, was
    /// found to be overtaken, or if the time it counts on has run out.
    fn lease(&self) -> Option<Lease>;

    /// How long a lease lasts that is not renewed.
    fn lease_time(&self) -> Duration;

    /// Takes the lease and raises the epoch by 1, unless another opening has a lease whose time, by
    /// the clock of the journal's server, has not run out; `None` then.
    async fn acquire(&self) -> JournalResult<Option<Lease>>;

    /// Lets the lease last for another [`SharedJournal::lease_time`] from now.
    ///
    /// # Errors
    /// `NotSender` if another opening has taken it meanwhile.
    async fn renew(&self) -> JournalResult<Lease>;

    /// Gives the lease up, so that another opening can take it at once. Without a lease, `Ok`.
    async fn release(&self) -> JournalResult<()>;

    /// The journal's state as of now.
    async fn state(&self) -> JournalResult<SharedState>;

    /// Changes above `after`, in the order in which they were committed, at most `limit`. What is
    /// not there when this answers is never inserted below what was returned.
    async fn changes(&self, after: u64, limit: usize) -> JournalResult<Changes>;

    /// Completes when there may be changes that were not there before, after the journal's polling
    /// interval at the latest.
    async fn wait_for_changes(&self);

    /// Tells the other openings what the stores hold. Sender only.
    async fn confirm(&self, confirmations: Vec<Confirmation>) -> JournalResult<()>;

    /// Another authority was adopted, such as an older copy: what the journal remembers of entries
    /// that it has let go of so far no longer tells what the authority holds. From now on, durably,
    /// preconditions are judged without it. Sender only.
    async fn authority_adopted(&self) -> JournalResult<()>;
}

impl fmt::Debug for dyn SharedJournal + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedJournal")
            .field("lease", &self.lease())
            .finish_non_exhaustive()
    }
}

/// The right to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The fencing number.
    pub epoch: u64,
    /// Until when the holder may count on it, on the clock of
    /// [`Runtime::monotonic`](crate::Runtime::monotonic): counted from before the request was sent,
    /// and earlier than the server's own end of it by a margin for attempts under way.
    pub counts_until: Duration,
}

/// A shared journal at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedState {
    /// The highest version issued.
    pub mark: Version,
    /// The highest fencing number given out.
    pub epoch: u64,
    /// The number of the last change.
    pub sequence: u64,
    /// Changes up to this one are no longer kept.
    pub pruned: u64,
    /// Who holds a lease that has not run out.
    pub sender: Option<String>,
}

/// What [`SharedJournal::changes`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Changes {
    /// The next changes; none: the reader is up to date.
    Next(Vec<(u64, SharedChange)>),
    /// Changes above the reader's position are no longer kept: it reads the live entries, the
    /// parked entries, the roster and the collections anew.
    TooFarBehind,
}

/// One change of a shared journal.
#[derive(Clone, Debug, PartialEq)]
pub enum SharedChange {
    /// Entries were appended; those that were truncated since are left out.
    Appended {
        /// The entries, by version.
        headers: Vec<EntryHeader>,
        /// The journal's mark after them: no later change appends a version up to here.
        mark: Version,
    },
    /// Entries were let go of.
    Truncated(Vec<Version>),
    /// A store holds, of each of these entries' documents, at least this version.
    Confirmed(Confirmation),
    /// An entry was parked.
    Parked(ParkedEntry),
    /// An entry is no longer parked.
    Unparked {
        /// The entry.
        version: Version,
        /// The store.
        store_id: StoreId,
    },
    /// A store's record was written.
    Roster(RosterRecord),
    /// A collection was created or changed. That one was dropped shows as an entry.
    Collection(Collection),
    /// A lease was taken (with the holder's name) or given up.
    Sender {
        /// The fencing number.
        epoch: u64,
        /// Who has it.
        holder: Option<String>,
    },
}

/// What the sender knows of a store, in the order in which it learnt it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The store holds these versions of their documents, or newer ones.
    Held {
        /// The store.
        store_id: StoreId,
        /// Versions of live entries.
        versions: Vec<Version>,
    },
    /// What was confirmed of this store before is no longer known to be true.
    Forgotten(StoreId),
}
