//! Reads the current documents of a ranking in batches and checks every hit against them.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;

use super::{
    context::{CurrentDocument, SearchContext},
    fuse::{LEGS, Part, Ranked, best_first},
};
use crate::model::{
    CollectionKey, Contribution, DocumentRecord, Hit, Query, Verification, Version,
};

/// A ranking that pages are cut from.
#[derive(Clone, Debug)]
pub(super) struct Ranking {
    /// The scope.
    pub(super) collections: Vec<CollectionKey>,
    /// The documents, best first.
    pub(super) items: Vec<Ranked>,
    /// The weight of each leg, in the order of [`LEGS`].
    pub(super) weights: [f64; 3],
    /// Whether each leg's store has evaluated the filter.
    pub(super) filtered: [bool; 3],
}

/// A page cut from a ranking.
#[derive(Debug)]
pub(super) struct CheckedPage {
    /// The hits that hold, best first.
    pub(super) hits: Vec<Hit>,
    /// Where the next page starts.
    pub(super) next: usize,
    /// Hits that could not be checked and were dropped.
    pub(super) unverified: usize,
    /// Hits that were checked and do not hold.
    pub(super) dropped: usize,
}

/// Cuts the page that starts at `from`: as many hits that hold as the query's limit says, or as
/// there are. One batched read is enough as a rule; where many hits do not hold, the batches grow.
pub(super) async fn cut_page(
    context: &dyn SearchContext,
    ranking: &Ranking,
    query: &Query,
    from: usize,
    deadline: Duration,
) -> CheckedPage {
    let mut page = CheckedPage {
        hits: Vec::with_capacity(query.limit.min(ranking.items.len())),
        next: from,
        unverified: 0,
        dropped: 0,
    };
    let mut batch = query.limit;
    if query.filter.is_some() && ranking.filtered.contains(&false) {
        // Some will not fulfil the filter; half as many again is cheaper than a second read.
        batch += query.limit / 2 + 4;
    }
    while page.hits.len() < query.limit && page.next < ranking.items.len() {
        let end = (page.next + batch).min(ranking.items.len());
        let items = &ranking.items[page.next..end];
        let current = read(context, ranking, items, deadline).await;
        for (item, current) in items.iter().zip(&current) {
            if page.hits.len() == query.limit {
                break;
            }
            page.next += 1;
            match check(ranking, query, item, current) {
                Verdict::Holds(hit) => page.hits.push(*hit),
                Verdict::Dropped => page.dropped += 1,
                Verdict::Unverified => page.unverified += 1,
            }
        }
        batch *= 2;
    }
    // A hit that lost the part of a store with an older version has lost score.
    page.hits.sort_by(|left, right| {
        let key = |hit: &Hit| {
            let place = ranking
                .collections
                .iter()
                .position(|c| c.name == hit.collection);
            place.map_or(u32::MAX, |place| place as u32)
        };
        best_first(
            (left.score, key(left), &left.id),
            (right.score, key(right), &right.id),
        )
    });
    page
}

/// The first `most` documents of a ranking that a search by this query may show, as collection and
/// id.
pub(super) async fn holding(
    context: &dyn SearchContext,
    ranking: &Ranking,
    query: &Query,
    most: usize,
    deadline: Duration,
) -> HashSet<(u32, Arc<str>)> {
    let mut found = HashSet::new();
    let mut unread = &ranking.items[..];
    let mut batch = most;
    while found.len() < most && !unread.is_empty() {
        let (items, rest) = unread.split_at(batch.min(unread.len()));
        let current = read(context, ranking, items, deadline).await;
        for (item, current) in items.iter().zip(&current) {
            let verdict = check(ranking, query, item, current);
            if found.len() < most && matches!(verdict, Verdict::Holds(_)) {
                found.insert((item.collection, Arc::clone(&item.id)));
            }
        }
        unread = rest;
        batch *= 2;
    }
    found
}

