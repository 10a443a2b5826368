//! Heads: which version of each document counts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use dbmanager_core::{
    backend::{BackendError, BackendErrorKind, BackendResult},
    model::Version,
};
use serde_json::{Value, json};

use super::{
    api::{Api, Record, Selection},
    facts::SLOT,
    filter::Where,
    keys::{self, HeadKey},
};

/// The key of a head's version among its metadata.
pub(super) const VERSION: &str = "version";
/// Slots asked for at once.
pub(super) const SLOTS: usize = 500;
/// Heads looked at in one step towards the highest version.
const STEP: usize = 500;

/// The heads of one document.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    /// The one that counts.
    pub(super) newest: HeadKey,
    /// Those that no longer do.
    pub(super) older: Vec<HeadKey>,
}

pub(super) fn damaged(what: &str, id: &str) -> BackendError {
    BackendError::new(
        BackendErrorKind::Damaged,
        format!("{id:?} is no id of a {what} record"),
    )
    .not_applied()
}

/// The records of these documents: perhaps others' that share a slot.
pub(super) fn slots_of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Where {
    let slots: HashSet<i64> = ids.into_iter().map(keys::slot).collect();
    Where::Is(json!({ SLOT: { "$in": slots } }))
}

/// The heads of each id; what was never written is not among them.
pub(super) async fn of_ids(
    api: &Api,
    collection: &str,
    ids: impl IntoIterator<Item = &Arc<str>>,
) -> BackendResult<HashMap<Arc<str>, Heads>> {
    let ids: HashSet<&Arc<str>> = ids.into_iter().collect();
    let list: Vec<&Arc<str>> = ids.iter().copied().collect();
    let mut held = HashMap::with_capacity(list.len());
    for some in list.chunks(SLOTS) {
        let condition = slots_of(some.iter().map(|id| &***id));
        let records = api.get(collection, Selection::all(&condition), &[]).await?;
        group(&mut held, records.ids)?;
    }
    held.retain(|id, _| ids.contains(id));
    Ok(held)
}

/// Adds heads by their keys.
pub(super) fn group(held: &mut HashMap<Arc<str>, Heads>, ids: Vec<String>) -> BackendResult<()> {
    for id in ids {
        let mut key = HeadKey::read(&id).ok_or_else(|| damaged("head", &id))?;
        match held.get_mut(&key.id) {
            None => {
                held.insert(
                    Arc::clone(&key.id),
                    Heads {
                        newest: key,
                        older: Vec::new(),
                    },
                );
            }
            Some(heads) => {
                if key.version > heads.newest.version {
                    std::mem::swap(&mut heads.newest, &mut key);
                }
                heads.older.push(key);
            }
        }
    }
    Ok(())
}

/// The record of a head. The server holds no record without numbers.
pub(super) fn record(key: &HeadKey) -> Record {
    let metadata = [
        (SLOT, Value::from(keys::slot(&key.id))),
        (VERSION, Value::from(key.version.as_i64())),
    ];
    Record {
        id: key.write(),
        embedding: vec![0.0],
        metadata: Arc::new(
            metadata
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        ),
    }
}

/// The highest version of a collection's heads; `None` if there are none.
///
/// The server knows no greatest value. The head that was written last is near it; above that one
/// the range of versions is halved until all that is left fits into one step.
pub(super) async fn highest(api: &Api, collection: &str) -> BackendResult<Option<Version>> {
    let count = api.count(collection).await?;
    if count == 0 {
        return Ok(None);
    }
    let last = Selection {
        condition: &Where::All,
        limit: Some(1),
        offset: count - 1,
    };
    let last = api.get(collection, last, &[]).await?;
    let mut low = greatest(&last.ids)?.map_or(-1, Version::as_i64);
    let mut high = i64::MAX;
    loop {
        let above = above(api, collection, low, STEP).await?;
        low = greatest(&above)?.map_or(low, |version| version.as_i64().max(low));
        if above.len() < STEP {
            return Ok((low >= 0).then(|| Version::from_i64(low)));
        }
        let middle = low + (high - low) / 2;
        let beyond = self::above(api, collection, middle, 1).await?;
        match greatest(&beyond)? {
            Some(version) => low = version.as_i64(),
            None => high = middle,
        }
    }
}

async fn above(
    api: &Api,
    collection: &str,
    version: i64,
    limit: usize,
) -> BackendResult<Vec<String>> {
    let condition = Where::Is(json!({ VERSION: { "$gt": version } }));
    let selection = Selection {
        condition: &condition,
        limit: Some(limit),
        offset: 0,
    };
    Ok(api.get(collection, selection, &[]).await?.ids)
}

fn greatest(ids: &[String]) -> BackendResult<Option<Version>> {
    let mut greatest = None;
    for id in ids {
        let key = HeadKey::read(id).ok_or_else(|| damaged("head", id))?;
        greatest = greatest.max(Some(key.version));
    }
    Ok(greatest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_counts_in_whatever_order_heads_come() {
        let key = |number, id: &str| HeadKey {
            version: Version::from_u64(number),
            chunks: Some(1),
            id: id.into(),
        };
        let (a, b) = (key(2, "a"), key(1, "b"));
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut held = HashMap::new();
            let ids = order.map(|number| key(number, "a").write());
            group(&mut held, ids.into()).unwrap();
            group(&mut held, vec![b.write()]).unwrap();
            assert_eq!(held["b"].newest, b);
            assert_eq!(held["a"].newest.version, Version::from_u64(3));
            assert_eq!(held["a"].older.len(), 2);
            assert!(held["a"].older.contains(&a));
        }
        let error = group(&mut HashMap::new(), vec!["other".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), BackendErrorKind::Damaged);
    }
}
