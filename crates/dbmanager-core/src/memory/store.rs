//! What the in-memory stores of all roles have in common: stamp, collections, versions, tombstones
//! and fingerprints.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    ops::Bound,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use super::{
    MemoryPlace,
    place::{Data, HeldCollection, HeldDocument},
};
use crate::{
    backend::{
        ApplyRequest, Backend, BackendError, BackendErrorKind, BackendResult, Capabilities,
        CreateCollectionRequest, DropCollectionRequest, Fingerprint, Head, Identity, IdsRequest,
        ListRequest, Mutation, Page, Stamp, StampRequest,
    },
    model::{CollectionKey, CollectionOptions, Role},
};

mod sealed {
    pub trait Sealed {}
}

/// A role an in-memory store can play; implemented by the marker types of this module only.
pub trait MemoryRole: sealed::Sealed + Send + Sync + 'static {
    /// The role.
    const ROLE: Role;
}

macro_rules! memory_role {
    ($(#[$doc:meta])* $name:ident is $role:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl MemoryRole for $name {
            const ROLE: Role = Role::$role;
        }
    };
}

memory_role!(
    /// Marks the vector store.
    VectorRole is Vector
);
memory_role!(
    /// Marks the graph store.
    GraphRole is Graph
);
memory_role!(
    /// Marks the relational store.
    RelationalRole is Relational
);

/// An in-memory store of one role.
pub struct MemoryStore<R> {
    place: MemoryPlace,
    capabilities: Capabilities,
    closed: AtomicBool,
    role: PhantomData<fn() -> R>,
}

impl<R: MemoryRole> MemoryStore<R> {
    /// Opens the store at this place. The place may be open more than once; the epoch in the stamp
    /// fences the older one off, as it does for a store on a server.
    ///
    /// # Errors
    /// `Config` if the place holds a store of another role.
    pub fn open(place: &MemoryPlace) -> BackendResult<Self> {
        let role = *place.lock().role.get_or_insert(R::ROLE);
        if role != R::ROLE {
            return Err(BackendError::new(
                BackendErrorKind::Config,
                format!("the place holds a {role} store, not a {} one", R::ROLE),
            )
            .not_applied());
        }
        Ok(Self {
            place: place.clone(),
            capabilities: Capabilities {
                durable_on_apply: true,
                ..Capabilities::new()
            },
            closed: AtomicBool::new(false),
            role: PhantomData,
        })
    }

    /// The data, unless the store is closed.
    pub(super) fn data(&self) -> BackendResult<MutexGuard<'_, Data>> {
        let data = self.place.lock();
        // Read under the lock, so that nothing is written after `close` has returned.
        if self.closed.load(Ordering::SeqCst) {
            return Err(
                BackendError::new(BackendErrorKind::Unavailable, "the store is closed")
                    .not_applied(),
            );
        }
        Ok(data)
    }

    /// The data for a change by a manager of this epoch.
    fn data_for_change(&self, epoch: u64) -> BackendResult<MutexGuard<'_, Data>> {
        let data = self.data()?;
        if let Some(stamp) = &data.stamp {
            stamp.check_epoch(epoch)?;
        }
        Ok(data)
    }

    /// `answer` for each id in the order given; `None` for what was never written here.
    pub(super) fn by_id<T>(
        &self,
        request: &IdsRequest,
        answer: impl Fn(&Arc<str>, &HeldDocument) -> T,
    ) -> BackendResult<Vec<Option<T>>> {
        let data = self.data()?;
        let documents = &data.collection(&request.collection)?.documents;
        Ok(request
            .ids
            .iter()
            .map(|id| documents.get(id).map(|held| answer(id, held)))
            .collect())
    }
}

impl<R: MemoryRole> fmt::Debug for MemoryStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("role", &R::ROLE)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

fn refused(message: impl Into<String>) -> BackendError {
    BackendError::new(BackendErrorKind::Refused, message).not_applied()
}

/// Applies one mutation above the version held, and only there.
fn apply_one(
    collection: &mut HeldCollection,
    role: Role,
    mutation: &Mutation,
) -> BackendResult<()> {
    if role == Role::Vector {
        check_vectors(&collection.options, mutation)?;
    }
    let newer = collection
        .documents
        .get(&mutation.id)
        .is_none_or(|held| mutation.version > held.version);
    if newer {
        collection.documents.insert(
            Arc::clone(&mutation.id),
            HeldDocument {
                version: mutation.version,
                state: mutation.state.clone(),
            },
        );
    }
    Ok(())
}

