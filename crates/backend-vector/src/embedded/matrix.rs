//! The vectors of one collection in memory, laid out for scanning.
//!
//! A matrix is cheap to clone: clones share their segments, and a change copies only the segment
//! it touches, and only while a reader still holds it. So a search works on a snapshot without
//! holding a lock, and a write never waits for a search.
//!
//! Rows are only ever appended, in the order of their serial numbers; the rows of one document
//! stand together. A removed row stays as a dead one until the matrix is compacted.

use std::{ops::Range, sync::Arc};

use dbmanager_core::model::{ChunkVector, Metric, Passage, Version};

use super::kernel;

/// Numbers per segment, about a mebibyte: copying one costs less than scanning it a few times.
const SEGMENT_VALUES: usize = 1 << 18;

/// A live document that has vectors.
#[derive(Debug)]
pub(super) struct DocumentEntry {
    /// Its key in the document table, above 0.
    pub(super) key: i64,
    pub(super) id: Arc<str>,
    pub(super) version: Version,
}

/// What a row stands for.
#[derive(Clone, Debug)]
pub(super) struct RowEntry {
    /// The vector's key in the vector table, never used again for another vector.
    pub(super) serial: i64,
    pub(super) document: Arc<DocumentEntry>,
    pub(super) chunk: u32,
    pub(super) passage: Option<Passage>,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    values: Arc<Vec<f32>>,
    factors: Arc<Vec<f32>>,
    /// The key of each row's document; 0 for dead rows.
    documents: Arc<Vec<i64>>,
    entries: Arc<Vec<RowEntry>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    metric: Metric,
    dimension: usize,
    /// Rows per segment, as a power of two.
    shift: u32,
    segments: Vec<Segment>,
    rows: usize,
    live_rows: usize,
    live_documents: usize,
    /// Rows that an index cannot hold (see [`kernel::is_regular`]), dead ones included.
    irregular: Arc<Vec<usize>>,
}

impl Matrix {
    pub(super) fn new(metric: Metric, dimension: usize) -> Self {
        let rows = (SEGMENT_VALUES / dimension.max(1)).clamp(16, 4096);
        Self {
            metric,
            dimension,
            shift: rows.ilog2(),
            segments: Vec::new(),
            rows: 0,
            live_rows: 0,
            live_documents: 0,
            irregular: Arc::default(),
        }
    }

    pub(super) fn metric(&self) -> Metric {
        self.metric
    }

    /// Rows, dead ones included.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn live_documents(&self) -> usize {
        self.live_documents
    }

    fn place(&self, row: usize) -> (&Segment, usize) {
        (
            &self.segments[row >> self.shift],
            row & ((1 << self.shift) - 1),
        )
    }

    pub(super) fn values(&self, row: usize) -> &[f32] {
        let (segment, index) = self.place(row);
        &segment.values[index * self.dimension..(index + 1) * self.dimension]
    }

    pub(super) fn entry(&self, row: usize) -> &RowEntry {
        let (segment, index) = self.place(row);
        &segment.entries[index]
    }

    /// Calls `visit` with the number and the document's key of each live row of the range, with
    /// its values and its factor.
    pub(super) fn for_each_live(
        &self,
        range: Range<usize>,
        mut visit: impl FnMut(usize, i64, &[f32], f32),
    ) {
        let mut row = range.start;
        while row < range.end {
            let (segment, first) = self.place(row);
            let count = (segment.documents.len() - first).min(range.end - row);
            let values = &segment.values[first * self.dimension..];
            for (offset, values) in values.chunks_exact(self.dimension).take(count).enumerate() {
                let key = segment.documents[first + offset];
                if key != 0 {
                    visit(row + offset, key, values, segment.factors[first + offset]);
                }
            }
            row += count;
        }
    }

    /// The first row whose serial number is above `serial`.
    pub(super) fn first_row_above(&self, serial: i64) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).serial <= serial {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The row with this serial number, dead or alive.
    pub(super) fn row_of(&self, serial: i64) -> Option<usize> {
        let row = self.first_row_above(serial).checked_sub(1)?;
        (self.entry(row).serial == serial).then_some(row)
    }

    /// Adds a document's whole set, each vector with its serial number, and answers which rows it
    /// got. The numbers ascend and are above every one that is there.
    pub(super) fn append(
        &mut self,
        document: &Arc<DocumentEntry>,
        vectors: impl IntoIterator<Item = (i64, ChunkVector)>,
    ) -> Range<usize> {
        let start = self.rows;
        for (serial, vector) in vectors {
            self.append_row(
                RowEntry {
                    serial,
                    document: Arc::clone(document),
                    chunk: vector.chunk,
                    passage: vector.passage,
                },
                &vector.values,
            );
        }
        self.live_documents += usize::from(self.rows > start);
        start..self.rows
    }

    fn append_row(&mut self, entry: RowEntry, values: &[f32]) {
        debug_assert_eq!(values.len(), self.dimension);
        if self.rows & ((1 << self.shift) - 1) == 0 {
            self.segments.push(Segment::default());
        }
        if !kernel::is_regular(values) {
            Arc::make_mut(&mut self.irregular).push(self.rows);
        }
        let factor = kernel::row_factor(self.metric, values);
        let segment = &mut self.segments[self.rows >> self.shift];
        Arc::make_mut(&mut segment.values).extend_from_slice(values);
        Arc::make_mut(&mut segment.factors).push(factor);
        Arc::make_mut(&mut segment.documents).push(entry.document.key);
        Arc::make_mut(&mut segment.entries).push(entry);
        self.rows += 1;
        self.live_rows += 1;
    }

    /// Makes the rows of one document dead.
    pub(super) fn remove(&mut self, rows: Range<usize>) {
        self.live_documents -= usize::from(!rows.is_empty());
        self.live_rows -= rows.len();
        let mask = (1 << self.shift) - 1;
        for row in rows {
            let segment = &mut self.segments[row >> self.shift];
            Arc::make_mut(&mut segment.documents)[row & mask] = 0;
        }
    }

    /// Whether so many rows are dead that copying the live ones pays.
    pub(super) fn wants_compaction(&self) -> bool {
        let dead = self.rows - self.live_rows;
        dead >= 1024 && dead * 3 >= self.rows
    }

    /// The live rows alone, in the same order.
    pub(super) fn compacted(&self) -> Self {
        let mut compact = Self::new(self.metric, self.dimension);
        self.for_each_live(0..self.rows, |row, _, values, _| {
            compact.append_row(self.entry(row).clone(), values);
        });
        compact.live_documents = self.live_documents;
        compact
    }
}

