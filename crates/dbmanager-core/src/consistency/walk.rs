//! One store compared page by page.

use std::sync::Arc;

use super::{
    authority::{Listed, next_rows},
    check::CheckConsistency,
    drift::Drift,
    judge::expected,
    report::{Difference, DifferenceKind, Progress, StoreConsistency},
    scratch::Scratch,
    tolerance::{Wanted, settle_vectors},
};
use crate::{
    Result,
    backend::{
        AnyBackend, Backend, BackendErrorKind, BackendResult, DocumentState, Fingerprint,
        ListRequest, StoredRecord,
    },
    model::{CollectionKey, Metric, Version},
    read::read_error,
    roster::Store,
    write::{DocumentKey, WriteRoom, journal_error},
};

/// Documents compared at once.
const PAGE: usize = 500;

/// A comparison of one store under way.
pub(super) struct StoreCheck<'a> {
    pub(super) options: &'a CheckConsistency,
    pub(super) store: &'a Arc<Store>,
    /// What is written above this version while the store is compared is not looked at: where ids
    /// ascend with time the comparison would follow the writers and never reach the end.
    start: Version,
    pub(super) summary: StoreConsistency,
    drift: Drift,
    listed: &'a mut Vec<Difference>,
}

impl<'a> StoreCheck<'a> {
    pub(super) fn new(
        options: &'a CheckConsistency,
        store: &'a Arc<Store>,
        listed: &'a mut Vec<Difference>,
    ) -> Self {
        Self {
            options,
            store,
            start: options.room.journal.mark(),
            summary: StoreConsistency::new(store.role),
            drift: Drift::default(),
            listed,
        }
    }

    /// Publishes what was found.
    pub(super) fn finish(self) -> StoreConsistency {
        let whole = self.options.collections.is_none();
        self.drift.publish(self.store, whole);
        self.summary
    }

    pub(super) fn room(&self) -> &WriteRoom {
        &self.options.room
    }

    async fn connect(&self) -> Result<AnyBackend> {
        let connected = self.store.connect().await;
        connected.map_err(|e| read_error(self.store.role, e))
    }

    pub(super) async fn backend(&self) -> Result<Arc<dyn Backend>> {
        Ok(self.connect().await?.as_backend())
    }

    /// Where the store does not give vectors back bit for bit, compares them within a tolerance.
    pub(super) async fn settle(
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

    pub(super) fn answer<T>(&self, result: BackendResult<T>) -> Result<T> {
        result.map_err(|error| {
            self.store.note_failure(&error);
            read_error(self.store.role, error)
        })
    }

    pub(super) fn report(&mut self, difference: Difference) {
        self.summary.count(&difference);
        self.drift.count(&difference);
        if self.listed.len() < self.options.listed {
            self.listed.push(difference);
        }
    }

    /// Collections that the store holds and the catalogue does not know. One whose drop is still
    /// on its way is no difference.
    pub(super) async fn foreign_collections(&mut self) -> Result<()> {
        let mut foreign = self.unknown_collections().await?;
        if foreign.is_empty() {
            return Ok(());
        }
        // It may have been created by another instance, or dropped after the store was asked.
        self.room().follow_now().await?;
        let again = self.unknown_collections().await?;
        foreign.retain(|key| again.contains(key));
        for key in foreign {
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

    async fn unknown_collections(&self) -> Result<Vec<CollectionKey>> {
        let mut held = self.answer(self.backend().await?.collections().await)?;
        held.retain(|key| {
            let dropping = DocumentKey::new(key.clone(), Arc::from(""));
            !self.room().is_live(key) && self.room().backlog.newest(&dropping).is_none()
        });
        Ok(held)
    }

    pub(super) async fn collection(&mut self, collection: &CollectionKey) -> Result<()> {
        let scratch = Scratch::create(&self.room().runtime).await?;
        self.read_store(collection, &scratch).await?;
        let mut after: Option<Arc<str>> = None;
        let mut done = 0;
        loop {
            let page = match next_rows(self.room(), collection, after.as_ref(), PAGE).await? {
                Listed::Records(page) => page,
                Listed::Unreadable(id) => {
                    // The journal may know what it should be.
                    scratch.take(vec![Arc::clone(&id)]).await?;
                    self.check_again(collection, vec![Arc::clone(&id)]).await?;
                    after = Some(id);
                    continue;
                }
            };
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
            let document = DocumentKey::new(collection.clone(), Arc::clone(&record.id));
            // What the authority has yet to receive this store may lack as well.
            let newest = self.room().backlog.newest(&document);
            let superseded = newest.is_some_and(|newest| newest.version > record.version);
            if superseded || held.as_ref() != Some(&expected) {
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
}
