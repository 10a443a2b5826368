//! `jsonl ingest`: batches in flight at the same time, and a re-run that changes nothing.

use std::{
    cell::RefCell,
    error::Error,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use dbmanager::prelude::*;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value, json};

use super::{CLOSE, Place, lines};

/// How long the stores may take for what a run has left to them.
const CATCH_UP: Duration = Duration::from_secs(600);
/// Time between two looks at the backlog.
const LOOK: Duration = Duration::from_millis(20);
/// Bad lines that are named one by one.
const NAMED: usize = 20;

/// What `ingest` takes.
#[derive(Args)]
pub(crate) struct Ingest {
    /// The file, one document `{id, title, text, metadata, references}` a line.
    file: PathBuf,
    /// Documents per batch.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Batches in flight at the same time.
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// Puts a value into the metadata of every document; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, Value)>,
    #[command(flatten)]
    place: Place,
}

fn key_value(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((key.to_owned(), value))
}

/// What became of the lines.
#[derive(Default)]
struct Counts {
    stored: usize,
    unchanged: usize,
    failed: usize,
    bad_lines: Vec<(usize, String)>,
}

impl Ingest {
    /// Runs it; false if a line was bad or a document was not stored.
    pub(crate) async fn run(&self) -> Result<bool, Box<dyn Error>> {
        let start = Instant::now();
        let set: Map<String, Value> = self.set.iter().cloned().collect();
        let lines = lines::read(&self.file, set)
            .map_err(|error| format!("{}: {error}", self.file.display()))?;
        let (data, db) = self.place.open().await?;
        let mut counts = Counts::default();
        self.store(&db, lines, &mut counts).await?;
        wait_until_caught_up(&db).await?;
        db.close(CLOSE).await?;
        self.print(&counts, &data, start.elapsed())?;
        Ok(counts.failed == 0 && counts.bad_lines.is_empty())
    }

    async fn store(
        &self,
        db: &DatabaseManager,
        lines: impl Iterator<Item = io::Result<lines::Line>>,
        counts: &mut Counts,
    ) -> Result<(), Box<dyn Error>> {
        let bad_lines = RefCell::new(Vec::new());
        let documents = lines.filter_map(|line| match line {
            Ok((_, Ok(document))) => Some(Ok(document)),
            Ok((number, Err(reason))) => {
                bad_lines.borrow_mut().push((number, reason));
                None
            }
            Err(error) => Some(Err(error)),
        });
        let mut batches = std::pin::pin!(
            stream::iter(Batches {
                documents,
                size: self.batch.max(1)
            })
            .map(|batch| async { Ok::<_, Box<dyn Error>>(self.store_batch(db, batch?).await?) })
            .buffer_unordered(self.concurrency.max(1))
        );
        while let Some(batch) = batches.try_next().await? {
            counts.unchanged += batch.unchanged;
            for (document, result) in batch.results {
                match result {
                    Ok(_) => counts.stored += 1,
                    Err(error) => {
                        counts.failed += 1;
                        eprintln!("{}: {error}", document.id);
                    }
                }
            }
        }
        counts.bad_lines = bad_lines.take();
        Ok(())
    }

    /// Stores those documents of a batch that are not stored as they are.
    async fn store_batch(
        &self,
        db: &DatabaseManager,
        documents: Vec<Document>,
    ) -> Result<Batch, dbmanager::Error> {
        let collection = self.place.collection.as_str();
        let ids = documents.iter().map(|document| document.id.as_str());
        let held = db.get_documents(collection, ids).await?;
        let total = documents.len();
        let changed: Vec<Document> = documents
            .into_iter()
            .zip(held)
            .filter(|(document, held)| held.as_ref().is_none_or(|held| held.document != *document))
            .map(|(document, _)| document)
            .collect();
        let receipts = db.store_documents(collection, changed.clone()).await?;
        Ok(Batch {
            unchanged: total - changed.len(),
            results: changed.into_iter().zip(receipts).collect(),
        })
    }

    fn print(
        &self,
        counts: &Counts,
        data: &super::DataDirectory,
        elapsed: Duration,
    ) -> Result<(), Box<dyn Error>> {
        for (number, reason) in counts.bad_lines.iter().take(NAMED) {
            eprintln!("{}:{number}: {reason}", self.file.display());
        }
        if counts.bad_lines.len() > NAMED {
            eprintln!("and {} bad lines more", counts.bad_lines.len() - NAMED);
        }
        if self.place.json {
            let numbers: Vec<usize> = counts.bad_lines.iter().map(|(number, _)| *number).collect();
            let answer = json!({
                "data": data.path(), "stored": counts.stored, "unchanged": counts.unchanged,
                "failed": counts.failed, "bad_lines": numbers, "seconds": elapsed.as_secs_f64(),
            });
            println!("{}", serde_json::to_string_pretty(&answer)?);
        } else {
            println!(
                "stored {}, unchanged {}, failed {}, bad lines {}, in {:.1} s; data in {data}",
                counts.stored,
                counts.unchanged,
                counts.failed,
                counts.bad_lines.len(),
                elapsed.as_secs_f64()
            );
        }
        Ok(())
    }
}

struct Batch {
    unchanged: usize,
    results: Vec<(Document, dbmanager::Result<Receipt>)>,
}

/// Cuts documents into batches; the first error ends them.
struct Batches<I> {
    documents: I,
    size: usize,
}

impl<I: Iterator<Item = io::Result<Document>>> Iterator for Batches<I> {
    type Item = io::Result<Vec<Document>>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch: io::Result<Vec<Document>> = self.documents.by_ref().take(self.size).collect();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(batch),
        }
    }
}

fn backlog(db: &DatabaseManager) -> u64 {
    db.health().stores.iter().map(|store| store.backlog).sum()
}

/// Returns when no store has anything left to receive.
pub(crate) async fn wait_until_caught_up(db: &DatabaseManager) -> Result<(), String> {
    let start = Instant::now();
    while backlog(db) > 0 {
        if start.elapsed() > CATCH_UP {
            return Err(format!("the stores have not caught up within {CATCH_UP:?}"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