/// What an index needs besides.
#[cfg(any(feature = "hnsw", test))]
impl Matrix {
    pub(super) fn live_rows(&self) -> usize {
        self.live_rows
    }

    /// Rows that an index cannot hold, dead ones included, ascending.
    pub(super) fn irregular_rows(&self) -> &[usize] {
        &self.irregular
    }

    pub(super) fn factor(&self, row: usize) -> f32 {
        let (segment, index) = self.place(row);
        segment.factors[index]
    }

    /// The key of the row's document; `None` for a dead row.
    pub(super) fn document(&self, row: usize) -> Option<i64> {
        let (segment, index) = self.place(row);
        Some(segment.documents[index]).filter(|key| *key != 0)
    }

    /// The rows of the live document that `row` belongs to.
    pub(super) fn document_rows(&self, row: usize) -> Range<usize> {
        let Some(key) = self.document(row) else {
            return row..row;
        };
        let mut rows = row..row + 1;
        while rows.start > 0 && self.document(rows.start - 1) == Some(key) {
            rows.start -= 1;
        }
        while rows.end < self.rows && self.document(rows.end) == Some(key) {
            rows.end += 1;
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: i64) -> Arc<DocumentEntry> {
        Arc::new(DocumentEntry {
            key,
            id: key.to_string().into(),
            version: Version::from_u64(1),
        })
    }

    fn set(serial: i64, first: f32, count: u32) -> Vec<(i64, ChunkVector)> {
        (serial..)
            .zip(0..count)
            .map(|(serial, chunk)| {
                let vector = ChunkVector {
                    chunk,
                    passage: None,
                    values: vec![first, chunk as f32],
                };
                (serial, vector)
            })
            .collect()
    }

    fn live(matrix: &Matrix) -> Vec<(i64, Vec<f32>)> {
        let mut rows = Vec::new();
        matrix.for_each_live(0..matrix.rows(), |_, key, values, _| {
            rows.push((key, values.to_vec()));
        });
        rows
    }

    #[test]
    fn a_snapshot_does_not_see_later_changes() {
        let mut matrix = Matrix::new(Metric::Dot, 2);
        let rows = matrix.append(&document(1), set(1, 1.0, 3));
        let snapshot = matrix.clone();
        matrix.append(&document(2), set(4, 2.0, 1));
        matrix.remove(rows);
        assert_eq!(live(&matrix), [(2, vec![2.0, 0.0])]);
        assert_eq!(live(&snapshot).len(), 3);
        assert_eq!((snapshot.rows(), snapshot.live_documents()), (3, 1));
    }

    #[test]
    fn rows_are_found_by_serial_and_by_document_across_segments_and_compaction() {
        let mut matrix = Matrix::new(Metric::Dot, 2);
        let mut serial = 1;
        for key in 1..=6_000 {
            let rows = matrix.append(&document(key), set(serial, key as f32, 3));
            serial += 3;
            if key % 2 == 0 {
                matrix.remove(rows);
            }
        }
        assert!(matrix.segments.len() > 1);
        let before = live(&matrix);
        for matrix in [matrix.clone(), matrix.compacted()] {
            assert_eq!(live(&matrix), before);
            assert_eq!(
                (matrix.live_documents(), matrix.live_rows()),
                (3_000, 9_000)
            );
            for key in (1..=6_000_i64).step_by(2).skip(500) {
                let row = matrix.row_of((key - 1) * 3 + 2).unwrap();
                assert_eq!(matrix.document(row), Some(key));
                let rows = matrix.document_rows(row);
                assert_eq!((rows.start, rows.len()), (row - 1, 3));
            }
            assert_eq!(matrix.row_of(serial), None);
            assert_eq!(matrix.first_row_above(0), 0);
        }
        assert!(matrix.wants_compaction());
        assert_eq!(matrix.compacted().row_of(4), None);
    }

    #[test]
    fn vectors_beyond_plain_arithmetic_are_remembered() {
        let mut matrix = Matrix::new(Metric::Dot, 2);
        for (key, first) in (1..).zip([1.0, 1e30, 0.0, 1e-30]) {
            let vectors = set(key, first, 1);
            matrix.append(&document(key), vectors);
        }
        assert_eq!(matrix.irregular_rows(), [1, 3]);
        assert_eq!(matrix.compacted().irregular_rows(), [1, 3]);
    }
}
