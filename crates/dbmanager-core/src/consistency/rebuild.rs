//! `rebuild`: a store emptied and filled again from the authority, while writes go on.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    check::CheckConsistency,
    report::{OnProgress, Progress},
};
use crate::{
    BoxFuture, Error, ErrorKind, Result,
    backend::{
        ApplyRequest, BackendResult, CreateCollectionRequest, DocumentState, DropCollectionRequest,
        Mutation, StoredRecord,
    },
    journal::{RosterRecord, RosterState},
    model::{Collection, Role, StoreId, Version},
    read::read_error,
    roster::Store,
    write::{WriteRoom, journal_error},
};

/// Documents copied at once.
const PAGE: usize = 500;
/// Tries per page before the rebuild gives up; each is behind the store's own resilience.
const TRIES: u32 = 5;
/// The wait between two tries.
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// How often it is looked whether a store is still in doubt.
const LOOK: Duration = Duration::from_millis(20);

/// A rebuild of one store; does nothing until it is awaited.
///
/// The store gets a new identity and is emptied. From then on the journal keeps every entry until
/// the store has it. Everything the authority holds, tombstones included, is copied; then the
/// journal's entries are drained up to the last one written by then, and the store is compared and
/// made durable; what is written after that is pending, as at any store. Only then it acknowledges
/// writes again.
/// A rebuild that fails leaves the store as `NeedsRebuild`. There is one rebuild of a store at a time.
#[must_use = "nothing is rebuilt until it is awaited"]
pub struct Rebuild {
    room: Arc<WriteRoom>,
    role: Role,
    progress: Option<OnProgress>,
}

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RebuildReport {
    /// The store's new identity.
    pub store_id: StoreId,
    /// Documents copied.
    pub documents: u64,
    /// Tombstones copied.
    pub tombstones: u64,
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for Rebuild {
    type Output = Result<RebuildReport>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let runtime = self.room.runtime.clone();
            // A task of its own: dropping the caller's future must not leave it half done.
            runtime.spawn(self.run()).await.unwrap_or_else(|lost| {
                Err(Error::new(ErrorKind::Internal, "the rebuild ended early").with_source(lost))
            })
        })
    }
}

impl Rebuild {
    pub(crate) fn new(room: Arc<WriteRoom>, role: Role) -> Self {
        Self {
            room,
            role,
            progress: None,
        }
    }

    /// Is told of every page that is copied.
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    fn failed(&self, error: crate::backend::BackendError) -> Error {
        read_error(self.role, error)
    }

