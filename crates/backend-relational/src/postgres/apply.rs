//! Applying a batch of mutations: one statement, all of it or nothing.

use std::{collections::VecDeque, ops::Range};

use dbmanager_core::{
    backend::{ApplyRequest, BackendError, BackendResult, Limits},
    model::Tokenizer,
};
use sqlx::{AssertSqlSafe, postgres::PgConnection};

use super::{
    catalogue::StoredCollection,
    convert::{JobError, JobResult},
    row::{Columns, Row},
    stamp, words,
};

/// Content of one statement; a single larger document is sent alone.
const MAX_STATEMENT_BYTES: usize = 16 * 1024 * 1024;

/// A batch on its way into the store, with the answers so far.
#[derive(Debug)]
pub(super) struct Batch {
    epoch: u64,
    /// In the order of their ids, each with its place in the request.
    rows: Vec<(usize, Row)>,
    /// Ranges of rows that are still to be sent.
    open: VecDeque<Range<usize>>,
    answers: Vec<BackendResult<()>>,
    /// Whether a statement has been answered for good.
    answered_any: bool,
}

impl Batch {
    /// The batch as rows, those that break a limit answered. Cuts texts into words, which takes
    /// its time for large ones.
    pub(super) fn new(request: &ApplyRequest, tokenizer: Tokenizer, limits: &Limits) -> Self {
        let mut answers = vec![Ok(()); request.mutations.len()];
        let mut rows = Vec::with_capacity(request.mutations.len());
        for (index, mutation) in request.mutations.iter().enumerate() {
            match Row::of(mutation, tokenizer, limits) {
                Ok(row) => rows.push((index, row)),
                Err(error) => answers[index] = Err(error),
            }
        }
        // Two batches that lock the same rows in the same order wait, but never for each other.
        rows.sort_by(|(_, a), (_, b)| a.columns().id.cmp(b.columns().id));
        let open = pieces(rows.iter().map(|(_, row)| row.bytes()));
        Self {
            epoch: request.epoch,
            rows,
            open,
            answers,
            answered_any: false,
        }
    }

    /// Whether something of it may be in the store.
    pub(super) fn answered_any(&self) -> bool {
        self.answered_any
    }

