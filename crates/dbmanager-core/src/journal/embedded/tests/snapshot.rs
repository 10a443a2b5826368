//! Everything that can be read from a journal, to compare one journal with another.

use super::*;
use crate::{
    journal::{
        Entry, OperationLookup, ParkedEntry, RosterRecord,
        embedded::{codec, failure::Failure},
    },
    model::{Collection, JournalId},
};

/// Everything that can be read from a journal, but for the number of its opening.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) journal_id: JournalId,
    pub(super) mark: Version,
    pub(super) entries: Vec<Option<Entry>>,
    pub(super) collections: Vec<Collection>,
    pub(super) roster: Vec<RosterRecord>,
    pub(super) parked: Vec<ParkedEntry>,
    pub(super) operations: Vec<OperationLookup>,
    pub(super) keys: Vec<Option<([u8; 32], OperationLookup)>>,
}

impl Snapshot {
    /// Reads it; `operations` and `keys` (of collection and key) are those looked up.
    pub(super) async fn of(
        journal: &EmbeddedJournal,
        operations: &[OperationId],
        keys: &[(&str, &str)],
    ) -> JournalResult<Self> {
        let live = journal.live_entries(Version::ZERO, usize::MAX).await?;
        let versions: Vec<_> = live.iter().map(|header| header.version).collect();
        let (operations, keys) = looked_up(journal, operations, keys).await?;
        Ok(Self {
            journal_id: journal.journal_id(),
            mark: journal.mark(),
            entries: journal.load(&versions).await?,
            collections: journal.collections().await?,
            roster: journal.roster().await?,
            parked: journal.parked().await?,
            operations,
            keys,
        })
    }

    /// The live entries.
    pub(super) fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }
}

type LookedUp = (
    Vec<OperationLookup>,
    Vec<Option<([u8; 32], OperationLookup)>>,
);

/// In one job: as calls of their own they would take most of the time of tests that open thousands
/// of journals.
async fn looked_up(
    journal: &EmbeddedJournal,
    operations: &[OperationId],
    keys: &[(&str, &str)],
) -> JournalResult<LookedUp> {
    let reader = journal.engine.clone();
    let operations = operations.to_vec();
    let places: Vec<_> = keys
        .iter()
        .map(|(collection, key)| codec::idempotency_place(collection, key))
        .collect();
    let read = journal.engine.read(move |tables| {
        let known = operations.iter().map(|id| reader.lookup(tables, *id));
        let known = known.collect::<Result<_, Failure>>()?;
        let keys = places.iter().map(|place| {
            let Some(stored) = tables.stored_key(place)? else {
                return Ok(None);
            };
            let lookup = reader.lookup(tables, stored.operation_id)?;
            Ok(Some((stored.input_hash, lookup)))
        });
        Ok((known, keys.collect::<Result<_, Failure>>()?))
    });
    read.await
}
