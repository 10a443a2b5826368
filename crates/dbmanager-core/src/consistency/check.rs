//! `check_consistency`: every store against authority and journal, online and in bounded memory.

use std::{future::IntoFuture, sync::Arc};

use super::{
    report::{ConsistencyReport, OnProgress, Progress},
    walk::StoreCheck,
};
use crate::{
    BoxFuture, Error, ErrorKind, Result,
    model::{CollectionKey, Role},
    write::WriteRoom,
};

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
    pub(super) room: Arc<WriteRoom>,
    pub(super) collections: Option<Vec<String>>,
    roles: Vec<Role>,
    pub(super) repair: bool,
    pub(super) listed: usize,
    pub(super) progress: Option<OnProgress>,
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
            let mut check = StoreCheck::new(&self, store, &mut report.differences);
            check.foreign_collections().await?;
            for collection in &collections {
                check.collection(collection).await?;
            }
            let summary = check.finish();
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
