//! What goes into the backlog and comes out of it.

use std::sync::Arc;

use super::super::decide::Acknowledgement;
use crate::{
    backend::DocumentState,
    journal::EntryKind,
    model::{CollectionKey, Role, Timestamp, Version},
};

/// A document, or with an empty id the drop of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DocumentKey {
    pub(crate) collection: CollectionKey,
    pub(crate) id: Arc<str>,
}

impl DocumentKey {
    pub(crate) fn new(collection: CollectionKey, id: Arc<str>) -> Self {
        Self { collection, id }
    }

    /// Whether it is the drop of a collection.
    pub(crate) fn is_drop(&self) -> bool {
        self.id.is_empty()
    }
}

/// How a store takes part, as the backlog sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Participation {
    /// No such store.
    #[default]
    Absent,
    /// It is on the roster but switched off: it is not sent to, holds truncation, is not in n.
    Disabled,
    /// It is sent to, holds truncation and acknowledges.
    Full,
    /// It is being rebuilt: it is sent to and holds truncation, but does not acknowledge.
    Rebuilding,
    /// It needs a rebuild: it is in n, but is not sent to and holds nothing.
    Skipped,
    /// The authority lacks data: it is not sent to, and holds truncation.
    NeedsRestore,
}

impl Participation {
    /// Whether what is written is sent to the store, which confirms it.
    pub(crate) fn is_sent_to(self) -> bool {
        matches!(self, Self::Full | Self::Rebuilding)
    }

    pub(super) fn holds_truncation(self) -> bool {
        !matches!(self, Self::Absent | Self::Skipped)
    }

    /// Whether the store counts in n.
    pub(crate) fn is_enabled(self) -> bool {
        !matches!(self, Self::Absent | Self::Disabled)
    }
}

/// One store's backlog in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreBacklog {
    pub(crate) entries: u64,
    pub(crate) parked: u64,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) error: Option<Arc<str>>,
}

/// A document's newest live version with its content, if that is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Newest {
    pub(crate) version: Version,
    pub(crate) kind: EntryKind,
    pub(crate) content: Option<DocumentState>,
}

/// What a sender sends for one document.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    pub(crate) document: DocumentKey,
    pub(crate) newest: Newest,
    /// How many of the other stores have acknowledged it.
    pub(crate) held_by_others: usize,
}

/// What became of a version at a store.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// The store holds it or a newer one.
    Confirmed,
    /// It did not take it; it is sent again.
    Failed(Arc<str>),
    /// It refused it for good.
    Parked(Arc<str>),
}

/// What the sender learns of a store, by its slot, and other instances do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It holds this version of a document, or a newer one.
    Held(usize, Version),
    /// What it was known to hold is no longer certain.
    Forgotten(usize),
}

/// How a version stands at every store.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) acknowledgement: Acknowledgement,
    pub(crate) error: Option<Arc<str>>,
}