    async fn run(self) -> Result<RebuildReport> {
        self.room.check_open()?;
        self.room.check_sender()?;
        if self.role == Role::Relational {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the authority is not rebuilt from other stores: restore it from a backup",
            ));
        }
        let store = self.room.store(self.role).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "no such store is enabled").with_role(self.role)
        })?;
        let Some(_alone) = store.try_rebuild() else {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "the store is being rebuilt already: wait for that to end",
            )
            .with_role(self.role));
        };
        self.room.authority().await?;
        let store_id = self.empty(&store).await?;
        let filled = self.fill(&store, store_id).await;
        store.stop_filling(store_id);
        self.room.refresh_participation(&store);
        filled
    }

    /// Whether the store is still the one that this rebuild fills.
    ///
    /// # Errors
    /// The manager is closed, or has left the store to another one meanwhile, be it that it is the
    /// sender again. A lease that has run out and is renewed is no reason to copy all of it again.
    fn check_ours(&self, store: &Store, store_id: StoreId) -> Result<()> {
        self.room.check_open()?;
        if store.is_filling(store_id) {
            return Ok(());
        }
        let message = "the store was left to another instance meanwhile";
        Err(Error::new(ErrorKind::Unavailable, message).with_role(self.role))
    }

    /// Empties the store and gives it a new identity. No sender touches it meanwhile.
    async fn empty(&self, store: &Arc<Store>) -> Result<StoreId> {
        let _turn = store.turn().await;
        let backend = store
            .connect()
            .await
            .map_err(|e| self.failed(e))?
            .as_backend();
        let old = store.record();
        let new = RosterRecord {
            store_id: self.room.runtime.new_store_id(),
            state: RosterState::NeedsRebuild,
            progress: Version::ZERO,
            stamped: true,
            ..old.clone()
        };
        let removed = RosterRecord {
            state: RosterState::Removed,
            ..old
        };
        self.room
            .journal
            .put_store(removed)
            .await
            .map_err(journal_error)?;
        store
            .update(|record| *record = new.clone())
            .await
            .map_err(|e| self.failed(e))?;
        self.room.refresh_participation(store);
        store
            .stamp(backend.as_ref(), Version::ZERO)
            .await
            .map_err(|e| self.failed(e))?;
        let epoch = self.room.journal.epoch();
        for collection in backend.collections().await.map_err(|e| self.failed(e))? {
            let request = DropCollectionRequest::new(collection, epoch);
            backend
                .drop_collection(request)
                .await
                .map_err(|e| self.failed(e))?;
        }
        // What was sent to the store so far may arrive yet, the drops above not least: from here on
        // it comes too late.
        self.room
            .journal
            .raise_epoch(epoch)
            .await
            .map_err(journal_error)?;
        store
            .stamp(backend.as_ref(), Version::ZERO)
            .await
            .map_err(|e| self.failed(e))?;
        self.room.backlog.clear_parked(self.role);
        store.begin_filling(new.store_id);
        store.want_reconcile();
        self.room.refresh_participation(store);
        Ok(new.store_id)
    }

    async fn fill(&self, store: &Arc<Store>, store_id: StoreId) -> Result<RebuildReport> {
        let mut report = RebuildReport {
            store_id,
            documents: 0,
            tombstones: 0,
        };
        let start = self.room.journal.mark();
        for collection in self.room.collections() {
            self.copy(store, &collection, start, &mut report).await?;
        }
        // Not until nothing is left: writes go on, and a store may never get ahead of them.
        let copied = self.room.journal.mark();
        self.drain(store, store_id, copied).await?;
        let backend = store.connect().await.map_err(|e| self.failed(e))?;
        let opening = store.opening();
        let compared = CheckConsistency::new(Arc::clone(&self.room))
            .role(self.role)
            .await?;
        if let Some(different) = compared.differences.first() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the rebuilt store still differs from the authority",
            )
            .with_role(self.role)
            .with(
                "differences",
                compared.stores.iter().map(|s| s.differences).sum::<u64>(),
            )
            .with("first", &different.id));
        }
        self.check_ours(store, store_id)?;
        // What was copied is in no entry of the journal: from here on the store alone must keep it.
        // Until now its stamp had no progress, so a copy of it from before this shows.
        store
            .stamp(backend.as_backend().as_ref(), copied)
            .await
            .map_err(|e| self.failed(e))?;
        self.check_ours(store, store_id)?;
        let finished = store.finish_filling(store_id, opening, copied).await;
        if !finished.map_err(|e| self.failed(e))? {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the store was opened anew meanwhile and may have lost what was copied",
            )
            .with_role(self.role));
        }
        Ok(report)
    }

    /// Copies what was written up to `start`. What came later the journal keeps and sends: were it
    /// copied too, ids that ascend with time would keep a slow store from ever reaching the end.
    async fn copy(
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
            for record in &page {
                match record.state {
                    DocumentState::Live(_) => report.documents += 1,
                    DocumentState::Deleted => report.tombstones += 1,
                }
            }
            done += page.len() as u64;
            self.apply(store, collection, page).await?;
            if let Some(progress) = &self.progress {
                let name = Arc::clone(&collection.key.name);
                progress(Progress::new(self.role, name, done));
            }
        }
    }

    /// Applies a page, trying again what fails for a passing reason.
    async fn apply(
        &self,
        store: &Arc<Store>,
        collection: &Collection,
        page: Vec<StoredRecord>,
    ) -> Result<()> {
        let mutations: Arc<[Mutation]> = page
            .into_iter()
            .map(|record| match record.state {
                DocumentState::Live(content) => {
                    Mutation::upsert(record.id, record.version, content)
                }
                DocumentState::Deleted => Mutation::delete(record.id, record.version),
            })
            .collect();
        let mut tries = 1;
        loop {
            match self.apply_once(store, collection, &mutations).await {
                Ok(()) => return Ok(()),
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
        mutations: &Arc<[Mutation]>,
    ) -> BackendResult<()> {
        // So that a drop is sent before this, and then seen here, or after it.
        let _turn = store.turn().await;
        if !self.room.is_live(&collection.key) {
            return Ok(());
        }
        let backend = store.connect().await?.as_backend();
        let epoch = self.room.journal.epoch();
        let create = CreateCollectionRequest::new(collection.clone(), epoch);
        backend.create_collection(create).await?;
        let size = backend.capabilities().max_batch.max(1);
        for chunk in mutations.chunks(size) {
            let request = ApplyRequest::new(collection.key.clone(), epoch, chunk);
            for result in backend.apply(request).await? {
                result?;
            }
        }
        Ok(())
    }

    /// Waits until the store has every live entry up to this version, whatever the one before it had
    /// confirmed.
    async fn drain(&self, store: &Store, store_id: StoreId, version: Version) -> Result<()> {
        loop {
            let changed = self.room.backlog.changed.notified();
            let in_doubt = self.room.in_doubt(store);
            if !in_doubt && self.room.backlog.is_caught_up_to(self.role, version) {
                return Ok(());
            }
            self.check_ours(store, store_id)?;
            if in_doubt {
                self.room.rest(LOOK).await;
            } else {
                changed.await;
            }
        }
    }
}
