//! `check_consistency`: every store against authority and journal, online and in bounded memory.

use std::{future::IntoFuture, sync::Arc};

use super::{
    report::{
        ConsistencyReport, Difference, DifferenceKind, OnProgress, Progress, StoreConsistency,
    },
    scratch::Scratch,
    tolerance::{Wanted, settle_vectors},
};
use crate::{
    BoxFuture, Error, ErrorKind, Result,
    backend::{
        AnyBackend, Backend, BackendErrorKind, BackendResult, DocumentState, Fingerprint, Head,
        IdsRequest, ListRequest, StoredRecord,
    },
    journal::{AppendRequest, Appended, Change, JournalErrorKind, PreconditionRequest},
    model::{CollectionKey, ContentHash, Metric, Precondition, Role, Version},
    read::read_error,
    roster::Store,
    write::{DocumentKey, Participation, WriteRoom, journal_error},
};

/// Documents compared at once.
const PAGE: usize = 500;
/// How often a document that is being written is looked at again.
const LOOKS: usize = 5;
/// Differences listed by default.
const LISTED: usize = 10_000;

/// A comparison of every store with the authority and the journal; does nothing until it is
/// awaited.
///
/// Writes go on meanwhile: every difference is checked again by id before it is reported, and what
/// a store has yet to receive from the journal is counted as pending, not as a difference. Memory
/// is bounded by a page; a sorted scratch file lies in the directory for temporary files.
#[must_use = "nothing is compared until it is awaited"]
pub struct CheckConsistency {
    room: Arc<WriteRoom>,
    collections: Option<Vec<String>>,
    roles: Vec<Role>,
    repair: bool,
    listed: usize,
    progress: Option<OnProgress>,
}

impl CheckConsistency {
    pub(crate) fn new(room: Arc<WriteRoom>) -> Self {
        Self {
            room,
            collections: None,
            roles: Role::ALL.to_vec(),
            repair: false,
            listed: LISTED,
            progress: None,
        }
    }

    /// Compares only these collections.
    pub fn collections<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.collections = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Compares only the store of this role.
    pub fn role(mut self, role: Role) -> Self {
        self.roles = vec![role];
        self
    }

    /// Writes every document that differs again, from the authority or the journal, as a new
    /// version of the same content. What neither knows is reported and not touched; nor is a
    /// version above all that the journal has issued, which only [`Rebuild`] removes.
    ///
    /// [`Rebuild`]: crate::Rebuild
    pub fn repair(mut self) -> Self {
        self.repair = true;
        self
    }

    /// Lists at most this many differences; all are counted.
    pub fn list_at_most(mut self, differences: usize) -> Self {
        self.listed = differences;
        self
    }

    /// Is told of every page that is done.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    async fn run(self) -> Result<ConsistencyReport> {
        self.room.authority().await?;
        let collections = self.wanted_collections()?;
        let mut report = ConsistencyReport {
            stores: Vec::new(),
            differences: Vec::new(),
        };
        for role in &self.roles {
            let Some(store) = self.room.store(*role) else {
                continue;
            };
            let mut check = StoreCheck {
                options: &self,
                store,
                start: self.room.journal.mark(),
                summary: StoreConsistency {
                    role: *role,
                    documents: 0,
                    tombstones: 0,
                    pending: 0,
                    differences: 0,
                },
                listed: &mut report.differences,
            };
            check.foreign_collections().await?;
            for collection in &collections {
                check.collection(collection).await?;
            }
            let summary = check.summary;
            report.stores.push(summary);
        }
        Ok(report)
    }

    fn wanted_collections(&self) -> Result<Vec<CollectionKey>> {
        match &self.collections {
            None => Ok(self.room.collections().into_iter().map(|c| c.key).collect()),
            Some(names) => names
                .iter()
                .map(|name| {
                    self.room.collection(name).map(|c| c.key).ok_or_else(|| {
                        Error::new(ErrorKind::CollectionNotFound, "there is no such collection")
                            .with("collection", name)
                    })
                })
                .collect(),
        }
    }
}