fn check_vectors(options: &CollectionOptions, mutation: &Mutation) -> BackendResult<()> {
    let Some(record) = mutation.state.record() else {
        return Ok(());
    };
    for vector in &record.vectors().vectors {
        let numbers = vector.values.len();
        match &options.embedding_space {
            None => return Err(refused("the collection has no embedding space")),
            Some(space) if space.dimension as usize != numbers => {
                return Err(refused(format!(
                    "a vector has {numbers} numbers, the collection's have {}",
                    space.dimension
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[async_trait]
impl<R: MemoryRole> Backend for MemoryStore<R> {
    fn role(&self) -> Role {
        R::ROLE
    }

    fn service(&self) -> &str {
        "memory"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> BackendResult<()> {
        self.data().map(drop)
    }

    async fn read_stamp(&self) -> BackendResult<Option<Stamp>> {
        Ok(self.data()?.stamp.clone())
    }

    async fn identity(&self) -> BackendResult<Identity> {
        let data = self.data()?;
        let highest = data
            .collections
            .values()
            .flat_map(|collection| collection.documents.values())
            .map(|held| held.version)
            .max();
        Ok(Identity::new(
            data.stamp.clone(),
            highest,
            highest.is_none(),
        ))
    }

    async fn write_stamp(&self, request: StampRequest) -> BackendResult<()> {
        let mut data = self.data()?;
        if let Some(held) = &data.stamp {
            request.check_over(held)?;
        }
        data.stamp = Some(request.stamp);
        Ok(())
    }

    async fn create_collection(&self, request: CreateCollectionRequest) -> BackendResult<()> {
        let mut data = self.data_for_change(request.epoch)?;
        let asked = request.collection;
        if let Some(held) = data.collections.get_mut(&asked.key) {
            let filled_in = held.options.filled_in(&asked.options);
            held.options =
                filled_in.ok_or_else(|| refused("the collection exists with other options"))?;
        } else {
            data.collections.insert(
                asked.key,
                HeldCollection {
                    options: asked.options,
                    documents: BTreeMap::new(),
                },
            );
        }
        Ok(())
    }

    async fn drop_collection(&self, request: DropCollectionRequest) -> BackendResult<()> {
        self.data_for_change(request.epoch)?
            .collections
            .remove(&request.collection);
        Ok(())
    }

    async fn collections(&self) -> BackendResult<Vec<CollectionKey>> {
        Ok(self.data()?.collections.keys().cloned().collect())
    }

    async fn apply(&self, request: ApplyRequest) -> BackendResult<Vec<BackendResult<()>>> {
        let mut data = self.data_for_change(request.epoch)?;
        let collection = data.collection_mut(&request.collection)?;
        Ok(request
            .mutations
            .iter()
            .map(|mutation| apply_one(collection, R::ROLE, mutation))
            .collect())
    }

    async fn heads(&self, request: IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        self.by_id(&request, |_, held| held.head())
    }

    async fn fingerprints(&self, request: ListRequest) -> BackendResult<Page<Fingerprint>> {
        let data = self.data()?;
        let documents = &data.collection(&request.collection)?.documents;
        let above = match request.after.as_deref() {
            Some(id) => Bound::Excluded(id),
            None => Bound::Unbounded,
        };
        let mut rest = documents.range::<str, _>((above, Bound::Unbounded));
        let items: Vec<_> = rest
            .by_ref()
            .take(request.limit)
            .map(|(id, held)| held.fingerprint(&request.collection, id, R::ROLE))
            .collect();
        let more = rest.next().is_some();
        let last = items.last().map(|item| item.id.to_string());
        Ok(Page {
            next: last.filter(|_| more),
            items,
        })
    }

    async fn fingerprints_of(
        &self,
        request: IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        self.by_id(&request, |id, held| {
            held.fingerprint(&request.collection, id, R::ROLE)
        })
    }

    async fn sync(&self) -> BackendResult<()> {
        self.data().map(drop)
    }

    async fn refresh(&self) -> BackendResult<()> {
        self.data().map(drop)
    }

    async fn close(&self) -> BackendResult<()> {
        let _data = self.place.lock();
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}
