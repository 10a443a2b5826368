//! Writes at a constant rate, whether or not the earlier ones were answered, and a ledger of what
//! became of them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dbmanager_core::{
    DatabaseManager, Error, ErrorKind, WriteOutcome,
    model::{Document, Level},
};
use tokio::task::JoinSet;

/// From one burst of writes to the next.
const TICK: Duration = Duration::from_millis(20);
const COLLECTION: &str = "c";

/// What became of some writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) acknowledged: u64,
    pub(crate) pending: u64,
    pub(crate) rejected: u64,
    milliseconds: u64,
}

impl Tally {
    /// Acknowledged writes in ten seconds.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged * 10_000 / self.milliseconds.max(1)
    }
}

/// The most that was seen at any time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) entries: u64,
    pub(crate) under_way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Acknowledged,
    Pending,
    Rejected,
}

pub(crate) struct Load {
    db: DatabaseManager,
    /// What became of each document; its place is its number.
    answers: Arc<Mutex<Vec<Option<Answer>>>>,
    writes: JoinSet<()>,
    peaks: Peaks,
    credit: u64,
}

impl Load {
    pub(crate) fn new(db: DatabaseManager) -> Self {
        Self {
            db,
            answers: Arc::default(),
            writes: JoinSet::new(),
            peaks: Peaks::default(),
            credit: 0,
        }
    }

    /// Writes at this rate for so long; counts what was answered meanwhile.
    pub(crate) async fn run(&mut self, per_second: u32, level: Level, span: Duration) -> Tally {
        let before = self.tally();
        let until = tokio::time::Instant::now() + span;
        while tokio::time::Instant::now() < until {
            let tick = TICK.min(until - tokio::time::Instant::now());
            // In thousandths of a write, so that odd ticks lose none.
            self.credit += u64::from(per_second) * tick.as_millis() as u64;
            for _ in 0..self.credit / 1_000 {
                self.write(level);
            }
            self.credit %= 1_000;
            tokio::time::sleep(tick).await;
            while let Some(ended) = self.writes.try_join_next() {
                ended.unwrap();
            }
            self.note_peaks();
        }
        let after = self.tally();
        Tally {
            acknowledged: after.acknowledged - before.acknowledged,
            pending: after.pending - before.pending,
            rejected: after.rejected - before.rejected,
            milliseconds: span.as_millis() as u64,
        }
    }

    fn write(&mut self, level: Level) {
        let number = {
            let mut answers = self.answers.lock().unwrap();
            answers.push(None);
            answers.len() - 1
        };
        let (db, answers) = (self.db.clone(), Arc::clone(&self.answers));
        self.writes.spawn(async move {
            let write = db.store_document(COLLECTION, document(number)).level(level);
            let answer = match write.await {
                Ok(receipt) => {
                    assert!(receipt.level_reached());
                    Answer::Acknowledged
                }
                Err(error) => answer_of(&error),
            };
            answers.lock().unwrap()[number] = Some(answer);
        });
    }

    /// Writes that were let in and wait for an answer; those that are turned away are answered
    /// within the tick.
    fn note_peaks(&mut self) {
        self.peaks.under_way = self.peaks.under_way.max(self.writes.len());
        let entries = self.db.health().journal.entries;
        self.peaks.entries = self.peaks.entries.max(entries);
    }

    pub(crate) fn peaks(&self) -> Peaks {
        self.peaks
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for answer in self.answers.lock().unwrap().iter().flatten() {
            match answer {
                Answer::Acknowledged => tally.acknowledged += 1,
                Answer::Pending => tally.pending += 1,
                Answer::Rejected => tally.rejected += 1,
            }
        }
        tally
    }

    /// Documents that must be there.
    pub(crate) fn accepted(&self) -> usize {
        let tally = self.tally();
        (tally.acknowledged + tally.pending) as usize
    }

    /// Every document that was accepted is there, and none that was rejected.
    pub(crate) async fn assert_kept(&self) {
        let answers = self.answers.lock().unwrap().clone();
        let held = self
            .db
            .get_documents(COLLECTION, (0..answers.len()).map(id));
        let held = held.await.unwrap();
        for ((number, answer), held) in answers.into_iter().enumerate().zip(held) {
            let answer = answer.expect("every write was answered");
            let expected = (answer != Answer::Rejected).then(|| document(number));
            assert_eq!(held.map(|held| held.document), expected, "{answer:?}");
        }
    }
}

fn answer_of(error: &Error) -> Answer {
    match error.write_outcome() {
        Some(WriteOutcome::Pending(_)) => {
            assert_eq!(error.kind(), ErrorKind::LevelNotReached, "{error}");
            Answer::Pending
        }
        Some(WriteOutcome::Rejected) => {
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
            assert!(error.is_retryable(), "{error}");
            assert!(error.retry_after().is_some(), "{error}");
            Answer::Rejected
        }
        other => panic!("{other:?}: {error}"),
    }
}

fn id(number: usize) -> String {
    // Not in the order of time.
    format!("{:08x}", (number as u32).wrapping_mul(2_654_435_761))
}

fn document(number: usize) -> Document {
    Document::new(id(number))
        .title(format!("number {number}"))
        .text("some words")
}
