//! What is held of documents: vectors of the version that counts, and fingerprints of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{
        BackendError, BackendErrorKind, BackendResult, Fingerprint, Head, ListRequest, Page,
        StoredVectors,
    },
    model::{ChunkVector, ContentHash},
};

use super::{
    api::{Api, Selection},
    catalogue::{Place, Vectors},
    convert::Records,
    filter::Where,
    heads::{self, Heads},
    keys::{self, ChunkKey, HeadKey, MAX_SLOT},
    ranges::{self, Range},
};

/// How often documents that change under the reading are read again.
const MAX_ROUNDS: usize = 50;
/// Numbers of vectors that one request asks for, about: each is some ten bytes of the answer.
const NUMBERS: usize = 2_000_000;

/// How many records with their numbers one request asks for.
pub(super) fn records_at_once(vectors: &Vectors) -> usize {
    (NUMBERS / vectors.space.dimension.max(1) as usize).clamp(50, 2_000)
}

/// A document at the version that counts.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) head: HeadKey,
    /// By chunk number; those of which the condition held.
    pub(super) vectors: Vec<ChunkVector>,
}

/// What was read of some documents.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Each that was ever written.
    pub(super) documents: HashMap<Arc<str>, Current>,
    /// Ids of chunk records that no longer count.
    leftovers: HashSet<String>,
    /// Ids of heads that no longer count.
    older_heads: HashSet<String>,
}

/// The chunks among records, with their numbers.
pub(super) fn chunks(records: Records) -> BackendResult<Vec<(ChunkKey, Vec<f32>)>> {
    let numbers = records.embeddings.unwrap_or_default();
    let mut chunks = Vec::with_capacity(records.ids.len());
    for (id, values) in records.ids.into_iter().zip(numbers) {
        let key = ChunkKey::read(&id).ok_or_else(|| heads::damaged("chunk", &id))?;
        // A record whose numbers are gone is one chunk fewer, which is found by the count.
        chunks.extend(values.map(|values| (key, values)));
    }
    Ok(chunks)
}

/// Each of these documents at the version that counts, with the chunks of which the condition
/// holds (it holds of all chunks of a version, or of none).
///
/// A chunk is written before its head and removed after a newer head is there. So if as many are
/// found as the head says, they are that version's, all of them; if not, the head is read again,
/// and only what fails under an unchanged head is so.
pub(super) async fn current(
    api: &Api,
    place: &Place,
    ids: impl IntoIterator<Item = &Arc<str>>,
    condition: &Where,
) -> BackendResult<Reading> {
    let mut reading = Reading::default();
    let mut pending: HashSet<Arc<str>> = ids.into_iter().cloned().collect();
    let mut doubtful: HashMap<Arc<str>, Current> = HashMap::new();
    for _ in 0..MAX_ROUNDS {
        let held = heads::of_ids(api, &place.heads, &pending).await?;
        let mut asked = Vec::new();
        for (id, Heads { newest, older }) in held {
            reading.older_heads.extend(older.iter().map(HeadKey::write));
            let same = doubtful.remove(&id).filter(|before| before.head == newest);
            match (same, newest.chunks, &place.vectors) {
                (Some(same), ..) => {
                    reading.documents.insert(id, same);
                }
                (None, Some(1..), Some(_)) => asked.push(newest),
                _ => {
                    let current = Current {
                        head: newest,
                        vectors: Vec::new(),
                    };
                    reading.documents.insert(id, current);
                }
            }
        }
        if let Some(vectors) = &place.vectors {
            read_chunks(api, vectors, asked, condition, &mut reading, &mut doubtful).await?;
        }
        if doubtful.is_empty() {
            return Ok(reading);
        }
        pending = doubtful.keys().cloned().collect();
    }
    Err(BackendError::new(
        BackendErrorKind::Unavailable,
        "documents change faster than they can be read",
    ))
}

