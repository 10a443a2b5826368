//! The approximate index of one collection: usearch's HNSW graph behind a safe surface.
//!
//! Keys are the vectors' serial numbers. A serial number never names another vector, so nothing is
//! ever removed from a graph: what it finds and the matrix has no more is dropped by the caller.

use std::{
    path::Path,
    sync::{
        Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use dbmanager_core::model::Metric;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::{config::HnswOptions, kernel, memory::locked};

/// Searches at once in one graph; it keeps working memory for each.
const LANES: usize = 64;

/// The library failed: out of memory, or a file it does not accept.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the approximate index failed: {0}")]
pub(super) struct IndexError(String);

impl IndexError {
    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }

    pub(super) fn stopped() -> Self {
        Self::new("the store is closed")
    }
}

fn failed(error: impl std::fmt::Display) -> IndexError {
    IndexError::new(error)
}

/// See the module.
pub(super) struct HnswIndex {
    metric: Metric,
    dimension: usize,
    /// Searches share it, additions have it alone: the library's searches read links that its
    /// additions write.
    graph: RwLock<Index>,
    /// Searches that wait for the graph, so that a series of additions lets them through.
    waiting: AtomicUsize,
    /// Every vector that was live when it was added and has at most this serial number is in.
    covered: AtomicI64,
    lanes: Lanes,
}

impl std::fmt::Debug for HnswIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HnswIndex")
            .field("metric", &self.metric)
            .field("dimension", &self.dimension)
            .field("covered", &self.covered())
            .finish_non_exhaustive()
    }
}

impl HnswIndex {
    pub(super) fn new(
        options: &HnswOptions,
        metric: Metric,
        dimension: usize,
        capacity: usize,
    ) -> Result<Self, IndexError> {
        let graph = Index::new(&IndexOptions {
            dimensions: dimension,
            metric: match metric {
                Metric::Euclidean => MetricKind::L2sq,
                // Cosine is the inner product of vectors with norm 1.
                _ => MetricKind::IP,
            },
            quantization: ScalarKind::F32,
            connectivity: options.connectivity,
            expansion_add: options.expansion_add,
            expansion_search: options.expansion_search,
            multi: false,
        })
        .map_err(failed)?;
        reserve(&graph, capacity)?;
        Ok(Self {
            metric,
            dimension,
            graph: RwLock::new(graph),
            waiting: AtomicUsize::new(0),
            covered: AtomicI64::new(0),
            lanes: Lanes::default(),
        })
    }

    /// The graph kept in a file that [`HnswIndex::save`] wrote for the same settings. The library
    /// trusts what it reads: the caller has checked that the bytes are unchanged.
    pub(super) fn load(
        options: &HnswOptions,
        metric: Metric,
        dimension: usize,
        path: &Path,
        covered: i64,
    ) -> Result<Self, IndexError> {
        let index = Self::new(options, metric, dimension, 1)?;
        {
            let graph = index.graph.write().unwrap_or_else(PoisonError::into_inner);
            graph.load(text(path)?).map_err(failed)?;
            if graph.dimensions() != dimension {
                return Err(failed("the file is of another dimension"));
            }
            graph.change_expansion_add(options.expansion_add);
            graph.change_expansion_search(options.expansion_search);
            reserve(&graph, graph.size() + 1)?;
        }
        index.covered.store(covered, Ordering::Release);
        Ok(index)
    }

    /// Writes the graph to a file, and answers up to which serial number it covers.
    pub(super) fn save(&self, path: &Path) -> Result<i64, IndexError> {
        let graph = self.read();
        graph.save(text(path)?).map_err(failed)?;
        Ok(self.covered())
    }

    pub(super) fn is_for(&self, metric: Metric, dimension: usize) -> bool {
        self.metric == metric && self.dimension == dimension
    }

    pub(super) fn covered(&self) -> i64 {
        self.covered.load(Ordering::Acquire)
    }

    /// Says that every live vector up to this serial number was added.
    pub(super) fn set_covered(&self, serial: i64) {
        self.covered.store(serial, Ordering::Release);
    }

    /// Vectors in the graph, those that are live no more included.
    pub(super) fn len(&self) -> usize {
        self.read().size()
    }

