//! When a collection has an approximate index, how it keeps up, and how it is asked.
//!
//! The index is built by a job beside the searches, which scan until it is there. Afterwards it
//! lags behind the matrix by the rows at the matrix' end, its *tail*; a search scans the tail and
//! asks the index for the rest, so that a write is found by the next search. A search that finds
//! the tail long starts the next job.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use dbmanager_core::{Runtime, backend::VectorHit};

use super::{
    config::HnswOptions,
    hnsw::{HnswIndex, IndexError},
    index_file,
    kernel::Query,
    matrix::Matrix,
    memory::{Slot, locked},
    scan::{KeySet, Selector},
    store::Shared,
    tables::State,
};

/// Rows of the tail at which they are worth a job; scanning so many costs less than asking.
const LONG_TAIL: usize = 256;
/// The most candidates the index is asked for; a search that needs more scans instead.
const MOST_CANDIDATES: usize = 2048;

/// What every index of a store shares.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) options: HnswOptions,
    pub(super) runtime: Runtime,
    /// Set when the store closes: jobs end at the next vector.
    pub(super) stopping: Arc<AtomicBool>,
    /// Held while index files are written or removed.
    pub(super) files: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub(super) fn new(options: HnswOptions, runtime: Runtime) -> Self {
        Self {
            options,
            runtime,
            stopping: Arc::default(),
            files: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// The index of one collection, if it has one.
#[derive(Debug, Default)]
pub(super) struct SlotIndex(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    index: Option<Arc<HnswIndex>>,
    /// A job is under way.
    busy: bool,
    /// The last job failed; the collection is scanned until the store is opened again, for
    /// building is too much work to fail at it again and again.
    failed: bool,
    /// Vectors in the file that holds the index.
    saved: usize,
}

impl SlotIndex {
    /// Whether there is an index, and no job changes it.
    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        let progress = locked(&self.0);
        progress.index.is_some() && !progress.busy
    }

    #[cfg(test)]
    pub(super) fn vectors(&self) -> usize {
        locked(&self.0)
            .index
            .as_ref()
            .map_or(0, |index| index.len())
    }
}

/// What a job has to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// There is no index yet.
    Create,
    /// Most of what the index holds is gone.
    Renew,
    /// The tail is long.
    Extend,
}

/// The index to ask for this matrix; `None` if it is to be scanned. Starts the job that is due.
pub(super) fn consult(
    shared: &Arc<Shared>,
    slot: &Arc<Slot>,
    state: &State,
    matrix: &Matrix,
) -> Option<Arc<HnswIndex>> {
    let keeper = &shared.keeper;
    let mut progress = locked(&slot.index.0);
    if progress
        .index
        .as_ref()
        .is_some_and(|index| !index.is_for(state.metric, state.dimension))
    {
        progress.index = None;
    }
    if matrix.live_rows() < keeper.options.threshold {
        if matrix.live_rows() < keeper.options.threshold / 2 {
            progress.index = None;
        }
        return None;
    }
    let work = match &progress.index {
        None => Some(Work::Create),
        Some(index) if index.len() > matrix.live_rows() / 2 * 3 => Some(Work::Renew),
        Some(index) => {
            let tail = matrix.rows() - matrix.first_row_above(index.covered());
            (tail >= LONG_TAIL).then_some(Work::Extend)
        }
    };
    if let Some(work) = work
        && !progress.busy
        && !progress.failed
        && !keeper.stopping.load(Ordering::Relaxed)
    {
        progress.busy = true;
        let job = Job {
            shared: Arc::downgrade(shared),
            slot: Arc::clone(slot),
            collection: state.collection,
        };
        // The job's end is seen in the slot.
        drop(keeper.runtime.spawn(job.run(work)));
    }
    progress.index.clone()
}

/// A job on one collection's index. It does not keep the store open.
struct Job {
    shared: Weak<Shared>,
    slot: Arc<Slot>,
    collection: i64,
}

impl Drop for Job {
    fn drop(&mut self) {
        locked(&self.slot.index.0).busy = false;
    }
}

impl Job {
    async fn run(self, work: Work) {
        if self.work(work).await.is_err() {
            let mut progress = locked(&self.slot.index.0);
            progress.failed = true;
            progress.index = None;
        }
    }

    async fn work(&self, work: Work) -> Result<(), IndexError> {
        let Some((state, matrix)) = self.slot.current() else {
            return Ok(());
        };
        if state.collection != self.collection {
            return Ok(());
        }
        let index = match work {
            Work::Create => match self.restore(&state).await {
                Some(index) => Arc::new(index),
                None => self.empty(&state, &matrix)?,
            },
            Work::Renew => self.empty(&state, &matrix)?,
            Work::Extend => {
                let held = locked(&self.slot.index.0).index.clone();
                let Some(index) = held else { return Ok(()) };
                index
            }
        };
        if !self.fill(&index, matrix).await? {
            return Ok(());
        }
        let grown = {
            let mut progress = locked(&self.slot.index.0);
            progress.index = Some(Arc::clone(&index));
            index.len().abs_diff(progress.saved)
        };
        // Until then the next opening adds what the file lacks, which is quickly done.
        if work == Work::Renew || grown > index.len() / 10 {
            self.save(&state, &index).await;
        }
        Ok(())
    }