impl std::fmt::Debug for CheckConsistency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckConsistency")
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for CheckConsistency {
    type Output = Result<ConsistencyReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What a document should be at every store.
struct Truth {
    version: Version,
    state: DocumentState,
    /// The store is known to hold this version.
    held: bool,
}

struct StoreCheck<'a> {
    options: &'a CheckConsistency,
    store: &'a Arc<Store>,
    /// What is written above this version while the store is compared is not looked at: where ids
    /// ascend with time the comparison would follow the writers and never reach the end.
    start: Version,
    summary: StoreConsistency,
    listed: &'a mut Vec<Difference>,
}

impl StoreCheck<'_> {
    fn room(&self) -> &WriteRoom {
        &self.options.room
    }

    async fn connect(&self) -> Result<AnyBackend> {
        let connected = self.store.connect().await;
        connected.map_err(|e| read_error(self.store.role, e))
    }

    async fn backend(&self) -> Result<Arc<dyn Backend>> {
        Ok(self.connect().await?.as_backend())
    }

    /// Where the store does not give vectors back bit for bit, compares them within a tolerance.
    async fn settle(
        &self,
        collection: &CollectionKey,
        wanted: &[Wanted<'_>],
        held: &mut [Option<Fingerprint>],
    ) -> Result<()> {
        let AnyBackend::Vector(backend) = self.connect().await? else {
            return Ok(());
        };
        if backend.capabilities().exact_vectors {
            return Ok(());
        }
        let space = self.room().collection(&collection.name);
        let space = space.and_then(|collection| collection.options.embedding_space);
        let direction_only = space.is_some_and(|space| space.metric == Metric::Cosine);
        let settled = settle_vectors(&backend, collection, direction_only, wanted, held).await;
        self.answer(settled)
    }

    fn answer<T>(&self, result: BackendResult<T>) -> Result<T> {
        result.map_err(|error| {
            self.store.note_failure(&error);
            read_error(self.store.role, error)
        })
    }

    fn report(&mut self, difference: Difference) {
        self.summary.differences += 1;
        if self.listed.len() < self.options.listed {
            self.listed.push(difference);
        }
    }

    /// Collections that the store holds and the catalogue does not know. One whose drop is still
    /// on its way is no difference.
    async fn foreign_collections(&mut self) -> Result<()> {
        let held = self.answer(self.backend().await?.collections().await)?;
        for key in held {
            let live = self
                .room()
                .collection(&key.name)
                .is_some_and(|c| c.key == key);
            let dropping = DocumentKey::new(key.clone(), Arc::from(""));
            if live || self.room().backlog.newest(&dropping).is_some() {
                continue;
            }
            let kind = DifferenceKind::ForeignCollection;
            self.report(Difference::new(
                self.store.role,
                key.name,
                Arc::from(""),
                kind,
            ));
        }
        Ok(())
    }

    async fn collection(&mut self, collection: &CollectionKey) -> Result<()> {
        let scratch = Scratch::create(&self.room().runtime).await?;
        self.read_store(collection, &scratch).await?;
        let mut after: Option<Arc<str>> = None;
        let mut done = 0;
        loop {
            let page = self
                .room()
                .authority_page(collection, after.clone(), PAGE)
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(Arc::clone(&last.id));
            done += page.len() as u64;
            self.compare_page(collection, &scratch, page).await?;
            if let Some(progress) = &self.options.progress {
                let name = Arc::clone(&collection.name);
                progress(Progress::new(self.store.role, name, done));
            }
        }
        self.journal_only(collection, &scratch).await?;
        let mut after: Option<Arc<str>> = None;
        loop {
            let rest = scratch.rest(after.clone(), PAGE).await?;
            let Some(last) = rest.last() else {
                return Ok(());
            };
            after = Some(Arc::clone(&last.id));
            let ids = rest.into_iter().map(|print| print.id).collect();
            self.check_again(collection, ids).await?;
        }
    }

    /// Compares the documents that the journal holds and the authority does not list: not yet, or
    /// no longer.
    async fn journal_only(&mut self, collection: &CollectionKey, scratch: &Scratch) -> Result<()> {
        let mut after = Version::ZERO;
        loop {
            let page = self.room().journal.live_entries(after, PAGE).await;
            let page = page.map_err(journal_error)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            if after >= self.start {
                return Ok(());
            }
            after = last.version;
            let ids: Vec<Arc<str>> = page
                .into_iter()
                .filter(|header| header.collection == *collection)
                .filter(|header| {
                    // An id with several entries is looked at once.
                    let document = DocumentKey::new(collection.clone(), Arc::clone(&header.id));
                    let newest = self.room().backlog.newest(&document);
                    newest.is_some_and(|newest| newest.version == header.version)
                })
                .map(|header| header.id)
                .collect();
            if ids.is_empty() {
                continue;
            }
            let listed = self.room().authority_heads(collection, &ids).await?;
            let unlisted: Vec<_> = ids
                .into_iter()
                .zip(listed)
                .filter_map(|(id, head)| head.is_none().then_some(id))
                .collect();
            // So that they are not looked at again with the rest.
            scratch.take(unlisted.clone()).await?;
            self.check_again(collection, unlisted).await?;
        }
    }

    async fn read_store(&self, collection: &CollectionKey, scratch: &Scratch) -> Result<()> {
        let backend = self.backend().await?;
        let mut after = None;
        loop {
            let request = ListRequest::new(collection.clone(), PAGE).after(after);
            let page = match backend.fingerprints(request).await {
                Err(error) if error.kind() == BackendErrorKind::CollectionMissing => return Ok(()),
                answer => self.answer(answer)?,
            };
            scratch.add(page.items).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn compare_page(
        &mut self,
        collection: &CollectionKey,
        scratch: &Scratch,
        page: Vec<StoredRecord>,
    ) -> Result<()> {
        let ids: Vec<Arc<str>> = page.iter().map(|record| Arc::clone(&record.id)).collect();
        let held = scratch.take(ids).await?;
        let (page, mut held): (Vec<_>, Vec<_>) = page
            .into_iter()
            .zip(held)
            .filter(|(record, _)| self.is_due(collection, record))
            .unzip();
        let wanted: Vec<Wanted<'_>> = page
            .iter()
            .map(|record| (&record.id, record.version, &record.state))
            .collect();
        self.settle(collection, &wanted, &mut held).await?;
        let mut suspects = Vec::new();
        for (record, held) in page.into_iter().zip(held) {
            match record.state {
                DocumentState::Live(_) => self.summary.documents += 1,
                DocumentState::Deleted => self.summary.tombstones += 1,
            }
            let expected = expected(
                &record.id,
                collection,
                self.store.role,
                record.version,
                &record.state,
            );
            if held.as_ref() != Some(&expected) {
                suspects.push(record.id);
            }
        }
        self.check_again(collection, suspects).await
    }

    /// Whether a record was written before the comparison began, or never: a version that the
    /// journal has not issued is a difference at any time. A later one that the store has yet to
    /// receive is counted as pending.
    fn is_due(&mut self, collection: &CollectionKey, record: &StoredRecord) -> bool {
        let issued = self.options.room.journal.mark();
        let due = record.version <= self.start || record.version > issued;
        if !due {
            let document = DocumentKey::new(collection.clone(), Arc::clone(&record.id));
            let backlog = &self.options.room.backlog;
            let held = backlog.is_held(self.store.role, &document, record.version);
            self.summary.pending += u64::from(!held);
        }
        due
    }

    /// Looks at each suspect again by id: a write may have come between the two readings.
    async fn check_again(
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
                .filter_map(|(id, truth)| truth.as_ref().map(|t| (id, t.version, &t.state)))
                .collect();
            self.settle(collection, &wanted, &mut held).await?;
            let after = self.truths(collection, &ids).await?;
            let mut moved = Vec::new();
            for (((id, truth), held), after) in ids.into_iter().zip(truths).zip(held).zip(after) {
                let version = |truth: &Option<Truth>| truth.as_ref().map(|truth| truth.version);
                if version(&truth) == version(&after) {
                    self.judge(collection, id, truth, held).await?;
                } else {
                    moved.push(id);
                }
            }
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

    async fn judge(
        &mut self,
        collection: &CollectionKey,
        id: Arc<str>,
        truth: Option<Truth>,
        held: Option<Fingerprint>,
    ) -> Result<()> {
        let Some(kind) = self.difference(collection, &id, truth.as_ref(), held.as_ref()) else {
            return Ok(());
        };
        let expected = truth.as_ref().map(|truth| truth.version);
        let found = held.map(|held| held.head.version);
        let name = Arc::clone(&collection.name);
        let mut difference =
            Difference::new(self.store.role, name, Arc::clone(&id), kind).versions(expected, found);
        // The store would keep a version above all that were issued whatever is written.
        let mendable = found.is_none_or(|found| found <= self.room().journal.mark());
        if let (true, true, Some(truth)) = (self.options.repair, mendable, truth) {
            difference.repaired = self.write_again(collection, &id, truth).await?;
        }
        self.report(difference);
        Ok(())
    }

    /// What each document should be: the journal's newest live entry, else the authority's record.
    async fn truths(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Result<Vec<Option<Truth>>> {
        let records = self.room().authority_records(collection, ids).await?;
        // Whatever the authority holds by now, the view knows after this.
        self.room().follow_now().await?;
        let mut truths = Vec::with_capacity(ids.len());
        for (id, record) in ids.iter().zip(records) {
            let document = DocumentKey::new(collection.clone(), Arc::clone(id));
            let truth = match self.room().backlog.newest(&document) {
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
                None => record.map(|record| (record.version, record.state)),
            };
            truths.push(truth.map(|(version, state)| {
                Truth {
                    version,
                    state,
                    held: self
                        .room()
                        .backlog
                        .is_held(self.store.role, &document, version),
                }
            }));
        }
        Ok(truths)
    }

    fn difference(
        &mut self,
        collection: &CollectionKey,
        id: &Arc<str>,
        truth: Option<&Truth>,
        held: Option<&Fingerprint>,
    ) -> Option<DifferenceKind> {
        let Some(truth) = truth else {
            return held.map(|_| DifferenceKind::Foreign);
        };
        let expected = expected(id, collection, self.store.role, truth.version, &truth.state);
        if held == Some(&expected) {
            return None;
        }
        let participation = self.room().backlog.participation(self.store.role);
        let receives = matches!(
            participation,
            Participation::Full | Participation::Rebuilding
        );
        if receives && !truth.held {
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

    /// Appends the same content as a new version, unless a newer one has come meanwhile: then that
    /// one mends the store. Answers whether it was appended.
    async fn write_again(
        &self,
        collection: &CollectionKey,
        id: &Arc<str>,
        truth: Truth,
    ) -> Result<bool> {
        let backlog = &self.room().backlog;
        let document = DocumentKey::new(collection.clone(), Arc::clone(id));
        // From here on nothing newer can be truncated unseen between the reading and the append.
        backlog.pin(&document);
        let appended = self.append_again(&document, truth).await;
        backlog.unpin(&document);
        appended
    }

    async fn append_again(&self, document: &DocumentKey, truth: Truth) -> Result<bool> {
        let room = self.room();
        let newest = match room.backlog.newest(document) {
            Some(newest) => Some(newest.version),
            None => {
                let ids = std::slice::from_ref(&document.id);
                let heads = room.authority_heads(&document.collection, ids).await?;
                heads.into_iter().next().flatten().map(|head| head.version)
            }
        };
        if newest != Some(truth.version) {
            return Ok(false);
        }
        let deleted = truth.state == DocumentState::Deleted;
        let request = AppendRequest {
            operation_id: room.new_operation_id(),
            idempotency_key: None,
            collection: document.collection.clone(),
            id: Arc::clone(&document.id),
            change: match &truth.state {
                DocumentState::Live(record) => Change::Upsert(Arc::clone(record)),
                DocumentState::Deleted => Change::Delete,
            },
            precondition: Some(PreconditionRequest {
                precondition: if deleted {
                    Precondition::Absent
                } else {
                    Precondition::Version(truth.version)
                },
                known: Some(Head {
                    version: truth.version,
                    deleted,
                }),
            }),
        };
        match room.journal.append(vec![request]).await.into_iter().next() {
            Some(Ok(Appended::New(header))) => {
                room.backlog.insert(header, Some(truth.state));
                Ok(true)
            }
            Some(Err(error))
                if matches!(
                    error.kind(),
                    JournalErrorKind::PreconditionFailed(_)
                        | JournalErrorKind::CollectionChanged
                        | JournalErrorKind::CollectionNotFound
                ) =>
            {
                Ok(false)
            }
            Some(Err(error)) => Err(journal_error(error)),
            Some(Ok(Appended::Repeated(_))) | None => Ok(false),
        }
    }
}

/// The fingerprint that a store of this role should have.
fn expected(
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
