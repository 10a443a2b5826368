//! Keeps the rankings of first pages, so that the pages after them repeat nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::hydrate::Ranking;
use crate::{
    Error, ErrorKind, Result, Runtime,
    model::{Collection, LegReport, Query},
};

/// How long a ranking is kept.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(300);
/// How many ranked documents are kept over all rankings (about 300 bytes each).
const MAX_KEPT_DOCUMENTS: usize = 200_000;

/// What the first page leaves for the next ones.
#[derive(Debug)]
pub(super) struct PageSet {
    /// The ranking.
    pub(super) ranking: Ranking,
    /// What the legs did.
    pub(super) reports: Vec<LegReport>,
    /// There may be documents that were not looked at.
    pub(super) saturated: bool,
}

/// The rankings that are kept; the least recently used go first when there are too many.
#[derive(Debug)]
pub(super) struct Pages {
    kept: Mutex<Kept>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Kept {
    sets: HashMap<u128, Entry>,
    /// Use numbers, oldest first.
    by_use: BTreeMap<u64, u128>,
    uses: u64,
    documents: usize,
}

#[derive(Debug)]
struct Entry {
    set: Arc<PageSet>,
    query: [u8; 32],
    expires: Duration,
    used: u64,
}

/// Where a page starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    set: u128,
    offset: u32,
}

impl Cursor {
    fn encode(self) -> String {
        format!("{:032x}{:08x}", self.set, self.offset)
    }

    fn decode(text: &str) -> Option<Self> {
        let hex = text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (set, offset) = hex.then(|| text.split_at(32))?;
        Some(Self {
            set: u128::from_str_radix(set, 16).ok()?,
            offset: u32::from_str_radix(offset, 16).ok()?,
        })
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self::new(MAX_KEPT_DOCUMENTS)
    }
}

impl Pages {
    /// Keeps rankings of together at most `capacity` documents, and always the newest one.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            kept: Mutex::default(),
            capacity,
        }
    }

    /// Keeps the ranking and returns the cursor of the page that starts at `offset`.
    pub(super) fn keep(
        &self,
        runtime: &Runtime,
        query: &Query,
        set: Arc<PageSet>,
        offset: usize,
    ) -> String {
        let now = runtime.monotonic();
        let id = (u128::from(runtime.random_u64()) << 64) | u128::from(runtime.random_u64());
        let mut kept = self.lock();
        kept.documents += set.ranking.items.len();
        let used = kept.next_use(id);
        let entry = Entry {
            set,
            query: hash(query),
            expires: now.saturating_add(KEPT_FOR),
            used,
        };
        kept.sets.insert(id, entry);
        kept.evict(now, self.capacity);
        cursor(id, offset)
    }

    /// The ranking a cursor points into, and where.
    ///
    /// # Errors
    /// `InvalidInput` if the text is no cursor, `CursorExpired` if its ranking is not kept any
    /// more or belongs to another query or scope.
    pub(super) fn find(
        &self,
        runtime: &Runtime,
        query: &Query,
        scope: &[Collection],
        text: &str,
    ) -> Result<(Arc<PageSet>, usize)> {
        let cursor = Cursor::decode(text)
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "this is no cursor"))?;
        let expired = |message| Error::new(ErrorKind::CursorExpired, message);
        let now = runtime.monotonic();
        let mut kept = self.lock();
        let entry = kept
            .sets
            .get(&cursor.set)
            .filter(|entry| entry.expires > now)
            .ok_or_else(|| expired("the pages of this cursor are not kept any more"))?;
        if entry.query != hash(query) {
            return Err(expired("the cursor belongs to another query"));
        }
        let mut collections = entry.set.ranking.collections.iter();
        if !collections.all(|key| scope.iter().any(|collection| collection.key == *key)) {
            return Err(expired("the cursor belongs to other collections"));
        }
        if cursor.offset as usize > entry.set.ranking.items.len() {
            return Err(Error::new(ErrorKind::InvalidInput, "this is no cursor"));
        }
        let set = Arc::clone(&entry.set);
        kept.touch(cursor.set);
        Ok((set, cursor.offset as usize))
    }

    /// The cursor that points further into the ranking that `text` points into.
    pub(super) fn advance(text: &str, offset: usize) -> Option<String> {
        Cursor::decode(text).map(|at| cursor(at.set, offset))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics halfway through a change; if it did, a wrong count at worst
        // evicts too early.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cursor(set: u128, offset: usize) -> String {
    // A ranking holds at most 1,000 documents.
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    Cursor { set, offset }.encode()
}

impl Kept {
    fn next_use(&mut self, id: u128) -> u64 {
        self.uses += 1;
        self.by_use.insert(self.uses, id);
        self.uses
    }

    fn touch(&mut self, id: u128) {
        let used = self.next_use(id);
        if let Some(entry) = self.sets.get_mut(&id) {
            self.by_use.remove(&entry.used);
            entry.used = used;
        }
    }

    /// Lets go of what is expired and, while there is too much, of what was used least recently.
    fn evict(&mut self, now: Duration, capacity: usize) {
        while let Some((used, id)) = self.by_use.first_key_value().map(|(u, i)| (*u, *i)) {
            let expired = self.sets.get(&id).is_none_or(|entry| entry.expires <= now);
            let too_much = self.documents > capacity && self.sets.len() > 1;
            if !expired && !too_much {
                return;
            }
            self.by_use.remove(&used);
            if let Some(entry) = self.sets.remove(&id) {
                self.documents -= entry.set.ranking.items.len();
            }
        }
    }
}

/// What the pages of one search have in common. The time a page may take is its own.
fn hash(query: &Query) -> [u8; 32] {
    // Every field is named, so that a new one cannot be forgotten here.
    let Query {
        search_type,
        text,
        vector,
        seeds,
        filter,
        limit,
        fusion,
        weights,
        depth,
        direction,
        edge_kinds,
        timeout: _,
        allow_unverified,
        cursor: _,
    } = query;
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let plain = format!(
        "{search_type:?} {limit} {fusion:?} {weights:?} {depth} {direction:?} {allow_unverified} \
         {seeds:?} {edge_kinds:?} {filter:?}"
    );
    add(plain.as_bytes());
    add(text.as_bytes());
    let numbers = vector.as_deref().unwrap_or_default();
    add(&numbers
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect::<Vec<u8>>());
    hash.finalize().into()
}
