//! Judging the documents that looked different.

use std::sync::Arc;

use super::{
    authority::{Row, rows},
    report::{Difference, DifferenceKind},
    tolerance::Wanted,
    walk::StoreCheck,
};
use crate::{
    Result,
    backend::{BackendErrorKind, DocumentState, Fingerprint, Head, IdsRequest},
    model::{CollectionKey, ContentHash, Role, Version},
    write::{DocumentKey, journal_error},
};

/// How often a document that is being written is looked at again.
const LOOKS: usize = 5;

/// What a document should be at every store.
pub(super) struct Truth {
    pub(super) version: Version,
    pub(super) state: DocumentState,
    /// The store is known to hold this version.
    held: bool,
}

impl Truth {
    /// Of a document that no store has to receive any more.
    pub(super) fn held(version: Version, state: DocumentState) -> Self {
        Self {
            version,
            state,
            held: true,
        }
    }
}

/// What journal and authority know of a document.
enum Known {
    Document(Truth),
    /// Neither of them knows the id.
    Nothing,
    /// The authority's row cannot be read, and the journal does not hold the document.
    Unreadable,
}

impl Known {
    fn truth(&self) -> Option<&Truth> {
        match self {
            Known::Document(truth) => Some(truth),
            Known::Nothing | Known::Unreadable => None,
        }
    }

    fn version(&self) -> Option<Version> {
        self.truth().map(|truth| truth.version)
    }
}

impl StoreCheck<'_> {
    /// Looks at each suspect again by id: a write may have come between the two readings.
    pub(super) async fn check_again(
        &mut self,
        collection: &CollectionKey,
        mut ids: Vec<Arc<str>>,
    ) -> Result<()> {
        for _ in 0..LOOKS {
            if ids.is_empty() {
                return Ok(());
            }
            let truths = self.truths(collection, &ids).await?;
            let mut held = self.held(collection, &ids).await?;
            let wanted: Vec<Wanted<'_>> = ids
                .iter()
                .zip(&truths)
                .filter_map(|(id, known)| known.truth().map(|t| (id, t.version, &t.state)))
                .collect();
            self.settle(collection, &wanted, &mut held).await?;
            let after = self.truths(collection, &ids).await?;
            let (mut moved, mut found) = (Vec::new(), Vec::new());
            for (((id, known), held), after) in ids.into_iter().zip(truths).zip(held).zip(after) {
                if known.version() == after.version() {
                    found.extend(self.judge(collection, &id, known, held));
                } else {
                    moved.push(id);
                }
            }
            if !self.room().is_live(collection) {
                // Dropped meanwhile, which one store has carried out and another not yet.
                return Ok(());
            }
            self.mend_and_report(collection, found).await?;
            ids = moved;
        }
        // Written faster than they can be looked at.
        self.summary.pending += ids.len() as u64;
        Ok(())
    }

    async fn held(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Result<Vec<Option<Fingerprint>>> {
        let request = IdsRequest::new(collection.clone(), ids);
        match self.backend().await?.fingerprints_of(request).await {
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                Ok(vec![None; ids.len()])
            }
            answer => self.answer(answer),
        }
    }

    /// How a document differs, and what to mend it with if that can be done and is asked for.
    fn judge(
        &mut self,
        collection: &CollectionKey,
        id: &Arc<str>,
        known: Known,
        held: Option<Fingerprint>,
    ) -> Option<(Difference, Option<Truth>)> {
        let kind = self.difference(collection, id, &known, held.as_ref())?;
        let expected = known.version();
        let found = held.map(|held| held.head.version);
        let name = Arc::clone(&collection.name);
        let difference =
            Difference::new(self.store.role, name, Arc::clone(id), kind).versions(expected, found);
        // Written again it would get a version below one that was never issued: whoever holds that
        // one, the store or the authority itself, would keep it.
        let mark = self.room().journal.mark();
        let mendable = found.max(expected).is_none_or(|highest| highest <= mark);
        // A store that needs a rebuild would not get it.
        let mendable = mendable && self.receives();
        let truth = match known {
            Known::Document(truth) if self.options.repair && mendable => Some(truth),
            _ => None,
        };
        Some((difference, truth))
    }

    /// What each document should be: the journal's newest live entry, else the authority's record.
    async fn truths(&self, collection: &CollectionKey, ids: &[Arc<str>]) -> Result<Vec<Known>> {
        let records = rows(self.room(), collection, ids).await?;
        // Whatever the authority holds by now, the view knows after this.
        self.room().follow_now().await?;
        let mut truths = Vec::with_capacity(ids.len());
        // What it confirmed before it was opened anew is not believed until that is compared.
        let in_doubt = self.room().in_doubt(self.store);
        for (id, row) in ids.iter().zip(records) {
            let document = DocumentKey::new(collection.clone(), Arc::clone(id));
            let newest = self.room().backlog.newest(&document);
            let sent_again = in_doubt && newest.is_some();
            let truth = match newest {
                Some(newest) => {
                    let version = newest.version;
                    let state = match newest.content {
                        Some(state) => Some(state),
                        None => self
                            .room()
                            .load(&[version])
                            .await
                            .map_err(journal_error)?
                            .remove(&version),
                    };
                    state.map(|state| (version, state))
                }
                None => match row {
                    Row::Record(record) => Some((record.version, record.state)),
                    Row::Absent => None,
                    Row::Unreadable => {
                        truths.push(Known::Unreadable);
                        continue;
                    }
                },
            };
            let backlog = &self.room().backlog;
            truths.push(truth.map_or(Known::Nothing, |(version, state)| {
                Known::Document(Truth {
                    version,
                    state,
                    held: !sent_again && backlog.is_held(self.store.role, &document, version),
                })
            }));
        }
        Ok(truths)
    }

    /// Whether what is written is sent to the store.
    fn receives(&self) -> bool {
        let backlog = &self.room().backlog;
        backlog.participation(self.store.role).is_sent_to()
    }

    fn difference(
        &mut self,
        collection: &CollectionKey,
        id: &Arc<str>,
        known: &Known,
        held: Option<&Fingerprint>,
    ) -> Option<DifferenceKind> {
        let truth = match known {
            Known::Document(truth) => truth,
            Known::Nothing => return held.map(|_| DifferenceKind::Foreign),
            Known::Unreadable => return Some(DifferenceKind::Unreadable),
        };
        let expected = expected(id, collection, self.store.role, truth.version, &truth.state);
        if held == Some(&expected) {
            return None;
        }
        if self.receives() && !truth.held {
            self.summary.pending += 1;
            return None;
        }
        Some(match held {
            None => DifferenceKind::Missing,
            Some(held) if held.head.version != truth.version => DifferenceKind::Version,
            Some(held) if held.head.deleted != expected.head.deleted => DifferenceKind::Deleted,
            Some(_) => DifferenceKind::Content,
        })
    }
}

/// The fingerprint that a store of this role should have.
pub(super) fn expected(
    id: &Arc<str>,
    collection: &CollectionKey,
    role: Role,
    version: Version,
    state: &DocumentState,
) -> Fingerprint {
    let content_hash = match state {
        DocumentState::Live(record) => record.content_hash(&collection.name, role),
        DocumentState::Deleted => ContentHash::TOMBSTONE,
    };
    let deleted = *state == DocumentState::Deleted;
    Fingerprint {
        id: Arc::clone(id),
        head: Head { version, deleted },
        content_hash,
    }
}
