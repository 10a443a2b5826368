//! Reading documents: the journal's live entries over the authority, so that a manager reads its
//! own writes.

use std::sync::Arc;

use crate::{
    Error, ErrorKind, Result,
    backend::{
        BackendError, BackendErrorKind, DocumentState, Head, IdsRequest, ListDocumentsRequest,
        RelationalBackend, StoredRecord,
    },
    journal::RosterState,
    model::{CollectionKey, DocumentRecord, Filter, Role, StoredDocument, Version},
    roster::store_error,
    write::{DocumentKey, Participation, Revision, WriteRoom, journal_error},
};

/// The newest known record of a document, if it is live.
pub(crate) type Current = Option<(Version, Arc<DocumentRecord>)>;

/// A page of documents.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DocumentPage {
    /// Documents by the bytes of their id.
    pub documents: Vec<StoredDocument>,
    /// What to hand in as `after` for the next page; absent on the last one.
    pub next: Option<String>,
    /// Whether the authority holds every acknowledged write. If not, a document written a moment
    /// ago may be missing from the page or shown at an older version.
    pub complete: bool,
}

/// A number of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// Live documents that fulfil the filter.
    pub documents: u64,
    /// Whether the authority holds every acknowledged write.
    pub complete: bool,
}

/// The public error of a read that a store did not answer.
pub(crate) fn read_error(role: Role, error: BackendError) -> Error {
    let kind = match error.kind() {
        BackendErrorKind::Timeout => ErrorKind::Timeout,
        BackendErrorKind::Overloaded => ErrorKind::Overloaded,
        BackendErrorKind::Locked => ErrorKind::Locked,
        BackendErrorKind::Refused => ErrorKind::InvalidInput,
        BackendErrorKind::Unsupported => ErrorKind::Unsupported,
        BackendErrorKind::StaleEpoch | BackendErrorKind::Foreign => ErrorKind::ForeignStore,
        BackendErrorKind::Damaged => ErrorKind::Damaged,
        BackendErrorKind::Config | BackendErrorKind::Denied => ErrorKind::Config,
        _ => ErrorKind::Unavailable,
    };
    store_error(kind, role, error)
}

