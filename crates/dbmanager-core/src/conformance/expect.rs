//! Compares what a store holds with what it should hold.

use std::sync::Arc;

use super::{
    client::Client,
    data::{self, persist},
    trial::CaseResult,
};
use crate::{
    backend::Head,
    model::{ContentHash, DocumentRecord, Reference, Role, Version, nearly_same},
};

/// What a store should hold of a document.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Live(Version, Arc<DocumentRecord>),
    Deleted(Version),
    Never,
}

impl Client {
    pub(super) async fn expect_live(
        &self,
        number: u64,
        record: &Arc<DocumentRecord>,
    ) -> CaseResult {
        let state = Expected::Live(data::version(number), Arc::clone(record));
        self.expect(&[(&record.document().id, state)]).await
    }

    pub(super) async fn expect_deleted(&self, number: u64, id: &str) -> CaseResult {
        let state = Expected::Deleted(data::version(number));
        self.expect(&[(id, state)]).await
    }

    /// Checks head, fingerprint and content of each document by id.
    pub(super) async fn expect(&self, states: &[(&str, Expected)]) -> CaseResult {
        let list: Vec<&str> = states.iter().map(|(id, _)| *id).collect();
        let heads = self.heads(&list).await?;
        let fingerprints = self.fingerprints_of(&list).await?;
        ensure_eq!(heads.len(), list.len(), "number of heads");
        ensure_eq!(fingerprints.len(), list.len(), "number of fingerprints");
        for (((id, state), head), fingerprint) in states.iter().zip(heads).zip(fingerprints) {
            let expected = state.head();
            ensure_eq!(head, expected, "head of {id:?}");
            ensure_eq!(
                fingerprint.as_ref().map(|f| (&*f.id, f.head)),
                expected.map(|head| (*id, head)),
                "fingerprint of {id:?}"
            );
            if let (Some(hash), Some(fingerprint)) = (self.content_hash(state), fingerprint) {
                ensure_eq!(fingerprint.content_hash, hash, "content hash of {id:?}");
            }
        }
        match self.shared.role() {
            Role::Vector => self.expect_vectors(&list, states).await,
            Role::Graph => self.expect_edges(&list, states).await,
            Role::Relational => self.expect_records(&list, states).await,
        }
    }

    /// The hash the store must compute.
    pub(super) fn content_hash(&self, state: &Expected) -> Option<ContentHash> {
        let role = self.shared.role();
        match state {
            Expected::Live(_, record)
                if role == Role::Vector && !self.shared.capabilities().exact_vectors =>
            {
                let vectors = record.vectors().vectors.iter();
                Some(ContentHash::of_vector_shapes(vectors))
            }
            Expected::Live(_, record) => Some(record.content_hash(&self.collection.name, role)),
            Expected::Deleted(_) => Some(ContentHash::TOMBSTONE),
            Expected::Never => None,
        }
    }

    async fn expect_records(&self, list: &[&str], states: &[(&str, Expected)]) -> CaseResult {
        let request = self.ids(list.iter().copied());
        let backend = self.relational()?;
        let found = persist(&self.runtime, || backend.get(request.clone())).await?;
        ensure_eq!(found.len(), list.len(), "number of documents");
        for ((id, state), found) in states.iter().zip(found) {
            ensure_eq!(
                found.as_ref().map(|f| (&*f.id, f.version)),
                state.head().map(|head| (*id, head.version)),
                "version got of {id:?}"
            );
            let found = found.as_ref().and_then(|f| f.state.record());
            let record = state.record();
            ensure_eq!(
                found.map(|r| String::from_utf8_lossy(r.canonical())),
                record.map(|r| String::from_utf8_lossy(r.canonical())),
                "bytes of {id:?}"
            );
            ensure_eq!(
                found.map(|r| r.vectors().to_bytes().ok()),
                record.map(|r| r.vectors().to_bytes().ok()),
                "stored vectors of {id:?}"
            );
        }
        Ok(())
    }

    async fn expect_vectors(&self, list: &[&str], states: &[(&str, Expected)]) -> CaseResult {
        let request = self.ids(list.iter().copied());
        let backend = self.vector()?;
        let found = persist(&self.runtime, || backend.vectors(request.clone())).await?;
        ensure_eq!(found.len(), list.len(), "number of vector sets");
        let exact = self.shared.capabilities().exact_vectors;
        for ((id, state), found) in states.iter().zip(found) {
            let record = state.record();
            ensure_eq!(
                found.as_ref().map(|f| f.version),
                record.and_then(|_| state.head()).map(|head| head.version),
                "version of the vectors of {id:?}"
            );
            let found = found.map(|f| f.vectors).unwrap_or_default();
            let expected = record.map_or(&[][..], |r| &r.vectors().vectors);
            ensure!(
                found == expected || (!exact && nearly_same(expected, &found, true)),
                "vectors of {id:?}: found {found:?}, expected {expected:?}"
            );
        }
        Ok(())
    }

    async fn expect_edges(&self, list: &[&str], states: &[(&str, Expected)]) -> CaseResult {
        let request = self.ids(list.iter().copied());
        let backend = self.graph()?;
        let found = persist(&self.runtime, || backend.edges(request.clone())).await?;
        ensure_eq!(found.len(), list.len(), "number of edge sets");
        // A reference that names its source's collection means the same as one that names none.
        let full = |references: &[Reference]| -> Vec<Reference> {
            let own = self.collection.name.to_string();
            references
                .iter()
                .cloned()
                .map(|r| match r.collection {
                    None => r.collection(own.clone()),
                    Some(_) => r,
                })
                .collect()
        };
        for ((id, state), found) in states.iter().zip(found) {
            let expected = state.record().and_then(|record| {
                let references = full(&record.document().references);
                Some((state.head()?.version, references))
            });
            let found = found.map(|f| (f.version, full(&f.references)));
            ensure_eq!(found, expected, "edges of {id:?}");
        }
        Ok(())
    }
}

impl Expected {
    fn head(&self) -> Option<Head> {
        match self {
            Expected::Live(version, _) => Some(Head {
                version: *version,
                deleted: false,
            }),
            Expected::Deleted(version) => Some(Head {
                version: *version,
                deleted: true,
            }),
            Expected::Never => None,
        }
    }

    fn record(&self) -> Option<&Arc<DocumentRecord>> {
        match self {
            Expected::Live(_, record) => Some(record),
            Expected::Deleted(_) | Expected::Never => None,
        }
    }
}
