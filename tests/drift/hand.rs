//! Another hand on a store in memory, past the manager that owns it.

use std::sync::Arc;

use dbmanager_core::{
    DatabaseManager, Runtime,
    backend::{
        AnyBackend, ApplyRequest, Backend, BackendFactory, CreateCollectionRequest, DocumentState,
        IdsRequest, Mutation, OpenContext, ServiceConfig, StoredRecord,
    },
    memory::{MemoryFactory, MemoryPlace},
    model::{Collection, CollectionOptions, Document, DocumentRecord, Role, VectorSet, Version},
};

use crate::common::Rig;

/// Above the epoch of any manager, so that the stamp lets it pass.
const EPOCH: u64 = u64::MAX;

pub(crate) struct Hand {
    role: Role,
    place: MemoryPlace,
    collection: Collection,
}

impl Hand {
    /// On the store of this role, in the manager's live collection of this name.
    pub(crate) fn on(rig: &Rig, role: Role, db: &DatabaseManager, name: &str) -> Self {
        let collections = db.collections();
        let collection = collections.into_iter().find(|c| &*c.key.name == name);
        Self {
            role,
            place: rig.place(role),
            collection: collection.unwrap(),
        }
    }

    async fn open(&self) -> AnyBackend {
        let factory = MemoryFactory::of(self.role).at(&self.place);
        let context = OpenContext::new(Runtime::tokio());
        factory.open(&ServiceConfig::new(), &context).await.unwrap()
    }

    async fn backend(&self) -> Arc<dyn Backend> {
        self.open().await.as_backend()
    }

    pub(crate) fn lose(&self, id: &str) {
        self.place.lose(&self.collection.key.name, id);
    }

    /// Puts the document there at this version, whatever version was there.
    pub(crate) async fn put(&self, id: &str, version: Version, state: DocumentState) {
        self.lose(id);
        let mutation = match state {
            DocumentState::Live(record) => Mutation::upsert(id, version, record),
            DocumentState::Deleted => Mutation::delete(id, version),
        };
        let request = ApplyRequest::new(self.collection.key.clone(), EPOCH, vec![mutation]);
        let applied = self.backend().await.apply(request).await.unwrap();
        applied.into_iter().for_each(|result| result.unwrap());
    }

    /// Makes another collection there, which no journal knows.
    pub(crate) async fn create(&mut self, name: &str, generation: u64) {
        self.collection = Collection {
            key: dbmanager_core::model::CollectionKey::new(name, generation),
            options: CollectionOptions::new(),
        };
        let request = CreateCollectionRequest::new(self.collection.clone(), EPOCH);
        self.backend()
            .await
            .create_collection(request)
            .await
            .unwrap();
    }

    /// What the authority holds.
    pub(crate) async fn record(&self, id: &str) -> StoredRecord {
        let AnyBackend::Relational(authority) = self.open().await else {
            panic!("only the authority gives whole documents")
        };
        let request = IdsRequest::new(self.collection.key.clone(), [Arc::from(id)].to_vec());
        let found = authority.get(request).await.unwrap();
        found.into_iter().next().flatten().unwrap()
    }

    pub(crate) async fn version(&self, id: &str) -> Option<Version> {
        let request = IdsRequest::new(self.collection.key.clone(), [Arc::from(id)].to_vec());
        let heads = self.backend().await.heads(request).await.unwrap();
        heads.into_iter().next().flatten().map(|head| head.version)
    }
}

/// A document without vectors as a store would hold it.
pub(crate) fn foreign(id: &str) -> DocumentState {
    let document = Document::new(id).title("a stranger").text("never written");
    let record = DocumentRecord::new(document, VectorSet::empty()).unwrap();
    DocumentState::Live(Arc::new(record))
}
