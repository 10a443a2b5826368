//! `rebuild`: a store emptied and filled again from the authority, while writes go on.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    check::CheckConsistency,
    copy::{BETWEEN_TRIES, TRIES},
    report::{OnProgress, Progress},
};
use crate::{
    BoxFuture, Error, ErrorKind, Result,
    backend::{BackendError, DropCollectionRequest},
    journal::{RosterRecord, RosterState},
    model::{Role, StoreId, Version},
    read::read_error,
    roster::{Store, is_same},
    write::{WriteRoom, journal_error},
};

/// How often it is looked whether a store is still in doubt.
const LOOK: Duration = Duration::from_millis(20);

/// A rebuild of one store; does nothing until it is awaited.
///
/// The store gets a new identity and is emptied. From then on the journal keeps every entry until
/// the store has it. Everything the authority holds, tombstones included, is copied; then the
/// journal's entries are drained up to the last one written by then, and the store is compared and
/// made durable; what is written after that is pending, as at any store. Only then it acknowledges
/// writes again.
///
/// Single documents that the store refuses for good do not stop it: they are parked, as in a write;
/// one that the journal had let go of gets a new version for that. More than 100 of them, and the
/// rebuild fails.
///
/// A rebuild that fails leaves the store as `NeedsRebuild`. There is one rebuild of a store at a time.
#[must_use = "nothing is rebuilt until it is awaited"]
pub struct Rebuild {
    pub(super) room: Arc<WriteRoom>,
    pub(super) role: Role,
    pub(super) progress: Option<OnProgress>,
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
    /// Documents that the store refused for good. They are parked: see
    /// [`parked_writes`](crate::DatabaseManager::parked_writes).
    pub refused: u64,
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

    pub(super) fn failed(&self, error: BackendError) -> Error {
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
    pub(super) fn check_ours(&self, store: &Store, store_id: StoreId) -> Result<()> {
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
        self.room.backlog.forget_refusals(self.role);
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
            refused: 0,
        };
        let start = self.room.journal.mark();
        for collection in self.room.collections() {
            self.copy(store, &collection, start, &mut report).await?;
        }
        // Not until nothing is left: writes go on, and a store may never get ahead of them.
        let copied = self.room.journal.mark();
        self.drain(store, store_id, copied).await?;
        store.connect().await.map_err(|e| self.failed(e))?;
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
        self.finish(store, store_id, opening, copied).await?;
        Ok(report)
    }

    /// Stamps the store that was filled and compared, and counts it again. What was copied is in no
    /// entry of the journal: from here on the store alone must keep it. Until now its stamp had no
    /// progress, so a copy of it from before this shows.
    ///
    /// # Errors
    /// It was opened anew since, or is not what it was any more: a stamp would make it look whole.
    async fn finish(
        &self,
        store: &Store,
        store_id: StoreId,
        opening: u64,
        progress: Version,
    ) -> Result<()> {
        let backend = store.connect().await.map_err(|e| self.failed(e))?;
        let backend = backend.as_backend();
        let record = store.record();
        let held = backend.read_stamp().await.map_err(|e| self.failed(e))?;
        if !is_same(held.as_ref(), &record) {
            store.want_verification();
        }
        self.check_ours(store, store_id)?;
        if store.trusted_opening() == Some(opening) {
            let stamped = store.stamp_as(&record, backend.as_ref(), progress).await;
            stamped.map_err(|e| self.failed(e))?;
            self.check_ours(store, store_id)?;
            let finished = store.finish_filling(store_id, opening, progress).await;
            if finished.map_err(|e| self.failed(e))? {
                return Ok(());
            }
        }
        let message = "the store was opened anew meanwhile and may have lost what was copied";
        Err(Error::new(ErrorKind::Unavailable, message).with_role(self.role))
    }

    /// Waits until the store has every live entry up to this version, whatever the one before it had
    /// confirmed.
    async fn drain(&self, store: &Store, store_id: StoreId, version: Version) -> Result<()> {
        let mut tries = 1;
        loop {
            let changed = self.room.backlog.changed.notified();
            let in_doubt = self.room.in_doubt(store);
            if !in_doubt && self.room.backlog.is_caught_up_to(self.role, version) {
                return Ok(());
            }
            self.check_ours(store, store_id)?;
            if !in_doubt {
                changed.await;
                continue;
            }
            // Opening it wakes its sender, which compares it.
            match store.connect().await {
                Ok(_) => self.room.rest(LOOK).await,
                Err(error) if error.is_transient() && tries < TRIES => {
                    tries += 1;
                    self.room.rest(BETWEEN_TRIES).await;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }
}