    /// Adds a vector, unless it is there.
    pub(super) fn add(&self, serial: i64, values: &[f32]) -> Result<(), IndexError> {
        let key = serial.unsigned_abs();
        while self.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        let graph = self.graph.write().unwrap_or_else(PoisonError::into_inner);
        if graph.contains(key) {
            return Ok(());
        }
        if graph.size() == graph.capacity() {
            reserve(&graph, graph.size() + graph.size() / 4 + 1024)?;
        }
        match self.metric {
            Metric::Cosine => graph.add(key, &kernel::normalised(values)),
            _ => graph.add(key, values),
        }
        .map_err(failed)
    }

    /// The serial numbers of about the `count` nearest vectors, nearest first; fewer only if the
    /// graph has or reaches no more. `operand` is the query as [`kernel::Query::operand`] has it.
    pub(super) fn search(&self, operand: &[f32], count: usize) -> Result<Vec<i64>, IndexError> {
        let _lane = self.lanes.take();
        let found = self.read().search(operand, count).map_err(failed)?;
        Ok(found
            .keys
            .into_iter()
            .filter_map(|key| i64::try_from(key).ok())
            .collect())
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        graph
    }
}

fn reserve(graph: &Index, capacity: usize) -> Result<(), IndexError> {
    graph
        .reserve_capacity_and_threads(capacity, LANES)
        .map_err(failed)
}

fn text(path: &Path) -> Result<&str, IndexError> {
    path.to_str()
        .ok_or_else(|| failed("the path is not valid Unicode"))
}

/// Counts the searches under way: the library refuses one more than it has room for.
#[derive(Default)]
struct Lanes {
    taken: Mutex<usize>,
    freed: Condvar,
}

struct Lane<'a>(&'a Lanes);

impl Lanes {
    fn take(&self) -> Lane<'_> {
        let mut taken = locked(&self.taken);
        while *taken == LANES {
            taken = self
                .freed
                .wait(taken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Lane(self)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        *locked(&self.0.taken) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: HnswOptions = HnswOptions {
        threshold: 1,
        connectivity: 8,
        expansion_add: 64,
        expansion_search: 32,
    };

    fn vector(seed: i64) -> Vec<f32> {
        (0..8)
            .map(|i| ((seed * 31 + i * 17) as f32).sin())
            .collect()
    }

    fn filled(metric: Metric) -> HnswIndex {
        let index = HnswIndex::new(&OPTIONS, metric, 8, 0).unwrap();
        for serial in 1..=300 {
            index.add(serial, &vector(serial)).unwrap();
        }
        index.set_covered(300);
        index
    }

    #[test]
    fn it_grows_beyond_its_capacity_and_finds_what_it_holds() {
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let index = filled(metric);
            index.add(7, &vector(7)).unwrap();
            assert_eq!(index.len(), 300);
            for serial in [1, 150, 300] {
                let query = kernel::Query::new(metric, vector(serial).into());
                assert_eq!(index.search(query.operand(), 3).unwrap()[0], serial);
            }
        }
    }

    #[test]
    fn a_saved_graph_comes_back_and_can_be_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("graph");
        assert_eq!(filled(Metric::Dot).save(&path).unwrap(), 300);
        let index = HnswIndex::load(&OPTIONS, Metric::Dot, 8, &path, 300).unwrap();
        assert_eq!((index.len(), index.covered()), (300, 300));
        for serial in 301..=400 {
            index.add(serial, &vector(serial)).unwrap();
        }
        let query = vector(350);
        let all = index.search(&query, 400).unwrap();
        assert!(all.len() > 390, "{}", all.len());
        assert!(HnswIndex::load(&OPTIONS, Metric::Dot, 9, &path, 300).is_err());
    }

    #[test]
    fn more_searches_than_lanes_wait_instead_of_failing() {
        let index = filled(Metric::Cosine);
        std::thread::scope(|scope| {
            for seed in 0..(LANES as i64 + 40) {
                let index = &index;
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert_eq!(index.search(&vector(seed), 5).unwrap().len(), 5);
                    }
                });
            }
            for serial in 1_000..1_050 {
                index.add(serial, &vector(serial)).unwrap();
            }
        });
    }
}
