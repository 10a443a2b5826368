//! Heads, and sets of chunks with the head they belong to.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, Fingerprint, Head, IdsRequest, ListRequest,
        Page, StoredVectors,
    },
    model::{ChunkVector, ContentHash},
};
use qdrant_client::qdrant::{
    Filter as Conditions, PointId, ScrollPoints, point_id::PointIdOptions,
};

use super::{
    client::Selection,
    collections::Held,
    layout::{self, HIT_FIELDS, ID, Payload, StoredHead, chunk_id, head_id, is_head},
    store::Qdrant,
};

/// Points read with one request.
const POINTS_A_REQUEST: usize = 1_000;
/// Numbers of vectors read with one request: 8 MiB.
const NUMBERS_A_REQUEST: usize = 2 << 20;
/// How often a set whose chunks were replaced while it was read is read again.
const MOST_READS: usize = 10;

/// A document as the store holds it.
#[derive(Clone, Debug)]
pub(super) struct StoredSet {
    pub(super) head: StoredHead,
    pub(super) vectors: Vec<ChunkVector>,
}

impl StoredSet {
    fn fingerprint(&self, id: &Arc<str>) -> Fingerprint {
        Fingerprint {
            id: Arc::clone(id),
            head: self.head.head,
            content_hash: if self.head.head.deleted {
                ContentHash::TOMBSTONE
            } else {
                ContentHash::of_vector_shapes(self.vectors.iter())
            },
        }
    }
}

type Heads = HashMap<Arc<str>, StoredHead>;
type Sets = HashMap<Arc<str>, StoredSet>;

/// A "not found" in a call on a collection, as the collection's error.
pub(super) fn on<T>(held: &Held, answer: BackendResult<T>) -> BackendResult<T> {
    answer.map_err(|error| {
        if error.kind() == BackendErrorKind::CollectionMissing {
            held.missing().with_source(error)
        } else {
            error
        }
    })
}

fn parse_head(id: &str, payload: Payload<'_>) -> BackendResult<StoredHead> {
    if payload.text(ID)? != id {
        return Err(BackendError::new(
            BackendErrorKind::Damaged,
            "a head stands under the id of another document",
        ));
    }
    payload.head()
}

impl Qdrant {
    /// The heads of these documents, tombstones included.
    pub(super) async fn read_heads(
        &self,
        held: &Held,
        ids: impl IntoIterator<Item = &Arc<str>>,
    ) -> BackendResult<Heads> {
        let by_point: HashMap<PointId, &Arc<str>> =
            ids.into_iter().map(|id| (head_id(id), id)).collect();
        let points: Vec<PointId> = by_point.keys().cloned().collect();
        let mut heads = Heads::with_capacity(points.len());
        // No ids are asked for too: a missing collection is to be found.
        let mut pages: Vec<&[PointId]> = points.chunks(POINTS_A_REQUEST).collect();
        if pages.is_empty() {
            pages.push(&[]);
        }
        for page in pages {
            let got = self
                .client
                .get(&held.name, page.to_vec(), Selection::PAYLOAD);
            for point in on(held, got.await)? {
                let id = point.id.as_ref().and_then(|id| by_point.get(id));
                let id = id.ok_or_else(|| unasked("point"))?;
                let head = parse_head(id, Payload(&point.payload))?;
                heads.insert(Arc::clone(id), head);
            }
        }
        Ok(heads)
    }

    /// The sets of these heads, each whole and under one version: if a newer version has replaced
    /// one while it was read, that one is read.
    async fn whole_sets(&self, held: &Held, mut open: Heads) -> BackendResult<Sets> {
        let mut sets = Sets::with_capacity(open.len());
        for reads in 1.. {
            let mut found = self.chunks_of(held, &open).await?;
            let mut lacking = Vec::new();
            for (id, head) in &open {
                let vectors = found.remove(id).unwrap_or_default();
                if vectors.len() < head.chunks as usize {
                    lacking.push(Arc::clone(id));
                }
                let head = *head;
                sets.insert(Arc::clone(id), StoredSet { head, vectors });
            }
            if lacking.is_empty() || reads == MOST_READS {
                return Ok(sets);
            }
            // What has no newer head has lost chunks: it is shown as it is.
            let now = self.read_heads(held, &lacking).await?;
            open.retain(|id, head| now.get(id).is_some_and(|now| now != head));
            for (id, head) in &mut open {
                *head = now[id];
            }
            if open.is_empty() {
                return Ok(sets);
            }
        }
        Ok(sets)
    }

