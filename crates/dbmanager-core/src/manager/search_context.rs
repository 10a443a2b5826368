//! What a search sees of the manager: the stores as they are now, and the current documents.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;

use super::Inner;
use crate::{
    Runtime,
    backend::{AnyBackend, BackendError, BackendErrorKind, IdsRequest},
    embed::Embedder,
    model::{CollectionKey, Role},
    roster::Store,
    search::{CurrentDocument, SearchContext, SearchStore, SearchStores},
    write::{DocumentKey, Participation, WriteRoom},
};

/// The manager as a search finds it.
pub(super) struct ManagerSearch {
    room: Arc<WriteRoom>,
}

impl ManagerSearch {
    pub(super) fn new(inner: &Inner) -> Self {
        Self {
            room: Arc::clone(&inner.room),
        }
    }

    /// Without an authority: the store whose copy hits are checked against. One that may lack what
    /// others hold would make their hits look deleted.
    fn verifier(&self) -> Option<&Arc<Store>> {
        let mut stores = self.room.stores.iter();
        stores.find(|store| is_searched(&self.room, store) && !self.room.in_doubt(store))
    }

    async fn current_with_authority(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Vec<CurrentDocument> {
        let records = self.room.current_records(collection, ids).await;
        let mut stores = self.room.stores.iter();
        let all_hold = stores.all(|store| serves_all(&self.room, store));
        ids.iter()
            .zip(records)
            .map(|(id, record)| match record {
                Err(_) => CurrentDocument::Unknown,
                Ok(None) => CurrentDocument::Gone,
                Ok(Some((version, record))) => {
                    let lacking = if all_hold {
                        Vec::new()
                    } else {
                        self.lacking(collection, id, version)
                    };
                    CurrentDocument::Live {
                        version,
                        record: Some(record),
                        lacking,
                    }
                }
            })
            .collect()
    }

    fn lacking(
        &self,
        collection: &CollectionKey,
        id: &Arc<str>,
        version: crate::model::Version,
    ) -> Vec<Role> {
        let document = DocumentKey::new(collection.clone(), Arc::clone(id));
        let confirmed = |role: Role| self.room.backlog.is_confirmed(role, &document, version);
        self.room
            .stores
            .iter()
            .map(|s| s.role)
            .filter(|role| !confirmed(*role))
            .collect()
    }

    /// Without an authority: what is in the journal, else the version that another store holds.
    async fn current_without_authority(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> Vec<CurrentDocument> {
        let heads = match self.verifier() {
            None => Err(()),
            Some(store) => match store.connect().await {
                Err(_) => Err(()),
                Ok(backend) => {
                    let request = IdsRequest::new(collection.clone(), ids);
                    match backend.as_backend().heads(request).await {
                        Ok(heads) => Ok(heads),
                        Err(error) if error.kind() == BackendErrorKind::CollectionMissing => {
                            Ok(vec![None; ids.len()])
                        }
                        Err(_) => Err(()),
                    }
                }
            },
        };
        let mut documents = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let document = DocumentKey::new(collection.clone(), Arc::clone(id));
            if self.room.backlog.newest(&document).is_some() {
                let one = std::slice::from_ref(id);
                documents.extend(self.current_with_authority(collection, one).await);
                continue;
            }
            documents.push(match heads.as_ref().map(|heads| heads[index]) {
                Err(()) => CurrentDocument::Unknown,
                Ok(None) => CurrentDocument::Gone,
                Ok(Some(head)) if head.deleted => CurrentDocument::Gone,
                Ok(Some(head)) => CurrentDocument::Live {
                    version: head.version,
                    record: None,
                    lacking: self.lacking(collection, id, head.version),
                },
            });
        }
        documents
    }
}

fn is_searched(room: &WriteRoom, store: &Store) -> bool {
    room.backlog.participation(store.role) == Participation::Full
}

/// Whether a store is searched and holds every acknowledged write.
fn serves_all(room: &WriteRoom, store: &Store) -> bool {
    is_searched(room, store) && room.holds_all(store)
}

/// The store, which is connected if it has lost its connection and is asked.
async fn connect(
    room: &WriteRoom,
    store: &Store,
    asked: bool,
    wait: Duration,
) -> Result<AnyBackend, BackendError> {
    match room.backlog.participation(store.role) {
        Participation::Skipped | Participation::Rebuilding => {
            return Err(unavailable("the store needs a rebuild and is not searched"));
        }
        Participation::NeedsRestore => {
            return Err(unavailable("the store needs a restore and is not searched"));
        }
        _ => {}
    }
    if !asked {
        let connected = store.ready();
        return connected.ok_or_else(|| unavailable("the store is not connected"));
    }
    room.runtime
        .timeout(wait, store.connect())
        .await
        .unwrap_or_else(|_| {
            Err(BackendError::new(
                BackendErrorKind::Timeout,
                "the store did not answer in time",
            ))
        })
}

fn unavailable(message: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, message).not_applied()
}

#[async_trait]
impl SearchContext for ManagerSearch {
    fn runtime(&self) -> &Runtime {
        &self.room.runtime
    }

    async fn stores(&self, asked: &[Role], wait: Duration) -> SearchStores {
        let room = &self.room;
        let mut stores = SearchStores {
            vector: SearchStore::NotConfigured,
            graph: SearchStore::NotConfigured,
            relational: SearchStore::NotConfigured,
        };
        let connected = join_all(room.stores.iter().map(|store| {
            let asked = asked.contains(&store.role);
            connect(room, store, asked, wait)
        }))
        .await;
        for (store, result) in room.stores.iter().zip(connected) {
            let caught_up = serves_all(room, store);
            match (store.role, result) {
                (_, Ok(AnyBackend::Vector(backend))) => {
                    stores.vector = SearchStore::Ready { backend, caught_up };
                }
                (_, Ok(AnyBackend::Graph(backend))) => {
                    stores.graph = SearchStore::Ready { backend, caught_up };
                }
                (_, Ok(AnyBackend::Relational(backend))) => {
                    stores.relational = SearchStore::Ready { backend, caught_up };
                }
                (Role::Vector, Err(error)) => stores.vector = SearchStore::Unavailable(error),
                (Role::Graph, Err(error)) => stores.graph = SearchStore::Unavailable(error),
                (Role::Relational, Err(error)) => {
                    stores.relational = SearchStore::Unavailable(error);
                }
            }
        }
        stores
    }

    fn collections(&self) -> Arc<[CollectionKey]> {
        self.room
            .collections()
            .into_iter()
            .map(|collection| collection.key)
            .collect()
    }

    fn embedder(&self) -> Option<Arc<dyn Embedder>> {
        self.room.embedder.clone()
    }

    fn verified_by(&self) -> Option<Role> {
        match self.room.store(Role::Relational) {
            Some(_) => None,
            None => self
                .verifier()
                .or(self.room.stores.first())
                .map(|store| store.role),
        }
    }

    async fn current(
        &self,
        collection: &CollectionKey,
        ids: Arc<[Arc<str>]>,
    ) -> Vec<CurrentDocument> {
        match self.verified_by() {
            None => self.current_with_authority(collection, &ids).await,
            Some(_) => self.current_without_authority(collection, &ids).await,
        }
    }
}
