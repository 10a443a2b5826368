//! Several processes, one journal in PostgreSQL: each of them writes the same documents again and
//! again until it is told to end, and notes what was acknowledged; afterwards nothing of that may
//! be lost. `scripts/two-writers` runs it and kills.
//!
//! ```text
//! shared_journal write --config FILE --name a --acknowledged acknowledged-a
//! shared_journal verify --config FILE acknowledged-a acknowledged-b
//! ```

use std::{
    collections::HashMap,
    error::Error,
    fs::{self, File, OpenOptions},
    io::{LineWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use dbmanager::prelude::*;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

const COLLECTION: &str = "documents";
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(60);
/// How long the stores may take for what the writers have left to them.
const CATCH_UP: Duration = Duration::from_secs(300);
/// Documents read at once.
const PAGE: usize = 500;

/// Several processes, one journal in PostgreSQL.
#[derive(Parser)]
struct Arguments {
    /// The configuration.
    #[arg(long, global = true, default_value = "dbmanager.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes every document again and again until it is interrupted.
    Write {
        /// Ends after having written every document so often.
        #[arg(long)]
        passes: Option<usize>,
        /// The writer's name, which it puts into every document.
        #[arg(long)]
        name: String,
        /// How many documents.
        #[arg(long, default_value_t = 1_000)]
        documents: usize,
        /// Writes in flight at the same time.
        #[arg(long, default_value_t = 8)]
        concurrency: usize,
        /// Appends every acknowledgement, line by line.
        #[arg(long)]
        acknowledged: PathBuf,
    },
    /// Succeeds only if all stores hold the same and every acknowledged version, or a newer one.
    Verify {
        /// Files of acknowledgements.
        #[arg(required = true)]
        acknowledged: Vec<PathBuf>,
    },
}

/// One acknowledged write.
#[derive(Serialize, Deserialize)]
struct Acknowledgement {
    id: String,
    version: Version,
    text: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Write {
            name,
            documents,
            passes,
            concurrency,
            acknowledged,
        } => {
            let total = passes.map_or(usize::MAX, |passes| passes.saturating_mul(documents));
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&acknowledged);
            match file {
                Ok(file) => {
                    let file = LineWriter::new(file);
                    write(
                        &arguments.config,
                        &name,
                        documents,
                        total,
                        concurrency,
                        file,
                    )
                    .await
                }
                Err(error) => Err(format!("{}: {error}", acknowledged.display()).into()),
            }
        }
        Command::Verify { acknowledged } => verify(&arguments.config, &acknowledged).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn open(config: &Path) -> Result<DatabaseManager, Box<dyn Error>> {
    let config = Config::from_file(config)?.with_process_environment()?;
    Ok(DatabaseManager::open(config).await?)
}

fn sends(db: &DatabaseManager) -> bool {
    let sharing = db.health().journal.sharing;
    sharing.is_some_and(|sharing| sharing.sends)
}

async fn write(
    config: &Path,
    name: &str,
    documents: usize,
    total: usize,
    concurrency: usize,
    mut acknowledged: LineWriter<File>,
) -> Result<bool, Box<dyn Error>> {
    let db = open(config).await?;
    // For scripts that wait for it.
    eprintln!("opened, sends: {}", sends(&db));
    // Writers begin in different places, so that they meet.
    let offset = name.bytes().map(usize::from).sum::<usize>() * 37;
    let numbers = (0..total).map(|n| (n / documents, (n + offset) % documents));
    let mut writes = std::pin::pin!(
        stream::iter(numbers)
            .map(|(round, number)| {
                let id = format!("document-{number:06}");
                let text = format!("round {round} of {name}");
                let document = Document::new(&id).title(&id).text(&text);
                let write = db.store_document(COLLECTION, document).into_future();
                async move { (id, text, write.await) }
            })
            .buffer_unordered(concurrency.max(1))
    );
    let mut counts = Counts::default();
    let interrupted = tokio::signal::ctrl_c();
    let mut interrupted = std::pin::pin!(interrupted);
    loop {
        let (id, text, answer) = tokio::select! {
            _ = &mut interrupted => break,
            written = writes.next() => match written {
                Some(written) => written,
                None => break,
            },
        };
        match answer {
            Ok(receipt) => {
                counts.acknowledged += 1;
                let version = receipt.version;
                let line = serde_json::to_string(&Acknowledgement { id, version, text })?;
                // In one piece and without a sync: what a killed process has written, the operating
                // system keeps.
                acknowledged.write_all(format!("{line}\n").as_bytes())?;
            }
            Err(error) => match error.write_outcome() {
                Some(WriteOutcome::Pending(_)) => counts.pending += 1,
                Some(WriteOutcome::Indeterminate(_)) => counts.unknown += 1,
                _ => {
                    counts.rejected += 1;
                    eprintln!("{id}: {error}");
                }
            },
        }
    }
    eprintln!("{name}: {counts:?}, sends: {}", sends(&db));
    db.close(CLOSE).await?;
    Ok(true)
}

#[derive(Debug, Default)]
struct Counts {
    acknowledged: usize,
    pending: usize,
    unknown: usize,
    rejected: usize,
}

async fn verify(config: &Path, files: &[PathBuf]) -> Result<bool, Box<dyn Error>> {
    // By id and version: what was acknowledged.
    let mut acknowledged: HashMap<String, HashMap<Version, String>> = HashMap::new();
    let mut lines = 0;
    let mut failures = Vec::new();
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            // A killed writer may have left half a line, which it never showed to anyone.
            let Ok(entry) = serde_json::from_str::<Acknowledgement>(line) else {
                continue;
            };
            lines += 1;
            let versions = acknowledged.entry(entry.id.clone()).or_default();
            if versions.insert(entry.version, entry.text).is_some() {
                failures.push(format!("{}: one version for two writes", entry.id));
            }
        }
    }
    let db = open(config).await?;
    wait_until_caught_up(&db).await?;
    let ids: Vec<&String> = acknowledged.keys().collect();
    for page in ids.chunks(PAGE) {
        let held = db.get_documents(COLLECTION, page.iter()).await?;
        for (id, held) in page.iter().zip(held) {
            let versions = &acknowledged[*id];
            let newest = versions.keys().max();
            match held {
                None => failures.push(format!("{id}: acknowledged and not there")),
                Some(held) if Some(&held.version) < newest => failures.push(format!(
                    "{id}: version {} is held, {newest:?} was acknowledged",
                    held.version
                )),
                Some(held) => {
                    let text = versions.get(&held.version);
                    if text.is_some_and(|text| *text != held.document.text) {
                        failures.push(format!("{id}: another content than was acknowledged"));
                    }
                }
            }
        }
    }
    let report = db.check_consistency().await?;
    db.close(CLOSE).await?;
    for store in &report.stores {
        println!(
            "{:<10} {} documents, {} tombstones, {} differences, {} pending",
            store.role.as_str(),
            store.documents,
            store.tombstones,
            store.differences,
            store.pending
        );
    }
    println!(
        "{lines} acknowledged writes of {} documents, {} lost or different",
        acknowledged.len(),
        failures.len()
    );
    failures
        .iter()
        .take(20)
        .for_each(|failure| println!("  {failure}"));
    let whole = report
        .stores
        .iter()
        .all(|store| store.documents >= acknowledged.len() as u64 && store.pending == 0);
    Ok(failures.is_empty() && lines > 0 && report.is_consistent() && whole)
}

async fn wait_until_caught_up(db: &DatabaseManager) -> Result<(), String> {
    let waiting = async {
        while !sends(db) || db.health().stores.iter().any(|store| store.backlog > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(CATCH_UP, waiting).await;
    waited.map_err(|_| format!("the stores have not caught up within {CATCH_UP:?}"))
}