/// Reads the chunks of these heads. Documents of which not all are found are doubtful.
async fn read_chunks(
    api: &Api,
    vectors: &Vectors,
    asked: Vec<HeadKey>,
    condition: &Where,
    reading: &mut Reading,
    doubtful: &mut HashMap<Arc<str>, Current>,
) -> BackendResult<()> {
    let most = records_at_once(vectors);
    let mut rest = asked.into_iter().peekable();
    while rest.peek().is_some() {
        let mut group: HashMap<Arc<str>, Current> = HashMap::new();
        let mut records = 0;
        while let Some(head) = rest.next_if(|head| {
            records += head.chunks.unwrap_or_default();
            group.is_empty() || records <= most
        }) {
            let current = Current {
                head,
                vectors: Vec::new(),
            };
            group.insert(Arc::clone(&current.head.id), current);
        }
        let slots = heads::slots_of(group.keys().map(|id| &**id));
        for (key, values) in all_chunks(api, vectors, &slots, condition, most).await? {
            let Some(current) = group.get_mut(&key.id) else {
                continue;
            };
            if key.version == current.head.version {
                current.vectors.push(ChunkVector {
                    chunk: key.chunk,
                    passage: key.passage,
                    values,
                });
            } else if key.version < current.head.version {
                reading.leftovers.insert(key.write());
            }
        }
        for (id, mut current) in group {
            current.vectors.sort_by_key(|vector| vector.chunk);
            match current.head.chunks == Some(current.vectors.len()) {
                true => reading.documents.insert(id, current),
                false => doubtful.insert(id, current),
            };
        }
    }
    Ok(())
}

/// The chunks in these slots, in as many requests as their number needs.
async fn all_chunks(
    api: &Api,
    vectors: &Vectors,
    slots: &Where,
    condition: &Where,
    most: usize,
) -> BackendResult<Vec<(ChunkKey, Vec<f32>)>> {
    let condition = match (slots, condition) {
        (Where::Is(slots), Where::Is(clause)) => {
            Where::Is(serde_json::json!({ "$and": [slots, clause] }))
        }
        (_, Where::Nothing) => return Ok(Vec::new()),
        (slots, _) => slots.clone(),
    };
    let mut all = Vec::new();
    let mut selection = Selection {
        condition: &condition,
        limit: Some(most),
        offset: 0,
    };
    loop {
        let records = api
            .get(&vectors.id, selection.clone(), &["embeddings"])
            .await?;
        let read = records.ids.len();
        all.extend(chunks(records)?);
        if read < most {
            return Ok(all);
        }
        // What is removed meanwhile shifts the rest: then chunks are missing, and read again.
        selection.offset += read;
    }
}

/// The head of each id, in the order given.
pub(super) async fn heads_of(
    api: &Api,
    place: &Place,
    ids: &[Arc<str>],
) -> BackendResult<Vec<Option<Head>>> {
    let held = heads::of_ids(api, &place.heads, ids).await?;
    let head = |id| held.get(id).map(|heads| heads.newest.head());
    Ok(ids.iter().map(head).collect())
}

/// The vectors of each id, in the order given.
pub(super) async fn vectors_of(
    api: &Api,
    place: &Place,
    ids: &[Arc<str>],
) -> BackendResult<Vec<Option<StoredVectors>>> {
    let reading = current(api, place, ids, &Where::All).await?;
    let stored = |id| {
        let current = reading.documents.get(id)?;
        current.head.chunks.map(|_| StoredVectors {
            version: current.head.version,
            vectors: current.vectors.clone(),
        })
    };
    Ok(ids.iter().map(stored).collect())
}

fn fingerprint(current: &Current) -> Fingerprint {
    let content_hash = match current.head.chunks {
        None => ContentHash::TOMBSTONE,
        Some(_) => ContentHash::of_vector_shapes(current.vectors.iter()),
    };
    Fingerprint {
        id: Arc::clone(&current.head.id),
        head: current.head.head(),
        content_hash,
    }
}

