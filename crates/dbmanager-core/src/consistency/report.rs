//! What a comparison found.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use crate::model::{Role, Version};

/// How a store's copy differs from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The store does not have the document or its tombstone.
    Missing,
    /// The store has an id that neither the authority nor the journal knows.
    Foreign,
    /// The store has another version.
    Version,
    /// The store has the version, but shows a deleted document or hides a live one.
    Deleted,
    /// The store has the version with another content.
    Content,
    /// The store has a whole collection (or generation) that the catalogue does not know.
    ForeignCollection,
    /// The authority's row cannot be read and the journal does not hold the document, so there is
    /// nothing to compare with. Writing or deleting the document mends it.
    Unreadable,
}

impl DifferenceKind {
    /// Every kind.
    pub const ALL: [DifferenceKind; 7] = [
        DifferenceKind::Missing,
        DifferenceKind::Foreign,
        DifferenceKind::Version,
        DifferenceKind::Deleted,
        DifferenceKind::Content,
        DifferenceKind::ForeignCollection,
        DifferenceKind::Unreadable,
    ];

    /// The name in reports and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Foreign => "foreign",
            DifferenceKind::Version => "version",
            DifferenceKind::Deleted => "deleted",
            DifferenceKind::Content => "content",
            DifferenceKind::ForeignCollection => "foreign_collection",
            DifferenceKind::Unreadable => "unreadable",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The store's role.
    pub role: Role,
    /// The collection.
    pub collection: Arc<str>,
    /// The id; empty for a whole collection.
    pub id: Arc<str>,
    /// How it differs.
    pub kind: DifferenceKind,
    /// The version it should have.
    pub expected: Option<Version>,
    /// The version found.
    pub found: Option<Version>,
    /// Whether the document was written again to mend it.
    pub repaired: bool,
}

impl Difference {
    pub(super) fn new(
        role: Role,
        collection: Arc<str>,
        id: Arc<str>,
        kind: DifferenceKind,
    ) -> Self {
        Self {
            role,
            collection,
            id,
            kind,
            expected: None,
            found: None,
            repaired: false,
        }
    }

    pub(super) fn versions(mut self, expected: Option<Version>, found: Option<Version>) -> Self {
        self.expected = expected;
        self.found = found;
        self
    }
}

/// One store's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StoreConsistency {
    /// The store's role.
    pub role: Role,
    /// Documents of the authority that were compared, tombstones not counted.
    pub documents: u64,
    /// Tombstones that were compared.
    pub tombstones: u64,
    /// Documents that the store has yet to receive from the journal: no difference.
    pub pending: u64,
    /// Differences found.
    pub differences: u64,
    /// Differences found, by kind; a kind of which there are none is left out.
    pub kinds: BTreeMap<DifferenceKind, u64>,
    /// Differences that were mended.
    pub repaired: u64,
}

impl StoreConsistency {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            documents: 0,
            tombstones: 0,
            pending: 0,
            differences: 0,
            kinds: BTreeMap::new(),
            repaired: 0,
        }
    }

    pub(super) fn count(&mut self, difference: &Difference) {
        self.differences += 1;
        *self.kinds.entry(difference.kind).or_default() += 1;
        self.repaired += u64::from(difference.repaired);
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsistencyReport {
    /// Each store that was compared.
    pub stores: Vec<StoreConsistency>,
    /// The differences, at most as many as the check was told to list.
    pub differences: Vec<Difference>,
}

impl ConsistencyReport {
    /// Whether every store holds exactly what it should, and none has anything yet to receive.
    pub fn is_consistent(&self) -> bool {
        self.stores
            .iter()
            .all(|store| store.differences == 0 && store.pending == 0)
    }
}

/// How far a comparison or a rebuild has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The store under way.
    pub role: Role,
    /// The collection under way.
    pub collection: Arc<str>,
    /// Documents and tombstones of it that are done.
    pub done: u64,
}

impl Progress {
    pub(super) fn new(role: Role, collection: Arc<str>, done: u64) -> Self {
        Self {
            role,
            collection,
            done,
        }
    }
}

/// Told of progress.
pub(super) type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;