    fn empty(&self, state: &State, matrix: &Matrix) -> Result<Arc<HnswIndex>, IndexError> {
        let Some(shared) = self.shared.upgrade() else {
            return Err(IndexError::stopped());
        };
        HnswIndex::new(
            &shared.keeper.options,
            state.metric,
            state.dimension,
            matrix.live_rows(),
        )
        .map(Arc::new)
    }

    /// Adds what the matrix holds above what the index covers. `false` if the store was closed
    /// meanwhile.
    async fn fill(&self, index: &Arc<HnswIndex>, matrix: Arc<Matrix>) -> Result<bool, IndexError> {
        let Some((runtime, stopping)) = self.shared.upgrade().map(|shared| {
            let keeper = &shared.keeper;
            (keeper.runtime.clone(), Arc::clone(&keeper.stopping))
        }) else {
            return Ok(false);
        };
        let index = Arc::clone(index);
        runtime
            .blocking(move || fill(&index, &matrix, &stopping))
            .await
            .unwrap_or_else(|lost| Err(IndexError::new(lost)))
    }

    async fn restore(&self, state: &State) -> Option<HnswIndex> {
        let shared = self.shared.upgrade()?;
        let index = index_file::load(&shared, state).await?;
        locked(&self.slot.index.0).saved = index.len();
        Some(index)
    }

    async fn save(&self, state: &State, index: &Arc<HnswIndex>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        // Without the file the next opening builds the index anew: nothing is lost but time.
        if index_file::save(&shared, state, index).await.is_ok() {
            locked(&self.slot.index.0).saved = index.len();
        }
    }
}

fn fill(index: &HnswIndex, matrix: &Matrix, stopping: &AtomicBool) -> Result<bool, IndexError> {
    let start = matrix.first_row_above(index.covered());
    let mut irregular = matrix.irregular_rows().iter().copied().peekable();
    for row in start..matrix.rows() {
        if stopping.load(Ordering::Relaxed) {
            return Ok(false);
        }
        while irregular.next_if(|irregular| *irregular < row).is_some() {}
        let document = matrix.document(row);
        if document.is_some() && irregular.peek() != Some(&row) {
            index.add(matrix.entry(row).serial, matrix.values(row))?;
        }
        // The tail begins with a document's first row.
        let last = row + 1 == matrix.rows() || document.is_none();
        if last || matrix.document(row + 1) != document {
            index.set_covered(matrix.entry(row).serial);
        }
    }
    Ok(true)
}

/// The `limit` nearest documents: those of the tail exactly, the rest as the index finds them;
/// scores are exact. `None` if the index does not bring enough documents.
pub(super) fn search(
    index: &HnswIndex,
    matrix: &Matrix,
    query: &Query,
    limit: usize,
    keys: Option<&KeySet>,
) -> Option<Vec<VectorHit>> {
    if !query.is_regular() {
        return None;
    }
    let tail = matrix.first_row_above(index.covered());
    let held = index.len();
    let most = MOST_CANDIDATES.min(held / 8);
    let mut wanted = expected_candidates(matrix, held, limit, keys);
    while wanted <= most {
        let mut selector = Selector::new(matrix, query, limit);
        let nearest = index.search(query.operand(), wanted).ok()?;
        let rows = nearest.iter().filter_map(|serial| matrix.row_of(*serial));
        let mut seen = HashSet::new();
        offer(&mut selector, matrix, rows, tail, keys, &mut seen);
        if selector.offered() >= limit {
            let irregular = matrix.irregular_rows().iter().copied();
            offer(&mut selector, matrix, irregular, tail, keys, &mut seen);
            selector.scan(tail..matrix.rows(), keys);
            return Some(selector.finish());
        }
        // Fewer than the filter's share: it keeps out what is near, and what is left lies where
        // the index' answers thin out.
        if keys.is_some() {
            return None;
        }
        wanted *= 4;
    }
    None
}

/// Candidates among which `limit` documents are expected: some are dead, some do not fulfil the
/// filter, some are further chunks of a document.
fn expected_candidates(matrix: &Matrix, held: usize, limit: usize, keys: Option<&KeySet>) -> usize {
    let documents = matrix.live_documents();
    let allowed = keys
        .map_or(documents, KeySet::len)
        .clamp(1, documents.max(1));
    let per_document = held as f64 / allowed as f64;
    (limit as f64 * per_document.max(1.0) * 1.5) as usize + 8
}

/// Offers the documents of the rows before the tail that are live and allowed, each once.
fn offer(
    selector: &mut Selector<'_>,
    matrix: &Matrix,
    rows: impl Iterator<Item = usize>,
    tail: usize,
    keys: Option<&KeySet>,
    seen: &mut HashSet<i64>,
) {
    for row in rows.filter(|row| *row < tail) {
        if let Some(document) = matrix.document(row)
            && keys.is_none_or(|keys| keys.contains(document))
            && seen.insert(document)
        {
            selector.offer_document(matrix.document_rows(row));
        }
    }
}