impl WriteRoom {
    /// The authority, connected and holding everything the journal has let go of.
    ///
    /// # Errors
    /// `Closed`; `Unsupported` without an authority, otherwise why it cannot be read now.
    pub(crate) async fn authority(&self) -> Result<Arc<dyn RelationalBackend>> {
        self.check_readable()?;
        let Some(store) = self.store(Role::Relational) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "no relational store is enabled, so there is no authority to read from",
            ));
        };
        let backend = store
            .relational()
            .await
            .map_err(|error| read_error(Role::Relational, error))?;
        // Of the record too: it may have been found out by this very call.
        if self.backlog.participation(Role::Relational) == Participation::NeedsRestore
            || store.record().state == RosterState::NeedsRestore
        {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the relational store lacks data that the journal no longer holds: restore it",
            )
            .with_retryable(false));
        }
        Ok(backend)
    }

    /// What the authority holds of each id.
    pub(crate) async fn authority_heads(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Result<Vec<Option<Head>>> {
        let authority = self.authority().await?;
        match authority
            .heads(IdsRequest::new(collection.clone(), ids))
            .await
        {
            Ok(heads) => Ok(heads),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                Ok(vec![None; ids.len()])
            }
            Err(error) => Err(self.failed_read(error)),
        }
    }

    /// What the authority holds of each id, tombstones included.
    pub(crate) async fn authority_records(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Result<Vec<Option<StoredRecord>>> {
        let request = IdsRequest::new(collection.clone(), ids);
        match self.authority().await?.get(request).await {
            Ok(records) => Ok(records),
            // Created in the journal, never written here.
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                Ok(vec![None; ids.len()])
            }
            Err(error) => Err(self.failed_read(error)),
        }
    }

    /// A page of everything the authority holds, tombstones included, above an id.
    pub(crate) async fn authority_page(
        &self,
        collection: &CollectionKey,
        after: Option<Arc<str>>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>> {
        let request = ListDocumentsRequest::new(collection.clone(), limit)
            .after_id(after)
            .include_deleted();
        match self.authority().await?.list(request).await {
            Ok(page) => Ok(page),
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => Ok(Vec::new()),
            Err(error) => Err(self.failed_read(error)),
        }
    }

    pub(crate) fn failed_read(&self, error: BackendError) -> Error {
        if let Some(store) = self.store(Role::Relational) {
            store.note_failure(&error);
        }
        read_error(Role::Relational, error)
    }

    /// The newest known record of each id, in the order given; an error for each that cannot be
    /// told now.
    pub(crate) async fn current_records(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Vec<Result<Current>> {
        let mut answers: Vec<Option<Result<Current>>> = vec![None; ids.len()];
        let mut in_journal: Vec<(usize, Version)> = Vec::new();
        let mut in_authority: Vec<usize> = Vec::new();
        // Read before the backlog and the authority are: see `Revisions`.
        let documents: Vec<_> = ids
            .iter()
            .map(|id| {
                let document = DocumentKey::new(collection.clone(), Arc::clone(id));
                let revision = self.backlog.revisions.of_document(&document);
                (document, revision)
            })
            .collect();
        for (index, (document, revision)) in documents.iter().enumerate() {
            match self.backlog.newest(document) {
                None => match self.cached(document, *revision) {
                    Some(found) => answers[index] = Some(Ok(Some(found))),
                    None => in_authority.push(index),
                },
                Some(newest) => match newest.content {
                    Some(state) => answers[index] = Some(Ok(current(newest.version, &state))),
                    None => in_journal.push((index, newest.version)),
                },
            }
        }
        let versions: Vec<Version> = in_journal.iter().map(|(_, version)| *version).collect();
        match self.load(&versions).await {
            Ok(loaded) => {
                for (index, version) in in_journal {
                    match loaded.get(&version) {
                        Some(state) => answers[index] = Some(Ok(current(version, state))),
                        // Truncated since it was looked up: the authority has it.
                        None => in_authority.push(index),
                    }
                }
            }
            Err(error) => {
                let error = journal_error(error);
                for (index, _) in in_journal {
                    answers[index] = Some(Err(error.clone()));
                }
            }
        }
        self.ask_authority(collection, ids, &in_authority, &mut answers)
            .await;
        let live = self.collection(&collection.name);
        if live.is_none_or(|live| live.key != *collection) {
            // Dropped meanwhile: its live entries are void, and without them the authority may show
            // what had been superseded long before.
            return ids.iter().map(|_| Ok(None)).collect();
        }
        if let Some(cache) = &self.cache {
            for index in in_authority {
                if let Some(Ok(Some(found))) = &answers[index] {
                    let (document, revision) = &documents[index];
                    cache.keep_document(document.clone(), *revision, found.clone());
                }
            }
        }
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Ok(None)))
            .collect()
    }

    fn cached(
        &self,
        document: &DocumentKey,
        revision: Revision,
    ) -> Option<(Version, Arc<DocumentRecord>)> {
        self.cache.as_ref()?.document(document, revision)
    }

    async fn ask_authority(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
        wanted: &[usize],
        answers: &mut [Option<Result<Current>>],
    ) {
        if wanted.is_empty() {
            return;
        }
        let asked: Vec<Arc<str>> = wanted
            .iter()
            .map(|index| Arc::clone(&ids[*index]))
            .collect();
        let result = self.authority_records(collection, &asked).await;
        match result {
            Err(error) => {
                for index in wanted {
                    answers[*index] = Some(Err(error.clone()));
                }
            }
            Ok(records) => {
                for (index, record) in wanted.iter().zip(records) {
                    answers[*index] = Some(Ok(record.and_then(|r| current(r.version, &r.state))));
                }
            }
        }
    }

    /// Documents by id; `None` for what is not there.
    ///
    /// # Errors
    /// `Closed`; of each document, that it cannot be told.
    pub(crate) async fn get(
        &self,
        name: &str,
        ids: &[Arc<str>],
    ) -> Result<Vec<Result<Option<StoredDocument>>>> {
        self.check_readable()?;
        let Some(collection) = self.collection(name) else {
            return Ok(ids.iter().map(|_| Ok(None)).collect());
        };
        let records = self.current_records(&collection.key, ids).await;
        Ok(records
            .into_iter()
            .map(|answer| Ok(answer?.map(|found| stored(&collection.key, found))))
            .collect())
    }

    /// A page of the authority's documents, with the live entries of the journal laid over those
    /// that the page shows.
    pub(crate) async fn list(
        &self,
        name: &str,
        after: Option<String>,
        limit: usize,
        filter: Option<Arc<Filter>>,
    ) -> Result<DocumentPage> {
        let collection = self.known_collection(name)?;
        let authority = self.authority().await?;
        let complete = self.authority_holds_all();
        let request = ListDocumentsRequest::new(collection.clone(), limit)
            .after_id(after.map(Arc::from))
            .filter(filter.clone());
        let records = match authority.list(request).await {
            Ok(records) => records,
            Err(e) if e.kind() == BackendErrorKind::CollectionMissing => Vec::new(),
            Err(error) => return Err(self.failed_read(error)),
        };
        let next = (records.len() == limit)
            .then(|| records.last().map(|r| r.id.to_string()))
            .flatten();
        let ids: Vec<Arc<str>> = records.iter().map(|r| Arc::clone(&r.id)).collect();
        let documents = if complete {
            records
                .into_iter()
                .filter_map(|r| current(r.version, &r.state))
                .collect()
        } else {
            let newest = self.current_records(&collection, &ids).await;
            newest
                .into_iter()
                .collect::<Result<Vec<_>>>()?
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        let documents = documents
            .into_iter()
            .filter(|(_, record)| filter.as_ref().is_none_or(|f| f.matches(record.document())))
            .map(|found| stored(&collection, found))
            .collect();
        Ok(DocumentPage {
            documents,
            next,
            complete,
        })
    }

    /// How many live documents the authority holds.
    pub(crate) async fn count(&self, name: &str, filter: Option<Arc<Filter>>) -> Result<Count> {
        let collection = self.known_collection(name)?;
        let authority = self.authority().await?;
        let complete = self.authority_holds_all();
        let documents = match authority.count(collection, filter).await {
            Ok(documents) => documents,
            Err(error) if error.kind() == BackendErrorKind::CollectionMissing => 0,
            Err(error) => return Err(self.failed_read(error)),
        };
        Ok(Count {
            documents,
            complete,
        })
    }

    fn authority_holds_all(&self) -> bool {
        let store = self.store(Role::Relational);
        store.is_some_and(|store| self.holds_all(store))
    }

    fn known_collection(&self, name: &str) -> Result<CollectionKey> {
        self.collection(name)
            .map(|collection| collection.key)
            .ok_or_else(|| {
                Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                    .with("collection", name)
            })
    }
}

fn current(version: Version, state: &DocumentState) -> Current {
    state.record().map(|record| (version, Arc::clone(record)))
}

fn stored(collection: &CollectionKey, found: (Version, Arc<DocumentRecord>)) -> StoredDocument {
    StoredDocument {
        collection: Arc::clone(&collection.name),
        version: found.0,
        document: found.1.to_document(),
    }
}
