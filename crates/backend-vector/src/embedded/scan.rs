//! The exact search: estimate every row, score exactly what the estimates leave in question.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    ops::Range,
};

use dbmanager_core::backend::VectorHit;

use super::{
    kernel::{Estimate, Query},
    matrix::Matrix,
};

/// A set of document keys, one bit per key of its range.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet {
    first: i64,
    bits: Vec<u64>,
    len: usize,
}

impl KeySet {
    pub(super) fn contains(&self, key: i64) -> bool {
        let Some(offset) = key
            .checked_sub(self.first)
            .and_then(|offset| usize::try_from(offset).ok())
        else {
            return false;
        };
        self.bits
            .get(offset / 64)
            .is_some_and(|word| word & (1 << (offset % 64)) != 0)
    }

    /// Distinct keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl FromIterator<i64> for KeySet {
    fn from_iter<I: IntoIterator<Item = i64>>(keys: I) -> Self {
        let keys: Vec<i64> = keys.into_iter().collect();
        let (Some(first), Some(last)) = (keys.iter().min(), keys.iter().max()) else {
            return Self::default();
        };
        let first = *first;
        let mut bits = vec![0_u64; (last - first) as usize / 64 + 1];
        for key in keys {
            let offset = (key - first) as usize;
            bits[offset / 64] |= 1 << (offset % 64);
        }
        let len = bits.iter().map(|word| word.count_ones() as usize).sum();
        Self { first, bits, len }
    }
}

/// A number that is never NaN, in its order.
#[derive(Clone, Copy, PartialEq)]
struct Ordered(f64);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The rows of a document that was offered, and the highest rank it can have.
struct Candidate {
    rows: Range<usize>,
    upper: f64,
}

/// Collects documents and keeps those that can still be among the `limit` best.
pub(super) struct Selector<'a> {
    matrix: &'a Matrix,
    query: &'a Query,
    limit: usize,
    /// The highest lower bounds, at most `limit` of them: the least of a full heap is a rank that
    /// `limit` documents reach.
    floor: BinaryHeap<Reverse<Ordered>>,
    candidates: Vec<Candidate>,
    offered: usize,
    /// Candidates at which those below the floor are thrown away again.
    prune_at: usize,
}

impl<'a> Selector<'a> {
    pub(super) fn new(matrix: &'a Matrix, query: &'a Query, limit: usize) -> Self {
        Self {
            matrix,
            query,
            limit,
            floor: BinaryHeap::new(),
            candidates: Vec::new(),
            offered: 0,
            prune_at: 1024,
        }
    }

    fn floor(&self) -> f64 {
        if self.floor.len() < self.limit {
            return f64::NEG_INFINITY;
        }
        self.floor
            .peek()
            .map_or(f64::INFINITY, |Reverse(lowest)| lowest.0)
    }

    /// Takes a live document into account; each is offered once, with all its rows.
    fn offer(&mut self, rows: Range<usize>, estimate: Estimate) {
        self.offered += 1;
        let floor = self.floor();
        if estimate.upper < floor {
            return;
        }
        if estimate.lower > floor || self.floor.len() < self.limit {
            self.floor.push(Reverse(Ordered(estimate.lower)));
            if self.floor.len() > self.limit {
                self.floor.pop();
            }
        }
        self.candidates.push(Candidate {
            rows,
            upper: estimate.upper,
        });
        if self.candidates.len() >= self.prune_at {
            self.prune();
            self.prune_at = (self.candidates.len() * 2).max(1024);
        }
    }

    fn prune(&mut self) {
        let floor = self.floor();
        self.candidates.retain(|candidate| candidate.upper >= floor);
    }

    /// Offers every document that has its rows in the range and its key in the set. The range
    /// cuts no document in two.
    pub(super) fn scan(&mut self, range: Range<usize>, keys: Option<&KeySet>) {
        let (matrix, query) = (self.matrix, self.query);
        let mut current: Option<(i64, Range<usize>, Estimate)> = None;
        matrix.for_each_live(range, |row, key, values, factor| {
            if keys.is_some_and(|keys| !keys.contains(key)) {
                return;
            }
            let estimate = query.estimate(values, factor);
            match &mut current {
                Some((open, rows, best)) if *open == key => {
                    rows.end = row + 1;
                    *best = best.max(estimate);
                }
                _ => {
                    if let Some((_, rows, best)) = current.replace((key, row..row + 1, estimate)) {
                        self.offer(rows, best);
                    }
                }
            }
        });
        if let Some((_, rows, best)) = current {
            self.offer(rows, best);
        }
    }

    /// The best documents offered, each by its best row, by score descending, then id ascending.
    pub(super) fn finish(mut self) -> Vec<VectorHit> {
        self.prune();
        let mut best: Vec<(f64, usize)> = self
            .candidates
            .iter()
            .filter_map(|candidate| {
                candidate
                    .rows
                    .clone()
                    .map(|row| (self.query.score(self.matrix.values(row)), row))
                    .reduce(|best, next| if next.0 > best.0 { next } else { best })
            })
            .collect();
        let id = |row: usize| &self.matrix.entry(row).document.id;
        best.sort_unstable_by(|(left, left_row), (right, right_row)| {
            right
                .total_cmp(left)
                .then_with(|| id(*left_row).cmp(id(*right_row)))
        });
        best.truncate(self.limit);
        best.into_iter()
            .map(|(score, row)| {
                let entry = self.matrix.entry(row);
                VectorHit::new(
                    entry.document.id.clone(),
                    entry.document.version,
                    score,
                    entry.chunk,
                    entry.passage,
                )
            })
            .collect()
    }
}

