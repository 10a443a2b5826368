//! Reading by id, and listing.

use std::sync::Arc;

use dbmanager_core::{
    backend::{BackendResult, Fingerprint, ListRequest, Page},
    model::{ChunkVector, CollectionKey, ContentHash},
};
use redis::cmd;

use super::{
    config::Engine,
    convert::{list, text},
    document::Held,
    store::{Redis, missing, outcome},
};

/// Documents that one script reads: nothing else runs on the server meanwhile.
const READ_AT_ONCE: usize = 50;

impl Redis {
    /// The documents as far as `parts` asks for (`f` facts, `s` shapes, `e` vectors, `c` copies),
    /// each as it was at one moment.
    pub(super) async fn read(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
        parts: &str,
    ) -> BackendResult<Vec<Option<Held>>> {
        let keys = self.keys.collection(collection);
        let mut commands = Vec::new();
        // Without ids one request remains, which tells whether the collection is there.
        for some in ids
            .chunks(READ_AT_ONCE)
            .chain(ids.is_empty().then_some(ids))
        {
            let documents: Vec<String> = some.iter().map(|id| keys.document(id)).collect();
            let mut on = vec![self.keys.collections.as_str(), keys.vectors.as_str()];
            on.extend(documents.iter().map(String::as_str));
            let mut call = self.session.scripts().read.on(&on);
            call.arg(&keys.name)
                .arg(self.engine().as_str())
                .arg(&keys.chunk)
                .arg(parts);
            for id in some {
                call.arg(&**id);
            }
            commands.push(call);
        }
        let mut held = Vec::with_capacity(ids.len());
        for answer in self.session.call_all(commands).await? {
            let (outcome, documents) = outcome(answer?)?;
            if outcome == "missing" {
                self.forget(collection);
                return Err(missing(collection));
            }
            for document in documents {
                held.push(Held::read(document, self.engine())?);
            }
        }
        Ok(held)
    }

    /// The ids after this one, in the order of their bytes.
    pub(super) async fn ids_after(
        &self,
        collection: &CollectionKey,
        after: Option<&str>,
        limit: usize,
    ) -> BackendResult<Vec<Arc<str>>> {
        self.page_of(&self.keys.collection(collection).ids, after, limit)
            .await
    }

    /// The members of a sorted set after this one, in the order of their bytes.
    pub(super) async fn page_of(
        &self,
        key: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BackendResult<Vec<Arc<str>>> {
        let mut page = cmd("ZRANGEBYLEX");
        page.arg(key);
        match after {
            Some(after) => page.arg(format!("({after}")),
            None => page.arg("-"),
        };
        page.arg("+").arg("LIMIT").arg(0).arg(limit);
        list("a page of ids", self.session.call(page).await?)?
            .into_iter()
            .map(|id| Ok(Arc::from(text("an id", id)?)))
            .collect()
    }

    pub(super) async fn page_of_fingerprints(
        &self,
        request: ListRequest,
    ) -> BackendResult<Page<Fingerprint>> {
        let mut ids = self
            .ids_after(
                &request.collection,
                request.after.as_deref(),
                request.limit.saturating_add(1),
            )
            .await?;
        let more = ids.len() > request.limit;
        ids.truncate(request.limit);
        let last = ids.last().map(|id| id.to_string());
        let found = self.fingerprints_by_id(&request.collection, &ids).await?;
        Ok(Page {
            // One that a removal of the collection took meanwhile is `None`.
            items: found.into_iter().flatten().collect(),
            next: last.filter(|_| more),
        })
    }

    pub(super) async fn fingerprints_by_id(
        &self,
        collection: &CollectionKey,
        ids: &[Arc<str>],
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        let parts = match self.engine() {
            Engine::QueryEngine => "se",
            Engine::VectorSets => "sec",
        };
        let mut fingerprints = Vec::with_capacity(ids.len());
        // In steps, because all vectors of all documents would be in memory else.
        for some in ids
            .chunks(READ_AT_ONCE)
            .chain(ids.is_empty().then_some(ids))
        {
            let held = self.read(collection, some, parts).await?;
            fingerprints.extend(some.iter().zip(held).map(|(id, held)| {
                held.map(|held| Fingerprint {
                    id: Arc::clone(id),
                    head: held.head,
                    content_hash: content_hash(&held),
                })
            }));
        }
        Ok(fingerprints)
    }
}

/// The hash of the vectors; a copy that searches look at and that disagrees takes its place.
fn content_hash(held: &Held) -> ContentHash {
    if held.head.deleted {
        return ContentHash::TOMBSTONE;
    }
    let searched = |vector: &ChunkVector| {
        let copy = held
            .disagreeing
            .iter()
            .find(|copy| copy.chunk == vector.chunk);
        copy.unwrap_or(vector).clone()
    };
    let searched: Vec<ChunkVector> = held.vectors.iter().map(searched).collect();
    ContentHash::of_vectors(searched.iter())
}
