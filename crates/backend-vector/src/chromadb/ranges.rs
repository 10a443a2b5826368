//! Listing by ranges of slots. The server lists by position, which shifts when something before it
//! is removed; a document's slot never changes.

use dbmanager_core::backend::BackendResult;
use serde_json::json;

use super::{
    api::{Api, Selection},
    convert::Records,
    facts::SLOT,
    filter::Where,
    keys::MAX_SLOT,
};

/// Slots from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Range {
    /// Every slot, in so many ranges of equal width, or a few more.
    pub(super) fn pieces(count: usize) -> impl Iterator<Item = Range> {
        let count = i64::try_from(count).unwrap_or(MAX_SLOT).max(1);
        let width = MAX_SLOT / count;
        (0..=MAX_SLOT / width).map_while(move |piece| {
            let from = piece.checked_mul(width)?;
            let to = from.saturating_add(width - 1);
            Some(Range { from, to })
        })
    }

    /// So many slots from this one on.
    pub(super) fn starting(from: i64, width: i64) -> Self {
        Self {
            from,
            to: from.saturating_add(width.max(1) - 1),
        }
    }

    /// The two halves; `None` of a single slot.
    pub(super) fn halves(self) -> Option<[Range; 2]> {
        let middle = self.from + (self.to - self.from) / 2;
        (self.from < self.to).then(|| {
            [
                Range {
                    from: self.from,
                    to: middle,
                },
                Range {
                    from: middle + 1,
                    to: self.to,
                },
            ]
        })
    }

    /// What lies in the range and fulfils the condition.
    fn and(self, condition: &Where) -> Where {
        let mut clauses = vec![
            json!({ SLOT: { "$gte": self.from } }),
            json!({ SLOT: { "$lte": self.to } }),
        ];
        match condition {
            Where::Nothing => return Where::Nothing,
            Where::All => {}
            Where::Is(clause) => clauses.push(clause.clone()),
        }
        Where::Is(json!({ "$and": clauses }))
    }
}

/// Every record in the range that fulfils the condition; `None` if there are more than `most` and
/// the range can be halved.
pub(super) async fn read(
    api: &Api,
    collection: &str,
    range: Range,
    condition: &Where,
    include: &[&str],
    most: usize,
) -> BackendResult<Option<Records>> {
    let condition = range.and(condition);
    let limit = most + 1;
    let mut selection = Selection {
        condition: &condition,
        limit: Some(limit),
        offset: 0,
    };
    let mut all = api.get(collection, selection.clone(), include).await?;
    let mut full = all.ids.len() == limit;
    if full && range.halves().is_some() {
        return Ok(None);
    }
    while full {
        selection.offset += limit;
        let next = api.get(collection, selection.clone(), include).await?;
        full = next.ids.len() == limit;
        all.ids.extend(next.ids);
        if let (Some(all), Some(next)) = (&mut all.embeddings, next.embeddings) {
            all.extend(next);
        }
        if let (Some(all), Some(next)) = (&mut all.metadatas, next.metadatas) {
            all.extend(next);
        }
    }
    Ok(Some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_halves_cover_every_slot_once() {
        for count in [1, 2, 3, 1_000, usize::MAX] {
            let pieces: Vec<Range> = Range::pieces(count.min(2_000)).collect();
            assert_eq!(pieces[0].from, 0);
            assert_eq!(pieces[pieces.len() - 1].to, MAX_SLOT);
            assert!(pieces.windows(2).all(|two| two[0].to + 1 == two[1].from));
        }
        let [low, high] = Range { from: 4, to: 7 }.halves().unwrap();
        assert_eq!((low.to, high.from), (5, 6));
        let single = |slot| Range {
            from: slot,
            to: slot,
        };
        assert_eq!(single(4).halves(), None);
        assert_eq!(single(MAX_SLOT).halves(), None);
        assert_eq!(Range::starting(MAX_SLOT, 5).to, MAX_SLOT);
    }
}