/// What an index needs besides.
#[cfg(any(feature = "hnsw", test))]
impl Selector<'_> {
    /// Documents offered so far.
    pub(super) fn offered(&self) -> usize {
        self.offered
    }

    /// Offers the document with these rows, which are all it has.
    pub(super) fn offer_document(&mut self, rows: Range<usize>) {
        let estimate = rows
            .clone()
            .map(|row| {
                self.query
                    .estimate(self.matrix.values(row), self.matrix.factor(row))
            })
            .reduce(Estimate::max);
        if let Some(estimate) = estimate {
            self.offer(rows, estimate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dbmanager_core::model::{ChunkVector, Metric, Version};
    use proptest::prelude::*;

    use super::{super::matrix::DocumentEntry, *};

    type Sets = Vec<(bool, Vec<Vec<f32>>)>;

    fn matrix(metric: Metric, dimension: usize, sets: &Sets) -> Matrix {
        let mut matrix = Matrix::new(metric, dimension);
        let mut serial = 1;
        for (key, (live, vectors)) in (1..).zip(sets) {
            let document = Arc::new(DocumentEntry {
                key,
                id: format!("{:03}", (key * 37) % 101).into(),
                version: Version::from_u64(key as u64),
            });
            let chunks = (0..).zip(vectors).map(|(chunk, values)| ChunkVector {
                chunk,
                passage: None,
                values: values.clone(),
            });
            let rows = matrix.append(&document, (serial..).zip(chunks));
            serial += vectors.len() as i64;
            if !live {
                matrix.remove(rows);
            }
        }
        matrix
    }

    fn brute_force(
        metric: Metric,
        sets: &Sets,
        query: &[f32],
        keys: Option<&[i64]>,
        limit: usize,
    ) -> Vec<(String, f64, u32)> {
        let mut hits: Vec<_> = (1_i64..)
            .zip(sets)
            .filter(|(key, (live, _))| *live && keys.is_none_or(|keys| keys.contains(key)))
            .filter_map(|(key, (_, vectors))| {
                let scored = (0_u32..)
                    .zip(vectors)
                    .map(|(chunk, values)| (metric.score(query, values), chunk));
                let (score, chunk) = scored.reduce(|a, b| if b.0 > a.0 { b } else { a })?;
                Some((format!("{:03}", (key * 37) % 101), score, chunk))
            })
            .collect();
        hits.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        hits.truncate(limit);
        hits
    }

    fn values(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
        prop_oneof![
            6 => prop::collection::vec(-1.0_f32..1.0, dimension),
            // Many equal scores, so that the order by id shows.
            3 => prop::collection::vec(prop_oneof![Just(0.0_f32), Just(1.0)], dimension),
            1 => prop::collection::vec(prop_oneof![Just(1e30_f32), Just(-1e-30)], dimension),
        ]
    }

    fn case() -> impl Strategy<Value = (Sets, Vec<f32>, Vec<i64>, usize)> {
        (1_usize..20).prop_flat_map(|dimension| {
            let set = prop::collection::vec(values(dimension), 0..4);
            (
                prop::collection::vec((prop::bool::weighted(0.8), set), 0..40),
                values(dimension),
                prop::collection::vec(1_i64..45, 0..30),
                1_usize..50,
            )
        })
    }

    proptest! {
        #[test]
        fn a_scan_finds_what_brute_force_finds((sets, query, keys, limit) in case()) {
            for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
                let matrix = matrix(metric, query.len(), &sets);
                let prepared = Query::new(metric, query.clone().into());
                let set: KeySet = keys.iter().copied().collect();
                for keys in [None, Some(keys.as_slice())] {
                    let mut selector = Selector::new(&matrix, &prepared, limit);
                    selector.scan(0..matrix.rows(), keys.map(|_| &set));
                    let found: Vec<_> = selector
                        .finish()
                        .into_iter()
                        .map(|hit| (hit.id.to_string(), hit.score, hit.chunk))
                        .collect();
                    prop_assert_eq!(found, brute_force(metric, &sets, &query, keys, limit));
                }
                // Offered one by one, the other way round, they are the same.
                let mut scanned = Selector::new(&matrix, &prepared, limit);
                scanned.scan(0..matrix.rows(), None);
                let mut single = Selector::new(&matrix, &prepared, limit);
                for row in (0..matrix.rows()).rev() {
                    let rows = matrix.document_rows(row);
                    if rows.start == row {
                        single.offer_document(rows);
                    }
                }
                prop_assert_eq!(single.offered(), matrix.live_documents());
                prop_assert_eq!(single.finish(), scanned.finish());
            }
        }
    }

    #[test]
    fn few_rows_are_scored_exactly() {
        let sets: Sets = (0..3_000_i32)
            .map(|i| {
                (
                    true,
                    vec![(0..32).map(|j| ((i * 32 + j * j) as f32).sin()).collect()],
                )
            })
            .collect();
        let matrix = matrix(Metric::Cosine, 32, &sets);
        let query = Query::new(Metric::Cosine, Arc::from(sets[7].1[0].as_slice()));
        let mut selector = Selector::new(&matrix, &query, 10);
        selector.scan(0..matrix.rows(), None);
        selector.prune();
        assert!(
            selector.candidates.len() < 40,
            "{}",
            selector.candidates.len()
        );
        assert_eq!(selector.offered(), 3_000);
    }

    #[test]
    fn a_set_of_keys_holds_its_keys_and_no_others() {
        let set: KeySet = [5, 70, 70, 1_000].into_iter().collect();
        assert_eq!(set.len(), 3);
        for key in -10..2_000 {
            assert_eq!(set.contains(key), [5, 70, 1_000].contains(&key), "{key}");
        }
        let empty: KeySet = [].into_iter().collect();
        assert!(!empty.contains(0) && empty.len() == 0);
    }
}