    /// Sends what is still to be sent. A statement that the server refuses for its content is
    /// split until the item to blame is alone.
    ///
    /// # Errors
    /// What ended the first statement; once one has been applied the others' items get the error.
    pub(super) async fn send(
        &mut self,
        connection: &mut PgConnection,
        collection: &StoredCollection,
    ) -> JobResult<()> {
        if self.rows.is_empty() {
            // Epoch and table are checked all the same.
            return self.write(connection, collection, 0..0).await;
        }
        while let Some(range) = self.open.pop_front() {
            match self.write(connection, collection, range.clone()).await {
                Ok(()) => self.answered_any = true,
                Err(error) if error.is_refused() && range.len() == 1 => {
                    self.answer(range, &error.translate());
                    self.answered_any = true;
                }
                Err(error) if error.is_refused() => {
                    let middle = range.start + range.len() / 2;
                    self.open.push_front(middle..range.end);
                    self.open.push_front(range.start..middle);
                }
                Err(error) => {
                    self.open.push_front(range);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The answers, after [`Batch::send`] ended with this.
    pub(super) fn answers(
        mut self,
        ended: BackendResult<()>,
    ) -> BackendResult<Vec<BackendResult<()>>> {
        match ended {
            Ok(()) => Ok(self.answers),
            Err(error) if !self.answered_any => Err(error),
            Err(error) => {
                let mut first = true;
                while let Some(range) = self.open.pop_front() {
                    // Only the statement that failed was sent.
                    let error = if first {
                        error.clone()
                    } else {
                        error.clone().not_applied()
                    };
                    first = false;
                    self.answer(range, &error);
                }
                Ok(self.answers)
            }
        }
    }

    fn answer(&mut self, range: Range<usize>, error: &BackendError) {
        for (index, _) in self.rows.get(range).unwrap_or_default() {
            self.answers[*index] = Err(error.clone());
        }
    }

    /// One statement: it reads the epoch and keeps the stamp's row as it is until it is committed,
    /// and writes each row that is above the one held.
    async fn write(
        &self,
        connection: &mut PgConnection,
        collection: &StoredCollection,
        range: Range<usize>,
    ) -> JobResult<()> {
        let rows = self.rows.get(range).unwrap_or_default();
        let columns = Arrays::of(rows.iter().map(|(_, row)| row.columns()));
        let sql = statement(collection)?;
        let epoch = i64::try_from(self.epoch).unwrap_or(i64::MAX);
        let held: Option<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(epoch)
            .bind(columns.ids)
            .bind(columns.versions)
            .bind(columns.deleted)
            .bind(columns.titles)
            .bind(columns.document_types)
            .bind(columns.created)
            .bind(columns.file_paths)
            .bind(columns.metadata)
            .bind(columns.lengths)
            .bind(columns.words)
            .bind(columns.vectors)
            .bind(columns.canonical)
            .fetch_one(connection)
            .await
            .map_err(JobError::from)?;
        stamp::judge_epoch(held, self.epoch)
    }
}

fn statement(collection: &StoredCollection) -> JobResult<String> {
    let table = &collection.table;
    let configuration = words::configuration(collection.tokenizer)?;
    let vector = words::vector_sql(configuration, "item.words");
    Ok(format!(
        "WITH fence AS MATERIALIZED (SELECT epoch FROM stamp FOR SHARE),
         written AS (
             INSERT INTO {table} (id, version, deleted, title, document_type, created_at,
                                  file_path, metadata, length, words, vectors, canonical)
             SELECT item.id, item.version, item.deleted, item.title, item.document_type,
                    item.created_at, item.file_path, item.metadata::jsonb, item.length,
                    {vector}, item.vectors, item.canonical
             FROM unnest($2::text[], $3::bigint[], $4::boolean[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[], $10::integer[], $11::text[],
                         $12::bytea[], $13::bytea[])
                  AS item (id, version, deleted, title, document_type, created_at, file_path,
                           metadata, length, words, vectors, canonical)
             WHERE NOT EXISTS (SELECT FROM fence WHERE epoch > $1)
             ON CONFLICT (id) DO UPDATE
             SET version = excluded.version, deleted = excluded.deleted, title = excluded.title,
                 document_type = excluded.document_type, created_at = excluded.created_at,
                 file_path = excluded.file_path, metadata = excluded.metadata,
                 length = excluded.length, words = excluded.words, vectors = excluded.vectors,
                 canonical = excluded.canonical
             WHERE {table}.version < excluded.version
         )
         SELECT max(epoch) FROM fence"
    ))
}

/// Rows turned into one array per column.
#[derive(Default)]
struct Arrays<'a> {
    ids: Vec<&'a str>,
    versions: Vec<i64>,
    deleted: Vec<bool>,
    titles: Vec<Option<&'a str>>,
    document_types: Vec<Option<&'a str>>,
    created: Vec<Option<&'a str>>,
    file_paths: Vec<Option<&'a str>>,
    metadata: Vec<Option<&'a str>>,
    lengths: Vec<Option<i32>>,
    words: Vec<Option<&'a str>>,
    vectors: Vec<Option<&'a [u8]>>,
    canonical: Vec<Option<&'a [u8]>>,
}

impl<'a> Arrays<'a> {
    fn of(rows: impl Iterator<Item = Columns<'a>>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            let live = row.live;
            columns.ids.push(row.id);
            columns.versions.push(row.version);
            columns.deleted.push(live.is_none());
            columns.titles.push(live.map(|live| live.title));
            let document_type = live.and_then(|live| live.document_type);
            columns.document_types.push(document_type);
            columns.created.push(live.and_then(|live| live.created_at));
            columns
                .file_paths
                .push(live.and_then(|live| live.file_path));
            columns.metadata.push(live.map(|live| live.metadata));
            columns.lengths.push(live.map(|live| live.words.length));
            let words = live.map(|live| live.words.text.as_str());
            columns.words.push(words);
            columns.vectors.push(live.map(|live| live.vectors));
            columns.canonical.push(live.map(|live| live.canonical));
        }
        columns
    }
}

/// Cuts a sequence of sizes into ranges of at most a statement's content.
fn pieces(sizes: impl Iterator<Item = usize>) -> VecDeque<Range<usize>> {
    let mut pieces = VecDeque::new();
    let (mut start, mut end, mut bytes) = (0, 0, 0);
    for size in sizes {
        if end > start && bytes + size > MAX_STATEMENT_BYTES {
            pieces.push_back(start..end);
            (start, bytes) = (end, 0);
        }
        bytes += size;
        end += 1;
    }
    if end > start {
        pieces.push_back(start..end);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_by_size_and_leave_nothing_out() {
        assert!(pieces([].into_iter()).is_empty());
        assert_eq!(pieces([1, 2, 3].into_iter()), [0..3]);
        let large = MAX_STATEMENT_BYTES;
        assert_eq!(
            pieces([1, large, large + 9, 1, 2].into_iter()),
            [0..1, 1..2, 2..3, 3..5]
        );
    }
}