/// The fingerprint of each id, in the order given.
pub(super) async fn fingerprints_of(
    api: &Api,
    place: &Place,
    ids: &[Arc<str>],
) -> BackendResult<Vec<Option<Fingerprint>>> {
    let reading = current(api, place, ids, &Where::All).await?;
    let one = |id| reading.documents.get(id).map(fingerprint);
    Ok(ids.iter().map(one).collect())
}

/// A page of fingerprints, by slot and id. What it meets of records that no longer count it
/// removes.
pub(super) async fn fingerprints(
    api: &Api,
    place: &Place,
    request: &ListRequest,
) -> BackendResult<Page<Fingerprint>> {
    let limit = request.limit.max(1);
    let (page, more) = page_of_ids(api, place, request.after.as_deref(), limit).await?;
    let next = page.last().filter(|_| more).map(|(slot, id)| {
        // As text, for it is a text that is handed back.
        format!("{slot}.{id}")
    });
    let reading = current(api, place, page.iter().map(|(_, id)| id), &Where::All).await?;
    let items = page
        .iter()
        .filter_map(|(_, id)| reading.documents.get(id).map(fingerprint))
        .collect();
    sweep(api, place, reading).await;
    Ok(Page { items, next })
}

/// Up to `limit` ids behind a page's end, by slot and id, and whether there may be more.
async fn page_of_ids(
    api: &Api,
    place: &Place,
    after: Option<&str>,
    limit: usize,
) -> BackendResult<(Vec<(i64, Arc<str>)>, bool)> {
    let end = match after {
        None => None,
        Some(text) => {
            let parts = text.split_once('.');
            let end = parts.and_then(|(slot, id)| Some((slot.parse().ok()?, Arc::from(id))));
            Some(end.ok_or_else(|| {
                BackendError::new(
                    BackendErrorKind::Refused,
                    format!("{text:?} is not the end of a page"),
                )
                .not_applied()
            })?)
        }
    };
    let count = api.count(&place.heads).await?;
    // Twice as many as wanted lie in it on average, for versions that no longer count do too.
    let share = MAX_SLOT / i64::try_from(count.max(1)).unwrap_or(MAX_SLOT);
    let mut width =
        share.saturating_mul(i64::try_from(limit.saturating_mul(2)).unwrap_or(MAX_SLOT));
    let most = limit.saturating_mul(8).clamp(1_000, 100_000);
    let mut from = end.as_ref().map_or(0, |(slot, _)| *slot);
    let mut found: BTreeMap<(i64, Arc<str>), ()> = BTreeMap::new();
    loop {
        let range = Range::starting(from, width);
        match ranges::read(api, &place.heads, range, &Where::All, &[], most).await? {
            None => width = (width / 2).max(1),
            Some(records) => {
                let mut held = HashMap::new();
                heads::group(&mut held, records.ids)?;
                let keys = held.into_keys().map(|id| (keys::slot(&id), id));
                found.extend(
                    keys.filter(|key| end.as_ref().is_none_or(|end| key > end))
                        .map(|key| (key, ())),
                );
                if found.len() >= limit || range.to == MAX_SLOT {
                    let more = found.len() > limit || range.to < MAX_SLOT;
                    return Ok((found.into_keys().take(limit).collect(), more));
                }
                from = range.to + 1;
                width = width.saturating_mul(2);
            }
        }
    }
}

/// Removes records that no longer count. They are never found, so nothing depends on it: what
/// cannot be removed now is met again by the next listing.
async fn sweep(api: &Api, place: &Place, reading: Reading) {
    let leftovers: Vec<String> = reading.leftovers.into_iter().collect();
    let older_heads: Vec<String> = reading.older_heads.into_iter().collect();
    if let Some(vectors) = &place.vectors {
        let _ = api.delete(&vectors.id, &leftovers).await;
    }
    let _ = api.delete(&place.heads, &older_heads).await;
}