/// One read per collection, at the same time; what is not there by the deadline is unknown.
async fn read(
    context: &dyn SearchContext,
    ranking: &Ranking,
    items: &[Ranked],
    deadline: Duration,
) -> Vec<CurrentDocument> {
    let mut by_collection: BTreeMap<u32, (Vec<Arc<str>>, Vec<usize>)> = BTreeMap::new();
    for (place, item) in items.iter().enumerate() {
        let (ids, places) = by_collection.entry(item.collection).or_default();
        ids.push(Arc::clone(&item.id));
        places.push(place);
    }
    let mut current = vec![CurrentDocument::Unknown; items.len()];
    let runtime = context.runtime();
    let left = deadline.saturating_sub(runtime.monotonic());
    let reads = by_collection
        .into_iter()
        .map(|(index, (ids, places))| async move {
            let key = &ranking.collections[index as usize];
            let read = runtime
                .timeout(left, context.current(key, ids.into()))
                .await;
            (places, read.unwrap_or_default())
        });
    for (places, found) in join_all(reads).await {
        for (place, found) in places.into_iter().zip(found) {
            current[place] = found;
        }
    }
    current
}

enum Verdict {
    Holds(Box<Hit>),
    Dropped,
    Unverified,
}

fn check(ranking: &Ranking, query: &Query, item: &Ranked, current: &CurrentDocument) -> Verdict {
    match current {
        CurrentDocument::Gone => Verdict::Dropped,
        CurrentDocument::Unknown => unverified(ranking, query, item),
        CurrentDocument::Live {
            version,
            record,
            lacking,
        } => {
            let parts = || item.parts.iter().flatten();
            if parts().any(|part| part.version > *version) {
                // Newer than what is known here: this read is behind, not the store.
                return unverified(ranking, query, item);
            }
            let holds = |slot: usize, part: &Part| {
                part.version == *version || lacking.contains(&LEGS[slot].role())
            };
            match record {
                Some(record) => match &query.filter {
                    Some(filter) if !filter.matches(record.document()) => Verdict::Dropped,
                    _ => hit(ranking, item, *version, Some(record), holds),
                },
                None if !filter_checked(ranking, query, item, Some(*version)) => {
                    Verdict::Unverified
                }
                None => hit(ranking, item, *version, None, holds),
            }
        }
    }
}

/// Whether some store has evaluated the filter over the document, at this version if one is given.
fn filter_checked(
    ranking: &Ranking,
    query: &Query,
    item: &Ranked,
    version: Option<Version>,
) -> bool {
    query.filter.is_none()
        || item
            .parts
            .iter()
            .zip(ranking.filtered)
            .any(|(part, filtered)| {
                let at_version = |part: &Part| version.is_none_or(|v| part.version == v);
                filtered && part.as_ref().is_some_and(at_version)
            })
}

/// A hit that cannot be checked: shown only if the query allows it, and never if nobody has
/// evaluated the filter, which may separate tenants.
fn unverified(ranking: &Ranking, query: &Query, item: &Ranked) -> Verdict {
    if !query.allow_unverified || !filter_checked(ranking, query, item, None) {
        return Verdict::Unverified;
    }
    let newest = item.parts.iter().flatten().map(|part| part.version).max();
    let version = newest.unwrap_or_default();
    match hit(ranking, item, version, None, |_, _| true) {
        Verdict::Holds(mut hit) => {
            hit.verification = Verification::Unverified;
            Verdict::Holds(hit)
        }
        other => other,
    }
}

/// The hit with the parts that hold; dropped if none does.
fn hit(
    ranking: &Ranking,
    item: &Ranked,
    version: Version,
    record: Option<&Arc<DocumentRecord>>,
    holds: impl Fn(usize, &Part) -> bool,
) -> Verdict {
    let mut contributions = Vec::with_capacity(LEGS.len());
    let mut stale = false;
    let mut whole = true;
    for (slot, part) in item.parts.iter().enumerate() {
        let Some(part) = part else { continue };
        if !holds(slot, part) {
            whole = false;
            continue;
        }
        stale |= part.version != version;
        contributions.push(Contribution {
            leg: LEGS[slot],
            rank: part.rank.map(|rank| rank.get() as usize),
            raw_score: part.raw,
            normalised_score: part.normalised,
            weight: ranking.weights[slot],
            contribution: part.contribution,
            passage: part.passage,
            detail: part.detail.as_ref().map(ToString::to_string),
        });
    }
    if contributions.is_empty() {
        return Verdict::Dropped;
    }
    let score = if whole {
        item.score
    } else {
        contributions.iter().map(|c| c.contribution).sum::<f64>() + 0.0
    };
    Verdict::Holds(Box::new(Hit {
        collection: Arc::clone(&ranking.collections[item.collection as usize].name),
        id: Arc::clone(&item.id),
        score,
        version,
        document: record.map(|record| record.to_document()),
        verification: if stale {
            Verification::Stale
        } else {
            Verification::Current
        },
        contributions,
    }))
}
