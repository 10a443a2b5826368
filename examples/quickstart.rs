//! Stores the crates this workspace depends on, has one store fail beneath its adapter meanwhile,
//! shows how the backlog drains when it is back, and searches all three stores as one.
//!
//! ```text
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- crash safe storage
//! ```
//!
//! With a configuration it does the same on the stores that the file names, but for the failure,
//! which it can only cause in embedded ones:
//!
//! ```text
//! cargo run --release --features postgres,neo4j,chromadb --example quickstart -- --config examples/config/servers.toml
//! ```

#[path = "support/data_directory.rs"]
mod data_directory;
mod support;
#[path = "support/terminal.rs"]
mod terminal;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use data_directory::DataDirectory;
use dbmanager::{ConsistencyReport, health::Health, prelude::*};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use support::{
    WriteLock,
    searches::{self, Outcome},
};

const COLLECTION: &str = "crates";
/// Documents per call of `store_documents`.
const BATCH: usize = 20;
/// How long a store that is back may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Your workspace's dependency crates in a vector, a graph and a relational store.
#[derive(Parser)]
struct Arguments {
    /// What to search for.
    #[arg(default_values = ["async", "runtime"])]
    words: Vec<String>,
    /// Where to keep the stores and the journal [default: a temporary directory, removed at the
    /// end].
    #[arg(long)]
    data: Option<PathBuf>,
    /// A configuration to use instead of embedded stores; the environment (`DBMANAGER__…`) goes
    /// over it.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    config: Option<PathBuf>,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Fails unless the searches whose answers are known find them.
    #[arg(long)]
    check: bool,
}

/// Everything this program shows, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    stores: String,
    journal: String,
    source: String,
    documents: usize,
    /// Absent where no failure was caused.
    catch_up: Option<CatchUp>,
    consistency: ConsistencyReport,
    search: SearchResponse,
    searches: Vec<Outcome>,
    health: Health,
}

/// What became of the writes that one store missed.
#[derive(Serialize)]
struct CatchUp {
    /// The first receipt of a batch that the vector store could not take.
    receipt: Receipt,
    health_while_locked: Health,
    health_after: Health,
}

/// Where the documents go.
enum Place {
    Embedded(DataDirectory),
    Configured(PathBuf),
}

impl Place {
    fn new(arguments: &Arguments) -> std::io::Result<Self> {
        Ok(match &arguments.config {
            Some(file) => Self::Configured(file.clone()),
            None => Self::Embedded(DataDirectory::new(arguments.data.clone())?),
        })
    }

    fn config(&self) -> dbmanager::Result<Config> {
        match self {
            Self::Embedded(data) => Ok(support::config(data.path())),
            Self::Configured(file) => Config::from_file(file)?.with_process_environment(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(data) => write!(f, "embedded in {data}"),
            Self::Configured(file) => write!(f, "as {} says", file.display()),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let place = Place::new(arguments)?;
    let crates = support::load()?;
    let documents = crates.documents.len();
    let db = DatabaseManager::open(place.config()?).await?;
    let show = !arguments.json;
    if show {
        terminal::opening(&place.to_string(), &crates.source, documents);
    }
    let catch_up = store(&db, &place, crates.documents, show).await?;
    let report = Report {
        stores: place.to_string(),
        journal: db.journal_location().to_owned(),
        source: crates.source,
        documents,
        catch_up,
        consistency: db.check_consistency().await?,
        search: db
            .search_documents(
                COLLECTION,
                Query::hybrid(arguments.words.join(" ")).limit(5),
            )
            .await?,
        searches: searches::run_all(&db, COLLECTION).await?,
        health: db.health_check().await,
    };
    if show {
        terminal::consistency(&report.consistency);
        terminal::search(&arguments.words.join(" "), &report.search);
        terminal::searches(&report.searches);
        terminal::health(&report.health);
    } else {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    db.close(Duration::from_secs(10)).await?;
    let held = report.consistency.is_consistent();
    Ok(held && (!arguments.check || report.searches.iter().all(|search| search.passed)))
}

/// Stores all documents; for one batch in the middle the vector store's file is locked by another
/// connection, of which the manager knows nothing.
async fn store(
    db: &DatabaseManager,
    place: &Place,
    documents: Vec<Document>,
    show: bool,
) -> Result<Option<CatchUp>, Box<dyn std::error::Error>> {
    let progress = progress(documents.len(), show);
    let mut catch_up = None;
    let batches: Vec<Vec<Document>> = documents.chunks(BATCH).map(<[_]>::to_vec).collect();
    for (index, batch) in batches.iter().enumerate() {
        let lock = match place {
            Place::Embedded(data) if index == batches.len() / 2 => {
                Some(WriteLock::take(&data.path().join("vector.db"))?)
            }
            _ => None,
        };
        let receipts = db.store_documents(COLLECTION, batch.clone()).await?;
        let receipts = receipts
            .into_iter()
            .collect::<dbmanager::Result<Vec<_>>>()?;
        progress.inc(batch.len() as u64);
        if let Some(lock) = lock {
            let caught_up = recover(db, lock, receipts).await?;
            if show {
                progress.suspend(|| {
                    terminal::locked(&caught_up.receipt, &caught_up.health_while_locked);
                    terminal::caught_up(&caught_up.health_after);
                });
            }
            catch_up = Some(caught_up);
        }
    }
    progress.finish_and_clear();
    Ok(catch_up)
}

/// Takes down what is pending, gives the lock back, and waits until nothing is pending any more.
async fn recover(
    db: &DatabaseManager,
    lock: WriteLock,
    receipts: Vec<Receipt>,
) -> Result<CatchUp, Box<dyn std::error::Error>> {
    let receipt = receipts
        .first()
        .cloned()
        .ok_or("a batch without a document")?;
    let health_while_locked = db.health_check().await;
    lock.release()?;
    for receipt in &receipts {
        db.wait_for(receipt, Level::All, CATCH_UP).await?;
    }
    // Earlier batches too: a quorum acknowledged them, whatever the third store has done since.
    let health_after = db.health_check().await;
    Ok(CatchUp {
        receipt,
        health_while_locked,
        health_after,
    })
}

fn progress(documents: usize, show: bool) -> ProgressBar {
    if !show {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  {bar:40} {pos}/{len} documents  {per_sec}");
    ProgressBar::new(documents as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