    /// The chunks that belong to these heads and are there, by number.
    async fn chunks_of(
        &self,
        held: &Held,
        heads: &Heads,
    ) -> BackendResult<HashMap<Arc<str>, Vec<ChunkVector>>> {
        let live = heads.iter().filter(|(_, head)| !head.head.deleted);
        let points: Vec<(PointId, &Arc<str>)> = live
            .flat_map(|(id, head)| {
                let version = head.head.version;
                (0..head.chunks).map(move |ordinal| (chunk_id(id, version, ordinal), id))
            })
            .collect();
        let dimension = held.space().map_or(1, |space| space.dimension.max(1)) as usize;
        let page = (NUMBERS_A_REQUEST / dimension).clamp(1, POINTS_A_REQUEST);
        let selection = Selection {
            fields: &HIT_FIELDS,
            vectors: true,
        };
        let mut chunks: HashMap<Arc<str>, Vec<ChunkVector>> = HashMap::new();
        for page in points.chunks(page) {
            let asked: HashMap<&PointId, &Arc<str>> =
                page.iter().map(|(point, id)| (point, *id)).collect();
            let ids = page.iter().map(|(point, _)| point.clone()).collect();
            let got = self.client.get(&held.name, ids, selection).await;
            for point in on(held, got)? {
                let id = point.id.as_ref().and_then(|id| asked.get(id));
                let id = id.ok_or_else(|| unasked("chunk"))?;
                let chunk = Payload(&point.payload).chunk()?;
                chunks.entry(Arc::clone(id)).or_default().push(ChunkVector {
                    chunk: chunk.number,
                    passage: chunk.passage,
                    values: layout::numbers(&point),
                });
            }
        }
        for set in chunks.values_mut() {
            set.sort_by_key(|chunk| chunk.chunk);
        }
        Ok(chunks)
    }

    async fn sets(&self, held: &Held, ids: &[Arc<str>]) -> BackendResult<Sets> {
        let heads = self.read_heads(held, ids).await?;
        self.whole_sets(held, heads).await
    }

    pub(super) async fn heads_of(&self, request: &IdsRequest) -> BackendResult<Vec<Option<Head>>> {
        let held = self.held(&request.collection).await?;
        let heads = self.read_heads(&held, request.ids.iter()).await?;
        let heads = request.ids.iter().map(|id| heads.get(id));
        Ok(heads.map(|head| head.map(|head| head.head)).collect())
    }

    pub(super) async fn fingerprints_by_id(
        &self,
        request: &IdsRequest,
    ) -> BackendResult<Vec<Option<Fingerprint>>> {
        let held = self.held(&request.collection).await?;
        let sets = self.sets(&held, &request.ids).await?;
        let ids = request.ids.iter();
        Ok(ids
            .map(|id| sets.get(id).map(|set| set.fingerprint(id)))
            .collect())
    }

    pub(super) async fn vectors_by_id(
        &self,
        request: &IdsRequest,
    ) -> BackendResult<Vec<Option<StoredVectors>>> {
        let held = self.held(&request.collection).await?;
        let sets = self.sets(&held, &request.ids).await?;
        let stored = |set: &StoredSet| {
            (!set.head.head.deleted).then(|| StoredVectors {
                version: set.head.head.version,
                vectors: set.vectors.clone(),
            })
        };
        let ids = request.ids.iter();
        Ok(ids.map(|id| sets.get(id).and_then(stored)).collect())
    }

    /// Pages in the order of the heads' point ids, which never change.
    pub(super) async fn fingerprints_page(
        &self,
        request: &ListRequest,
    ) -> BackendResult<Page<Fingerprint>> {
        let held = self.held(&request.collection).await?;
        let message = ScrollPoints {
            collection_name: held.name.clone(),
            filter: Some(Conditions {
                must: vec![is_head()],
                ..Conditions::default()
            }),
            offset: request.after.as_ref().map(|after| PointId {
                point_id_options: Some(PointIdOptions::Uuid(after.clone())),
            }),
            limit: Some(u32::try_from(request.limit).unwrap_or(u32::MAX)),
            ..ScrollPoints::default()
        };
        let (points, next) = on(&held, self.client.scroll(message).await)?;
        let mut order = Vec::with_capacity(points.len());
        let mut heads = Heads::with_capacity(points.len());
        for point in &points {
            let payload = Payload(&point.payload);
            let id: Arc<str> = Arc::from(payload.text(ID)?);
            heads.insert(Arc::clone(&id), payload.head()?);
            order.push(id);
        }
        let sets = self.whole_sets(&held, heads).await?;
        let mut listed = HashSet::new();
        order.retain(|id| listed.insert(Arc::clone(id)));
        let items = order.iter();
        Ok(Page {
            items: items
                .filter_map(|id| sets.get(id).map(|set| set.fingerprint(id)))
                .collect(),
            next: match next.and_then(|next| next.point_id_options) {
                Some(PointIdOptions::Uuid(uuid)) => Some(uuid),
                Some(PointIdOptions::Num(_)) => return Err(unasked("point with a number as id")),
                None => None,
            },
        })
    }
}

fn unasked(what: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Protocol,
        format!("the server answered with a {what} that was not asked for"),
    )
}
