//! What the authority holds, copied into a store that is being rebuilt.

use std::{sync::Arc, time::Duration};

use super::{
    judge::Truth,
    mend::write_again,
    rebuild::{Rebuild, RebuildReport},
    report::Progress,
};
use crate::{
    Result,
    backend::{
        ApplyRequest, Backend, BackendError, BackendResult, CreateCollectionRequest, DocumentState,
        Mutation, StoredRecord,
    },
    model::{Collection, Version},
    roster::Store,
    write::DocumentKey,
};

/// Documents copied at once.
const PAGE: usize = 500;
/// Tries before the rebuild gives up; each is behind the store's own resilience.
pub(super) const TRIES: u32 = 5;
/// The wait between two tries.
pub(super) const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// Documents that the store may refuse for good: with more of them it is not the documents.
const REFUSED: u64 = 100;

/// What became of each mutation: copied, or refused for good.
type Copied = Vec<Option<BackendError>>;

impl Rebuild {
    /// Copies what was written up to `start`. What came later the journal keeps and sends: were it
    /// copied too, ids that ascend with time would keep a slow store from ever reaching the end.
    pub(super) async fn copy(
        &self,
        store: &Arc<Store>,
        collection: &Collection,
        start: Version,
        report: &mut RebuildReport,
    ) -> Result<()> {
        let mut after: Option<Arc<str>> = None;
        let mut done = 0;
        loop {
            self.check_ours(store, report.store_id)?;
            let mut page = self
                .room
                .authority_page(&collection.key, after.clone(), PAGE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(Arc::clone(&last.id));
            // Of what the journal has not issued it has nothing to send.
            let issued = self.room.journal.mark();
            page.retain(|record| record.version <= start || record.version > issued);
            if page.is_empty() {
                continue;
            }
            done += page.len() as u64;
            let mutations: Vec<Mutation> = page.into_iter().map(mutation).collect();
            let copied = self.apply(store, collection, &mutations).await?;
            self.account(collection, mutations, copied, report).await?;
            if let Some(progress) = &self.progress {
                let name = Arc::clone(&collection.key.name);
                progress(Progress::new(self.role, name, done));
            }
        }
    }

    /// Counts what was copied, and leaves what was refused to the store's sender, which parks it.
    async fn account(
        &self,
        collection: &Collection,
        mutations: Vec<Mutation>,
        copied: Copied,
        report: &mut RebuildReport,
    ) -> Result<()> {
        let mut unknown = Vec::new();
        for (mutation, refused) in mutations.into_iter().zip(copied) {
            let Some(error) = refused else {
                match mutation.state {
                    DocumentState::Live(_) => report.documents += 1,
                    DocumentState::Deleted => report.tombstones += 1,
                }
                continue;
            };
            let document = DocumentKey::new(collection.key.clone(), mutation.id);
            let newest = self.room.backlog.newest(&document);
            if newest
                .as_ref()
                .is_some_and(|n| n.version > mutation.version)
            {
                // The store may well take that one.
                continue;
            }
            report.refused += 1;
            if report.refused > REFUSED {
                let failed = self.failed(error).with("refused", report.refused);
                return Err(failed.with("last", &document.id));
            }
            // Only an entry of the journal can be parked.
            if newest.is_none() {
                let truth = Truth::held(mutation.version, mutation.state);
                unknown.push((unknown.len(), document, truth));
            }
        }
        for (_, written) in write_again(&self.room, unknown).await? {
            written?;
        }
        Ok(())
    }

    /// Applies a page, trying again what fails for a passing reason.
    async fn apply(
        &self,
        store: &Arc<Store>,
        collection: &Collection,
        mutations: &[Mutation],
    ) -> Result<Copied> {
        let mut tries = 1;
        loop {
            match self.apply_once(store, collection, mutations).await {
                Ok(copied) => return Ok(copied),
                Err(error) if error.is_transient() && tries < TRIES => {
                    store.note_failure(&error);
                    tries += 1;
                    self.room.runtime.sleep(BETWEEN_TRIES).await;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    async fn apply_once(
        &self,
        store: &Arc<Store>,
        collection: &Collection,
        mutations: &[Mutation],
    ) -> BackendResult<Copied> {
        // So that a drop is sent before this, and then seen here, or after it.
        let _turn = store.turn().await;
        if !self.room.is_live(&collection.key) {
            return Ok(vec![None; mutations.len()]);
        }
        let backend = store.connect().await?.as_backend();
        let epoch = self.room.journal.epoch();
        let create = CreateCollectionRequest::new(collection.clone(), epoch);
        backend.create_collection(create).await?;
        let size = backend.capabilities().max_batch.max(1);
        let mut copied = Vec::with_capacity(mutations.len());
        for chunk in mutations.chunks(size) {
            let request = ApplyRequest::new(collection.key.clone(), epoch, chunk);
            match backend.apply(request).await {
                Ok(results) => {
                    for result in results {
                        copied.push(refused(result)?);
                    }
                }
                // One of them is to blame.
                Err(error) if error.is_permanent() => {
                    copied.extend(one_by_one(backend.as_ref(), collection, epoch, chunk).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(copied)
    }
}

async fn one_by_one(
    backend: &dyn Backend,
    collection: &Collection,
    epoch: u64,
    mutations: &[Mutation],
) -> BackendResult<Copied> {
    let mut copied = Copied::with_capacity(mutations.len());
    for mutation in mutations {
        let alone = std::slice::from_ref(mutation);
        let request = ApplyRequest::new(collection.key.clone(), epoch, alone);
        let applied = backend.apply(request).await;
        copied.push(refused(
            applied.and_then(|results| results.into_iter().collect()),
        )?);
    }
    Ok(copied)
}

/// Why the document was refused for good, if it was.
fn refused(result: BackendResult<()>) -> BackendResult<Option<BackendError>> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if error.is_permanent() => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

fn mutation(record: StoredRecord) -> Mutation {
    Mutation {
        id: record.id,
        version: record.version,
        state: record.state,
    }
}
